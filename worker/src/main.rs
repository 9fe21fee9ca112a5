//! The `fanfold-worker` program: one node of a fleet. Fleets are not here yet; what it can do today is tell what this host
//! would bring to one.

use std::process::ExitCode;

use clap::Parser;
use fanfold_shared::report::{self, Failure, Report};
use fanfold_worker::devices::{cores, default_processes, discover};
use fanfold_worker::node::host_name;
use serde_json::json;

/// The version of what `--json` prints.
const DESCRIBE_VERSION: u32 = 1;

/// A stateless worker: joins jobs of a pool and runs their mini-batches on this host.
#[derive(Parser)]
#[command(name = "fanfold-worker", version, max_term_width = 100)]
struct Cli {
    /// Tell what this host would bring to a job (host name, cores, GPUs, processes by default), and end
    #[arg(long)]
    describe: bool,
    /// With --describe: print JSON
    #[arg(long, requires = "describe")]
    json: bool,
    /// GPUs that this worker may use, e.g. `0,1` [default: all visible]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gpus: Option<Vec<String>>,
}

/// There is nothing to join.
#[derive(Debug, thiserror::Error)]
#[error("this version of fanfold has no fleet to join: jobs run on one machine, without workers of their own")]
struct NoFleet;

impl Report for NoFleet {
    fn exit_code(&self) -> report::ExitCode {
        report::ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("run the job with `fanfold run JOB.yaml`; `fanfold-worker --describe` tells what this host has".into())
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stream leaves nobody to tell.
            let _ = error.print();
            let code = if error.use_stderr() { report::ExitCode::Usage } else { report::ExitCode::Completed };
            return code.into();
        }
    };
    match run(&cli) {
        Ok(()) => report::ExitCode::Completed.into(),
        Err(failure) => {
            // As above.
            let _ = failure.print(&mut std::io::stderr().lock());
            failure.exit_code().into()
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if !cli.describe {
        return Err(NoFleet.into());
    }
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
