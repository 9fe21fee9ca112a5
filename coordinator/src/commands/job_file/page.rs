//! The reference as a page: `docs/job-file.md`, as `fanfold job-file --markdown` writes it.

use std::io::{self, Write};

use fanfold_shared::job::{ALIASES, Instead, Key};

use super::grouped;

/// What stands above the keys.
const HEAD: &str = "\
# The job file

<!-- Made by `fanfold job-file --markdown > docs/job-file.md` from shared/src/job/keys.rs. A change by hand would be lost. -->

A job is a YAML file with the keys of this page; those without a default are required. `fanfold run job.yaml` runs it, `fanfold plan job.yaml` shows what would run. `fanfold job-file KEY` prints in the
terminal what this page says of a key.

- **Relative paths** start at the folder of the job file.
- **One run with another value**: `--set mini_batch_size=5`, as often as you like. `environment.python` names a part of a key.
- **An unknown key is refused**, with the nearest valid one. So is a wrong value, with its line and a valid one; all faults of a file are told at once, and nothing has run then.
- **A key left empty** (`output:`) is one that is not given, and has its default.
";

/// What stands between the keys and the names of other systems.
const OTHERS: &str = "
## Names of other systems

Keys that ParallelRunConfig, pipeline components or other programs call otherwise are not taken under these names: some count otherwise. They are refused, with the line to write here.

| instead of | write |
|---|---|
";

/// Writes the page.
pub fn write(out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{HEAD}")?;
    writeln!(out, "\n| | |\n|---|---|")?;
    for (group, keys) in grouped() {
        let names: Vec<String> = keys.iter().map(|(key, _)| format!("[`{0}`](#{0})", key.name)).collect();
        writeln!(out, "| {} | {} |", group.title, names.join(", "))?;
    }
    for (group, keys) in grouped() {
        writeln!(out, "\n## {}\n\n{}", group.title, group.about)?;
        for (key, more) in keys {
            write_key(key, more, out)?;
        }
    }
    write!(out, "{OTHERS}")?;
    for alias in ALIASES {
        let names: Vec<String> = alias.names.iter().map(|name| format!("`{name}`")).collect();
        let instead = match alias.instead {
            Instead::Key(key) => format!("[`{key}`](#{key})"),
            Instead::Words(words) => words.to_string(),
        };
        writeln!(out, "| {} | {instead} |", names.join(", "))?;
    }
    Ok(())
}

fn write_key(key: &Key, more: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n### `{}`\n\n{}\n", key.name, key.doc)?;
    writeln!(out, "- Takes: {}", key.takes)?;
    match key.default {
        "" => writeln!(out, "- **Required**")?,
        default => writeln!(out, "- Default: {}", default_of(default))?,
    }
    if !key.example.is_empty() {
        // In the fence of a code span that the example itself can't close.
        writeln!(out, "- Example: `` {} ``", key.example)?;
    }
    match more {
        "" => Ok(()),
        more => writeln!(out, "- More: [{more}]({more})"),
    }
}

/// Values are set as code, words are not.
fn default_of(default: &str) -> String {
    let is_value = !default.contains(' ') && !matches!(default, "none" | "off" | "all");
    if is_value { format!("`{default}`") } else { default.to_string() }
}
