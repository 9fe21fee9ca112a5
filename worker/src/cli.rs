//! The command line of `fanfold-worker`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::cloud::CacheOptions;

/// A stateless worker: joins jobs of a pool and runs their mini-batches on this host.
///
/// It waits for a broker and a Redis that are away, and takes one job after the other until it is told to end. Ctrl-C or
/// SIGTERM: finishes what runs, gives the rest back, leaves; a second one: kills it.
#[derive(Parser)]
#[command(name = "fanfold-worker", version, max_term_width = 100)]
pub struct Cli {
    /// Address of RabbitMQ, `amqp://…` or `amqps://…`; better given in a file that FANFOLD_BROKER_FILE names, or in
    /// FANFOLD_BROKER, as everybody on the host can read options. FANFOLD_CA, FANFOLD_CERT and FANFOLD_KEY are PEM files for TLS
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// Address of Redis, `redis://…` or `rediss://…`; better in FANFOLD_REDIS_FILE or FANFOLD_REDIS
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Where this host has the directory that coordinator and workers share
    #[arg(long, value_name = "DIR", env = "FANFOLD_SHARED", default_value = "/")]
    pub shared: PathBuf,
    /// The pool whose jobs it takes
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = pool)]
    pub pool: String,
    /// GPUs that this worker may use, e.g. `0,1` [default: all visible]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub gpus: Option<Vec<String>>,
    /// Processes that it runs, whatever a job's process_count_per_node says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub processes: Option<u32>,
    /// End after so many seconds without a job
    #[arg(long, value_name = "SECONDS")]
    pub max_idle: Option<u64>,
    /// Directory on a local disk for what nodes keep while they live [default: fanfold/worker in the user's cache]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Tell metrics (GET /metrics) and health (GET /healthz) at this address
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics_address)]
    pub metrics: Option<SocketAddr>,
    /// Acknowledge a task that was held for so many seconds, and answer for it with the heartbeat from then on: well below the
    /// broker's consumer_timeout, which is 30 minutes unless it was changed
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    pub lease_after: u64,
    /// Of what is brought from object stores
    #[command(flatten)]
    pub cache: CacheOptions,
    /// Tell what this host would bring to a job (host name, cores, GPUs, processes by default), and end
    #[arg(long)]
    pub describe: bool,
    /// With --describe: print JSON
    #[arg(long, requires = "describe")]
    pub json: bool,
    /// Tell by the exit code whether a worker of this host (and --work-dir) is connected and well, and end
    #[arg(long, conflicts_with = "describe")]
    pub health: bool,
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
