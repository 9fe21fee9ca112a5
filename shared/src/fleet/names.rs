//! The names of exchanges, queues and keys: everything begins with `fanfold`, so that a pattern of RabbitMQ's permissions or of
//! Redis's ACL covers it, and a list sorted by name reads as a dashboard.

use crate::ids::{JobId, ScriptNumber};

/// Direct; tasks go to it with the job's id as routing key.
pub const TASKS: &str = "fanfold.tasks";
/// Direct; results go to it with the job's id as routing key. The only exchange that workers may publish to.
pub const RESULTS: &str = "fanfold.results";
/// Direct; commands go to it with the worker's id as routing key.
pub const CONTROL: &str = "fanfold.control";
/// Direct; tickets go to it with the pool as routing key.
pub const NODES: &str = "fanfold.nodes";
/// Topic; state changes of jobs go to it with the routing key [`event_key`].
pub const EVENTS: &str = "fanfold.events";
/// Fanout, and the queue bound to it: messages that nobody can read.
pub const DEAD: &str = "fanfold.dead";
/// The queue from which the service takes jobs; published to through the default exchange.
pub const JOBS: &str = "fanfold.jobs";

/// Under which name the queues and counters of a job go while it runs this script: its id, and from the second script on the number behind
/// it. Whoever still runs an earlier script finds no task of a later one, and is not heard.
pub fn running(job: &JobId, script: ScriptNumber) -> JobId {
    if script.is_first() { job.clone() } else { JobId(format!("{job}.script-{script}")) }
}

/// The queue of a job's tasks.
pub fn tasks_queue(job: &JobId) -> String {
    format!("{TASKS}.{job}")
}

/// The queue of a job's results.
pub fn results_queue(job: &JobId) -> String {
    format!("{RESULTS}.{job}")
}

/// The queue of a pool's tickets: its length is the number of workers wanted.
pub fn nodes_queue(pool: &str) -> String {
    format!("{NODES}.{pool}")
}

/// The queue of one worker's commands: exclusive, gone with its connection.
pub fn worker_queue(worker: &str) -> String {
    format!("fanfold.worker.{worker}")
}

/// Whether a text can be the id of a worker: what a stranger wrote instead would name no queue, or end in a log.
pub fn is_worker(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The routing key of an event: `job.score-1a2b3c4d.completed`.
pub fn event_key(job: &JobId, state: &str) -> String {
    format!("job.{job}.{}", state.to_lowercase())
}

/// Before every key in Redis.
pub const KEYS: &str = "fanfold:v1:";

/// Redis: a hash of the hand-overs of a job's tasks.
pub fn hand_overs_key(job: &JobId) -> String {
    format!("{KEYS}hand-overs:{job}")
}

/// Redis: what a worker says of itself, JSON.
pub fn worker_key(worker: &str) -> String {
    format!("{KEYS}worker:{worker}")
}

/// Redis: a sorted set of worker ids by the time of their last beat, seconds since the epoch.
pub fn workers_key() -> String {
    format!("{KEYS}workers")
}
