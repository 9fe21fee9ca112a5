//! Disks that are full, and disks that fail.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::running::{GATED, Running, SmallDisk, begun, job_of, open_gate, skip, wait_until_begun};
use crate::support::{LIMIT, Place, assert_each_once, lines, wait_for};

/// Rows so long that a filled disk has no room for them, while what is in memory already may still go somewhere.
const LONG: &str = "    return [item + 'x' * 5000 for item in mini_batch]\n";

fn gated_with_long_rows() -> String {
    GATED.replace("    return mini_batch\n", LONG)
}

fn items_of(rows: &[String]) -> Vec<String> {
    rows.iter().map(|row| row.chars().take(8).collect()).collect()
}

/// `status.json` as the program sees it.
fn status(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(path.join("status.json")).ok()?).ok()
}

#[test]
fn an_output_on_a_full_disk_blocks_the_job_until_there_is_room() {
    let place = Place::new();
    let items = place.write_items(40);
    let output = format!("output: {}/disk/out\nrun_max_try: 1\n", place.path("").display());
    job_of(&place, &gated_with_long_rows(), &output);
    let Some((mut command, disk)) = SmallDisk::command(&place, "disk", "4m") else { return };
    // What becomes of the disk is asked before it goes with the program.
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    let command = copying(&place, command, "disk/out");
    let mut running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    disk.fill(&running);
    open_gate(&place);
    running.wait_until_said("Blocked: disk full");
    let blocked =
        wait_for("the reason in status.json", || status(&place.job())?["blocked"].as_str().map(str::to_string));
    assert!(blocked.contains("disk/out/parallel_run_step.txt") && blocked.contains("goes on by itself"), "{blocked}");
    assert_eq!(place.status()["state"], "Running");
    disk.make_room(&running);
    running.ends(LIMIT, 0);
    assert_each_once(&items_of(&lines(&place.path("copy/parallel_run_step.txt"))), &items);
    assert_each_once(&begun(&place), &items);
    assert_eq!(place.status()["blocked"], serde_json::Value::Null);
}

#[test]
fn a_job_directory_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let place = Place::new();
    let items = place.write_items(40);
    job_of(&place, &gated_with_long_rows(), "run_max_try: 1\n");
    let Some((mut command, disk)) = SmallDisk::command(&place, "disk", "8m") else { return };
    command.args(["run", "job.yaml", "--job-dir", "disk/job"]);
    let command = copying(&place, command, "disk/job");
    let mut running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    disk.fill(&running);
    open_gate(&place);
    running.wait_until_said("Blocked: disk full");
    let job = disk.seen_by(&running).join("job");
    let blocked = wait_for("the reason in status.json, full disk or not", || {
        status(&job)?["blocked"].as_str().map(str::to_string)
    });
    assert!(blocked.contains("disk full"), "{blocked}");
    disk.make_room(&running);
    running.ends(LIMIT, 0);
    assert_each_once(&items_of(&lines(&place.path("copy/output/parallel_run_step.txt"))), &items);
    assert_each_once(&begun(&place), &items);
    let verified = place.run(&["doctor", "--verify", "copy"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[test]
fn a_process_that_dies_on_a_full_disk_is_replaced_when_there_is_room() {
    let place = Place::new();
    let items = place.write_items(20);
    job_of(&place, GATED, "progress_update_timeout: 3\n");
    let Some((mut command, disk)) = SmallDisk::command(&place, "disk", "8m") else { return };
    command.args(["run", "job.yaml", "--job-dir", "disk/job"]);
    let command = copying(&place, command, "disk/job/output");
    let mut running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    let job = disk.seen_by(&running).join("job");
    let pids = wait_for("the processes", || {
        let pids: Vec<i64> = status(&job)?["processes"].as_array()?.iter().filter_map(|p| p["pid"].as_i64()).collect();
        (pids.len() == 2).then_some(pids)
    });
    disk.fill(&running);
    for pid in pids {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    running.wait_until_said("Blocked: ");
    std::thread::sleep(std::time::Duration::from_secs(4));
    disk.make_room(&running);
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&lines(&place.path("copy/parallel_run_step.txt")), &items);
}

#[test]
fn logs_on_a_full_disk_stop_nothing() {
    let place = Place::new();
    let items = place.write_items(40);
    let script = GATED.replace("    return mini_batch\n", "    print('x' * 5000)\n    return mini_batch\n");
    job_of(&place, &script, "run_max_try: 1\n");
    let mut running = Running::job(&place);
    wait_until_begun(&place, 2);
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.wait_until_said("interrupted");
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.ends(LIMIT, 130);

    // The same job goes on with its logs on a disk that has no room from the beginning.
    let Some((mut command, disk)) = SmallDisk::command(&place, "job/logs", "64k") else { return };
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    let running = Running::start(&place, command);
    disk.fill(&running);
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
}

#[test]
fn a_spool_on_a_full_disk_is_waited_for() {
    let place = Place::new();
    let items = place.write_items(4);
    let script =
        GATED.replace("    return mini_batch\n", "    return [item + 'x' * 12000000 for item in mini_batch]\n");
    job_of(&place, &script, "run_max_try: 1\ntask_overhead_timeout: 2\nprogress_update_timeout: 3\n");
    // Room for the spool of two, and for the output of four.
    let Some((mut command, disk)) = SmallDisk::command(&place, "disk", "100m") else { return };
    command.args(["run", "job.yaml", "--job-dir", "disk/job"]);
    let command = copying(&place, command, "disk/job/output");
    let running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    disk.fill(&running);
    open_gate(&place);
    // Nobody is charged for the wait, whatever the limits, and the job says what it waits for.
    let job = disk.seen_by(&running).join("job");
    wait_for("the reason in status.json", || status(&job)?["blocked"].as_str().map(str::to_string));
    std::thread::sleep(std::time::Duration::from_secs(4));
    wait_for("the reason in status.json", || status(&job)?["blocked"].as_str().map(str::to_string));
    disk.make_room(&running);
    running.ends(LIMIT, 0);
    assert_each_once(&items_of(&lines(&place.path("copy/parallel_run_step.txt"))), &items);
    assert_each_once(&begun(&place), &items);
}

/// `command` (an `unshare … fanfold …`), and afterwards a copy of `what` as `copy` where the test can see it.
fn copying(place: &Place, command: Command, what: &str) -> Command {
    let script = format!("\"$@\"; code=$?; cp -a {what} '{}'; exit $code", place.path("copy").display());
    let mut args: Vec<_> = command.get_args().map(|arg| arg.to_os_string()).collect();
    let at = args.iter().position(|arg| arg == crate::support::FANFOLD).expect("it runs the program");
    args.splice(at..at, ["sh", "-c", &script, "sh"].map(Into::into));
    let mut copying = Command::new(command.get_program());
    copying.args(args).current_dir(place.path("")).stdin(Stdio::null());
    copying.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    copying
}

/// The job under strace, which makes `call` on `file` of the job directory fail as `how` says. None: no strace.
fn failing(place: &Place, call: &str, file: &str, how: &str) -> Option<Running> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        skip("no strace: failing disks are not tried");
        return None;
    }
    let fanfold = place.fanfold();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:{how}"), "-P"]).arg(place.job().join(file));
    command.arg(fanfold.get_program()).args(["run", "job.yaml", "--job-dir", "job"]).current_dir(place.path(""));
    command.envs(fanfold.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    Some(Running::start(place, command))
}

/// Many small commits.
const SLOWLY: &str = "import time\ndef run(mini_batch):\n    time.sleep(0.02)\n    return mini_batch\n";
const OUTPUT: &str = "output/parallel_run_step.txt.partial";

fn job_with_many_commits(place: &Place) -> Vec<String> {
    let items = place.write_items(60);
    job_of(place, SLOWLY, "");
    items
}

#[test]
fn a_sync_that_fails_once_is_made_good() {
    for error in ["EIO", "ENOSPC", "EDQUOT"] {
        let place = Place::new();
        let items = job_with_many_commits(&place);
        let Some(running) = failing(&place, "fdatasync", OUTPUT, &format!("error={error}:when=3")) else { return };
        running.ends(LIMIT, 0);
        assert_each_once(&place.rows(), &items);
    }
}

#[test]
fn a_write_that_fails_once_is_made_good() {
    for error in ["EIO", "ENOSPC"] {
        let place = Place::new();
        let items = job_with_many_commits(&place);
        let Some(running) = failing(&place, "pwrite64", OUTPUT, &format!("error={error}:when=3")) else { return };
        running.ends(LIMIT, 0);
        assert_each_once(&place.rows(), &items);
    }
}

#[test]
fn an_output_that_keeps_failing_ends_the_program_and_the_next_run_goes_on() {
    for call in ["fdatasync", "pwrite64"] {
        let place = Place::new();
        let items = job_with_many_commits(&place);
        let Some(running) = failing(&place, call, OUTPUT, "error=EIO:when=3..4") else { return };
        let said = running.ends(LIMIT, 1);
        assert!(said.contains("parallel_run_step.txt.partial") && said.contains("hint:"), "{said}");
        place.nothing_left().unwrap();
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        assert_each_once(&place.rows(), &items);
    }
}

#[test]
fn a_ledger_that_fails_ends_the_program_and_the_next_run_goes_on() {
    // Which of the two SQLite asks for is its affair.
    for (call, how) in [("fdatasync,fsync", "error=EIO:when=12"), ("pwrite64", "error=EIO:when=25")] {
        let place = Place::new();
        let items = job_with_many_commits(&place);
        let Some(running) = failing(&place, call, ".fanfold/ledger.sqlite-wal", how) else { return };
        let said = running.ends(LIMIT, 1);
        assert!(said.contains("ledger"), "{call}: {said}");
        place.nothing_left().unwrap();
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        assert_each_once(&place.rows(), &items);
    }
}
