//! Where broker, Redis and the shared directory are: options of every command that talks to a fleet.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker, BrokerConfig};
use fanfold_shared::backend::redis::{Store, StoreConfig};
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::fleet::config::{ConfigError, FleetConfig, environment};
use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_worker::fleet::secrets;
use fanfold_worker::node::host_name;

use crate::report::Comeback;
use crate::run::{FleetJob, FleetLink, FleetRun, Orders, Purpose, run_on_fleet};

/// How long servers may take to answer when a command begins.
const LIMIT: Duration = Duration::from_secs(10);

/// Options for a fleet.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FleetArgs {
    /// The message broker of the fleet whose workers run jobs (`amqp://user:password@host:5672/`); better given in a file that
    /// FANFOLD_BROKER_FILE names, or in FANFOLD_BROKER
    #[arg(long, value_name = "URL", help_heading = "Fleet")]
    broker: Option<String>,
    /// The Redis of the fleet (`redis://host:6379/`); better in FANFOLD_REDIS_FILE or FANFOLD_REDIS
    #[arg(long, value_name = "URL", help_heading = "Fleet")]
    redis: Option<String>,
    /// The directory that this machine and the workers share [default: FANFOLD_SHARED, else /]
    #[arg(long, value_name = "DIR", help_heading = "Fleet")]
    shared: Option<PathBuf>,
}

impl FleetArgs {
    /// Whether a fleet is meant at all. With `--shared` alone it is: what is missing is then told, and the job does not run here instead.
    pub fn is_given(&self) -> bool {
        FleetConfig::is_named(environment) || self.broker.is_some() || self.redis.is_some() || self.shared.is_some()
    }

    /// What was given, checked. `role` is what the servers call us.
    ///
    /// # Errors
    /// Something is missing or is no address.
    pub fn config(&self, role: &str) -> Result<FleetConfig, ConfigError> {
        let name = format!("fanfold/{role}/{}/{}", host_name(), std::process::id());
        FleetConfig::read(self.broker.as_deref(), self.redis.as_deref(), name, environment)
    }

    /// The shared directory, absolute.
    ///
    /// # Errors
    /// The current directory is gone.
    pub fn shared(&self) -> Result<SharedRoot> {
        let shared = self.shared.clone().or_else(|| environment("FANFOLD_SHARED").map(PathBuf::from));
        let shared = shared.unwrap_or_else(|| "/".into());
        Ok(SharedRoot::find(&shared).during("find the shared directory", &shared)?)
    }

    /// Starts to connect.
    ///
    /// # Errors
    /// What was given can't be used. A server that is away is none.
    pub fn link(&self, role: &str) -> Result<FleetLink> {
        // Workers and their scripts may run on this host, as the same user.
        secrets::keep();
        let FleetConfig { broker, redis, tls, name } = self.config(role)?;
        let shared = self.shared()?;
        let broker = Broker::start(BrokerConfig { url: broker, tls: tls.clone(), name: name.clone() })?;
        let store = Store::start(StoreConfig { url: redis, tls, name })?;
        Ok(FleetLink { broker, store, shared })
    }

    /// Runs a job with the nodes of the fleet, to its end or until it is stopped; this program is its coordinator.
    ///
    /// # Errors
    /// As [`FleetArgs::link`], a server does not answer, or what keeps the job from running; see [`run_on_fleet`].
    pub fn coordinate(&self, role: &str, job: FleetJob, purpose: Purpose, orders: Orders) -> Result<ExitCode> {
        let link = self.link(role)?;
        reach(&link)?;
        let comeback = Comeback::Fleet { shared: link.shared.root().to_path_buf() };
        let on_state = Arc::new(|_, _: Option<&str>| ());
        let outcome = run_on_fleet(&link, FleetRun { job, purpose, orders, on_state, comeback, quiet: false });
        link.broker.close();
        outcome
    }
}

/// Waits until both servers answer.
fn reach(link: &FleetLink) -> Result<()> {
    // Both at once: a job that is short should start soon.
    thread::scope(|scope| {
        let redis = scope.spawn(|| link.store.ping(LIMIT));
        link.broker.wait(LIMIT)?;
        Ok(redis.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    })
}
