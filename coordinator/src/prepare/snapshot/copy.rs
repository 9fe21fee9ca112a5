//! Copies and hashes what was selected, in one pass: the hash is that of the copy, whatever happens to the source meanwhile.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use blake3::Hasher;
use fanfold_shared::report::During;

use super::select::{Kind, Selection};
use super::{Snapshot, SnapshotError};

const BUFFER: usize = 256 * 1024;

/// Hashes the selection where it lies.
pub(super) fn hash(selection: &Selection) -> Result<Snapshot, SnapshotError> {
    transfer(selection, None)
}

/// Copies the selection into the empty folder `to`. Files become read-only, but for the executable bit.
pub(super) fn copy(selection: &Selection, to: &Path) -> Result<Snapshot, SnapshotError> {
    transfer(selection, Some(to))
}

fn transfer(selection: &Selection, to: Option<&Path>) -> Result<Snapshot, SnapshotError> {
    let mut tree = Hasher::new();
    let (mut files, mut bytes) = (0, 0);
    let mut buffer = vec![0; BUFFER];
    for entry in &selection.entries {
        let place = to.map(|to| to.join(&entry.name));
        if let Some(parent) = place.as_deref().and_then(Path::parent) {
            fs::create_dir_all(parent).during("create", parent)?;
        }
        let name = entry.name.as_os_str().as_bytes();
        match &entry.kind {
            // Not hashed: an empty folder that appears beside a script does not make it another script.
            Kind::Folder => {
                if let Some(place) = place {
                    fs::create_dir_all(&place).during("create", &place)?;
                }
                continue;
            }
            Kind::Link { target } => {
                if let Some(place) = place {
                    symlink(target, &place).during("create", &place)?;
                }
                record(&mut tree, b'l', name, target.as_os_str().as_bytes());
            }
            Kind::File { source, executable, .. } => {
                let (len, content) = transfer_file(source, place.as_deref(), *executable, &mut buffer)?;
                bytes += len;
                record(&mut tree, if *executable { b'x' } else { b'f' }, name, content.as_bytes());
            }
        }
        files += 1;
    }
    let hash = tree.finalize().to_hex().to_string();
    Ok(Snapshot { hash, files, bytes, notes: selection.notes.clone() })
}

/// Whether `source` still has the content, and the executable bit, of the copy that was made of it.
pub(super) fn same_file(copy: &Path, source: &Path, executable: bool) -> Result<bool, SnapshotError> {
    let Ok(now) = fs::metadata(source) else { return Ok(false) };
    let copied = fs::metadata(copy).during("examine", copy)?;
    if !now.is_file() || now.len() != copied.len() || (now.permissions().mode() & 0o111 != 0) != executable {
        return Ok(false);
    }
    let content = |path: &Path| transfer_file(path, None, executable, &mut vec![0; BUFFER]).map(|(_, content)| content);
    Ok(content(copy)? == content(source)?)
}

/// Every part with its length: no two trees give the same bytes.
fn record(tree: &mut Hasher, kind: u8, name: &[u8], content: &[u8]) {
    tree.update(&[kind]);
    for part in [name, content] {
        tree.update(&(part.len() as u64).to_le_bytes());
        tree.update(part);
    }
}

/// Returns the bytes transferred and their hash.
fn transfer_file(
    source: &Path,
    place: Option<&Path>,
    executable: bool,
    buffer: &mut [u8],
) -> Result<(u64, blake3::Hash), SnapshotError> {
    let mut from = File::open(source).during("read", source).map_err(SnapshotError::Unreadable)?;
    let mut to = match place {
        Some(place) => {
            let file = OpenOptions::new().write(true).create_new(true).open(place).during("create", place)?;
            Some((file, place))
        }
        None => None,
    };
    let (mut hasher, mut len) = (Hasher::new(), 0);
    loop {
        let n = match from.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            outcome => outcome.during("read", source).map_err(SnapshotError::Unreadable)?,
        };
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        len += n as u64;
        if let Some((file, place)) = &mut to {
            file.write_all(&buffer[..n]).during("write", place)?;
        }
    }
    if let Some((file, place)) = to {
        let mode = if executable { 0o555 } else { 0o444 };
        file.set_permissions(Permissions::from_mode(mode)).during("change the mode of", place)?;
    }
    Ok((len, hasher.finalize()))
}
