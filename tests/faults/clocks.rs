//! Processes and programs that stand still, and clocks that lie.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::running::{GATED, Running, begun, job_of, open_gate, skip, wait_until_begun};
use crate::support::{LIMIT, Place, assert_each_once, wait_for};

/// The Python processes of a running job, by `status.json`.
fn processes(place: &Place, count: usize) -> Vec<Pid> {
    wait_for("the processes in status.json", || {
        let text = fs::read(place.job().join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let pids = status["processes"].as_array()?.iter().filter_map(|process| process["pid"].as_i64());
        let pids: Vec<Pid> = pids.map(|pid| Pid::from_raw(pid as i32)).collect();
        (pids.len() == count).then_some(pids)
    })
}

#[test]
fn a_process_that_stands_still_is_charged_and_replaced() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, "run_invocation_timeout: 2\n");
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    let stopped = processes(&place, 2)[0];
    kill(stopped, Signal::SIGSTOP).unwrap();
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["counts"]["attempts_failed"], 1);
    assert_eq!(begun(&place).len(), 7, "only the mini-batch that stood still was run again");
    let log = fs::read_to_string(place.job().join("logs/user/error/0/process000.txt"))
        .or_else(|_| fs::read_to_string(place.job().join("logs/user/error/0/process001.txt")))
        .unwrap();
    assert!(log.contains("run_invocation_timeout"), "{log}");
}

/// Half a second for each item; long enough to be in the middle of one, short enough for its limit.
const BRISK: &str = "import time\ndef run(mini_batch):\n    time.sleep(0.5)\n    return mini_batch\n";

/// Stops what `who` says for longer than every limit of the job.
fn standstill(place: &Place, script: &str, who: impl Fn(&Running) -> Vec<Pid>) {
    let items = place.write_items(12);
    job_of(
        place,
        script,
        "run_invocation_timeout: 2\ntask_overhead_timeout: 2\nprogress_update_timeout: 3\nrun_max_try: 1\n",
    );
    let running = Running::job(place);
    wait_for("the first results", || {
        let text = fs::read_to_string(place.job().join("output/parallel_run_step.txt.partial")).ok()?;
        (text.lines().count() >= 2).then_some(())
    });
    let stopped = who(&running);
    stopped.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
    std::thread::sleep(Duration::from_secs(5));
    stopped.iter().rev().for_each(|pid| kill(*pid, Signal::SIGCONT).unwrap());
    running.ends(LIMIT, 0);
    let keys: Vec<String> = place.rows().iter().map(|row| row.chars().take(8).collect()).collect();
    assert_each_once(&keys, &items);
    assert_eq!(place.status()["counts"]["attempts_failed"], 0, "nobody is charged with the standstill");
}

#[test]
fn a_program_that_was_stopped_charges_nobody() {
    let place = Place::new();
    standstill(&place, BRISK, |running| vec![Pid::from_raw(running.pid())]);
}

#[test]
fn a_frozen_machine_charges_nobody() {
    let place = Place::new();
    standstill(&place, BRISK, |running| {
        let mut all = processes(&place, 2);
        all.push(Pid::from_raw(running.pid()));
        all
    });
}

#[test]
fn an_answer_that_waited_in_the_pipe_while_the_program_was_stopped_is_taken() {
    let place = Place::new();
    // More than a pipe holds.
    let script = "import time\ndef run(mini_batch):\n    time.sleep(0.3)\n    return [item + 'x' * 3000000 for item in mini_batch]\n";
    standstill(&place, script, |running| vec![Pid::from_raw(running.pid())]);
}

/// Overrides the time of day with one that jumps back and forth by days and decades with every reading.
const LYING_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long jump(void) {
    static const long jumps[] = {0, -3600, 86400, -1262304000, 1262304000, -1};
    static unsigned at;
    return jumps[__atomic_fetch_add(&at, 1, __ATOMIC_RELAXED) % 6];
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(clock, time);
    if (clock == CLOCK_REALTIME) time->tv_sec += jump();
    return outcome;
}
int gettimeofday(struct timeval *time, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"#;

#[test]
fn no_limit_goes_by_the_time_of_day() {
    let place = Place::new();
    let source = place.write("lying_clock.c", LYING_CLOCK);
    let library = place.path("lying_clock.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    if !built.is_ok_and(|built| built.success()) {
        return skip("no C compiler: a clock that lies is not tried");
    }
    let items = place.write_items(10);
    let script = "import time\nBEGAN = time.time()\ndef run(mini_batch):\n    time.sleep(0.1)\n    \
                  return ['%s %d' % (item, abs(time.time() - BEGAN) > 1800) for item in mini_batch]\n";
    job_of(&place, script, "run_max_try: 1\n");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("LD_PRELOAD", &library).stdin(Stdio::null());
    Running::start(&place, command).ends(LIMIT, 0);
    let rows = place.rows();
    let keys: Vec<String> = rows.iter().map(|row| row[..8].to_string()).collect();
    assert_each_once(&keys, &items);
    assert!(rows.iter().any(|row| row.ends_with('1')), "the clock did lie: {rows:?}");
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
}
