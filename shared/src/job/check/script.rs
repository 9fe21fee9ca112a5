//! The entry script and the root of the snapshot.

use std::path::{Path, PathBuf};

use crate::job::error::shown;
use crate::job::nearest::{listed, nearest};
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::source::Span;

pub(super) struct Script {
    pub(super) root: PathBuf,
    pub(super) whole: bool,
    pub(super) entry_script: String,
}

/// Reads `source_directory` and `entry_script`.
pub(super) fn read(reader: &mut Reader) -> Script {
    let given = reader.given("source_directory");
    let whole = given.is_some();
    let root = match &given {
        None => Some(reader.world.base.clone()),
        Some(node) => folder(reader, node),
    };
    let mut script = Script { root: reader.world.base.clone(), whole, entry_script: String::new() };
    if reader.given("entry_script").is_none() {
        reader.missing("entry_script");
        return script;
    }
    let (Some((scalar, node)), Some(root)) = (reader.scalar("entry_script"), root) else { return script };
    // The original strips it too.
    let typed = scalar.text.trim();
    let path = paths::absolute(&root, typed);
    if paths::scheme(typed).is_some() || typed.contains('\0') {
        paths::local(reader, "entry_script", &node);
        return script;
    }
    if whole && is_module(typed) && !typed.ends_with(".py") {
        script.root = root;
        script.entry_script = typed.to_string();
        check_module(reader, &script, node.span);
        return script;
    }
    if let Some((message, hint)) = fault(reader, typed, &path, &root, whole) {
        reader.fault("entry_script", node.span, message, Some(hint));
        return script;
    }
    // Without a source directory the script's own folder is the root.
    script.root = if whole { root } else { path.parent().unwrap_or(&root).to_path_buf() };
    let relative = path.strip_prefix(&script.root).unwrap_or(&path);
    match (relative.to_str(), script.root.to_str()) {
        (Some(relative), Some(_)) => script.entry_script = relative.to_string(),
        _ => {
            let message = format!("`{}` is not UTF-8", path.display());
            reader.fault("entry_script", node.span, message, Some("rename the script or its folder".to_string()));
        }
    }
    script
}

fn folder(reader: &mut Reader, node: &crate::job::tree::Node) -> Option<PathBuf> {
    let path = paths::existing(reader, "source_directory", node)?;
    if reader.world.look && !path.is_dir() {
        let message = "`source_directory` must be a folder, and this is a file".to_string();
        let hint = "give its folder; a script alone needs no `source_directory`, only `entry_script`".to_string();
        reader.fault("source_directory", node.span, message, Some(hint));
        return None;
    }
    Some(path)
}

/// What is wrong with a script given by its path, and what to do.
fn fault(reader: &Reader, typed: &str, path: &Path, root: &Path, whole: bool) -> Option<(String, String)> {
    if whole && !path.starts_with(root) {
        let hint =
            "the script is part of what is copied: give its path inside that folder, or another `source_directory`";
        return Some((format!("`entry_script` lies outside `source_directory`: `{}`", path.display()), hint.into()));
    }
    if !reader.world.look {
        return None;
    }
    if path.is_dir() {
        let hint = did_you_mean(path, "score.py", typed);
        return Some((format!("`entry_script` must be a file, and `{}` is a folder", shown(typed)), hint));
    }
    if !path.exists() {
        let dotted = !whole && is_module(typed) && !typed.ends_with(".py");
        if dotted && module_file(root, typed).is_some() {
            let hint = "a dotted module is looked up inside `source_directory`: add `source_directory: .`";
            return Some((format!("`entry_script`: there is no file `{}`", shown(typed)), hint.into()));
        }
        let place = if whole { " in `source_directory`" } else { "" };
        let message = format!("`entry_script`: there is no `{}`{place}", shown(typed));
        return Some((message, did_you_mean(root, typed, "")));
    }
    if path.extension().is_none_or(|extension| extension != "py") {
        let message = format!("`entry_script` must be a Python file, and `{}` does not end in `.py`", shown(typed));
        return Some((message, "rename it, or give the script with `run(mini_batch)`".into()));
    }
    None
}

fn check_module(reader: &mut Reader, script: &Script, span: Span) {
    if !reader.world.look || module_file(&script.root, &script.entry_script).is_some() {
        return;
    }
    let name = &script.entry_script;
    let as_path = format!("{}.py", name.replace('.', "/"));
    let message = format!("`entry_script`: there is no `{name}` in `source_directory`, neither a file nor a module");
    let hint = did_you_mean(&script.root, &as_path, "");
    reader.fault("entry_script", span, message, Some(hint));
}

/// `package.main`, and `main` alone.
fn is_module(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|part| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
}

fn module_file(root: &Path, module: &str) -> Option<PathBuf> {
    let path = root.join(module.replace('.', "/"));
    [path.with_extension("py"), path.join("__init__.py")].into_iter().find(|file| file.is_file())
}

/// The Python file that is meant, or those that are there.
fn did_you_mean(root: &Path, wanted: &str, prefix: &str) -> String {
    let files = python_files(root);
    let shown: Vec<String> =
        files.iter().map(|file| Path::new(prefix).join(file).to_string_lossy().into_owned()).collect();
    let wanted_file = Path::new(wanted).file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let by_path = nearest(wanted, shown.iter().map(String::as_str));
    let by_name = || {
        let name =
            |file: &&String| Path::new(file.as_str()).file_name().map(|name| name.to_string_lossy().into_owned());
        let found =
            nearest(&wanted_file, shown.iter().filter_map(|file| Path::new(file).file_name()?.to_str()))?.to_string();
        shown.iter().find(|file| name(file).as_ref() == Some(&found)).map(String::as_str)
    };
    match by_path.or_else(by_name) {
        Some(file) => format!("did you mean `{file}`?"),
        None if shown.is_empty() => format!("there is no Python file in `{}`", root.display()),
        None if shown.len() == 1 => format!("did you mean `{}`?", shown[0]),
        None => format!("`{}` holds {}", root.display(), listed(shown.iter().map(String::as_str))),
    }
}

/// Python files below `root`, relative to it, nearest first: three levels, and bounded in number.
fn python_files(root: &Path) -> Vec<PathBuf> {
    const ENTRIES_MAX: usize = 5_000;
    let mut files = Vec::new();
    let mut folders = std::collections::VecDeque::from([(PathBuf::new(), 0)]);
    let mut left = ENTRIES_MAX;
    while let Some((folder, depth)) = folders.pop_front() {
        let mut entries: Vec<_> =
            std::fs::read_dir(root.join(&folder)).into_iter().flatten().flatten().take(left).collect();
        left -= entries.len();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(['.', '_']) {
                continue;
            }
            let path = folder.join(&name);
            // Links to folders are not followed: they may lead in a circle.
            let kind = entry.file_type();
            if kind.as_ref().is_ok_and(|kind| kind.is_dir()) && depth < 2 {
                folders.push_back((path, depth + 1));
            } else if path.extension().is_some_and(|extension| extension == "py") {
                files.push(path);
            }
        }
    }
    files
}
