//! Where results go.

use std::path::PathBuf;

use crate::job::error::shown;
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::spec::OutputAction;
use crate::job::tree::Node;
use crate::uri::{Place, Uri};

/// What the output file is called unless the job says otherwise: the original's.
pub(in crate::job) const DEFAULT_FILE_NAME: &str = "parallel_run_step.txt";

/// What a file name must not hold, as in the original.
const FORBIDDEN: &str = "~\"#%&*:<>?/\\{|}";

/// Of an address.
const EXAMPLE: &str = "for example `output: s3://bucket/folder` or `output: datastore://name/folder`";

pub(super) struct Output {
    pub(super) folder: Option<PathBuf>,
    pub(super) uri: Option<Uri>,
    pub(super) action: OutputAction,
    pub(super) file_name: String,
    pub(super) header: bool,
    pub(super) ordered: bool,
    pub(super) key: bool,
}

/// Reads `output`, `output_action`, `append_row_file_name`, `append_row_dataframe_header`, `ordered` and `append_row_key`.
pub(super) fn read(reader: &mut Reader) -> Output {
    let actions = [("append_row", OutputAction::AppendRow), ("summary_only", OutputAction::SummaryOnly)];
    let (folder, uri) = place(reader);
    let action = reader.choice("output_action", &actions).unwrap_or(OutputAction::AppendRow);
    let file_name = file_name(reader);
    Output {
        folder,
        uri,
        action,
        ordered: ordered(reader, action),
        key: key(reader, action),
        file_name,
        header: reader.boolean("append_row_dataframe_header").unwrap_or(false),
    }
}

fn ordered(reader: &mut Reader, action: OutputAction) -> bool {
    const KEY: &str = "ordered";
    if reader.boolean(KEY) != Some(true) {
        return false;
    }
    if action == OutputAction::AppendRow {
        return true;
    }
    if let Some(node) = reader.given(KEY) {
        let message =
            "`ordered: true` is about the rows of the output file, and `output_action: summary_only` has none";
        reader.fault(KEY, node.span, message.into(), Some("remove one of the two".into()));
    }
    false
}

fn key(reader: &mut Reader, action: OutputAction) -> bool {
    const KEY: &str = "append_row_key";
    if reader.boolean(KEY) != Some(true) {
        return false;
    }
    let (message, hint) = if action == OutputAction::SummaryOnly {
        (
            "`append_row_key: true` is about the rows of the output file, and `output_action: summary_only` has none",
            "remove one of the two",
        )
    } else if reader.given("rank_mini_batch_count").is_some() {
        (
            "`append_row_key: true` writes the key of an item, and with `rank_mini_batch_count` there are no items",
            "remove one of the two",
        )
    } else {
        return true;
    };
    if let Some(node) = reader.given(KEY) {
        reader.fault(KEY, node.span, message.into(), Some(hint.into()));
    }
    false
}

/// A folder on this machine, or an address.
fn place(reader: &mut Reader) -> (Option<PathBuf>, Option<Uri>) {
    let Some(node) = reader.given("output") else { return (None, None) };
    match node.scalar().map(|scalar| scalar.text.clone()).filter(|text| Uri::is_meant(text)) {
        Some(text) => (None, address(reader, &node, &text)),
        None => (folder(reader, &node), None),
    }
}

fn address(reader: &mut Reader, node: &Node, text: &str) -> Option<Uri> {
    let (message, hint) = match Uri::parse(text) {
        Ok(uri) if matches!(uri.place(), Place::Http { .. }) => {
            ("`output` can't be on a web server: it takes no files".to_string(), EXAMPLE.to_string())
        }
        Ok(uri) if uri.path().contains(['*', '[', '?']) => {
            (format!("`output` must be one folder, and `{}` is a pattern", shown(text)), EXAMPLE.to_string())
        }
        Ok(uri) => return Some(uri),
        Err(error) if error.secret => (format!("`output`: the address can't be used: {error}"), error.hint),
        Err(error) => (format!("`output`: `{}` can't be used: {error}", shown(text)), error.hint),
    };
    reader.fault("output", node.span, message, Some(hint));
    None
}

fn folder(reader: &mut Reader, node: &Node) -> Option<PathBuf> {
    let path = paths::local(reader, "output", node)?;
    if reader.world.look && path.exists() && !path.is_dir() {
        let message = "`output` must be a folder, and this is a file".to_string();
        let hint = "give the folder; the file's name in it is `append_row_file_name`".to_string();
        reader.fault("output", node.span, message, Some(hint));
        return None;
    }
    Some(path)
}

fn file_name(reader: &mut Reader) -> String {
    const KEY: &str = "append_row_file_name";
    let Some((scalar, node)) = reader.scalar(KEY) else { return DEFAULT_FILE_NAME.into() };
    let name = scalar.text;
    if let Some(bad) = name.chars().find(|c| FORBIDDEN.contains(*c) || c.is_control()) {
        let message = format!("`{KEY}` can't hold `{}`", shown(&bad.to_string()));
        let hint = match bad {
            '/' | '\\' => "the folder is `output`, this is the file's name alone".to_string(),
            _ => format!(
                "none of `~ \" # % & * : < > ? / \\ {{ | }}` may be in it; for example `{KEY}: predictions.txt`"
            ),
        };
        reader.fault(KEY, node.span, message, Some(hint));
    } else if name == "." || name == ".." || name.trim().is_empty() {
        reader.must_be(KEY, &node);
    } else if name.len() > 200 {
        // File systems take 255 bytes, and `.partial` is added while the job runs.
        let message = format!("`{KEY}` is {} bytes long; at most 200 work on every file system", name.len());
        reader.fault(KEY, node.span, message, Some(format!("for example `{KEY}: predictions.txt`")));
    } else {
        return name;
    }
    DEFAULT_FILE_NAME.into()
}
