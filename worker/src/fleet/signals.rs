//! SIGTERM, Ctrl-C and SIGHUP: the first asks the worker to finish what runs and leave, the second to kill it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread;

use fanfold_shared::report::ExitCode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

/// What was asked so far. Clones see the same.
#[derive(Clone, Default)]
pub struct Signals {
    count: Arc<AtomicU32>,
    last: Arc<AtomicI32>,
    any: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals from now on. Its thread lives as long as the program: it owns nothing, so nobody waits for it. `any` is set
    /// by the first.
    ///
    /// # Errors
    /// The system refuses handlers or a thread.
    pub fn install(any: Arc<AtomicBool>) -> io::Result<Signals> {
        let signals = Signals { any, ..Signals::default() };
        let seen = signals.clone();
        let mut incoming = Incoming::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in incoming.forever() {
                seen.last.store(signal, Ordering::SeqCst);
                seen.count.fetch_add(1, Ordering::SeqCst);
                seen.any.store(true, Ordering::SeqCst);
            }
        })?;
        Ok(signals)
    }

    /// As the first signal, if none has come: the order to drain is heard as often as it is said.
    pub fn drain(&self) {
        if self.count.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.any.store(true, Ordering::SeqCst);
        }
    }

    /// How many came.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// How a program ends that was killed by them.
    pub fn exit_code(&self) -> ExitCode {
        match self.last.load(Ordering::SeqCst) {
            SIGINT => ExitCode::Interrupted,
            _ => ExitCode::Terminated,
        }
    }
}
