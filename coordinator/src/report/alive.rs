//! Whether a job's coordinator is alive: whoever holds the job's lock is.

use std::fs::File;
use std::os::fd::AsRawFd;

use fanfold_shared::layout::JobDir;

/// See [`coordinator_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinator {
    /// Somebody holds the lock.
    Alive,
    /// Nobody does: the job stands still, whatever its last state says.
    Gone,
    /// It can't be told: the lock can't be read, or the file system knows no locks.
    Unknown,
}

impl Coordinator {
    /// The word in JSON: `alive`, `gone`, `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Coordinator::Alive => "alive",
            Coordinator::Gone => "gone",
            Coordinator::Unknown => "unknown",
        }
    }
}

/// Looks at the lock of the job in `dir`, without taking it: a look can never keep a coordinator from starting.
pub fn coordinator_of(dir: &JobDir) -> Coordinator {
    let file = match File::open(dir.lock()) {
        Ok(file) => file,
        // The lock file is made when the first coordinator starts.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Coordinator::Gone,
        Err(_) => return Coordinator::Unknown,
    };
    // SAFETY: flock is plain numbers, for which zero is a value (l_pid must be 0 for OFD locks).
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open for the length of the call, and `lock` is a valid flock that the call fills in.
    let outcome = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    match outcome {
        0 if lock.l_type == libc::F_UNLCK as libc::c_short => Coordinator::Gone,
        0 => Coordinator::Alive,
        _ => Coordinator::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, fcntl};

    #[test]
    fn a_coordinator_lives_as_long_as_it_holds_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        assert_eq!(coordinator_of(&dir), Coordinator::Gone);
        std::fs::create_dir_all(dir.internal()).unwrap();
        let held = File::create(dir.lock()).unwrap();
        assert_eq!(coordinator_of(&dir), Coordinator::Gone, "an unlocked file is nobody's");
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&held, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert_eq!(coordinator_of(&dir), Coordinator::Alive);
        drop(held);
        assert_eq!(coordinator_of(&dir), Coordinator::Gone);
    }
}
