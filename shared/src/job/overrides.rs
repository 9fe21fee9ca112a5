//! `--set key=value`: the value is YAML, the key may be nested (`environment_variables.X=1`), the last one wins.

use std::collections::BTreeSet;

use super::error::{JobFileError, shown};
use super::source::{Origin, Sources, Span};
use super::tree::{self, Key, Node, Value};

/// Puts the flags into the tree and returns the keys that they set.
pub(crate) fn apply(
    entries: &mut Vec<(Key, Node)>,
    overrides: &[String],
    sources: &mut Sources,
    errors: &mut Vec<JobFileError>,
) -> BTreeSet<String> {
    let mut overridden = BTreeSet::new();
    for text in overrides {
        let source = sources.add(Origin::Flag, text);
        let span = |from: usize, to: usize| Span {
            source,
            line: 1,
            column: text[..from].chars().count() as u64 + 1,
            width: text[from..to].chars().count() as u64,
        };
        let mut fault = |key: &str, span: Span, message: String, hint: &str| {
            let place = sources.place(span);
            errors.push(JobFileError { key: key.into(), message, place, hint: Some(hint.into()) });
        };
        let Some(equals) = text.find('=').filter(|at| *at > 0) else {
            let message = format!("`--set {}` is not `key=value`", shown(text));
            fault("", span(0, text.len()), message, "for example `--set mini_batch_size=5`");
            continue;
        };
        let path = &text[..equals];
        let (top, nested) = match path.split_once('.') {
            Some((top, nested)) => (top, Some(nested)),
            None => (path, None),
        };
        let Some(value) = parse_value(sources, source, equals + 1, errors) else { continue };
        overridden.insert(top.to_string());
        let key = Key { text: top.to_string(), span: span(0, top.len()) };
        let at = entries.iter().position(|(key, _)| key.text == top);
        let Some(nested) = nested else {
            match at {
                Some(at) => entries[at] = (key, value),
                None => entries.push((key, value)),
            }
            continue;
        };
        let nested = Key { text: nested.to_string(), span: span(top.len() + 1, equals) };
        // `X=` is an empty text for a name of one's own, where `key=` is the default.
        let value = if value.is_null() { Node::text(String::new(), value.span) } else { value };
        let at = at.unwrap_or_else(|| {
            entries.push((key.clone(), Node::text(String::new(), key.span)));
            entries.len() - 1
        });
        let node = &mut entries[at].1;
        match &mut node.value {
            Value::Mapping(map) => match map.iter_mut().find(|(key, _)| key.text == nested.text) {
                Some(entry) => *entry = (nested, value),
                None => map.push((nested, value)),
            },
            Value::Scalar(scalar) if scalar.text.is_empty() => {
                *node = Node { span: key.span, value: Value::Mapping(vec![(nested, value)]), lenient: true };
            }
            _ => {
                let place = sources.place(nested.span);
                errors.push(JobFileError {
                    key: top.into(),
                    message: format!("`{top}` is {} here, so `{}` can't be set in it", node.kind_name(), nested.text),
                    place,
                    hint: Some(format!("set all of it: `--set '{top}={{{}: …}}'`", nested.text)),
                });
            }
        }
    }
    overridden
}

/// The value behind the `=`; what can't be YAML (`*.jpg`, `@x`) is taken as it is.
pub(super) fn parse_value(
    sources: &Sources,
    source: usize,
    from: usize,
    errors: &mut Vec<JobFileError>,
) -> Option<Node> {
    let mut faults = Vec::new();
    if let Some(node) = tree::read_part(sources, source, from, &mut faults)
        && faults.is_empty()
    {
        return Some(node.into_lenient());
    }
    let text = &sources.text(source)[from..];
    if text.starts_with(['[', '{', '"', '\'']) {
        errors.append(&mut faults);
        return None;
    }
    let column = sources.text(source)[..from].chars().count() as u64 + 1;
    let span = Span { source, line: 1, column, width: text.chars().count() as u64 };
    Some(Node::text(text.to_string(), span))
}
