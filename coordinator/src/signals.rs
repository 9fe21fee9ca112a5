//! Ctrl-C, SIGTERM and SIGHUP as orders to a job: the first asks it to pause, the second kills what runs.
//!
//! A signal that was ignored when the program started stays ignored: that is what `nohup fanfold run …` asks for, and a
//! script's `fanfold run … &`, which the terminal's Ctrl-C is not meant for.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Incoming;

use crate::run::Orders;

/// Takes the signals from now on. Its thread lives as long as the program: it owns nothing, so nobody waits for it.
///
/// # Errors
/// The system refuses handlers or a thread.
pub fn orders() -> io::Result<Orders> {
    let orders = Orders::new();
    let told = orders.clone();
    let mut incoming = Incoming::new([SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)))?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in incoming.forever() {
            told.signal(signal);
        }
    })?;
    Ok(orders)
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: zero is a valid sigaction, which the call fills in; without a new action nothing is changed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}
