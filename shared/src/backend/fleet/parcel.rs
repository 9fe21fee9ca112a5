//! What travels on the results queue: a [`FromNode`] whose large rows lie in a file, whose paths are names, and which always fits
//! a message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spool::{RowsFile, Spool};
use crate::backend::Closed;
use crate::fleet::wire::{self, MOST_BYTES, WireError};
use crate::message::{AttemptError, ErrorKind, FromNode, NodeEvent, NodeMessage, Outcome, OutcomeEnd, Results};
use crate::text::cut;

/// More rows travel as a file.
const MOST_ROWS: usize = 256 << 10;
/// For everything but the rows.
const MOST_OUTCOMES: usize = MOST_BYTES - MOST_ROWS - (64 << 10);
/// What is left of a text that makes a message too large.
const MOST_TEXT: usize = 64 << 10;
/// A full disk is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Parcel {
    message: FromNode,
    /// Where the message's rows are, if not in it.
    rows: Option<RowsFile>,
}

/// A parcel as received.
pub(super) struct Unpacked {
    pub message: FromNode,
    /// The file that its rows came from: to be removed when the message is acknowledged.
    pub file: Option<PathBuf>,
    /// Bytes read from it.
    pub read: usize,
}

/// Writes a message, or several that say the same. Waits for room in the spool, unless the flow is `closed`.
pub(super) fn pack(message: FromNode, spool: &Spool, closed: &dyn Fn() -> bool) -> Result<Vec<Vec<u8>>, Closed> {
    let node = message.node;
    match message.body {
        NodeMessage::Event(event) => {
            let wrap = |event| Parcel {
                message: FromNode { node: node.clone(), body: NodeMessage::Event(event) },
                rows: None,
            };
            let mut bytes = wire::encode(&wrap(event.clone()));
            if bytes.len() > MOST_BYTES {
                bytes = wire::encode(&wrap(shortened(event)));
            }
            Ok(vec![bytes])
        }
        NodeMessage::Results(mut results) => {
            for outcome in &mut results.outcomes {
                name_spooled(outcome, spool);
            }
            let mut bodies = Vec::new();
            for mut results in divided(results) {
                let rows = file_rows(&mut results, spool, closed)?;
                let message = FromNode { node: node.clone(), body: NodeMessage::Results(results) };
                bodies.push(wire::encode(&Parcel { message, rows }));
            }
            Ok(bodies)
        }
    }
}

/// Reads what [`pack`] wrote. Rows that are not there any more are left out: the length tells.
pub(super) fn unpack(bytes: &[u8], spool: &Spool) -> Result<Unpacked, Unreadable> {
    let Parcel { mut message, rows } = wire::decode(bytes)?;
    let (mut file, mut read) = (None, 0);
    if let NodeMessage::Results(results) = &mut message.body {
        for outcome in &mut results.outcomes {
            if let OutcomeEnd::Returned { spooled: Some(path), .. } = &mut outcome.end {
                *path = path.to_str().and_then(|name| spool.path(name)).ok_or(Unreadable::Path)?;
            }
        }
        if let Some(rows) = rows {
            let path = spool.path(&rows.name).ok_or(Unreadable::Path)?;
            if let Some(found) = Spool::read(&path, &rows) {
                read = found.len();
                results.rows = found;
            }
            file = Some(path);
        }
    }
    Ok(Unpacked { message, file, read })
}

/// Why a parcel can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("a file is named by more than its name")]
    Path,
}

/// Puts large rows into a file.
fn file_rows(results: &mut Results, spool: &Spool, closed: &dyn Fn() -> bool) -> Result<Option<RowsFile>, Closed> {
    if results.rows.len() <= MOST_ROWS {
        return Ok(None);
    }
    loop {
        spool.wait_for_room(results.rows.len() as u64, closed)?;
        match spool.write(&results.rows) {
            Ok(file) => {
                results.rows = Vec::new();
                return Ok(Some(file));
            }
            // The disk is full, or not there: nothing is lost by waiting, and the processes wait with us.
            Err(_) => std::thread::sleep(TRY_AGAIN),
        }
    }
}

/// A path of the spool travels as a name: where the spool is, the other side knows.
fn name_spooled(outcome: &mut Outcome, spool: &Spool) {
    if let OutcomeEnd::Returned { spooled: Some(path), rows_len, .. } = &mut outcome.end {
        spool.note(path.clone(), *rows_len);
        *path = path.file_name().map(PathBuf::from).unwrap_or_default();
    }
}

/// Results that each fit a message, in order.
fn divided(results: Results) -> Vec<Results> {
    let size: usize = results.outcomes.iter().map(weight).sum();
    if size <= MOST_OUTCOMES {
        return vec![results];
    }
    if results.outcomes.len() == 1 {
        let mut results = results;
        results.outcomes.iter_mut().for_each(shorten);
        return vec![results];
    }
    let Results { process, mut outcomes, mut rows, header } = results;
    let second_outcomes = outcomes.split_off(outcomes.len() / 2);
    let first_rows: u64 = outcomes.iter().map(inline_rows).sum();
    let second_rows = rows.split_off(usize::try_from(first_rows).unwrap_or(usize::MAX).min(rows.len()));
    let first = Results { process, outcomes, rows, header };
    let second = Results { process, outcomes: second_outcomes, rows: second_rows, header: None };
    let mut all = divided(first);
    all.extend(divided(second));
    all
}

fn inline_rows(outcome: &Outcome) -> u64 {
    match &outcome.end {
        OutcomeEnd::Returned { rows_len, spooled: None, .. } => *rows_len,
        _ => 0,
    }
}

/// About what an outcome takes, rather more.
fn weight(outcome: &Outcome) -> usize {
    let texts = match &outcome.end {
        OutcomeEnd::Returned { unreadable, spooled, .. } => {
            let path = spooled.as_deref().map_or(0, |path: &Path| path.as_os_str().len());
            unreadable.iter().map(|item| item.message.len() + 32).sum::<usize>() + path
        }
        OutcomeEnd::Failed(error) => error.message.len() + error.traceback.len() + error.stderr.len(),
    };
    texts + 256
}

/// One outcome that does not fit a message: absurd texts are cut.
fn shorten(outcome: &mut Outcome) {
    match &mut outcome.end {
        OutcomeEnd::Failed(error) => shorten_error(error),
        OutcomeEnd::Returned { unreadable, .. } => {
            let each = (MOST_OUTCOMES / unreadable.len().max(1)).saturating_sub(32);
            if each < 8 {
                // More unreadable items than a message holds: nothing of the mini-batch can be told apart any more.
                let message = format!("{} items of one mini-batch can't be read", unreadable.len());
                let error = AttemptError {
                    kind: ErrorKind::Input,
                    message,
                    traceback: String::new(),
                    stderr: String::new(),
                    of_all: false,
                };
                outcome.end = OutcomeEnd::Failed(Box::new(error));
                return;
            }
            for item in unreadable {
                item.message.truncate(cut(&item.message, each).len());
            }
        }
    }
}

fn shorten_error(error: &mut AttemptError) {
    for text in [&mut error.message, &mut error.traceback, &mut error.stderr] {
        text.truncate(cut(text, MOST_TEXT).len());
    }
}

/// An event that does not fit a message: absurd texts are cut.
fn shortened(mut event: NodeEvent) -> NodeEvent {
    match &mut event {
        NodeEvent::InitFailed { error, .. } | NodeEvent::GaveUp { error } => shorten_error(error),
        NodeEvent::Refused { why: text, .. }
        | NodeEvent::CannotJoin { why: text, .. }
        | NodeEvent::Broken { message: text }
        | NodeEvent::ProcessEnded { how: text, .. }
        | NodeEvent::HeldUp { why: Some(text), .. } => text.truncate(cut(text, MOST_TEXT).len()),
        NodeEvent::Beat { held, doing, .. } => {
            held.truncate(MOST_BYTES / 64);
            doing.clear();
        }
        NodeEvent::Leased { tasks } => tasks.truncate(MOST_BYTES / 128),
        NodeEvent::Joined { devices, .. } => devices.truncate(1024),
        NodeEvent::Joining { .. }
        | NodeEvent::HandedBack { .. }
        | NodeEvent::RunsAlone { .. }
        | NodeEvent::ProcessStarted { .. }
        | NodeEvent::InitDone { .. }
        | NodeEvent::Downloading { .. }
        | NodeEvent::HeldUp { why: None, .. }
        | NodeEvent::Left => {}
    }
    event
}

#[cfg(test)]
mod tests;
