//! The lock on the state directory: one service at a time, whatever dies. As a job's lock ([`crate::ledger::JobLock`]), the kernel takes it
//! back from a program that was killed.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fanfold_shared::report::{During, ExitCode, Failure, Report, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::ledger::{who, whole_file};

/// Between two tries of a service that stands by.
const STANDBY: Duration = Duration::from_millis(250);

/// The right to be the service of a state directory. Held until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Another service has it.
#[derive(Debug, thiserror::Error)]
#[error("the state directory `{}` is in use by {holder}", state.display())]
pub struct InUse {
    /// The directory.
    pub state: PathBuf,
    /// Process id, host and since when.
    pub holder: String,
}

impl Report for InUse {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Unreachable
    }

    fn hint(&self) -> Option<String> {
        Some("stop that service, give another `--state`, or wait with `--standby` to take over when it is gone".into())
    }
}

impl StateLock {
    /// Takes the lock of the directory `state`, which exists.
    ///
    /// # Errors
    /// [`InUse`], or the file can't be made.
    pub fn acquire(state: &Path) -> Result<StateLock> {
        let path = state.join("lock");
        let mut file = open(&path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(InUse { state: state.to_path_buf(), holder: who(&mut file) }.into());
            }
            Err(errno) => return Err(Failure::from(Err::<(), _>(errno).during("lock", &path).expect_err("an error"))),
        }
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        file.set_len(0).during("write", &path)?;
        let _ = file.rewind();
        // Only for people.
        let _ = file.write_all(format!("process {} on {host} since {now}\n", std::process::id()).as_bytes());
        Ok(StateLock { _file: file })
    }

    /// Waits for the lock until `stop` says so: None.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn stand_by(state: &Path, stop: &dyn Fn() -> bool) -> Result<Option<StateLock>> {
        while !stop() {
            match StateLock::acquire(state) {
                Ok(lock) => return Ok(Some(lock)),
                Err(failure) if failure.exit_code() == ExitCode::Unreachable => thread::sleep(STANDBY),
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).during("open", path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_service_is_refused_and_one_that_stands_by_takes_over() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let refused = StateLock::acquire(dir.path()).unwrap_err();
        assert!(refused.to_string().contains(&format!("in use by process {} on ", std::process::id())), "{refused}");
        assert_eq!(refused.exit_code(), ExitCode::Unreachable);
        assert!(StateLock::stand_by(dir.path(), &|| true).unwrap().is_none());
        let (waits, path) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), dir.path().to_path_buf());
        let begun = waits.clone();
        let second = thread::spawn(move || {
            StateLock::stand_by(&path, &|| {
                begun.store(true, std::sync::atomic::Ordering::SeqCst);
                false
            })
            .unwrap()
        });
        while !waits.load(std::sync::atomic::Ordering::SeqCst) {
            thread::yield_now();
        }
        drop(lock);
        assert!(second.join().unwrap().is_some());
    }
}
