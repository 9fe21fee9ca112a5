//! The worker's main loop: connect, wait for a ticket, be that node, again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::{
    Broker, BrokerConfig, BrokerError, Consumer, ExchangeKind, Queue, QueueKind, Topology,
};
use fanfold_shared::backend::redis::{Store, StoreConfig};
use fanfold_shared::clock;
use fanfold_shared::fleet::config::FleetConfig;
use fanfold_shared::fleet::{SharedRoot, WorkerId, WorkerState, WorkerStatus, names};
use fanfold_shared::ids::{self, NodeId};
use fanfold_shared::report::{During, ExitCode, Result};

use super::job;
use super::log::say;
use super::member;
use super::metrics::Metrics;
use super::place::{Place, default_base};
use super::presence::Presence;
use super::signals::Signals;
use super::ticket::Tickets;
use crate::cloud::CacheSettings;
use crate::devices::{default_processes, discover};
use crate::node::host_name;

/// Between two looks at everything while there is no ticket.
const LOOK: Duration = Duration::from_millis(100);
/// For an answer of the broker.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two tries at what the broker refused.
const AGAIN: Duration = Duration::from_secs(1);
/// Commands sent ahead.
const COMMANDS: u16 = 64;

/// What a worker was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where broker and Redis are.
    pub fleet: FleetConfig,
    /// Where this host has the shared directory.
    pub shared: SharedRoot,
    /// Whose tickets it takes.
    pub pool: String,
    /// The GPUs it may use; None: what the job says.
    pub gpus: Option<Vec<String>>,
    /// The processes of its nodes; None: what the job says.
    pub processes: Option<u32>,
    /// It ends after so long without a ticket.
    pub max_idle: Option<Duration>,
    /// Where workers of this host keep their directories.
    pub base: Option<PathBuf>,
    /// Where it tells its metrics.
    pub metrics: Option<SocketAddr>,
    /// See [`crate::node::Membership::lease_after`].
    pub lease_after: Duration,
    /// Where files at addresses are kept.
    pub cache: CacheSettings,
}

/// A worker that lives.
pub struct Worker {
    /// Its id.
    pub id: WorkerId,
    /// Its host's name, as it appears in ids.
    pub host: String,
    /// What it was told.
    pub settings: Settings,
    /// The connections to RabbitMQ.
    pub broker: Broker,
    /// Redis.
    pub store: Store,
    /// Its commands.
    pub control: Consumer,
    /// Its own directory.
    pub place: Place,
    /// What it says of itself.
    pub presence: Arc<Presence>,
    /// What it was asked.
    pub signals: Signals,
}

impl Worker {
    /// An id for a node, which nobody else ever has.
    pub fn new_node(&self) -> NodeId {
        NodeId(format!("{}-{}", self.host, ids::suffix(6)))
    }
}

/// Lives until it is told to end.
///
/// # Errors
/// What keeps it from starting. A broker that is away does not.
pub fn run(settings: Settings) -> Result<ExitCode> {
    let signals = Signals::install(Arc::new(AtomicBool::new(false))).during("handle", "signals")?;
    let inherited = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let found = discover(settings.gpus.as_deref(), inherited.as_deref())?;
    let host = tidy(&host_name());
    let id = WorkerId(format!("{host}-{}", ids::suffix(6)));
    let base = settings.base.clone().unwrap_or_else(default_base);
    let place = Place::make(&base, &host, &id)?;
    let FleetConfig { broker, redis, tls, name } = settings.fleet.clone();
    let store = Store::start(StoreConfig { url: redis, tls: tls.clone(), name: name.clone() })?;
    let broker = Broker::start(BrokerConfig { url: broker, tls, name })?;
    let status = WorkerStatus {
        worker: id.clone(),
        host: host.clone(),
        pool: settings.pool.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        state: WorkerState::Idle,
        processes: settings.processes.unwrap_or_else(|| default_processes(found.len())),
        gpus: found.iter().map(|device| device.visible.clone()).collect(),
        started_us: clock::wall_us(),
        beat_us: clock::wall_us(),
    };
    say(&format!(
        "worker {id} of pool `{}`: shared directory `{}`, RabbitMQ at {}, Redis at {}",
        settings.pool,
        settings.shared.root().display(),
        settings.fleet.broker,
        settings.fleet.redis
    ));
    let presence = Arc::new(Presence::new(broker.clone(), store.clone(), status, place.health()));
    let beating = presence.clone().begin().during("start", "a thread")?;
    let metrics = match settings.metrics {
        Some(address) => {
            Some(Metrics::serve(address, presence.clone()).during("serve metrics at", address.to_string())?)
        }
        None => None,
    };
    let exit = match join_fleet(&broker, &id, &settings.pool, &signals, &presence) {
        false => ExitCode::Completed,
        true => {
            let control = broker.consumer(&names::worker_queue(&id.0), COMMANDS);
            let worker =
                Worker { id, host, settings, broker: broker.clone(), store, control, place, presence, signals };
            worker.work()
        }
    };
    drop(metrics);
    drop(beating);
    broker.close();
    Ok(exit)
}

/// Waits for the broker, and declares what is this worker's. False: it was told to end first.
fn join_fleet(broker: &Broker, id: &WorkerId, pool: &str, signals: &Signals, presence: &Presence) -> bool {
    let nodes = names::nodes_queue(pool);
    // Where a worker may not declare these, whoever runs the broker or the first coordinator does.
    let pool = Topology {
        exchanges: vec![(names::NODES.into(), ExchangeKind::Direct), (names::CONTROL.into(), ExchangeKind::Direct)],
        queues: vec![Queue { name: nodes.clone(), kind: QueueKind::Priority }],
        bindings: vec![(nodes, names::NODES.into(), pool.into())],
    };
    let queue = names::worker_queue(&id.0);
    let own = Topology {
        exchanges: Vec::new(),
        queues: vec![Queue { name: queue.clone(), kind: QueueKind::Exclusive }],
        bindings: vec![(queue, names::CONTROL.into(), id.0.clone())],
    };
    let (mut pool, mut told) = (Some(pool), String::new());
    while signals.count() == 0 {
        presence.turn();
        // What an absent broker says is told by the one who watches the connections.
        if broker.wait(LOOK).is_err() {
            thread::sleep(LOOK);
            continue;
        }
        let declared = match pool.take() {
            Some(pool) => match broker.declare(pool.clone(), ANSWER) {
                Err(BrokerError::Refused { .. }) => broker.declare(own.clone(), ANSWER),
                Err(error) => Err(error),
                Ok(()) => broker.declare(own.clone(), ANSWER),
            },
            None => broker.declare(own.clone(), ANSWER),
        };
        match declared {
            Ok(()) => return true,
            Err(BrokerError::Closed(_)) => return false,
            Err(error) => {
                let text = error.to_string();
                if told != text {
                    say(&format!("waiting for the broker to let this worker in: {text}"));
                    told = text;
                }
                let until = Instant::now() + AGAIN;
                while signals.count() == 0 && Instant::now() < until {
                    thread::sleep(LOOK);
                }
            }
        }
    }
    false
}

impl Worker {
    fn work(self) -> ExitCode {
        let mut tickets = Tickets::new(self.broker.clone(), &self.settings.pool);
        let mut idle = Instant::now();
        say("waiting for tickets");
        while self.signals.count() == 0 {
            self.presence.turn();
            member::ignore_commands(&self);
            if let Some(ticket) = tickets.next(LOOK) {
                match job::open(&self.settings.shared, &ticket) {
                    Ok(job) => member::serve(&self, &ticket, job),
                    Err(refusal) => {
                        member::refuse(&self, &ticket, &refusal);
                        tickets.refuse(&ticket.job);
                    }
                }
                self.presence.set(WorkerState::Idle, None);
                idle = Instant::now();
            } else if self.settings.max_idle.is_some_and(|most| idle.elapsed() >= most) {
                say("no ticket for so long as it was told to wait: it ends");
                return ExitCode::Completed;
            }
        }
        say("told to end");
        match self.signals.count() {
            0 | 1 => ExitCode::Completed,
            _ => self.signals.exit_code(),
        }
    }
}

/// A host name as part of ids: they are names of queues, files and keys.
fn tidy(host: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' };
    let tidy: String = host.chars().take(60).map(plain).collect();
    match tidy.trim_matches(|character| character == '.' || character == '-') {
        "" => "host".into(),
        tidy => tidy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_part_of_ids() {
        assert_eq!(tidy("gpu-01.example.org"), "gpu-01.example.org");
        assert_eq!(tidy("../a b/*#"), "a-b");
        assert_eq!(tidy("…"), "host");
    }
}
