//! Redis, and the only place that names its client library: counters and words for people, every key with a time to live. Nothing here ever
//! fails for its caller, and nothing waits long: Redis away is `None`, once more every second.
//!
//! All calls go through one task in their order, what waits in one round trip. Redis that does not answer within 250 ms is away for a second.
//!
//! The user needs no more than this (the same for worker and coordinator; Redis 7.0 does not know `client|setinfo`, later ones may refuse it):
//!
//! ```text
//! ACL SETUSER fanfold on >PASSWORD resetchannels resetkeys ~fanfold:* nocommands +hincrby +hdel +del +expire +set +get +mget
//!     +zadd +zrangebyscore +zrem +zremrangebyscore +ping +hello +auth +select +client|setname
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, Pipeline, RedisError, TlsCertificates, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fleet::config::{ServerUrl, TlsFiles, is_of_certificates};
use crate::fleet::{WorkerId, WorkerStatus, names};
use crate::ids::JobId;
use crate::message::Task;
use crate::report::{ExitCode, Report};

/// Nobody waits longer for Redis.
const ANSWER: Duration = Duration::from_millis(250);
/// After a failure nobody waits at all, for so long.
const AWAY: Duration = Duration::from_secs(1);
/// Of counters.
const WEEK: i64 = 7 * 24 * 3600;
/// Of what a worker says.
const BEAT: i64 = 30;
/// Of the list of workers.
const DAY: i64 = 24 * 3600;
/// Calls in one round trip, at most.
const MOST_CALLS: usize = 256;

/// See the module documentation. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    owner: Arc<Owner>,
}

/// The last one ends the thread.
struct Owner {
    shared: Arc<Shared>,
    calls: Option<mpsc::UnboundedSender<Call>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // What was said last is still sent; it waits no longer than for one answer.
            let _ = thread.join();
        }
    }
}

struct Shared {
    config: StoreConfig,
    away: Mutex<Option<Away>>,
}

/// Redis does not answer.
#[derive(Clone)]
struct Away {
    since: Instant,
    why: String,
    refused: bool,
    /// Not asked again before.
    until: Instant,
}

/// Commands of one caller, and what to do with the answers.
struct Call {
    commands: Vec<Cmd>,
    /// Asked even if Redis was away a moment ago.
    insist: bool,
    done: Option<Done>,
}

/// None: Redis is away.
type Done = Box<dyn FnOnce(Option<Vec<Value>>) + Send>;

/// How to connect.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub url: ServerUrl,
    /// For `rediss`.
    pub tls: TlsFiles,
    /// What `CLIENT LIST` shows.
    pub name: String,
}

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer.
    #[error("cannot connect to Redis at {url}: {why}")]
    Unreachable {
        /// Where, without credentials.
        url: String,
        /// Why.
        why: String,
    },
    /// It refuses our user, password or command.
    #[error("Redis at {url} refuses: {why}")]
    Refused {
        /// Where, without credentials.
        url: String,
        /// Its words.
        why: String,
    },
    /// A certificate file can't be read, or is none.
    #[error("cannot use `{}` for TLS: {why}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Report for StoreError {
    fn exit_code(&self) -> ExitCode {
        match self {
            StoreError::Tls { .. } => ExitCode::Usage,
            _ => ExitCode::Unreachable,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::Unreachable { why, .. } if is_of_certificates(why) => {
                "set FANFOLD_CA to a PEM file with the authority that signed the certificate of Redis; where Redis asks for one of ours, \
                 FANFOLD_CERT and FANFOLD_KEY".into()
            }
            StoreError::Unreachable { .. } => {
                "is Redis running, and are host and port in `--redis` or FANFOLD_REDIS right?".into()
            }
            StoreError::Refused { .. } => {
                "check user and password in `--redis` or FANFOLD_REDIS, and what that user may do (`ACL LIST`)".into()
            }
            StoreError::Tls { .. } => "it must be a file in PEM form that this program can read".into(),
        })
    }
}

/// A task message, as the counters know it. One that runs alone is another than the one of the same attempt that did not: it is published
/// while whoever handed that one back may not have forgotten its count yet.
fn field(Task { mini_batches, attempt, alone, part }: &Task) -> String {
    let alone = if *alone { ":alone" } else { "" };
    let part = part.as_ref().map_or(String::new(), |part| format!(":{}-{}", part.start, part.end));
    format!("{}-{}:{attempt}{part}{alone}", mini_batches.start, mini_batches.end)
}

fn command(name: &str, key: &str) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Store {
    /// Starts to connect.
    ///
    /// # Errors
    /// A certificate file can't be used, or no thread can be started.
    pub fn start(config: StoreConfig) -> Result<Store, StoreError> {
        let client = client(&config)?;
        let no_thread =
            |error: std::io::Error| StoreError::Unreachable { url: config.url.to_string(), why: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let shared = Arc::new(Shared { config: config.clone(), away: Mutex::new(None) });
        let (calls, waiting) = mpsc::unbounded_channel();
        let carrier = Carrier { shared: shared.clone(), client, waiting, connection: None };
        let thread = std::thread::Builder::new()
            .name("redis".into())
            .spawn(move || runtime.block_on(carrier.run()))
            .map_err(no_thread)?;
        Ok(Store { owner: Arc::new(Owner { shared, calls: Some(calls), thread: Some(thread) }) })
    }

    /// Asks whether it answers, within `limit`.
    ///
    /// # Errors
    /// It does not.
    pub fn ping(&self, limit: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.ask(vec![redis::cmd("PING")], true, left.min(2 * ANSWER)).is_some() {
                return Ok(());
            }
            let url = self.owner.shared.config.url.to_string();
            match self.owner.shared.away() {
                Some(Away { refused: true, why, .. }) => return Err(StoreError::Refused { url, why }),
                away if Instant::now() >= deadline => {
                    let why = away.map_or_else(|| "it does not answer".into(), |away| away.why);
                    return Err(StoreError::Unreachable { url, why });
                }
                _ => std::thread::sleep(Duration::from_millis(50).min(left)),
            }
        }
    }

    /// Since when it has not answered, and why, if it does not.
    pub fn away(&self) -> Option<(Instant, String)> {
        self.owner.shared.away().map(|away| (away.since, away.why))
    }

    /// Counts a hand-over of each task in one round trip; each count includes this one. None: Redis is away.
    pub fn count(&self, job: &JobId, tasks: &[Task]) -> Option<Vec<u32>> {
        let key = names::hand_overs_key(job);
        let mut commands: Vec<Cmd> = tasks
            .iter()
            .map(|task| {
                let mut command = command("HINCRBY", &key);
                command.arg(field(task)).arg(1);
                command
            })
            .collect();
        commands.push(expire(&key, WEEK));
        let answers = self.ask(commands, false, ANSWER)?;
        let count = |value: &Value| match value {
            Value::Int(count) => Some(u32::try_from(*count).unwrap_or(1).max(1)),
            _ => None,
        };
        answers[..tasks.len().min(answers.len())].iter().map(count).collect()
    }

    /// Counts back what was given back in order, and calls `then` when that is done or Redis is away. Does not wait.
    pub(super) fn uncount_then(&self, job: &JobId, task: &Task, then: impl FnOnce() + Send + 'static) {
        let mut back = command("HINCRBY", &names::hand_overs_key(job));
        back.arg(field(task)).arg(-1);
        self.call(Call { commands: vec![back], insist: false, done: Some(Box::new(|_| then())) });
    }

    /// The task is done with. Does not wait.
    pub fn forget(&self, job: &JobId, task: &Task) {
        self.call(Call { commands: vec![forget(job, task)], insist: false, done: None });
    }

    /// As [`Store::forget`], and waits a moment until that is done.
    pub fn forget_now(&self, job: &JobId, task: &Task) {
        let _ = self.ask(vec![forget(job, task)], false, ANSWER);
    }

    /// The job is over: nothing of it stays. Does not wait.
    pub fn forget_job(&self, job: &JobId) {
        let commands = vec![command("DEL", &names::hand_overs_key(job))];
        // A coordinator may not have asked Redis for anything since the job began.
        self.call(Call { commands, insist: true, done: None });
    }

    /// Says what a worker does, for 30 s. Does not wait.
    pub fn beat(&self, status: &WorkerStatus) {
        let key = names::worker_key(&status.worker.0);
        let mut say = command("SET", &key);
        say.arg(serde_json::to_vec(status).unwrap_or_default()).arg("EX").arg(BEAT);
        let mut list = command("ZADD", &names::workers_key());
        list.arg(now_seconds()).arg(&status.worker.0);
        let commands = vec![say, list, expire(&names::workers_key(), DAY)];
        self.call(Call { commands, insist: false, done: None });
    }

    /// The worker has left. Waits a moment.
    pub fn worker_left(&self, worker: &WorkerId) {
        let mut unlist = command("ZREM", &names::workers_key());
        unlist.arg(&worker.0);
        let _ = self.ask(vec![command("DEL", &names::worker_key(&worker.0)), unlist], false, ANSWER);
    }

    /// The workers that said something in the last 30 s. None: Redis is away.
    pub fn workers(&self) -> Option<Vec<WorkerStatus>> {
        let since = now_seconds().saturating_sub(BEAT as u64);
        let mut old = command("ZREMRANGEBYSCORE", &names::workers_key());
        old.arg("-inf").arg(format!("({since}"));
        let mut list = command("ZRANGEBYSCORE", &names::workers_key());
        list.arg(since).arg("+inf");
        let answers = self.ask(vec![old, list], false, ANSWER)?;
        let ids: Vec<String> = redis::from_redis_value(answers.into_iter().nth(1)?).ok()?;
        if ids.is_empty() {
            return Some(Vec::new());
        }
        let mut get = redis::cmd("MGET");
        for id in &ids {
            get.arg(names::worker_key(id));
        }
        let answers = self.ask(vec![get], false, ANSWER)?;
        let said: Vec<Option<Vec<u8>>> = redis::from_redis_value(answers.into_iter().next()?).ok()?;
        let read = |said: Option<Vec<u8>>| serde_json::from_slice(&said?).ok();
        Some(said.into_iter().filter_map(read).collect())
    }

    fn call(&self, call: Call) {
        let calls = self.owner.calls.as_ref().expect("present until the last handle is dropped");
        // The thread ends only with the last handle.
        let _ = calls.send(call);
    }

    fn ask(&self, commands: Vec<Cmd>, insist: bool, limit: Duration) -> Option<Vec<Value>> {
        if !insist && self.owner.shared.is_away() {
            return None;
        }
        let (answer, answered) = std_mpsc::sync_channel(1);
        let done = Box::new(move |values| {
            // Who asked may not wait any longer.
            let _ = answer.send(values);
        });
        self.call(Call { commands, insist, done: Some(done) });
        answered.recv_timeout(limit).ok().flatten()
    }
}

fn forget(job: &JobId, task: &Task) -> Cmd {
    let mut forget = command("HDEL", &names::hand_overs_key(job));
    forget.arg(field(task));
    forget
}

fn expire(key: &str, seconds: i64) -> Cmd {
    let mut expire = command("EXPIRE", key);
    expire.arg(seconds);
    expire
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self) -> Option<Away> {
        self.lock().clone()
    }

    /// Failed a moment ago: not to be asked now.
    fn is_away(&self) -> bool {
        self.lock().as_ref().is_some_and(|away| Instant::now() < away.until)
    }

    fn answered(&self) {
        *self.lock() = None;
    }

    fn failed(&self, why: String, refused: bool) {
        let mut away = self.lock();
        let now = Instant::now();
        let since = away.as_ref().map_or(now, |away| away.since);
        *away = Some(Away { since, why, refused, until: now + AWAY });
    }
}

/// The client, with the certificates read.
fn client(config: &StoreConfig) -> Result<Client, StoreError> {
    let invalid = |error: RedisError| StoreError::Refused { url: config.url.to_string(), why: error.to_string() };
    if !config.url.is_tls() {
        return Client::open(config.url.expose()).map_err(invalid);
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| StoreError::Tls { path: path.clone(), why: error.to_string() })
    };
    let root_cert = config.tls.ca.as_ref().map(read).transpose()?;
    let client_tls = match &config.tls.identity {
        Some((certificate, key)) => Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? }),
        None => None,
    };
    Client::build_with_tls(config.url.expose(), TlsCertificates { client_tls, root_cert }).map_err(invalid)
}

/// Owns the connection.
struct Carrier {
    shared: Arc<Shared>,
    client: Client,
    waiting: mpsc::UnboundedReceiver<Call>,
    connection: Option<MultiplexedConnection>,
}

impl Carrier {
    async fn run(mut self) {
        let mut calls = Vec::new();
        while self.waiting.recv_many(&mut calls, MOST_CALLS).await > 0 {
            let insists = calls.iter().any(|call| call.insist);
            let answers = match self.shared.is_away() && !insists {
                true => None,
                false => self.round_trip(&calls).await,
            };
            let mut answers = answers.map(Vec::into_iter);
            for call in calls.drain(..) {
                let mine = answers.as_mut().map(|answers| answers.take(call.commands.len()).collect());
                if let Some(done) = call.done {
                    done(mine);
                }
            }
        }
    }

    /// Sends everything, reads everything.
    async fn round_trip(&mut self, calls: &[Call]) -> Option<Vec<Value>> {
        let mut pipeline = Pipeline::new();
        for command in calls.iter().flat_map(|call| &call.commands) {
            pipeline.add_command(command.clone());
        }
        let answered = async {
            if let Some(connection) = &mut self.connection {
                match pipeline.query_async::<Vec<Value>>(connection).await {
                    // Redis was restarted since. What it had counted already is then counted twice: somebody runs alone for nothing; or it is
                    // counted back twice: one death more before somebody does.
                    Err(error) if error.is_io_error() || error.is_connection_dropped() => (),
                    answered => return answered,
                }
            }
            let connection = self.connection.insert(self.connect().await?);
            pipeline.query_async::<Vec<Value>>(connection).await
        };
        match timeout(ANSWER, answered).await {
            Ok(Ok(values)) => {
                self.shared.answered();
                Some(values)
            }
            Ok(Err(error)) => {
                self.connection = None;
                let why = self.shared.config.tls.explain(explain(&error, &self.client));
                self.shared.failed(why, is_refusal(&error));
                None
            }
            Err(_) => {
                self.connection = None;
                self.shared.failed(format!("no answer within {} ms", ANSWER.as_millis()), false);
                None
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // Redis takes no blanks in a name.
        let name = self.shared.config.name.replace(|c: char| !c.is_ascii_graphic(), "-");
        redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(&mut connection).await?;
        Ok(connection)
    }
}

fn is_refusal(error: &RedisError) -> bool {
    let text = error.to_string();
    ["NOPERM", "WRONGPASS", "NOAUTH", "AuthenticationFailed", "authentication failed", "Password"]
        .iter()
        .any(|word| text.contains(word))
}

fn explain(error: &RedisError, client: &Client) -> String {
    let text = error.to_string();
    match is_refusal(error) && !text.contains("NOPERM") {
        true => {
            let user = client.get_connection_info().redis_settings().username().unwrap_or("default");
            format!("user `{user}` or its password is wrong ({text})")
        }
        false => text,
    }
}
