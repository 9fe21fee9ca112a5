//! A TCP relay between a client and a server that breaks connections as networks do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http::reset;

/// A relay to one server.
pub struct Relay {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Nothing from the client is forwarded.
    hold_up: AtomicBool,
    /// Nothing from the server is forwarded.
    hold_down: AtomicBool,
    /// New connections are reset.
    refuse: AtomicBool,
    delay_ms: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

impl State {
    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// Relays to a port of this machine.
    pub fn to(port: u16) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface has free ports");
        let own = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                if shared.refuse.load(Ordering::SeqCst) {
                    reset(&client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) else {
                    reset(&client);
                    continue;
                };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor is left");
                shared.streams().extend([clone(&client), clone(&server)]);
                let (up, down) = (shared.clone(), shared.clone());
                let (from_client, to_server) = (clone(&client), clone(&server));
                thread::spawn(move || pump(from_client, to_server, &up, |state| &state.hold_up));
                thread::spawn(move || pump(server, client, &down, |state| &state.hold_down));
            }
        });
        Relay { port: own, state }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards nothing any more; connections stay open, new ones as well.
    pub fn black_hole(&self) {
        self.state.hold_up.store(true, Ordering::SeqCst);
        self.state.hold_down.store(true, Ordering::SeqCst);
    }

    /// Forwards nothing from the server any more.
    pub fn mute_server(&self) {
        self.state.hold_down.store(true, Ordering::SeqCst);
    }

    /// Delays each piece.
    pub fn delay(&self, by: Duration) {
        self.state.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Forwards again.
    pub fn pass(&self) {
        self.state.hold_up.store(false, Ordering::SeqCst);
        self.state.hold_down.store(false, Ordering::SeqCst);
        self.state.refuse.store(false, Ordering::SeqCst);
        self.state.delay_ms.store(0, Ordering::SeqCst);
    }

    /// Resets every connection.
    pub fn cut(&self) {
        for stream in self.state.streams().drain(..) {
            reset(&stream);
        }
    }

    /// Resets every connection, and those to come.
    pub fn refuse(&self) {
        self.state.refuse.store(true, Ordering::SeqCst);
        self.cut();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.hold_up.store(false, Ordering::SeqCst);
        self.state.hold_down.store(false, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &State, hold: fn(&State) -> &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let delay = state.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            thread::sleep(Duration::from_millis(delay));
        }
        while hold(state).load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
