//! One job on the fleet, as the command line and the service ask for it: the same life as an embedded job's, with nodes on other machines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfold_shared::backend::fleet::Fleet;
use fanfold_shared::backend::rabbitmq::{Broker, BrokerError};
use fanfold_shared::backend::redis::Store;
use fanfold_shared::backend::{Backend, Closed};
use fanfold_shared::failpoint;
use fanfold_shared::fleet::{SharedRoot, names};
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_shared::job::JobSpec;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::state::JobState;
use fanfold_worker::cloud::CacheSettings;

use super::Orders;
use super::fleet::{FleetNodes, broker_is_away, topology};
use super::observer::Audience;
use super::prepare::{Prepared, Purpose, TakeUp};
use super::script::{self, RetryScript, Script};
use super::submit::{self, Submitted};
use crate::datasets::DatasetStore;
use crate::ledger::Totals;
use crate::prepare::{listing, snapshot};
use crate::registry::{Entry, Registry};
use crate::report::{Comeback, Pace, Snapshot, Status, StatusFile, Work};

/// For each question to the broker.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two tries to reach a broker that is away.
const RETRY: Duration = Duration::from_millis(500);

/// What all jobs of a program share to be on the fleet. Clones share the connections.
#[derive(Clone)]
pub struct FleetLink {
    /// The connections to RabbitMQ.
    pub broker: Broker,
    /// Redis.
    pub store: Store,
    /// The directory that coordinator and workers share.
    pub shared: SharedRoot,
}

/// Called when the job comes into another state, with its cause; on the thread that runs the job.
pub type OnState = Arc<dyn Fn(JobState, Option<&str>) + Send + Sync>;

/// Which job.
#[derive(Clone, Debug)]
pub enum FleetJob {
    /// It is submitted now, or taken up where it lies if its directory holds it already.
    Request(SubmitRequest),
    /// It lies in this directory ([`submit_job`]), and is taken up as it is recorded there, with each `key=value` set.
    Dir(JobDir, Vec<String>),
}

/// What is to become a job.
#[derive(Clone, Debug)]
pub struct SubmitRequest {
    /// What to run.
    pub source: Source,
    /// `key=value` of each key that is set otherwise, in order.
    pub overrides: Vec<String>,
    /// The job directory; None: a new one under `fanfold-jobs` of the current directory.
    pub job_dir: Option<PathBuf>,
    /// The id of a job that is new; None: one is drawn.
    pub id: Option<JobId>,
    /// Where registered datasets are looked up.
    pub datasets: DatasetStore,
}

/// See [`SubmitRequest`].
#[derive(Clone, Debug)]
pub enum Source {
    /// A job file.
    File(PathBuf),
    /// The text of one.
    Inline {
        /// YAML, so JSON as well.
        text: String,
        /// An absolute directory: relative paths start there.
        base: PathBuf,
    },
}

/// A job that was submitted and does not run yet.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Where it lies.
    pub dir: JobDir,
    /// What it is.
    pub spec: JobSpec,
    /// When it was first submitted, microseconds since the epoch.
    pub created_us: u64,
    /// The directory held this job before.
    pub continued: bool,
}

/// A job to be run on the fleet.
pub struct FleetRun {
    /// Which.
    pub job: FleetJob,
    /// What for.
    pub purpose: Purpose,
    /// What is asked of it meanwhile.
    pub orders: Orders,
    /// Who wants to know of its states.
    pub on_state: OnState,
    /// How it is gone on with once it stands still.
    pub comeback: Comeback,
    /// Nothing is written to the terminal.
    pub quiet: bool,
}

/// Checks a request, makes its job directory, records the job in it and takes its copy of the script: from then on it is a job in
/// state Queued, which a service runs. Nothing runs yet.
///
/// # Errors
/// The job file's, those of [`super::SubmitError`], a path that other machines can't see, or that another program holds the job.
pub fn submit_job(shared: &SharedRoot, request: &SubmitRequest) -> Result<NewJob> {
    let submitted = submit::submit_to_fleet(shared, request)?;
    let withdrawal = submitted.withdrawal.clone();
    let outcome = queue(submitted, request);
    if outcome.is_err() {
        withdrawal.withdraw();
    }
    outcome
}

fn queue(submitted: Submitted, request: &SubmitRequest) -> Result<NewJob> {
    let Submitted { dir, id, spec, created_us, continued, .. } = &submitted;
    if !continued {
        // What can't be asked now is asked at the end.
        let _unasked = super::check_upload(spec, Some(&id.0))?;
        let mut beside = listing::own_directories(dir, &super::output_dir(spec, dir));
        beside.extend(match &request.source {
            Source::File(file) => Some(file.clone()),
            Source::Inline { .. } => None,
        });
        snapshot::take(spec, dir, submitted.script, &beside)?;
        let facts = super::facts(&submitted, spec, dir.job_yaml(), Comeback::Service, 0, *created_us);
        StatusFile::new(dir.status_json()).write(&Status::new(&facts, &queued(*created_us), &Pace::default()));
        // `fanfold ls` not showing it is no reason to refuse it.
        let _ = Registry::of_user().add(&Entry::new(&id.0, &spec.name, dir.root(), *created_us));
    }
    let (id, dir, spec, created_us, continued) = (id.clone(), dir.clone(), spec.clone(), *created_us, *continued);
    Ok(NewJob { id, dir, spec, created_us, continued })
}

/// What a retry of the job in `dir` will be.
#[derive(Clone, Debug)]
pub struct Retried {
    /// What the job is by then.
    pub spec: JobSpec,
    /// What it runs: for a new script that was asked for, the copy that was taken.
    pub script: RetryScript,
}

/// What the job in `dir` is with each `key=value` set, and with which script, if there is anything to try again in it. Nothing of the job is
/// changed; a new script is copied beside the one it has.
///
/// # Errors
/// Nothing failed, somebody works on the job, a key would make it another job, or there is no script to copy.
pub fn retried(shared: &SharedRoot, dir: &JobDir, overrides: &[String], script: RetryScript) -> Result<Retried> {
    let submitted = submit::reopen(dir, overrides, Some(shared))?;
    super::prepare::something_failed(&submitted)?;
    let script = match script::choose(&submitted, script)? {
        Script::New { script, .. } => RetryScript::Taken(script.number),
        Script::Own | Script::Unchanged => RetryScript::Own,
    };
    Ok(Retried { spec: submitted.spec, script })
}

fn queued(now_us: u64) -> Snapshot {
    Snapshot {
        now_us,
        state: JobState::Queued,
        cause: None,
        blocked: None,
        totals: Totals::default(),
        scheduled: 0,
        nodes: Vec::new(),
        nodes_wanted: 0,
        window: 0,
        processes: Vec::new(),
        errors: Vec::new(),
        items_lost: BTreeMap::new(),
        distinct_errors: 0,
        failures_stand: false,
        out_of_tries: false,
        first_handover_us: None,
        first_ready_us: None,
        last_commit_us: None,
        splitting: None,
        work: Work::default(),
        stopping_us: None,
    }
}

/// Runs a job on the fleet to its end, or as far as its orders and the world allow. A broker that is away ends nothing: the job waits.
///
/// # Errors
/// What stops a job before it runs, or ends its coordinator with everything that was committed safe ([`super::run`]). How the job ended
/// by itself is the exit code.
pub fn run_on_fleet(link: &FleetLink, run: FleetRun) -> Result<ExitCode> {
    let FleetRun { job, purpose, orders, on_state, comeback, quiet } = run;
    let (submitted, job_file, own_script) = match job {
        FleetJob::Request(request) => {
            let submitted = submit::submit_to_fleet(&link.shared, &request)?;
            let file = match request.source {
                Source::File(file) => file,
                Source::Inline { .. } => submitted.dir.job_yaml(),
            };
            (submitted, file, false)
        }
        FleetJob::Dir(dir, overrides) => (submit::reopen(&dir, &overrides, Some(&link.shared))?, dir.job_yaml(), true),
    };
    let script = match purpose {
        Purpose::Run => Script::Own,
        Purpose::RetryFailed(wanted) => script::choose(&submitted, wanted)?,
    };
    let audience = Audience { on_state: Some(on_state), quiet };
    let mut bound = Bound::begin(link, &submitted, script.number(submitted.script));
    let cache = CacheSettings::default();
    let take_up = TakeUp { purpose, script, orders: &orders, comeback, own_script, audience, cache };
    super::go_on(submitted, &job_file, &take_up, Some(&mut bound))
}

/// A job's hold on the fleet: its queues, from before it is prepared until nothing of it is left.
pub(super) struct Bound {
    link: FleetLink,
    id: JobId,
    dir: JobDir,
    /// The script that its nodes run, and that its queues are of.
    script: ScriptNumber,
    pool: String,
    /// Declares the queues while the job is prepared.
    declaring: Option<JoinHandle<Result<Fleet, BrokerError>>>,
    fleet: Option<Arc<Fleet>>,
    /// The queues stay: a next start of this program goes on with them.
    stay: bool,
}

impl Bound {
    fn begin(link: &FleetLink, submitted: &Submitted, script: ScriptNumber) -> Bound {
        let Submitted { id, dir, spec, .. } = submitted;
        let mut bound = Bound {
            link: link.clone(),
            id: id.clone(),
            dir: dir.clone(),
            script,
            pool: spec.compute_target.clone(),
            declaring: None,
            fleet: None,
            stay: false,
        };
        bound.declaring = Some(bound.declare());
        bound
    }

    fn declare(&self) -> JoinHandle<Result<Fleet, BrokerError>> {
        let Bound { link, id, dir, script, pool, .. } = self;
        let (link, id, dir, tickets) = (link.clone(), names::running(id, *script), dir.clone(), topology(pool));
        thread::spawn(move || {
            // First: where it is refused, nothing of the job is there that somebody would have to remove.
            link.broker.declare(tickets, LIMIT)?;
            Fleet::coordinate(&link.broker, &link.store, &id, &dir, LIMIT)
        })
    }

    /// The nodes, once the queues are there. None: the broker is away, and the job was told to stop.
    pub(super) fn nodes(&mut self, prepared: &mut Prepared, orders: &Orders) -> Result<Option<FleetNodes>> {
        loop {
            match self.try_nodes(prepared) {
                Ok(nodes) => return Ok(Some(nodes)),
                Err(BrokerError::Unreachable { why, .. }) => {
                    let blocked = broker_is_away(&why);
                    prepared.observer.waits(&prepared.aggregate, &blocked);
                    if orders.count() > 0 {
                        return Ok(None);
                    }
                    thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn try_nodes(&mut self, prepared: &Prepared) -> Result<FleetNodes, BrokerError> {
        let fleet = match &self.fleet {
            Some(fleet) => fleet.clone(),
            None => {
                let declaring = self.declaring.take().unwrap_or_else(|| self.declare());
                let fleet = declaring.join().unwrap_or(Err(BrokerError::Closed(Closed)))?;
                failpoint!("fleet_queues_declared");
                self.fleet.insert(Arc::new(fleet)).clone()
            }
        };
        let Prepared { dir, spec, script, continued, .. } = prepared;
        FleetNodes::start(&self.link, fleet, (&self.id, *script), dir, spec, *continued)
    }

    pub(super) fn backend(&self) -> Arc<dyn Backend> {
        self.fleet.clone().expect("the nodes have been bound")
    }

    /// The running ended. Unless its coordinator failed, nothing of the job stays on the fleet.
    pub(super) fn settle(&mut self, nodes: FleetNodes, ended: bool) {
        self.stay = !ended;
        if ended {
            failpoint!("fleet_nodes_left");
            nodes.forget();
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(declaring) = self.declaring.take() {
            self.fleet = declaring.join().ok().and_then(Result::ok).map(Arc::new);
        }
        // After a panic everything stays: what is confirmed there is not lost to the next start.
        if let Some(fleet) = self.fleet.take().filter(|_| !self.stay && !thread::panicking()) {
            failpoint!("fleet_before_clean_up");
            // With the broker away they expire by themselves.
            let _ = fleet.clean_up();
            for earlier in self.script.earlier() {
                let _ = Fleet::forget(&self.link.broker, &self.link.store, &names::running(&self.id, earlier));
            }
            failpoint!("fleet_after_clean_up");
        }
    }
}
