//! `fanfold serve`: the coordinator as a service.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::BrokerError;
use fanfold_shared::backend::redis::StoreError;
use fanfold_shared::report::{During, ExitCode, Report, Result};

use super::fleet::FleetArgs;
use crate::api::{ListenConfig, ListenError, Server};
use crate::datasets::DatasetStore;
use crate::run::Orders;
use crate::service::{Service, ServiceConfig, StateLock, Token, say};
use crate::signals;

/// How long the broker may take when the service starts. It may be away; it may not refuse us.
const BROKER: Duration = Duration::from_secs(10);
/// The same for Redis, which nothing waits for.
const REDIS: Duration = Duration::from_secs(1);
/// How long threads may take to end.
const STOP: Duration = Duration::from_secs(10);

/// Run the coordinator of a fleet as a service: jobs come over HTTP and from the queue `fanfold.jobs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Where the service keeps which jobs there are [default: $XDG_STATE_HOME/fanfold/service]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where job directories are made; under the shared directory [default: fanfold-jobs in it]
    #[arg(long, value_name = "DIR")]
    jobs: Option<PathBuf>,
    /// Where to answer HTTP; other addresses than the loopback need TLS or `--insecure`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// The certificate with its chain (PEM): answer HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key to it (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let other machines in without TLS
    #[arg(long)]
    insecure: bool,
    /// The token that callers have to show; made if it is not there [default: `token` in the state directory]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// If another service has the state directory, wait and take over when it is gone
    #[arg(long)]
    standby: bool,
    /// Jobs that run at once; the others wait
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    max_jobs: u16,
}

/// There is no place for the state.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("there is no place for the state of the service: neither XDG_STATE_HOME nor HOME is an absolute path")]
    NoState,
    #[error("`--jobs {}` is not under the shared directory `{}`", jobs.display(), shared.display())]
    Jobs { jobs: PathBuf, shared: PathBuf },
}

impl Report for ServeError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ServeError::NoState => "give `--state DIR`".into(),
            ServeError::Jobs { .. } => {
                "workers read jobs from their directories: give one that they see, or another `--shared`".into()
            }
        })
    }
}

/// Serves until a signal comes.
///
/// # Errors
/// Something that was given can't be used, another service runs, or the broker refuses us.
pub fn run(args: Args) -> Result<ExitCode> {
    let orders = signals::orders().during("take signals in", "this process")?;
    let listen = ListenConfig { address: args.listen, tls: args.tls_cert.zip(args.tls_key), insecure: args.insecure };
    if !listen.address.ip().is_loopback() && listen.tls.is_none() && !listen.insecure {
        return Err(ListenError::Insecure(listen.address).into());
    }
    let shared = args.fleet.shared()?;
    let jobs = match &args.jobs {
        Some(jobs) => std::path::absolute(jobs).during("find", jobs)?,
        // Nobody keeps jobs at the root of everything.
        None if shared.root() == Path::new("/") => {
            std::path::absolute("fanfold-jobs").during("find", "fanfold-jobs")?
        }
        None => shared.root().join("fanfold-jobs"),
    };
    if shared.relative(&jobs).is_err() {
        return Err(ServeError::Jobs { jobs, shared: shared.root().to_path_buf() }.into());
    }
    let state = match &args.state {
        Some(state) => std::path::absolute(state).during("find", state)?,
        None => default_state().ok_or(ServeError::NoState)?,
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&state).during("create", &state)?;
    let Some(_lock) = lock(&state, args.standby, &orders)? else { return Ok(ExitCode::Completed) };
    let token_file = args.token_file.unwrap_or_else(|| state.join("token"));
    let token = Token::read_or_make(&token_file)?;
    let link = args.fleet.link("coordinator")?;
    match link.broker.wait(BROKER) {
        Ok(()) => {}
        // It comes when it comes; jobs wait meanwhile, and say so.
        Err(error @ BrokerError::Unreachable { .. }) => {
            say(&format!("{error}; the service goes on without it and connects by itself"))
        }
        Err(error) => return Err(error.into()),
    }
    match link.store.ping(REDIS) {
        Ok(()) => {}
        Err(error @ StoreError::Unreachable { .. }) => say(&format!("{error}; jobs run without it")),
        Err(error) => return Err(error.into()),
    }
    let config = ServiceConfig {
        store: state.join("jobs.sqlite"),
        jobs: jobs.clone(),
        datasets: DatasetStore::at(state.join("datasets")),
        max_jobs: args.max_jobs.into(),
    };
    let service = Service::open(config, link.clone())?;
    let server = Server::start(service.clone(), token, &listen)?;
    let threads = service.start()?;
    let scheme = if listen.tls.is_some() { "https" } else { "http" };
    say(&format!(
        "fanfold {} serves at {scheme}://{}, jobs in {}, token in {}",
        env!("CARGO_PKG_VERSION"),
        server.address(),
        jobs.display(),
        token_file.display()
    ));
    while orders.count() == 0 {
        thread::sleep(Duration::from_millis(50));
    }
    say("stops: nodes go on with their jobs, and the next start goes on with both");
    service.stop();
    server.stop();
    threads.join(STOP);
    Ok(ExitCode::Completed)
}

fn lock(state: &Path, standby: bool, orders: &Orders) -> Result<Option<StateLock>> {
    match StateLock::acquire(state) {
        Err(failure) if standby && failure.exit_code() == ExitCode::Unreachable => {
            say(&format!("stands by: {failure}"));
            let lock = StateLock::stand_by(state, &|| orders.count() > 0)?;
            if lock.is_some() {
                say("takes over");
            }
            Ok(lock)
        }
        outcome => outcome.map(Some),
    }
}

fn default_state() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("fanfold/service"))
}
