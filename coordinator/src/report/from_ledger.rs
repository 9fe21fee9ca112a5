//! Where reports meet the ledger; the rest of this module takes plain values.

use fanfold_shared::layout::Logs;
use fanfold_shared::report::{During, Failure, Result};

use super::{JobReport, Reporter};
use crate::ledger::{FailureFilter, LedgerReader};

/// Writes `logs/sys/job_report/` from the ledger.
pub fn write_job_report(ledger: &LedgerReader, logs: &Logs) -> Result<()> {
    let dir = logs.job_report("");
    let mut report = JobReport::create(logs).during("write", &dir)?;
    ledger.for_each_mini_batch::<Failure>(|row| Ok(report.mini_batch(&row).during("write", &dir)?))?;
    Ok(report.finish(&ledger.processes()?).during("write", &dir)?)
}

impl Reporter {
    /// Writes `errors.jsonl` anew from the ledger, if it is stale.
    pub fn refresh_errors(&mut self, ledger: &LedgerReader) -> Result<()> {
        if !self.errors_are_stale() {
            return Ok(());
        }
        let settled = FailureFilter { settled: true, ..FailureFilter::default() };
        self.rewrite_errors::<Failure>(|push| ledger.for_each_failure(&settled, |row| push(&row)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
    use fanfold_shared::layout::JobDir;
    use fanfold_shared::message::{AttemptError, ErrorKind, Outcome, OutcomeEnd, Results};
    use fanfold_shared::split::{Split, SplitInput};

    use super::*;
    use crate::aggregate::{Aggregate, AggregateConfig, Part};
    use crate::ledger::JobLock;
    use crate::report::fixtures::facts;
    use crate::terminal::Lines;

    /// Three mini-batches of two items: one good, one that raises with its only try, one that returns one result.
    fn results() -> Results {
        let outcome = |mini_batch: u64, end| Outcome {
            mini_batch,
            items: mini_batch * 2..mini_batch * 2 + 2,
            attempt: 1,
            started_us: 1_795_228_735_226_929 + mini_batch,
            elapsed_us: 30,
            run_us: 20,
            cpu_us: 10,
            end,
        };
        let returned =
            |returned, rows_len| OutcomeEnd::Returned { returned, rows_len, spooled: None, unreadable: vec![] };
        let error = AttemptError {
            kind: ErrorKind::Exception,
            message: "ValueError: bad pixel".into(),
            traceback: "Traceback: the long story\n".into(),
            stderr: "last words".into(),
            of_all: false,
        };
        let outcomes = vec![
            outcome(0, returned(2, 4)),
            outcome(1, OutcomeEnd::Failed(Box::new(error))),
            outcome(2, returned(1, 2)),
        ];
        Results { process: ProcessNumber(0), outcomes, rows: b"a\nb\nc\n".to_vec(), header: None }
    }

    #[test]
    fn the_ledger_gives_the_reports_and_the_errors_that_were_appended() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        let input = SplitInput::of_items("a", "", 0..6);
        let config = AggregateConfig {
            job: dir.clone(),
            lock: JobLock::acquire(&dir).unwrap(),
            job_id: JobId("test-00000001".into()),
            fingerprint: "f".into(),
            split: Split { inputs: vec![input], ..Split::even(2) },
            output: Some(dir.default_output().join("out.txt")),
            table: false,
            ordered: false,
            header: false,
            tries: crate::aggregate::Tries { most: 1, bisect: false },
        };
        let (mut aggregate, _) = Aggregate::open(config).unwrap();
        let reporter = || {
            let facts = facts(root.path());
            let progress = Box::new(Lines::new(&facts, std::io::sink()));
            Reporter::new(facts, Box::new(|items| items.map(|i| format!("{i}.png").into_bytes()).collect()), progress)
        };
        let mut appending = reporter();
        appending.refresh_errors(aggregate.ledger()).unwrap();
        assert_eq!(fs::read(dir.errors_jsonl()).unwrap(), b"");
        let results = results();
        let node = NodeId("0".into());
        let committed = aggregate.commit(&[Part::Results { node: &node, results: &results }]).unwrap();
        appending.failures(&committed.failures);
        let appended = fs::read_to_string(dir.errors_jsonl()).unwrap();
        assert_eq!(appended.lines().count(), 2, "{appended}");
        assert!(appended.contains("the long story") && appended.contains("short_return"), "{appended}");

        // The next start makes the same file from the ledger.
        reporter().refresh_errors(&LedgerReader::open(&dir).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(dir.errors_jsonl()).unwrap(), appended);

        write_job_report(aggregate.ledger(), &dir.logs()).unwrap();
        let csv = fs::read_to_string(dir.logs().job_report("processed_mini-batches.csv")).unwrap();
        let column =
            |i: usize| -> Vec<&str> { csv.lines().skip(1).map(|line| line.split(',').nth(i).unwrap()).collect() };
        assert_eq!((column(0), column(6)), (vec!["0", "2", "1"], vec!["0", "1", "2"]), "{csv}");
        assert_eq!(column(10), ["RUN_DONE", "RUN_DONE", "RUN_EXCEPTION"]);
        let nodes = fs::read_to_string(dir.logs().job_report("node_summary.csv")).unwrap();
        assert!(nodes.ends_with("\n0,1,3,1,6,3,3,0.000090,0.000030,0.000060\n"), "{nodes}");
    }
}
