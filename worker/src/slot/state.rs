//! The life of the processes of one slot, decided. `runner.rs` carries the actions out.
//!
//! ```text
//!            Start              Ready             HandedOver
//!   Vacant ─────────► Starting ───────► Idle ◄───────────────► Running
//!      ▲                 │ InitFailed     │ Drain   Answered      │ Look: too long, Retire
//!      │                 ▼ Look: stuck    ▼                       ▼
//!      │◄──────────────────────────── Stopping ──────────────────────
//!      │       Exited (from any state; the old process group is gone before anything starts again)
//!      ▼
//!     Done   (Exited while draining)
//! ```
//!
//! A process is charged with a mini-batch in two places only: when it is killed for running too long, and when it dies
//! uninvited. Both take the culprit from the page, so a mini-batch that was merely waiting is never charged.

use std::time::{Duration, Instant};

use super::page::{Look, Phase};

/// The limits of a process (spec section 3), as durations.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `run_invocation_timeout`: one `run()`.
    pub run: Duration,
    /// `task_overhead_timeout`: everything around it.
    pub overhead: Duration,
    /// Import and `init()`: 3 × `run_invocation_timeout` + 30 s (spec section 5).
    pub init: Duration,
    /// From asking a process to shut down to SIGTERM.
    pub shutdown: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

/// Where the slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No process.
    Vacant,
    /// The process imports the script or runs `init()`.
    Starting {
        /// When it is killed for being stuck.
        deadline: Instant,
    },
    /// The process waits for work.
    Idle,
    /// The process holds mini-batches.
    Running {
        /// When they (or the last of them) were handed over, or the last answer came: the process owes us a sign since.
        since: Instant,
        /// When the page must be looked at.
        deadline: Instant,
    },
    /// The process is on its way out.
    Stopping {
        /// Why.
        reason: StopReason,
        /// What is done next if it does not leave.
        next: Next,
    },
    /// No process, and none will be started.
    Done,
}

/// The next, harder means against a process that does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// SIGTERM, at this time.
    Terminate(Instant),
    /// SIGKILL, at this time.
    Kill(Instant),
    /// SIGKILL was sent: nothing is harder.
    Nothing,
}

/// Why a process was asked or made to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// No more work: it leaves in good health.
    Drained,
    /// It said that it must not be used again (CUDA error, out of memory, `sys.exit`).
    Retired,
    /// Its `init` failed; it leaves by itself.
    InitFailed,
    /// Its `init` was stuck.
    InitStuck,
    /// The job was given up while it was in import or `init`.
    InitGivenUp,
    /// A `run()`, or the overhead around one, took too long.
    TooLong,
    /// The worker was told to stop at once.
    Killed,
}

/// Which limit a mini-batch exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// `run_invocation_timeout`.
    Run,
    /// `task_overhead_timeout`.
    Overhead,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process may be started: a slot begins, or its old process is gone.
    Start,
    /// The process is ready for work.
    Ready,
    /// The process said that import or `init()` failed.
    InitFailed,
    /// Mini-batches were handed over.
    HandedOver,
    /// Answers came; so many mini-batches are still held.
    Answered {
        /// Mini-batches without an answer.
        held: usize,
    },
    /// The process said that it must not be used again.
    Retire,
    /// The process said that `shutdown()` is over: it is about to end.
    ShutDown,
    /// A deadline passed: this is what the page says.
    Look(Look),
    /// The process ended, uninvited or not.
    Exited,
    /// No more work will come: finish what is held, then leave.
    Drain,
    /// Stop at once.
    Kill,
    /// The job is given up because nothing moves: say where the process hangs, then stop at once.
    GiveUp,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process.
    Spawn,
    /// Ask the process to finish the mini-batch it runs, to begin no other, and then to shut down.
    StopAfterCurrent,
    /// Ask the process to call `shutdown()` and leave.
    SendShutdown,
    /// Send SIGTERM to the process group.
    Terminate,
    /// Send SIGKILL to the process group.
    Kill,
    /// Let the process write to its log where it hangs.
    ShowStacks,
    /// Charge this mini-batch with exceeding a limit.
    ChargeTooLong(u64, Exceeded),
    /// Charge the mini-batch that the page names (if any) with the death of the process.
    ChargeDeath,
    /// Report that import or `init()` failed: as the process said, because it died, or because it was stuck.
    ReportInitFailure,
    /// Give mini-batches that were not answered and not charged back; nobody is charged for them.
    GiveBack,
    /// Wait until the process group is gone and everything the process left behind is swept, then give its device back.
    CleanUp,
}

/// Decides. Does not wait, spawn, log or read the clock. `draining`: no process is to be started again.
pub fn step(state: State, event: Event, draining: bool, now: Instant, limits: &Limits) -> (State, Vec<Action>) {
    use Action::*;
    let asked = |reason, wait: Duration| State::Stopping { reason, next: Next::Terminate(now + wait) };
    let killed = |reason| State::Stopping { reason, next: Next::Nothing };
    let vacated = || if draining { State::Done } else { State::Vacant };
    match (state, event) {
        (State::Vacant, Event::Start) if !draining => (State::Starting { deadline: now + limits.init }, vec![Spawn]),
        (State::Vacant, Event::Start | Event::Drain | Event::Kill | Event::GiveUp) => (State::Done, vec![]),

        (State::Starting { .. }, Event::Ready) => match draining {
            false => (State::Idle, vec![]),
            true => (asked(StopReason::Drained, limits.shutdown), vec![SendShutdown]),
        },
        (State::Starting { .. }, Event::InitFailed) => {
            (asked(StopReason::InitFailed, limits.grace), vec![ReportInitFailure])
        }
        (State::Starting { deadline }, Event::Look(_)) if now >= deadline => {
            (killed(StopReason::InitStuck), vec![ReportInitFailure, Kill])
        }
        (State::Starting { .. }, Event::Exited) => (vacated(), vec![ReportInitFailure, CleanUp]),
        // It holds nothing: nobody loses anything by its end.
        (State::Starting { .. }, Event::Drain | Event::Kill) => (killed(StopReason::Killed), vec![Kill]),
        (State::Starting { .. }, Event::GiveUp) => (killed(StopReason::InitGivenUp), vec![ReportInitFailure, Kill]),

        (State::Idle, Event::HandedOver) => {
            (State::Running { since: now, deadline: now + limits.overhead.min(limits.run) }, vec![])
        }
        (State::Idle | State::Running { .. }, Event::Retire) => {
            (asked(StopReason::Retired, limits.shutdown), vec![GiveBack, SendShutdown])
        }
        (State::Idle, Event::Drain) => (asked(StopReason::Drained, limits.shutdown), vec![SendShutdown]),
        (State::Idle | State::Running { .. }, Event::Exited) => (vacated(), vec![ChargeDeath, GiveBack, CleanUp]),
        (State::Idle | State::Running { .. }, Event::Kill) => (killed(StopReason::Killed), vec![GiveBack, Kill]),
        (State::Idle | State::Running { .. }, Event::GiveUp) => {
            (killed(StopReason::Killed), vec![ShowStacks, GiveBack, Kill])
        }

        (State::Running { deadline, .. }, Event::HandedOver) => (State::Running { since: now, deadline }, vec![]),
        (State::Running { .. }, Event::Answered { held: 0 }) => match draining {
            false => (State::Idle, vec![]),
            true => (asked(StopReason::Drained, limits.shutdown), vec![SendShutdown]),
        },
        (State::Running { deadline, .. }, Event::Answered { .. }) => (State::Running { since: now, deadline }, vec![]),
        (State::Running { .. }, Event::Look(look)) if look.phase == Phase::Shutdown => {
            (asked(StopReason::Drained, limits.shutdown), vec![GiveBack])
        }
        (State::Running { since, .. }, Event::Look(look)) => match overdue(look, since, now, limits) {
            Ok(deadline) => (State::Running { since, deadline }, vec![]),
            Err((mini_batch, exceeded)) => {
                (killed(StopReason::TooLong), vec![ChargeTooLong(mini_batch, exceeded), GiveBack, Kill])
            }
        },
        // What runs is finished under its limits; the rest is given back when the process has left.
        (State::Running { .. }, Event::Drain) => (state, vec![StopAfterCurrent]),

        // Only threads and exit handlers that the script left can keep it now.
        (State::Stopping { reason, next: Next::Terminate(_) }, Event::ShutDown) => {
            (asked(reason, limits.grace), vec![])
        }
        (State::Running { .. }, Event::ShutDown) => (asked(StopReason::Drained, limits.grace), vec![GiveBack]),
        (State::Stopping { reason, next: Next::Terminate(at) }, Event::Look(_)) if now >= at => {
            (State::Stopping { reason, next: Next::Kill(now + limits.grace) }, vec![Terminate])
        }
        (State::Stopping { reason, next: Next::Kill(at) }, Event::Look(_)) if now >= at => (killed(reason), vec![Kill]),
        (State::Stopping { reason, .. }, Event::Kill | Event::GiveUp) => (killed(reason), vec![Kill]),
        (State::Stopping { .. }, Event::Exited) => (vacated(), vec![CleanUp]),

        // A deadline that is not there (yet).
        (State::Starting { .. } | State::Stopping { .. } | State::Idle, Event::Look(_)) => (state, vec![]),
        // What a process still says while it is being stopped comes too late to matter; its answers are taken by the runner.
        (
            State::Stopping { .. },
            Event::Ready
            | Event::InitFailed
            | Event::Answered { .. }
            | Event::Retire
            | Event::ShutDown
            | Event::HandedOver
            | Event::Drain,
        ) => (state, vec![]),
        // Answers to copies that were given back already, or to nothing.
        (State::Idle, Event::Answered { .. }) => (state, vec![]),
        (State::Vacant | State::Done, Event::Look(_)) | (State::Done, _) => (state, vec![]),

        // The runner can't produce these: without a process there is nobody to speak, and only one is started at a time.
        (
            State::Vacant,
            Event::Ready
            | Event::InitFailed
            | Event::HandedOver
            | Event::Answered { .. }
            | Event::Retire
            | Event::ShutDown
            | Event::Exited,
        )
        | (
            State::Starting { .. },
            Event::Start | Event::HandedOver | Event::Answered { .. } | Event::Retire | Event::ShutDown,
        )
        | (State::Idle, Event::ShutDown)
        | (State::Idle | State::Running { .. }, Event::Start | Event::Ready | Event::InitFailed)
        | (State::Stopping { .. }, Event::Start) => (state, vec![]),
    }
}

/// When to look again, or which mini-batch exceeded which limit. `since`: no sign of the process before that counts.
fn overdue(look: Look, since: Instant, now: Instant, limits: &Limits) -> Result<Instant, (u64, Exceeded)> {
    let (began, limit, exceeded) = match look.phase {
        Phase::NoRoom => return Ok(now + limits.overhead),
        Phase::Run => (look.began, limits.run, Exceeded::Run),
        // It sits on work without touching it: the time counts from the later of the two.
        Phase::Waiting => (look.began.max(since), limits.overhead, Exceeded::Overhead),
        Phase::Starting | Phase::Importing | Phase::Init | Phase::Overhead | Phase::Shutdown => {
            (look.began, limits.overhead, Exceeded::Overhead)
        }
    };
    let deadline = began + limit;
    match (now >= deadline, look.mini_batch) {
        (true, Some(mini_batch)) => Err((mini_batch, exceeded)),
        (true, None) => Ok(now + limit),
        (false, _) => Ok(deadline),
    }
}

/// The worker stood still for `pause` (it was stopped, or the machine slept): what the process should have done meanwhile it
/// may do now.
pub fn excuse(state: State, pause: Duration) -> State {
    match state {
        State::Starting { deadline } => State::Starting { deadline: deadline + pause },
        State::Stopping { reason, next: Next::Terminate(at) } => {
            State::Stopping { reason, next: Next::Terminate(at + pause) }
        }
        State::Stopping { reason, next: Next::Kill(at) } => State::Stopping { reason, next: Next::Kill(at + pause) },
        // The limits of mini-batches are the page's: see `Slot::look` in `runner.rs`.
        State::Running { .. } | State::Stopping { next: Next::Nothing, .. } => state,
        State::Vacant | State::Idle | State::Done => state,
    }
}

/// When the runner must look at the page at the latest.
pub fn deadline(state: &State) -> Option<Instant> {
    match state {
        State::Starting { deadline } | State::Running { deadline, .. } => Some(*deadline),
        State::Stopping { next: Next::Terminate(at) | Next::Kill(at), .. } => Some(*at),
        State::Stopping { next: Next::Nothing, .. } => None,
        State::Vacant | State::Idle | State::Done => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits { run: 10 * SECOND, overhead: 5 * SECOND, init: 60 * SECOND, shutdown: 3 * SECOND, grace: 2 * SECOND }
    }

    fn look(phase: Phase, began: Instant, mini_batch: u64) -> Look {
        Look { phase, began, mini_batch: Some(mini_batch) }
    }

    /// Steps a slot through events and collects what it was told to do.
    struct Slot {
        state: State,
        draining: bool,
        now: Instant,
    }

    impl Slot {
        fn new() -> Slot {
            Slot { state: State::Vacant, draining: false, now: Instant::now() }
        }

        fn running() -> Slot {
            let mut slot = Slot::new();
            slot.on(Event::Start);
            slot.on(Event::Ready);
            slot.on(Event::HandedOver);
            slot
        }

        fn on(&mut self, event: Event) -> Vec<Action> {
            let (state, actions) = step(self.state, event, self.draining, self.now, &limits());
            self.state = state;
            actions
        }
    }

    #[test]
    fn a_run_is_killed_at_its_limit_and_not_before() {
        let mut slot = Slot::running();
        let began = slot.now + SECOND;
        slot.now = began + 10 * SECOND - Duration::from_millis(1);
        assert_eq!(slot.on(Event::Look(look(Phase::Run, began, 7))), []);
        assert_eq!(deadline(&slot.state), Some(began + 10 * SECOND));
        slot.now = began + 10 * SECOND;
        assert_eq!(
            slot.on(Event::Look(look(Phase::Run, began, 7))),
            [Action::ChargeTooLong(7, Exceeded::Run), Action::GiveBack, Action::Kill]
        );
        assert_eq!(slot.on(Event::Exited), [Action::CleanUp]);
        assert_eq!(slot.state, State::Vacant);
    }

    #[test]
    fn a_new_run_on_the_page_restarts_the_clock() {
        let mut slot = Slot::running();
        slot.now += 10 * SECOND;
        let began = slot.now - SECOND;
        assert_eq!(slot.on(Event::Look(look(Phase::Run, began, 8))), []);
        assert_eq!(deadline(&slot.state), Some(began + 10 * SECOND));
    }

    #[test]
    fn a_process_that_sits_on_its_work_exceeds_the_overhead() {
        let mut slot = Slot::running();
        let long_ago = slot.now - 100 * SECOND;
        slot.now += 4 * SECOND;
        assert_eq!(
            slot.on(Event::Look(look(Phase::Waiting, long_ago, 3))),
            [],
            "it was idle before, that is no offence"
        );
        slot.now += SECOND;
        assert_eq!(
            slot.on(Event::Look(look(Phase::Waiting, long_ago, 3))),
            [Action::ChargeTooLong(3, Exceeded::Overhead), Action::GiveBack, Action::Kill]
        );
    }

    #[test]
    fn an_uninvited_death_charges_only_what_the_page_names() {
        let mut slot = Slot::running();
        assert_eq!(slot.on(Event::Exited), [Action::ChargeDeath, Action::GiveBack, Action::CleanUp]);
        assert_eq!(slot.state, State::Vacant);
    }

    #[test]
    fn a_death_or_a_standstill_in_init_is_an_init_failure() {
        let mut slot = Slot::new();
        slot.on(Event::Start);
        assert_eq!(slot.on(Event::Exited), [Action::ReportInitFailure, Action::CleanUp]);
        let mut slot = Slot::new();
        slot.on(Event::Start);
        slot.now += 60 * SECOND;
        let look = Look { phase: Phase::Init, began: slot.now, mini_batch: None };
        assert_eq!(slot.on(Event::Look(look)), [Action::ReportInitFailure, Action::Kill]);
        assert_eq!(slot.on(Event::Exited), [Action::CleanUp], "it is reported once");
    }

    #[test]
    fn a_retired_process_gives_back_what_it_did_not_run() {
        let mut slot = Slot::running();
        assert_eq!(slot.on(Event::Retire), [Action::GiveBack, Action::SendShutdown]);
        assert_eq!(slot.on(Event::Exited), [Action::CleanUp]);
    }

    #[test]
    fn draining_finishes_what_is_held_and_starts_nothing() {
        let mut slot = Slot::running();
        slot.draining = true;
        assert_eq!(slot.on(Event::Drain), [Action::StopAfterCurrent]);
        assert_eq!(slot.on(Event::Answered { held: 1 }), []);
        assert_eq!(slot.on(Event::Answered { held: 0 }), [Action::SendShutdown]);
        assert_eq!(slot.on(Event::Exited), [Action::CleanUp]);
        assert_eq!(slot.state, State::Done);
        let mut slot = Slot::new();
        slot.draining = true;
        assert_eq!((slot.on(Event::Start), slot.state), (vec![], State::Done));
    }

    #[test]
    fn a_process_that_will_not_leave_is_terminated_then_killed() {
        let mut slot = Slot::new();
        slot.on(Event::Start);
        slot.on(Event::Ready);
        slot.draining = true;
        assert_eq!(slot.on(Event::Drain), [Action::SendShutdown]);
        let at_shutdown = Look { phase: Phase::Shutdown, began: slot.now, mini_batch: None };
        slot.now += 3 * SECOND;
        assert_eq!(slot.on(Event::Look(at_shutdown)), [Action::Terminate]);
        assert_eq!(slot.on(Event::Look(at_shutdown)), [], "it has a grace");
        slot.now += 2 * SECOND;
        assert_eq!(slot.on(Event::Look(at_shutdown)), [Action::Kill]);
        assert_eq!(deadline(&slot.state), None, "nothing is harder than SIGKILL");
    }

    #[test]
    fn a_process_without_room_for_its_rows_is_waited_for() {
        let mut slot = Slot::running();
        let began = slot.now;
        slot.now += 1000 * SECOND;
        assert_eq!(slot.on(Event::Look(look(Phase::NoRoom, began, 3))), []);
        assert_eq!(deadline(&slot.state), Some(slot.now + 5 * SECOND), "it is looked at again");
    }

    #[test]
    fn a_standstill_of_the_worker_uses_up_nobodys_time() {
        let mut slot = Slot::new();
        slot.on(Event::Start);
        let pause = 100 * SECOND;
        slot.now += pause;
        slot.state = excuse(slot.state, pause);
        let look = Look { phase: Phase::Init, began: slot.now, mini_batch: None };
        assert_eq!(slot.on(Event::Look(look)), []);
        slot.on(Event::Ready);
        slot.on(Event::Drain);
        slot.now += pause;
        slot.state = excuse(slot.state, pause);
        assert_eq!(slot.on(Event::Look(look)), [], "shutdown() goes on");
        slot.now += 3 * SECOND;
        assert_eq!(slot.on(Event::Look(look)), [Action::Terminate]);
    }

    #[test]
    fn kill_stops_a_process_in_any_state() {
        for events in [vec![], vec![Event::Ready], vec![Event::Ready, Event::HandedOver]] {
            for end in [Event::Kill, Event::GiveUp] {
                let mut slot = Slot::new();
                slot.on(Event::Start);
                events.iter().for_each(|event| drop(slot.on(*event)));
                let actions = slot.on(end);
                assert_eq!(actions.last(), Some(&Action::Kill));
                let tells = actions.iter().any(|told| matches!(told, Action::ShowStacks | Action::ReportInitFailure));
                assert_eq!(tells, end == Event::GiveUp, "only who gives up for lack of progress asks where it hangs");
            }
        }
    }
}
