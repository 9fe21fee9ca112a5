//! Help, and commands that make no sense.

use super::{completed, json, place, told};
use crate::support::Place;

/// Every verb.
pub(super) const VERBS: [&str; 23] = [
    "run",
    "retry",
    "plan",
    "submit",
    "serve",
    "ls",
    "status",
    "watch",
    "logs",
    "errors",
    "results",
    "explain",
    "pause",
    "resume",
    "cancel",
    "nodes",
    "drain",
    "dataset",
    "datastore",
    "doctor",
    "job-file",
    "completion",
    "man",
];

#[test]
fn every_verb_has_help() {
    let place = Place::new();
    let all = place.run(&["--help"]).expect(0);
    for verb in VERBS {
        assert!(all.stdout.contains(&format!("\n  {verb} ")), "`{verb}` is missing in:\n{}", all.stdout);
        let help = place.run(&[verb, "--help"]).expect(0);
        assert!(help.stdout.contains(&format!("Usage: fanfold {verb}")), "{}", help.stdout);
        if matches!(verb, "run" | "retry" | "plan" | "resume") {
            assert!(help.stdout.contains("--shared <DIR>"), "it takes a fleet: {}", help.stdout);
        }
        assert_eq!(help.stdout, place.run(&["help", verb]).expect(0).stdout);
        assert_eq!(help.stderr, "");
        assert!(help.stdout.lines().all(|line| line.chars().count() <= 100), "{}", help.stdout);
    }
    let listed = all.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed: Vec<_> = listed.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ")).collect();
    let verbs = listed.iter().filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
    assert_eq!(verbs.collect::<Vec<_>>().len(), VERBS.len(), "a verb is not tested here:\n{}", all.stdout);
    assert!(place.run(&["--version"]).expect(0).stdout.starts_with("fanfold "));
}

#[test]
fn nonsense_is_bad_usage() {
    let place = place();
    for args in [
        &["frobnicate"][..],
        &["run"],
        &["run", "job.yaml", "--frobnicate"],
        &["run", "job.yaml", "another.yaml"],
        &["status"],
        &["errors", "job", "--kind", "tiemout"],
        &["logs", "job", "--tail", "many"],
        &[],
    ] {
        let ran = place.run(args).expect(2);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(ran.stderr.contains("--help"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_job_is_found_by_its_directory_its_id_and_the_beginning_of_it() {
    let place = completed();
    place.run(&["run", "job.yaml", "--no-reuse"]).expect(0);
    let ids: Vec<String> = json(&place, &["ls"])["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job_id"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(ids.len(), 2);
    for id in &ids {
        assert_eq!(json(&place, &["status", id])["job_id"], *id);
        let others = ids.iter().filter(|other| *other != id);
        let unique = (1..=id.len()).find(|len| others.clone().all(|other| !other.starts_with(&id[..*len]))).unwrap();
        assert_eq!(json(&place, &["status", &id[..unique]])["job_id"], *id);
    }
    let by_directory = &json(&place, &["status", "./job"])["job_id"];
    assert_eq!(by_directory, &json(&place, &["status", "job"])["job_id"]);

    let ran = place.run(&["status", "echo"]).expect(2);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    error: `echo` is the beginning of 2 job ids
    hint: it may be `echo-<id>`, `echo-<id>`
    "#);
    let ran = place.run(&["status", "ehco"]).expect(2);
    let text = told(&place, &ran.stderr);
    assert!(text.starts_with("error: there is no job `ehco`\nhint: did you mean `echo-<id>`"), "{text}");
    let ran = place.run(&["errors", "items.txt"]).expect(2);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    error: there is no job `items.txt`
    hint: the newest jobs are `echo-<id>`, `echo-<id>`; `fanfold ls` shows all
    "#);
    let ran = place.run(&["logs", "job", "process7"]).expect(2);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    error: no log of the job matches `process7`
    hint: `fanfold logs job` lists them; a log appears with its first line
    "#);
}
