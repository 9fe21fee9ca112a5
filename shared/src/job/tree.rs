//! YAML as a small tree in which every key and every value knows where it stands. The only file that names the YAML crate
//! for reading.
//!
//! Scalars keep the text as typed beside what YAML takes it for, so `1.10`, `0o17`, `yes` and `True` reach an argument or
//! an environment variable unchanged. Aliases and merge keys are followed within a budget; a key given twice is a fault.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::{Event, Parser};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use super::error::{JobFileError, shown};
use super::source::{Sources, Span};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// It came through a command line or an argument, where everything is text: a quoted number is a number.
    pub(crate) lenient: bool,
}

/// See [`Node::value`].
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A scalar: what was typed, without quotes, and what YAML takes it for.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// See [`Scalar::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    Text,
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Node {
    /// A piece of text that the user gave as such.
    pub(crate) fn text(text: String, span: Span) -> Node {
        Node { span, value: Value::Scalar(Scalar { text, kind: Kind::Text }), lenient: true }
    }

    /// The scalar, unless this is a list or a mapping.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Nothing was given: `key:`, `key: null`, `key: ~`.
    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind == Kind::Null)
    }

    /// What it is, for a message: `a list`.
    pub(crate) fn kind_name(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.kind {
                Kind::Null => "nothing",
                Kind::Bool => "true or false",
                Kind::Number => "a number",
                Kind::Text => "text",
            },
        }
    }

    fn set_lenient(&mut self) {
        self.lenient = true;
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::Sequence(items) => items.iter_mut().for_each(Node::set_lenient),
            Value::Mapping(entries) => entries.iter_mut().for_each(|(_, node)| node.set_lenient()),
        }
    }

    /// The same, read leniently.
    pub(crate) fn into_lenient(mut self) -> Node {
        self.set_lenient();
        self
    }
}

/// Reads the YAML text of `source`. Keys given twice are reported and their first value is kept.
pub(crate) fn read(sources: &Sources, source: usize, errors: &mut Vec<JobFileError>) -> Option<Node> {
    read_part(sources, source, 0, errors)
}

/// Reads the YAML that follows the first `skip` bytes of `source`, which lie in its first line.
pub(crate) fn read_part(sources: &Sources, source: usize, skip: usize, errors: &mut Vec<JobFileError>) -> Option<Node> {
    let text = &sources.text(source)[skip..];
    let reading = Reading { source, text, shift: sources.text(source)[..skip].chars().count() as u64 };
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        duplicate_keys: DuplicateKeyPolicy::FirstWins,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 200_000, max_events: 400_000, max_aliases: 1_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => {
            errors.extend(reading.repeated_keys().map(|(key, first, again)| JobFileError {
                key: key.clone(),
                message: format!("`{}` is given twice: in line {} and in line {}", shown(&key), first.line, again.line),
                place: sources.place(again),
                hint: Some("keep one of the two".into()),
            }));
            reading.node(raw, errors, sources)
        }
        Err(error) => {
            errors.push(reading.syntax_error(&error, sources));
            None
        }
    }
}

struct Reading<'a> {
    source: usize,
    text: &'a str,
    /// Characters before the YAML in the first line.
    shift: u64,
}

impl Reading<'_> {
    fn span(&self, at: &Location) -> Span {
        let shift = if at.line() <= 1 { self.shift } else { 0 };
        // A value of several lines is pointed at in its first.
        let width = match (at.span().byte_offset(), at.span().byte_len()) {
            (Some(offset), Some(len)) => self
                .text
                .get(offset as usize..(offset + len) as usize)
                .and_then(|text| text.lines().next())
                .map_or(1, |line| line.chars().count() as u64),
            _ => 1,
        };
        Span { source: self.source, line: at.line().max(1), column: at.column().max(1) + shift, width: width.max(1) }
    }

    /// What was typed for a scalar that is not text.
    fn typed(&self, at: &Location, else_: String) -> String {
        match (at.span().byte_offset(), at.span().byte_len()) {
            (Some(offset), Some(len)) if len > 0 => self
                .text
                .get(offset as usize..(offset + len) as usize)
                .map_or(else_, |typed| typed.trim_matches(['"', '\'']).to_string()),
            _ => else_,
        }
    }

    fn node(&self, raw: Spanned<Raw>, errors: &mut Vec<JobFileError>, sources: &Sources) -> Option<Node> {
        let span = self.span(&raw.referenced);
        let scalar = |text, kind| Value::Scalar(Scalar { text, kind });
        let value = match raw.value {
            Raw::Null => scalar(String::new(), Kind::Null),
            Raw::Bool(value) => scalar(self.typed(&raw.defined, value.to_string()), Kind::Bool),
            Raw::Number(text) => scalar(self.typed(&raw.defined, text), Kind::Number),
            Raw::Text(text) => scalar(text, Kind::Text),
            Raw::Sequence(items) => {
                Value::Sequence(items.into_iter().filter_map(|item| self.node(item, errors, sources)).collect())
            }
            Raw::Mapping(entries) => {
                let mut nodes = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let span = self.span(&key.referenced);
                    let key = self.node(key, errors, sources)?;
                    let value = self.node(value, errors, sources)?;
                    match key.scalar() {
                        Some(scalar) => nodes.push((Key { text: scalar.text.clone(), span }, value)),
                        None => errors.push(JobFileError {
                            key: String::new(),
                            message: format!("a key must be a word, not {}", key.kind_name()),
                            place: sources.place(span),
                            hint: Some("write `key: value`; values that start with `[`, `{` or `?` need quotes".into()),
                        }),
                    }
                }
                Value::Mapping(nodes)
            }
        };
        Some(Node { span, value, lenient: false })
    }

    /// Each key that its mapping holds already: the key, where it stood first, where it stands again. The deserializer
    /// would stop at the first one, and doesn't tell where that key stood before.
    fn repeated_keys(&self) -> impl Iterator<Item = (String, Span, Span)> {
        enum Open {
            Sequence,
            Mapping { key_next: bool, seen: HashMap<String, Span> },
        }
        let mut open: Vec<Open> = Vec::new();
        let mut repeated = Vec::new();
        for event in Parser::new_from_str(self.text) {
            let Ok((event, at)) = event else { break };
            if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
                open.pop();
                continue;
            }
            if !event.is_node() {
                continue;
            }
            if let Some(Open::Mapping { key_next, seen }) = open.last_mut() {
                if *key_next && let Some((text, _)) = event.scalar() {
                    let line = at.start.line() as u64;
                    let shift = if line <= 1 { self.shift } else { 0 };
                    let column = at.start.col() as u64 + 1 + shift;
                    let span = Span { source: self.source, line, column, width: text.chars().count().max(1) as u64 };
                    // A merge key may stand several times.
                    if text != "<<"
                        && let Some(first) = seen.insert(text.to_string(), span)
                    {
                        seen.insert(text.to_string(), first);
                        repeated.push((text.to_string(), first, span));
                    }
                }
                *key_next = !*key_next;
            }
            match event {
                Event::SequenceStart(..) => open.push(Open::Sequence),
                Event::MappingStart(..) => open.push(Open::Mapping { key_next: true, seen: HashMap::new() }),
                _ => {}
            }
        }
        repeated.into_iter()
    }

    fn syntax_error(&self, error: &serde_saphyr::Error, sources: &Sources) -> JobFileError {
        let said = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
        // The place is shown below; the crate says it once more at the end.
        let said = said.split(" at line ").next().unwrap_or(&said);
        let place = match error.location() {
            Some(at) => sources.place(self.span(&at)),
            None => sources.whole(self.source),
        };
        let line = place.spot.as_ref().map_or("", |spot| spot.text.as_str());
        JobFileError {
            key: String::new(),
            message: format!("this is not valid YAML: {}", said.trim()),
            hint: Some(syntax_hint(said, line)),
            place,
        }
    }
}

/// The mistake that most likely lies behind a YAML error.
fn syntax_hint(said: &str, line: &str) -> String {
    let hint = if said.contains("flow sequence") && line.contains("${") {
        "inside `[ ]` a value with `{` needs quotes: [\"--labels\", \"${side_inputs.labels}\"]"
    } else if said.contains("unknown anchor") || said.contains("unknown value") {
        "a value that starts with `*` needs quotes: \"*.jpg\""
    } else if said.contains("tab") {
        "indent with spaces: YAML forbids tabs there"
    } else if said.contains("unexpected character") {
        "quote a value that starts with `@`, `%` or a backtick"
    } else if said.contains("mapping values") {
        "write `key: value` with a space after the colon, and quote a value that holds `: `"
    } else if said.contains("multiple") && said.contains("document") {
        "one file is one job: remove the `---` and what follows"
    } else if said.contains("budget") || said.contains("limit") || said.contains("depth") || said.contains("ecursive") {
        "a job file is a flat list of keys: write the values out instead of nesting or repeating them by alias"
    } else {
        "check the indentation, the brackets and the quotes of this line and of the one above"
    };
    hint.into()
}

/// What the deserializer hands over.
enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Raw::Sequence(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            all.push(entry);
        }
        Ok(Raw::Mapping(all))
    }
}
