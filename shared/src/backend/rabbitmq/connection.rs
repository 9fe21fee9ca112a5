//! One connection: opens it, watches it, and opens it again, with back-off, until the program closes. Whoever needs it waits for a
//! [`Link`] and learns from its epoch that it is another one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{BrokerConfig, BrokerError, Condition, Shared};
use super::{topology, version};

/// Waits for the broker's answers: the network between us may be slow, but an answer that takes longer won't come.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// To connect, TLS and login included.
const CONNECT: Duration = Duration::from_secs(15);
/// A farewell is on its way within a moment. Its answer changes nothing: the broker takes some 30 ms to give it where a queue was deleted
/// under a consumer, and with an alarm it reads nothing from a publisher.
const FAREWELL: Duration = Duration::from_millis(3);
/// Seconds between signs of life; a broker that is silent for twice as long is gone.
const HEARTBEAT: u16 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Consume,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Publish => "publish",
            Role::Consume => "consume",
        }
    }
}

/// A connection that lives, or lived a moment ago.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: Arc<Connection>,
    /// Counted up by each connection of this role.
    pub(super) epoch: u64,
    /// The broker takes nothing from publishers.
    pub(super) blocked: watch::Receiver<bool>,
}

/// Who waits for a connection watches this.
pub(super) type Links = watch::Receiver<Option<Link>>;

/// Waits for a connection. None: there will be none any more.
pub(super) async fn linked(links: &mut Links) -> Option<Link> {
    match links.wait_for(Option::is_some).await {
        Ok(link) => link.clone(),
        Err(_) => None,
    }
}

/// Waits until the flag is up, or nobody can raise it any more.
pub(super) async fn is_true(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|up| *up).await;
}

/// Keeps a connection until the program closes.
pub(super) async fn keep(shared: Arc<Shared>, role: Role, links: watch::Sender<Option<Link>>) {
    let (mut epoch, mut pause) = (0, FIRST_PAUSE);
    let mut closing = shared.closing.subscribe();
    loop {
        let ended = async {
            let connection = match role {
                Role::Publish => open(&shared, role).await?,
                Role::Consume => {
                    // The server may be another one than before.
                    let ask = || version::ask(shared.uri.clone(), shared.tls.clone());
                    let (connection, mut version) = tokio::join!(open(&shared, role), ask());
                    let connection = connection?;
                    if version.is_none() {
                        // It was just coming up.
                        version = ask().await;
                    }
                    shared.health().version = version.unwrap_or_default();
                    connection
                }
            };
            epoch += 1;
            Ok::<_, BrokerError>(serve(&shared, role, connection, epoch, &links, &mut pause).await)
        };
        let (why, refused) = tokio::select! {
            ended = ended => match ended {
                Ok(why) => (why, None),
                Err(error) => (error.reason(), matches!(error, BrokerError::Refused { .. }).then_some(error)),
            },
            () = is_true(&mut closing) => {
                let last = links.borrow().clone();
                links.send_replace(None);
                if let Some(link) = last {
                    farewell(&link.connection).await;
                }
                return;
            }
        };
        links.send_replace(None);
        shared.lost(role, why, refused);
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            () = is_true(&mut closing) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// So that the programs of a fleet do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().as_u128() as u64 % 1000;
    pause.mul_f64(0.5 + random as f64 / 2000.0)
}

/// Uses the connection until it ends; says why it did.
async fn serve(
    shared: &Arc<Shared>,
    role: Role,
    connection: Connection,
    epoch: u64,
    links: &watch::Sender<Option<Link>>,
    pause: &mut Duration,
) -> String {
    let (block, blocked) = watch::channel(false);
    let link = Link { connection: Arc::new(connection), epoch, blocked };
    let mut events = Box::pin(link.connection.events_listener());
    if role == Role::Consume {
        // Queues first: whoever consumes or publishes finds them.
        match timeout(ANSWER, topology::declare_all(shared, &link.connection)).await {
            Ok(Ok(())) => {}
            // A refusal of one queue must not keep the others from being used; who asked for it was told.
            Ok(Err(error)) if link.connection.status().connected() => shared.note(error.to_string()),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the broker does not answer".into(),
        }
    }
    shared.connected(role);
    *pause = FIRST_PAUSE;
    links.send_replace(Some(link.clone()));
    // The library says when a connection ends; asking it as well costs nothing.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = ticks.tick() => Some(Event::Connected),
        };
        match event {
            Some(Event::ConnectionBlocked(why)) => {
                block.send_replace(true);
                shared.blocked(role, Some(why));
            }
            Some(Event::ConnectionUnblocked) => {
                block.send_replace(false);
                shared.blocked(role, None);
            }
            Some(Event::Error(error)) if !link.connection.status().connected() => return error.to_string(),
            None => return "the connection ended".into(),
            _ => {}
        }
        if !link.connection.status().connected() {
            return "the connection ended".into();
        }
    }
}

/// Closes in order, if the broker still listens.
async fn farewell(connection: &Connection) {
    if connection.status().connected() {
        let _ = timeout(FAREWELL, connection.close(200, "OK".into())).await;
    }
}

/// Opens a connection and logs in.
async fn open(shared: &Shared, role: Role) -> Result<Connection, BrokerError> {
    let config = &shared.config;
    let unreachable =
        |why: String| BrokerError::Unreachable { doing: "connect to the broker", url: config.url.to_string(), why };
    let uri = shared.uri.clone();
    let name = format!("{} {}", config.name, role.name());
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "fanfold".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let tls = shared.tls.clone();
    let runtime = lapin::runtime::default_runtime().map_err(|error| unreachable(error.to_string()))?;
    let connect = Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
            let stream = async {
                let stream = plain.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                match &tls {
                    Some(tls) => stream.into_rustls(tls, &uri.authority.host).await,
                    None => Ok(stream),
                }
            };
            // The library's thread waits for this: without a limit it would stay for the system's two minutes.
            match timeout(CONNECT, stream).await {
                Ok(stream) => Ok(stream?),
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            }
        },
        properties,
    );
    match timeout(CONNECT, connect).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(shared.explain("connect to the broker", &error)),
        Err(_) => Err(unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
    }
}

/// The address with what only the connection wants to know.
pub(super) fn uri(config: &BrokerConfig) -> Result<AMQPUri, BrokerError> {
    let mut uri: AMQPUri = config.url.expose().parse().map_err(|why: String| BrokerError::Unreachable {
        doing: "connect to the broker",
        url: config.url.to_string(),
        why,
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

/// What became of the two connections, as [`Condition`] tells it.
#[derive(Debug)]
pub(super) struct Health {
    since: Instant,
    why: String,
    connected: [bool; 2],
    blocked: Option<(Instant, String)>,
    /// The broker's last refusal: trying again is no use to who waits.
    pub(super) refused: Option<(String, String)>,
    /// Of the server.
    pub(super) version: String,
}

impl Health {
    pub(super) fn new() -> Health {
        Health {
            since: Instant::now(),
            why: "not connected yet".into(),
            connected: [false; 2],
            blocked: None,
            refused: None,
            version: String::new(),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        match (&self.blocked, self.connected) {
            (_, connected) if connected != [true; 2] => Condition::Away { since: self.since, why: self.why.clone() },
            (Some((since, why)), _) => Condition::Blocked { since: *since, why: why.clone() },
            _ => Condition::Connected { version: self.version.clone() },
        }
    }

    pub(super) fn connected(&mut self, role: Role) {
        self.connected[role as usize] = true;
        self.refused = None;
    }

    pub(super) fn lost(&mut self, role: Role, why: String, refused: Option<(String, String)>) {
        if self.connected == [true; 2] {
            self.since = Instant::now();
        }
        self.connected[role as usize] = false;
        self.why = why;
        self.refused = refused;
        if role == Role::Publish {
            self.blocked = None;
        }
    }

    pub(super) fn note(&mut self, why: String) {
        self.why = why;
    }

    pub(super) fn blocked(&mut self, why: Option<String>) {
        self.blocked = why.map(|why| (Instant::now(), why));
    }
}

impl Shared {
    /// An error of the library as ours.
    pub(super) fn explain(&self, doing: &'static str, error: &lapin::Error) -> BrokerError {
        let url = self.config.url.to_string();
        match error.kind() {
            ErrorKind::ProtocolError(protocol) => {
                let why = protocol.get_message().to_string();
                match protocol.get_id() {
                    403 if why.contains("ogin") => BrokerError::Refused {
                        url,
                        why: format!(
                            "user `{}` or its password is wrong ({why})",
                            self.uri.authority.userinfo.username
                        ),
                    },
                    320 | 541 => BrokerError::Unreachable { doing, url, why },
                    _ => BrokerError::Refused { url, why },
                }
            }
            _ => BrokerError::Unreachable { doing, url, why: self.config.tls.explain(error.to_string()) },
        }
    }
}
