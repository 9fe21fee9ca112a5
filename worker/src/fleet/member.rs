//! The worker as a node of one job: equips it, starts it, relays what the coordinator commands, and waits until it has left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::Backend;
use fanfold_shared::backend::fleet::Fleet;
use fanfold_shared::backend::rabbitmq::Condition;
use fanfold_shared::failpoint;
use fanfold_shared::fleet::{Command, Control, Ticket, WorkerState, names, wire};
use fanfold_shared::ids::{JobId, NodeId};
use fanfold_shared::message::{FromNode, Identity, NodeEvent, NodeMessage};
use fanfold_shared::report::Failure;

use super::job::{self, Job, Refusal};
use super::log::say;
use super::worker::Worker;
use crate::equip::{Equipment, Site, Unfit, Word, equip};
use crate::node::{Membership, Node, NodeHandle, Order};

/// Between two looks at everything, at the most.
const LOOK: Duration = Duration::from_millis(50);
/// The same at the least, while something ends of which nobody says so.
const SOON: Duration = Duration::from_millis(1);
/// Between two beats while the node is being equipped; then it beats by itself.
const BEAT: Duration = Duration::from_secs(5);
/// A node that has heard nothing of its coordinator for so long leaves.
const SILENCE: Duration = Duration::from_secs(120);
/// A job whose queues have been missing for so long, and whose coordinator never said a word, was over when its ticket was taken. One whose
/// coordinator spoke is over if it says so in its directory: queues that were lost come back.
const OVER: Duration = Duration::from_secs(3);
/// For a last word to be safe.
const LAST_WORD: Duration = Duration::from_secs(10);
/// The same where the job has no queue for it: a coordinator that is just starting declares one.
const UNHEARD: Duration = Duration::from_millis(500);
/// A node that was killed and whose slots have not ended by then waits for nothing but to be heard.
const DEAF: Duration = Duration::from_secs(10);

/// The worker says that it can't be a node of the job that a ticket names.
pub fn refuse(worker: &Worker, ticket: &Ticket, refusal: &Refusal) {
    let why = Failure::from(Refused(refusal.to_string())).to_string();
    say(&format!("refused a ticket of job {}: {why}", ticket.job));
    // Nothing is read or written there.
    let dir = fanfold_shared::layout::JobDir::new(Path::new("/nonexistent"));
    let fleet = Fleet::take_part(&worker.broker, &worker.store, &running(ticket), &dir);
    let event =
        NodeEvent::Refused { worker: worker.id.0.clone(), host: worker.host.clone(), ticket: ticket.number, why };
    last_word(&fleet, &worker.new_node(), event);
    fleet.close();
}

/// The name of what the job has on the fleet.
fn running(ticket: &Ticket) -> JobId {
    names::running(&ticket.job, ticket.script)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl fanfold_shared::report::Report for Refused {
    fn exit_code(&self) -> fanfold_shared::report::ExitCode {
        fanfold_shared::report::ExitCode::Usage
    }
}

/// Lives as a node of `job`.
pub fn serve(worker: &Worker, ticket: &Ticket, job: Job) {
    let node = worker.new_node();
    say(&format!("joining job {} as node {node}: `{}`", ticket.job, job.dir.root().display()));
    let state = WorkerState::Working { job: ticket.job.clone(), node: node.clone() };
    worker.presence.set(state, None);
    let fleet = Arc::new(Fleet::take_part(&worker.broker, &worker.store, &running(ticket), &job.dir));
    let mut life = Life { worker, ticket, job: &job, node, fleet, heard: Instant::now(), commanded: false };
    let why = life.live();
    if job::has_ended(&job.dir) {
        // What it counted after the coordinator had removed the job's counters is nobody's any more. Missing queues don't show that: those of
        // a job that runs come back, and its counters are still needed.
        worker.store.forget_job(&running(ticket));
    }
    life.fleet.close();
    // Made by the equipping, if it came so far.
    let _ = worker.place.forget(&ticket.job);
    say(&format!("left job {}: {why}", ticket.job));
}

struct Life<'a> {
    worker: &'a Worker,
    ticket: &'a Ticket,
    job: &'a Job,
    node: NodeId,
    fleet: Arc<Fleet>,
    /// When the coordinator was heard of last, or could not have been.
    heard: Instant,
    /// It was heard of at all.
    commanded: bool,
}

impl Life<'_> {
    /// Returns why it ended.
    fn live(&mut self) -> String {
        self.publish(NodeEvent::Joining {
            worker: self.worker.id.0.clone(),
            host: self.worker.host.clone(),
            ticket: self.ticket.number,
            version: env!("CARGO_PKG_VERSION").into(),
        });
        failpoint!("fleet_joining_said");
        let equipment = match self.equip() {
            Ok(Some(equipment)) => equipment,
            Ok(None) => {
                self.last_word(NodeEvent::Left);
                return "it is not wanted any more".into();
            }
            Err(unfit) => return self.cannot_join(unfit),
        };
        let (processes, gpus) = (equipment.plan.processes, equipment.devices.names());
        let backend = self.fleet.clone() as Arc<dyn Backend>;
        let handle = match Node::start(self.job.dir.clone(), self.node.clone(), equipment, backend) {
            Ok(handle) => handle,
            Err(failure) => return self.cannot_join(Unfit { failure, anywhere: false }),
        };
        say(&format!("joined job {} with {processes} processes", self.ticket.job));
        let state = WorkerState::Working { job: self.ticket.job.clone(), node: self.node.clone() };
        self.worker.presence.set(state, Some((processes, gpus)));
        self.relay(&handle)
    }

    /// Makes everything ready, in a thread of its own: the coordinator may think better of it meanwhile. None: it did, or the
    /// worker is to end.
    fn equip(&mut self) -> Result<Option<Equipment>, Unfit> {
        let (worker, ticket, job, node) = (self.worker, self.ticket, self.job, self.node.clone());
        let cancel = AtomicBool::new(false);
        let items = job::items(job, &worker.settings.shared, &ticket.shared)?;
        thread::scope(|scope| {
            let equip = || {
                let site = Site {
                    id: &ticket.job,
                    spec: &job.spec,
                    job: &job.dir,
                    script: ticket.script,
                    node: &node,
                    dir: worker.place.node(&ticket.job, &node),
                    items,
                    gpus: worker.settings.gpus.as_deref(),
                    processes: worker.settings.processes,
                    next_process: 0,
                    cache: &worker.settings.cache,
                    membership: Some(Membership {
                        worker: worker.id.0.clone(),
                        lease_after: worker.settings.lease_after,
                        counters: worker.presence.counters.clone(),
                    }),
                    cancel: &cancel,
                };
                equip(site, &mut |word| match word {
                    Word::Building(line) => say(&format!("environment: {line}")),
                    Word::Note(_, text) => say(text),
                })
            };
            let equipping = thread::Builder::new().name("equip".into()).spawn_scoped(scope, equip);
            let equipping = equipping.map_err(|source| Unfit::from(NoThread(source)))?;
            let (began, mut beaten) = (Instant::now(), Instant::now());
            while !equipping.is_finished() {
                let unwanted = self
                    .commands(look(began))
                    .iter()
                    .any(|command| *command != Command::Alive && *command != Command::Report);
                if unwanted || worker.signals.count() > 0 || self.is_over() {
                    cancel.store(true, Ordering::SeqCst);
                }
                if beaten.elapsed() >= BEAT && self.is_connected() {
                    beaten = Instant::now();
                    self.publish(NodeEvent::Beat { by: Some(self.identity()), held: Vec::new(), doing: Vec::new() });
                }
            }
            let outcome = equipping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match cancel.load(Ordering::SeqCst) {
                true => Ok(None),
                false => outcome.map(Some),
            }
        })
    }

    fn cannot_join(&self, unfit: Unfit) -> String {
        let hint = unfit.failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let why = format!("{}{hint}", unfit.failure);
        self.last_word(NodeEvent::CannotJoin { why: why.clone(), anywhere: unfit.anywhere });
        why
    }

    /// Tells the node what it is told, until it has left.
    fn relay(&mut self, handle: &NodeHandle) -> String {
        let mut why = "the job needs it no longer".to_string();
        let (mut signals, mut killed, mut ending) = (0, None, None);
        let limits =
            Duration::from_secs(self.job.spec.run_invocation_timeout + 2 * self.job.spec.task_overhead_timeout);
        while !handle.is_gone() {
            let wait =
                if handle.order() == Order::Work { LOOK } else { look(*ending.get_or_insert_with(Instant::now)) };
            for command in self.commands(wait) {
                match command {
                    Command::Alive => (),
                    Command::Report => handle.report(),
                    Command::Drain => handle.drain(),
                    Command::Kill => handle.kill(),
                    Command::GiveUp => handle.give_up(),
                }
            }
            let count = self.worker.signals.count();
            if count > signals {
                signals = count;
                why = "the worker was told to end".into();
                match count {
                    1 => {
                        say(
                            "told to end: what runs is finished under its limits, the rest goes back (once more: it is killed)",
                        );
                        self.worker.presence.set(WorkerState::Draining, None);
                        handle.drain();
                    }
                    _ => handle.kill(),
                }
            }
            if !self.is_connected() {
                // Nobody can be heard: results wait, and so does judgement.
                self.heard = Instant::now();
            } else if self.is_over() && handle.order() != Order::Kill {
                why = "the job is over: it has no queues".into();
                handle.kill();
            } else if self.heard.elapsed() >= SILENCE && handle.order() == Order::Work {
                why = format!("its coordinator has not been heard of for {} s", SILENCE.as_secs());
                handle.drain();
            } else if self.heard.elapsed() >= 2 * SILENCE + limits && handle.order() != Order::Kill {
                // What ran has ended by its limits: only what it has to say is still there.
                handle.kill();
            }
            let since = (handle.order() == Order::Kill).then(|| *killed.get_or_insert_with(Instant::now));
            if since.is_some_and(|since| since.elapsed() >= DEAF) {
                self.fleet.close();
            }
        }
        why
    }

    /// What the coordinator said to this node within `wait`.
    fn commands(&mut self, wait: Duration) -> Vec<Command> {
        self.worker.presence.turn();
        let commands =
            commands(self.worker, wait, |control| control.job == self.ticket.job && control.node == self.node);
        if !commands.is_empty() {
            self.heard = Instant::now();
            self.commanded = true;
        }
        commands
    }

    /// Who it is, before it has joined.
    fn identity(&self) -> Identity {
        Identity { worker: self.worker.id.0.clone(), host: self.worker.host.clone(), processes: 0 }
    }

    fn is_over(&self) -> bool {
        let missing = self.fleet.missing_since().is_some_and(|since| since.elapsed() >= OVER);
        // It may have ended while this worker could not be told.
        missing && (!self.commanded || job::is_at_rest(&self.job.dir))
    }

    fn is_connected(&self) -> bool {
        matches!(self.worker.broker.condition(), Condition::Connected { .. })
    }

    fn publish(&self, event: NodeEvent) {
        let message = FromNode { node: self.node.clone(), body: NodeMessage::Event(event) };
        // Nobody closes it but this thread.
        let _ = self.fleet.publish_results(vec![message], Box::new(|| ()));
    }

    fn last_word(&self, event: NodeEvent) {
        last_word(&self.fleet, &self.node, event);
    }
}

/// What began then may end at any moment: how long not to look, so that a quarter of its time is lost at the most.
fn look(began: Instant) -> Duration {
    (began.elapsed() / 4).clamp(SOON, LOOK)
}

/// Takes commands; those for other nodes are nobody's any more.
fn commands(worker: &Worker, wait: Duration, is_meant: impl Fn(&Control) -> bool) -> Vec<Command> {
    let began = Instant::now();
    let Ok(received) = worker.control.receive(64, wait) else {
        // The broker was closed: the worker is ending.
        thread::sleep(wait.saturating_sub(began.elapsed()));
        return Vec::new();
    };
    let mut commands = Vec::new();
    for message in received {
        match wire::decode::<Control>(&message.body) {
            Ok(control) => {
                message.ack();
                if control.is_to_worker() && control.command == Command::Drain {
                    worker.signals.drain();
                }
                commands.extend(is_meant(&control).then_some(control.command));
            }
            Err(error) => {
                say(&format!("a command can't be read: {error}"));
                message.reject();
            }
        }
    }
    commands
}

/// Hears what is said to the worker; commands to nodes that it is not any more are forgotten.
pub fn ignore_commands(worker: &Worker) {
    commands(worker, Duration::ZERO, |_| false);
}

/// Says something and waits a moment until it is safe.
fn last_word(fleet: &Fleet, node: &NodeId, event: NodeEvent) {
    let (said, heard) = std::sync::mpsc::channel();
    let message = FromNode { node: node.clone(), body: NodeMessage::Event(event) };
    if fleet.publish_results(vec![message], Box::new(move || said.send(()).unwrap_or_default())).is_err() {
        return;
    }
    // Unsaid it is as if the worker had died: the coordinator notices the silence.
    let began = Instant::now();
    while began.elapsed() < LAST_WORD && heard.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if fleet.missing_since().is_some_and(|since| since.elapsed() >= UNHEARD) {
            return;
        }
    }
}

/// No thread can be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a thread")]
struct NoThread(#[source] std::io::Error);

impl fanfold_shared::report::Report for NoThread {
    fn exit_code(&self) -> fanfold_shared::report::ExitCode {
        fanfold_shared::report::ExitCode::Failed
    }
}
