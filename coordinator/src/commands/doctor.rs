//! `fanfold doctor`: whether this machine, and the fleet if one is named, can run jobs; and `--verify`: whether a job's result is what its ledger proves.

mod fleet;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use fanfold_shared::job::JobRecord;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, size};
use fanfold_store::Datastores;
use fanfold_worker::devices;
use serde_json::json;

use super::fleet::FleetArgs;
use super::written;
use crate::aggregate::verify;
use crate::ledger::LedgerReader;
use crate::registry::Registry;
use crate::run::lost_uploads;

/// The version of what `--json` prints.
const DOCTOR_VERSION: u32 = 1;

/// Check this machine and the fleet, or the result of a job.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check every checksum and interval of this job (an id, the beginning of one, or a job directory)
    #[arg(long, value_name = "JOB")]
    verify: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what was found to `out`. Exit code 1 if something is wrong.
///
/// # Errors
/// The job can't be found, or its ledger can't be read at all.
pub fn run(args: Args, out: &mut dyn Write) -> Result<ExitCode> {
    match &args.verify {
        Some(job) => verify_job(job, args.json, out),
        None => machine(&args.fleet, args.json, out),
    }
}

fn verify_job(job: &str, as_json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    let dir = Registry::of_user().find(job)?;
    let mut report = verify(&dir)?;
    let ledger = LedgerReader::open(&dir)?;
    let uri = JobRecord::read(&dir)?.and_then(|record| record.spec.output_uri);
    if let (Some(uri), JobState::Completed) = (&uri, ledger.status()?.state) {
        lost_uploads(&ledger, uri, &mut |problem| report.problem(problem))?;
    }
    let sound = report.is_clean();
    let text = if as_json {
        let report = json!({
            "version": DOCTOR_VERSION,
            "job_dir": dir.root(),
            "sound": sound,
            "groups": report.groups,
            "mini_batches": report.mini_batches,
            "bytes": report.committed_len,
            "uri": uri,
            "problem_count": report.problem_count,
            "problems": report.problems,
        });
        format!("{report:#}\n")
    } else {
        let mut text = format!(
            "{}: {} in {}, {} of output\n",
            dir.root().display(),
            counted(report.mini_batches, "mini-batch"),
            counted(report.groups, "commit"),
            size(report.committed_len),
        );
        if let Some(uri) = &uri {
            text += &format!("uploaded to {uri}\n");
        }
        for problem in &report.problems {
            text += &format!("problem: {problem}\n");
        }
        text += if sound { "sound: every checksum and every interval is right\n" } else { "NOT sound\n" };
        text
    };
    written(out.write_all(text.as_bytes()))?;
    Ok(if sound { ExitCode::Completed } else { ExitCode::Failed })
}

/// One thing that was looked at.
struct Check {
    name: &'static str,
    /// What was found, or what is wrong with it and how to mend it.
    found: Result<String, String>,
}

fn machine(fleet: &FleetArgs, as_json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    let mut checks = vec![python(), venv(), gpus(), disk()];
    checks.extend(datastores());
    if fleet.is_given() {
        checks.extend(fleet::checks(fleet));
    }
    let sound = checks.iter().all(|check| check.found.is_ok());
    let text = if as_json {
        let checks = checks.iter().map(|check| {
            let (ok, text) = match &check.found {
                Ok(text) => (true, text),
                Err(text) => (false, text),
            };
            json!({ "check": check.name, "ok": ok, "found": text })
        });
        format!("{:#}\n", json!({ "version": DOCTOR_VERSION, "sound": sound, "checks": checks.collect::<Vec<_>>() }))
    } else {
        let line = |check: &Check| match &check.found {
            Ok(text) => format!("ok       {:<8}{text}\n", check.name),
            Err(text) => format!("problem  {:<8}{text}\n", check.name),
        };
        checks.iter().map(line).collect()
    };
    written(out.write_all(text.as_bytes()))?;
    Ok(if sound { ExitCode::Completed } else { ExitCode::Failed })
}

fn python() -> Check {
    let found = ask("python3", &["-c", "import sys; print(sys.version.split()[0], sys.executable)"]).map_err(|why| {
        format!("python3 can't be started ({why}); install Python 3.7 or later, or set `environment: python:`")
    });
    Check { name: "python", found }
}

fn venv() -> Check {
    let found = ask("python3", &["-c", "import venv, ensurepip; print('virtual environments can be built')"])
        .map_err(|_| "the modules venv and ensurepip are missing; on Debian: apt-get install python3-venv".to_string());
    Check { name: "venv", found }
}

fn gpus() -> Check {
    let inherited = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let found = devices::discover(None, inherited.as_deref())
        .map(|devices| match devices.as_slice() {
            [] => "none".to_string(),
            devices => {
                let named = |device: &devices::Device| match &device.name {
                    Some(name) => format!("{} ({name})", device.visible),
                    None => device.visible.clone(),
                };
                devices.iter().map(named).collect::<Vec<_>>().join(", ")
            }
        })
        .map_err(|error| error.to_string());
    Check { name: "gpus", found }
}

fn disk() -> Check {
    let here = Path::new(".");
    let found = match nix::sys::statvfs::statvfs(here) {
        Ok(disk) => {
            let free = disk.blocks_available() * disk.fragment_size();
            match crate::ledger::network_file_system(here) {
                Ok(Some(kind)) => Ok(format!("{} free here, on {kind}: ledgers go to the state directory", size(free))),
                _ => Ok(format!("{} free here", size(free))),
            }
        }
        Err(errno) => Err(format!("the file system here can't be examined: {}", errno.desc())),
    };
    Check { name: "disk", found }
}

/// Only where there are some, or should be.
fn datastores() -> Option<Check> {
    let found = match Datastores::load() {
        Ok(none) if none.entries.is_empty() => return None,
        Ok(Datastores { warning: Some(warning), .. }) => Err(warning),
        Ok(some) => Ok(format!(
            "{} in {} (`fanfold datastore check NAME` tries one)",
            counted(some.entries.len() as u64, "datastore"),
            some.path.display()
        )),
        Err(error) => Err(error.to_string()),
    };
    Some(Check { name: "stores", found })
}

fn ask(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_string()),
        false => Err(output.status.to_string()),
    }
}
