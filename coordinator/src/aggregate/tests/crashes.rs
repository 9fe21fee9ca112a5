//! What the next start finds, after a death between any two steps. (With the feature `failpoints` the program truly dies; see
//! the end of this file.)

use super::*;
use fanfold_shared::state::JobState;

#[test]
fn a_job_that_died_before_its_output_was_recorded_takes_the_empty_file_over() {
    let job = TestJob::new();
    fs::create_dir_all(job.dir.default_output()).unwrap();
    fs::write(job.partial(), "").unwrap();
    complete(&job, &mut job.open());
    job.assert_sound();
}

#[test]
fn a_rename_that_was_done_is_taken_as_done() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results((0..9).map(|id| job.returned(id, 1))));
    aggregate.set_state(JobState::Finalizing, None).unwrap();
    drop(aggregate);
    fs::rename(job.partial(), job.target()).unwrap();
    let mut aggregate = job.open();
    aggregate.finish().unwrap();
    assert_eq!(aggregate.state(), JobState::Completed);
    job.assert_sound();
}

#[test]
fn a_final_name_given_by_a_link_loses_the_other_name() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results((0..9).map(|id| job.returned(id, 1))));
    aggregate.set_state(JobState::Finalizing, None).unwrap();
    drop(aggregate);
    fs::hard_link(job.partial(), job.target()).unwrap();
    let mut aggregate = job.open();
    assert!(!job.partial().exists());
    aggregate.finish().unwrap();
    job.assert_sound();
}

#[test]
fn a_completed_job_stays_as_it_is_even_without_its_output() {
    let job = TestJob::new();
    complete(&job, &mut job.open());
    fs::remove_file(job.target()).unwrap();
    let (mut aggregate, recovered) = job.try_open().unwrap();
    assert_eq!(recovered.status.state, JobState::Completed);
    let late = commit(&mut aggregate, &results([job.returned(0, 1)]));
    assert_eq!((late.duplicates, late.bytes), (1, 0));
    aggregate.finish().unwrap();
    assert!(!job.target().exists() && !job.partial().exists());
}

#[test]
fn a_half_made_ledger_is_made_anew() {
    let job = TestJob::new();
    fs::create_dir_all(job.dir.internal()).unwrap();
    fs::write(job.dir.internal().join("ledger.sqlite.new"), "half").unwrap();
    complete(&job, &mut job.open());
    job.assert_sound();
}

#[test]
fn a_moved_job_directory_goes_on() {
    let mut job = TestJob::new();
    commit(&mut job.open(), &results([job.returned(0, 1)]));
    let moved = job.dir.root().with_file_name("moved");
    fs::rename(job.dir.root(), &moved).unwrap();
    job.dir = JobDir::new(&moved);
    job.output = Some(job.dir.default_output().join("out.txt"));
    complete(&job, &mut job.open());
    job.assert_sound();
}

#[test]
fn a_ledger_that_lies_elsewhere_is_found_by_its_pointer() {
    let job = TestJob::new();
    commit(&mut job.open(), &results([job.returned(0, 1)]));
    let elsewhere = job.dir.root().with_file_name("elsewhere.sqlite");
    fs::rename(job.dir.ledger(), &elsewhere).unwrap();
    fs::write(job.dir.ledger_pointer(), elsewhere.as_os_str().as_encoded_bytes()).unwrap();
    let mut aggregate = job.open();
    assert_eq!(aggregate.totals().mini_batches_succeeded, 1);
    complete(&job, &mut aggregate);
    assert!(!job.dir.ledger().exists());
    job.assert_sound();
    drop(aggregate);
    fs::remove_file(&elsewhere).unwrap();
    let error = job.try_open().map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("ledger `{}`, named by `", elsewhere.display())), "{error}");
}

/// Kills a second program, which runs the test `a_whole_job`, at every point in turn, again and again until it gets through.
#[cfg(feature = "failpoints")]
mod killed {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    const POINTS: [&str; 9] = [
        "commit_begin",
        "commit_half_written",
        "commit_after_write",
        "commit_after_sync",
        "commit_after_transaction",
        "finish_before_rename",
        "finish_after_rename",
        "finish_after_dirsync",
        "finish_done",
    ];

    /// In the program that is killed: does what is left of the job, two mini-batches to a commit.
    #[test]
    fn a_whole_job() {
        let Some(root) = std::env::var_os("FANFOLD_TEST_JOB") else {
            return;
        };
        let mut job = TestJob::new();
        job.dir = JobDir::new(PathBuf::from(root));
        job.output = Some(job.dir.default_output().join("out.txt"));
        let mut aggregate = job.open();
        for id in (0..9).step_by(2) {
            let outcomes = [job.failed(id, 1), job.returned(id, 2)].into_iter();
            commit(&mut aggregate, &results(outcomes.chain((id < 8).then(|| job.returned(id + 1, 1)))));
        }
        aggregate.finish().unwrap();
    }

    #[test]
    fn killed_at_every_point_the_job_ends_as_if_nothing_had_been() {
        let this = std::env::current_exe().unwrap();
        for point in POINTS {
            let commits = if point.starts_with("commit") { 5 } else { 1 };
            for nth in 1..=commits {
                let job = TestJob::new();
                let run = |fault: Option<String>| {
                    let mut command = Command::new(&this);
                    command.args(["--exact", "aggregate::tests::crashes::killed::a_whole_job"]);
                    command.env("FANFOLD_TEST_JOB", job.dir.root()).stdout(Stdio::null()).stderr(Stdio::null());
                    command.envs(fault.map(|fault| ("FANFOLD_FAILPOINT", fault)));
                    command.status().unwrap()
                };
                let died = run(Some(format!("{point}:{nth}")));
                assert_eq!(died.signal(), Some(libc::SIGKILL), "{point}:{nth} is never reached");
                job.assert_sound();
                assert!(run(None).success(), "{point}:{nth}: the next start");
                job.assert_sound();
                let mut rows: Vec<String> =
                    fs::read_to_string(job.target()).unwrap().lines().map(String::from).collect();
                rows.sort_by_key(|row| row[4..].parse::<u64>().unwrap());
                assert_eq!(rows, (0..40).map(|item| format!("row {item}")).collect::<Vec<_>>(), "{point}:{nth}");
                let totals = crate::ledger::LedgerReader::open(&job.dir).unwrap().totals().unwrap();
                assert_eq!((totals.attempts, totals.attempts_failed), (14, 5), "{point}:{nth}");
            }
        }
    }
}
