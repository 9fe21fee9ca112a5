//! What the service says to requests, and who may ask. No worker is there, and no job runs.

use std::fs;

use serde_json::{Value, json};

use super::world::{Peer, Served};
use super::{ECHO, served};
use crate::support::{finish, wait_for};
use crate::told::told;

/// An error as a snapshot has it.
fn shown(served: &Served, (status, answer): (u16, Value)) -> String {
    let error = &answer["error"];
    let text = |key: &str| error[key].as_str().unwrap_or("-").to_string();
    let text = format!("{status} {}: {}\n  hint: {}", text("code"), text("message"), text("hint"));
    told(&text, &served.place().path(""), "attack")
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let (served, _) = served(ECHO, "", 3);
    served.place().write("bad.yaml", "name: attack\nentry_scrip: score.py\n");
    let post = |body: &str| shown(&served, served.post("/v1/jobs", None, body));
    insta::assert_snapshot!(post("nonsense"), @r##"
    400 bad_request: the request can't be read: expected ident at line 1 column 2
      hint: send `{"job_file": "path/to/job.yaml"}` or `{"job": {…the keys of a job file…}}`
    "##);
    insta::assert_snapshot!(post("{}"), @r##"
    400 bad_request: the request can't be read: either `job_file` (a path under the shared directory) or `job` (the keys of a job file) is needed
      hint: send `{"job_file": "path/to/job.yaml"}` or `{"job": {…the keys of a job file…}}`
    "##);
    insta::assert_snapshot!(post(r#"{"job_file": "job.yaml", "script": "import os"}"#), @r##"
    400 bad_request: the request can't be read: unknown field `script`, expected one of `job_file`, `job`, `base`, `set` at line 1 column 33
      hint: send `{"job_file": "path/to/job.yaml"}` or `{"job": {…the keys of a job file…}}`
    "##);
    insta::assert_snapshot!(post(r#"{"job_file": "../job.yaml"}"#), @r##"
    400 outside_shared_directory: `../job.yaml` is not under the shared directory `<place>`
      hint: workers see nothing but the shared directory: put the files under `<place>`
    "##);
    insta::assert_snapshot!(post(r#"{"job_file": "/etc/passwd"}"#), @r##"
    400 outside_shared_directory: `/etc/passwd` is not under the shared directory `<place>`
      hint: workers see nothing but the shared directory: put the files under `<place>`
    "##);
    let absent = post(r#"{"job_file": "absent.yaml"}"#);
    assert!(
        absent.starts_with("400 bad_job: cannot read the job file\n  --> <place>/absent.yaml: No such file"),
        "{absent}"
    );
    insta::assert_snapshot!(post(r#"{"job_file": "bad.yaml"}"#), @r##"
    400 bad_job: unknown key `entry_scrip`
      --> <place>/bad.yaml:2:1
       |
     2 | entry_scrip: score.py
       | ^^^^^^^^^^^
    hint: did you mean `entry_script`?

    error: `inputs` is missing
      --> <place>/bad.yaml
      hint: add it, for example `inputs: [images]`
    "##);
    insta::assert_snapshot!(post(r#"{"job_file": "job.yaml", "set": ["prioritty=3"]}"#), @r##"
    400 bad_job: unknown key `prioritty`
      --> --set
       |
       | prioritty=3
       | ^^^^^^^^^
      hint: did you mean `priority`?
    "##);
    insta::assert_snapshot!(post(r#"{"job": {"name": "a/../b", "entry_script": "score.py", "inputs": ["items.txt"]}}"#), @r##"
    400 bad_job: `name` must be 3 to 32 of `a-z`, `0-9` and `-`, starting with a letter and not ending with `-`
      --> <place>/job.yaml:1:9
       |
     1 | {"name":"a/../b","entry_script":"score.py","inputs":["items.txt"]}
       |         ^^^^^^^^
      hint: `name: a----b` would do
    "##);
    // Its length is enough to refuse it: the body is not waited for.
    let (status, answer) = served.announce(2 << 20);
    insta::assert_snapshot!(shown(&served, (status, answer)), @r##"
    413 too_large: the request has more than 1024 KiB
      hint: data belongs into the shared directory; a request only names it
    "##);
    insta::assert_snapshot!(shown(&served, served.get("/v1/jobs/nosuch")), @r##"
    404 job_not_found: there is no job `nosuch`
      hint: the service has no jobs yet; `fanfold submit JOB.yaml` makes one
    "##);
    insta::assert_snapshot!(shown(&served, served.get("/v1/nothing")), @r##"
    404 no_such_route: there is nothing at `/v1/nothing`
      hint: `/openapi.json` describes what there is
    "##);
    insta::assert_snapshot!(shown(&served, served.post("/v1/nodes", None, "")), @r##"
    405 wrong_method: `/v1/nodes` can't be asked with POST
      hint: `/openapi.json` describes what there is
    "##);
    insta::assert_snapshot!(shown(&served, served.post("/v1/nodes/nosuch/drain", None, "")), @r##"
    404 worker_not_found: there is no worker `nosuch`
      hint: no worker is there: start `fanfold-worker`
    "##);
    assert_eq!(served.get("/v1/jobs").1["jobs"], json!([]), "nothing of them became a job");
    let left = fs::read_dir(served.place().path("fanfold-jobs")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "and none left a directory");
}

#[test]
fn only_who_has_the_token_is_answered() {
    let (served, _) = served(ECHO, "", 1);
    assert_eq!(served.get_as("/healthz", None), (200, Value::String("ok\n".into())));
    for path in ["/v1/jobs", "/metrics", "/openapi.json", "/v1/nodes", "/nothing"] {
        assert_eq!(served.get_as(path, None).1["error"]["code"], "token_missing", "{path}");
        for wrong in ["Bearer wrong", "Bearer ", "Basic Zm9vOmJhcg==", "Bearer"] {
            let (status, answer) = served.get_as(path, Some(wrong));
            assert_eq!(status, 401, "{path} {wrong}: {answer}");
        }
    }
    assert_eq!(served.get_as("/v1/jobs", Some(&format!("bearer {}", served.token))).0, 200);
    insta::assert_snapshot!(shown(&served, served.get_as("/v1/jobs", None)), @r##"
    401 token_missing: this service wants a token
      hint: give the path of the service's token file in FANFOLD_TOKEN_FILE; another program sends `Authorization: Bearer <token>`
    "##);
    insta::assert_snapshot!(shown(&served, served.get_as("/v1/jobs", Some("Bearer x"))), @r##"
    401 token_wrong: the token is not this service's
      hint: the service's `--token-file` holds the right one; give its path in FANFOLD_TOKEN_FILE
    "##);
    // The verbs say the same.
    let mut command = served.place().fanfold();
    command.env("FANFOLD_SERVICE", &served.url).env("FANFOLD_TOKEN", "wrong").arg("ls");
    let ran = finish(command.spawn().unwrap(), crate::support::LIMIT).expect(2);
    assert!(ran.stderr.starts_with("error: the token is not this service's\n"), "{}", ran.stderr);
    let said = served.service.as_ref().unwrap().said();
    assert!(!said.contains(&served.token), "the log never shows it");
}

#[test]
fn other_machines_need_tls_and_a_second_service_is_refused() {
    let (mut served, _) = served(ECHO, "", 1);
    let refused = |command: std::process::Command| {
        let mut command = command;
        finish(command.spawn().unwrap(), crate::support::LIMIT)
    };
    let ran = refused(served.command(&["--listen", "0.0.0.0:0"])).expect(2);
    insta::assert_snapshot!(ran.stderr, @r##"
    error: `--listen 0.0.0.0:0` would let other machines in without TLS, and their token would travel in the clear
    hint: give `--tls-cert` and `--tls-key`; or `--insecure`, behind a proxy that does TLS or in a network of its own
    "##);
    let ran = refused(served.command(&[])).expect(4);
    assert!(
        ran.stderr.contains(&format!("is in use by process {} on ", served.service.as_ref().unwrap().pid())),
        "{}",
        ran.stderr
    );
    let mut second = crate::running::Running::start(served.place(), served.command(&["--standby"]));
    second.wait_until_said("stands by");
    served.kill();
    second.wait_until_said(" serves at ");
    second.signal(nix::sys::signal::Signal::SIGTERM);
    second.wait_until_said("stops");
}

#[test]
fn the_same_request_again_makes_no_second_job() {
    let (served, _) = served(ECHO, "", 3);
    let ask = |key: &str, body: &str| served.post("/v1/jobs", Some(key), body);
    let (status, first) = ask("k-1", r#"{"job_file": "job.yaml"}"#);
    assert_eq!((status, &first["duplicate"]), (201, &json!(false)), "{first}");
    let (status, again) = ask("k-1", r#"{"job_file": "job.yaml"}"#);
    assert_eq!((status, &again["duplicate"], &again["job_id"]), (200, &json!(true), &first["job_id"]));
    let (status, other) = ask("k-1", r#"{"job_file": "job.yaml", "set": ["priority=7"]}"#);
    assert_eq!((status, &other["error"]["code"]), (409, &json!("key_reused")), "{other}");
    let (status, second) = ask("k-2", r#"{"job_file": "job.yaml"}"#);
    assert!(status == 201 && second["job_id"] != first["job_id"]);

    // A message with the same id is the same request.
    let peer = Peer::new(&served);
    peer.ask(br#"{"job_file": "job.yaml"}"#.to_vec(), Some("k-1"), true);
    let answer = serde_json::to_value(peer.answer()).unwrap();
    assert_eq!(
        (&answer["answer"], &answer["duplicate"], &answer["job_id"]),
        (&json!("accepted"), &json!(true), &first["job_id"])
    );
    assert_eq!(served.get("/v1/jobs").1["jobs"].as_array().unwrap().len(), 2);
    let listed = served.verb(&["ls"]).expect(0).stdout;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let explained = served.verb(&["explain", first["job_id"].as_str().unwrap()]).expect(0).stdout;
    assert!(
        explained.contains("no worker is in pool `default`")
            || explained.contains("about to begin")
            || explained.contains("are listed")
            || explained.contains("it gets ready to run"),
        "{explained}"
    );
}

#[test]
fn what_nobody_can_read_goes_to_the_dead_letters() {
    let (served, _) = served(ECHO, "", 3);
    let peer = Peer::new(&served);
    peer.ask(b"\xc1garbage".to_vec(), None, true);
    let answer = serde_json::to_value(peer.answer()).unwrap();
    assert_eq!(answer["answer"], "refused", "{answer}");
    wait_for("the dead letter", || (peer.dead_letters() == 1).then_some(()));
    // The sender hears what is wrong with it: then nobody else needs to.
    peer.ask(br#"{"job_file": "absent.yaml"}"#.to_vec(), None, true);
    let answer = serde_json::to_value(peer.answer()).unwrap();
    assert!(answer["error"].as_str().unwrap().contains("absent.yaml"), "{answer}");
    peer.ask(br#"{"job_file": "absent.yaml"}"#.to_vec(), None, false);
    wait_for("the second dead letter", || (peer.dead_letters() == 2).then_some(()));
    wait_for("the metric", || served.get_text("/metrics").1.contains("fanfold_dead_letters 2\n").then_some(()));
}

#[test]
fn metrics_have_the_names_that_dashboards_use() {
    let (served, _) = served(ECHO, "", 3);
    served.submit("job.yaml", &[]);
    let wanted = [
        "fanfold_build_info{version=\"",
        "fanfold_jobs{state=\"Failed\"} 0\n",
        "fanfold_job_items{job=\"attack-",
        "fate=\"succeeded\"",
        "fanfold_job_mini_batches{job=",
        "fanfold_job_window{job=",
        "fanfold_job_nodes{job=",
        "fanfold_job_nodes_wanted{job=",
        "pool=\"default\"",
        "fanfold_job_processes{job=",
        "fanfold_job_seconds_since_progress{job=",
        "# TYPE fanfold_commit_seconds histogram",
        "fanfold_broker_connected 1\n",
        "fanfold_broker_blocked 0\n",
        "fanfold_redis_connected 1\n",
        "fanfold_dead_letters 0\n",
    ];
    wait_for("all figures", || {
        let text = served.get_text("/metrics").1;
        wanted.iter().all(|name| text.contains(name)).then_some(())
    });
    assert!(served.get("/openapi.json").1["paths"]["/v1/jobs"]["post"].is_object());
}
