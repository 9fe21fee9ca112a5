//! What each process of a running job does, seen from another terminal.

use std::collections::BTreeSet;
use std::fs;

use crate::program::{GATED, Running, begun, job_of, open_gate, wait_until_begun};
use crate::support::{LIMIT, Place, wait_for};

/// The processes as `status --json` has them, in the order of their numbers.
fn processes(place: &Place) -> Vec<serde_json::Value> {
    let ran = place.run(&["status", "job", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let mut processes = told["processes"].as_array().cloned().unwrap_or_default();
    processes.sort_by_key(|process| process["process"].as_str().map(str::to_string));
    processes
}

/// `--processes`: the cells of each line, without the headings.
fn table(place: &Place) -> Vec<Vec<String>> {
    let told = place.run(&["status", "job", "--processes"]).stdout;
    let lines = told.lines().skip_while(|line| !line.starts_with("NODE ")).skip(1);
    lines
        .map(|line| line.replace(" min ", "min").replace(" s ", "s ").split_whitespace().map(str::to_string).collect())
        .collect()
}

#[test]
fn a_process_says_which_mini_batch_it_runs_and_for_how_long() {
    let place = Place::new();
    place.write_items(12);
    // The third mini-batch waits, the others pass: one process is at it, the other one has had all the rest, and then nothing.
    let script = GATED.replace("while not", "while mini_batch[0] == 'item-002' and not");
    job_of(&place, &script, "");
    let running = Running::job(&place);
    wait_for("eleven results in", || {
        let told = processes(&place);
        (told.iter().filter_map(|process| process["done"].as_u64()).sum::<u64>() == 11).then_some(())
    });
    let told = wait_for("one process idle, one at mini-batch 2", || {
        let told = processes(&place);
        let state = |state: &str| told.iter().filter(|process| process["activity"] == state).count();
        (state("running") == 1 && state("idle") == 1).then_some(told)
    });
    let at_it = told.iter().find(|process| process["activity"] == "running").unwrap();
    let idle = told.iter().find(|process| process["activity"] == "idle").unwrap();
    assert_eq!((&at_it["mini_batch"], &at_it["failed"]), (&2.into(), &0.into()), "{at_it}");
    assert!(idle["mini_batch"].is_null() && at_it["since"].is_string(), "{told:?}");
    // It is the very process that runs there.
    for process in &told {
        let command = fs::read_to_string(format!("/proc/{}/cmdline", process["pid"])).expect("it lives");
        assert!(command.contains("fanfold_host"), "{command}");
    }

    let lines = table(&place);
    assert_eq!(lines.len(), 2, "{lines:?}");
    // Those that are at a mini-batch come first.
    assert_eq!(lines[0][..2], ["0".to_string(), at_it["process"].as_str().unwrap().to_string()], "{lines:?}");
    assert_eq!(lines[0][2], at_it["pid"].to_string());
    assert_eq!((lines[0][4].as_str(), lines[0][5].as_str()), ("running", "2"), "{lines:?}");
    assert_eq!((lines[1][4].as_str(), lines[1][5].as_str()), ("idle", "-"), "{lines:?}");
    let seconds = |lines: &[Vec<String>]| lines[0][6].trim_end_matches('s').parse::<f64>().unwrap();
    let before = seconds(&lines);
    wait_for("the time to go by", || (seconds(&table(&place)) >= before + 1.0).then_some(()));
    // What waited behind it may have begun twice: the other process had a copy of it.
    assert_eq!(begun(&place).into_iter().collect::<BTreeSet<_>>().len(), 12);
    open_gate(&place);
    running.ends(LIMIT, 0);
    let over = place.run(&["status", "job", "--processes"]).expect(0).stdout;
    assert!(over.ends_with(" Completed: no process\n"), "{over}");
}

#[test]
fn init_and_starts_are_seen_as_well() {
    let place = Place::new();
    place.write_items(4);
    let init = GATED.replace("def run(mini_batch):", "def init():\n    while not os.path.exists(os.path.join(PLACE, 'init')):\n        time.sleep(0.01)\n\ndef run(mini_batch):");
    job_of(&place, &init, "");
    let running = Running::job(&place);
    let states = |state: &str| table(&place).iter().filter(|line| line[4] == state).count();
    wait_for("both in init()", || (states("init") == 2).then_some(()));
    place.write("init", "");
    wait_until_begun(&place, 2);
    wait_for("both at work", || (states("running") == 2).then_some(()));
    open_gate(&place);
    running.ends(LIMIT, 0);
}
