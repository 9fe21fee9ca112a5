//! Why a job waits or is slow.

use fanfold_shared::clock::duration;
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, grouped, one_line};
use serde::{Deserialize, Serialize};

use super::StatusView;
use super::at_work::at_work;
use crate::report::Coordinator;
use crate::run::OF_THE_BROKER;

/// Why a job waits or is slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs: `queued`, `paused`, `over`, `preparing`, `finalizing`, `stopping`, `canceling`, `nodes`, `share`, `broker`, `blocked`,
    /// `init`, `dying`, `failing`, `straggler`, `still`, `gone`, `working`; and what the processes spend their time on: `computing`,
    /// `waiting`, `starved`, `loading`, `idle`.
    pub code: String,
    /// For people, with a figure.
    pub text: String,
}

/// What `fanfold explain --json` and `GET /v1/jobs/{id}/explain` say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The version of this form.
    pub version: u32,
    /// The job.
    pub job_id: String,
    /// Its state.
    pub state: JobState,
    /// The reasons, the first one first to be seen to.
    pub reasons: Vec<Reason>,
}

/// What a service knows beside the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Why the job is not begun.
    pub queued: Option<String>,
    /// Why the broker takes nothing.
    pub broker: Option<String>,
    /// The pool, the workers in it, and how many of them are free, as far as they are known.
    pub pool: Option<(String, Option<(usize, usize)>)>,
    /// The nodes that the job may have, because others wait.
    pub limit: Option<u32>,
}

/// Why the job is where it is: at least one reason, the most pressing first.
pub fn explain(view: &StatusView, waiting: &Waiting) -> Explained {
    let status = &view.status;
    let mut reasons = Vec::new();
    let mut say = |code: &str, text: String| reasons.push(Reason { code: code.into(), text });
    let because = status
        .cause
        .as_ref()
        .map(|cause| format!(": {}", cause.lines().next().unwrap_or_default()))
        .unwrap_or_default();
    let counts = &status.counts;
    let done = format!("{} of {}", grouped(counts.settled()), counted(counts.mini_batches, "mini-batch"));
    let active = !status.state.is_final() && status.state != JobState::Paused && status.state != JobState::Queued;
    if active && view.coordinator == Coordinator::Gone {
        let since = duration(view.age);
        let go_on = format!("`fanfold resume {}` goes on with it", status.job_id);
        say(
            "gone",
            format!("nobody works on it: its coordinator has been gone for about {since}, {done} are settled; {go_on}"),
        );
        // What it said last of processes and pace is true no more.
        return Explained { version: 1, job_id: status.job_id.clone(), state: status.state, reasons };
    }
    let broker = waiting.broker.as_ref().filter(|_| !status.state.is_final());
    // The service says the same of the broker, and for how long.
    if let Some(blocked) = status.blocked.as_ref().filter(|why| broker.is_none() || !why.starts_with(OF_THE_BROKER)) {
        say("blocked", blocked.clone());
    }
    if let Some(why) = broker {
        say("broker", format!("the broker takes nothing: {why}"));
    }
    match status.state {
        JobState::Completed | JobState::Failed | JobState::Canceled => {
            say("over", format!("it is {}{because}; {done} are settled", status.state))
        }
        JobState::Paused => say("paused", format!("it is Paused{because}; {done} are settled")),
        JobState::Queued => {
            let why = waiting
                .queued
                .clone()
                .or_else(|| status.cause.clone())
                .unwrap_or_else(|| "it is about to begin".into());
            say("queued", why);
        }
        JobState::Preparing => {
            let since = duration(view.status.updated.saturating_sub(status.started) as f64 / 1e6 + view.age);
            let what = status.cause.as_deref().map_or("it gets ready to run".into(), |cause| one_line(cause, 200));
            say("preparing", format!("{what}; it began {since} ago"));
        }
        JobState::Finalizing => say("finalizing", format!("{done} are settled; the output gets its name")),
        JobState::CancelRequested => {
            let left = counted(status.processes.len() as u64, "process");
            say("canceling", format!("what runs is being ended: {left} left; {done} are settled"));
        }
        JobState::Running => at_work(view, waiting, &done, &mut say),
    }
    Explained { version: 1, job_id: status.job_id.clone(), state: status.state, reasons }
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    fn told(view: &StatusView, waiting: &Waiting) -> String {
        explain(view, waiting).reasons.into_iter().map(|reason| format!("{}: {}\n", reason.code, reason.text)).collect()
    }

    #[test]
    fn every_wait_has_a_reason_with_a_figure() {
        let nothing = Waiting::default();
        insta::assert_snapshot!(told(&view(|_| ()), &nothing), @"working: it works: 120 of 276 mini-batches, 24 items/s with 1 process on 1 node, 13 s to go\n");
        let no_nodes = view(|snapshot| (snapshot.nodes, snapshot.processes) = (vec![], vec![]));
        let pool = |workers| Waiting { pool: Some(("gpu".into(), workers)), ..Waiting::default() };
        insta::assert_snapshot!(told(&no_nodes, &pool(Some((0, 0)))), @"nodes: it waits for nodes: no worker is in pool `gpu`; start `fanfold-worker --pool gpu`\n");
        insta::assert_snapshot!(told(&no_nodes, &pool(Some((3, 0)))), @"nodes: it waits for nodes: all 3 workers of pool `gpu` are at work for others\n");
        insta::assert_snapshot!(told(&no_nodes, &pool(Some((3, 1)))), @"nodes: it waits for nodes: 1 of 3 workers of pool `gpu` is free and about to join\n");
        insta::assert_snapshot!(told(&no_nodes, &pool(None)), @"nodes: it waits for nodes of pool `gpu`\n");
        insta::assert_snapshot!(told(&no_nodes, &nothing), @"nodes: it waits for nodes: none has joined\n");
        insta::assert_snapshot!(told(&no_nodes, &Waiting { broker: Some("blocked for 12 s: low on disk".into()), limit: Some(0), ..pool(Some((1, 0))) }), @r"
        broker: the broker takes nothing: blocked for 12 s: low on disk
        nodes: it waits for nodes: the only worker of pool `gpu` is at work for others
        share: it may have 0 nodes while other jobs wait for some
        ");
        let full = view(|snapshot| snapshot.blocked = Some("disk full: cannot write `/out`".into()));
        assert!(told(&full, &nothing).starts_with("blocked: disk full: cannot write `/out`\n"));
        let slow = view(|snapshot| snapshot.now_us += 600_000_000);
        assert!(told(&slow, &nothing).starts_with("init: 1 of 2 processes is still in init(), for 10 min 30 s\n"));
        let mut gone = view(|_| ());
        gone.coordinator = Coordinator::Gone;
        assert!(told(&gone, &nothing).starts_with("gone: nobody works on it"));
        let queued = view(|snapshot| snapshot.state = JobState::Queued);
        assert_eq!(
            told(&queued, &Waiting { queued: Some("64 jobs run already".into()), ..Waiting::default() }),
            "queued: 64 jobs run already\n"
        );
        let done =
            view(|snapshot| (snapshot.state, snapshot.cause) = (JobState::Failed, Some("no result\nmore".into())));
        assert_eq!(told(&done, &nothing), "over: it is Failed: no result; 120 of 276 mini-batches are settled\n");
    }

    #[test]
    fn what_the_coordinator_says_is_not_said_again() {
        let waits = |blocked: &str| {
            view(|snapshot| {
                (snapshot.nodes, snapshot.processes, snapshot.nodes_wanted) = (vec![], vec![], 2);
                snapshot.blocked = Some(blocked.into());
            })
        };
        let for_nodes = waits("waits for nodes: 2 wanted in pool `gpu`, none has come");
        let pool = |workers| Waiting { pool: Some(("gpu".into(), workers)), ..Waiting::default() };
        let alone = "blocked: waits for nodes: 2 wanted in pool `gpu`, none has come\n";
        assert_eq!(told(&for_nodes, &Waiting::default()), alone);
        assert_eq!(told(&for_nodes, &pool(None)), alone);
        insta::assert_snapshot!(told(&for_nodes, &pool(Some((0, 0)))), @r"
        blocked: waits for nodes: 2 wanted in pool `gpu`, none has come
        nodes: no worker is in pool `gpu`; start `fanfold-worker --pool gpu`
        ");
        insta::assert_snapshot!(told(&for_nodes, &pool(Some((3, 2)))), @r"
        blocked: waits for nodes: 2 wanted in pool `gpu`, none has come
        nodes: 2 of 3 workers of pool `gpu` are free and about to join
        ");

        let away = waits("the broker is away (connection refused); the job goes on by itself");
        assert_eq!(
            told(&away, &pool(None)),
            "blocked: the broker is away (connection refused); the job goes on by itself\n"
        );
        let broker = Some("away for 12 s: connection refused".to_string());
        insta::assert_snapshot!(told(&away, &Waiting { broker, ..pool(None) }), @"broker: the broker takes nothing: away for 12 s: connection refused\n");
    }
}
