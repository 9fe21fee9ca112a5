//! `GET /metrics` for Prometheus and `/healthz`: one thread, one request after the other.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::Condition;
use fanfold_shared::fleet::WorkerState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::presence::Presence;

/// For a request to come, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(2);
/// A request is never longer.
const MOST: usize = 4096;
/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(200);

type Labels = Vec<(String, String)>;

/// The responder; dropped, it ends.
pub struct Metrics {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Metrics {
    /// Answers at `address`.
    ///
    /// # Errors
    /// The address is taken, or no thread can be started.
    pub fn serve(address: SocketAddr, presence: Arc<Presence>) -> io::Result<Metrics> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let serve = move || {
            while !end.load(Ordering::SeqCst) {
                match listener.accept() {
                    // Whoever went away in between asks again.
                    Ok((stream, _)) => drop(answer(stream, &presence)),
                    Err(_) => thread::sleep(LOOK),
                }
            }
        };
        let thread = thread::Builder::new().name("metrics".into()).spawn(serve)?;
        Ok(Metrics { over, thread: Some(thread) })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // A panic was printed where it happened.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn answer(mut stream: TcpStream, presence: &Presence) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    // Whoever drips byte by byte keeps nobody else, nor the worker's end, for longer.
    let began = Instant::now();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < MOST {
        if began.elapsed() >= PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(&mut buffer)? {
            0 => break,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, kind, body) = match line {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", TEXT, text(presence)),
        b"GET /healthz HTTP/1.1" | b"GET /healthz HTTP/1.0" if presence.is_well() => {
            ("200 OK", "text/plain", "well\n".to_string())
        }
        b"GET /healthz HTTP/1.1" | b"GET /healthz HTTP/1.0" => {
            ("503 Service Unavailable", "text/plain", "the broker does not answer\n".to_string())
        }
        _ => ("404 Not Found", "text/plain", "GET /metrics or /healthz\n".to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Made anew for each request: nothing has to be kept up to date meanwhile.
fn text(presence: &Presence) -> String {
    let status = presence.status();
    let mut registry = Registry::default();
    let mut labelled = |name: &str, help: &str, values: Vec<(Labels, i64)>| {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        registry.register(name, help, family);
    };
    let about = [("version", &status.version), ("worker", &status.worker.0), ("pool", &status.pool)];
    let about: Labels = about.map(|(name, value)| (name.to_string(), value.clone())).to_vec();
    labelled("fanfold_worker_info", "What this worker is", vec![(about, 1)]);
    let now = match status.state {
        WorkerState::Idle => "idle",
        WorkerState::Working { .. } => "working",
        WorkerState::Draining => "draining",
    };
    let states = ["idle", "working", "draining"];
    let states = states.map(|state| (vec![("state".to_string(), state.to_string())], i64::from(state == now)));
    labelled("fanfold_worker_state", "1 for the state that it is in", states.to_vec());
    let condition = presence.broker.condition();
    let gauges = [
        ("processes", "Python processes that it runs, or would", i64::from(status.processes)),
        ("broker_connected", "RabbitMQ answers", i64::from(!matches!(condition, Condition::Away { .. }))),
        ("broker_blocked", "RabbitMQ takes no results", i64::from(matches!(condition, Condition::Blocked { .. }))),
        ("redis_connected", "Redis answers", i64::from(presence.store.away().is_none())),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(format!("fanfold_worker_{name}"), help, gauge);
    }
    let counters = &presence.counters;
    let ended = Family::<Labels, Counter>::default();
    for (outcome, count) in [("succeeded", &counters.succeeded), ("failed", &counters.failed)] {
        let labels = vec![("outcome".to_string(), outcome.to_string())];
        ended.get_or_create(&labels).inc_by(count.load(Ordering::Relaxed));
    }
    registry.register("fanfold_worker_mini_batches", "Attempts of mini-batches that ended here", ended);
    let starts = Counter::<u64>::default();
    starts.inc_by(counters.process_starts.load(Ordering::Relaxed));
    registry.register("fanfold_worker_process_starts", "Python processes started", starts);
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = encode(&mut text, &registry);
    text
}
