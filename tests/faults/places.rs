//! Directories that are shared, deleted, far away or oddly called.

use std::fs;
use std::path::PathBuf;

use crate::running::{GATED, Running, begun, job_of, open_gate, skip, wait_until_begun};
use crate::support::{LIMIT, Place, assert_each_once, lines};

#[test]
fn a_second_program_on_a_job_directory_is_refused_and_told_who_has_it() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, "");
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    let second = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
    assert!(second.stderr.contains(&format!("process {} on ", running.pid())), "{}", second.stderr);
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert_each_once(&begun(&place), &items);
}

#[test]
fn two_jobs_never_write_to_one_output() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, &format!("output: {}\n", place.path("shared").display()));
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    let second = place.run(&["run", "job.yaml", "--job-dir", "other"]).expect(2);
    assert!(second.stderr.contains("is being written by another program"), "{}", second.stderr);
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&lines(&place.path("shared/parallel_run_step.txt")), &items);
    let third = place.run(&["run", "job.yaml", "--job-dir", "other"]).expect(2);
    assert!(third.stderr.contains("exists already and is not this job's"), "{}", third.stderr);
}

#[test]
fn a_job_directory_that_is_deleted_ends_the_job_with_a_word() {
    let place = Place::new();
    place.write_items(6);
    job_of(&place, GATED, "");
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    fs::remove_dir_all(place.job()).unwrap();
    open_gate(&place);
    let said = running.ends(LIMIT, 1);
    assert!(said.contains("error:") && said.contains(&*place.job().to_string_lossy()), "{said}");
    assert!(!place.job().join("output/parallel_run_step.txt").exists());
}

#[test]
fn an_output_directory_that_is_deleted_ends_the_job_with_a_word() {
    let place = Place::new();
    place.write_items(6);
    job_of(&place, GATED, &format!("output: {}\n", place.path("out").display()));
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    fs::remove_dir_all(place.path("out")).unwrap();
    open_gate(&place);
    let said = running.ends(LIMIT, 1);
    assert!(said.contains("error:") && said.contains("out/parallel_run_step.txt"), "{said}");
    // What was lost is not papered over.
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]);
    assert_ne!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("parallel_run_step.txt"), "{}", again.stderr);
}

#[test]
fn an_output_on_another_file_system() {
    let shm = PathBuf::from("/dev/shm");
    let Ok(far) = tempfile::Builder::new().prefix("fanfold-test-").tempdir_in(&shm) else {
        return skip("no /dev/shm: an output on another file system is not tried");
    };
    let place = Place::new();
    let items = place.write_items(20);
    job_of(&place, GATED, &format!("output: {}\n", far.path().join("deep/out").display()));
    open_gate(&place);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&lines(&far.path().join("deep/out/parallel_run_step.txt")), &items);
}

#[test]
fn directories_with_spaces_quotes_and_letters_of_the_world() {
    let place = Place::new();
    let items = place.write_items(20);
    job_of(&place, GATED, "");
    open_gate(&place);
    for name in ["a job", "l'été à Zürich", "作业 😀", "tab\there", "$HOME `x` \"q\" \\n %s {0}"] {
        place.run(&["run", "job.yaml", "--job-dir", name]).expect(0);
        assert_each_once(&lines(&place.path(name).join("output/parallel_run_step.txt")), &items);
        let status = place.run(&["status", name]).expect(0);
        assert!(status.stdout.contains("Completed"), "{}", status.stdout);
    }
}

#[test]
fn a_guardian_that_is_killed_stops_no_job() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, "");
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid())).unwrap();
    let guardian = children.split_whitespace().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--fanfold-guard"))
    });
    let guardian: i32 = guardian.expect("there is a guardian").parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guardian), nix::sys::signal::Signal::SIGKILL).unwrap();
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
}
