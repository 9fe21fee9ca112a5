//! Finalizing a job whose output is made of what is committed (a Parquet file, or rows in the order of the input): drives the pass that writes it, for
//! minutes if need be, and says how far it is.

use std::time::{Duration, Instant};

use fanfold_shared::report::Result;
use fanfold_shared::text::size;
use fanfold_worker::logs::Level;

use super::prepare::Prepared;
use super::until_there_is_room;
use crate::aggregate::{Aggregate, CommitError, Pass, Progress, Step, Written};

/// Between two reports.
const EVERY: Duration = Duration::from_secs(1);
/// Between two lines about it.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a pass came to.
enum End {
    Whole(Written),
    /// There was no room; it begins anew.
    NoRoom(CommitError),
    Interrupted,
}

/// Writes that file, unless the output is what is committed; [`Aggregate::finish`] gives it its name. None: the user does not wait. Nothing of
/// the file is left then, and the next start makes the pass again.
///
/// # Errors
/// What was committed can't be read, or the file not be written.
pub fn write(prepared: &mut Prepared) -> Result<Option<()>> {
    loop {
        let Some(begun) = until_there_is_room(prepared, Aggregate::rewrite)? else { return Ok(None) };
        let Some(pass) = begun else { return Ok(Some(())) };
        match drive(prepared, pass)? {
            End::Whole(written) => {
                prepared.aggregate.rewritten(written);
                return Ok(Some(()));
            }
            End::Interrupted => return Ok(None),
            End::NoRoom(error) => {
                // Shown, and waited for, as any other full disk; then from the beginning.
                let mut full = Some(error);
                let waited = until_there_is_room(prepared, |_| full.take().map_or(Ok(()), Err))?;
                if waited.is_none() {
                    return Ok(None);
                }
            }
        }
    }
}

fn drive(prepared: &mut Prepared, mut pass: Pass) -> Result<End> {
    // Who was told to stop while the last mini-batch ran finishes all the same; who is told now does not.
    let before = prepared.orders.count();
    let (mut shown, mut told) = (Instant::now(), Instant::now());
    loop {
        match pass.step(prepared.aggregate.ledger()) {
            Ok(Step::Done(written)) => return Ok(End::Whole(written)),
            Ok(Step::More(progress)) => {
                if prepared.orders.count() > before {
                    return Ok(End::Interrupted);
                }
                if told.elapsed() >= TOLD_EVERY {
                    told = Instant::now();
                    let text = tell(prepared, progress);
                    prepared.observer.note(Level::Info, &text);
                }
                if shown.elapsed() >= EVERY {
                    shown = Instant::now();
                    prepared.observer.show(&prepared.aggregate);
                }
            }
            Err(error) if error.is_disk_full() => return Ok(End::NoRoom(error)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn tell(prepared: &Prepared, Progress { done, of }: Progress) -> String {
    let file = &prepared.spec.append_row_file_name;
    format!("writing `{file}`: {} % of {}", done * 100 / of.max(1), size(of))
}
