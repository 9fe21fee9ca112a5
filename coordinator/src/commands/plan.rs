//! `fanfold plan`: what a job would do. It writes nothing and runs nothing.

use std::io::Write;
use std::path::PathBuf;

use fanfold_shared::durable;
use fanfold_shared::job::{self, JobSpec};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_shared::split::Split;
use fanfold_shared::text::{counted, grouped, size};
use fanfold_worker::devices::discover;
use serde_json::json;

use super::args::SetArgs;
use super::fleet::FleetArgs;
use super::written;
use crate::datasets::{DatasetStore, notes};
use crate::prepare::{listing, pandas, snapshot};
use crate::run::{
    at_work, check_upload, inherited_mask, is_shared, output_dir, output_file, output_uri, process_count, stand_in,
};

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
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the job would run on.
enum Nodes {
    /// This machine, with so many processes and these GPUs.
    Here { processes: u32, gpus: Vec<String> },
    /// Workers, which know themselves what they have.
    Fleet,
}

/// Prints the plan to `out`.
///
/// # Errors
/// What would keep the job from running. Whether the servers of a fleet answer is not tried.
pub fn run(args: Args, out: &mut dyn Write) -> Result<ExitCode> {
    let dir = JobDir::new(args.job_dir.unwrap_or_else(|| PathBuf::from("fanfold-jobs").join("<job id>")));
    let datasets = DatasetStore::of_user();
    let spec = if args.fleet.is_given() {
        args.fleet.config("plan")?;
        let spec = job::load_for_fleet(&args.job_file, &args.set.overrides, &datasets)?;
        is_shared(&args.fleet.shared()?, &spec, &std::path::absolute(dir.root()).during("find", dir.root())?)?;
        spec
    } else {
        job::load(&args.job_file, &args.set.overrides, &datasets)?
    };
    let own = listing::own_directories(&dir, &output_dir(&spec, &dir));
    let snapshot = snapshot::preview(&spec, &own)?;
    if !args.fleet.is_given() {
        pandas::check(&spec)?;
    }
    let counted = listing::count(&spec, &own, &|| Ok(()))?;
    let nodes = if args.fleet.is_given() {
        Nodes::Fleet
    } else {
        let devices = discover(spec.gpus.as_deref(), inherited_mask(&spec).as_deref())?;
        let processes = at_work(process_count(&spec, devices.len()), &counted.split);
        Nodes::Here { processes, gpus: devices.into_iter().map(|device| device.visible).collect() }
    };
    let base = std::path::absolute(&args.job_file).during("find", &args.job_file)?;
    let of_datasets =
        [notes::shadowed(&spec, durable::parent(&base), &datasets), notes::changed(&spec, &own, &|| Ok(()))];
    let reused = stand_in(&spec, &args.job_file, args.fleet.is_given())
        .map(|id| format!("`fanfold run` would use the result of {id}, which was the same job; `--no-reuse` runs it"));
    let unasked = match reused {
        // Its output is there, as it should be.
        Some(_) => None,
        None => check_upload(&spec, None)?,
    };
    let of_job = snapshot.notes.iter().chain(&counted.notes).chain(&reused).chain(&unasked);
    let notes: Vec<&String> = of_job.chain(of_datasets.iter().flatten()).collect();
    let from = spec.datasets();
    let text = if args.json {
        let inputs = counted.split.inputs.iter().enumerate().map(|(number, input)| {
            json!({
                "name": input.name,
                "dataset": from.get(&input.name),
                "items": counted.split.items_of(number),
                "mini_batches": counted.split.mini_batches_of(number),
            })
        });
        let (processes, gpus, pool, node_count) = match &nodes {
            Nodes::Here { processes, gpus } => (Some(processes), Some(gpus), None, None),
            Nodes::Fleet => (None, None, Some(&spec.compute_target), spec.node_count),
        };
        let plan = json!({
            "version": PLAN_VERSION,
            "items": counted.split.items(),
            "mini_batches": counted.split.mini_batches(),
            "inputs": inputs.collect::<Vec<_>>(),
            "processes": processes,
            "gpus": gpus,
            "pool": pool,
            "node_count": node_count,
            "snapshot": { "files": snapshot.files, "bytes": snapshot.bytes },
            "notes": notes,
            "job": spec,
        });
        format!("{plan:#}\n")
    } else {
        let output = match output_uri(&spec) {
            Some(uri) => uri.to_string(),
            None => output_file(&spec, &dir).unwrap_or_else(|| output_dir(&spec, &dir)).display().to_string(),
        };
        table(&spec, &counted.split, &nodes, &snapshot, output, &notes)
    };
    Ok(written(out.write_all(text.as_bytes()))?)
}

fn table(
    spec: &JobSpec,
    split: &Split,
    nodes: &Nodes,
    snapshot: &snapshot::Snapshot,
    output: String,
    notes: &[&String],
) -> String {
    let item = spec.input_type.item();
    let from = spec.datasets();
    let mut text =
        format!("{}: {} in {}\n", spec.name, counted(split.items(), item), counted(split.mini_batches(), "mini-batch"));
    let mut row = |name: &str, value: String| text += &format!("  {name:<14}{value}\n");
    for (number, input) in split.inputs.iter().enumerate() {
        let items = split.items_of(number);
        let mini_batches = split.mini_batches_of(number);
        let root = if input.root.is_empty() { String::new() } else { format!(" under {}", input.root) };
        let dataset = from.get(&input.name).map(|dataset| format!(" of {dataset}")).unwrap_or_default();
        let text = format!("{}{dataset}{root}, {}", counted(items, item), counted(mini_batches, "mini-batch"));
        row(&input.name, text);
    }
    match nodes {
        Nodes::Here { processes, gpus } => {
            let gpus = if gpus.is_empty() { "no GPUs".to_string() } else { format!("GPUs {}", gpus.join(", ")) };
            row("processes", format!("{} on this machine, {gpus}", grouped((*processes).into())));
        }
        Nodes::Fleet => {
            let count =
                spec.node_count.map_or("as many as come".into(), |most| format!("up to {}", grouped(most.into())));
            row("nodes", format!("{count} of pool `{}`", spec.compute_target));
            let processes = spec.process_count_per_node.map(|count| format!("{} on each node", grouped(count.into())));
            row("processes", processes.unwrap_or_else(|| "as many as each worker brings".into()));
        }
    }
    row("snapshot", format!("{}, {}", counted(snapshot.files, "file"), size(snapshot.bytes)));
    row("output", output);
    for note in notes {
        row("note", (*note).clone());
    }
    text += "\nResolved job file\n";
    for line in spec.to_yaml().lines() {
        text += &format!("  {line}\n");
    }
    text
}
