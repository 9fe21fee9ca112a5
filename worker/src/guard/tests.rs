//! Real processes, shell scripts and the guardian included. The test program itself is what a guardian executes, and
//! what plays the worker that gets killed: see [`BEFORE_MAIN`].

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Runs before the test harness reads its arguments, as `run_if_guard` must.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        run_if_guard();
        if let (Ok(role), Ok(dir)) = (std::env::var("TEST_GUARD_ROLE"), std::env::var("DIR")) {
            match role.as_str() {
                "worker" => role_worker(Path::new(&dir)),
                "orphans" => role_orphans(Path::new(&dir)),
                "builder" => crate::environment::tests::role_builder(Path::new(&dir)),
                other => panic!("no role {other}"),
            }
            std::process::exit(0);
        }
    }
    before_main
};

/// Leaves an orphan in a session of its own and a child that ignores signals; writes their pids, then waits.
const ESCAPES: &str = r#"
    (setsid sh -c 'sleep 1000 & echo $! >"$DIR/$NAME.orphans_child"; wait' & echo $! >"$DIR/$NAME.orphan")
    (trap '' TERM INT HUP; sleep 1000) &
    echo $! >"$DIR/$NAME.child"
    wait
"#;

fn job() -> JobId {
    JobId::new("guard-test")
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn script(text: &str, dir: &Path, name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]).env("DIR", dir).env("NAME", name).stdin(Stdio::null());
    command
}

/// Waits up to 10 s until `look` finds something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process whose pid a script writes to `file`.
fn written(dir: &Path, file: &str) -> proc_table::Process {
    until(file, || {
        let text = fs::read_to_string(dir.join(file)).ok()?;
        proc_table::read(text.strip_suffix('\n')?.parse().ok()?)
    })
}

fn escaped(dir: &Path, name: &str) -> Vec<proc_table::Process> {
    ["orphans_child", "orphan", "child"].map(|kind| written(dir, &format!("{name}.{kind}"))).to_vec()
}

fn is_gone(process: &proc_table::Process) -> bool {
    proc_table::read(process.pid).is_none_or(|now| now.started != process.started || !now.is_alive())
}

fn died_of(child: &mut Child) -> Option<i32> {
    child.wait().unwrap().signal()
}

#[test]
fn an_orphan_in_its_own_session_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&job(), &node("0"), &[]).unwrap();
    let mut child = guard.spawn(&mut script(ESCAPES, dir.path(), "a"), ProcessNumber(0)).unwrap();
    let escaped = escaped(dir.path(), "a");
    assert_ne!(escaped[1].session, child.id() as i32, "it did leave the session");

    let swept = guard.sweep(ProcessNumber(0), child.id());
    assert!(swept.survivors.is_empty());
    assert!(swept.killed >= 4, "{swept:?}");
    assert!(escaped.iter().all(is_gone));
    assert_eq!(died_of(&mut child), Some(libc::SIGKILL), "the child is the caller's to wait for");
    guard.stop();
}

#[test]
fn what_a_dead_process_left_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&job(), &node("0"), &[]).unwrap();
    let text = ESCAPES.replace("wait\n", "exit 7\n");
    let mut child = guard.spawn(&mut script(&text, dir.path(), "a"), ProcessNumber(0)).unwrap();
    let escaped = escaped(dir.path(), "a");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(!is_gone(&escaped[1]));
    assert!(guard.sweep(ProcessNumber(0), child.id()).survivors.is_empty());
    assert!(escaped.iter().all(is_gone));
    guard.stop();
}

#[test]
fn the_sweep_of_one_process_does_not_touch_another() {
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&job(), &node("0"), &[]).unwrap();
    let mut one = guard.spawn(&mut script(ESCAPES, dir.path(), "one"), ProcessNumber(1)).unwrap();
    let mut eleven = guard.spawn(&mut script(ESCAPES, dir.path(), "eleven"), ProcessNumber(11)).unwrap();
    let (ones, elevens) = (escaped(dir.path(), "one"), escaped(dir.path(), "eleven"));

    guard.sweep(ProcessNumber(1), one.id());
    assert!(ones.iter().all(is_gone));
    assert!(!elevens.iter().any(is_gone));
    assert_eq!(eleven.try_wait().unwrap(), None);

    guard.stop();
    assert!(elevens.iter().all(is_gone));
    assert_eq!((died_of(&mut one), died_of(&mut eleven)), (Some(libc::SIGKILL), Some(libc::SIGKILL)));
}

#[test]
fn a_process_that_keeps_starting_the_next_one_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let hop = dir.path().join("hop.sh");
    fs::write(&hop, "echo $$ >\"$DIR/a.hop\"\nsetsid sh \"$DIR/hop.sh\" &\n").unwrap();
    let guard = Guard::start(&job(), &node("0"), &[]).unwrap();
    let mut child = guard.spawn(&mut script(". \"$DIR/hop.sh\"", dir.path(), "a"), ProcessNumber(0)).unwrap();
    child.wait().unwrap();
    let swept = guard.sweep(ProcessNumber(0), child.id());
    assert_eq!(swept.survivors, []);
    fs::remove_file(dir.path().join("a.hop")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!dir.path().join("a.hop").exists(), "it still hops");
    guard.stop();
}

#[test]
fn a_process_leads_a_session_and_dies_of_hunger_before_its_worker() {
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&job(), &node("0"), &[]).unwrap();
    let mut child = guard.spawn(&mut script("exec sleep 1000", dir.path(), "a"), ProcessNumber(5)).unwrap();
    let process = proc_table::read(child.id() as i32).unwrap();
    assert_eq!((process.group, process.session), (process.pid, process.pid));
    let score = |pid: &str| -> i32 {
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    assert!(score(&child.id().to_string()) > score("self") || score("self") == 1000);
    let environ = fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    let (name, value) = guard.marker(ProcessNumber(5));
    let mark = format!("{name}={value}");
    assert!(environ.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()));
    guard.stop();
    assert_eq!(died_of(&mut child), Some(libc::SIGKILL));
}

#[test]
fn dead_orphans_do_not_stay_zombies() {
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&job(), &node("0"), &[]).unwrap();
    let text =
        r#"(setsid sh -c 'until [ -e "$DIR/end" ]; do sleep 0.01; done' & echo $! >"$DIR/a.orphan"); sleep 1000"#;
    let mut child = guard.spawn(&mut script(text, dir.path(), "a"), ProcessNumber(0)).unwrap();
    let orphan = written(dir.path(), "a.orphan");
    until("the orphan comes to us", || {
        (proc_table::read(orphan.pid)?.parent == std::process::id() as i32).then_some(())
    });
    File::create(dir.path().join("end")).unwrap();
    until("the orphan is reaped", || {
        guard.reap_orphans();
        proc_table::read(orphan.pid).is_none().then_some(())
    });
    guard.stop();
    assert_eq!(died_of(&mut child), Some(libc::SIGKILL));
}

#[test]
fn the_guardian_keeps_what_it_is_given_and_nothing_of_ours() {
    let kept = tempfile::NamedTempFile::new().unwrap();
    let guard = Guard::start(&job(), &node("0"), &[kept.as_file().as_fd()]).unwrap();
    let pid = guard.guardian();
    let mut open = until("the guardian is ready", || {
        let name = proc_table::read(pid as i32)?.name;
        let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect();
        (name == "ff-guard" && open.len() == 4).then_some(open)
    });
    open.retain(|path| path != Path::new("/dev/null"));
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(open.iter().any(|path| path == kept.path()));
    assert!(open.iter().any(|path| path.starts_with("pipe:") || path.to_string_lossy().starts_with("pipe:")));
    let guardian = proc_table::read(pid as i32).unwrap();
    assert_eq!(guardian.session, pid as i32, "Ctrl-C does not reach it");
    guard.stop();
    assert!(is_gone(&guardian));
}

#[expect(clippy::zombie_processes, reason = "it is killed before it could wait")]
/// A program that plays the worker: guards, starts two processes, and waits to be killed.
fn role_worker(dir: &Path) {
    let guard = Guard::start(&JobId(std::env::var("JOB").unwrap()), &node("0"), &[]).unwrap();
    fs::write(dir.join("guardian"), format!("{}\n", guard.guardian())).unwrap();
    let a = guard.spawn(&mut script(ESCAPES, dir, "a"), ProcessNumber(0)).unwrap();
    let b = guard.spawn(&mut script(ESCAPES, dir, "b"), ProcessNumber(1)).unwrap();
    fs::write(dir.join("slots"), format!("{} {}\n", a.id(), b.id())).unwrap();
    loop {
        std::thread::park();
    }
}

fn start_role(role: &str, dir: &Path, job: &JobId) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env("TEST_GUARD_ROLE", role)
        .env("DIR", dir)
        .env("JOB", &job.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn nothing_outlives_a_worker_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = start_role("worker", dir.path(), &job());
    let mut all = escaped(dir.path(), "a");
    all.extend(escaped(dir.path(), "b"));
    all.push(written(dir.path(), "guardian"));
    worker.kill().unwrap();
    let killed = Instant::now();
    worker.wait().unwrap();
    until("everything is gone", || all.iter().all(is_gone).then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(2), "it took {:?}", killed.elapsed());
}

#[test]
fn the_next_start_sweeps_what_a_killed_guardian_could_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mine, other) = (job(), job());
    let mut worker = start_role("worker", dir.path(), &mine);
    let (left, guardian) = (escaped(dir.path(), "a"), written(dir.path(), "guardian"));
    escaped(dir.path(), "b");
    proc_table::kill(&guardian);
    until("the guardian is gone", || is_gone(&guardian).then_some(()));
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(!is_gone(&left[1]), "a killed guardian sweeps nothing");

    assert_eq!(sweep_leftovers(&other, &node("0")), Swept::default());
    assert_eq!(sweep_leftovers(&mine, &node("1")), Swept::default());
    assert!(!is_gone(&left[1]));
    let swept = sweep_leftovers(&mine, &node("0"));
    assert!(swept.killed >= 4 && swept.survivors.is_empty(), "{swept:?}");
    assert!(left.iter().all(is_gone));
}

/// An orphan without a mark is spared while it may belong to a living process, and killed with the last one. In a program
/// of its own: here, other tests' processes live.
fn role_orphans(dir: &Path) {
    let guard = Guard::start(&JobId(std::env::var("JOB").unwrap()), &node("0"), &[]).unwrap();
    let text = r#"(env -i setsid sleep 1000 & echo $! >"$DIR/$NAME.orphan"); sleep 1000"#;
    let mut a = guard.spawn(&mut script(text, dir, "a"), ProcessNumber(0)).unwrap();
    let mut b = guard.spawn(&mut script(text, dir, "b"), ProcessNumber(1)).unwrap();
    let us = std::process::id() as i32;
    let orphans = ["a.orphan", "b.orphan"].map(|file| {
        let orphan = written(dir, file);
        until("its mark is off and it comes to us", || {
            let now = proc_table::read(orphan.pid)?;
            (now.name == "sleep" && now.parent == us && now.session != a.id() as i32).then_some(now)
        })
    });
    assert!(guard.sweep(ProcessNumber(0), a.id()).survivors.is_empty());
    a.wait().unwrap();
    assert!(!orphans.iter().any(is_gone), "b may need them");
    assert!(guard.sweep(ProcessNumber(1), b.id()).survivors.is_empty());
    b.wait().unwrap();
    assert!(orphans.iter().all(is_gone));
    assert!(orphans.iter().all(|orphan| proc_table::read(orphan.pid).is_none()), "a zombie is left");
    guard.stop();
    print!("as it should be");
}

#[test]
fn an_orphan_that_took_off_its_mark_is_swept_with_the_last_process() {
    let dir = tempfile::tempdir().unwrap();
    let output = start_role("orphans", dir.path(), &job()).wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "as it should be");
}
