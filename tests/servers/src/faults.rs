//! A relay that understands HTTP and breaks requests by rule, as servers and networks do.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;

use crate::Identity;
use crate::http::{Body, Connection, Head, Listening, listen, reset};

/// A relay to one server, on a port of its own. Requests meet the first [`Rule`] that fits, else they pass.
pub struct Faults {
    listening: Listening,
    state: Arc<State>,
    scheme: &'static str,
}

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// The relay answers by itself, perhaps with `Retry-After` (seconds).
    Status(u16, Option<u64>),
    /// The head of the answer arrives, so many bytes of the body, then the connection is reset.
    CutBody(u64),
    /// So many bytes of the request's body are passed on, then both connections are reset.
    CutRequest(u64),
    /// The request's body is passed on in pieces of so many bytes, with a pause before each.
    DripRequest(usize, Duration),
    /// The server gets the request, nobody gets the answer: the connection is reset.
    LoseAnswer,
    /// The connection is reset before the server knows of it.
    Reset,
    /// Nothing is passed on and nothing answered until the rules are cleared, or the client leaves.
    Stall,
    /// The head of the answer arrives, and so many bytes of the body, then nothing any more.
    StallBody(u64),
    /// The answer says that its body is so many bytes longer than it is (shorter, if negative), and then ends.
    WrongLength(i64),
    /// The body arrives in pieces of so many bytes, with a pause before each.
    Drip(usize, Duration),
    /// This is done first; then the request passes. What changes between the listing and the reading is made so.
    First(Arc<dyn Fn() + Send + Sync>),
    /// Nothing is wrong with it: a rule before others that lets some pass.
    Pass,
}

/// Which requests a fault is for.
#[derive(Clone)]
pub struct Rule {
    method: Option<&'static str>,
    contains: Vec<String>,
    skip: usize,
    times: usize,
    fault: Fault,
}

impl Rule {
    /// For every request.
    pub fn new(fault: Fault) -> Rule {
        Rule { method: None, contains: Vec::new(), skip: 0, times: usize::MAX, fault }
    }

    /// For requests with this method.
    pub fn method(self, method: &'static str) -> Rule {
        Rule { method: Some(method), ..self }
    }

    /// For requests whose path and query, as sent, contain this; all, where it is said several times.
    pub fn on(mut self, text: &str) -> Rule {
        self.contains.push(text.into());
        self
    }

    /// The first so many that fit pass.
    pub fn after(self, skip: usize) -> Rule {
        Rule { skip, ..self }
    }

    /// So often.
    pub fn times(self, times: usize) -> Rule {
        Rule { times, ..self }
    }

    fn takes(&mut self, head: &Head) -> bool {
        let fits = self.method.is_none_or(|method| head.method() == method)
            && self.contains.iter().all(|text| head.target().contains(text));
        if !fits || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// A request that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path and query, as sent.
    pub target: String,
    /// Its range, if it asked for one.
    pub range: Option<String>,
    /// Its `If-Match`, or its `If-None-Match`.
    pub condition: Option<String>,
    /// The status of the answer; None while there is none.
    pub status: Option<u16>,
}

#[derive(Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    /// How often the rules were cleared: who stalls waits for the next time.
    cleared: Mutex<u64>,
    changed: Condvar,
}

impl State {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cleared(&self) -> MutexGuard<'_, u64> {
        self.cleared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_cleared(&self) {
        let before = self.cleared();
        let was = *before;
        drop(self.changed.wait_while(before, |cleared| *cleared == was).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Faults {
    /// Before a server on this port of this machine, plain on both sides.
    pub fn before(port: u16) -> Faults {
        Faults::start(port, None, None)
    }

    /// Before a server with TLS, with a certificate of its own.
    pub fn before_tls(port: u16, identity: &Identity) -> Faults {
        Faults::start(port, Some(identity), Some(Arc::new(crate::tls::client())))
    }

    fn start(port: u16, identity: Option<&Identity>, client: Option<Arc<ClientConfig>>) -> Faults {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let scheme = if identity.is_some() { "https" } else { "http" };
        let listening = listen(identity, move |connection| {
            // However it ends: so does the connection.
            let _ = relay(connection, port, client.clone(), &shared);
        });
        Faults { listening, state, scheme }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.listening.port()
    }

    /// `http://127.0.0.1:port`, or with https.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port())
    }

    /// Adds a rule behind those there are.
    pub fn rule(&self, rule: Rule) {
        self.state.rules().push(rule);
    }

    /// Forgets all rules; what stalls is dropped.
    pub fn clear(&self) {
        self.state.rules().clear();
        *self.state.cleared() += 1;
        self.state.changed.notify_all();
    }

    /// The requests so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen().clone()
    }

    /// How many requests so far have this method and contain this text.
    pub fn count(&self, method: &str, text: &str) -> usize {
        self.state.seen().iter().filter(|seen| seen.method == method && seen.target.contains(text)).count()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Relays request after request, until either side ends.
fn relay(mut client: Connection, port: u16, tls: Option<Arc<ClientConfig>>, state: &State) -> io::Result<()> {
    let mut server: Option<Connection> = None;
    while let Some(head) = client.read_head()? {
        let number = {
            let (method, target) = (head.method().to_string(), head.target().to_string());
            let range = head.get("range").or_else(|| head.get("x-ms-range")).map(str::to_string);
            let condition = head.get("if-match").or_else(|| head.get("if-none-match")).map(str::to_string);
            let mut seen = state.seen();
            seen.push(Seen { method, target, range, condition, status: None });
            seen.len() - 1
        };
        let fault = state.rules().iter_mut().find_map(|rule| rule.takes(&head).then(|| rule.fault.clone()));
        let fault = fault.unwrap_or(Fault::Pass);
        let answered = |status| state.seen()[number].status = Some(status);
        let request_body = Body::of_request(&head);
        match &fault {
            Fault::Status(status, retry_after) => {
                client.read_body(request_body, |_| Ok(()))?;
                let text = format!("the relay says {status}\n");
                let mut answer = Head::response(*status, &[("content-length", text.len().to_string())]);
                if let Some(seconds) = retry_after {
                    answer.set("retry-after", seconds);
                }
                answered(*status);
                client.write(&answer.bytes())?;
                if head.method() != "HEAD" {
                    client.write(text.as_bytes())?;
                }
                continue;
            }
            Fault::Reset => {
                reset(&client.tcp()?);
                return Ok(());
            }
            Fault::Stall => {
                state.wait_until_cleared();
                reset(&client.tcp()?);
                return Ok(());
            }
            Fault::First(action) => action(),
            _ => (),
        }
        let upstream = match &mut server {
            Some(upstream) => upstream,
            none => none.insert(Connection::open(port, tls.clone())?),
        };
        upstream.write(&head.bytes())?;
        let mut left = if let Fault::CutRequest(bytes) = fault { bytes } else { u64::MAX };
        let sent = client.read_body(request_body, |piece| {
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= length as u64;
            match fault {
                Fault::DripRequest(bytes, pause) => {
                    for piece in piece.chunks(bytes) {
                        thread::sleep(pause);
                        upstream.write(piece)?;
                    }
                }
                _ => upstream.write(&piece[..length])?,
            }
            if length < piece.len() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
        });
        if sent.is_err() || matches!(fault, Fault::CutRequest(_)) {
            reset(&upstream.tcp()?);
            reset(&client.tcp()?);
            return Ok(());
        }
        let Some(mut answer) = upstream.read_head()? else { return Ok(()) };
        let body = Body::of_response(&answer, head.method());
        if matches!(fault, Fault::LoseAnswer) {
            upstream.read_body(body, |_| Ok(()))?;
            reset(&client.tcp()?);
            return Ok(());
        }
        if let (Fault::WrongLength(by), Body::Length(length)) = (&fault, body) {
            answer.set("content-length", length.saturating_add_signed(*by));
        }
        let status = answer.status();
        client.write(&answer.bytes())?;
        let mut left = match fault {
            Fault::CutBody(bytes) | Fault::StallBody(bytes) => bytes,
            _ => u64::MAX,
        };
        let passed = upstream.read_body(body, |piece| {
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= length as u64;
            match fault {
                Fault::Drip(bytes, pause) => {
                    for piece in piece.chunks(bytes) {
                        thread::sleep(pause);
                        client.write(piece)?;
                    }
                }
                _ => client.write(&piece[..length])?,
            }
            if length < piece.len() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
        });
        answered(status);
        match fault {
            Fault::CutBody(_) => {
                reset(&client.tcp()?);
                return Ok(());
            }
            Fault::StallBody(_) => {
                state.wait_until_cleared();
                reset(&client.tcp()?);
                return Ok(());
            }
            Fault::WrongLength(_) => return Ok(()),
            _ => passed?,
        }
        if body == Body::ToTheEnd || answer.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
    Ok(())
}
