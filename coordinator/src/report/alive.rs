//! Whether a job's coordinator is alive: whoever holds the job's lock is.

use fanfold_shared::layout::JobDir;

use crate::ledger::JobLock;

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

    /// The fate called `name`.
    pub fn from_name(name: &str) -> Coordinator {
        match name {
            "alive" => Coordinator::Alive,
            "gone" => Coordinator::Gone,
            _ => Coordinator::Unknown,
        }
    }
}

/// Looks at the lock of the job in `dir`, without taking it: a look can never keep a coordinator from starting.
pub fn coordinator_of(dir: &JobDir) -> Coordinator {
    match JobLock::holder(dir) {
        Ok(Some(_)) => Coordinator::Alive,
        Ok(None) => Coordinator::Gone,
        Err(_) => Coordinator::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_lives_as_long_as_it_holds_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        assert_eq!(coordinator_of(&dir), Coordinator::Gone);
        let held = JobLock::acquire(&dir).unwrap();
        assert_eq!(coordinator_of(&dir), Coordinator::Alive);
        drop(held);
        assert_eq!(coordinator_of(&dir), Coordinator::Gone);
    }
}
