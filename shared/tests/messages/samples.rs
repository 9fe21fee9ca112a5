//! One message of each kind.

use fanfold_shared::fleet::{
    Command, Control, JobEvent, JobReply, JobRequest, JobSource, Ticket, WorkerId, WorkerState, WorkerStatus,
};
use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::message::{
    Activity, AttemptError, Doing, ErrorKind, FromNode, Identity, ItemError, NodeEvent, NodeMessage, Outcome,
    OutcomeEnd, Results, Task,
};

type Named<T> = Vec<(&'static str, T)>;

fn task(alone: bool) -> Task {
    Task { mini_batches: 7..300, attempt: 2, alone, part: None }
}

pub fn tasks() -> Named<Task> {
    let part = Task { mini_batches: 7..8, attempt: 4, alone: false, part: Some(72..75) };
    vec![("task", task(false)), ("task-alone", task(true)), ("task-part", part)]
}

fn error(kind: ErrorKind) -> Box<AttemptError> {
    let text = |of: &str| format!("{of}: ünlesbar\n");
    Box::new(AttemptError {
        kind,
        message: text("message"),
        traceback: text("traceback"),
        stderr: text("stderr"),
        of_all: kind == ErrorKind::Input,
    })
}

fn outcome(mini_batch: u64, end: OutcomeEnd) -> Outcome {
    let items = mini_batch * 10..mini_batch * 10 + 10;
    let (started_us, elapsed_us, run_us, cpu_us) = (1_763_000_000_000_000, 70_000, 60_000, 50_000);
    Outcome { mini_batch, items, attempt: 1, started_us, elapsed_us, run_us, cpu_us, end }
}

fn results() -> Results {
    let unreadable = vec![ItemError { item: 13, message: "no such file".into() }];
    let returned = OutcomeEnd::Returned { returned: 9, rows_len: 4, spooled: None, unreadable };
    let spooled = Some("0190.rows".into());
    let spooled = OutcomeEnd::Returned { returned: 10, rows_len: 1 << 40, spooled, unreadable: Vec::new() };
    let mut outcomes = vec![outcome(1, returned), outcome(2, spooled)];
    outcomes.extend((3..).zip(ErrorKind::ALL).map(|(number, kind)| outcome(number, OutcomeEnd::Failed(error(kind)))));
    Results { process: ProcessNumber(3), outcomes, rows: b"\xff\0a\n".to_vec(), header: Some(b"a,b\n".to_vec()) }
}

pub fn from_node() -> Named<FromNode> {
    let (worker, host) = ("gpu-01-4f2a", "gpu-01");
    let why = || "no such directory".to_string();
    let process = ProcessNumber(4);
    let (activity, mini_batch) = (Activity::Running, Some(17));
    let doing =
        Doing { process, pid: 4711, age_us: 9_000_000, activity, for_us: 3_200_000, mini_batch, delayed_us: 20 };
    let by = Identity { worker: worker.into(), host: host.into(), processes: 8 };
    let events = vec![
        (
            "joining",
            NodeEvent::Joining { worker: worker.into(), host: host.into(), ticket: 5, version: "0.1.0".into() },
        ),
        ("refused", NodeEvent::Refused { worker: worker.into(), host: host.into(), ticket: 5, why: why() }),
        ("cannot-join", NodeEvent::CannotJoin { why: why(), anywhere: true }),
        ("beat", NodeEvent::Beat { by: None, held: vec![0..1, 5..u64::MAX], doing: Vec::new() }),
        ("beat-by", NodeEvent::Beat { by: Some(by), held: Vec::new(), doing: Vec::new() }),
        ("beat-doing", NodeEvent::Beat { by: None, held: Vec::new(), doing: vec![doing] }),
        ("handed-back", NodeEvent::HandedBack { task: task(false), hand_overs: 2 }),
        ("runs-alone", NodeEvent::RunsAlone { task: task(true) }),
        ("leased", NodeEvent::Leased { tasks: vec![task(false), task(true)] }),
        ("joined", NodeEvent::Joined { host: host.into(), processes: 8, devices: vec!["0".into(), "GPU-5f".into()] }),
        ("process-started", NodeEvent::ProcessStarted { process, pid: 4711, device: Some("0".into()) }),
        ("init-done", NodeEvent::InitDone { process, elapsed_us: 1_000_000 }),
        ("init-failed", NodeEvent::InitFailed { process, error: error(ErrorKind::Init), consecutive: 3 }),
        ("process-ended", NodeEvent::ProcessEnded { process, how: "exited with code 0".into() }),
        ("gave-up", NodeEvent::GaveUp { error: error(ErrorKind::Init) }),
        ("broken", NodeEvent::Broken { message: why() }),
        ("downloading", NodeEvent::Downloading { bytes: 1 << 30 }),
        ("held-up", NodeEvent::HeldUp { slot: 1, why: Some(why()) }),
        ("left", NodeEvent::Left),
    ];
    let wrap = |(name, body)| (name, FromNode { node: NodeId("gpu-01-abcdef".into()), body });
    let events = events.into_iter().map(|(name, event)| (name, NodeMessage::Event(event)));
    events.chain([("results", NodeMessage::Results(results()))]).map(wrap).collect()
}

fn job() -> JobId {
    JobId("score-0a1b2c3d".into())
}

pub fn ticket() -> Ticket {
    Ticket {
        fanfold: "0.1.0".into(),
        job: job(),
        job_dir: "jobs/score".into(),
        shared: "/srv/shared".into(),
        number: 12,
        script: fanfold_shared::ids::ScriptNumber::FIRST,
    }
}

pub fn controls() -> Named<Control> {
    let control = |command| Control { job: job(), node: NodeId("gpu-01-abcdef".into()), command };
    vec![
        ("alive", control(Command::Alive)),
        ("report", control(Command::Report)),
        ("drain", control(Command::Drain)),
        ("kill", control(Command::Kill)),
        ("give-up", control(Command::GiveUp)),
    ]
}

pub fn requests() -> Named<JobRequest> {
    let inline = JobSource::Inline { job: serde_json::json!({"name": "score"}), base: Some("data".into()) };
    vec![
        ("request-file", JobRequest { source: JobSource::File { job_file: "score.yaml".into() }, set: Vec::new() }),
        ("request-inline", JobRequest { source: inline, set: vec!["mini_batch_size=10".into()] }),
    ]
}

pub fn replies() -> Named<JobReply> {
    let accepted = JobReply::Accepted { job_id: job(), job_dir: "jobs/score".into(), duplicate: true };
    let refused = JobReply::Refused { error: "no such file".into(), hint: Some("paths are relative".into()) };
    vec![("reply-accepted", accepted), ("reply-refused", refused)]
}

pub fn statuses() -> Named<WorkerStatus> {
    let status = |state| WorkerStatus {
        worker: WorkerId("gpu-01-4f2a".into()),
        host: "gpu-01".into(),
        pool: "default".into(),
        version: "0.1.0".into(),
        state,
        processes: 8,
        gpus: vec!["0".into()],
        started_us: 1,
        beat_us: 2,
    };
    vec![
        ("worker-idle", status(WorkerState::Idle)),
        ("worker-working", status(WorkerState::Working { job: job(), node: NodeId("gpu-01-abcdef".into()) })),
        ("worker-draining", status(WorkerState::Draining)),
    ]
}

pub fn job_event() -> JobEvent {
    JobEvent {
        version: 1,
        job_id: job(),
        name: "score".into(),
        state: "completed".into(),
        cause: None,
        time: "2026-11-21T12:00:00Z".into(),
        items: 10,
        items_succeeded: 9,
        items_failed: 1,
        output: Some("/srv/shared/out.csv".into()),
    }
}
