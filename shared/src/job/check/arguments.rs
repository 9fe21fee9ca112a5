//! The script's arguments: texts as typed, references that name something, and the driver's options among them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::driver_options::{Found, find};
use crate::job::error::shown;
use crate::job::nearest::{listed, nearest};
use crate::job::reader::Reader;
use crate::job::references::{Piece, pieces};
use crate::job::source::Span;
use crate::job::spec::Input;
use crate::job::tree::{Node, Value};
use crate::uri::Uri;

const KEY: &str = "arguments";

/// One argument, and where it stands.
pub(super) struct Argument {
    pub(super) text: String,
    span: Span,
}

/// Reads `arguments` and puts what driver options among them say into the keys they name.
pub(super) fn read(reader: &mut Reader) -> (Vec<Argument>, BTreeMap<String, String>) {
    let arguments = texts(reader);
    let mut options = BTreeMap::new();
    let plain: Vec<&str> = arguments.iter().map(|argument| argument.text.as_str()).collect();
    for option in find(&plain) {
        match option {
            Found::Sets { at, key, value: Some(value) } => {
                options.insert(key.to_string(), value.to_string());
                // As in the original, where it follows the driver's own in `sys.argv`; but `--set` is the last word.
                if !reader.overridden.contains(key) {
                    let attached = plain[at].contains('=');
                    let span = arguments[if attached { at } else { at + 1 }].span;
                    reader.entries.insert(key, Node::text(value.to_string(), span));
                }
            }
            Found::Sets { at, key, value: None } => {
                let message = format!("`--{key}` in `{KEY}` has no value");
                let example = crate::job::keys::key(key).example;
                let hint = format!("write the value behind it, or use the key instead: `{example}`");
                reader.fault(KEY, arguments[at].span, message, Some(hint));
            }
            Found::Reserved { key: "output", value: Some("${output}"), .. } => {}
            Found::Reserved { at, key, value } => {
                let message = format!("`--{key}` in `{KEY}` belongs to the driver");
                let hint = match (key, value) {
                    (_, Some(value)) => format!(
                        "set the key, and the script finds it in `sys.argv` all the same: `{key}: {}`",
                        shown(value)
                    ),
                    _ => format!("set the key `{key}`; the script finds it in `sys.argv` all the same"),
                };
                reader.fault(KEY, arguments[at].span, message, Some(hint));
            }
        }
    }
    (arguments, options)
}

fn texts(reader: &mut Reader) -> Vec<Argument> {
    let Some(node) = reader.given(KEY) else { return Vec::new() };
    let Value::Sequence(items) = &node.value else {
        match node.scalar() {
            Some(scalar) if scalar.text.contains(' ') || scalar.text.starts_with('-') => {
                let words: Vec<String> = scalar.text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
                let hint = format!("write each as an item: `{KEY}: [{}]`", shown(&words.join(", ")));
                reader.fault(KEY, node.span, format!("`{KEY}` must be a list of strings, not one text"), Some(hint));
            }
            _ => reader.must_be(KEY, &node),
        }
        return Vec::new();
    };
    let mut arguments = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let fault = match item.scalar() {
            Some(scalar) if scalar.text.contains('\0') => "text without a NUL character".to_string(),
            Some(scalar) if !item.is_null() => {
                arguments.push(Argument { text: scalar.text.clone(), span: item.span });
                continue;
            }
            _ => format!("text, not {}", item.kind_name()),
        };
        let hint = match &item.value {
            Value::Mapping(entries) if entries.len() == 1 => {
                let (name, value) = &entries[0];
                let value = value.scalar().map_or("…", |scalar| &scalar.text);
                format!("quote it, or write two items: `\"{}\", \"{}\"`", shown(&name.text), shown(value))
            }
            Value::Scalar(_) => "for an empty argument write `\"\"`".to_string(),
            _ => "write each argument as an item of its own".to_string(),
        };
        reader.fault(KEY, item.span, format!("`{KEY}[{i}]` must be {fault}"), Some(hint));
    }
    arguments
}

/// Refuses references that name nothing.
pub(super) fn references(
    reader: &mut Reader,
    arguments: &[Argument],
    inputs: &[Input],
    several: &[String],
    side_inputs: &BTreeMap<String, PathBuf>,
) {
    // By what was written, not by what survived: a bad path has its own message already.
    let written = |key: &'static str, prefix: &str| -> Vec<String> {
        match reader.given(key).map(|node| node.value) {
            Some(Value::Mapping(entries)) => {
                entries.iter().map(|(name, _)| format!("{prefix}.{}", name.text)).collect()
            }
            Some(Value::Sequence(items)) => (0..items.len()).map(|i| format!("{prefix}.input{i}")).collect(),
            Some(Value::Scalar(_)) => vec![format!("{prefix}.input0")],
            None => Vec::new(),
        }
    };
    let mut known: Vec<String> = inputs.iter().map(|input| format!("inputs.{}", input.name)).collect();
    known.extend(written("inputs", "inputs"));
    // A dataset with several paths has one under the name of each.
    known.retain(|known| !several.iter().any(|name| *known == format!("inputs.{name}")));
    known.extend(side_inputs.keys().map(|name| format!("side_inputs.{name}")));
    known.extend(written("side_inputs", "side_inputs"));
    known.push("output".into());
    let mut seen = std::collections::HashSet::new();
    known.retain(|name| seen.insert(name.clone()));
    for argument in arguments {
        for piece in pieces(&argument.text) {
            let Piece::Reference(name) = piece else { continue };
            let of_input = name.strip_prefix("inputs.");
            if inputs.iter().any(|input| Some(input.name.as_str()) == of_input && Uri::is_meant(&input.path)) {
                let message = format!("`${{{name}}}` has no path: its files come to a node a mini-batch at a time");
                let hint = "what every process reads as a whole belongs in `side_inputs`, which is downloaded before";
                reader.fault(KEY, argument.span, message, Some(hint.to_string()));
            }
            if known.iter().any(|known| known == name) {
                continue;
            }
            let message = format!("`${{{}}}` names nothing", shown(name));
            let inner = name.trim_start_matches('{').trim();
            let hint = if name.starts_with('{') {
                let inner = if inner.starts_with("outputs.") { "output" } else { inner };
                format!("write it with one pair of braces: `${{{}}}`", shown(inner))
            } else if let Some(near) = nearest(inner, known.iter().map(String::as_str)) {
                format!("did you mean `${{{near}}}`?")
            } else {
                let all: Vec<String> = known.iter().map(|name| format!("${{{name}}}")).collect();
                format!("there is {}", listed(all.iter().map(String::as_str)))
            };
            reader.fault(KEY, argument.span, message, Some(hint));
        }
    }
}
