//! The examples of other services that enqueue jobs, run as they are written.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{ECHO, served};
use crate::running::skip;
use crate::support::{assert_each_once, finish};

/// To install a package, or to run an example.
const LIMIT: Duration = Duration::from_secs(120);

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/enqueue").join(name)
}

#[test]
fn a_shell_enqueues_with_curl() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("curl is not installed: examples/enqueue/enqueue.sh was not run");
    }
    let (served, items) = served(ECHO, "", 12);
    let _worker = served.world.worker();
    let mut command = served.place().command("sh");
    command.arg(example("enqueue.sh")).arg("job.yaml").env("FANFOLD_SERVICE", &served.url);
    command.env("FANFOLD_TOKEN_FILE", served.place().path("service/token"));
    let ran = finish(command.spawn().expect("sh"), LIMIT).expect(0);
    let rows: Vec<String> = ran.stdout.lines().map(str::to_string).collect();
    assert_each_once(&rows, &items);
}

#[test]
fn python_enqueues_with_pika() {
    let (served, _) = served(ECHO, "", 12);
    let environment = served.place().path("venv");
    let made = served.place().command("python3").args(["-m", "venv"]).arg(&environment).status();
    let python = environment.join("bin/python");
    let install = || {
        served
            .place()
            .command(python.to_str().expect("UTF-8"))
            .args(["-m", "pip", "install", "--quiet", "--retries", "1", "pika"])
            .spawn()
    };
    let installed =
        made.is_ok_and(|status| status.success()) && install().is_ok_and(|child| finish(child, LIMIT).code == Some(0));
    if !installed {
        return skip("pika can't be installed here: examples/enqueue/enqueue.py was not run");
    }
    let _worker = served.world.worker();
    let mut command = served.place().command(python.to_str().expect("UTF-8"));
    command.arg(example("enqueue.py")).arg("job.yaml").env("FANFOLD_BROKER", &served.world.url);
    let ran = finish(command.spawn().expect("python"), LIMIT).expect(0);
    assert!(ran.stdout.contains(" Completed 12 of 12 "), "{}", ran.stdout);
}
