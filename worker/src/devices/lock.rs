//! Two workers on one host never hold the same device: one lock per device, for all users of the host.
//!
//! A lock is `flock` on a file named after the device, so that it ends with its holder, whatever the death, and a guardian
//! that inherits the descriptor keeps it until the holder's processes are gone. Files are never removed: a file that is removed
//! while somebody waits for it is two files. Containers see each other's locks only if they share the directory: mount one
//! and name it in `FANFOLD_DEVICE_LOCKS`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Device, DeviceError};

/// For everybody, and only the owner removes: as /tmp.
const SHARED_DIRECTORY: u32 = 0o1777;

/// Who holds devices, as other workers will see it.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The job's id.
    pub job: String,
}

impl Holder {
    fn describe(&self) -> String {
        let host = nix::unistd::gethostname().unwrap_or_default();
        format!("job {} (process id {} on {})", self.job, std::process::id(), host.to_string_lossy())
    }
}

/// A device that another worker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The device.
    pub device: Device,
    /// Who holds it, in words.
    pub holder: String,
}

pub(super) fn describe_busy(busy: &[Busy]) -> String {
    let each: Vec<String> =
        busy.iter().map(|Busy { device, holder }| format!("GPU {} is held by {holder}", device.visible)).collect();
    each.join(", ")
}

/// Devices held against all other workers of this host, until it is dropped or the program dies.
#[derive(Debug)]
pub struct Held {
    devices: Vec<Device>,
    locks: Vec<File>,
    busy: Vec<Busy>,
}

impl Held {
    /// What is held, in order.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// What others hold and was passed over.
    pub fn busy(&self) -> &[Busy] {
        &self.busy
    }

    /// The locks, for `Guard::start` to keep.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.locks.iter().map(AsFd::as_fd).collect()
    }
}

/// Where the locks of this host lie: `FANFOLD_DEVICE_LOCKS`, else under the first of `/run/lock`, `/dev/shm` and `/tmp` that
/// everybody can write to: the same for every user, or a lock would not be one.
pub fn lock_directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("FANFOLD_DEVICE_LOCKS").filter(|directory| !directory.is_empty()) {
        return directory.into();
    }
    let is_shared = |path: &&str| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & SHARED_DIRECTORY == SHARED_DIRECTORY)
    };
    let parent = ["/run/lock", "/dev/shm"].into_iter().find(is_shared).unwrap_or("/tmp");
    Path::new(parent).join("fanfold-devices")
}

/// Takes `wanted` of `devices` (all, if there are not so many), passing over what other workers hold. If too few are free, it
/// takes none and fails, naming the holders. `chosen` says that the job named the devices, else that they are all there are: then
/// one free device is enough.
pub fn hold(
    directory: &Path,
    devices: &[Device],
    wanted: usize,
    chosen: bool,
    holder: &Holder,
) -> Result<Held, DeviceError> {
    let wanted = wanted.min(devices.len());
    let mut held = Held { devices: Vec::new(), locks: Vec::new(), busy: Vec::new() };
    if wanted == 0 {
        return Ok(held);
    }
    make_directory(directory)?;
    for device in devices {
        if held.devices.len() == wanted {
            break;
        }
        match lock(directory, device, holder)? {
            Ok(lock) => {
                held.devices.push(device.clone());
                held.locks.push(lock);
            }
            Err(busy) => held.busy.push(busy),
        }
    }
    let enough = if chosen { wanted } else { 1 };
    if held.devices.len() < enough {
        return Err(DeviceError::Busy { busy: held.busy, chosen });
    }
    Ok(held)
}

/// How long to wait for a device, and who may cut it short.
pub struct Wait<'a> {
    /// Then it fails as [`hold`] does.
    pub limit: Duration,
    /// Looked at ten times a second.
    pub cancel: &'a AtomicBool,
    /// Told why, whenever the reason changes.
    pub waiting: &'a mut dyn FnMut(&str),
}

/// As [`hold`], but waits for what is held.
pub fn hold_when_free(
    directory: &Path,
    devices: &[Device],
    wanted: usize,
    chosen: bool,
    holder: &Holder,
    wait: Wait<'_>,
) -> Result<Held, DeviceError> {
    let deadline = Instant::now() + wait.limit;
    let mut told = String::new();
    loop {
        let busy = match hold(directory, devices, wanted, chosen, holder) {
            Err(DeviceError::Busy { busy, chosen }) if Instant::now() >= deadline => {
                return Err(DeviceError::Busy { busy, chosen });
            }
            Err(DeviceError::Busy { busy, .. }) => busy,
            outcome => return outcome,
        };
        let reason = format!("waiting for a GPU: {}", describe_busy(&busy));
        if reason != told {
            (wait.waiting)(&reason);
            told = reason;
        }
        if wait.cancel.load(Ordering::Relaxed) {
            return Err(DeviceError::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn make_directory(directory: &Path) -> Result<(), DeviceError> {
    let failed = |source| DeviceError::Lock { operation: "create", path: directory.to_path_buf(), source };
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::create_dir(directory) {
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(SHARED_DIRECTORY)).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn lock(directory: &Path, device: &Device, holder: &Holder) -> Result<Result<File, Busy>, DeviceError> {
    let path = directory.join(device.key().replace('/', "-"));
    let failed = |operation| {
        let path = path.clone();
        move |source| DeviceError::Lock { operation, path, source }
    };
    let mut file = open(&path).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            return Ok(Err(Busy { device: device.clone(), holder: read_holder(&mut file) }));
        }
        Err(fs::TryLockError::Error(source)) => return Err(failed("take")(source)),
    }
    // Only for others to read: a file that may be locked but not written, or a full disk, is no reason not to work.
    let _ = file.set_len(0).and_then(|()| file.write_all(holder.describe().as_bytes()));
    Ok(Ok(file))
}

/// Opens, or creates, a file that belongs to whichever user came first, in a directory where anybody may put anything.
fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: never to wait for the other end of a pipe that somebody put there.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    loop {
        // Without O_CREAT, as `fs.protected_regular` forbids it even to root on other users' files in such a directory.
        match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It can be locked all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return OpenOptions::new().read(true).custom_flags(flags).open(path);
            }
            outcome => return outcome,
        }
        match OpenOptions::new().read(true).write(true).create_new(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(file) => {
                // Whatever the umask: other users must be able to write their names.
                file.set_permissions(Permissions::from_mode(0o666))?;
                return Ok(file);
            }
            Err(error) => return Err(error),
        }
    }
}

fn read_holder(file: &mut File) -> String {
    let mut text = Vec::new();
    let outcome = file.take(200).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    // Anybody may have written it, and it goes to a terminal.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if outcome.is_err() || text.trim().is_empty() { "another worker".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::report::{ExitCode, Report};

    fn devices(count: usize) -> Vec<Device> {
        (0..count).map(|index| Device { visible: index.to_string(), uuid: None, name: None }).collect()
    }

    fn holder(job: &str) -> Holder {
        Holder { job: job.into() }
    }

    fn visible(held: &Held) -> Vec<&str> {
        held.devices().iter().map(|device| device.visible.as_str()).collect()
    }

    /// Other tests start processes, and between fork and exec these have a copy of every descriptor, locks included.
    fn hold_soon(directory: &Path, devices: &[Device], wanted: usize) -> Held {
        let wait = Wait { limit: Duration::from_secs(10), cancel: &AtomicBool::new(false), waiting: &mut |_| {} };
        hold_when_free(directory, devices, wanted, false, &holder("next"), wait).unwrap()
    }

    #[test]
    fn two_workers_get_different_devices() {
        let dir = tempfile::tempdir().unwrap();
        let first = hold(dir.path(), &devices(3), 1, false, &holder("one")).unwrap();
        let second = hold(dir.path(), &devices(3), 8, false, &holder("two")).unwrap();
        assert_eq!((visible(&first), visible(&second)), (vec!["0"], vec!["1", "2"]));
        assert_eq!(second.busy()[0].device.visible, "0");
        drop(first);
        let third = hold_soon(dir.path(), &devices(3), 8);
        assert_eq!(visible(&third), ["0"]);
    }

    #[test]
    fn a_named_device_that_is_held_is_refused_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let _first = hold(dir.path(), &devices(1), 1, true, &holder("score-1a2b3c4d")).unwrap();
        let error = hold(dir.path(), &devices(2), 2, true, &holder("two")).unwrap_err();
        let text = error.to_string();
        let pid = std::process::id();
        assert!(text.starts_with(&format!("GPU 0 is held by job score-1a2b3c4d (process id {pid} on ")), "{text}");
        assert!(error.hint().unwrap().contains("gpus"));
        // Refused, it holds nothing: device 1 is free.
        let free = hold_soon(dir.path(), &devices(2)[1..], 1);
        assert_eq!(visible(&free), ["1"]);
    }

    #[test]
    fn who_waits_says_for_whom_and_gets_the_device_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Some(hold(dir.path(), &devices(1), 1, false, &holder("one")).unwrap());
        let mut told = Vec::new();
        let mut waiting = |reason: &str| {
            told.push(reason.to_string());
            first = None;
        };
        let wait = Wait { limit: Duration::from_secs(10), cancel: &AtomicBool::new(false), waiting: &mut waiting };
        let second = hold_when_free(dir.path(), &devices(1), 1, false, &holder("two"), wait).unwrap();
        assert_eq!(visible(&second), ["0"]);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("waiting for a GPU: GPU 0 is held by job one"), "{told:?}");
    }

    #[test]
    fn a_wait_ends_at_its_limit_and_when_it_is_canceled() {
        let dir = tempfile::tempdir().unwrap();
        let _first = hold(dir.path(), &devices(1), 1, false, &holder("one")).unwrap();
        let outcome = |limit, cancel| {
            let wait = Wait { limit, cancel: &AtomicBool::new(cancel), waiting: &mut |_| {} };
            hold_when_free(dir.path(), &devices(1), 1, false, &holder("two"), wait).map(|_| ())
        };
        let busy = outcome(Duration::ZERO, false).unwrap_err();
        assert!(busy.to_string().starts_with("GPU 0 is held by job one"), "{busy}");
        assert_eq!(busy.exit_code(), ExitCode::Usage, "the job is not Failed: the same command goes on");
        assert!(matches!(outcome(Duration::from_secs(60), true), Err(DeviceError::Interrupted)));
    }

    #[test]
    fn everybody_may_use_the_locks_that_somebody_made() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("a/devices");
        let held = hold(&directory, &devices(1), 1, false, &holder("one")).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::metadata(directory.join("index-0")).unwrap().mode() & 0o777, 0o666);
        assert_eq!(held.descriptors().len(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_a_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("precious");
        fs::write(&target, "keep").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("index-0")).unwrap();
        let error = hold(dir.path(), &devices(1), 1, false, &holder("one")).unwrap_err();
        assert!(matches!(error, DeviceError::Lock { .. }), "{error}");
        assert_eq!(fs::read_to_string(target).unwrap(), "keep");
    }

    #[test]
    fn what_a_holder_wrote_can_not_disturb_a_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let _first = hold(dir.path(), &devices(1), 1, false, &holder("one\u{1b}[2J\n")).unwrap();
        let error = hold(dir.path(), &devices(1), 1, false, &holder("two")).unwrap_err();
        assert!(!error.to_string().contains(char::is_control));
    }
}
