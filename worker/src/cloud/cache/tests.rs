//! What the cache promises, with true files and processes.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::*;

fn key(name: &str, size: u64) -> Key {
    Key::new(name, Fingerprint::File { size, mtime_ns: 1 }, "", size)
}

/// Has the cache hold `name`, and a mini-batch use it.
fn fill(cache: &Arc<Cache>, name: &str, size: u64) -> Option<(Folder, Room)> {
    let room = cache.reserve(size).unwrap()?;
    let folder = cache.folder().unwrap();
    let (mut file, path) = cache.temporary().unwrap();
    file.write_all(&vec![b'x'; size as usize]).unwrap();
    cache.keep(&key(name, size), &path, &folder.path().join(name), &room).unwrap();
    Some((folder, room))
}

/// Whether the cache holds `name`.
fn has(cache: &Cache, name: &str, size: u64) -> bool {
    let folder = cache.folder().unwrap();
    cache.link(&key(name, size), &folder.path().join("it")).unwrap()
}

fn taken(cache: &Cache) -> u64 {
    Lock::take(&cache.root).unwrap().taken().unwrap()
}

#[test]
fn what_was_used_longest_ago_goes_and_what_is_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), Some(1000)).unwrap();
    let in_use = fill(&cache, "a", 300).unwrap();
    drop(fill(&cache, "b", 300));
    drop(fill(&cache, "c", 300));
    assert_eq!(taken(&cache), 900);
    // The clock of the file system may be coarse.
    let old = SystemTime::now() - Duration::from_secs(60);
    for name in ["a", "b"] {
        let times = std::fs::FileTimes::new().set_accessed(old);
        File::open(cache.entry(&key(name, 300))).unwrap().set_times(times).unwrap();
    }
    drop(fill(&cache, "d", 300));
    assert!(has(&cache, "a", 300) && !has(&cache, "b", 300) && has(&cache, "c", 300) && has(&cache, "d", 300));
    assert_eq!(fs::read(in_use.0.path().join("a")).unwrap().len(), 300);
    assert!(cache.reserve(900).unwrap().is_none(), "one is in use");
    drop(in_use);
    assert!(cache.reserve(900).unwrap().is_some());
    assert!(cache.reserve(1001).unwrap().is_none());
}

#[test]
fn another_size_is_another_object_and_a_torn_entry_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), Some(1000)).unwrap();
    drop(fill(&cache, "a", 100));
    assert!(has(&cache, "a", 100) && !has(&cache, "a", 101) && !has(&cache, "b", 100));
    let entry = cache.entry(&key("a", 100));
    fs::set_permissions(&entry, Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(&entry).unwrap().set_len(50).unwrap();
    assert!(!has(&cache, "a", 100));
    assert!(!entry.exists(), "it would be in the way of the next one");
}

#[test]
fn two_who_bring_the_same_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Cache::open(dir.path(), Some(1000)).unwrap(), Cache::open(dir.path(), Some(1000)).unwrap());
    let (first, second) = (fill(&one, "a", 100).unwrap(), fill(&two, "a", 100).unwrap());
    let inode = |folder: &Folder| fs::metadata(folder.path().join("a")).unwrap().ino();
    assert_ne!(inode(&first.0), inode(&second.0), "the second was late, and keeps its own as long as it needs it");
    drop((first, second));
    assert_eq!(taken(&one), 100);
}

#[test]
fn what_the_dead_hold_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), Some(1000)).unwrap();
    // As one leaves it that is killed: its directory, with a lock that nobody holds.
    let dead = Cache::open(dir.path(), Some(1000)).unwrap();
    let (folder, room) = fill(&dead, "a", 400).unwrap();
    let more = dead.reserve(500).unwrap().unwrap();
    let own = dead.own.clone();
    std::mem::forget((folder, room, more));
    // SAFETY: the descriptor is its own, and is not used any more.
    unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(&*dead.holder)) };
    std::mem::forget(dead);
    assert_eq!(taken(&cache), 900);
    assert!(cache.reserve(700).unwrap().is_some());
    assert!(!own.exists());
}

#[test]
fn several_processes_keep_to_one_size() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for who in 0..4 {
            let dir = dir.path();
            scope.spawn(move || {
                // Locks of files are between descriptors: threads are as good as processes.
                let cache = Cache::open(dir, Some(1000)).unwrap();
                for at in 0..100 {
                    let name = format!("{}", (at * 7 + who) % 23);
                    if !has(&cache, &name, 100) {
                        drop(fill(&cache, &name, 100));
                    }
                }
            });
        }
    });
    let cache = Cache::open(dir.path(), Some(1000)).unwrap();
    let held: u64 = cache.entries().unwrap().iter().map(|entry| entry.bytes).sum();
    assert_eq!(taken(&cache), held);
    assert!((500..=1000).contains(&held), "{held}");
    assert_eq!(fs::read_dir(dir.path().join("in-use")).unwrap().count(), 1, "only ours");
}
