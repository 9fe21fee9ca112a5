//! `fanfold dataset list NAME`: all versions of one dataset.

use std::io::{self, Write};

use fanfold_shared::clock::duration;
use fanfold_shared::job::DatasetRef;
use fanfold_shared::report::{Failure, Result};
use fanfold_shared::text::{grouped, size};

use super::{Client, DatasetError, DatasetStore, Line, ask, path_in_words};
use crate::terminal::{self, Align, Table};

/// The versions of the dataset called `name`, from the first on; of one with a number that one alone. A record that can't be read is told and
/// left out.
///
/// # Errors
/// There is no such dataset or version, or the service does not answer.
pub(super) fn of(client: Option<&Client>, name: &str) -> Result<Vec<Line>> {
    let wanted = DatasetRef::parse(name).ok_or_else(|| DatasetError::BadReference(name.to_string()))?;
    let store = DatasetStore::of_user();
    let versions = match (wanted.version, client) {
        (Some(version), _) => vec![version],
        (None, Some(client)) => ask(client, &wanted)?.versions,
        (None, None) => store.versions(&wanted.name)?,
    };
    if versions.is_empty() {
        // Says that there is none, and which there are.
        store.get(&wanted)?;
    }
    let mut lines = Vec::with_capacity(versions.len());
    for version in &versions {
        let one = DatasetRef { name: wanted.name.clone(), version: Some(*version) };
        let shown = match client {
            Some(client) => ask(client, &one)?,
            None => match super::shown(&store, &one) {
                Err(
                    error
                    @ (DatasetError::Damaged { .. } | DatasetError::Misplaced { .. } | DatasetError::Later { .. }),
                ) if versions.len() > 1 => {
                    terminal::tell(&format!("warning: {}", Failure::from(error).one_line()));
                    continue;
                }
                shown => shown?,
            },
        };
        lines.push(Line { dataset: shown.dataset, versions: shown.versions });
    }
    Ok(lines)
}

/// A line for each version.
pub(super) fn write_table(lines: &[Line], now_us: u64, out: &mut dyn Write) -> io::Result<()> {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("DATASET", left),
        ("TYPE", left),
        ("FILES", right),
        ("SIZE", right),
        ("AGE", right),
        ("BY", left),
        ("PATH", left),
    ]);
    for Line { dataset, .. } in lines {
        table.row([
            &dataset.id.to_string(),
            dataset.input_type.name(),
            &grouped(dataset.files()),
            &size(dataset.bytes()),
            &duration(now_us.saturating_sub(dataset.created) as f64 / 1e6),
            &dataset.created_by,
            &path_in_words(dataset),
        ]);
    }
    table.write(out)
}
