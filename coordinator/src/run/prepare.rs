//! Everything between a submitted job and its first mini-batch: snapshot, items, ledger, devices, environment, working
//! directory. Cheap refusals come before expensive work, and all of it is recognised when it is there already.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fanfold_shared::clock;
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_shared::items::{Fingerprints, ItemReader, is_listed};
use fanfold_shared::job::{JobSpec, OnFailure};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_shared::state::JobState;
use fanfold_worker::cloud::CacheSettings;
use fanfold_worker::equip::{self, Equipment, Site, Word};
use fanfold_worker::guard;
use fanfold_worker::logs::Level;
use fanfold_worker::node::survivors;

use super::driver::wants_fingerprints;
use super::observer::{Audience, Observer};
use super::places::{node_id, output_file};
use super::script::{self, RetryScript, Script};
use super::submit::{self, SubmitError, Submitted};
use super::{Orders, changed, facts, reuse, since, verdict};
use crate::aggregate::{Aggregate, AggregateConfig, Recovered, Tries, output_len};
use crate::datasets;
use crate::ledger::{LedgerError, LedgerReader};
use crate::prepare::listing::Listed;
use crate::prepare::splitter::{Grace, Splitting};
use crate::prepare::{ListError, listing, pandas, snapshot};
use crate::registry::{Entry, Registry};
use crate::report::Comeback;

/// A job that is ready to run.
pub struct Prepared {
    /// What still splits the tables. Dropped first: it has ended before the ledger's lock is given up.
    pub splitting: Option<Splitting>,
    /// Its directory.
    pub dir: JobDir,
    /// What it is.
    pub spec: JobSpec,
    /// The copy of its script that it runs.
    pub script: ScriptNumber,
    /// Its ledger and output.
    pub aggregate: Aggregate,
    /// What the user sees.
    pub observer: Observer,
    /// What running takes; taken when it starts. None: everything is settled, and only the end is missing.
    pub equipment: Option<Equipped>,
    /// What the user asks for.
    pub orders: Orders,
    /// It was there before.
    pub continued: bool,
}

/// How a job is taken up.
pub struct TakeUp<'a> {
    /// What for.
    pub purpose: Purpose,
    /// With which script.
    pub script: Script,
    /// What is asked of it.
    pub orders: &'a Orders,
    /// How it is gone on with once it stands still; unless that is here, its nodes are on other machines.
    pub comeback: Comeback,
    /// It was submitted with a copy of its script, and whatever became of the script since is no concern of it.
    pub own_script: bool,
    /// Who is told.
    pub audience: Audience,
    /// Where files at addresses are kept, if it runs here.
    pub cache: CacheSettings,
}

/// What running takes.
pub struct Equipped {
    /// What the node works with, if it is one of this program.
    pub equipment: Option<Equipment>,
    /// What the files were like.
    pub fingerprints: Option<Fingerprints>,
}

/// What a job is taken up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To run it, or to go on with it. One that ended is not run again.
    Run,
    /// To give what is out of tries another chance.
    RetryFailed(RetryScript),
}

impl Purpose {
    /// Whether what is out of tries gets another chance.
    pub fn is_retry(self) -> bool {
        matches!(self, Purpose::RetryFailed(_))
    }
}

/// What preparing came to.
pub enum Outcome {
    /// It can run.
    Ready(Box<Prepared>),
    /// There is nothing to run: it is over already, or a signal came.
    Over(ExitCode),
}

/// Why a job can't be prepared, where no other error says it.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It is Failed or Canceled.
    #[error("job {id} in `{}` is {state}{}", dir.display(), because(cause))]
    Ended {
        /// The job.
        id: String,
        /// Its directory.
        dir: PathBuf,
        /// Its state.
        state: JobState,
        /// Why.
        cause: Option<String>,
    },
    /// It is Completed, but its result is not what it wrote.
    #[error("job {id} is Completed, but its output `{}` {what}", file.display())]
    ResultGone {
        /// The job.
        id: String,
        /// The output file.
        file: PathBuf,
        /// What became of it.
        what: String,
    },
    /// There is nothing to retry.
    #[error("job {id} is Completed, and no mini-batch of it is out of tries")]
    NothingFailed {
        /// The job.
        id: String,
    },
    /// Listing took too long.
    #[error("{}", .0.text)]
    Late(verdict::Cause),
}

fn because(cause: &Option<String>) -> String {
    cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl Report for PrepareError {
    fn exit_code(&self) -> ExitCode {
        match self {
            PrepareError::Ended { state: JobState::Canceled, .. } => ExitCode::Canceled,
            PrepareError::ResultGone { .. } | PrepareError::NothingFailed { .. } => ExitCode::Usage,
            PrepareError::Ended { .. } | PrepareError::Late(_) => ExitCode::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            PrepareError::Ended { id, .. } => format!(
                "`fanfold errors {id}` shows what failed; `fanfold retry --failed {id}` goes on with this job and its copy of the script, \
                 and with `--new-script` with the script as it is now"
            ),
            PrepareError::ResultGone { .. } => {
                "nothing was changed; bring the file back from a copy, or run the job in a new directory (leave `--job-dir` out)"
                    .into()
            }
            PrepareError::NothingFailed { .. } => {
                "rows of a short return are in already and stay; to run everything again, use a new directory".into()
            }
            PrepareError::Late(_) => "raise first_task_creation_timeout, or name fewer files".into(),
        })
    }
}

/// Prepares a submitted job.
///
/// # Errors
/// Everything that keeps it from running; nothing was run, and nothing of another job was touched.
pub fn prepare(submitted: Submitted, job_file: &Path, take_up: &TakeUp<'_>) -> Result<Outcome> {
    let TakeUp { purpose, ref script, orders, ref comeback, own_script, ref audience, ref cache } = *take_up;
    let began = Instant::now();
    let started_us = clock::wall_us();
    audience.state(JobState::Preparing, None);
    let Submitted { dir, spec, continued, .. } = &submitted;
    match purpose {
        Purpose::Run if *continued => {
            if let Some(over) = over(&submitted, job_file, take_up)? {
                return Ok(over);
            }
        }
        Purpose::Run => (),
        Purpose::RetryFailed(_) => something_failed(&submitted)?,
    }
    let unasked = match continued {
        true => None,
        false => super::check_upload(spec, Some(&submitted.id.0))?,
    };
    let entry = Entry::new(&submitted.id.0, &spec.name, dir.root(), submitted.created_us);
    let own = listing::own_directories(dir, &super::output_dir(spec, dir));
    // The job file may lie beside the script, and may change while the script may not.
    let beside: Vec<PathBuf> = own.iter().cloned().chain([job_file.to_path_buf()]).collect();
    let taken = snapshot::take(spec, dir, submitted.script, &beside)?;
    if *continued && !own_script {
        same_script(&submitted)?;
    }
    let first = !is_listed(&dir.items());
    if first && !comeback.is_on_fleet() {
        pandas::check(spec)?;
    }
    let Listed { items, mut notes, splitting } = match list(spec, dir, &own, began, orders)? {
        Some(listed) => listed,
        None => {
            let state = if orders.is_canceled() { JobState::Canceled } else { JobState::Paused };
            audience.state(state, None);
            audience.tell("interrupted while the inputs were listed: nothing was run; the same command begins anew");
            return Ok(Outcome::Over(super::stopped(orders)));
        }
    };
    let split = items.split().clone();

    let facts = facts(&submitted, spec, job_file.to_path_buf(), comeback.clone(), 0, started_us);
    let record = submitted.to_record();
    let Submitted { dir, id, spec, script: own, lock, continued, notes: of_job_file, .. } = submitted;
    notes.splice(..0, of_job_file.into_iter().chain(unasked));
    let (mut aggregate, recovered) = Aggregate::open(AggregateConfig {
        job: dir.clone(),
        lock,
        job_id: id.clone(),
        fingerprint: script::fingerprint(&spec, &taken.hash),
        split: split.clone(),
        output: output_file(&spec, &dir),
        table: spec.writes_parquet(),
        ordered: spec.ordered,
        header: spec.append_row_dataframe_header,
        tries: Tries { most: spec.run_max_try, bisect: spec.on_failure == OnFailure::Bisect },
    })?;
    if continued {
        // A service goes on by itself after each restart: there such rows fail, and nobody has to come for the rest.
        if purpose.is_retry() || *comeback != Comeback::Service {
            changed::refuse(&spec, &dir, &items, &aggregate, purpose)?;
        }
        submit::keep(&record, &dir)?;
    }
    // Not earlier: what is refused up to here is not a job that anybody would look for.
    if let Err(error) = Registry::of_user().add(&entry) {
        audience.tell(&format!("warning: `fanfold ls` will not show this job: {error}: {}", error.source));
    }
    let (script, hash) = match purpose.is_retry() {
        true => script::retry(&mut aggregate, script, (own, taken.hash), &mut notes)?,
        false => (own, taken.hash),
    };
    let mut facts = facts;
    facts.script = aggregate.ledger().scripts()?.pop();
    facts.settled_before = aggregate.totals().mini_batches_settled();
    let entries = items.entries();
    let mut observer = Observer::new(facts, items, spec.logging_level, audience.clone());
    observer.begin(&split, &aggregate, &recovered);
    for note in taken.notes.iter().chain(&notes) {
        observer.note(Level::Warning, note);
    }

    observer.show(&aggregate);
    if continued && let Some(text) = survivors(&guard::sweep_leftovers(&id, &node_id())) {
        observer.note(Level::Warning, &text);
    }
    if !aggregate.all_settled()
        && let Err(error) = reuse::begin(&spec, &dir, &hash, comeback.is_on_fleet(), first)
    {
        observer.log(Level::Warning, &format!("no later run will use this job's result: {error}: {}", error.source));
    }
    let equipped = match aggregate.all_settled() {
        true => Ok(None),
        false if comeback.is_on_fleet() => {
            observer.asking(&spec);
            fingerprints(&spec, &dir, entries).map(|fingerprints| Some(Equipped { equipment: None, fingerprints }))
        }
        false => equip(&spec, (&dir, script), (&id, &recovered), cache, (&aggregate, &mut observer), orders).map(Some),
    };
    match equipped {
        // Whatever was cut short: it was so by the signal.
        Err(_) if orders.count() > 0 => Ok(Outcome::Over(super::pause(&mut aggregate, &mut observer, orders)?)),
        Err(failure) => Ok(Outcome::Over(super::cannot_run(&mut aggregate, &mut observer, &failure)?)),
        Ok(equipment) => {
            let orders = orders.clone();
            let prepared = Prepared { dir, spec, script, aggregate, observer, equipment, orders, continued, splitting };
            Ok(Outcome::Ready(Box::new(prepared)))
        }
    }
}

/// Everything that the node works with.
fn equip(
    spec: &JobSpec,
    (dir, script): (&JobDir, ScriptNumber),
    (id, recovered): (&JobId, &Recovered),
    cache: &CacheSettings,
    (aggregate, observer): (&Aggregate, &mut Observer),
    orders: &Orders,
) -> Result<Equipped> {
    let node = node_id();
    let site = Site {
        id,
        spec,
        job: dir,
        script,
        node: &node,
        dir: dir.node(&node),
        items: ItemReader::open(&dir.items())?,
        gpus: None,
        processes: None,
        next_process: next_process(dir, recovered),
        cache,
        membership: None,
        cancel: orders.flag(),
    };
    let mut tell = |word: Word<'_>| match word {
        Word::Building(line) => observer.building(aggregate, line),
        Word::Note(level, text) => observer.note(level, text),
    };
    let equipment = equip::equip(site, &mut tell).map_err(|unfit| unfit.failure)?;
    observer.starting(&equipment.plan);
    let fingerprints = fingerprints(spec, dir, equipment.items.entries())?;
    Ok(Equipped { equipment: Some(equipment), fingerprints })
}

fn fingerprints(spec: &JobSpec, dir: &JobDir, items: u64) -> Result<Option<Fingerprints>> {
    Ok(match wants_fingerprints(spec) {
        true => Some(Fingerprints::create(&dir.items(), items)?),
        false => None,
    })
}

/// A job that ended is not run again.
fn over(submitted: &Submitted, job_file: &Path, take_up: &TakeUp<'_>) -> Result<Option<Outcome>> {
    let TakeUp { comeback, audience, own_script, .. } = take_up;
    let ledger = match LedgerReader::open(&submitted.dir) {
        Ok(ledger) => ledger,
        Err(LedgerError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let status = ledger.status()?;
    if !status.state.is_final() {
        return Ok(None);
    }
    let began_us = status.started_us.unwrap_or(status.created_us);
    // As it was run, not as it would be run now.
    let spec = submitted.before.as_ref().unwrap_or(&submitted.spec);
    let facts = facts(submitted, spec, job_file.to_path_buf(), comeback.clone(), 0, began_us);
    super::observer::close_late(&facts, &ledger, &status, submitted.spec.logging_level, audience.clone())?;
    audience.state(status.state, status.cause.as_deref());
    match status.state {
        JobState::Completed => {
            if let Some(file) = &facts.output_file {
                is_the_result(&facts.id.0, file, output_len(&ledger, &ledger.totals()?)?)?;
            }
            let exit = super::observer::already_completed(&facts, &ledger, audience)?;
            if !own_script {
                let out_of_tries = ledger.anything_out_of_tries()?;
                since::notes(submitted, out_of_tries)
                    .iter()
                    .for_each(|note| audience.tell(&format!("  note          {note}")));
            }
            Ok(Some(Outcome::Over(exit)))
        }
        JobState::Failed | JobState::Canceled => {
            let (id, dir) = (submitted.id.0.clone(), submitted.dir.root().to_path_buf());
            Err(PrepareError::Ended { id, dir, state: status.state, cause: status.cause }.into())
        }
        _ => Ok(None),
    }
}

/// A Completed job with nothing out of tries has nothing to retry.
pub(super) fn something_failed(submitted: &Submitted) -> Result<()> {
    let ledger = LedgerReader::open(&submitted.dir)?;
    let nothing = ledger.status()?.state == JobState::Completed && !ledger.anything_out_of_tries()?;
    if nothing { Err(PrepareError::NothingFailed { id: submitted.id.0.clone() }.into()) } else { Ok(()) }
}

/// A glance at the output of a Completed job; `doctor --verify` looks closer.
fn is_the_result(id: &str, file: &Path, written: u64) -> Result<()> {
    let what = match fs::metadata(file) {
        Ok(found) if found.len() == written => return Ok(()),
        Ok(found) => format!("has {} bytes, and the job wrote {written}", found.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is gone".to_string(),
        Err(error) => return Err(error).during("examine", file)?,
    };
    Err(PrepareError::ResultGone { id: id.to_string(), file: file.to_path_buf(), what }.into())
}

/// The script may not have changed under a job that is continued: its rows would be of two kinds. Only what the job has its own
/// copy of counts; files that came since are none of its business.
fn same_script(submitted: &Submitted) -> Result<()> {
    let Some(files) = since::changed_files(submitted)? else { return Ok(()) };
    let (dir, copy) = (submitted.dir.root().to_path_buf(), submitted.dir.snapshot(submitted.script));
    Err(SubmitError::ScriptChanged { dir, id: submitted.id.clone(), files, copy }.into())
}

/// The item list: the one that is there, or a new one, whose tables may still be split. None: a signal came.
fn list(spec: &JobSpec, dir: &JobDir, own: &[PathBuf], began: Instant, orders: &Orders) -> Result<Option<Listed>> {
    let there = is_listed(&dir.items());
    let limit = Duration::from_secs(spec.first_task_creation_timeout);
    let cancel = || ListError::canceled_if(orders.count() > 0 || began.elapsed() >= limit);
    match listing::list(spec, &dir.items(), own, Grace::usual(), &cancel) {
        Ok(mut listed) => {
            if there {
                // All of it is read once: what is damaged is found before anything runs, and while it can still be brought back.
                let items = &listed.items;
                items.for_each(0..items.entries(), |_, _| ())?;
            } else {
                listed.notes.extend(datasets::notes::changed(spec, own, &cancel));
            }
            Ok(Some(listed))
        }
        Err(_) if orders.count() > 0 => Ok(None),
        Err(_) if began.elapsed() >= limit => {
            let doing = "the inputs were still being listed";
            Err(PrepareError::Late(verdict::first_task_late(limit.as_secs(), doing)).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The number after that of every process that the ledger or a log knows: a process that was started but never reported
/// before a crash has only its log.
fn next_process(dir: &JobDir, recovered: &Recovered) -> u32 {
    let recorded = recovered.next_process.get(&node_id()).map_or(0, |number| number.0);
    let logs = dir.logs();
    let any = logs.process(&node_id(), fanfold_shared::ids::ProcessNumber(0));
    let seen = any.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let highest = seen
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let digits: String = name.strip_prefix("process")?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        })
        .max();
    recorded.max(highest.map_or(0, |highest| highest + 1))
}
