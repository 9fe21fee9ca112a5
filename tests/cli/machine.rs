//! Every verb has a form for programs, with a version.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{completed, paused, place, with_failures};
use crate::support::Place;

/// What has none: `serve` writes no data, `completion` and `man` write scripts and pages.
const WITHOUT: [&str; 3] = ["completion", "man", "serve"];
/// What is asked of a service or of the cloud: `tests/service` and `tests/cloud` look at their JSON.
const ELSEWHERE: [&str; 4] = ["submit", "nodes", "drain", "datastore check"];

/// Every command of the tree that has none below it, as the program lists them itself.
fn leaves(place: &Place, path: &[&str]) -> Vec<String> {
    let help = place.run(&[path, &["--help"]].concat()).expect(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What stands further in goes on with the line above.
    let listed = listed.filter(|line| !line.starts_with("   "));
    let names: Vec<&str> =
        listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    if names.is_empty() {
        return vec![path.join(" ")];
    }
    names.into_iter().flat_map(|name| leaves(place, &[path, &[name]].concat())).collect()
}

#[test]
fn every_command_takes_json_or_is_known_not_to() {
    let place = Place::new();
    let mut without = BTreeSet::new();
    for leaf in leaves(&place, &[]) {
        let help = place.run(&[leaf.split(' ').collect(), vec!["--help"]].concat()).expect(0).stdout;
        if !help.split_whitespace().any(|word| word == "--json") {
            without.insert(leaf);
        }
    }
    assert_eq!(without.into_iter().collect::<Vec<_>>(), WITHOUT);
}

/// The JSON that a command wrote: one document, or one on each line. Each must say its version.
#[track_caller]
fn documents(text: &str, args: &[&str]) -> Vec<Value> {
    let documents: Vec<Value> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{args:?}: {error}\n{text}"));
    for document in &documents {
        let version = document.get("version").or(document.get("v"));
        assert_eq!(version, Some(&1.into()), "{args:?}: {document}");
    }
    documents
}

/// Runs a command with `--json` and notes that it was.
#[track_caller]
fn json(place: &Place, seen: &mut BTreeSet<String>, verb: &str, args: &[&str], code: i32) -> Vec<Value> {
    let args = [verb.split(' ').collect::<Vec<_>>(), args.to_vec(), vec!["--json"]].concat();
    let ran = place.run(&args).expect(code);
    seen.insert(verb.to_string());
    let documents = documents(&ran.stdout, &args);
    assert!(!documents.is_empty(), "{args:?} wrote nothing; stderr: {}", ran.stderr);
    documents
}

#[test]
fn what_every_command_writes_with_json_has_a_version() {
    let mut seen = BTreeSet::new();
    let seen = &mut seen;

    let done = completed();
    let job: &[&str] = &["job"];
    for (verb, args) in [
        ("ls", &[][..]),
        ("status", job),
        ("logs", job),
        ("watch", job),
        ("explain", job),
        ("doctor", &[]),
        ("job-file", &[]),
    ] {
        json(&done, seen, verb, args, 0);
    }
    json(&done, seen, "doctor", &["--verify", "job"], 0);
    json(&done, seen, "plan", &["job.yaml"], 0);
    let result = &json(&done, seen, "results", job, 0)[0];
    assert_eq!((&result["whole"], &result["rows"], &result["bytes"]), (&true.into(), &20.into(), &180.into()));
    assert_eq!(result["file"], done.job().join("output/parallel_run_step.txt").to_str().unwrap());
    // Without a directory, the result of that job is used, and its status is written.
    let reused = &json(&done, seen, "run", &["job.yaml"], 0)[0];
    assert_eq!((&reused["state"], &reused["job_dir"]), (&"Completed".into(), &done.job().to_str().unwrap().into()));

    json(&done, seen, "dataset register", &["lines", "--path", "items.txt", "--input-type", "lines"], 0);
    json(&done, seen, "dataset list", &[], 0);
    json(&done, seen, "dataset show", &["lines"], 0);
    json(&done, seen, "datastore list", &[], 0);

    let failed = with_failures();
    assert_eq!(json(&failed, seen, "errors", job, 0)[0]["item"], "item-001-bad");
    let retried = &json(&failed, seen, "retry", &["--failed", "job"], 5)[0];
    assert_eq!((&retried["state"], &retried["counts"]["items_failed"]), (&"Completed".into(), &1.into()));

    let still = paused();
    let partial = &json(&still, seen, "results", &["job", "--partial"], 0)[0];
    assert_eq!((&partial["whole"], &partial["state"]), (&false.into(), &"Paused".into()));
    assert!(partial["file"].as_str().unwrap().ends_with(".partial"), "{partial}");
    assert_eq!(json(&still, seen, "resume", job, 0)[0]["state"], "Completed");

    for (verb, state, code) in [("pause", "Paused", 0), ("cancel", "Canceled", 3)] {
        let place = place();
        let child = super::running(&place);
        let ask = place.fanfold().args([verb, "job", "--json"]).spawn().expect("the program starts");
        // What runs is finished before a job stands still.
        crate::support::wait_for("it to be told", || {
            let told = place.run(&["status", "job", "--json"]).stdout;
            let told: Value = serde_json::from_str(&told).ok()?;
            (told["stopping"].is_string() || told["state"] != "Running").then_some(())
        });
        place.write("go", "");
        let ran = crate::support::finish(ask, crate::support::LIMIT).expect(0);
        assert_eq!(documents(&ran.stdout, &[verb])[0]["state"], state);
        crate::support::finish(child, crate::support::LIMIT).expect(code);
        seen.insert(verb.into());
    }

    let known: BTreeSet<String> = WITHOUT.iter().chain(&ELSEWHERE).map(|verb| verb.to_string()).collect();
    let missed: Vec<String> =
        leaves(&done, &[]).into_iter().filter(|verb| !known.contains(verb) && !seen.contains(verb)).collect();
    assert_eq!(missed, [""; 0], "nobody has looked at what these write");
}
