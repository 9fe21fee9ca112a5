//! What `fanfold run` shows while it runs and when it is over; and tables for the other verbs. All of it but the tables goes to
//! stderr: standard output is for data.
//!
//! [`Progress`] has two forms, chosen once by [`open`]: a bar where stderr is a terminal, lines elsewhere. Both show errors as
//! they come, the first of each distinct one whole and then counts (`echo.rs`). [`summary`] is the last word.

mod bar;
mod echo;
mod lines;
mod summary;
mod table;

use std::io::{IsTerminal, Write, stderr};

pub use bar::Bar;
pub use lines::Lines;
pub use summary::summary;
pub use table::{Align, Table};

use fanfold_shared::clock::duration;
use fanfold_shared::state::JobState;
use fanfold_shared::text::{grouped, rate};

use crate::ledger::FailureRow;
use crate::report::{JobFacts, Pace, Snapshot};

/// Shows a job while it runs. Nothing here fails: a terminal that went away stops no job.
pub trait Progress: Send {
    /// Takes a look; to be called about once a second.
    fn observe(&mut self, snapshot: &Snapshot, pace: &Pace);

    /// A failure was recorded.
    fn failure(&mut self, row: &FailureRow);

    /// Something else to tell: a node joined, the job is blocked.
    fn note(&mut self, text: &str);

    /// The end: leaves the last state on the screen and writes what is outstanding.
    fn finish(&mut self, snapshot: &Snapshot);
}

/// For a job that nobody watches here.
struct Silent;

impl Progress for Silent {
    fn observe(&mut self, _: &Snapshot, _: &Pace) {}
    fn failure(&mut self, _: &FailureRow) {}
    fn note(&mut self, _: &str) {}
    fn finish(&mut self, _: &Snapshot) {}
}

/// The form of progress that suits stderr; none if it is to be left alone.
pub fn open(facts: &JobFacts, quiet: bool) -> Box<dyn Progress> {
    if quiet {
        return Box::new(Silent);
    }
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match stderr().is_terminal() && !dumb {
        true => Box::new(Bar::stderr(facts)),
        false => Box::new(Lines::new(facts, stderr())),
    }
}

/// Writes lines to stderr. Nobody may be reading any more (a parent that died, a terminal that was closed): that stops no job.
pub fn tell(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Whether the summary that follows says this state, with all that belongs to it.
fn is_for_the_summary(state: JobState) -> bool {
    state.is_final() || state == JobState::Paused
}

/// `120 of 276 mini-batches (43 %), 240 of 551 items, 3 failed, 24 items/s, 13 s to go`
fn progress_in_words(snapshot: &Snapshot, pace: &Pace) -> String {
    let totals = &snapshot.totals;
    let settled = totals.mini_batches_settled();
    let so_far = match snapshot.splitting {
        None => format!(" ({} %)", settled * 100 / totals.mini_batches.max(1)),
        Some(part) => format!(" so far ({:.0} % of the data split)", part * 100.0),
    };
    let mut text = format!("{} of {} mini-batches{so_far}", grouped(settled), grouped(totals.mini_batches));
    if totals.items > 0 {
        text += &format!(", {} of {} items", grouped(totals.items_settled()), grouped(totals.items));
    }
    match (totals.items_failed, totals.mini_batches_failed) {
        (0, 0) => {}
        (0, mini_batches) => text += &format!(", {} failed", grouped(mini_batches)),
        (items, _) => text += &format!(", {} failed", grouped(items)),
    }
    if pace.mini_batches_per_second > 0.0 {
        match totals.items {
            0 => text += &format!(", {} mini-batches/s", rate(pace.mini_batches_per_second)),
            _ => text += &format!(", {} items/s", rate(pace.items_per_second)),
        }
    }
    if let Some(seconds) = pace.eta_seconds {
        text += &format!(", {} to go", duration(seconds));
    }
    if settled == 0 && snapshot.ready() == 0 && !snapshot.processes.is_empty() {
        text += &format!(", {} starting", fanfold_shared::text::counted(snapshot.processes.len() as u64, "process"));
    }
    if let Some(reason) = &snapshot.blocked {
        text += &format!(", blocked: {reason}");
    }
    text
}
