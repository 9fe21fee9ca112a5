//! Named points at which a test may kill the program. Compiled in only with the feature `failpoints`.
//!
//! `FANFOLD_FAILPOINT=<name>:<n>` kills the program with SIGKILL when it reaches the point `<name>` for the n-th time.
//! `FANFOLD_FAILPOINT=<name>:<n>:<errno>` makes [`failpoint_error!`](crate::failpoint_error) return that error from then on
//! (`<name>:<n>:<errno>:<times>` for so many times).

/// Marks a point at which a crash test may kill the program.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::reached($name);
    };
}

/// Marks an operation that a fault test may make fail: expands to an `io::Result<()>`.
#[macro_export]
macro_rules! failpoint_error {
    ($name:literal) => {{
        #[cfg(feature = "failpoints")]
        let outcome = $crate::failpoint::error($name);
        #[cfg(not(feature = "failpoints"))]
        let outcome: ::std::io::Result<()> = Ok(());
        outcome
    }};
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        at: u64,
        errno: Option<i32>,
        times: u64,
        hits: AtomicU64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let value = std::env::var("FANFOLD_FAILPOINT").ok()?;
                let mut parts = value.split(':');
                let name = parts.next()?.to_string();
                let mut number = || parts.next().map(|n| n.parse::<u64>().expect("FANFOLD_FAILPOINT: a number"));
                let at = number().unwrap_or(1);
                let errno = number().map(|n| n as i32);
                let times = number().unwrap_or(u64::MAX);
                Some(Armed { name, at, errno, times, hits: AtomicU64::new(0) })
            })
            .as_ref()
    }

    fn hit(name: &str) -> Option<(&'static Armed, u64)> {
        let armed = armed().filter(|armed| armed.name == name)?;
        Some((armed, armed.hits.fetch_add(1, Ordering::SeqCst) + 1))
    }

    /// Kills the program if this is the point, and the time, that the test asked for.
    pub fn reached(name: &str) {
        if let Some((armed, hits)) = hit(name)
            && armed.errno.is_none()
            && hits == armed.at
        {
            // SAFETY: sends a signal to ourselves; no memory is involved.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            loop {
                std::thread::park();
            }
        }
    }

    /// The error that the test asked for at this point.
    pub fn error(name: &str) -> io::Result<()> {
        match hit(name) {
            Some((Armed { at, errno: Some(errno), times, .. }, hits)) if hits >= *at && hits - at < *times => {
                Err(io::Error::from_raw_os_error(*errno))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::{error, reached};
