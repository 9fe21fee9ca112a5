//! Where broker, Redis and the shared directory are: options of every command that talks to a fleet.

use std::path::PathBuf;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker, BrokerConfig};
use fanfold_shared::backend::redis::{Store, StoreConfig};
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::fleet::config::{ConfigError, FleetConfig, environment};
use fanfold_shared::report::{During, Result};
use fanfold_worker::node::host_name;

use crate::run::FleetLink;

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
    /// Whether a fleet is meant at all.
    pub fn is_given(&self) -> bool {
        FleetConfig::is_named(environment) || self.broker.is_some() || self.redis.is_some()
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
    /// What was given can't be used. A server that is away is none: see [`reach`].
    pub fn link(&self, role: &str) -> Result<FleetLink> {
        let FleetConfig { broker, redis, tls, name } = self.config(role)?;
        let shared = self.shared()?;
        let broker = Broker::start(BrokerConfig { url: broker, tls: tls.clone(), name: name.clone() })?;
        let store = Store::start(StoreConfig { url: redis, tls, name })?;
        Ok(FleetLink { broker, store, shared })
    }
}

/// Waits until both servers answer.
///
/// # Errors
/// One does not.
pub fn reach(link: &FleetLink) -> Result<()> {
    link.broker.wait(LIMIT)?;
    Ok(link.store.ping(LIMIT)?)
}
