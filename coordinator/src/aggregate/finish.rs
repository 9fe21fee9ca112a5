//! The end: the output file gets its final name. Each step may be repeated by the next start.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fanfold_shared::failpoint;
use fanfold_shared::report::{During, IoError};
use fanfold_shared::state::JobState;

use super::output::sync_dir;
use super::recovery::recorded_output;
use super::{Aggregate, CommitError, Output};

impl Aggregate {
    /// Gives the output file its final name ([`Aggregate::place`]) and records the state Completed. Has no effect on a job that is
    /// Completed.
    ///
    /// # Errors
    /// As [`Aggregate::place`].
    pub fn finish(&mut self) -> Result<(), CommitError> {
        if self.state == JobState::Completed {
            return self.usable();
        }
        self.place()?;
        self.set_state(JobState::Completed, None)?;
        failpoint!("finish_done");
        // Whatever is left of results that came twice. Waste at worst.
        let _ = fs::remove_dir_all(self.job.spool());
        Ok(())
    }

    /// Gives the output file its final name, durably; the job stays Finalizing.
    ///
    /// # Errors
    /// [`CommitError::Unsettled`] while mini-batches are missing; [`CommitError::OutputExists`] if the name is taken: nothing is
    /// ever overwritten.
    pub fn place(&mut self) -> Result<(), CommitError> {
        self.usable()?;
        let remaining = self.totals.mini_batches_remaining();
        if remaining > 0 {
            return Err(CommitError::Unsettled { remaining });
        }
        // The next start takes a missing `.partial` for a rename that was done only if it finds this state.
        if self.state != JobState::Finalizing {
            self.set_state(JobState::Finalizing, None)?;
        }
        let target = recorded_output(self.ledger.reader(), &self.job).map_err(CommitError::Ledger)?;
        if let (Output::Partial(file), Some(target)) = (&self.output, &target) {
            let committed = self.totals.committed_len;
            let ready = file.len().and_then(|len| {
                if len != committed {
                    // What a commit that met a full disk could not cut off.
                    file.cut(committed)?;
                }
                file.sync_all()
            });
            if let Err(source) = ready {
                self.stopped = true;
                return Err(CommitError::Output(IoError {
                    operation: "sync",
                    path: file.path().to_path_buf(),
                    source,
                }));
            }
            failpoint!("finish_before_rename");
            let replaces = self.ledger.reader().meta::<i64>("replaces").map_err(CommitError::Ledger)? == Some(1);
            let renamed = if replaces { fs::rename(file.path(), target) } else { rename_new(file.path(), target) };
            match renamed {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(CommitError::OutputExists { path: target.clone() });
                }
                renamed => renamed.during("rename", file.path()).map_err(CommitError::Output)?,
            }
            self.output = Output::Finished;
            failpoint!("finish_after_rename");
        }
        if let Some(dir) = target.as_deref().and_then(Path::parent) {
            sync_dir(dir).map_err(CommitError::Output)?;
        }
        failpoint!("finish_after_dirsync");
        Ok(())
    }
}

/// Renames `from` to `to`, which must not exist.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_exclusive(from, to) {
        // Network file systems have no exclusive rename.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) => {
            rename_by_link(from, to)
        }
        renamed => renamed,
    }
}

/// As [`rename_new`], by means that every file system has.
fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // Dying here leaves both names on one file, which the next start recognises.
        Ok(()) => fs::remove_file(from),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP)) => {
            // No links either: only the moment between the look and the rename is left open.
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        Err(error) => Err(error),
    }
}

fn rename_exclusive(from: &Path, to: &Path) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    // The system call itself: not every C library has a function for it.
    // SAFETY: both pointers are to strings that end in NUL and outlive the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_way_of_renaming_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for rename in [rename_new, rename_by_link] {
            fs::write(&from, "new").unwrap();
            fs::write(&to, "old").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".to_vec(), b"old".to_vec()));
            fs::remove_file(&to).unwrap();
            rename(&from, &to).unwrap();
            assert!(!from.exists());
            assert_eq!(fs::read(&to).unwrap(), b"new");
        }
    }
}
