//! Explains an input without items, and a path that is not there: what was looked at, and what might be meant.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fanfold_shared::items::ItemReader;
use fanfold_shared::job::InputType;
use fanfold_shared::text::{counted, one_line};

use super::ListError;
use super::glob::Pattern;
use super::notes::{LeftOut, Notes};
use super::source::{Look, Source};
use super::walk::Walk;

/// Files that are looked at in search of an explanation, and names in search of a similar one.
const LOOK_AT: u64 = 100_000;

/// How alike two names must be for one to be suggested for the other, 0 to 1.
const ALIKE: f64 = 0.85;

/// The error for the input called `input`, which came to nothing.
pub(super) fn explain(input: &str, kind: InputType, source: &Source, notes: &Notes, look: Look<'_>) -> ListError {
    let root = source.root().display();
    let a_line_each = || "a list file has one item on each line".to_string();
    let (mut what, hint) = match source {
        Source::File(_, name) => (format!("`{root}/{name}` has only blank lines"), a_line_each()),
        _ if kind == InputType::Lines && notes.files > 0 => {
            (format!("its {} list files under `{root}` have only blank lines", notes.files), a_line_each())
        }
        Source::Folder(_) => (
            format!("the folder `{root}` is there, but {}", holds(notes)),
            "put files there, or give another path".into(),
        ),
        Source::Glob(root, _, text) => explain_pattern(input, root, text, look),
        Source::Cloud(objects) => return objects.explain(input),
    };
    if notes.count(LeftOut::Special) > 0 {
        what.push_str("; pipes, sockets and devices do not count");
    }
    if notes.count(LeftOut::Own) > 0 {
        what.push_str("; directories of the job itself are left out");
    }
    ListError::Empty { input: input.to_string(), what, hint }
}

/// The error for the input of tables called `input` whose files, so many under `root`, have no row; `only`: if it is just one.
pub(super) fn no_rows(input: &str, kind: InputType, root: &Path, only: Option<&Path>, files: u64) -> ListError {
    let what = match only {
        Some(path) => format!("`{}` has no rows", path.display()),
        None => format!("none of its {} under `{}` has a row", counted(files, "file"), root.display()),
    };
    let hint = match kind.is_csv() {
        true => "a header alone is none; where the first line is data, write `read_csv: {header: false}`",
        false => "give files that have some",
    };
    ListError::Empty { input: input.to_string(), what, hint: hint.to_string() }
}

/// The same for the input with this number of a list whose names are complete.
pub(super) fn no_rows_of(names: &ItemReader, number: usize, kind: InputType) -> Result<ListError, ListError> {
    let input = &names.split().inputs[number];
    let files = input.entries.end - input.entries.start;
    let first = names.item(input.entries.start)?;
    let only = (files == 1).then(|| Path::new(&input.root).join(OsStr::from_bytes(&first)));
    Ok(no_rows(&input.name, kind, Path::new(&input.root), only.as_deref(), files))
}

fn holds(notes: &Notes) -> String {
    match notes.folders {
        0 | 1 => "holds no files".to_string(),
        folders => format!("neither it nor the {} in it hold files", counted(folders - 1, "folder")),
    }
}

/// Looks once more at everything below `root`, as if the pattern were laxer.
fn explain_pattern(input: &str, root: &Path, text: &str, look: Look<'_>) -> (String, String) {
    let typed = root.join(text);
    let typed = typed.display();
    let last = text.rsplit('/').next().unwrap_or(text);
    let (Ok(exact), Ok(any_case)) = (Pattern::new(text, false), Pattern::new(text, true)) else {
        return (format!("`{typed}` matches no file"), String::new());
    };
    let deeper = Pattern::new(&format!("**/{last}"), false).ok();
    let (mut files, mut other_case, mut further_down, mut folder) = (0u64, None, 0u64, false);
    let mut least: Option<Vec<u8>> = None;
    let walk = Walk { input, root, excluded: look.excluded, enter: &|_, _| true, cancel: look.cancel };
    // An explanation is worth a limited search, and an error in it is not worth telling.
    let _ = walk.run(&mut Notes::default(), &mut |name| {
        files += 1;
        if least.as_deref().is_none_or(|least| name < least) {
            least = Some(name.to_vec());
        }
        if any_case.matches(name) {
            other_case.get_or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
        further_down += u64::from(deeper.as_ref().is_some_and(|deeper| deeper.matches(name)));
        folder |= name.iter().enumerate().any(|(at, byte)| *byte == b'/' && exact.matches(&name[..at]));
        if files == LOOK_AT { Err(ListError::Canceled) } else { Ok(()) }
    });
    let hint = if folder {
        format!("it matches folders: write `{typed}/**` for the files in them")
    } else if let Some(example) = other_case {
        format!("upper and lower case differ: `{example}` is there")
    } else if further_down > 0 {
        format!("files further down match: write `{}`", root.join("**").join(last).display())
    } else {
        match &least {
            Some(name) => format!("for example `{}` is there", one_line(&String::from_utf8_lossy(name), 200)),
            None => "put files there, or give another path".into(),
        }
    };
    let looked_at = match files {
        0 => format!("the folder `{}` is there, but holds no files", root.display()),
        LOOK_AT => format!("the folder `{}` holds more than {LOOK_AT} files", root.display()),
        1 => format!("the folder `{}` holds 1 file, which does not match", root.display()),
        files => format!("the folder `{}` holds {files} files, none of which match", root.display()),
    };
    (format!("`{typed}` matches no file; {looked_at}"), hint)
}

/// What there is instead of `path`, which does not exist.
pub(super) fn nearest(path: &Path) -> String {
    let Some(folder) = path.ancestors().skip(1).find(|ancestor| ancestor.is_dir()) else { return String::new() };
    let Some(missing) = path.strip_prefix(folder).ok().and_then(|rest| rest.iter().next()) else {
        return String::new();
    };
    let missing = missing.to_string_lossy();
    let names = fs::read_dir(folder).into_iter().flatten().take(LOOK_AT as usize).flatten();
    let likeness = |name: &str| match name.to_lowercase() == missing.to_lowercase() {
        true => 1.0,
        false => strsim::jaro_winkler(name, &missing),
    };
    let best = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .map(|name| (likeness(&name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, name_a), (b, name_b)| a.total_cmp(b).then_with(|| name_b.cmp(name_a)));
    match best {
        Some((_, name)) => format!("the folder `{}` has no `{missing}`, but `{name}`", folder.display()),
        None => format!("the folder `{}` is there, but has no `{missing}`", folder.display()),
    }
}
