//! The `fanfold-worker` program: one node after the other of whatever jobs its pool has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::fleet::config::{FleetConfig, environment};
use fanfold_shared::report::{self, During, Failure, Report};
use fanfold_worker::cloud::CacheOptions;
use fanfold_worker::devices::{cores, default_processes, discover};
use fanfold_worker::fleet::{Settings, health, secrets};
use fanfold_worker::guard;
use fanfold_worker::node::host_name;
use serde_json::json;

/// The version of what `--json` prints.
const DESCRIBE_VERSION: u32 = 1;

/// A stateless worker: joins jobs of a pool and runs their mini-batches on this host.
///
/// It waits for a broker and a Redis that are away, and takes one job after the other until it is told to end. Ctrl-C or
/// SIGTERM: finishes what runs, gives the rest back, leaves; a second one: kills it.
#[derive(Parser)]
#[command(name = "fanfold-worker", version, max_term_width = 100)]
struct Cli {
    /// Address of RabbitMQ, `amqp://…` or `amqps://…`; better given in a file that FANFOLD_BROKER_FILE names, or in
    /// FANFOLD_BROKER, as everybody on the host can read options. FANFOLD_CA, FANFOLD_CERT and FANFOLD_KEY are PEM files for TLS
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Address of Redis, `redis://…` or `rediss://…`; better in FANFOLD_REDIS_FILE or FANFOLD_REDIS
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Where this host has the directory that coordinator and workers share
    #[arg(long, value_name = "DIR", env = "FANFOLD_SHARED", default_value = "/")]
    shared: PathBuf,
    /// The pool whose jobs it takes
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = pool)]
    pool: String,
    /// GPUs that this worker may use, e.g. `0,1` [default: all visible]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gpus: Option<Vec<String>>,
    /// Processes that it runs, whatever a job's process_count_per_node says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    processes: Option<u32>,
    /// End after so many seconds without a job
    #[arg(long, value_name = "SECONDS")]
    max_idle: Option<u64>,
    /// Directory on a local disk for what nodes keep while they live [default: fanfold/worker in the user's cache]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Tell metrics (GET /metrics) and health (GET /healthz) at this address
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics_address)]
    metrics: Option<SocketAddr>,
    /// Acknowledge a task that was held for so many seconds, and answer for it with the heartbeat from then on: well below the
    /// broker's consumer_timeout, which is 30 minutes unless it was changed
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    lease_after: u64,
    #[command(flatten)]
    cache: CacheOptions,
    /// Tell what this host would bring to a job (host name, cores, GPUs, processes by default), and end
    #[arg(long)]
    describe: bool,
    /// With --describe: print JSON
    #[arg(long, requires = "describe")]
    json: bool,
    /// Tell by the exit code whether a worker of this host (and --work-dir) is connected and well, and end
    #[arg(long, conflicts_with = "describe")]
    health: bool,
}

/// No worker is well.
#[derive(Debug, thiserror::Error)]
#[error("no worker of this host is connected to its broker")]
struct Unwell;

impl Report for Unwell {
    fn exit_code(&self) -> report::ExitCode {
        report::ExitCode::Unreachable
    }
}

/// `:9108` and `9108` are of this host alone.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let text = match text.trim_start_matches(':').parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => text.to_string(),
    };
    text.parse().map_err(|_| "it should look like 127.0.0.1:9108, or 9108".to_string())
}

/// It is part of a queue's name.
fn pool(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    match !text.is_empty() && text.len() <= 100 && text.chars().all(plain) {
        true => Ok(text.to_string()),
        false => Err("it should be letters, digits, `-`, `_` and `.`".to_string()),
    }
}

fn main() -> ExitCode {
    guard::run_if_guard();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stream leaves nobody to tell.
            let _ = error.print();
            let code = if error.use_stderr() { report::ExitCode::Usage } else { report::ExitCode::Completed };
            return code.into();
        }
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // As above.
            let _ = failure.print(&mut std::io::stderr().lock());
            failure.exit_code().into()
        }
    }
}

fn run(cli: Cli) -> Result<report::ExitCode, Failure> {
    if cli.describe {
        describe(&cli)?;
        return Ok(report::ExitCode::Completed);
    }
    if cli.health {
        return if health::is_well(cli.work_dir) { Ok(report::ExitCode::Completed) } else { Err(Unwell.into()) };
    }
    secrets::keep();
    let name = format!("fanfold/worker/{}/{}", host_name(), std::process::id());
    let shared = SharedRoot::find(&cli.shared).during("find the shared directory", &cli.shared)?;
    fanfold_worker::fleet::run(Settings {
        fleet: FleetConfig::read(cli.broker.as_deref(), cli.redis.as_deref(), name, environment)?,
        shared,
        pool: cli.pool,
        gpus: cli.gpus,
        processes: cli.processes,
        max_idle: cli.max_idle.map(Duration::from_secs),
        base: cli.work_dir,
        metrics: cli.metrics,
        lease_after: Duration::from_secs(cli.lease_after),
        cache: cli.cache.settings()?,
    })
}

fn describe(cli: &Cli) -> Result<(), Failure> {
    let inherited = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let devices = discover(cli.gpus.as_deref(), inherited.as_deref())?;
    let (cores, processes) = (cores(), default_processes(devices.len()));
    let gpus: Vec<&str> = devices.iter().map(|device| device.visible.as_str()).collect();
    if cli.json {
        let about = json!({
            "version": DESCRIBE_VERSION, "host": host_name(), "cores": cores, "gpus": gpus, "default_processes": processes,
        });
        println!("{about:#}");
    } else {
        let gpus = if gpus.is_empty() { "none".to_string() } else { gpus.join(", ") };
        println!(
            "host       {}\ncores      {cores}\nGPUs       {gpus}\nprocesses  {processes} by default",
            host_name()
        );
    }
    Ok(())
}
