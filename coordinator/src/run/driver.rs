//! The running job: publishes what the window allows, commits what comes back, and decides when it is over.
//!
//! One thread does all of it, in this order, again and again: publish, receive, commit, acknowledge, judge, report. So
//! nothing here is shared and nothing can be seen half done. What may die between two steps is `docs/design/ledger.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::{Backend, Delivery};
use fanfold_shared::failpoint;
use fanfold_shared::items::Fingerprints;
use fanfold_shared::job::{InputType, JobSpec};
use fanfold_shared::message::{FromNode, NodeEvent, NodeMessage};
use fanfold_shared::report::Result;
use fanfold_worker::logs::Level;
use fanfold_worker::node::NodeHandle;

use super::Orders;
use super::observer::Observer;
use super::verdict::{self, Cause, ProgressClock};
use super::window::Window;
use crate::aggregate::{Aggregate, CommitError, Part};

/// Rows that are committed at once, bytes.
const GROUP_BYTES: usize = 16 << 20;
/// Between two looks at everything else, when no results come.
const LOOK: Duration = Duration::from_millis(50);
/// Between two tries while the disk is full.
pub const DISK_FULL_RETRY: Duration = Duration::from_secs(1);
/// How long a lack of progress is left to the node to explain, when no process became ready.
const INIT_SPEAKS: Duration = Duration::from_secs(5);
/// Items whose fingerprints are taken at once.
const STRETCH: u64 = 4096;
/// Beyond the limits of what runs, until an interrupted job is killed.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// How the running ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every mini-batch is settled.
    Settled,
    /// It must not go on.
    Failed(Cause),
    /// A signal asked for it.
    Interrupted,
}

/// A running job.
pub struct Driver<'a> {
    /// What the job is.
    pub spec: &'a JobSpec,
    /// The ledger and the output.
    pub aggregate: &'a mut Aggregate,
    /// The way to the node and back.
    pub backend: Arc<dyn Backend>,
    /// The node.
    pub node: &'a NodeHandle,
    /// What the user sees.
    pub observer: &'a mut Observer,
    /// What the user asks for.
    pub orders: &'a Orders,
    /// What is out.
    pub window: Window,
    /// What the files were like.
    pub fingerprints: Option<Fingerprints>,
    /// The processes of all nodes.
    pub processes: u64,
}

/// What changes while a job runs.
struct Course {
    began: Instant,
    ending: Option<Ending>,
    /// When what still runs is killed, once the job is ending.
    patience: Option<Instant>,
    killed: bool,
    /// Because nothing moves.
    given_up: bool,
    left: bool,
    joined: bool,
    /// What slots wait for, that is no fault of the job's.
    held_up: BTreeMap<u32, String>,
    clock: ProgressClock,
    inits: u64,
    init_failures: u64,
    fingerprinted: u64,
    scheduled_noted: bool,
}

impl Driver<'_> {
    /// Runs until the node has left and everything it said is committed.
    ///
    /// # Errors
    /// The ledger or the output failed in a way that only a new start can mend.
    pub fn run(mut self) -> Result<Ending> {
        let mut course = Course {
            began: Instant::now(),
            ending: None,
            patience: None,
            killed: false,
            given_up: false,
            left: false,
            joined: false,
            held_up: BTreeMap::new(),
            clock: ProgressClock::new(Duration::from_secs(self.spec.progress_update_timeout)),
            inits: 0,
            init_failures: 0,
            fingerprinted: 0,
            scheduled_noted: false,
        };
        while !course.left {
            self.publish(&mut course)?;
            let Ok(deliveries) = self.backend.receive_results(GROUP_BYTES, LOOK) else { break };
            if deliveries.is_empty() && self.node.is_gone() {
                // It ended without a word: a bug of ours, but not one that hangs.
                course.end(Ending::Failed(Cause::bug("the node's thread ended without saying so")));
                break;
            }
            if !self.take(&mut course, deliveries)? {
                // Nothing that the node still says could be committed: nobody waits for it. Its handle, dropped, kills it.
                return Ok(Ending::Interrupted);
            }
            self.judge(&mut course);
            self.observer.tick(self.aggregate, &self.window, course.held_up.values().next().map(String::as_str));
        }
        if let (Some(Ending::Failed(cause)), true) = (&mut course.ending, course.given_up && course.inits == 0)
            && let Some(error) = self.observer.last_init_error()
        {
            // Given up in init(): the node has said by now where it hung.
            cause.traceback = error.traceback.clone();
        }
        match course.ending {
            // What ran was the last: there is nothing to go on with later.
            Some(Ending::Interrupted) if self.aggregate.totals().mini_batches_remaining() == 0 => Ok(Ending::Settled),
            ending => Ok(ending.unwrap_or(Ending::Interrupted)),
        }
    }

    fn publish(&mut self, course: &mut Course) -> Result<()> {
        if course.ending.is_some() {
            return Ok(());
        }
        let (settled, split) = (self.aggregate.settled(), self.aggregate.split());
        let mut tasks = self.window.tasks(settled, split);
        tasks.extend(self.window.next_suspect(settled, split));
        if let (Some(fingerprints), Some(last)) = (&self.fingerprints, tasks.last()) {
            let needed = split.mini_batch(last.mini_batches.end - 1).1.end.max(course.fingerprinted);
            if needed > course.fingerprinted {
                let to = needed.next_multiple_of(STRETCH).min(split.items());
                fingerprints.take(self.observer.items(), course.fingerprinted..to)?;
                course.fingerprinted = to;
            }
        }
        if tasks.is_empty() {
            return Ok(());
        }
        failpoint!("before_publish");
        // Only the end of the job closes the backend, and then `receive_results` says so.
        let _ = self.backend.publish_tasks(tasks);
        self.observer.handed_out();
        if self.window.all_scheduled() && !course.scheduled_noted {
            course.scheduled_noted = true;
            self.observer.scheduling_finished(course.began.elapsed());
        }
        Ok(())
    }

    /// Commits a group, then acknowledges it: never the other way round. False: there is no room for it, and the user does
    /// not wait; nothing of it is lost, as it is run again when the job is continued.
    fn take(&mut self, course: &mut Course, deliveries: Vec<Delivery<FromNode>>) -> Result<bool> {
        if deliveries.is_empty() {
            return Ok(true);
        }
        let parts: Vec<Part<'_>> = deliveries.iter().map(|delivery| Part::from(&**delivery)).collect();
        let committed = loop {
            match self.aggregate.commit(&parts) {
                Ok(committed) => break committed,
                Err(CommitError::DiskFull { path, source }) => {
                    if self.orders.count() > 0 {
                        return Ok(false);
                    }
                    self.wait_for_room(course, &path, &source.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        };
        drop(parts);
        let (mut outcomes, mut elapsed_us) = (0, 0);
        for delivery in &deliveries {
            match &delivery.body {
                NodeMessage::Results(results) => {
                    outcomes += results.outcomes.len() as u64;
                    elapsed_us += results.outcomes.iter().map(|outcome| outcome.elapsed_us).sum::<u64>();
                }
                NodeMessage::Event(event) => self.hear(course, delivery, event),
            }
        }
        failpoint!("before_acknowledge");
        deliveries.into_iter().for_each(Delivery::ack);
        if outcomes > 0 {
            self.window.answered(outcomes - committed.duplicates.min(outcomes), elapsed_us as f64 / outcomes as f64);
        }
        self.window.settled(self.aggregate.settled(), self.aggregate.split());
        for retry in &committed.again {
            self.window.retry(retry.mini_batch, retry.attempt);
        }
        // An attempt that failed is an answer, too: what does not get through is bounded by its tries.
        if outcomes > committed.duplicates || !committed.settled.is_empty() {
            course.clock.progress(Instant::now());
        }
        self.observer.committed(self.aggregate, &committed);
        Ok(true)
    }

    /// Shows that the disk is full and waits a moment.
    fn wait_for_room(&mut self, course: &mut Course, path: &Path, why: &str) {
        course.clock.run(false, Instant::now());
        let blocked =
            format!("disk full: cannot write `{}` ({why}); make room, the job goes on by itself", path.display());
        self.observer.tick(self.aggregate, &self.window, Some(&blocked));
        thread::sleep(DISK_FULL_RETRY);
    }

    fn hear(&mut self, course: &mut Course, message: &FromNode, event: &NodeEvent) {
        self.observer.event(&message.node, event);
        match event {
            NodeEvent::Joined { .. } => {
                course.joined = true;
                course.clock.run(true, Instant::now());
            }
            NodeEvent::InitDone { .. } => {
                course.inits += 1;
                course.clock.progress(Instant::now());
            }
            NodeEvent::InitFailed { .. } => course.init_failures += 1,
            NodeEvent::GaveUp { error } => course.end(Ending::Failed(Cause::init(error))),
            NodeEvent::Broken { message } => course.end(Ending::Failed(Cause::broken(message))),
            NodeEvent::HeldUp { slot, why } => match why {
                Some(why) => drop(course.held_up.insert(*slot, why.clone())),
                None => drop(course.held_up.remove(slot)),
            },
            NodeEvent::Left => course.left = true,
            NodeEvent::Joining { .. }
            | NodeEvent::Refused { .. }
            | NodeEvent::CannotJoin { .. }
            | NodeEvent::Beat { .. }
            | NodeEvent::HandedBack { .. }
            | NodeEvent::RunsAlone { .. }
            | NodeEvent::Leased { .. }
            | NodeEvent::ProcessStarted { .. }
            | NodeEvent::ProcessEnded { .. } => (),
        }
    }

    /// Decides whether the job is over, and how.
    fn judge(&mut self, course: &mut Course) {
        let now = Instant::now();
        let totals = self.aggregate.totals();
        if course.ending.is_none() {
            let cause = verdict::thresholds(self.spec, totals, self.window.all_scheduled())
                .or_else(|| self.hopeless_init(course));
            if let Some(cause) = cause {
                course.end(Ending::Failed(cause));
                self.kill(course);
            } else if let Some(cause) = self.no_progress(course, now) {
                course.end(Ending::Failed(cause));
                course.given_up = true;
                self.node.give_up();
                self.kill(course);
            } else if totals.mini_batches_remaining() == 0 {
                course.end(Ending::Settled);
                self.drain(course);
            } else if self.orders.count() > 0 {
                self.observer.log(Level::Info, "interrupted: nothing more is handed out, what runs is finished");
                self.observer.interrupted();
                course.end(Ending::Interrupted);
                self.drain(course);
            }
        }
        if course.ending.is_some() {
            if course.patience.is_none() {
                self.drain(course);
            }
            let impatient = course.patience.is_some_and(|patience| now >= patience);
            let again = if course.ending == Some(Ending::Settled) { 1 } else { 2 };
            if !course.killed && (impatient || self.orders.count() >= again) {
                self.kill(course);
            }
        }
    }

    fn hopeless_init(&self, course: &Course) -> Option<Cause> {
        let age = course.began.elapsed();
        verdict::init_hopeless(age, course.init_failures, course.inits, self.processes)
            .then(|| Cause::init_hopeless(course.init_failures, self.observer.last_init_error()))
    }

    fn no_progress(&self, course: &mut Course, now: Instant) -> Option<Cause> {
        course.clock.run(course.joined && course.held_up.is_empty(), now);
        let waited = course.clock.expired(now)?;
        // The node knows more about processes that hang in init() than that nothing moves. It speaks first where both limits
        // are the same, as they are by default.
        let limit = self.spec.progress_update_timeout;
        let init_speaks = course.inits == 0 && limit >= 3 * self.spec.run_invocation_timeout + 30;
        if init_speaks && waited < Duration::from_secs(limit) + INIT_SPEAKS {
            return None;
        }
        Some(verdict::no_progress(waited, &self.observer.what_is_stuck(self.window.outstanding())))
    }

    fn drain(&mut self, course: &mut Course) {
        let limits = self.spec.run_invocation_timeout + 2 * self.spec.task_overhead_timeout;
        course.patience = Some(Instant::now() + Duration::from_secs(limits) + DRAIN_MARGIN);
        self.node.drain();
    }

    fn kill(&mut self, course: &mut Course) {
        course.killed = true;
        course.patience.get_or_insert_with(Instant::now);
        self.node.kill();
    }
}

impl Course {
    /// The first reason to end is the one that is stated.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }
}

/// Whether a job of this kind has files whose condition is worth knowing.
pub fn wants_fingerprints(spec: &JobSpec) -> bool {
    spec.input_type == InputType::Files
}
