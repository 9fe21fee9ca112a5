//! Where broker, Redis and the shared directory are: options of every command that talks to a fleet.

use std::path::PathBuf;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker, BrokerConfig, HEARTBEAT};
use fanfold_shared::backend::redis::{Store, StoreConfig};
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::fleet::config::{FleetConfig, ServerUrl, TlsFiles, UrlError};
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_worker::node::host_name;

use crate::run::FleetLink;

/// How long servers may take to answer when a command begins.
const LIMIT: Duration = Duration::from_secs(10);

/// Names a file with the broker's address, as secrets are handed to containers.
const BROKER: &str = "FANFOLD_BROKER_FILE";
/// The same for Redis.
const REDIS: &str = "FANFOLD_REDIS_FILE";

fn in_file(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Options for a fleet.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FleetArgs {
    /// The message broker of a fleet, e.g. `amqp://user:password@host:5672/`: the job runs on the workers there
    #[arg(long, value_name = "URL", env = "FANFOLD_BROKER", hide_env_values = true, help_heading = "Fleet")]
    broker: Option<String>,
    /// The Redis of the fleet, e.g. `redis://host:6379/`
    #[arg(long, value_name = "URL", env = "FANFOLD_REDIS", hide_env_values = true, help_heading = "Fleet")]
    redis: Option<String>,
    /// The directory that this machine and the workers share [default: /]
    #[arg(long, value_name = "DIR", env = "FANFOLD_SHARED", help_heading = "Fleet")]
    shared: Option<PathBuf>,
    /// Certificates of authorities to trust (PEM), for `amqps` and `rediss`
    #[arg(long, value_name = "FILE", env = "FANFOLD_CA", help_heading = "Fleet")]
    ca: Option<PathBuf>,
    /// Our own certificate (PEM), where a server asks for one
    #[arg(long, value_name = "FILE", env = "FANFOLD_CERT", requires = "key", help_heading = "Fleet")]
    cert: Option<PathBuf>,
    /// The key to it (PEM)
    #[arg(long, value_name = "FILE", env = "FANFOLD_KEY", requires = "cert", help_heading = "Fleet")]
    key: Option<PathBuf>,
}

/// Why there can be no fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetArgsError {
    /// One of two servers is not named.
    #[error("a fleet needs a broker and Redis, and {0} is not given")]
    Missing(&'static str),
    /// An address is none.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl Report for FleetArgsError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            FleetArgsError::Missing(what) => {
                let (option, variable) =
                    if *what == "Redis" { ("--redis", "FANFOLD_REDIS") } else { ("--broker", "FANFOLD_BROKER") };
                format!("give `{option}` or {variable}; without both the job runs on this machine")
            }
            FleetArgsError::Url(_) => "for example `amqp://user:password@host:5672/` and `redis://host:6379/`".into(),
        })
    }
}

impl FleetArgs {
    /// Whether a fleet is meant at all.
    pub fn is_given(&self) -> bool {
        let named = |url: &Option<String>| url.as_ref().is_some_and(|url| !url.is_empty());
        named(&self.broker) || named(&self.redis) || in_file(BROKER).is_some() || in_file(REDIS).is_some()
    }

    /// The authorities to trust.
    pub fn ca(&self) -> Option<PathBuf> {
        self.ca.clone()
    }

    /// What was given, checked. `role` is what the servers call us.
    ///
    /// # Errors
    /// Something is missing or is no address.
    pub fn config(&self, role: &str) -> Result<FleetConfig> {
        let given = |url: &Option<String>, file: &str, what| -> Result<String> {
            match (url.as_deref(), in_file(file)) {
                (Some(url), _) if !url.is_empty() => Ok(url.to_string()),
                (_, Some(path)) => Ok(std::fs::read_to_string(&path).during("read", path)?),
                _ => Err(FleetArgsError::Missing(what).into()),
            }
        };
        let (broker, redis) = (given(&self.broker, BROKER, "the broker")?, given(&self.redis, REDIS, "Redis")?);
        Ok(FleetConfig {
            broker: ServerUrl::parse("the broker", &broker, &["amqp", "amqps"]).map_err(FleetArgsError::from)?,
            redis: ServerUrl::parse("Redis", &redis, &["redis", "rediss"]).map_err(FleetArgsError::from)?,
            tls: TlsFiles { ca: self.ca.clone(), identity: self.cert.clone().zip(self.key.clone()) },
            name: format!("fanfold/{role}/{}/{}", host_name(), std::process::id()),
        })
    }

    /// The shared directory, absolute.
    ///
    /// # Errors
    /// The current directory is gone.
    pub fn shared(&self) -> Result<SharedRoot> {
        let shared = self.shared.clone().unwrap_or_else(|| "/".into());
        Ok(SharedRoot::new(std::path::absolute(&shared).during("find", &shared)?))
    }

    /// Starts to connect.
    ///
    /// # Errors
    /// What was given can't be used. A server that is away is none: see [`reach`].
    pub fn link(&self, role: &str) -> Result<FleetLink> {
        let FleetConfig { broker, redis, tls, name } = self.config(role)?;
        let shared = self.shared()?;
        let broker =
            Broker::start(BrokerConfig { url: broker, tls: tls.clone(), name: name.clone(), heartbeat: HEARTBEAT })?;
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
