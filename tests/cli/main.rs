//! The command line as people and programs meet it: what each verb says about a job in each state, on a pipe, on a terminal and as
//! JSON.

mod datasets;
mod eta;
mod explaining;
mod looking;
mod machine;
mod pages;
mod processes;
#[path = "../support/running.rs"]
mod program;
mod running;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
#[path = "../support/told.rs"]
mod told;
mod usage;

use std::fs;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{LIMIT, Place, Ran, finish, wait_for};

/// Returns its items, from the tenth on only when the file `go` is there. An item that says `bad` is refused.
const SCRIPT: &str = r#"import os, time

def run(mini_batch):
    if "bad" in mini_batch[0]:
        raise ValueError("bad pixel")
    while mini_batch[0] >= "item-010" and not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
    time.sleep(0.01)
    return mini_batch
"#;

/// A place with the job `echo`: these lines, one to a mini-batch, one process.
fn place_of(items: &[&str]) -> Place {
    let place = Place::new();
    place.write("items.txt", items.iter().map(|item| format!("{item}\n")).collect::<String>());
    place.write("score.py", SCRIPT);
    let keys = "name: echo\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n";
    let go = place.path("go");
    let more = format!("process_count_per_node: 1\nrun_max_try: 2\nenvironment_variables: {{GO: {}}}\n", go.display());
    place.write("job.yaml", format!("{keys}{more}"));
    place.write("go", "");
    place
}

/// [`place_of`] twenty items, none of them bad.
fn place() -> Place {
    let items: Vec<String> = (0..20).map(|i| format!("item-{i:03}")).collect();
    place_of(&items.iter().map(String::as_str).collect::<Vec<_>>())
}

const RUN: [&str; 4] = ["run", "job.yaml", "--job-dir", "job"];

/// Leaves the job Completed.
fn completed() -> Place {
    let place = place();
    place.run(&RUN).expect(0);
    place
}

/// Leaves the job Completed with a failed item.
fn with_failures() -> Place {
    let place = place_of(&["item-000", "item-001-bad", "item-002"]);
    place.run(&RUN).expect(5);
    place
}

/// Leaves the job Failed: its script raises while it is imported.
fn failed() -> Place {
    let place = place();
    place.write("score.py", "raise RuntimeError(\"no model here\")\n");
    place.run(&RUN).expect(1);
    place
}

/// Starts the job and waits until some of its mini-batches are in and its status says so; the last ones wait for `go`.
fn running(place: &Place) -> Child {
    fs::remove_file(place.path("go")).unwrap();
    let child = place.fanfold().args(RUN).spawn().expect("the program starts");
    wait_for("ten mini-batches in the status", || {
        let status: serde_json::Value =
            serde_json::from_slice(&fs::read(place.job().join("status.json")).ok()?).ok()?;
        (status["counts"]["mini_batches_succeeded"] == 10).then_some(())
    });
    child
}

/// Interrupts what [`running`] started.
fn interrupt(place: &Place, child: Child) -> Ran {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("our child");
    // Else what waits may run to its end before the program looks at its signals.
    wait_for("the log to say so", || {
        let log = fs::read_to_string(place.job().join("logs/sys/master_role.txt")).ok()?;
        log.contains("interrupted: ").then_some(())
    });
    place.write("go", "");
    finish(child, LIMIT)
}

/// Leaves the job Paused.
fn paused() -> Place {
    let place = place();
    let child = running(&place);
    interrupt(&place, child).expect(130);
    place
}

/// What a verb writes to standard output, ready for a snapshot. It writes nothing else.
#[track_caller]
fn said(place: &Place, args: &[&str]) -> String {
    let ran = place.run(args).expect(0);
    assert_eq!(ran.stderr, "", "`{args:?}` succeeded");
    told(place, &ran.stdout)
}

/// `text` as a snapshot has it.
fn told(place: &Place, text: &str) -> String {
    told::told(text, &place.path(""), "echo")
}

/// What a verb writes with `--json`: it must be JSON with a version.
#[track_caller]
fn json(place: &Place, args: &[&str]) -> serde_json::Value {
    let args = [args, &["--json"]].concat();
    let ran = place.run(&args).expect(0);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(value["version"], 1, "{args:?}: {value}");
    value
}
