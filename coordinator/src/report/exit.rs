//! The exit code of `fanfold run` (spec section 5).

use fanfold_shared::report::ExitCode;
use fanfold_shared::state::JobState;

use crate::ledger::Totals;

/// The signal that stopped the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Ctrl-C (SIGINT).
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
}

impl From<Interruption> for ExitCode {
    fn from(interruption: Interruption) -> ExitCode {
        match interruption {
            Interruption::Interrupt => ExitCode::Interrupted,
            Interruption::Terminate => ExitCode::Terminated,
        }
    }
}

/// The exit code for a job that ended in `state`. `interrupted` is the signal that stopped this run, if one did.
///
/// A final state speaks for itself: a job that was interrupted while its last mini-batch was being committed is Completed.
/// A run that ends in any other state than a final one or Paused has a bug.
pub fn exit_code(
    state: JobState,
    totals: &Totals,
    thresholds_set: bool,
    interrupted: Option<Interruption>,
) -> ExitCode {
    match (state, interrupted) {
        (JobState::Completed, _) if !thresholds_set && totals.items_failed + totals.mini_batches_failed > 0 => {
            ExitCode::ItemsFailed
        }
        (JobState::Completed, _) => ExitCode::Completed,
        (JobState::Failed, _) => ExitCode::Failed,
        (JobState::Canceled, _) => ExitCode::Canceled,
        (_, Some(interruption)) => interruption.into(),
        // Paused on request: the command did what it was asked.
        (JobState::Paused, None) => ExitCode::Completed,
        (
            JobState::Queued
            | JobState::Preparing
            | JobState::Running
            | JobState::Finalizing
            | JobState::CancelRequested,
            None,
        ) => ExitCode::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExitCode as E;
    use Interruption::{Interrupt, Terminate};
    use JobState as S;

    #[test]
    fn every_end_has_its_exit_code() {
        let clean = Totals::default();
        let items_failed = Totals { items_failed: 1, ..Totals::default() };
        // A mini-batch counts even where none of its items does.
        let rank_failed = Totals { mini_batches_failed: 1, ..Totals::default() };
        let table = [
            (S::Completed, &clean, false, None, E::Completed),
            (S::Completed, &clean, true, None, E::Completed),
            (S::Completed, &items_failed, false, None, E::ItemsFailed),
            (S::Completed, &items_failed, true, None, E::Completed),
            (S::Completed, &rank_failed, false, None, E::ItemsFailed),
            (S::Completed, &clean, false, Some(Interrupt), E::Completed),
            (S::Failed, &clean, false, None, E::Failed),
            (S::Failed, &items_failed, true, Some(Interrupt), E::Failed),
            (S::Canceled, &clean, false, None, E::Canceled),
            (S::Canceled, &items_failed, false, Some(Terminate), E::Canceled),
            (S::Paused, &clean, false, Some(Interrupt), E::Interrupted),
            (S::Paused, &clean, false, Some(Terminate), E::Terminated),
            (S::Paused, &items_failed, false, None, E::Completed),
            (S::Preparing, &clean, false, Some(Interrupt), E::Interrupted),
            (S::Running, &clean, false, Some(Terminate), E::Terminated),
            (S::Running, &clean, false, None, E::Bug),
            (S::Finalizing, &clean, true, None, E::Bug),
        ];
        for (state, totals, thresholds_set, interrupted, expected) in table {
            assert_eq!(
                exit_code(state, totals, thresholds_set, interrupted),
                expected,
                "{state}, {} failed items, thresholds {thresholds_set}, {interrupted:?}",
                totals.items_failed
            );
        }
    }
}
