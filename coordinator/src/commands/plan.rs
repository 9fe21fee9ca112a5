//! `fanfold plan`: what a job would do. It writes nothing and runs nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use fanfold_shared::job::{self, InputType, JobSpec};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::split::Split;
use fanfold_shared::text::{counted, grouped, size};
use fanfold_worker::devices::discover;
use serde_json::json;

use super::written;
use crate::prepare::{listing, snapshot};
use crate::run::{inherited_mask, output_dir, output_file, process_count};

/// The version of what `--json` prints.
const PLAN_VERSION: u32 = 1;

/// Show what would run, and run nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job_file: PathBuf,
    /// Where the job would lie
    #[arg(long, value_name = "DIR")]
    job_dir: Option<PathBuf>,
    /// Set a key of the job file; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the plan to `out`.
///
/// # Errors
/// What would keep the job from running.
pub fn run(args: Args, out: &mut dyn Write) -> Result<ExitCode> {
    let spec = job::load(&args.job_file, &args.overrides)?;
    let dir = JobDir::new(args.job_dir.unwrap_or_else(|| PathBuf::from("fanfold-jobs").join("<job id>")));
    let own = listing::own_directories(&dir, &output_dir(&spec, &dir));
    let snapshot = snapshot::preview(&spec, &own)?;
    let counted = listing::count(&spec, &own, &|| false)?;
    let devices = discover(spec.gpus.as_deref(), inherited_mask(&spec).as_deref())?;
    let devices: Vec<String> = devices.into_iter().map(|device| device.visible).collect();
    let processes = process_count(&spec, devices.len());
    let notes: Vec<&String> = snapshot.notes.iter().chain(&counted.notes).collect();
    let text = if args.json {
        let inputs = counted.split.inputs.iter().map(|input| {
            let items = input.items.end - input.items.start;
            json!({ "name": input.name, "items": items, "mini_batches": items.div_ceil(counted.split.mini_batch_items) })
        });
        let plan = json!({
            "version": PLAN_VERSION,
            "items": counted.split.items(),
            "mini_batches": counted.split.mini_batches(),
            "inputs": inputs.collect::<Vec<_>>(),
            "processes": processes,
            "gpus": devices,
            "snapshot": { "files": snapshot.files, "bytes": snapshot.bytes },
            "notes": notes,
            "job": spec,
        });
        format!("{plan:#}\n")
    } else {
        let output = output_file(&spec, &dir).unwrap_or_else(|| output_dir(&spec, &dir));
        table(&spec, &counted.split, processes, &devices, &snapshot, &output, &notes)
    };
    Ok(written(out.write_all(text.as_bytes()))?)
}

fn table(
    spec: &JobSpec,
    split: &Split,
    processes: u32,
    devices: &[String],
    snapshot: &snapshot::Snapshot,
    output: &Path,
    notes: &[&String],
) -> String {
    let item = match spec.input_type {
        InputType::Files => "file",
        InputType::Lines => "line",
    };
    let mut text =
        format!("{}: {} in {}\n", spec.name, counted(split.items(), item), counted(split.mini_batches(), "mini-batch"));
    let mut row = |name: &str, value: String| text += &format!("  {name:<14}{value}\n");
    for input in &split.inputs {
        let items = input.items.end - input.items.start;
        let mini_batches = items.div_ceil(split.mini_batch_items);
        let root = if input.root.is_empty() { String::new() } else { format!(" under {}", input.root) };
        row(&input.name, format!("{}{root}, {}", counted(items, item), counted(mini_batches, "mini-batch")));
    }
    let gpus = match devices {
        [] => "no GPUs".to_string(),
        devices => format!("GPUs {}", devices.join(", ")),
    };
    row("processes", format!("{} on this machine, {gpus}", grouped(processes.into())));
    row("snapshot", format!("{}, {}", counted(snapshot.files, "file"), size(snapshot.bytes)));
    row("output", output.display().to_string());
    for note in notes {
        row("note", (*note).clone());
    }
    text += "\nResolved job file\n";
    for line in spec.to_yaml().lines() {
        text += &format!("  {line}\n");
    }
    text
}
