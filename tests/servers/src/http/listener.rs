//! A server's port, and a thread for each connection to it.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Connection;
use crate::Identity;

/// Listens until it is dropped; then every connection is ended.
pub(crate) struct Listening {
    port: u16,
    ended: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

/// Serves each connection to a free port of this machine in a thread of its own.
pub(crate) fn listen(tls: Option<&Identity>, serve: impl Fn(Connection) + Send + Sync + 'static) -> Listening {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface has free ports");
    let port = listener.local_addr().expect("it is bound").port();
    let tls = tls.map(|identity| Arc::new(crate::tls::server(identity)));
    let ended = Arc::new(AtomicBool::new(false));
    let streams = Arc::new(Mutex::new(Vec::new()));
    let (is_ended, all, serve) = (ended.clone(), streams.clone(), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            if is_ended.load(Ordering::SeqCst) {
                return;
            }
            if let Ok(clone) = stream.try_clone() {
                all.lock().unwrap_or_else(PoisonError::into_inner).push(clone);
            }
            let (tls, serve) = (tls.clone(), serve.clone());
            thread::spawn(move || {
                if let Ok(connection) = Connection::accepted(stream, tls) {
                    serve(connection);
                }
            });
        }
    });
    Listening { port, ended, streams }
}

impl Listening {
    /// Where.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
