//! The end: the output file gets its final name. Each step may be repeated by the next start.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fanfold_shared::failpoint;
use fanfold_shared::report::{During, IoError};
use fanfold_shared::state::JobState;

use super::ordered::{self, Kept};
use super::output::{OutputFile, sync_dir};
use super::recovery::{NEXT_RESULT, RESULT, file_result, recorded_output};
use super::rewrite::{Pass, Step, Written, new_path};
use super::table;
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
        let result = match self.is_rewritten() {
            true => self.ledger.reader().meta::<String>(NEXT_RESULT).map_err(CommitError::Ledger)?,
            false => None,
        };
        let recorded = self.ledger.complete(result.as_deref());
        self.recorded(recorded)?;
        self.state = JobState::Completed;
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
        if !self.all_settled() {
            return Err(CommitError::Unsettled { remaining: self.totals.mini_batches_remaining() });
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
            let mut from = file.path().to_path_buf();
            if self.is_rewritten() {
                let written = self.whole_file()?;
                // Before the rename: a file under the final name is ours only if the ledger knows it.
                let next = serde_json::to_string(&written.result).expect("plain data");
                let recorded = self.ledger.set_meta(&[(NEXT_RESULT, &next)]);
                self.recorded(recorded)?;
                from = written.path;
            }
            failpoint!("finish_before_rename");
            let replaces = self.ledger.reader().meta::<i64>("replaces").map_err(CommitError::Ledger)? == Some(1);
            let renamed = if replaces { fs::rename(&from, target) } else { rename_new(&from, target) };
            match renamed {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(CommitError::OutputExists { path: target.clone() });
                }
                renamed => renamed.during("rename", &from).map_err(CommitError::Output)?,
            }
            self.output = Output::Finished;
            self.written = None;
            failpoint!("finish_after_rename");
        }
        if let Some(dir) = target.as_deref().and_then(Path::parent) {
            sync_dir(dir).map_err(CommitError::Output)?;
        }
        failpoint!("finish_after_dirsync");
        if let (true, Some(target)) = (self.is_rewritten(), &target) {
            // All of it is in the file that has the name now.
            let partial = OutputFile::partial_path(target);
            for left in [new_path(&partial), partial] {
                match fs::remove_file(&left) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).during("remove", &left).map_err(CommitError::Output);
                    }
                    _ => {}
                }
            }
            failpoint!("table_frames_removed");
        }
        Ok(())
    }
}

/// Of output that is made of what is committed.
impl Aggregate {
    /// Whether it is: a Parquet file, or rows in the order of the input.
    fn is_rewritten(&self) -> bool {
        self.table.is_some() || self.ordered
    }

    /// Begins to make the output of what is committed. None: the output is what is committed, or that was done.
    ///
    /// Its steps may be made without this aggregate; what the last one gives goes to [`Aggregate::rewritten`]. Who does not care how
    /// far it is calls [`Aggregate::finish`] alone.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: there is no room for it, and nothing was written.
    pub fn rewrite(&mut self) -> Result<Option<Pass>, CommitError> {
        self.usable()?;
        let (true, Output::Partial(file), None) = (self.is_rewritten(), &self.output, &self.written) else {
            return Ok(None);
        };
        let reader = self.ledger.reader();
        let target = recorded_output(reader, &self.job).map_err(CommitError::Ledger)?;
        let old = file_result(reader, RESULT).map_err(CommitError::Ledger)?;
        let (partial, committed) = (file.path(), self.totals.committed_len);
        let old = target.as_deref().zip(old).filter(|_| file.base() > 0);
        let index = self.job.internal().join("order");
        let kept = Kept { index: &index, split: &self.split };
        let Some(columns) = &self.table else {
            let opened = ordered::Opened { partial, committed, old, kept };
            return Ok(Some(Pass::Order(Box::new(ordered::open(&opened)?))));
        };
        let (schema, ordered) = (columns.schema.as_ref(), self.ordered.then_some(kept));
        let opened = table::Opened { partial, committed, old, schema, ordered };
        Ok(Some(Pass::Table(Box::new(table::open(&opened)?))))
    }

    /// The file is whole: [`Aggregate::finish`] gives it its name.
    pub fn rewritten(&mut self, written: Written) {
        self.written = Some(written);
    }

    fn whole_file(&mut self) -> Result<Written, CommitError> {
        if let Some(mut pass) = self.rewrite()? {
            loop {
                if let Step::Done(written) = pass.step(self.ledger.reader())? {
                    self.written = Some(written);
                    break;
                }
            }
        }
        // Kept until it has its name: who meets a full disk before that need not make it again.
        Ok(self.written.clone().expect("the pass was made"))
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
