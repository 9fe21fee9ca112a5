//! The nodes of a job on a fleet, as its coordinator knows them. Pure: it hears, decides, and returns what is to be sent.

mod tickets;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fanfold_shared::fleet::{Command, names};
use fanfold_shared::ids::NodeId;
use fanfold_shared::message::NodeEvent;
use serde::{Deserialize, Serialize};

pub use self::tickets::TICKET;

use self::tickets::Tickets;
use super::super::nodes::{Change, End, Wanted};
use super::super::verdict::Cause;
use crate::report::NodeLine;

/// A node that was silent for so long is lost.
const LOST: Duration = Duration::from_secs(30);
/// A node that was silent for so long, and whose task the broker gave back, is dead: two beats and more.
const SILENT: Duration = Duration::from_secs(11);
/// Between two commands to a node that has something to do.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two words to a node that has not.
const ALIVE: Duration = Duration::from_secs(10);
/// How long those that were killed are waited for.
const KILLED: Duration = Duration::from_secs(4);
/// A node that is gone is remembered for so long: what it said last may come late.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Processes of a node; more is no true word.
const MOST_PROCESSES: u32 = 4096;
/// Between two looks there may be so much at most; the rest is time in which this program did not run.
const LOOK_MOST: Duration = Duration::from_secs(1);

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A ticket with this number.
    Ticket(u64),
    /// A command.
    Tell {
        /// The worker.
        worker: String,
        /// The node that it is.
        node: NodeId,
        /// What to do.
        command: Command,
    },
}

/// See the module documentation.
#[derive(Debug)]
pub struct Members {
    pool: String,
    nodes: BTreeMap<NodeId, Member>,
    tickets: Tickets,
    /// Workers whose node gave up: another node there would fare no better.
    given_up: BTreeSet<String>,
    /// Why the last worker that took a ticket did not become a node.
    refusal: Option<String>,
    end: Option<(End, Instant)>,
    /// Processes of all nodes that ever joined.
    processes: u64,
    most: Option<u32>,
    looked: Instant,
}

#[derive(Clone, Debug)]
struct Member {
    worker: String,
    host: String,
    processes: u32,
    phase: Phase,
    heard: Instant,
    /// There are enough without it, or it is of no use: it is to leave.
    released: bool,
    told: Option<(Command, Instant)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Joining,
    Working,
    /// It begins nothing more: why the job fails if all end so.
    GaveUp(Cause),
    Lost,
    Left,
}

/// What the next coordinator of the job should know, if this one dies: whom to talk to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The node.
    pub node: NodeId,
    /// The worker that it is.
    pub worker: String,
    /// Its host.
    pub host: String,
    /// Its processes; 0: it has not joined yet.
    pub processes: u32,
}

impl Member {
    fn new(worker: &str, host: &str, processes: u32, phase: Phase, now: Instant) -> Member {
        Member { worker: worker.into(), host: host.into(), processes, phase, heard: now, released: false, told: None }
    }

    /// Whether something may still be heard of it.
    fn is_there(&self) -> bool {
        !matches!(self.phase, Phase::Lost | Phase::Left)
    }

    /// Whether it takes one of the places that the job has for nodes. One that gave up is not replaced.
    fn counts(&self) -> bool {
        match self.phase {
            Phase::Joining | Phase::Working => !self.released,
            Phase::GaveUp(_) => true,
            Phase::Lost | Phase::Left => false,
        }
    }
}

impl Members {
    /// No nodes but those that an earlier coordinator knew. Their processes have not been heard of yet: silence counts from now.
    pub fn new(pool: &str, known: Vec<Known>, now: Instant) -> Members {
        let processes = known.iter().map(|known| u64::from(known.processes)).sum();
        let phase = |processes| if processes == 0 { Phase::Joining } else { Phase::Working };
        let nodes = known.into_iter().map(|known| {
            let member = Member::new(&known.worker, &known.host, known.processes, phase(known.processes), now);
            (known.node, member)
        });
        Members {
            pool: pool.into(),
            nodes: nodes.collect(),
            tickets: Tickets::default(),
            given_up: BTreeSet::new(),
            refusal: None,
            end: None,
            processes,
            most: None,
            looked: now,
        }
    }

    /// The nodes that are there, for the next coordinator.
    pub fn known(&self) -> Vec<Known> {
        let there = self.nodes.iter().filter(|(_, member)| member.is_there() && !member.worker.is_empty());
        there
            .map(|(node, member)| Known {
                node: node.clone(),
                worker: member.worker.clone(),
                host: member.host.clone(),
                processes: member.processes,
            })
            .collect()
    }

    /// Results of it came: it lives.
    pub fn heard(&mut self, node: &NodeId, now: Instant) {
        if let Some(member) = self.nodes.get_mut(node).filter(|member| member.is_there()) {
            member.heard = now;
        }
    }

    /// Takes in what a node said.
    pub fn hear(&mut self, node: &NodeId, event: &NodeEvent, now: Instant) -> Vec<Change> {
        match event {
            NodeEvent::Refused { worker, host, ticket, why } => {
                self.tickets.taken(*ticket);
                self.refused(format!("worker {worker} ({host}) can't join: {why}"), now);
                return Vec::new();
            }
            NodeEvent::Joining { worker, .. } if !names::is_worker(worker) => return Vec::new(),
            NodeEvent::Joining { worker, host, ticket, .. } => {
                self.tickets.taken(*ticket);
                // Where init() failed for good it is not tried again.
                let unfit = self.given_up.contains(worker);
                if unfit {
                    self.tickets.refused(now);
                }
                if let Some(known) = self.nodes.get_mut(node) {
                    // It came late: the node has joined meanwhile, or left. Nobody who is known gets another name.
                    if known.worker.is_empty() {
                        (known.worker, known.host) = (worker.clone(), host.clone());
                        known.released |= unfit;
                    }
                    return Vec::new();
                }
                let mut member = Member::new(worker, host, 0, Phase::Joining, now);
                // A ticket that was renewed may be taken twice.
                member.released = unfit || self.most.is_some_and(|most| self.counting() >= most as usize);
                self.nodes.insert(node.clone(), member);
                return Vec::new();
            }
            _ => (),
        }
        // An earlier coordinator knew it, and what it wrote down is lost: until it says who it is, it can't be told anything.
        let unknown = || Member::new("", "", 0, Phase::Working, now);
        let member = self.nodes.entry(node.clone()).or_insert_with(unknown);
        member.heard = now;
        if member.phase == Phase::Lost {
            member.phase = Phase::Working;
        }
        match event {
            NodeEvent::Beat { by: Some(by), .. } if member.worker.is_empty() && names::is_worker(&by.worker) => {
                (member.worker, member.host) = (by.worker.clone(), by.host.clone());
                let processes = by.processes.min(MOST_PROCESSES).max(member.processes);
                self.processes += u64::from(processes - member.processes);
                member.processes = processes;
                if processes == 0 {
                    member.phase = Phase::Joining;
                }
            }
            NodeEvent::Joined { host, processes, .. } => {
                let processes = (*processes).min(MOST_PROCESSES);
                self.processes += u64::from(processes.saturating_sub(member.processes));
                (member.host, member.processes, member.phase) = (host.clone(), processes, Phase::Working);
                self.refusal = None;
            }
            NodeEvent::CannotJoin { why, anywhere } => {
                let text = format!("node {node} ({}) can't join: {why}", member.host);
                member.phase = Phase::Left;
                if *anywhere {
                    return vec![Change::Hopeless(Cause::cannot_join(why))];
                }
                self.refused(text, now);
                return vec![Change::Left(node.clone())];
            }
            NodeEvent::GaveUp { error } => {
                self.given_up.insert(member.worker.clone());
                member.phase = Phase::GaveUp(Cause::init(error));
                return self.hopeless();
            }
            NodeEvent::Broken { message } => {
                self.given_up.insert(member.worker.clone());
                member.phase = Phase::GaveUp(Cause::broken(message));
                return self.hopeless();
            }
            NodeEvent::Left => {
                // Of one that gave up that stays known: it is not replaced.
                if !matches!(member.phase, Phase::GaveUp(_)) {
                    member.phase = Phase::Left;
                }
                member.released = true;
                return vec![Change::Left(node.clone())];
            }
            _ => (),
        }
        Vec::new()
    }

    fn refused(&mut self, why: String, now: Instant) {
        self.refusal = Some(why);
        self.tickets.refused(now);
    }

    /// The job fails when every node has given up.
    fn hopeless(&self) -> Vec<Change> {
        let going = |member: &Member| matches!(member.phase, Phase::Joining | Phase::Working) && !member.released;
        if self.end.is_some() || self.nodes.values().any(going) {
            return Vec::new();
        }
        let mut causes = self.nodes.values().rev().filter_map(|member| match &member.phase {
            Phase::GaveUp(cause) => Some(cause.clone()),
            _ => None,
        });
        causes.next().map(Change::Hopeless).into_iter().collect()
    }

    /// Decides what is due.
    pub fn keep(&mut self, wanted: Wanted, now: Instant) -> (Vec<Action>, Vec<Change>) {
        self.pass_over(now);
        self.forget(now);
        self.most = wanted.most;
        let mut changes = Vec::new();
        for (node, member) in &mut self.nodes {
            let silent = now.saturating_duration_since(member.heard) >= LOST;
            // One that gave up and left says nothing more.
            let expected = member.is_there() && !(member.released && matches!(member.phase, Phase::GaveUp(_)));
            if expected && silent {
                member.phase = Phase::Lost;
                changes.push(Change::Lost(node.clone()));
            }
        }
        if !changes.is_empty() {
            changes.extend(self.hopeless());
        }
        let mut actions = Vec::new();
        if self.end.is_none() {
            self.release_surplus();
            actions.extend(self.tickets.due(self.vacant(wanted), now).into_iter().map(Action::Ticket));
        }
        actions.extend(self.tell(now));
        (actions, changes)
    }

    /// The broker is away, so silence means nothing.
    pub fn deaf(&mut self, now: Instant) {
        self.nodes.values_mut().for_each(|member| member.heard = now);
        self.looked = now;
    }

    /// Time in which this program was stopped, or waited for something else, is nobody's silence.
    fn pass_over(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.looked);
        self.looked = now;
        if gap > LOOK_MOST {
            self.nodes.values_mut().for_each(|member| member.heard = (member.heard + gap).min(now));
        }
    }

    /// A job may have many more nodes one after the other than it ever has at once.
    fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, member| {
            let gone = matches!(member.phase, Phase::Lost | Phase::Left);
            !gone || now.saturating_duration_since(member.heard) < REMEMBERED
        });
    }

    /// Those that prepare to join go first: they have done nothing yet.
    fn release_surplus(&mut self) {
        let Some(most) = self.most else { return };
        let mut surplus = self.counting().saturating_sub(most as usize);
        for phase in [Phase::Joining, Phase::Working] {
            let going = |member: &&mut Member| member.phase == phase && !member.released;
            for member in self.nodes.values_mut().filter(going).take(surplus) {
                member.released = true;
                surplus -= 1;
            }
        }
    }

    /// How many tickets there should be.
    fn vacant(&self, wanted: Wanted) -> usize {
        match wanted.most {
            _ if !wanted.work_waits => 0,
            Some(most) => (most as usize).saturating_sub(self.counting()),
            None => 1,
        }
    }

    /// What nodes are to be told, where it is due.
    pub fn tell(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let ended = self.end.map(|(end, _)| match end {
            End::Drain => Command::Drain,
            End::Kill => Command::Kill,
            End::GiveUp => Command::GiveUp,
        });
        for (node, member) in &mut self.nodes {
            let gone = member.released && matches!(member.phase, Phase::GaveUp(_));
            if !member.is_there() || gone || member.worker.is_empty() {
                continue;
            }
            let command = ended.or(member.released.then_some(Command::Drain)).unwrap_or(Command::Alive);
            let every = if command == Command::Alive { ALIVE } else { AGAIN };
            let due =
                member.told.is_none_or(|(told, when)| told != command || now.saturating_duration_since(when) >= every);
            if due {
                member.told = Some((command, now));
                actions.push(Action::Tell { worker: member.worker.clone(), node: node.clone(), command });
            }
        }
        actions
    }

    /// What every node that is there should be told once: to say what it holds.
    pub fn ask(&self) -> Vec<Action> {
        let there = self.nodes.iter().filter(|(_, member)| member.is_there());
        let tell = |(node, member): (&NodeId, &Member)| Action::Tell {
            worker: member.worker.clone(),
            node: node.clone(),
            command: Command::Report,
        };
        there.map(tell).collect()
    }

    /// All are to end; never more mildly than before.
    pub fn end(&mut self, how: End, now: Instant) {
        if self.end.is_none_or(|(end, _)| end < how) {
            self.end = Some((how, now));
        }
    }

    /// Tickets that may still lie in the queue.
    pub fn loose(&self, now: Instant) -> usize {
        self.tickets.loose(now)
    }

    /// They were told to end.
    pub fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    /// They were told to end, and nothing more is expected of any.
    pub fn all_gone(&self, now: Instant) -> bool {
        let Some((end, since)) = self.end else { return false };
        // An ending does not wait until one that died just before it is lost for good.
        let gone = |member: &Member| {
            !member.is_there()
                || member.released && matches!(member.phase, Phase::GaveUp(_))
                || now.saturating_duration_since(member.heard) >= SILENT
        };
        self.nodes.values().all(gone) || end > End::Drain && now.saturating_duration_since(since) >= KILLED
    }

    /// See [`super::super::nodes::Nodes::is_silent`].
    pub fn is_silent(&self, node: &NodeId, now: Instant) -> bool {
        self.nodes.get(node).is_none_or(|member| {
            member.phase == Phase::Lost || member.is_there() && now.saturating_duration_since(member.heard) >= SILENT
        })
    }

    fn counting(&self) -> usize {
        self.nodes.values().filter(|member| member.counts()).count()
    }

    /// Processes of those that work.
    pub fn slots(&self) -> u64 {
        let working = self.nodes.values().filter(|member| member.phase == Phase::Working && !member.released);
        working.map(|member| u64::from(member.processes)).sum()
    }

    /// Processes of all that ever joined.
    pub fn processes(&self) -> u64 {
        self.processes
    }

    /// Open tickets.
    pub fn wanted(&self) -> u32 {
        self.tickets.open() as u32
    }

    /// What is waited for, while no node works.
    pub fn waits(&self) -> Option<String> {
        let there = |phase| self.nodes.values().any(|member| member.phase == phase && !member.released);
        if self.end.is_some() || there(Phase::Working) || there(Phase::Joining) {
            return None;
        }
        let (wanted, pool) = (self.tickets.open().max(1), &self.pool);
        Some(match &self.refusal {
            Some(refusal) => format!("waits for nodes: {wanted} wanted in pool `{pool}`; {refusal}"),
            None if self.processes == 0 => format!("waits for nodes: {wanted} wanted in pool `{pool}`, none has come"),
            None => format!("waits for nodes: {wanted} wanted in pool `{pool}`, and all that came have left"),
        })
    }

    /// For reports: those that are there, and those that gave up.
    pub fn lines(&self) -> Vec<NodeLine> {
        let line = |(node, member): (&NodeId, &Member)| {
            let state = match &member.phase {
                Phase::Lost | Phase::Left => return None,
                Phase::GaveUp(_) => "gave up",
                _ if member.released || self.end.is_some() => "leaving",
                Phase::Joining => "joining",
                Phase::Working => "working",
            };
            let worker = Some(member.worker.clone());
            Some(NodeLine { node: node.clone(), host: member.host.clone(), worker, processes: member.processes, state })
        };
        self.nodes.iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests;
