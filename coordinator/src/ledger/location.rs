//! Where a ledger lies: in the job directory if that is on a local disk, else under the XDG state directory.
//!
//! SQLite's write-ahead log needs memory shared between processes and locks that hold; network file systems promise
//! neither. There the job directory holds a pointer file. It is written after the ledger: a crash between the two leaves a
//! ledger that the next start finds under the same name, never a pointer to nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use fanfold_shared::ids::JobId;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::During;

use super::LedgerError;

/// The name of the file system at `path`, if it is one that other machines may share; None if it is local.
pub fn network_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    let kind = nix::sys::statfs::statfs(path)?.filesystem_type().0;
    // The kernel's numbers have 32 bits; the field is wider and, on some machines, signed.
    Ok(name_of(kind as u32))
}

fn name_of(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x0000_6969 => "nfs",
        0x0000_517B | 0xFF53_4D42 | 0xFE53_4D42 => "smb",
        // sshfs, s3fs, blobfuse, gcsfuse, virtiofs: some are local, none says so.
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x00C3_6400 => "ceph",
        0x0BD0_0BD0 => "lustre",
        0x4750_4653 => "gpfs",
        0x1983_0326 => "beegfs",
        0x2003_0528 => "orangefs",
        0xAAD7_AAEA => "panfs",
        0x5346_414F | 0x6B41_4653 => "afs",
        0x7375_7245 => "coda",
        0x7461_636F => "ocfs2",
        0x0116_1970 => "gfs2",
        0x786F_4256 => "vboxsf",
        0xBACB_ACBC => "vmhgfs",
        _ => return None,
    })
}

/// Where an existing ledger lies; None if there is none.
pub(super) fn find(job: &JobDir) -> Result<Option<PathBuf>, LedgerError> {
    if job.ledger().try_exists().during("look for", job.ledger())? {
        return Ok(Some(job.ledger()));
    }
    let pointer = job.ledger_pointer();
    let bytes = match fs::read(&pointer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.during("read", &pointer)?,
    };
    let ledger = PathBuf::from(std::ffi::OsString::from_vec(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec()));
    if !ledger.try_exists().during("look for", &ledger)? {
        return Err(LedgerError::PointeeAbsent { pointer, ledger });
    }
    Ok(Some(ledger))
}

/// Where the ledger of a new job goes; its directory exists when this returns. `file_system` is that of the job directory.
pub(super) fn place(
    job: &JobDir,
    id: &JobId,
    file_system: Option<&'static str>,
    state_home: Option<PathBuf>,
) -> Result<PathBuf, LedgerError> {
    let Some(file_system) = file_system else {
        return Ok(job.ledger());
    };
    let Some(state_home) = state_home else {
        return Err(LedgerError::Network { ledger: job.ledger(), file_system, exists: false });
    };
    let dir = state_home.join("fanfold/ledgers");
    fs::create_dir_all(&dir).during("create", &dir)?;
    let ledger = dir.join(format!("{id}.sqlite"));
    match network_file_system(&dir).during("look at the file system of", &dir)? {
        Some(file_system) => Err(LedgerError::Network { ledger, file_system, exists: false }),
        None => Ok(ledger),
    }
}

/// Makes `.fanfold/ledger.path` name `ledger`, durably.
pub(super) fn point_to(job: &JobDir, ledger: &Path) -> Result<(), LedgerError> {
    let pointer = job.ledger_pointer();
    let new = pointer.with_extension("path.new");
    let mut file = File::create(&new).during("create", &new)?;
    let written = file.write_all(ledger.as_os_str().as_bytes()).and_then(|()| file.write_all(b"\n"));
    written.and_then(|()| file.sync_all()).during("write", &new)?;
    fs::rename(&new, &pointer).during("rename", &new)?;
    sync_dir(&job.internal())
}

/// `$XDG_STATE_HOME`, or `~/.local/state`; None if neither is known.
pub(super) fn state_home() -> Option<PathBuf> {
    // The XDG rules say that a relative path is to be ignored.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), LedgerError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(OsStr::new(".")) } else { dir };
    Ok(File::open(dir).and_then(|dir| dir.sync_all()).during("sync", dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::report::{ExitCode, Report};

    fn job(root: &Path) -> JobDir {
        let job = JobDir::new(root.join("job"));
        fs::create_dir_all(job.internal()).unwrap();
        job
    }

    #[test]
    fn a_local_job_keeps_its_ledger_in_the_job_directory() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        assert_eq!(place(&job, &JobId("a-1".into()), None, None).unwrap(), job.ledger());
        assert_eq!(find(&job).unwrap(), None);
    }

    #[test]
    fn a_job_on_a_network_disk_points_to_its_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        let id = JobId("score-12345678".into());
        let error = place(&job, &id, Some("nfs"), None).unwrap_err();
        assert!(error.to_string().contains("(nfs)") && error.hint().unwrap().contains("XDG_STATE_HOME"), "{error}");

        let ledger = place(&job, &id, Some("nfs"), Some(dir.path().join("state"))).unwrap();
        assert_eq!(ledger, dir.path().join("state/fanfold/ledgers/score-12345678.sqlite"));
        fs::write(&ledger, "x").unwrap();
        point_to(&job, &ledger).unwrap();
        assert_eq!(find(&job).unwrap(), Some(ledger.clone()));

        fs::remove_file(&ledger).unwrap();
        let error = find(&job).unwrap_err();
        assert!(error.to_string().contains("score-12345678.sqlite`, named by"), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(name_of(0x6969), Some("nfs"));
        assert_eq!(name_of(0xEF53), None, "ext4");
        assert_eq!(name_of(libc::SMB_SUPER_MAGIC as u32), Some("smb"));
        assert_eq!(network_file_system(Path::new("/proc")).unwrap(), None);
    }
}
