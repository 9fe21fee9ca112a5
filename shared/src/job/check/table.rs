//! `read_csv`: how CSV is read, in the words of `pandas.read_csv`.

use std::collections::BTreeMap;

use super::{dtypes, encodings};
use crate::job::error::shown;
use crate::job::reader::Reader;
use crate::job::spec::{Dtypes, InputType, ReadCsv};
use crate::job::tree::{Kind, Node, Value};

/// What may stand under it.
const OPTIONS: [&str; 5] = ["sep", "encoding", "header", "quotechar", "dtype"];
/// Encodings in which the bytes of ASCII are not only ASCII, so that ends of lines can't be found.
const NOT_BY_BYTES: [&str; 4] = ["utf16", "utf32", "ucs2", "utf7"];

/// Reads `read_csv`, on top of what the dataset was `registered` with. `input_type` is None if it is at fault itself.
pub(super) fn read(reader: &mut Reader, input_type: Option<InputType>, registered: Option<ReadCsv>) -> ReadCsv {
    let sep = if input_type == Some(InputType::Tsv) { '\t' } else { ',' };
    let mut options = registered.unwrap_or_else(|| ReadCsv::new(sep));
    let Some(node) = reader.given("read_csv") else { return options };
    if let Some(other) = input_type.filter(|kind| !kind.is_csv()) {
        let message = format!("`read_csv` has no meaning with `input_type: {}`", other.name());
        reader.fault("read_csv", node.span, message, Some("remove it, or write `input_type: csv`".to_string()));
        return options;
    }
    for (name, value) in reader.named("read_csv") {
        let key = format!("read_csv.{}", name.text);
        let ok = match name.text.as_str() {
            "sep" | "delimiter" => one_character(&value).map(|sep| options.sep = sep).is_some(),
            "quotechar" if is_none(&value) => {
                options.quotechar = None;
                true
            }
            "quotechar" => one_character(&value).map(|quote| options.quotechar = Some(quote)).is_some(),
            "encoding" => {
                match encoding(&value) {
                    Some(encoding) if encodings::is_known(&encoding) => {
                        options.encoding = encoding;
                        true
                    }
                    Some(other) => {
                        let message =
                            format!("`{key}`: Python has no encoding `{}` in which ASCII is ASCII", shown(&other));
                        let hint = match encodings::meant(&other) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "for example `encoding: latin-1`; save the files as UTF-8 if their encoding is not known".into(),
                    };
                        reader.fault(&key, value.span, message, Some(hint));
                        continue;
                    }
                    None => false,
                }
            }
            "header" => header(&value).map(|header| options.header = header).is_some(),
            "dtype" => match dtype(&value) {
                Some(dtype) => {
                    dtype_names(reader, &value);
                    options.dtype = dtype;
                    true
                }
                None => false,
            },
            other => {
                let of_sep = other.starts_with("sep") || other.starts_with("delim");
                let nearest = crate::job::nearest::nearest(other, OPTIONS).or(of_sep.then_some("sep"));
                let hint = match nearest {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => {
                        format!("it takes `{}`; everything else the script can do with the frame", OPTIONS.join("`, `"))
                    }
                };
                let message = format!("`read_csv` takes no `{other}`");
                reader.fault(&key, name.span, message, Some(hint));
                continue;
            }
        };
        if !ok {
            let (takes, example) = match name.text.as_str() {
                "encoding" => (
                    "an encoding in which ASCII is ASCII, as Python calls it",
                    "`encoding: latin-1`; save UTF-16 as UTF-8",
                ),
                "header" => ("`true` or `false`", "`header: false` where the first line is data"),
                "dtype" => ("a type, or a map of columns to types", "`dtype: {zip: str}`"),
                "quotechar" => ("one character, or null", "`quotechar: null` where quotes are ordinary characters"),
                _ => ("one character", "`sep: \";\"`"),
            };
            let message = format!("`{key}` must be {takes}");
            reader.fault(&key, value.span, message, Some(format!("for example {example}")));
        }
    }
    if options.quotechar == Some(options.sep) {
        let message = "`read_csv`: `sep` and `quotechar` are the same character".to_string();
        reader.fault(
            "read_csv",
            node.span,
            message,
            Some("for example `sep: \",\"` and `quotechar: \"'\"`".to_string()),
        );
    }
    options
}

fn is_none(node: &Node) -> bool {
    node.is_null() || node.scalar().is_some_and(|scalar| scalar.text.is_empty() || scalar.text == "none")
}

/// One of ASCII that is no end of a line. `\\t` as two characters is a tab: some write it so.
pub(super) fn one_character(node: &Node) -> Option<char> {
    let scalar = node.scalar()?;
    let mut characters = if scalar.text == "\\t" { "\t".chars() } else { scalar.text.chars() };
    let first = characters.next().filter(|c| c.is_ascii() && !matches!(c, '\n' | '\r' | '\0'))?;
    characters.next().is_none().then_some(first)
}

fn encoding(node: &Node) -> Option<String> {
    let text = node.scalar()?.text.to_ascii_lowercase();
    let bare: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let fits = !bare.is_empty() && !NOT_BY_BYTES.iter().any(|not| bare.starts_with(not));
    fits.then_some(text)
}

/// `true`, `false`; `0` and null, as pandas has them.
fn header(node: &Node) -> Option<bool> {
    if node.is_null() {
        return Some(false);
    }
    match node.scalar()?.text.to_ascii_lowercase().as_str() {
        "true" | "0" | "infer" => Some(true),
        "false" | "none" => Some(false),
        _ => None,
    }
}

/// Refuses names of dtypes that are none.
fn dtype_names(reader: &mut Reader, node: &Node) {
    let names: Vec<&Node> = match &node.value {
        Value::Mapping(entries) => entries.iter().map(|(_, value)| value).collect(),
        _ => vec![node],
    };
    for node in names {
        let name = node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default();
        if let Some((message, hint)) = dtypes::fault(&name) {
            reader.fault("read_csv.dtype", node.span, format!("`read_csv.dtype`: {message}"), Some(hint));
        }
    }
}

fn dtype(node: &Node) -> Option<Dtypes> {
    let word = |node: &Node| {
        node.scalar()
            .filter(|scalar| scalar.kind != Kind::Null && !scalar.text.is_empty())
            .map(|scalar| scalar.text.clone())
    };
    match &node.value {
        Value::Mapping(entries) => {
            let types = entries.iter().map(|(name, value)| Some((name.text.clone(), word(value)?)));
            types.collect::<Option<BTreeMap<_, _>>>().map(Dtypes::Some)
        }
        _ => word(node).map(Dtypes::All),
    }
}
