//! The list as a whole: written, read back, damaged; files that change under it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::split::{Split, SplitInput};

/// One input with all of `items`, two to a mini-batch.
fn split(root: &Path, items: u64) -> Split {
    let input = SplitInput::of_items("input0", root.to_str().unwrap(), 0..items);
    Split { inputs: vec![input], ..Split::even(2) }
}

/// Writes `items` in blocks of at most `max_block`.
fn list(dir: &Path, root: &Path, items: &[&[u8]], max_block: (u32, usize)) -> ItemReader {
    let mut writer = ItemWriter::with_block_size(dir, 0, max_block).unwrap();
    items.iter().for_each(|item| writer.push(item).unwrap());
    writer.finish(split(root, items.len() as u64)).unwrap()
}

const NAMES: [&[u8]; 6] = [b"a b.png", b"line\nbreak", b"not-utf-8-\xff\xfe", b"sub/dir/x", b"\xc3\xa4", b"z"];

fn small_list() -> (TempDir, ItemReader) {
    let dir = tempfile::tempdir().unwrap();
    let reader = list(dir.path(), Path::new("/data"), &NAMES, (2, 64));
    (dir, reader)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_range_reads_back_as_it_was_written(
        items in prop::collection::vec(prop::collection::vec(1u8.., 0..40), 0..60),
        max_items in 1u32..9,
        max_bytes in 1usize..100,
        ranges in prop::collection::vec((0usize..60, 0usize..60), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let borrowed: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        let reader = list(dir.path(), Path::new("/r"), &borrowed, (max_items, max_bytes));
        prop_assert_eq!(reader.entries(), items.len() as u64);
        for (start, len) in ranges {
            let start = start.min(items.len());
            let range = start..(start + len).min(items.len());
            let ordinals = range.start as u64..range.end as u64;
            let expected: Vec<u8> = items[range.clone()].iter().flat_map(|item| [item, &b"\0"[..]].concat()).collect();
            prop_assert_eq!(reader.read(ordinals.clone()).unwrap(), expected);
            let joined: Vec<u8> = items[range].iter().flat_map(|item| [b"/r/", &item[..], b"\0"].concat()).collect();
            let mut out = b"before".to_vec();
            reader.read_joined(ordinals, Path::new("/r"), &mut out).unwrap();
            prop_assert_eq!(out, [b"before", &joined[..]].concat());
        }
    }
}

#[test]
fn names_of_every_kind_come_back_as_paths() {
    let (_dir, reader) = small_list();
    let expected: Vec<_> = NAMES.iter().map(|name| Path::new("/data").join(OsStr::from_bytes(name))).collect();
    assert_eq!(reader.paths(0..6).unwrap(), expected);
    assert_eq!(reader.item(2).unwrap(), NAMES[2]);
    assert_eq!(reader.split(), &split(Path::new("/data"), 6));
    assert_eq!(reader.input_of(5).name, "input0");
}

#[test]
fn files_are_called_the_same_wherever_they_are() {
    let (_dir, mut reader) = small_list();
    reader.move_roots(|root| format!("/mnt{root}"));
    assert_eq!(reader.paths(0..1).unwrap(), [Path::new("/mnt/data").join(OsStr::from_bytes(NAMES[0]))]);
    assert_eq!(reader.called(0..6).unwrap(), NAMES.map(|name| [b"/data/", name].concat()));
}

#[test]
fn lines_are_handed_over_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ItemWriter::create(dir.path(), b'\n').unwrap();
    writer.push(b"s3://bucket/a\0b").unwrap();
    let reader = writer.finish(split(Path::new(""), 1)).unwrap();
    let mut out = Vec::new();
    reader.read_joined(0..1, Path::new(""), &mut out).unwrap();
    assert_eq!(out, b"s3://bucket/a\0b\n");
}

#[test]
fn an_item_that_would_not_come_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ItemWriter::create(dir.path(), b'\n').unwrap();
    writer.push(b"fine").unwrap();
    let error = writer.push(b"two\nlines").unwrap_err();
    assert_eq!(error.to_string(), "item 1 can't be listed: it contains the byte that separates items");
    writer.push(&vec![b'x'; MAX_ITEM_BYTES]).unwrap();
    assert!(writer.push(&vec![b'x'; MAX_ITEM_BYTES + 1]).is_err());
    let reader = writer.finish(split(Path::new(""), 2)).unwrap();
    assert_eq!(reader.item(1).unwrap().len(), MAX_ITEM_BYTES);
}

#[test]
fn a_list_without_manifest_is_begun_anew_and_a_complete_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let items = dir.path().join("items");
    let mut writer = ItemWriter::create(&items, 0).unwrap();
    writer.push(b"interrupted").unwrap();
    drop(writer);
    for stale in ["sort-0.tmp", "index", "fingerprints", "manifest.json.building"] {
        fs::write(items.join(stale), b"left over").unwrap();
    }
    fs::write(items.join("not ours"), b"").unwrap();
    let error = ItemReader::open(&items).unwrap_err();
    assert!(matches!(error, ItemsError::Incomplete { .. }), "{error}");

    let reader = list(&items, Path::new("/data"), &NAMES, (2, 64));
    assert_eq!(reader.entries(), 6);
    let mut left: Vec<_> = fs::read_dir(&items).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["data", "index", "manifest.json", "not ours"]);
    assert!(matches!(ItemWriter::create(&items, 0), Err(ItemsError::AlreadyComplete { .. })));
    assert_eq!(ItemReader::open(&items).unwrap().read(0..6).unwrap(), reader.read(0..6).unwrap());
}

/// Every way of reading the list fails, with an error that names a file of it.
fn assert_damaged(dir: &Path, what: &str) {
    let outcome = ItemReader::open(dir).and_then(|reader| reader.read(0..reader.entries()));
    match outcome {
        Err(error @ ItemsError::Damaged { .. }) => {
            assert!(error.to_string().contains(dir.to_str().unwrap()), "{what}: {error}");
            assert!(crate::report::Report::hint(&error).is_some());
        }
        other => panic!("{what} went unnoticed: {other:?}"),
    }
}

#[test]
fn a_file_cut_at_any_byte_is_noticed() {
    let (dir, _) = small_list();
    for name in ["data", "index", "manifest.json"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_damaged(dir.path(), &format!("{name} cut to {len}"));
        }
        fs::remove_file(&path).unwrap();
        if name != "manifest.json" {
            assert_damaged(dir.path(), &format!("{name} missing"));
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(ItemReader::open(dir.path()).unwrap().entries(), 6);
}

#[test]
fn a_changed_byte_is_noticed() {
    let (dir, _) = small_list();
    for name in ["data", "index"] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x20;
            fs::write(&path, &changed).unwrap();
            assert_damaged(dir.path(), &format!("{name} changed at {at}"));
        }
        fs::write(&path, &whole).unwrap();
    }
    let path = dir.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("/data", "/dato")).unwrap();
    assert_damaged(dir.path(), "another root");
    fs::write(&path, text.replace("\"version\": 2", "\"version\": 3")).unwrap();
    let error = ItemReader::open(dir.path()).unwrap_err();
    assert!(matches!(error, ItemsError::Version { found: 3, .. }), "{error}");
}

#[test]
fn damage_after_opening_names_the_items() {
    let (dir, reader) = small_list();
    let data = dir.path().join("data");
    File::options().write(true).open(&data).unwrap().write_all_at(b"?", 20).unwrap();
    let error = reader.read(2..4).unwrap_err().to_string();
    assert!(error.contains("is damaged (items 2 to 3): the checksum"), "{error}");
    assert_eq!(reader.item(0).unwrap(), NAMES[0], "the other blocks still read");
    File::options().write(true).open(&data).unwrap().set_len(30).unwrap();
    let error = reader.read(4..6).unwrap_err().to_string();
    assert!(error.contains("it has become shorter"), "{error}");
}

#[test]
fn more_than_there_is_is_refused() {
    let (_dir, reader) = small_list();
    for range in [0..7, 6..7, 9..9] {
        assert!(matches!(reader.read(range), Err(ItemsError::Beyond { items: 6, .. })));
    }
    assert_eq!(reader.read(6..6).unwrap(), b"");
}

#[test]
fn readers_at_different_places_share_one_reader() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..2000).map(|i| format!("file-{i}")).collect();
    let borrowed: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let reader = list(dir.path(), Path::new("/r"), &borrowed, (7, 1000));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (reader, names) = (&reader, &names);
            scope.spawn(move || {
                for i in 0..2000u64 {
                    let ordinal = (i * 7 + thread * 500) % 2000;
                    assert_eq!(reader.item(ordinal).unwrap(), names[ordinal as usize].as_bytes());
                }
            });
        }
    });
}

/// A folder with these names as files of 10 bytes, and its list.
fn files(names: &[&[u8]]) -> (TempDir, ItemReader) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    fs::create_dir(&root).unwrap();
    for name in names {
        fs::write(root.join(OsStr::from_bytes(name)), b"0123456789").unwrap();
    }
    let reader = list(&dir.path().join("items"), &root, names, (3, 100));
    (dir, reader)
}

#[test]
fn a_file_that_did_not_change_passes_and_any_other_says_why() {
    let names: [&[u8]; 8] = [b"fine", b"gone", b"grown", b"touched", b"folder", b"pipe", b"loop", b"new\nline"];
    let (dir, reader) = files(&names);
    let root = dir.path().join("data");
    let prints = Fingerprints::create(&dir.path().join("items"), reader.entries()).unwrap();
    prints.take(&reader, 0..8).unwrap();
    let known = Fingerprints::open(&dir.path().join("items"), 8).unwrap().get(0..8).unwrap();
    assert!(known.iter().all(|known| matches!(known, Fingerprint::File { size: 10, .. })));
    assert_eq!(check(&root, names, &known), []);

    let path = |name: &str| root.join(name);
    fs::remove_file(path("gone")).unwrap();
    fs::write(path("grown"), b"0123456789ab").unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(5_000_000_000);
    File::options().write(true).open(path("touched")).unwrap().set_modified(later).unwrap();
    for name in ["folder", "pipe", "loop"] {
        fs::remove_file(path(name)).unwrap();
    }
    fs::create_dir(path("folder")).unwrap();
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("loop", path("loop")).unwrap();

    let troubles = check(&root, names, &known);
    let expected = vec![
        (1, "vanished since the job listed it".to_string()),
        (2, "changed since the job listed it: size 10 -> 12".to_string()),
        (3, troubles.iter().find(|(at, _)| *at == 3).unwrap().1.to_string()),
        (4, "is a directory, not a file".to_string()),
        (5, "is a named pipe, not a regular file".to_string()),
        (6, "is a symbolic link that leads back to itself".to_string()),
    ];
    assert!(expected[2].1.starts_with("changed since the job listed it: modified 20"), "{}", expected[2].1);
    assert!(expected[2].1.ends_with("-> 2128-06-11T08:53:20Z"), "{}", expected[2].1);
    let found: Vec<_> = troubles.iter().map(|(at, trouble)| (*at, trouble.to_string())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_we_may_not_read_says_so() {
    let names: [&[u8]; 3] = [b"everyone", b"owner", b"nobody"];
    let (dir, _) = files(&names);
    let root = dir.path().join("data");
    for (name, mode) in [("everyone", 0o444), ("owner", 0o600), ("nobody", 0o000)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root_user = nix::unistd::geteuid().is_root();
    let troubles = std::thread::spawn(move || {
        if root_user {
            // Root may read everything: look as somebody else.
            // SAFETY: changes the effective user of this thread alone (the raw system call, unlike libc's function, does not
            // tell the other threads), and this thread ends with the closure.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, 65534, -1) }, 0);
        }
        check(&root, names, &[])
    })
    .join()
    .unwrap();
    let nobody = (2, Trouble::PermissionDenied);
    assert_eq!(troubles, if root_user { vec![(1, Trouble::PermissionDenied), nobody] } else { vec![nobody] });
}

#[test]
fn fingerprints_are_taken_once_and_in_any_order() {
    let names: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
    let (dir, reader) = files(&names);
    let items = dir.path().join("items");
    let prints = Fingerprints::create(&items, 5).unwrap();
    fs::remove_file(dir.path().join("data/d")).unwrap();
    prints.take(&reader, 3..5).unwrap();
    let known = prints.get(0..5).unwrap();
    assert_eq!(known[..4], [Fingerprint::NotTaken, Fingerprint::NotTaken, Fingerprint::NotTaken, Fingerprint::Unknown]);
    assert!(matches!(known[4], Fingerprint::File { size: 10, .. }));

    // A later start takes what is missing and keeps what it has, so that a change while the job was down is found out.
    drop(prints);
    fs::write(dir.path().join("data/e"), b"changed").unwrap();
    let prints = Fingerprints::create(&items, 5).unwrap();
    prints.take(&reader, 0..5).unwrap();
    let again = prints.get(0..5).unwrap();
    assert!(matches!(again[0], Fingerprint::File { .. }));
    assert_eq!(again[3..], known[3..]);
    let troubles = check(&dir.path().join("data"), names, &again);
    assert_eq!(troubles, [(3, Trouble::Vanished), (4, Trouble::SizeChanged { was: 10, is: 7 })]);
    assert!(matches!(prints.get(4..6), Err(ItemsError::Beyond { .. })));
}

#[test]
fn a_torn_fingerprint_is_taken_again() {
    let (dir, reader) = files(&[b"a", b"b"]);
    let items = dir.path().join("items");
    let prints = Fingerprints::create(&items, 2).unwrap();
    prints.take(&reader, 0..2).unwrap();
    File::options().write(true).open(items.join("fingerprints")).unwrap().set_len(21).unwrap();
    let known = prints.get(0..2).unwrap();
    assert!(matches!(known[..], [Fingerprint::File { .. }, Fingerprint::NotTaken]));
    prints.take(&reader, 0..2).unwrap();
    assert!(matches!(prints.get(1..2).unwrap()[..], [Fingerprint::File { size: 10, .. }]));
}

/// Not a test but a measurement: `cargo test --release -p fanfold-shared items -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure_reading() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ItemWriter::create(dir.path(), 0).unwrap();
    let count = 1_000_000u64;
    let start = std::time::Instant::now();
    for i in 0..count {
        writer.push(format!("folder/image-{i:08}.png").as_bytes()).unwrap();
    }
    let reader = writer.finish(split(Path::new("/data"), count)).unwrap();
    println!("write: {:?} for {count} items", start.elapsed());
    for per in [1, 10, 1000] {
        let start = std::time::Instant::now();
        for first in (0..count).step_by(per as usize) {
            std::hint::black_box(reader.read(first..first + per).unwrap());
        }
        println!("read {per} items a call: {:?} an item", start.elapsed() / count as u32);
    }
}
