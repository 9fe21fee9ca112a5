//! Ctrl-C, SIGTERM and SIGHUP: the first asks the job to pause, the second kills what runs.
//!
//! A signal that was ignored when the program started stays ignored: that is what `nohup fanfold run …` asks for, and a
//! script's `fanfold run … &`, which the terminal's Ctrl-C is not meant for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

use crate::report::Interruption;

/// What was asked of the program so far. Clones see the same.
#[derive(Clone, Default)]
pub struct Signals {
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    any: AtomicBool,
    count: AtomicU32,
    first: AtomicI32,
}

impl Signals {
    /// Takes the signals from now on. Its thread lives as long as the program: it owns nothing, so nobody waits for it.
    ///
    /// # Errors
    /// The system refuses handlers or a thread.
    pub fn install() -> io::Result<Signals> {
        let signals = Signals::default();
        let seen = signals.seen.clone();
        let mut incoming = Incoming::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)))?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in incoming.forever() {
                // The first is stored before it is counted: whoever sees the count sees the signal.
                let _ = seen.first.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                seen.count.fetch_add(1, Ordering::SeqCst);
                seen.any.store(true, Ordering::SeqCst);
            }
        })?;
        Ok(signals)
    }

    /// Whether any came, for those who only need to know that.
    pub fn flag(&self) -> &AtomicBool {
        &self.seen.any
    }

    /// How many came.
    pub fn count(&self) -> u32 {
        self.seen.count.load(Ordering::SeqCst)
    }

    /// What stopped the work: the first that came; Ctrl-C if none did.
    pub fn interruption(&self) -> Interruption {
        match self.seen.first.load(Ordering::SeqCst) {
            0 | SIGINT => Interruption::Interrupt,
            _ => Interruption::Terminate,
        }
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: zero is a valid sigaction, which the call fills in; without a new action nothing is changed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}
