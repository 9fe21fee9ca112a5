//! `fanfold job-file`: the keys of a job file, as a list, one by one, or as the page of the documentation.

mod groups;
mod page;

use std::io::{self, Write};

use fanfold_shared::job::{KEYS, Key, instead_of};
use fanfold_shared::report::{self, ExitCode, Report, Result};
use fanfold_shared::text::harmless;
use serde_json::json;

use super::written;
use groups::{GROUPS, Group};

/// The version of what `--json` writes.
const VERSION: u32 = 1;

/// Show the keys of a job file: what each takes, its default, an example.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show all that is known of these keys; without one, list all keys
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Write JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Write the reference as the page docs/job-file.md
    #[arg(long, conflicts_with = "keys")]
    markdown: bool,
}

/// Somebody asked for a key that is none.
#[derive(Debug, thiserror::Error)]
#[error("a job file has no key `{}`", harmless(.0))]
struct NoKey(String);

impl Report for NoKey {
    fn exit_code(&self) -> report::ExitCode {
        report::ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(instead_of(&self.0).unwrap_or_else(|| "`fanfold job-file` lists them".into()))
    }
}

/// Writes what was asked for.
///
/// # Errors
/// A key is none.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let wanted = wanted(&args.keys)?;
    let outcome = match (args.markdown, args.json) {
        (true, _) => page::write(out),
        (false, true) => write_json(&wanted, out),
        (false, false) if args.keys.is_empty() => write_list(out),
        (false, false) => write_keys(&wanted, out),
    };
    Ok(written(outcome)?)
}

/// Each group with its keys, and the place that says more of each.
fn grouped() -> impl Iterator<Item = (&'static Group, Vec<(&'static Key, &'static str)>)> {
    let key = |name: &str| KEYS.iter().find(|key| key.name == name).expect("a test compares the groups with the keys");
    GROUPS.iter().map(move |group| (group, group.keys.iter().map(|(name, more)| (key(name), *more)).collect()))
}

/// One key, with its group and the place that says more.
type Shown = (&'static Key, &'static Group, &'static str);

fn wanted(names: &[String]) -> Result<Vec<Shown>, NoKey> {
    let all: Vec<Shown> =
        grouped().flat_map(|(group, keys)| keys.into_iter().map(move |(key, more)| (key, group, more))).collect();
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| all.iter().copied().find(|(key, ..)| key.name == name);
    names.iter().map(|name| find(name).ok_or_else(|| NoKey(name.clone()))).collect()
}

fn write_list(out: &mut dyn Write) -> io::Result<()> {
    let width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for (i, (group, keys)) in grouped().enumerate() {
        writeln!(out, "{}{}", if i > 0 { "\n" } else { "" }, group.title)?;
        for (key, _) in keys {
            let default = if key.default.is_empty() { "required" } else { key.default };
            writeln!(out, "  {:width$}  {default}", key.name)?;
        }
    }
    writeln!(out, "\nBehind each its default. `fanfold job-file KEY` shows what it does.")
}

fn write_keys(keys: &[Shown], out: &mut dyn Write) -> io::Result<()> {
    for (i, (key, _, more)) in keys.iter().enumerate() {
        writeln!(out, "{}{}", if i > 0 { "\n" } else { "" }, key.name)?;
        writeln!(out, "  {}", key.doc)?;
        writeln!(out, "  takes    {}", key.takes)?;
        writeln!(out, "  default  {}", if key.default.is_empty() { "none: it is required" } else { key.default })?;
        if !key.example.is_empty() {
            writeln!(out, "  example  {}", key.example)?;
        }
        if !more.is_empty() {
            writeln!(out, "  more     docs/{more}")?;
        }
    }
    Ok(())
}

fn write_json(keys: &[Shown], out: &mut dyn Write) -> io::Result<()> {
    let keys: Vec<_> = keys
        .iter()
        .map(|(key, group, more)| {
            json!({
                "name": key.name,
                "group": group.title,
                "takes": key.takes,
                "default": (!key.default.is_empty()).then_some(key.default),
                "required": key.default.is_empty(),
                "example": (!key.example.is_empty()).then_some(key.example),
                "doc": key.doc,
                "more": (!more.is_empty()).then(|| format!("docs/{more}")),
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &json!({"version": VERSION, "keys": keys}))?;
    writeln!(out)
}
