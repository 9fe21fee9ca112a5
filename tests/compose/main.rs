//! What `compose/` deploys, on real servers of the test's own: its users are enough for a job and for nothing else, and every metric that its
//! alerts and its dashboard ask for is one that somebody has. Each alert has a section that says what to do.

mod job;
mod rights;
#[path = "../support/running.rs"]
mod running;
mod servers;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "for the worker's program")]
#[path = "../fleet/world.rs"]
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use servers::{Secrets, Servers};

#[test]
fn secrets_are_made_once_and_only_hashes_leave_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets");
    let contents = |secrets: &Secrets| -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&secrets.dir).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (file.display().to_string(), fs::read(&file).unwrap())).collect()
    };
    let first = Secrets::make(path.clone());
    let before = contents(&first);
    let again = Secrets::make(path);
    assert!(contents(&again) == before, "the second run changed something");

    let mode = |name: &str| fs::metadata(again.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for (file, _) in &before {
        let name = file.rsplit('/').next().unwrap();
        let expected = match name {
            "rabbitmq_definitions.json" | "redis_users.acl" => 0o644,
            "prometheus_token" | "grafana_admin_password" => 0o640,
            _ => 0o600,
        };
        assert_eq!(mode(name), expected, "{name}");
    }
    let open = again.read("rabbitmq_definitions.json") + &again.read("redis_users.acl");
    for name in ["broker_coordinator", "broker_worker", "redis_coordinator", "redis_worker"] {
        assert_eq!(again.password(name).len(), 64, "{name}");
        assert!(!open.contains(&again.password(name)), "{name}");
    }
    for user in ["@admin@", "@coordinator@", "@worker@"] {
        assert!(!open.contains(user), "{user} was not filled in:\n{open}");
    }
}

#[test]
fn the_users_may_do_their_work_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = Secrets::make(dir.path().join("secrets"));
    let servers = Servers::start(dir.path(), &secrets);
    rights::of_the_broker(&servers, &secrets);
    rights::of_redis(&servers, &secrets);
}

#[test]
fn a_job_runs_with_these_users_and_every_metric_asked_for_is_there() {
    job::runs();
}

#[test]
fn each_alert_leads_to_what_to_do_about_it() {
    let alerts = fs::read_to_string(servers::compose("prometheus/alerts.yml")).unwrap();
    let operations = fs::read_to_string(servers::compose("../docs/operations.md")).unwrap();
    let sections: Vec<&str> = operations.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let told = |mark: &str| alerts.lines().filter_map(|line| line.trim_start().strip_prefix(mark)).collect::<Vec<_>>();
    let names = told("- alert: ");
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        assert!(sections.contains(name), "docs/operations.md has no section `### {name}`");
    }
    let links: Vec<String> = names.iter().map(|name| format!("docs/operations.md#{}", name.to_lowercase())).collect();
    assert_eq!(told("runbook_url: "), links, "each alert's runbook_url is that of its own section, in their order");
    for section in sections.iter().filter(|section| section.starts_with("Fanfold")) {
        assert!(names.contains(section), "docs/operations.md has a section for `{section}`, which is no alert");
    }
}

#[test]
fn each_alert_fires_when_it_should() {
    let ran = std::process::Command::new("promtool")
        .args(["test", "rules", "alerts.test.yml"])
        .current_dir(servers::compose("prometheus"))
        .output();
    match ran {
        Ok(ran) => assert!(ran.status.success(), "{}", support::text(&ran)),
        Err(_) => running::skip("promtool is not installed (Debian package prometheus)"),
    }
}
