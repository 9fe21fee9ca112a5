//! The lock on a job directory: one coordinator at a time, whatever dies.
//!
//! An open-file-description lock: the kernel releases it when the last descriptor is closed, so a killed program leaves
//! none behind, and readers can ask who holds it without taking it. The file's text only says who, for people.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, IoError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::LedgerError;

/// The right to write to a job directory, its ledger and its output. Held until it is dropped.
#[derive(Debug)]
pub struct JobLock {
    file: File,
}

/// How long a lock that is held is asked for again. The holder may be gone already: a child that it was about to start shares
/// its files until it turns into the other program (the standard library opens files close-on-exec).
const PATIENCE: Duration = Duration::from_millis(500);

impl JobLock {
    /// Takes the lock of `job`, creating the directory if need be.
    ///
    /// # Errors
    /// [`LedgerError::InUse`], naming the holder, if another program (or this one) has it.
    pub fn acquire(job: &JobDir) -> Result<JobLock, LedgerError> {
        let path = job.lock();
        let open = || -> Result<File, IoError> {
            fs::create_dir_all(job.internal()).during("create", job.internal())?;
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).during("open", &path)
        };
        let mut file = open()?;
        let since = Instant::now();
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
                Ok(_) if is_at(&file, &path) => break,
                // A job that was refused took its directory away, this file with it: the lock is on nothing.
                Ok(_) => file = open()?,
                Err(Errno::EAGAIN | Errno::EACCES) if since.elapsed() < PATIENCE => thread::sleep(PATIENCE / 50),
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(LedgerError::InUse { job: job.root().to_path_buf(), holder: who(&mut file) });
                }
                Err(errno) => return Err(errno).during("lock", &path)?,
            }
        }
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        file.set_len(0).during("write", &path)?;
        // Only for people: a full disk must not keep a job from going on.
        let _ = file.write_all(format!("process {} on {host} since {now}\n", std::process::id()).as_bytes());
        Ok(JobLock { file })
    }

    /// Who holds the lock of `job`, or None if nobody does.
    pub fn holder(job: &JobDir) -> Result<Option<String>, LedgerError> {
        let path = job.lock();
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.during("open", &path)?,
        };
        let mut lock = whole_file(libc::F_RDLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).during("query the lock", &path)?;
        Ok((lock.l_type != libc::F_UNLCK as libc::c_short).then(|| who(&mut file)))
    }
}

impl Drop for JobLock {
    fn drop(&mut self) {
        // Not left to the closing of the file: see `PATIENCE`. It may fail only where the closing will do.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
    }
}

/// Whether `path` still leads to `file`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    identity(file.metadata()) == identity(fs::metadata(path))
}

/// A lock of the whole file, of this kind.
pub(crate) fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // Must be 0 for locks of this kind.
        l_pid: 0,
    }
}

/// Who holds the lock, as the file says.
pub(crate) fn who(file: &mut File) -> String {
    let mut text = String::new();
    // A second program may look before the holder has written, or may read what no program of ours wrote.
    match file.take(1024).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_string(),
        _ => "another program".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::report::{ExitCode, Report};

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobDir::new(dir.path().join("job"));
        assert_eq!(JobLock::holder(&job).unwrap(), None);
        let lock = JobLock::acquire(&job).unwrap();
        let me = format!("process {} on ", std::process::id());
        assert!(JobLock::holder(&job).unwrap().unwrap().starts_with(&me));

        let error = JobLock::acquire(&job).unwrap_err();
        assert!(error.to_string().contains(&format!("is in use by {me}")), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Usage);

        drop(lock);
        assert_eq!(JobLock::holder(&job).unwrap(), None);
        JobLock::acquire(&job).unwrap();
    }
}
