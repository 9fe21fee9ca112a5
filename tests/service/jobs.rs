//! Jobs of a service, from all the ways in which they come to all the ways in which they end.

use std::time::{Duration, Instant};

use fanfold_shared::fleet::{JobReply, JobRequest, JobSource};
use serde_json::json;

use super::world::{Peer, Served};
use super::{ECHO, served};
use crate::running::{GATED, open_gate, wait_until_begun};
use crate::support::{LIMIT, assert_each_once, finish, wait_for};

#[test]
fn jobs_come_from_the_verb_over_http_and_from_the_queue() {
    let (served, items) = served(ECHO, "", 40);
    let _worker = served.world.worker();
    let peer = Peer::new(&served);

    let ran = served.verb(&["submit", "job.yaml", "--wait", "--json"]).expect(0);
    let receipt: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(receipt["version"], 1, "{receipt}");
    let first = receipt["job_id"].as_str().expect("an id").to_string();
    assert_each_once(&served.rows(&first), &items);
    let states: Vec<String> = peer.states(&first, "Completed").into_iter().map(|event| event.state).collect();
    assert_eq!((states[0].as_str(), states.last().unwrap().as_str()), ("Queued", "Completed"), "{states:?}");
    assert!(states.contains(&"Running".to_string()), "{states:?}");

    let keys = json!({"name": "inline", "entry_script": "score.py", "inputs": ["items.txt"], "input_type": "lines", "mini_batch_size": 4});
    let (status, answer) = served.post("/v1/jobs", None, &json!({"job": keys}).to_string());
    assert_eq!(status, 201, "{answer}");
    let second = answer["job_id"].as_str().unwrap();

    let request =
        JobRequest { source: JobSource::Inline { job: keys, base: None }, set: vec!["mini_batch_size=2".into()] };
    // MessagePack with named fields is what JSON says, in another form.
    peer.ask(fanfold_shared::fleet::wire::encode(&request)[1..].to_vec(), Some("m-1"), true);
    let JobReply::Accepted { job_id, duplicate: false, .. } = peer.answer() else { panic!("it is accepted") };
    for job in [second, job_id.0.as_str()] {
        served.wait_for_state(job, "Completed");
        assert_each_once(&served.rows(job), &items);
    }
    let event = peer.states(&job_id.0, "Completed").pop().unwrap();
    assert_eq!((event.items, event.items_succeeded, event.items_failed), (40, 40, 0));

    // What the verbs say of them.
    assert!(served.verb(&["status", second]).expect(0).stdout.starts_with(&format!("{second} Completed\n")));
    assert!(
        served.verb(&["watch", second]).expect(0).stdout.starts_with(&format!("{second} Completed: 10 of 10")),
        "it is over"
    );
    assert_eq!(served.verb(&["results", second]).expect(0).stdout.lines().count(), 40);
    assert_eq!(served.verb(&["errors", second]).expect(0).stdout, "No failures.\n");
    let logs = served.verb(&["logs", second]).expect(0).stdout;
    assert!(logs.contains("logs/job_result.txt"), "{logs}");
    let result = served.verb(&["logs", second, "result"]).expect(0).stdout;
    assert!(result.starts_with("State: Completed"), "{result}");
    assert_eq!(served.verb(&["logs", second, "result", "--follow"]).expect(0).stdout, result, "the job is over");
    let tail = served.verb(&["logs", second, "result", "--tail", "1"]).expect(0).stdout;
    assert!(tail.lines().count() == 1 && result.ends_with(&tail), "{tail}");
    for verb in [&["nodes"][..], &["status", second], &["results", second], &["explain", second]] {
        let told = served.verb(&[verb, &["--json"]].concat()).expect(0).stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{verb:?}: {error}"));
        assert_eq!(told["version"], 1, "{verb:?}: {told}");
    }
    let nodes = served.verb(&["nodes"]).expect(0).stdout;
    assert!(nodes.contains("default"), "{nodes}");
    for path in ["../job.yaml", "..%2f..%2fscore.py", "%2fetc%2fpasswd", "logs/../job.yaml", ".fanfold/job.json"] {
        let (status, answer) = served.get(&format!("/v1/jobs/{second}/logs/{path}"));
        assert_eq!(status, 404, "{path}: {answer}");
    }
    served.world.nothing_left();
}

fn dir_of(served: &Served, job: &str) -> String {
    served.get(&format!("/v1/jobs/{job}")).1["job_dir"].as_str().expect("a path").to_string()
}

/// Waits until the job hands out nothing more.
fn wait_until_heeded(served: &Served, job: &str) {
    let master = std::path::Path::new(&dir_of(served, job)).join("logs/sys/master_role.txt");
    let heeded = || std::fs::read_to_string(&master).is_ok_and(|log| log.contains("nothing more is handed out"));
    wait_for("the order", || heeded().then_some(()));
}

#[test]
fn a_job_is_paused_resumed_and_canceled() {
    let (served, items) = served(GATED, "", 8);
    let _worker = served.world.worker();
    let job = served.submit("job.yaml", &[]);
    wait_until_begun(served.place(), 2);
    let (status, answer) = served.post(&format!("/v1/jobs/{job}/pause"), None, "");
    assert_eq!(status, 202, "{answer}");
    // Answered at once, and passed on within a moment.
    wait_until_heeded(&served, &job);
    open_gate(served.place());
    served.wait_for_state(&job, "Paused");
    let ran = served.verb(&["results", &job]).expect(2);
    assert!(ran.stderr.contains("its result is not whole"), "{}", ran.stderr);
    let status = served.verb(&["status", &job]).expect(0).stdout;
    assert!(status.contains(&format!("fanfold resume {job}\n")), "{status}");
    let result = served.verb(&["logs", &job, "result"]).expect(0).stdout;
    assert!(result.contains(&format!("fanfold resume {job}    # go on where it stopped\n")), "{result}");
    served.verb(&["results", &job, "--partial"]).expect(0);
    served.verb(&["resume", &job]).expect(0);
    served.wait_for_state(&job, "Completed");
    assert_each_once(&served.rows(&job), &items);
    assert!(served.verb(&["pause", &job]).expect(2).stderr.contains("is Completed: there is nothing to pause"));
    // A retry of nothing is refused, and takes nothing away.
    let refused = served.verb(&["retry", "--failed", &job]).expect(2).stderr;
    assert!(refused.contains("no mini-batch of it is out of tries"), "{refused}");
    assert_eq!(served.state(&job), "Completed");
    served.verb(&["results", &job]).expect(0);

    std::fs::remove_file(served.place().path("go")).unwrap();
    std::fs::remove_file(served.place().path("begun.txt")).unwrap();
    let job = served.submit("job.yaml", &[]);
    wait_until_begun(served.place(), 2);
    let began = Instant::now();
    let ran = served.verb(&["cancel", &job]).expect(0);
    assert!(
        ran.stdout.contains("Canceled") && began.elapsed() < Duration::from_secs(5),
        "{} after {:?}",
        ran.stdout,
        began.elapsed()
    );
    served.wait_for_state(&job, "Canceled");
    served.verb(&["watch", &job]).expect(3);
    served.world.nothing_left();
}

#[test]
fn a_job_that_is_resumed_before_it_has_come_to_rest_goes_on() {
    let (served, items) = served(GATED, "", 8);
    let _worker = served.world.worker();
    let job = served.submit("job.yaml", &[]);
    wait_until_begun(served.place(), 2);
    for verb in ["pause", "resume"] {
        let (status, answer) = served.post(&format!("/v1/jobs/{job}/{verb}"), None, "");
        assert_eq!(status, 202, "{answer}");
        // It is passed on within a moment; whether it was by then makes no difference to how the job ends.
        served.wait_for_state(&job, "Running");
    }
    open_gate(served.place());
    served.wait_for_state(&job, "Completed");
    assert_each_once(&served.rows(&job), &items);
}

/// Whoever works beside the service, in the job's directory, is heeded like it.
#[test]
fn a_job_that_is_paused_in_its_directory_stands_still_until_it_is_resumed() {
    let (served, items) = served(GATED, "", 8);
    let _worker = served.world.worker();
    let job = served.submit("job.yaml", &[]);
    wait_until_begun(served.place(), 2);
    let dir = dir_of(&served, &job);
    let pause = served.place().fanfold().args(["pause", &dir]).spawn().unwrap();
    wait_until_heeded(&served, &job);
    open_gate(served.place());
    finish(pause, LIMIT).expect(0);
    served.wait_for_state(&job, "Paused");
    // The service looks five times a second: by the second look it would have taken it up again.
    let rested = Instant::now();
    wait_for("some looks", || (rested.elapsed() > Duration::from_secs(1)).then_some(()));
    assert_eq!(served.state(&job), "Paused");
    served.verb(&["resume", &job]).expect(0);
    served.wait_for_state(&job, "Completed");
    assert_each_once(&served.rows(&job), &items);
}

#[test]
fn what_failed_is_tried_again() {
    let script = "import os\nPLACE = os.environ['PLACE']\n\ndef run(mini_batch):\n    if mini_batch[0] == 'item-001' and not os.path.exists(PLACE + '/mended'):\n        raise ValueError('bad pixel')\n    return mini_batch\n";
    let (served, items) = served(script, "run_max_try: 2\n", 4);
    let _worker = served.world.worker();
    let ran = served.verb(&["submit", "job.yaml", "--wait"]).expect(5);
    let job = ran.stdout.trim().to_string();
    let errors = served.verb(&["errors", &job]).expect(0).stdout;
    assert!(
        errors.starts_with("1 failure, 1 item lost, 1 distinct error\n\n1 × exception: ValueError: bad pixel\n"),
        "{errors}"
    );
    assert_eq!(served.verb(&["errors", &job, "--json"]).expect(0).stdout.lines().count(), 1);
    let text = served.get_text("/metrics").1;
    assert!(text.contains(&format!("fanfold_job_failures_total{{job=\"{job}\",kind=\"exception\"}} 2\n")), "{text}");
    served.place().write("mended", "");
    served.verb(&["retry", "--failed", &job]).expect(0);
    wait_for("all rows", || {
        (served.state(&job) == "Completed" && served.rows(&job).len() == items.len()).then_some(())
    });
    assert_each_once(&served.rows(&job), &items);
}

/// The copy is taken when the retry is asked for: what becomes of the source by the time the job begins is no concern of it.
#[test]
fn what_failed_is_tried_again_with_the_script_as_it_is_when_that_is_asked_for() {
    let old = "def run(mini_batch):\n    if mini_batch[0] == 'item-001':\n        raise ValueError('bad pixel')\n    return mini_batch\n";
    let (served, items) = served(old, "run_max_try: 1\n", 4);
    let _worker = served.world.worker();
    let ran = served.verb(&["submit", "job.yaml", "--wait"]).expect(5);
    let job = ran.stdout.trim().to_string();
    let retry = |more: &[&str]| served.verb(&[&["retry", "--failed", "--new-script", &job], more].concat());

    let script = served.place().path("score.py");
    std::fs::remove_file(&script).unwrap();
    let gone = retry(&[]).expect(2).stderr;
    assert!(gone.contains(&format!("`{}` is gone", script.display())) && gone.contains("hint: "), "{gone}");
    assert_eq!(served.state(&job), "Completed");

    served.place().write("score.py", old);
    let same = retry(&[]).expect(0).stderr;
    assert!(same.contains("the script is what it was"), "{same}");
    wait_for("the retry to fail as before", || {
        let (_, status) = served.get(&format!("/v1/jobs/{job}"));
        (status["state"] == "Completed" && status["counts"]["attempts_failed"] == 2).then_some(())
    });

    served.place().write("score.py", "def run(mini_batch):\n    return ['new ' + item for item in mini_batch]\n");
    let told = retry(&["--json"]).expect(0).stdout;
    served.place().write("score.py", "raise SystemExit('not this one')\n");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["job_id"], job.as_str());
    wait_for("all rows", || {
        (served.state(&job) == "Completed" && served.rows(&job).len() == items.len()).then_some(())
    });
    let by = |item: &String| if item == "item-001" { format!("new {item}") } else { item.clone() };
    assert_each_once(&served.rows(&job), &items.iter().map(by).collect::<Vec<_>>());
    let status = served.verb(&["status", &job]).expect(0).stdout;
    assert!(status.contains("copy 2, since "), "{status}");
    served.world.nothing_left();
}

#[test]
fn a_service_that_is_killed_goes_on_where_it_was() {
    let (mut served, items) = served(GATED, "", 12);
    let _worker = served.world.worker();
    let first = served.submit("job.yaml", &[]);
    wait_until_begun(served.place(), 2);
    let second = served.submit("job.yaml", &["run_max_try=2"]);
    let peer = Peer::new(&served);
    served.kill();
    // Asked for while nobody is there.
    peer.ask(br#"{"job_file": "job.yaml"}"#.to_vec(), Some("late"), true);
    served.start(&[]);
    let JobReply::Accepted { job_id: third, .. } = peer.answer() else { panic!("it is accepted") };
    open_gate(served.place());
    for job in [&first, &second, &third.0] {
        served.wait_for_state(job, "Completed");
        assert_each_once(&served.rows(job), &items);
    }
    let events = peer.states(&third.0, "Completed");
    assert_eq!(events.iter().filter(|event| event.state == "Completed").count(), 1);
    served.world.nothing_left();
}
