//! The nodes of a job on a fleet: what [`members`] decides, done through the broker.

mod members;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfold_shared::backend::Backend;
use fanfold_shared::backend::fleet::Fleet;
use fanfold_shared::backend::rabbitmq::{
    BrokerError, Condition, ExchangeKind, Outgoing, Properties, Publisher, Queue, QueueKind, Topology, Unroutable,
};
use fanfold_shared::failpoint;
use fanfold_shared::fleet::{Command, Control, Ticket, names, wire};
use fanfold_shared::ids::{JobId, NodeId, ScriptNumber};
use fanfold_shared::job::JobSpec;
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::{NodeEvent, Task};
use fanfold_shared::report::{During, Result};

use super::link::FleetLink;
use super::nodes::{Change, End, Nodes, Wanted};
use crate::report::NodeLine;
use members::{Action, Known, Members, TICKET};

/// Unconfirmed tickets and commands, bytes: far more than there ever are.
const CONTROL_BYTES: usize = 4 << 20;
/// How long an earlier coordinator's nodes may take to say what they hold.
const ANSWER: Duration = Duration::from_secs(3);
/// A broker that is away for so long keeps no ending waiting.
const AWAY: Duration = Duration::from_secs(5);
/// For the first node to come, before anybody speaks of waiting.
const ARRIVAL: Duration = Duration::from_secs(2);
/// For all tickets to be looked at; some thousand a second.
const TICKETS: Duration = Duration::from_secs(5);

/// See the module documentation.
pub struct FleetNodes {
    members: Members,
    link: FleetLink,
    fleet: Arc<Fleet>,
    /// To the thread that publishes: a broker that is slow or away must not keep the driver from its other duties. What is under way when
    /// the connection breaks is published again, there or by the rule for what nobody holds.
    tasks: Option<Sender<Vec<Task>>>,
    publisher: Option<JoinHandle<()>>,
    control: Publisher,
    job: JobId,
    ticket: Ticket,
    pool: String,
    priority: u8,
    /// Where the next coordinator finds whom to ask.
    file: PathBuf,
    known: Vec<Known>,
    /// Nodes of an earlier coordinator that have not said yet what they hold, and until when that is waited for.
    asked: (BTreeSet<NodeId>, Instant),
    began: Instant,
    /// It was said that Redis is away.
    without_redis: bool,
    over: bool,
}

impl FleetNodes {
    /// Takes up the nodes that an earlier coordinator of this job had. What tickets and commands go through must be there: see
    /// [`topology`].
    ///
    /// # Errors
    /// The broker refuses or is away.
    pub fn start(
        link: &FleetLink,
        fleet: Arc<Fleet>,
        (id, script): (&JobId, ScriptNumber),
        dir: &JobDir,
        spec: &JobSpec,
        again: bool,
    ) -> std::result::Result<FleetNodes, BrokerError> {
        let pool = spec.compute_target.clone();
        if again {
            // The window is made anew.
            fleet.purge_tasks()?;
        }
        let file = dir.nodes_json(script);
        let known = remembered(&file);
        let now = Instant::now();
        let asked = known.iter().map(|known| known.node.clone()).collect();
        let control = link.broker.publisher(Unroutable::Drop, CONTROL_BYTES);
        let ticket = Ticket {
            fanfold: env!("CARGO_PKG_VERSION").into(),
            job: id.clone(),
            job_dir: link.shared.relative(dir.root()).unwrap_or_else(|_| dir.root().to_path_buf()),
            shared: link.shared.root().to_path_buf(),
            number: 0,
            script,
        };
        let (tasks, to_publish) = mpsc::channel::<Vec<Task>>();
        let through = fleet.clone();
        let publish = move || {
            while let Ok(mut tasks) = to_publish.recv() {
                // What was decided meanwhile goes with it.
                tasks.extend(to_publish.try_iter().flatten());
                if through.publish_tasks(tasks).is_err() {
                    return;
                }
                failpoint!("fleet_tasks_published");
            }
        };
        let publisher = thread::Builder::new().name("publish".into()).spawn(publish).map_err(|error| {
            let (doing, url) = ("start what publishes", link.broker.url().to_string());
            BrokerError::Unreachable { doing, url, why: error.to_string() }
        })?;
        let nodes = FleetNodes {
            members: Members::new(&pool, known.clone(), now),
            link: link.clone(),
            fleet,
            tasks: Some(tasks),
            publisher: Some(publisher),
            control,
            job: id.clone(),
            ticket,
            pool,
            priority: spec.priority,
            file,
            known,
            asked: (asked, now + ANSWER),
            began: now,
            without_redis: false,
            over: false,
        };
        nodes.dismiss(dir, script);
        let ask = nodes.members.ask();
        nodes.send(ask);
        Ok(nodes)
    }

    /// Nobody goes on with an earlier script: a coordinator that died may have left nodes that do. They are killed, and get nothing more to
    /// run; who does not hear of it leaves by itself, as nobody says `Alive` to it. What it has to say goes to a queue that is deleted at the
    /// end of the job.
    fn dismiss(&self, dir: &JobDir, script: ScriptNumber) {
        if script.earlier().any(|earlier| dir.nodes_json(earlier).exists()) {
            // Before a worker is free to take one.
            self.withdraw_tickets(usize::MAX, move |ticket| ticket.script < script);
        }
        for earlier in script.earlier() {
            let file = dir.nodes_json(earlier);
            let kill = |Known { worker, node, .. }| Action::Tell { worker, node, command: Command::Kill };
            self.send(remembered(&file).into_iter().map(kill).collect());
            let _ = fs::remove_file(file);
            // With the broker away it expires by itself.
            let _ = Fleet::dismiss(&self.link.broker, &names::running(&self.job, earlier));
        }
    }

    /// No node is waited for any more, and no later coordinator should look for one, unless it could not be told to leave (a broker with
    /// an alarm takes no commands): then it still holds what it held, and listens to whoever knows its worker.
    pub fn forget(mut self) {
        self.over = true;
        if !self.members.known().is_empty() {
            return;
        }
        // What can't be removed asks nodes that don't answer.
        let _ = fs::remove_file(&self.file);
    }

    fn send(&self, actions: Vec<Action>) {
        let mut messages = Vec::new();
        for action in actions {
            messages.push(match action {
                Action::Ticket(number) => Outgoing {
                    exchange: names::NODES.into(),
                    routing_key: self.pool.clone(),
                    body: wire::encode(&Ticket { number, ..self.ticket.clone() }),
                    properties: Properties {
                        priority: Some(self.priority),
                        expiration: Some(TICKET),
                        ..Properties::default()
                    },
                },
                Action::Tell { worker, node, command } => self.command(worker, node, command),
            });
        }
        if !messages.is_empty() {
            // Repeated if it is lost; closed is only what is over.
            let _ = self.control.publish(messages, Box::new(|| ()));
        }
    }

    fn command(&self, worker: String, node: NodeId, command: Command) -> Outgoing {
        Outgoing {
            exchange: names::CONTROL.into(),
            routing_key: worker,
            body: wire::encode(&Control { job: self.job.clone(), node, command }),
            properties: Properties { transient: true, ..Properties::default() },
        }
    }

    /// Takes the job's own tickets out of the pool's queue, where somebody could still take one of a job that is over.
    fn take_back_tickets(&self, now: Instant) {
        self.withdraw_tickets(self.members.loose(now), |_| true);
    }

    /// Takes up to `most` of the job's tickets out of the pool's queue.
    fn withdraw_tickets(&self, most: usize, which: impl Fn(&Ticket) -> bool + Send + Sync + 'static) {
        let job = self.job.clone();
        let is_meant =
            move |body: &[u8]| wire::decode::<Ticket>(body).is_ok_and(|ticket| ticket.job == job && which(&ticket));
        // Whoever has one in hand at this moment finds no queues, and leaves after some seconds.
        let _ = self.link.broker.withdraw(&names::nodes_queue(&self.pool), most, is_meant, TICKETS);
    }

    /// Writes down whom the next coordinator should ask. It need not survive a power cut: a node that nobody knows leaves by itself.
    fn remember(&mut self) -> Result<()> {
        let known = self.members.known();
        if known != self.known && !self.over {
            let new = self.file.with_extension("json.new");
            fs::write(&new, serde_json::to_vec(&known).expect("strings and numbers")).during("write", &new)?;
            fs::rename(&new, &self.file).during("rename", &new)?;
            self.known = known;
        }
        Ok(())
    }

    /// Said once each time: without the counters more is suspected than need be, and runs alone; no row depends on them.
    fn redis(&mut self) -> Option<String> {
        let away = self.link.store.away();
        let new = away.is_some() && !self.without_redis;
        self.without_redis = away.is_some();
        let (_, why) = away.filter(|_| new)?;
        Some(format!("Redis is away ({why}): the job goes on without its counters"))
    }

    fn away(&self) -> Option<Instant> {
        match self.link.broker.condition() {
            Condition::Away { since, .. } => Some(since),
            Condition::Blocked { .. } | Condition::Connected { .. } => None,
        }
    }
}

/// The nodes that are written down there.
fn remembered(file: &Path) -> Vec<Known> {
    let mut known: Vec<Known> =
        fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    known.retain(|known| names::is_worker(&known.worker));
    known
}

/// How a coordinator begins to say that it is blocked by the broker. A service that says the same, and for how long, knows it by this.
pub const OF_THE_BROKER: &str = "the broker ";

/// What blocks a job whose broker is away.
pub(super) fn broker_is_away(why: &str) -> String {
    format!("{OF_THE_BROKER}is away ({why}); the job goes on by itself")
}

/// What tickets and commands go through.
pub fn topology(pool: &str) -> Topology {
    let queue = names::nodes_queue(pool);
    Topology {
        exchanges: vec![(names::NODES.into(), ExchangeKind::Direct), (names::CONTROL.into(), ExchangeKind::Direct)],
        queues: vec![Queue { name: queue.clone(), kind: QueueKind::Priority }],
        bindings: vec![(queue, names::NODES.into(), pool.into())],
    }
}

impl Nodes for FleetNodes {
    fn publish(&mut self, tasks: Vec<Task>) {
        if let Some(sender) = &self.tasks {
            // Only the end of the job closes the backend, and with it the thread.
            let _ = sender.send(tasks);
        }
    }

    fn is_settling(&self, now: Instant) -> bool {
        !self.asked.0.is_empty() && now < self.asked.1
    }

    fn keep(&mut self, wanted: Wanted, now: Instant) -> Vec<Change> {
        if !matches!(self.link.broker.condition(), Condition::Connected { .. }) {
            // Nodes can't be heard, and what is sent now would only pile up.
            self.members.deaf(now);
            return Vec::new();
        }
        let (actions, mut changes) = self.members.keep(wanted, now);
        self.send(actions);
        changes.extend(self.redis().map(Change::Note));
        changes
    }

    fn tell(&mut self, now: Instant) {
        let told = self.members.tell(now);
        self.send(told);
    }

    fn heard(&mut self, node: &NodeId, now: Instant) {
        self.members.heard(node, now);
    }

    fn hear(&mut self, node: &NodeId, event: &NodeEvent, now: Instant) -> Vec<Change> {
        if matches!(event, NodeEvent::Beat { .. } | NodeEvent::Left) {
            self.asked.0.remove(node);
        }
        let changes = self.members.hear(node, event, now);
        // Before the message is acknowledged. A full disk may keep it from being known; then that node is asked nothing.
        let _ = self.remember();
        failpoint!("fleet_node_heard");
        changes
    }

    fn end(&mut self, how: End, now: Instant) {
        let first = !self.members.is_ending();
        self.members.end(how, now);
        if self.away().is_some() {
            return;
        }
        // Before a node that leaves looks for the next one; but those that are killed are waited for from now on.
        if first && how == End::Drain {
            self.take_back_tickets(now);
        }
        self.tell(now);
        if first && how != End::Drain {
            self.take_back_tickets(now);
        }
        if first {
            // Nobody is to begin what still waits; what can't be taken back is given back by the nodes.
            let _ = self.fleet.purge_tasks();
        }
    }

    fn all_gone(&self, now: Instant) -> bool {
        self.members.all_gone(now)
            || self.members.is_ending() && self.away().is_some_and(|since| now.saturating_duration_since(since) >= AWAY)
    }

    fn is_silent(&self, node: &NodeId, now: Instant) -> bool {
        self.members.is_silent(node, now)
    }

    fn slots(&self) -> u64 {
        self.members.slots()
    }

    fn processes(&self) -> u64 {
        self.members.processes()
    }

    fn blocked(&self) -> Option<String> {
        match self.link.broker.condition() {
            Condition::Away { why, .. } => Some(broker_is_away(&why)),
            Condition::Blocked { why, .. } => Some(format!("{OF_THE_BROKER}takes no messages ({why})")),
            Condition::Connected { .. } if self.began.elapsed() < ARRIVAL => None,
            Condition::Connected { .. } => self.members.waits(),
        }
    }

    fn waiting_tasks(&self) -> Option<u32> {
        if !matches!(self.link.broker.condition(), Condition::Connected { .. }) {
            return None;
        }
        // A queue that is gone holds nothing.
        self.fleet.waiting_tasks().ok().map(Option::unwrap_or_default)
    }

    fn lines(&self) -> Vec<NodeLine> {
        self.members.lines()
    }

    fn wanted(&self) -> u32 {
        self.members.wanted()
    }
}

impl Drop for FleetNodes {
    fn drop(&mut self) {
        self.fleet.close();
        self.control.close();
        self.tasks = None;
        if let Some(publisher) = self.publisher.take() {
            // A panic of the thread was printed where it happened.
            let _ = publisher.join();
        }
    }
}
