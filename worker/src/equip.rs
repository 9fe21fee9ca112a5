//! Everything that a node works with, made ready before its first process: environment, devices, working directory, guard.
//!
//! The node of an embedded job and a worker of a fleet are equipped alike; only where things lie is different ([`Site`]). What
//! is complete already is recognised, so being cut short costs nothing but time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fanfold_shared::ids::{JobId, NodeId, ScriptNumber};
use fanfold_shared::items::ItemReader;
use fanfold_shared::job::{self, JobSpec, Places};
use fanfold_shared::layout::{JobDir, NodeDir};
use fanfold_shared::report::{During, Failure, Report};
use fanfold_shared::split::Split;

use crate::cloud::{CacheSettings, Cloud};
use crate::descriptors;
use crate::devices::{NodeDevices, default_processes, discover};
use crate::environment::{self, EnvironmentError};
use crate::guard::Guard;
use crate::logs::Level;
use crate::node::{Membership, NodePlan};
use crate::workdir;

/// What a node works with.
pub struct Equipment {
    /// What it keeps for itself.
    pub dir: NodeDir,
    /// What it does.
    pub plan: NodePlan,
    /// The items of the job, at places of this machine.
    pub items: ItemReader,
    /// What brings files at addresses here; None: nothing of the job lies at one.
    pub cloud: Option<Arc<Cloud>>,
    /// What it hands out.
    pub devices: NodeDevices,
    /// What sweeps up behind it.
    pub guard: Guard,
    /// On a fleet.
    pub membership: Option<Membership>,
}

/// The node to be equipped, and what its host decides.
pub struct Site<'a> {
    /// The job.
    pub id: &'a JobId,
    /// What it is, with the paths of this machine.
    pub spec: &'a JobSpec,
    /// Its directory.
    pub job: &'a JobDir,
    /// The copy of its script that the node runs.
    pub script: ScriptNumber,
    /// The node.
    pub node: &'a NodeId,
    /// What the node keeps for itself.
    pub dir: NodeDir,
    /// The items of the job, at places of this machine.
    pub items: ItemReader,
    /// The GPUs that the node may use, if not what the job says.
    pub gpus: Option<&'a [String]>,
    /// The processes it runs, if not what the job says.
    pub processes: Option<u32>,
    /// The number of the first process.
    pub next_process: u32,
    /// Where files at addresses are kept on this machine.
    pub cache: &'a CacheSettings,
    /// On a fleet.
    pub membership: Option<Membership>,
    /// Set, it ends all waiting.
    pub cancel: &'a AtomicBool,
}

/// What is told while a node is equipped.
pub enum Word<'a> {
    /// What pip says.
    Building(&'a str),
    /// What the user should know.
    Note(Level, &'a str),
}

/// Why a node can't be equipped.
#[derive(Debug)]
pub struct Unfit {
    /// The reason.
    pub failure: Failure,
    /// It would be the same on any other host.
    pub anywhere: bool,
}

impl<E: Report> From<E> for Unfit {
    fn from(error: E) -> Unfit {
        Unfit { failure: error.into(), anywhere: false }
    }
}

/// Makes everything ready. It may take minutes; `tell` hears how it goes.
///
/// # Errors
/// What this node can't have.
pub fn equip(site: Site<'_>, tell: &mut dyn FnMut(Word<'_>)) -> Result<Equipment, Unfit> {
    let Site { id, spec, job, script, node, dir, items, gpus, processes, next_process, cache, membership, cancel } =
        site;
    // First: credentials that are missing are found at once, an environment takes minutes.
    let mut note = |level, text: &str| tell(Word::Note(level, text));
    let (cloud, brought) = Cloud::prepare(spec, &job.items(), &items, cache, cancel, &mut note)?;
    let log = job.logs().environment_build();
    let python = environment::prepare(&spec.environment, &log, cancel, &mut |line| tell(Word::Building(line)))
        .map_err(|error| Unfit { anywhere: is_the_jobs_own(&error), failure: error.into() })?;
    let gpus = gpus.or(spec.gpus.as_deref());
    let found = discover(gpus, inherited_mask(spec).as_deref())?;
    let wanted = processes.unwrap_or_else(|| process_count(spec, found.len()));
    let (processes, advice) = descriptors::affordable(at_work(wanted, items.split()));
    if let Some(advice) = advice {
        tell(Word::Note(Level::Warning, &advice));
    }
    let chosen = gpus.is_some();
    let mut waiting = |text: &str| tell(Word::Note(Level::Info, text));
    let devices = NodeDevices::take(&found, chosen, processes, spec.surplus_processes, &id.0, cancel, &mut waiting)?;
    if let Some(advice) = devices.advice(wanted) {
        tell(Word::Note(Level::Warning, &advice));
    }
    let work = workdir::prepare(job, script, &dir, &brought.models)?;
    let output_dir = spec.output.clone().unwrap_or_else(|| job.default_output());
    fs::create_dir_all(&output_dir).during("create", &output_dir)?;
    let guard = Guard::start(id, node, &devices.locks())?;
    let places = Places { side_inputs: brought.side_inputs, ..Places::local(spec, &output_dir, processes) };
    let plan = NodePlan {
        job_id: id.0.clone(),
        python,
        working_dir: work.path,
        entry_script: spec.entry_script.clone(),
        argv: job::entry_argv(spec, &places),
        input_type: spec.input_type,
        partition: spec.partition.clone(),
        path_format: spec.path_format().cloned(),
        read_csv: spec.read_csv.clone(),
        mltable: spec.mltable.clone(),
        header: brought.header,
        column_steps: spec.column_steps(),
        output_action: spec.output_action,
        writes_parquet: spec.writes_parquet(),
        row_key: spec.append_row_key,
        dataframe_header: spec.append_row_dataframe_header,
        output_dir,
        logging_level: spec.logging_level,
        profiling_module: spec.profiling_module,
        resource_monitor_interval: spec.resource_monitor_interval,
        processes,
        next_process,
        run_max_try: spec.run_max_try,
        run_invocation_timeout: spec.run_invocation_timeout,
        task_overhead_timeout: spec.task_overhead_timeout,
        model_dir: work.model_dir,
        environment_variables: spec.environment_variables.clone(),
    };
    Ok(Equipment { dir, plan, items, cloud, devices, guard, membership })
}

/// Whether an environment fails on every host: what a build comes to depends on what is to be built. Where no interpreter is,
/// another host may have one.
fn is_the_jobs_own(error: &EnvironmentError) -> bool {
    matches!(error, EnvironmentError::Build { .. } | EnvironmentError::Requirement { .. })
}

/// What the job says, else what a node with so many devices runs by default.
pub fn process_count(spec: &JobSpec, devices: usize) -> u32 {
    spec.process_count_per_node.unwrap_or_else(|| default_processes(devices))
}

/// Of so many processes those that a job can keep busy: one that never gets a mini-batch would only load the model.
pub fn at_work(processes: u32, split: &Split) -> u32 {
    // While the data is still being split, nobody knows how many there will be.
    let most = if split.is_complete() { split.mini_batches() } else { u64::MAX };
    u32::try_from(most).unwrap_or(u32::MAX).clamp(1, processes.max(1))
}

/// The mask that bounds the node: the job's own, else what this program inherited.
pub fn inherited_mask(spec: &JobSpec) -> Option<String> {
    const MASK: &str = "CUDA_VISIBLE_DEVICES";
    spec.environment_variables.get(MASK).cloned().or_else(|| std::env::var(MASK).ok())
}
