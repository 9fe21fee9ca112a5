//! Signals at every moment of a job: what runs is finished or killed, nothing committed is lost or run again, no child is left.
//! (That no child is left is what every `Place` checks when it is dropped.)

#[path = "support/running.rs"]
mod running;
mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use running::{
    GATED, Running, SmallDisk, begun, for_signals, job_of, open_gate, skip, wait_for_state, wait_until_begun,
};
use support::{LIMIT, Place, assert_each_once, finish, lines, wait_for};

/// A kill is not a wait for any limit of the job.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A gated job of 12 mini-batches; two of them run when this returns.
fn gated(place: &Place) -> (Vec<String>, Running) {
    let items = place.write_items(12);
    job_of(place, GATED, "");
    let running = Running::job(place);
    wait_until_begun(place, 2);
    (items, running)
}

/// Goes on with an interrupted job, to its end.
#[track_caller]
fn continue_to_the_end(place: &Place, items: &[String]) {
    open_gate(place);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), items);
    assert_eq!(place.status()["state"], "Completed");
}

fn partial(place: &Place) -> Vec<String> {
    lines(&place.job().join("output/parallel_run_step.txt.partial"))
}

/// Interrupts by `send`, once: what runs is finished, nothing new begins, and nothing at all is run twice.
#[track_caller]
fn once(send: impl FnOnce(&Running), code: i32) {
    let place = Place::new();
    let (items, mut running) = gated(&place);
    send(&running);
    running.wait_until_said("interrupted: finishing what runs");
    open_gate(&place);
    let said = running.ends(LIMIT, code);
    assert!(said.contains("Paused") && said.contains("--job-dir"), "it says how to go on:\n{said}");
    assert_eq!(begun(&place).len(), 2, "nothing new began");
    assert_each_once(&partial(&place), &begun(&place));
    assert_eq!(place.status()["state"], "Paused");
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
    place.nothing_left().unwrap();
    continue_to_the_end(&place, &items);
    assert_each_once(&begun(&place), &items);
}

/// Interrupts by `signal`, twice: what runs is killed, and charged nothing.
#[track_caller]
fn twice(signal: Signal, code: i32) {
    let place = Place::new();
    let (items, mut running) = gated(&place);
    running.signal(signal);
    running.wait_until_said("interrupted: finishing what runs");
    running.signal(signal);
    running.ends(AT_ONCE, code);
    assert_eq!(place.status()["state"], "Paused");
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
    assert_eq!(partial(&place), [""; 0]);
    place.nothing_left().unwrap();
    continue_to_the_end(&place, &items);
    assert_eq!(place.errors(), [serde_json::Value::Null; 0]);
}

#[test]
fn ctrl_c_of_a_terminal_reaches_the_whole_group_and_finishes_what_runs() {
    once(|running| running.signal_group(Signal::SIGINT), 130);
}

#[test]
fn sigterm_finishes_what_runs() {
    once(|running| running.signal(Signal::SIGTERM), 143);
}

#[test]
fn sighup_is_as_sigterm() {
    once(|running| running.signal(Signal::SIGHUP), 143);
}

#[test]
fn ctrl_c_twice_kills_what_runs() {
    twice(Signal::SIGINT, 130);
}

#[test]
fn sigterm_twice_kills_what_runs() {
    twice(Signal::SIGTERM, 143);
}

#[test]
fn the_exit_code_is_that_of_the_first_signal() {
    let place = Place::new();
    let (_, mut running) = gated(&place);
    running.signal(Signal::SIGTERM);
    running.wait_until_said("interrupted: finishing what runs");
    running.signal(Signal::SIGINT);
    running.ends(AT_ONCE, 143);
}

#[test]
fn what_ran_last_completes_the_job() {
    let place = Place::new();
    let items = place.write_items(2);
    job_of(&place, GATED, "");
    let mut running = Running::job(&place);
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGINT);
    running.wait_until_said("interrupted: finishing what runs");
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["state"], "Completed");
}

#[test]
fn a_run_that_hangs_delays_the_pause_by_its_limit_and_no_more() {
    let place = Place::new();
    place.write_items(6);
    job_of(&place, GATED, "run_invocation_timeout: 1\nrun_max_try: 10\n");
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGINT);
    // 1 s, and time to start and stop on a busy machine; the bound of the drain itself (a minute more) is not needed.
    running.ends(Duration::from_secs(20), 130);
    let status = place.status();
    assert_eq!(status["state"], "Paused");
    assert!(status["counts"]["attempts_failed"].as_u64() >= Some(1), "the hanging attempts are charged: {status:#}");
    assert!(place.errors().iter().all(|error| error["kind"] == "timeout"));
}

#[test]
fn a_process_that_ignores_sigterm_and_never_leaves_is_killed() {
    let place = Place::new();
    let items = place.write_items(6);
    let script = format!(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{GATED}\n\
         def shutdown():\n    while True:\n        time.sleep(1)\n"
    );
    job_of(&place, &script, "task_overhead_timeout: 1\n");
    let mut running = Running::job(&place);
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGINT);
    running.wait_until_said("interrupted: finishing what runs");
    open_gate(&place);
    running.ends(Duration::from_secs(30), 130);
    assert_each_once(&partial(&place), &begun(&place));
    place.nothing_left().unwrap();
    place.write("score.py", &script);
    continue_to_the_end(&place, &items);
}

#[test]
fn an_init_in_progress_is_not_waited_for() {
    let place = Place::new();
    place.write_items(6);
    let script = "import os, time\ndef init():\n    open(os.path.join(os.environ['PLACE'], 'begun.txt'), 'a').write('init\\n')\n    \
                  time.sleep(1000)\ndef run(mini_batch):\n    return mini_batch\n";
    job_of(&place, script, "");
    let running = Running::job(&place);
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGINT);
    running.ends(AT_ONCE, 130);
    assert_eq!(place.status()["state"], "Paused");
}

#[test]
fn while_a_big_folder_is_listed() {
    let place = Place::new();
    place.write("data/folder/file", "");
    for i in 0..2000 {
        fs::hard_link(place.path("data/folder/file"), place.path(format!("data/folder/{i}"))).unwrap();
    }
    // Links are followed: ten million files for the price of a few.
    for i in 0..5000 {
        std::os::unix::fs::symlink("folder", place.path(format!("data/link{i}"))).unwrap();
    }
    place.write("score.py", GATED);
    place.write("job.yaml", "name: attack\nentry_script: score.py\ninputs: [data]\n");
    let list = place.job().join(".fanfold/items");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let running = Running::job(&place);
        wait_for("the listing to begin", || list.exists().then_some(()));
        running.signal(signal);
        let said = running.ends(AT_ONCE, code);
        assert!(said.contains("interrupted while the inputs were listed"), "{said}");
        assert!(!list.exists(), "what was never a job leaves nothing behind");
    }
}

#[test]
fn while_an_environment_is_built() {
    let place = Place::new();
    place.write_items(3);
    // An index that never answers: pip waits for it.
    let index = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = index.local_addr().unwrap().port();
    job_of(&place, GATED, "environment: {requirements: [no-such-thing]}\n");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    command.env("PIP_INDEX_URL", format!("http://127.0.0.1:{port}/simple")).env("PIP_CONFIG_FILE", "/dev/null");
    let running = Running::start(&place, command);
    let _pip = index.accept().unwrap();
    assert_eq!(place.status()["state"], "Preparing");
    running.signal(Signal::SIGTERM);
    running.ends(AT_ONCE, 143);
    assert_eq!(place.status()["state"], "Paused");
    assert_eq!(place.status()["counts"]["mini_batches_remaining"], 3);
}

#[test]
fn while_the_disk_is_full() {
    let place = Place::new();
    let items = place.write_items(12);
    job_of(&place, GATED, "");
    let Some((mut command, disk)) = SmallDisk::command(&place, "disk", "16m") else { return };
    let copy = place.path("copy");
    command.args(["run", "job.yaml", "--job-dir", "disk/job"]);
    // Kept for the second half of the test: the disk is gone with the program.
    let keep = format!("\"$@\"; code=$?; cp -a disk/job '{}'; exit $code", copy.display());
    let mut outer = Command::new("true");
    std::mem::swap(&mut outer, &mut command);
    let command = keeping(outer, &keep);
    let mut running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    disk.fill(&running);
    open_gate(&place);
    running.wait_until_said("Blocked: disk full");
    let program = program_in(&disk, &running);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(program), Signal::SIGTERM).unwrap();
    let said = running.ends(LIMIT, 143);
    assert!(said.contains("Paused"), "{said}");
    place.nothing_left().unwrap();
    // Nothing could be committed, nothing is lost.
    let _ = fs::remove_file(copy.join("filler"));
    fs::rename(&copy, place.job()).unwrap();
    continue_to_the_end(&place, &items);
}

/// Runs `command` (an `unshare … sh -c … exec fanfold …`) with its last step replaced by a shell that runs it and `then` more.
fn keeping(command: Command, script: &str) -> Command {
    let mut args: Vec<_> = command.get_args().map(|arg| arg.to_os_string()).collect();
    let at = args.iter().position(|arg| arg == support::FANFOLD).expect("it runs the program");
    args.splice(at..at, ["sh", "-c", script, "sh"].map(Into::into));
    let mut keeping = Command::new(command.get_program());
    keeping.args(args).current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => keeping.env(name, value),
            None => keeping.env_remove(name),
        };
    }
    keeping
}

/// The process id in `status.json` on the disk.
fn program_in(disk: &SmallDisk, running: &Running) -> i32 {
    let status = fs::read(disk.seen_by(running).join("job/status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["pid"].as_i64().unwrap() as i32
}

#[test]
fn while_it_is_finalizing_it_completes() {
    let place = Place::new();
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return skip("no strace: a signal while Finalizing is not tried");
    }
    let items = place.write_items(4);
    job_of(&place, GATED, "");
    open_gate(&place);
    let fanfold = place.fanfold();
    let mut command = Command::new("strace");
    // The last step, giving the output its name, takes two seconds.
    command.args([
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=renameat2",
        "-e",
        "inject=renameat2:delay_enter=2000000",
        "-f",
    ]);
    command.arg(fanfold.get_program()).args(["run", "job.yaml", "--job-dir", "job"]).current_dir(place.path(""));
    command.envs(fanfold.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env_remove("FANFOLD_FAILPOINT");
    let running = Running::start(&place, command);
    wait_for_state(&place, "Finalizing");
    let pid = place.status()["pid"].as_i64().unwrap() as i32;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["state"], "Completed");
}

#[test]
fn under_nohup_a_hangup_changes_nothing() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, "");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    // As nohup does it, and a shell for `&` without job control.
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    nohup.current_dir(place.path("")).stdin(Stdio::null());
    nohup.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let running = Running::start(&place, nohup);
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGHUP);
    running.signal_group(Signal::SIGINT);
    open_gate(&place);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn nobody_reads_any_more_and_the_parent_is_gone() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, "");
    let fanfold = place.fanfold();
    let mut shell = Command::new("sh");
    // Not `exec`: the shell is a process that can be killed.
    shell.args(["-c", "\"$@\"; true", "sh"]).arg(fanfold.get_program()).args(["run", "job.yaml", "--job-dir", "job"]);
    shell.current_dir(place.path("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.envs(fanfold.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut shell = shell.spawn().unwrap();
    wait_until_begun(&place, 2);
    shell.kill().unwrap();
    shell.wait().unwrap();
    drop(shell);
    open_gate(&place);
    wait_for_state(&place, "Completed");
    wait_for("the program to end", || place.nothing_left().ok());
    assert_each_once(&place.rows(), &items);
    assert!(fs::read_to_string(place.job().join("logs/job_result.txt")).unwrap().starts_with("State: Completed"));
}

/// A pseudo-terminal: the side of the screen, and the side of the program.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut screen, mut program) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both integers are alive; name, modes and size may be null. The descriptors are new and ours.
    unsafe {
        assert_eq!(libc::openpty(&mut screen, &mut program, null, null.cast(), null.cast()), 0);
        libc::fcntl(screen, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(screen), OwnedFd::from_raw_fd(program))
    }
}

/// Runs the gated job on a terminal of its own. Returns the screen.
fn on_a_terminal(place: &Place) -> (OwnedFd, std::process::Child) {
    let (screen, program) = terminal();
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("TERM", "xterm");
    let copy = || Stdio::from(program.try_clone().unwrap());
    command.stdin(copy()).stdout(copy()).stderr(copy());
    for_signals(&mut command, libc::SIG_DFL, &[libc::SIGHUP, libc::SIGINT]);
    // SAFETY: system calls only.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let child = command.spawn().unwrap();
    (screen, child)
}

#[test]
fn the_key_ctrl_c_on_a_real_terminal() {
    let place = Place::new();
    let items = place.write_items(12);
    job_of(&place, GATED, "");
    let (screen, mut child) = on_a_terminal(&place);
    wait_until_begun(&place, 2);
    // What nobody reads would stop the program's writes to its terminal.
    let mut keys = fs::File::from(screen);
    let read = keys.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut file, mut shown) = (read, Vec::new());
        // The read ends with EIO when the program is gone.
        let _ = std::io::Read::read_to_end(&mut file, &mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    keys.write_all(b"\x03").unwrap();
    wait_for("the interruption to be noted", || {
        let log = fs::read_to_string(place.job().join("logs/sys/master_role.txt")).ok()?;
        log.contains("interrupted").then_some(())
    });
    open_gate(&place);
    let status = wait_for("the program to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    drop(keys);
    let shown = reader.join().unwrap();
    assert!(shown.contains("Paused"), "{shown}");
    assert_eq!(begun(&place).len(), 2);
    continue_to_the_end(&place, &items);
}

#[test]
fn a_terminal_that_is_closed_pauses_the_job() {
    let place = Place::new();
    let items = place.write_items(12);
    job_of(&place, GATED, "");
    let (screen, mut child) = on_a_terminal(&place);
    wait_until_begun(&place, 2);
    let number = screen.as_raw_fd();
    assert!(number > 2);
    drop(screen);
    open_gate(&place);
    let status = wait_for("the program to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(143));
    assert_eq!(place.status()["state"], "Paused");
    continue_to_the_end(&place, &items);
}

#[test]
fn a_job_that_was_interrupted_before_it_began_anything_goes_on() {
    let place = Place::new();
    let items = place.write_items(6);
    job_of(&place, GATED, "");
    // At any moment of the first second: wherever it hits, the next run completes the job.
    for delay in [0, 20, 60, 150] {
        let mut command = place.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]);
        let child = command.process_group(0).spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        wait_for("the program to take signals", || takes_signals(pid.as_raw()).then_some(()));
        std::thread::sleep(Duration::from_millis(delay));
        nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let ran = finish(child, LIMIT);
        assert!(matches!(ran.code, Some(130 | 143)), "{:?}\n{}", ran.code, ran.stderr);
        place.nothing_left().unwrap();
    }
    continue_to_the_end(&place, &items);
}

fn takes_signals(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap_or(0);
    caught >> (libc::SIGTERM - 1) & 1 == 1
}
