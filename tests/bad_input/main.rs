//! What users and the world get wrong, against the real program: each is told what, where, why and how to go on, has its exit
//! code, and nothing is written over.

mod continuing;
mod damage;
mod inputs;
mod job_file;
mod mltable;
mod output;
mod places;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/told.rs"]
mod told;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{LIMIT, Place, Ran, finish, wait_for};

/// Returns its items, from the tenth on only when the file `go` is there. Slow enough not to be handed many at once.
const SCRIPT: &str = r#"import os, time

def run(mini_batch):
    while mini_batch[0] >= "item-010" and not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
    time.sleep(0.01)
    return mini_batch
"#;

/// A place with the job `echo`: 20 lines, one to a mini-batch, two processes.
fn place() -> Place {
    let place = Place::new();
    place.write_items(20);
    place.write("score.py", SCRIPT);
    place.write("job.yaml", job_file(&place, &[]));
    place.write("go", "");
    place
}

/// The job file of [`place`], with these keys instead of its own or beside them.
fn job_file(place: &Place, more: &[(&str, &str)]) -> String {
    let go = place.path("go");
    let variables = format!("{{GO: {}}}", go.display());
    let mut keys = vec![
        ("name", "echo"),
        ("entry_script", "score.py"),
        ("inputs", "[items.txt]"),
        ("input_type", "lines"),
        ("mini_batch_size", "1"),
        ("process_count_per_node", "2"),
        ("environment_variables", &variables),
    ];
    keys.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
    keys.extend(more);
    keys.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// Starts the job in the directory `job` and waits until some of its mini-batches are in; the last ones wait for `go`.
fn held(place: &Place) -> Child {
    fs::remove_file(place.path("go")).unwrap();
    let child = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().expect("the program starts");
    let partial = place.job().join("output/parallel_run_step.txt.partial");
    wait_for("some rows", || {
        let rows = fs::read_to_string(&partial).unwrap_or_default().lines().count();
        (rows >= 5).then_some(())
    });
    child
}

/// Interrupts what [`held`] started, and lets its mini-batches end when it has noted that.
fn interrupt(place: &Place, child: Child) -> Ran {
    let log = place.job().join("logs/sys/master_role.txt");
    let noted = || fs::read_to_string(&log).unwrap_or_default().matches("interrupted: finishing").count();
    let before = noted();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("our child");
    wait_for("the interruption to be noted", || (noted() > before).then_some(()));
    place.write("go", "");
    finish(child, LIMIT)
}

/// Leaves the job Paused, with some of its rows in.
fn paused(place: &Place) {
    let child = held(place);
    interrupt(place, child).expect(130);
    assert_eq!(place.status()["state"], "Paused");
}

/// Leaves the job Completed.
fn completed(place: &Place) {
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
}

/// What `fanfold run` says to something that it refuses with exit code 2, ready for a snapshot. Nothing may have changed.
#[track_caller]
fn refused(place: &Place, args: &[&str]) -> String {
    refused_with(place, place.fanfold().arg("run").args(args), 2)
}

/// [`refused`] for any command and exit code.
#[track_caller]
fn refused_with(place: &Place, command: &mut Command, code: i32) -> String {
    let before = tree(&place.path(""));
    let ran = finish(command.spawn().expect("the program starts"), LIMIT).expect(code);
    let after = tree(&place.path(""));
    let gone = before.iter().filter(|(name, what)| after.get(*name) != Some(what)).map(|(name, _)| name);
    let different: Vec<_> = gone.chain(after.keys().filter(|name| !before.contains_key(*name))).collect();
    assert!(
        different.is_empty(),
        "it was refused, and {different:?} are different afterwards; it said:\n{}",
        ran.stderr
    );
    assert!(ran.stdout.is_empty(), "nothing is data: {}", ran.stdout);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nhint: "), "it must say how to go on:\n{}", ran.stderr);
    told::told(&ran.stderr, &place.path(""), "echo").replace("<place>/", "")
}

/// A command that starts the program by way of another one, in this place.
fn started_by(place: &Place, other: &str, args: &[&str]) -> Command {
    let own = place.fanfold();
    let mut command = Command::new(other);
    command.args(args).current_dir(place.path(""));
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Every file below `root` with its contents (or what else it is), but for what a look at a job may touch: the name in the lock, and
/// where SQLite keeps what (in its log or in its file).
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                format!("mode {:o}", metadata.mode()).into_bytes()
            };
            if metadata.is_dir() {
                open.push(path.clone());
            }
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            if !name.ends_with(".fanfold/lock") && !name.to_string_lossy().contains(".fanfold/ledger.sqlite") {
                tree.insert(name, what);
            }
        }
    }
    tree
}
