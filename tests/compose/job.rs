//! A whole job through service and worker, with the users of `compose/` and no others, looked at while it runs.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use fanfold_test_servers::wait_until;
use nix::sys::signal::Signal;

use crate::running::{GATED, Running, job_of, open_gate, wait_until_begun};
use crate::servers::{Secrets, Servers, compose, free_ports, get};
use crate::support::{LIMIT, Place, assert_each_once, wait_for};
use crate::world::worker_program;

/// Fails one item before it waits for the gate, so that there are failures to be counted.
const ONE_FAILS: &str = "
    if mini_batch == ['item-000']:
        raise ValueError('no digit')";

pub fn runs() {
    let place = Place::new();
    let secrets = Secrets::make(place.path("secrets"));
    let servers = Servers::start(&place.path("servers"), &secrets);
    let [api, told] = free_ports();
    let token_file = secrets.dir.join("api_token");
    let token = secrets.read("api_token");
    let join = |mut command: Command, role: &str| {
        let [broker, redis] = servers.addresses(&secrets, role);
        command
            .env("FANFOLD_BROKER_FILE", broker)
            .env("FANFOLD_REDIS_FILE", redis)
            .env("FANFOLD_SHARED", place.path(""));
        command
    };

    // The worker first: compose promises no order, and what it needs is among the definitions.
    let mut worker = join(place.command(worker_program().to_str().expect("a path of ours")), "worker");
    worker.arg("--work-dir").arg(place.path("work")).args(["--metrics", &format!("127.0.0.1:{told}")]);
    let worker = Running::start(&place, worker);
    let mut service = join(place.fanfold(), "coordinator");
    service.arg("serve").arg("--state").arg(place.path("service")).arg("--token-file").arg(&token_file);
    service.args(["--listen", &format!("127.0.0.1:{api}")]);
    let service = Running::start(&place, service);
    wait_for("the service to listen", || std::net::TcpStream::connect(("127.0.0.1", api)).ok());

    let ask = |arguments: &[&str]| {
        let mut command = place.fanfold();
        command.args(arguments).env("FANFOLD_SERVICE", format!("http://127.0.0.1:{api}"));
        let ran = command.env("FANFOLD_TOKEN_FILE", &token_file).output().expect("the program starts");
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.success(), String::from_utf8_lossy(&ran.stdout).into_owned(), told)
    };
    let script = GATED.replace("def run(mini_batch):", &format!("def run(mini_batch):{ONE_FAILS}"));
    job_of(&place, &script, "run_max_try: 1\nrun_invocation_timeout: 600\n");
    let items = place.write_items(12);
    let (submitted, job, told_of) = ask(&["submit", place.path("job.yaml").to_str().unwrap()]);
    assert!(submitted, "{told_of}");
    let job = job.trim();
    wait_until_begun(&place, 2);

    let wanted = asked_for();
    let queues = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count&vhost=fanfold";
    let missing = RefCell::new(Vec::new());
    let nobody_has = || format!("alerts or dashboard ask for what nobody has: {:?}", missing.borrow());
    wait_until(LIMIT, nobody_has, || {
        let texts = [
            get(api, "/metrics", Some(&token)),
            get(told, "/metrics", None),
            get(servers.broker_metrics, "/metrics", None),
            get(servers.broker_metrics, queues, None),
        ];
        let has = |name: &str| {
            let of = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            texts.iter().any(|text| text.lines().any(of))
        };
        *missing.borrow_mut() = wanted.iter().filter(|name| !has(name)).collect();
        missing.borrow().is_empty()
    });
    // RabbitMQ counts its queues every 5 s.
    let counted = || get(servers.broker_metrics, queues, None).contains(&format!("fanfold.tasks.{job}"));
    wait_for("the job's queue among the metrics", || counted().then_some(()));

    open_gate(&place);
    let rows = wait_for("the result", || {
        let (there, rows, _) = ask(&["results", job]);
        there.then_some(rows)
    });
    let rows: Vec<String> = rows.lines().map(str::to_string).collect();
    assert_each_once(&rows, &items[1..]);
    wait_for("the job's queues to be gone", || {
        (!get(servers.broker_metrics, queues, None).contains(job)).then_some(())
    });
    for program in [worker, service] {
        program.signal(Signal::SIGTERM);
        program.ends(LIMIT, 0);
    }
}

/// The names of metrics in alerts and dashboard.
fn asked_for() -> BTreeSet<String> {
    let read = |name: &str| fs::read_to_string(compose(name)).unwrap();
    let texts = read("prometheus/alerts.yml") + &read("grafana/dashboards/fanfold.json");
    let part_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = texts.split(|character| !part_of_a_name(character));
    let names: BTreeSet<String> = words
        .filter(|word| word.starts_with("fanfold_") || word.starts_with("rabbitmq_"))
        .map(str::to_string)
        .collect();
    assert!(names.len() > 20, "{names:?}");
    names
}
