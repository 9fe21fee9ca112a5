//! The running job: publishes what the window allows, commits what comes back, and decides when it is over.
//!
//! One thread does all of it, in this order, again and again: publish, receive, commit, acknowledge, judge, report. So
//! nothing here is shared and nothing can be seen half done. What may die between two steps is `docs/design/ledger.md`.

mod judge;
mod room;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::{Backend, Delivery};
use fanfold_shared::failpoint;
use fanfold_shared::ids::NodeId;
use fanfold_shared::items::Fingerprints;
use fanfold_shared::job::JobSpec;
use fanfold_shared::message::{AttemptError, ErrorKind, FromNode, NodeEvent, NodeMessage};
use fanfold_shared::report::{ExitCode, Failure, Report, Result};
use fanfold_worker::logs::Level;

use super::Orders;
use super::nodes::{Change, Nodes, Wanted};
use super::observer::Observer;
use super::verdict::{Cause, ProgressClock};
use super::window::{Blame, Window};
use crate::aggregate::{Aggregate, CommitError, Committed, Part};
use crate::prepare::splitter::{News, NoRoom, Splitting};
use room::disk_full;

/// Rows that are committed at once, bytes.
const GROUP_BYTES: usize = 16 << 20;
/// Between two looks at everything else, when no results come.
const LOOK: Duration = Duration::from_millis(50);
/// From one small group to the next, at least, while nobody waits for it; and mini-batches, and bytes of rows, that make it no small one.
const GATHER: Duration = Duration::from_millis(100);
const FEW: u64 = 64;
const LITTLE: u64 = 256 << 10;
/// Between two tries while the disk is full.
pub const DISK_FULL_RETRY: Duration = Duration::from_secs(1);
/// A mini-batch never takes longer, whatever somebody says.
const DAY_US: u64 = 24 * 3600 * 1_000_000;
/// Between two looks for tasks that nobody holds.
const UNHELD_LOOK: Duration = Duration::from_secs(3);

/// How the running ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every mini-batch is settled.
    Settled,
    /// It must not go on.
    Failed(Cause),
    /// It was asked to stop, to go on later.
    Interrupted,
    /// It was asked to stop for good.
    Canceled,
    /// The rest of its data can't be split; once that is mended, it goes on.
    Unsplit(Unsplit),
}

/// Why the rest of the data can't be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsplit {
    /// What is wrong, and what can be done.
    pub text: String,
    /// How the command ends.
    pub exit: ExitCode,
}

/// A running job.
pub struct Driver<'a> {
    /// What the job is.
    pub spec: &'a JobSpec,
    /// The ledger and the output.
    pub aggregate: &'a mut Aggregate,
    /// The way back from the nodes.
    pub backend: Arc<dyn Backend>,
    /// The nodes.
    pub nodes: &'a mut dyn Nodes,
    /// What the user sees.
    pub observer: &'a mut Observer,
    /// What the user asks for.
    pub orders: &'a Orders,
    /// What is out.
    pub window: Window,
    /// What the files were like.
    pub fingerprints: Option<Fingerprints>,
    /// What still splits the tables, and looks at the files itself.
    pub splitting: Option<Splitting>,
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
    /// What slots wait for, that is no fault of the job's.
    held_up: BTreeMap<(NodeId, u32), String>,
    clock: ProgressClock,
    inits: u64,
    init_failures: u64,
    fingerprinted: u64,
    scheduled_noted: bool,
    /// Why the rest of the data can't be split.
    unsplit: Option<Unsplit>,
    /// When tasks that nobody holds were last looked for.
    looked: Instant,
    /// When the next group may be received, as the last one was small.
    gather_until: Instant,
}

impl Driver<'_> {
    /// Runs until every node has left and everything they said is committed.
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
            held_up: BTreeMap::new(),
            clock: ProgressClock::new(Duration::from_secs(self.spec.progress_update_timeout)),
            inits: 0,
            init_failures: 0,
            fingerprinted: 0,
            scheduled_noted: false,
            unsplit: None,
            looked: Instant::now(),
            gather_until: Instant::now(),
        };
        loop {
            let (now, slots) = (Instant::now(), self.nodes.slots());
            let most = [self.spec.node_count, self.orders.node_limit()].into_iter().flatten().min();
            let changes = self.nodes.keep(Wanted { work_waits: self.window.work_waits(slots), most }, now);
            if !self.changed(&mut course, changes)? {
                return Ok(self.give_up_on_room(course));
            }
            self.window.set_slots(slots);
            self.grow(&mut course)?;
            if !self.publish(&mut course)? {
                return Ok(self.give_up_on_room(course));
            }
            if self.nodes.all_gone(now) {
                break;
            }
            self.gather(&course);
            let Ok(deliveries) = self.backend.receive_results(GROUP_BYTES, LOOK) else { break };
            if !self.take(&mut course, deliveries)? || !self.look_for_the_unheld(&mut course)? {
                return Ok(self.give_up_on_room(course));
            }
            self.judge(&mut course)?;
            let blocked = self.blocked(&course);
            self.observer.tick(self.aggregate, &self.window, self.nodes, blocked.as_deref());
        }
        if let (Some(Ending::Failed(cause)), true) = (&mut course.ending, course.given_up && course.inits == 0)
            && let Some(error) = self.observer.last_init_error()
        {
            // Given up in init(): the node has said by now where it hung.
            cause.traceback = error.traceback.clone();
        }
        match course.ending {
            // What ran was the last: there is nothing to go on with later.
            Some(Ending::Interrupted) if self.aggregate.all_settled() => Ok(Ending::Settled),
            ending => Ok(ending.unwrap_or(Ending::Interrupted)),
        }
    }

    /// Lets results that trickle in come together: a commit costs two syncs, whatever is in it. Not where somebody may wait for one:
    /// at the end of the job, and where so little is out that processes could run dry.
    fn gather(&self, course: &Course) {
        let left = course.gather_until.saturating_duration_since(Instant::now());
        if !left.is_zero() && !self.window.all_scheduled() && !self.window.is_narrow() {
            thread::sleep(left);
        }
    }

    /// Takes in what was split since.
    fn grow(&mut self, course: &mut Course) -> Result<()> {
        let Some(splitting) = &mut self.splitting else { return Ok(()) };
        match splitting.look() {
            News::None => return Ok(()),
            News::More => {
                self.observer.items().grow()?;
                self.aggregate.grown();
            }
            News::Complete => {
                self.observer.items().complete()?;
                self.splitting = None;
                loop {
                    match self.aggregate.complete_split() {
                        Ok(()) => break,
                        // The next start knows it from the list.
                        Err(CommitError::DiskFull { .. }) if self.orders.count() > 0 => break,
                        Err(CommitError::DiskFull { path, source }) => {
                            self.wait_for_room(course, &path, &source.to_string());
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            News::Failed(error) => {
                self.splitting = None;
                let exit = error.exit_code();
                let failure = Failure::from(error);
                let hint = failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                // What was split before is run first.
                course.unsplit = Some(Unsplit { text: format!("{failure}{hint}"), exit });
                self.observer.log(Level::Error, &format!("the data can't be split on: {failure}"));
                return Ok(());
            }
        }
        self.window.grown(self.aggregate.split());
        self.observer.split(self.splitting.as_ref().map(Splitting::progress));
        Ok(())
    }

    /// False: something had to be written first, there is no room for it, and the user does not wait.
    fn publish(&mut self, course: &mut Course) -> Result<bool> {
        let now = Instant::now();
        if course.ending.is_some() || self.nodes.is_settling(now) {
            return Ok(true);
        }
        let (settled, split) = (self.aggregate.settled(), self.aggregate.split());
        let tasks = self.window.tasks(settled, split, now);
        let Some(last) = tasks.iter().map(|task| task.mini_batches.end).max() else { return Ok(true) };
        if !self.look_at_files(course, last)? {
            return Ok(false);
        }
        failpoint!("before_publish");
        self.nodes.publish(tasks);
        self.observer.handed_out();
        if self.window.all_scheduled() && !course.scheduled_noted {
            course.scheduled_noted = true;
            self.observer.scheduling_finished(course.began.elapsed());
        }
        Ok(true)
    }

    /// Commits a group, then acknowledges it: never the other way round. False: there is no room for it, and the user does
    /// not wait; nothing of it is lost, as it is run again when the job is continued.
    fn take(&mut self, course: &mut Course, deliveries: Vec<Delivery<FromNode>>) -> Result<bool> {
        if deliveries.is_empty() {
            return Ok(true);
        }
        let received = Instant::now();
        let parts: Vec<Part<'_>> = deliveries.iter().map(|delivery| Part::from(&**delivery)).collect();
        let Some(committed) = self.commit(course, &parts)? else { return Ok(false) };
        drop(parts);
        self.take_in(&committed);
        for retry in &committed.again {
            self.window.retry(retry);
        }
        let (mut outcomes, mut elapsed_us) = (0, 0);
        for delivery in &deliveries {
            match &delivery.body {
                NodeMessage::Results(results) => {
                    self.nodes.heard(&delivery.node, Instant::now());
                    self.observer.answered(&delivery.node, results);
                    outcomes += results.outcomes.len() as u64;
                    elapsed_us += results.outcomes.iter().map(|outcome| outcome.elapsed_us.min(DAY_US)).sum::<u64>();
                }
                NodeMessage::Event(event) => {
                    if !self.hear(course, delivery, event)? {
                        return Ok(false);
                    }
                }
            }
        }
        failpoint!("before_acknowledge");
        deliveries.into_iter().for_each(Delivery::ack);
        // What is tried again, or in parts, waits for its answer; and processes soon wait where their rows pile up.
        if (1..FEW).contains(&outcomes) && committed.bytes < LITTLE && committed.again.is_empty() {
            course.gather_until = received + GATHER;
        }
        if outcomes > 0 {
            self.window.answered(elapsed_us as f64 / outcomes as f64);
        }
        // An attempt that failed is an answer, too: what does not get through is bounded by its tries.
        if outcomes > committed.duplicates || !committed.settled.is_empty() {
            course.clock.progress(Instant::now());
        }
        Ok(true)
    }

    /// Commits, waiting for room if need be. None: there is none, and the user does not wait.
    fn commit(&mut self, course: &mut Course, parts: &[Part<'_>]) -> Result<Option<Committed>> {
        loop {
            match self.aggregate.commit(parts) {
                Ok(committed) => return Ok(Some(committed)),
                Err(CommitError::DiskFull { .. }) if self.orders.count() > 0 => return Ok(None),
                Err(CommitError::DiskFull { path, source }) => self.wait_for_room(course, &path, &source.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_in(&mut self, committed: &Committed) {
        for items in &committed.settled {
            self.window.settled(items, self.aggregate.split());
        }
        self.observer.committed(self.aggregate, committed);
    }

    /// Records who is suspected of what, before any of it is published again. False: there is no room for it.
    fn blame(&mut self, course: &mut Course, blame: Blame) -> Result<bool> {
        if blame.is_empty() {
            return Ok(true);
        }
        let died = AttemptError {
            kind: ErrorKind::NodeLost,
            message: "the node died while this mini-batch ran alone on it".into(),
            traceback: String::new(),
            stderr: String::new(),
            of_all: false,
        };
        let mut parts = vec![Part::Suspects { mini_batches: &blame.suspects }];
        parts.extend(blame.charges.iter().map(|charge| Part::Failed {
            node: &charge.node,
            process: None,
            mini_batch: charge.mini_batch,
            attempt: charge.attempt,
            error: &died,
        }));
        let Some(committed) = self.commit(course, &parts)? else { return Ok(false) };
        drop(parts);
        self.take_in(&committed);
        for retry in &committed.again {
            self.window.retry_alone(retry);
        }
        for charge in &blame.charges {
            let (mini_batch, split) = (charge.mini_batch, self.aggregate.split());
            let again = committed.again.iter().any(|retry| retry.mini_batch == mini_batch);
            if !again && !self.aggregate.settled().contains(&split.mini_batch(mini_batch).1) {
                // An earlier coordinator had charged it, and died before it was tried again.
                self.window.retry_alone(&self.aggregate.next_attempt(mini_batch));
            }
        }
        if !blame.charges.is_empty() {
            course.clock.progress(Instant::now());
        }
        Ok(true)
    }

    /// False: something had to be recorded, and there is no room for it.
    fn hear(&mut self, course: &mut Course, message: &FromNode, event: &NodeEvent) -> Result<bool> {
        let (node, now) = (&message.node, Instant::now());
        let (settled, split) = (self.aggregate.settled(), self.aggregate.split());
        // A stranger wrote it, or another version: nobody can hold what the job has not got, and it would never be done with.
        if !named(event).all(|run| run.start < run.end && run.end <= split.mini_batches()) {
            let text = format!("{node} speaks of mini-batches that this job has not got: not believed");
            self.observer.log(Level::Warning, &text);
            return Ok(true);
        }
        self.observer.event(node, event);
        match event {
            NodeEvent::InitDone { .. } => {
                course.inits += 1;
                course.clock.progress(now);
            }
            NodeEvent::InitFailed { .. } => course.init_failures += 1,
            // A large file may take longer than anything that runs.
            NodeEvent::Downloading { .. } => course.clock.progress(now),
            NodeEvent::HeldUp { slot, why } => {
                let key = (node.clone(), *slot);
                match why {
                    Some(why) => drop(course.held_up.insert(key, why.clone())),
                    None => drop(course.held_up.remove(&key)),
                }
            }
            NodeEvent::Beat { held, .. } => self.window.beat(node, held, settled, split, now),
            NodeEvent::RunsAlone { task } => self.window.runs_alone(node, task),
            NodeEvent::Leased { tasks } => tasks.iter().for_each(|task| self.window.leased(node, task)),
            NodeEvent::HandedBack { task, .. } => {
                let nodes = &*self.nodes;
                let blame = self.window.handed_back(task, settled, split, &|node| nodes.is_silent(node, now));
                if !self.blame(course, blame)? {
                    return Ok(false);
                }
            }
            NodeEvent::Joining { .. }
            | NodeEvent::Refused { .. }
            | NodeEvent::CannotJoin { .. }
            | NodeEvent::Joined { .. }
            | NodeEvent::GaveUp { .. }
            | NodeEvent::Broken { .. }
            | NodeEvent::Left
            | NodeEvent::ProcessStarted { .. }
            | NodeEvent::ProcessEnded { .. } => (),
        }
        let changes = self.nodes.hear(node, event, now);
        self.changed(course, changes)
    }

    /// Something became of nodes. False: it had to be recorded, and there is no room for it.
    fn changed(&mut self, course: &mut Course, changes: Vec<Change>) -> Result<bool> {
        for change in changes {
            match change {
                Change::Left(node) => {
                    self.window.left(&node);
                    course.held_up.retain(|(of, _), _| *of != node);
                }
                Change::Lost(node) => {
                    self.observer.lost(&node);
                    course.held_up.retain(|(of, _), _| *of != node);
                    let blame = self.window.lost(&node);
                    if !self.blame(course, blame)? {
                        return Ok(false);
                    }
                }
                Change::Hopeless(cause) => course.end(Ending::Failed(cause)),
                Change::Note(text) => self.observer.note(Level::Warning, &text),
            }
        }
        Ok(true)
    }

    /// What came back from a node that has been silent for long enough; and what is in nobody's hands. False: no room to record it.
    fn look_for_the_unheld(&mut self, course: &mut Course) -> Result<bool> {
        let now = Instant::now();
        if now.saturating_duration_since(course.looked) < UNHELD_LOOK || course.ending.is_some() {
            return Ok(true);
        }
        course.looked = now;
        let nodes = &*self.nodes;
        let blame = self.window.overdue(&|node| nodes.is_silent(node, now));
        if !self.blame(course, blame)? {
            return Ok(false);
        }
        if self.window.is_unheld(now) {
            match self.nodes.waiting_tasks() {
                Some(0) => {
                    let again = self.window.nothing_waits(now);
                    if again > 0 {
                        let text = format!("{again} mini-batches are in nobody's hands: published again");
                        self.observer.log(Level::Warning, &text);
                    }
                }
                Some(_) => self.window.something_waits(),
                None => (),
            }
        }
        Ok(true)
    }

    fn blocked(&self, course: &Course) -> Option<String> {
        let splitting = || self.splitting.as_ref()?.blocked().map(|NoRoom { path, why }| disk_full(&path, &why));
        self.nodes.blocked().or_else(|| course.held_up.values().next().cloned()).or_else(splitting)
    }
}

impl Course {
    /// The first reason to end is the one that is stated.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }
}

/// The mini-batches that an event names.
fn named(event: &NodeEvent) -> impl Iterator<Item = &Range<u64>> {
    let (held, tasks) = match event {
        NodeEvent::Beat { held, .. } => (held.as_slice(), [].as_slice()),
        NodeEvent::Leased { tasks } => ([].as_slice(), tasks.as_slice()),
        NodeEvent::RunsAlone { task } | NodeEvent::HandedBack { task, .. } => {
            ([].as_slice(), std::slice::from_ref(task))
        }
        _ => ([].as_slice(), [].as_slice()),
    };
    held.iter().chain(tasks.iter().map(|task| &task.mini_batches))
}

/// Whether a job of this kind has files whose condition is worth knowing.
pub fn wants_fingerprints(spec: &JobSpec) -> bool {
    spec.input_type.has_files()
}
