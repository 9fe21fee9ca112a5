//! The thread of one slot: waits for its process, asks [`super::state`] what to do, and does it.
//!
//! Each turn: take work and hand it over, wait, take answers, look at the clock and the page, notice an end. Answers are
//! taken before anything is decided about a process, so that what it finished is never run again for nothing.

mod ends;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfold_shared::clock;
use fanfold_shared::layout::Stream;
use fanfold_shared::message::{AttemptError, ErrorKind, NodeEvent, NodeMessage, Results};
use fanfold_shared::report::is_disk_full;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::answers;
use super::blame;
use super::child::{Launch, Process, Received};
use super::current::{Current, Held};
use super::feed;
use super::outbox::{Answers, Outbox};
use super::page::{Page, Phase};
use super::protocol::{self, FromHost};
use super::state::{self, Action, Event, Limits, State, StopReason};
use crate::host;
use crate::logs::{Level, Stage};
use crate::node::{Node, Order};

/// Between two looks at what is due about once a second: logs, caps, other slots that starve.
const TICK: Duration = Duration::from_millis(500);
/// A turn that takes longer was no turn.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Between two tries to start a process where the machine is short of something.
const SHORT: Duration = Duration::from_millis(500);
/// What is read from a process before the rest of the turn gets its chance.
const TURN_BYTES: usize = 16 << 20;
/// Spare room for a read.
const READ_BYTES: usize = 256 << 10;

/// One slot of a node.
pub struct Slot {
    index: usize,
    node: Arc<Node>,
    limits: Limits,
    state: State,
    current: Option<Current>,
    outbox: Outbox,
    ticked: Instant,
    /// The last turn began.
    turned: Instant,
    /// The end of the last standstill of this thread: what a process had begun before counts as begun then.
    resumed: Instant,
    /// The node was told that this slot waits.
    held_up: bool,
    /// The log was told that no process can be started.
    told_short: bool,
}

impl Slot {
    /// The slot `index` of `node`.
    pub fn new(index: usize, node: Arc<Node>) -> Slot {
        let (limits, gather) = (node.limits(), node.gather());
        let now = Instant::now();
        Slot {
            index,
            node,
            limits,
            state: State::Vacant,
            current: None,
            outbox: Outbox::new(gather),
            ticked: now,
            turned: now,
            resumed: now,
            held_up: false,
            told_short: false,
        }
    }

    /// Lives until the node drains or gives up and the last process is gone.
    pub fn run(mut self) {
        let mut heard = Order::Work;
        while self.state != State::Done {
            if self.state == State::Vacant {
                self.on(Event::Start);
                continue;
            }
            let order = self.node.order();
            if order != heard {
                heard = order;
                self.on(match order {
                    Order::Kill if self.node.is_given_up() => Event::GiveUp,
                    Order::Kill => Event::Kill,
                    Order::Work | Order::Drain => Event::Drain,
                });
            }
            self.feed();
            self.send();
            self.wait();
            self.excuse_standstill();
            self.hear();
            self.look();
            self.tick();
        }
    }

    /// A turn takes as long as a [`TICK`]. If it took far longer, this thread could not look: the program was stopped (Ctrl-Z,
    /// a frozen container), the machine slept, or nobody took its results for want of room on the disk. The process may have
    /// been held up as well, and what it answered meanwhile has not been heard; none of that is a mini-batch's fault.
    fn excuse_standstill(&mut self) {
        let now = Instant::now();
        let took = now - std::mem::replace(&mut self.turned, now);
        if took > STANDSTILL {
            self.resumed = now;
            self.state = state::excuse(self.state, took);
        }
    }

    fn on(&mut self, event: Event) {
        let draining = self.node.order() != Order::Work || self.node.gave_up();
        let (state, actions) = state::step(self.state, event, draining, Instant::now(), &self.limits);
        self.state = state;
        actions.into_iter().for_each(|action| self.perform(action));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn => self.spawn(),
            Action::StopAfterCurrent => self.process(|current| {
                current.page.request_stop();
                protocol::shut_down(current.process.outbox());
                current.process.send();
            }),
            Action::SendShutdown => self.process(|current| {
                protocol::shut_down(current.process.outbox());
                current.process.send();
            }),
            Action::Terminate => self.process(|current| current.process.signal(Signal::SIGTERM)),
            Action::Kill => {
                let unneeded = matches!(self.state, State::Stopping { reason: StopReason::Killed, .. });
                self.process(|current| {
                    current.unneeded |= unneeded && !current.ready;
                    current.process.signal(Signal::SIGKILL);
                });
            }
            Action::ChargeTooLong(mini_batch, exceeded) => {
                let Some(current) = &mut self.current else { return };
                current.show_stacks();
                let error = blame::too_long(exceeded, &self.limits, current.last_words().stderr);
                self.charge(mini_batch, error);
            }
            Action::ShowStacks => self.process(|current| current.show_stacks()),
            Action::ChargeDeath => self.charge_death(),
            Action::ReportInitFailure => self.report_init_failure(),
            Action::GiveBack => self.give_back(),
            Action::CleanUp => self.clean_up(),
        }
    }

    fn process(&mut self, act: impl FnOnce(&mut Current)) {
        if let Some(current) = &mut self.current {
            act(current);
        }
    }

    fn spawn(&mut self) {
        let (number, binding) = self.node.next_process();
        let logs = self.node.job.logs();
        let (stdout, stderr) = (
            logs.descriptor(Stream::Stdout, &self.node.id, number),
            logs.descriptor(Stream::Stderr, &self.node.id, number),
        );
        let page = self.node.page(self.index);
        let launch = Launch {
            python: &self.node.plan.python,
            host: &self.node.host,
            env: self.node.child_env(&binding),
            working_dir: &self.node.plan.working_dir,
            stdout: &stdout,
            stderr: &stderr,
        };
        let started = host::keep(&self.node.host)
            .and_then(|()| Page::create(&page).map_err(|error| error.source))
            .and_then(|page| {
                let process = Process::start(launch, |command| self.node.spawn(command, number))?;
                Ok((page, process))
            });
        match started {
            Ok((page, mut process)) => {
                let config = self.node.host_config(number, &self.node.page(self.index));
                protocol::configure(process.outbox(), &config);
                process.send();
                let pid = process.pid();
                self.node.process_started(number, pid);
                self.told_short = false;
                self.hold_up(None);
                let mut current = Current::new(&self.node, number, process, page, [stdout, stderr]);
                current.log.event(clock::wall_us(), Level::Info, &format!("started on slot {}", self.index));
                self.current = Some(current);
                let device = binding.device().map(str::to_string);
                self.node.say(NodeEvent::ProcessStarted { process: number, pid, device });
            }
            Err(error) if self.node.is_only_short(&error) => {
                self.node.release_device(number);
                self.state = State::Vacant;
                self.wait_for_better_times(&error);
            }
            Err(error) => {
                self.node.release_device(number);
                self.node.say_init_failed(number, blame::not_started(&self.node.plan.python, &error), false);
                // Nothing was started, so nothing has to be cleaned up; the next attempt is the node's decision.
                self.state = if self.node.gave_up() { State::Done } else { State::Vacant };
            }
        }
    }

    /// A process can't be started now, which is nobody's fault: waits a moment, or until the node is told to end.
    fn wait_for_better_times(&mut self, error: &io::Error) {
        let why = format!("cannot start a process: {error}; the slot tries again by itself");
        match is_disk_full(error) {
            true => self.hold_up(Some(why)),
            false if !self.told_short => self.node.sys_error(None, &format!("slot {}: {why}", self.index)),
            false => (),
        }
        self.told_short = true;
        let until = Instant::now() + SHORT;
        while self.node.order() == Order::Work && Instant::now() < until {
            let mut fds = [PollFd::new(self.node.work.waker(self.index), PollFlags::POLLIN)];
            // Whatever ends it: the loop looks.
            let _ = poll(&mut fds, PollTimeout::from(SHORT.as_millis() as u16));
            self.node.work.quiet(self.index);
        }
    }

    /// Says once that this slot waits for the world, and once that it does not any longer.
    fn hold_up(&mut self, why: Option<String>) {
        if self.held_up != why.is_some() {
            self.held_up = why.is_some();
            self.node.say(NodeEvent::HeldUp { slot: self.index as u32, why });
        }
    }

    /// Hands over work while the process has room for some.
    fn feed(&mut self) {
        if !self.state_is_busy() || self.node.order() != Order::Work {
            return;
        }
        while let Some(current) = &mut self.current {
            let fed = feed::hand_over(&self.node, self.index, current);
            let (handed, unreadable, refused) = match fed {
                Ok(feed::Fed { handed, unreadable, refused }) => (handed, unreadable, refused),
                Err(message) => return self.node.broken(message),
            };
            if !unreadable.is_empty() {
                self.answer_unreadable(unreadable);
            }
            for (held, why) in refused {
                self.answer_refused(held, why);
            }
            if handed == 0 {
                break;
            }
            self.on(Event::HandedOver);
        }
        let holds = self.current.as_ref().is_some_and(|current| !current.held.is_empty());
        if !holds {
            // Before anybody can take the slot for idle: what it answered is said before what comes then.
            self.send();
        }
        self.node.work.report(self.index, self.state == State::Idle, holds);
        if self.state == State::Idle {
            // Work that came between the last look and the report would not have woken this slot.
            if self.node.work.waits() {
                self.node.work.wake(self.index);
            }
        }
    }

    /// Waits until there is something to do: at most a tick, until the deadline of the state, or until answers have waited long enough.
    fn wait(&mut self) {
        let now = Instant::now();
        let due = [state::deadline(&self.state), self.outbox.due(now)];
        let deadline = due.into_iter().flatten().fold(self.ticked + TICK, Instant::min) - now;
        let Some(current) = &mut self.current else { return };
        if current.process.unsent() {
            current.process.send();
        }
        let process = &current.process;
        let mut fds = vec![
            PollFd::new(self.node.work.waker(self.index), PollFlags::POLLIN),
            PollFd::new(process.ended(), PollFlags::POLLIN),
        ];
        if !current.ended_speaking {
            fds.push(PollFd::new(process.speaks(), PollFlags::POLLIN));
        }
        if process.unsent() {
            fds.push(PollFd::new(process.listens(), PollFlags::POLLOUT));
        }
        // Rounded up, or the last millisecond before a deadline would be spent in a busy loop.
        let millis = deadline.as_nanos().div_ceil(1_000_000) as u16;
        // Interrupted by a signal: the turn goes on and comes back here.
        let _ = poll(&mut fds, PollTimeout::from(millis));
        self.node.work.quiet(self.index);
    }

    /// Takes what the process said, and notices its end.
    fn hear(&mut self) {
        let Some(current) = &mut self.current else { return };
        // Asked before the pipe is read: what a dead process said lies in the pipe by then.
        let ended = current.process.end().is_some();
        let mut taken = 0;
        while taken < TURN_BYTES || ended {
            let Some(current) = &mut self.current else { return };
            let buffer = current.decoder.spare(READ_BYTES);
            let before = buffer.len();
            let received = current.process.receive(buffer);
            taken += buffer.len() - before;
            match received {
                Received::Some => self.frames(),
                Received::Nothing => break,
                Received::End => {
                    current.ended_speaking = true;
                    break;
                }
            }
        }
        if ended && self.current.is_some() {
            self.on(Event::Exited);
        }
    }

    fn frames(&mut self) {
        while let Some(current) = &mut self.current {
            match current.decoder.next_frame() {
                Ok(Some(frame)) => self.frame(frame),
                Ok(None) => return,
                Err(broken) => {
                    // What follows can't be trusted.
                    current.ended_speaking = true;
                    return self.broke_protocol(broken.to_string());
                }
            }
        }
    }

    /// Ends a process that nothing can be learned from any more; its death is blamed on what it was running, as any other.
    fn broke_protocol(&mut self, how: String) {
        let Some(current) = &mut self.current else { return };
        self.node.sys_error(Some(current.number), &how);
        current.broken = Some(how);
        current.process.signal(Signal::SIGKILL);
    }

    fn frame(&mut self, frame: FromHost) {
        let Some(current) = &mut self.current else { return };
        match frame {
            FromHost::Ready(ready) => {
                let elapsed_us = ((ready.load_seconds + ready.init_seconds) * 1e6) as u64;
                let text = format!(
                    "ready: Python {}, import {:.3} s, init() {:.3} s",
                    ready.python, ready.load_seconds, ready.init_seconds
                );
                current.log.event(clock::wall_us(), Level::Info, &text);
                let process = current.number;
                current.ready = true;
                self.node.init_succeeded();
                self.node.say(NodeEvent::InitDone { process, elapsed_us });
                self.on(Event::Ready);
            }
            FromHost::NotReady(error) => {
                current.init_error = Some(AttemptError {
                    kind: ErrorKind::Init,
                    message: blame::not_ready(&error.stage, &error.message, &self.node.plan.python),
                    traceback: error.traceback,
                    stderr: String::new(),
                    of_all: false,
                });
                self.on(Event::InitFailed);
            }
            FromHost::Done(done) => {
                let taken = answers::done(current, done);
                self.answered(taken);
            }
            FromHost::Spooled(spooled) => {
                let taken = answers::spooled(current, spooled);
                self.answered(taken);
            }
            FromHost::Failed(failed) => {
                let retire = failed.retire;
                let stderr = current.last_words().stderr;
                let taken = answers::failed(current, failed, stderr);
                self.answered(taken);
                if retire {
                    self.on(Event::Retire);
                }
            }
            FromHost::ShutDown(shut_down) => {
                if let Some(traceback) = shut_down.traceback {
                    let error = blame::shutdown_raised(traceback);
                    current.errors.failure(clock::wall_us(), current.process.pid(), Stage::Shutdown, &error);
                }
                self.on(Event::ShutDown);
            }
        }
    }

    fn answered(&mut self, taken: answers::Taken) {
        // Answers to what was given back already are nobody's.
        if let Ok((results, held)) = taken {
            self.keep_answers(results, held);
            let held = self.current.as_ref().map_or(0, |current| current.held.len());
            self.on(Event::Answered { held });
        }
    }

    fn keep_answers(&mut self, results: Results, held: Vec<Held>) {
        if let Some(before) = self.outbox.add(results, held) {
            self.make_safe(before);
        }
    }

    /// Sends the answers that have waited long enough; all, if no more are to be expected soon.
    fn send(&mut self) {
        let busy = self.state_is_busy() && self.current.as_ref().is_some_and(|current| !current.held.is_empty());
        if let Some(answers) = self.outbox.take(!busy, Instant::now()) {
            self.make_safe(answers);
        }
    }

    fn state_is_busy(&self) -> bool {
        matches!(self.state, State::Idle | State::Running { .. })
    }

    /// Makes the answers safe, then lets go of the mini-batches: never the other way round.
    fn make_safe(&mut self, (results, held): Answers) {
        self.node.publish(NodeMessage::Results(results), Box::new(move || Held::let_go(held)));
    }

    /// Mini-batches of which no item can be read, answered without the process.
    fn answer_unreadable(&mut self, held: Vec<Held>) {
        let Some(current) = &mut self.current else { return };
        let results = answers::unreadable(current, &held);
        self.keep_answers(results, held);
    }

    /// An attempt that failed before the process saw anything of it: the files can't be had from here.
    fn answer_refused(&mut self, held: Held, why: String) {
        let Some(current) = &mut self.current else { return };
        let (results, held) = answers::refused(current, held, why);
        self.keep_answers(results, held);
    }

    fn look(&mut self) {
        if state::deadline(&self.state).is_none_or(|deadline| Instant::now() < deadline) {
            return;
        }
        let Some(current) = &mut self.current else { return };
        if !current.page.is_sound() && current.broken.is_none() {
            // Without it a process could hang for ever.
            self.broke_protocol("it overwrote the page on which it says what it runs".into());
        }
        let Some(current) = &mut self.current else { return };
        let mut look = current.page.look();
        if look.mini_batch.is_none() {
            look.mini_batch = current.held.front().map(|held| held.mini_batch);
        }
        look.began = look.began.max(self.resumed);
        self.on(Event::Look(look));
    }

    fn tick(&mut self) {
        if self.ticked.elapsed() < TICK {
            return;
        }
        self.ticked = Instant::now();
        self.node.reap_orphans();
        let starving = self.node.work.starving();
        let Some(current) = &mut self.current else { return };
        current.log.tick(clock::wall_us());
        current.cap_captured();
        let no_room = current.page.look().phase == Phase::NoRoom;
        if starving {
            let running = current.page.look().mini_batch;
            let copies: Vec<_> = current
                .held
                .iter_mut()
                .filter(|held| Some(held.mini_batch) != running && !held.copied)
                .map(Held::copy)
                .collect();
            self.node.work.give_back(copies);
        }
        self.hold_up(no_room.then(|| {
            let spool = self.node.job.spool();
            format!("disk full: no room for rows in `{}`; make room, the job goes on by itself", spool.display())
        }));
    }
}
