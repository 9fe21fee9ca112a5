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
use std::path::Path;
use std::process::Command;

use serde_json::Value;
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

#[test]
fn the_file_of_datastores_is_for_coordinator_and_workers_alone() {
    let compose = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose");
    let config = |files: &[&str]| -> Option<Value> {
        let mut command = Command::new("docker-compose");
        command.current_dir(&compose).args(files.iter().flat_map(|file| ["-f", *file]));
        let told = command.args(["--profile", "gpu", "--profile", "monitoring", "config"]).output().ok()?;
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let yaml = tempfile::NamedTempFile::new().unwrap();
        fs::write(yaml.path(), &told.stdout).unwrap();
        let to_json = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
        let json = Command::new("python3").args(["-c", to_json]).arg(yaml.path()).output().ok()?;
        json.status.success().then(|| serde_json::from_slice(&json.stdout).expect("JSON"))
    };
    let Some(with) = config(&["compose.yaml", "compose.cloud.yaml"]) else {
        return running::skip("docker-compose and PyYAML are not installed");
    };
    let without = config(&["compose.yaml"]).expect("it was there a moment ago");
    let file = with["secrets"]["datastores"]["file"].as_str().unwrap();
    assert!(file.ends_with("/compose/secrets/datastores.yaml"), "{file}");
    for (name, service) in with["services"].as_object().unwrap() {
        let secrets = |service: &Value| service["secrets"].as_array().map_or(0, Vec::len);
        let more = usize::from(matches!(name.as_str(), "coordinator" | "worker" | "worker-gpu"));
        // The others are still there.
        assert_eq!(secrets(service), secrets(&without["services"][name]) + more, "{name}");
        let told = service["environment"]["FANFOLD_DATASTORES"].as_str();
        assert_eq!(told, (more == 1).then_some("/run/secrets/datastores"), "{name}");
        let environment = |service: &Value| service["environment"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(environment(service), environment(&without["services"][name]) + more, "{name}");
    }
}
