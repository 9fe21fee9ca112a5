//! Whether a file can be handed to the script: one `stat` an item, as a rule.

use std::ffi::CStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, lstat, stat};
use nix::unistd::{AccessFlags, Uid, faccessat};

use super::Fingerprint;
use super::fingerprint::compare;
use super::reader::prefix;

/// Why a file can't be handed to the script. `Display` is what the user reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not there any more.
    Vanished,
    /// A symbolic link whose target is not there.
    DanglingLink,
    /// Its length is another, bytes.
    SizeChanged {
        /// As the job first saw it.
        was: u64,
        /// Now.
        is: u64,
    },
    /// It was written since, microseconds since the epoch.
    Modified {
        /// As the job first saw it.
        was_us: i64,
        /// Now.
        is_us: i64,
    },
    /// A directory took its place.
    Directory,
    /// It is neither file nor directory: what it is.
    Special(&'static str),
    /// Its symbolic links lead back to themselves.
    SymlinkLoop,
    /// We may not read it.
    PermissionDenied,
    /// The operating system said something else.
    Other(Errno),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Vanished => f.write_str("vanished since the job listed it"),
            Trouble::DanglingLink => f.write_str("is a link to nowhere"),
            Trouble::SizeChanged { was, is } => write!(f, "changed since the job listed it: size {was} -> {is}"),
            Trouble::Modified { was_us, is_us } => {
                write!(f, "changed since the job listed it: modified {} -> {}", time(*was_us), time(*is_us))
            }
            Trouble::Directory => f.write_str("is a directory, not a file"),
            Trouble::Special(what) => write!(f, "is a {what}, not a regular file"),
            Trouble::SymlinkLoop => f.write_str("is a symbolic link that leads back to itself"),
            Trouble::PermissionDenied => f.write_str("permission denied"),
            Trouble::Other(errno) => write!(f, "can't be examined: {}", errno.desc()),
        }
    }
}

fn time(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| format!("{us} µs"), |time| time.to_string())
}

/// Looks at the files `names` under `root` and compares them with `fingerprints` (one each, in the same order). Returns
/// those that can't be handed over, by their place in `names`; an empty answer costs no allocation.
pub fn check<'a>(
    root: &Path,
    names: impl IntoIterator<Item = &'a [u8]>,
    fingerprints: &[Fingerprint],
) -> Vec<(usize, Trouble)> {
    let mut buffer = StatBuffer::new(root);
    let mut troubles = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let known = fingerprints.get(at).copied().unwrap_or(Fingerprint::NotTaken);
        let verdict = buffer.look(name).and_then(|now| match compare(known, &now) {
            Some(trouble) => Err(trouble),
            None => buffer.readable(&now),
        });
        if let Err(trouble) = verdict {
            troubles.push((at, trouble));
        }
    }
    troubles
}

/// Builds paths under one root without allocating for each.
pub(super) struct StatBuffer {
    path: Vec<u8>,
    root: usize,
    user: Uid,
}

impl StatBuffer {
    pub(super) fn new(root: &Path) -> StatBuffer {
        let path = prefix(root.as_os_str().as_bytes());
        StatBuffer { root: path.len(), path, user: Uid::effective() }
    }

    /// What lies at `name`, if it is a regular file (or a symbolic link to one).
    pub(super) fn look(&mut self, name: &[u8]) -> Result<FileStat, Trouble> {
        self.path.truncate(self.root);
        self.path.extend_from_slice(name);
        self.path.push(0);
        let path = self.c_path()?;
        let stat = stat(path).map_err(|errno| match Trouble::from(errno) {
            Trouble::Vanished if is_link(path) => Trouble::DanglingLink,
            trouble => trouble,
        })?;
        let trouble = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => return Ok(stat),
            SFlag::S_IFDIR => Trouble::Directory,
            SFlag::S_IFIFO => Trouble::Special("named pipe"),
            SFlag::S_IFSOCK => Trouble::Special("socket"),
            SFlag::S_IFCHR | SFlag::S_IFBLK => Trouble::Special("device"),
            _ => Trouble::Special("special file"),
        };
        Err(trouble)
    }

    /// Whether we may read what [`StatBuffer::look`] just found. The mode decides where it is plain; else the kernel is asked.
    fn readable(&self, stat: &FileStat) -> Result<(), Trouble> {
        let everyone = stat.st_mode & 0o444 == 0o444;
        let owner = stat.st_mode & 0o400 != 0 && stat.st_uid == self.user.as_raw();
        if everyone || owner {
            return Ok(());
        }
        let at = nix::fcntl::AT_FDCWD;
        faccessat(at, self.c_path()?, AccessFlags::R_OK, AtFlags::AT_EACCESS).map_err(Trouble::from)
    }

    fn c_path(&self) -> Result<&CStr, Trouble> {
        // A name with a NUL names no file.
        CStr::from_bytes_with_nul(&self.path).map_err(|_| Trouble::Vanished)
    }
}

/// Whether a symbolic link lies at `path`, whatever it leads to.
fn is_link(path: &CStr) -> bool {
    lstat(path).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK)
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Trouble::Vanished,
            Errno::ELOOP => Trouble::SymlinkLoop,
            Errno::EACCES | Errno::EPERM => Trouble::PermissionDenied,
            other => Trouble::Other(other),
        }
    }
}
