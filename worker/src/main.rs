//! The `fanfold-worker` program: one node after the other of whatever jobs its pool has.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::fleet::config::{FleetConfig, environment};
use fanfold_shared::report::{self, During, Failure, Report};
use fanfold_worker::cli::Cli;
use fanfold_worker::devices::{cores, default_processes, discover};
use fanfold_worker::fleet::{Settings, health, secrets};
use fanfold_worker::guard;
use fanfold_worker::node::host_name;
use serde_json::json;

/// The version of what `--json` prints.
const DESCRIBE_VERSION: u32 = 1;

/// No worker is well.
#[derive(Debug, thiserror::Error)]
#[error("no worker of this host is connected to its broker")]
struct Unwell;

impl Report for Unwell {
    fn exit_code(&self) -> report::ExitCode {
        report::ExitCode::Unreachable
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
