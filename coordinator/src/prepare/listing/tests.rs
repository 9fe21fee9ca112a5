use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use fanfold_shared::report::{ExitCode, Failure, Report};
use tempfile::TempDir;

use super::*;
use crate::prepare::tests::spec;

/// A folder to list and one to list into.
struct Place {
    dir: TempDir,
}

impl Place {
    /// With empty files of these names.
    fn with(names: &[&[u8]]) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("data")).unwrap();
        names.iter().for_each(|name| place.write(name, b""));
        place
    }

    fn write(&self, name: &[u8], content: &[u8]) {
        let path = self.path("data").join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, kind: InputType, inputs: &[&str]) -> JobSpec {
        let inputs = inputs.iter().enumerate().map(|(at, path)| Input {
            name: format!("input{at}"),
            path: format!("{}/{path}", self.dir.path().display()),
            dataset: None,
        });
        JobSpec { inputs: inputs.collect(), input_type: kind, mini_batch_size: MiniBatchSize::Items(2), ..spec() }
    }

    fn list(&self, kind: InputType, inputs: &[&str]) -> Result<Listed, ListError> {
        let items = self.path("items");
        let _ = fs::remove_dir_all(&items);
        let spec = self.spec(kind, inputs);
        let outcome = list(&spec, &items, &[self.path("data/own")], Grace::Endless, &|| Ok(()));
        assert_eq!(outcome.is_ok(), is_listed(&items));
        match (&outcome, count(&spec, &[self.path("data/own")], &|| Ok(()))) {
            (Ok(listed), Ok(counted)) => {
                assert_eq!((listed.items.split(), &listed.notes), (&counted.split, &counted.notes));
            }
            (Err(error), Err(same)) => assert_eq!(error.to_string(), same.to_string()),
            (one, other) => panic!("list and count disagree: {one:?} and {other:?}"),
        }
        outcome
    }

    /// The items, as they are stored.
    fn items(&self, kind: InputType, inputs: &[&str]) -> Vec<Vec<u8>> {
        let listed = self.list(kind, inputs).unwrap_or_else(|error| panic!("{}", Failure::from(error)));
        let mut items = Vec::new();
        listed.items.for_each(0..listed.items.entries(), |_, item| items.push(item.to_vec())).unwrap();
        items
    }

    /// What the user reads, with the test's folder called `/t`, and the hint.
    fn refusal(&self, kind: InputType, inputs: &[&str]) -> (String, String) {
        let error = self.list(kind, inputs).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
        let anonymous = |text: String| text.replace(self.dir.path().to_str().unwrap(), "/t");
        (anonymous(error.to_string()), anonymous(error.hint().unwrap_or_default()))
    }
}

const FILES: InputType = InputType::Files;
const LINES: InputType = InputType::Lines;

#[test]
fn a_folder_gives_all_its_files_in_bytewise_order() {
    let names: [&[u8]; 9] =
        [b"z", b"a b.png", b"sub/x", b"sub.txt", b"line\nbreak", b"\xff\xfe", b".hidden", b"sub/deep/er/y", b"B"];
    let place = Place::with(&names);
    fs::create_dir(place.path("data/empty")).unwrap();
    let expected: BTreeSet<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    assert_eq!(place.items(FILES, &["data"]), expected.iter().cloned().collect::<Vec<_>>());

    let listed = place.list(FILES, &["data/./"]).unwrap();
    assert_eq!(listed.items.split().inputs[0].root, place.path("data").to_str().unwrap());
    assert!(listed.items.paths(0..9).unwrap().iter().all(|path| path.is_file()));
    assert_eq!(listed.notes, [""; 0]);
}

#[test]
fn each_input_is_split_on_its_own() {
    let place = Place::with(&[b"a/1", b"a/2", b"a/3", b"b/1.png", b"b/2.txt", b"c"]);
    let listed = place.list(FILES, &["data/a", "data/b/*.png", "data/c"]).unwrap();
    let split = listed.items.split();
    let inputs: Vec<_> = split.inputs.iter().map(|input| (&input.name[..], input.items.clone())).collect();
    assert_eq!(inputs, [("input0", 0..3), ("input1", 3..4), ("input2", 4..5)]);
    assert_eq!(split.mini_batches(), 4);
    assert_eq!(listed.items.paths(2..5).unwrap(), ["a/3", "b/1.png", "c"].map(|name| place.path("data").join(name)));
}

#[test]
fn a_pattern_gives_the_files_that_match() {
    let place = Place::with(&[b"1.png", b"2.PNG", b"x/3.png", b"x/y/4.png", b"x/y/5.jpg", b"[ab].png", b"a.png"]);
    let names = |pattern| -> Vec<String> {
        let items = place.items(FILES, &[pattern]);
        items.into_iter().map(|item| String::from_utf8(item).unwrap()).collect()
    };
    assert_eq!(names("data/*.png"), ["1.png", "[ab].png", "a.png"]);
    assert_eq!(names("data/**/*.png"), ["1.png", "[ab].png", "a.png", "x/3.png", "x/y/4.png"]);
    assert_eq!(names("data/x/**/*.{png,jpg}"), ["3.png", "y/4.png", "y/5.jpg"]);
    assert_eq!(names("data/?/*"), ["x/3.png"]);
    // A path that exists is what it says; else `[ab]` is a wildcard.
    assert_eq!(names("data/[ab].png"), ["[ab].png"]);
    fs::remove_file(place.path("data/[ab].png")).unwrap();
    assert_eq!(names("data/[ab].png"), ["a.png"]);
}

#[test]
fn links_are_followed_and_loops_and_special_files_are_left_out_with_a_note() {
    let place = Place::with(&[b"folder/file"]);
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::write(place.path("elsewhere/far"), b"").unwrap();
    let data = place.path("data");
    symlink("folder/file", data.join("to-file")).unwrap();
    symlink(place.path("elsewhere"), data.join("to-folder")).unwrap();
    symlink("nowhere", data.join("dangling")).unwrap();
    symlink("self", data.join("self")).unwrap();
    symlink("..", data.join("folder/up")).unwrap();
    nix::unistd::mkfifo(&data.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();

    let items = place.items(FILES, &["data"]);
    assert_eq!(items, [&b"dangling"[..], b"folder/file", b"self", b"to-file", b"to-folder/far"]);
    let notes = place.list(FILES, &["data"]).unwrap().notes.join("\n");
    assert!(notes.contains("left out 1 pipes, sockets or devices") && notes.contains("data/pipe`"), "{notes}");
    assert!(notes.contains("left out 1 symbolic links") && notes.contains("data/folder/up`"), "{notes}");
    assert_eq!(place.refusal(FILES, &["data/pipe"]).0, "input `input0`: `/t/data/pipe` is neither a file nor a folder");
}

#[test]
fn directories_of_the_job_are_left_out_however_they_are_spelt() {
    let place = Place::with(&[b"file", b"own/result.txt", b"own/deep/log"]);
    symlink("own", place.path("data/alias")).unwrap();
    assert_eq!(place.items(FILES, &["data"]), [b"file"]);
    let notes = place.list(FILES, &["data/**"]).unwrap().notes;
    assert!(notes[0].contains("left out 2 directories of the job itself"), "{notes:?}");
    assert_eq!(place.refusal(FILES, &["data/own"]).0, "input `input0`: `/t/data/own` is a directory of the job itself");
    // A pattern chooses: there nothing is taken by accident.
    assert_eq!(place.items(FILES, &["data/own/*.txt"]), [b"result.txt"]);
    fs::remove_file(place.path("data/file")).unwrap();
    assert_eq!(
        place.refusal(FILES, &["data"]).0,
        "input `input0` is empty: the folder `/t/data` is there, but holds no files; directories of the job itself are left out"
    );

    let job = JobDir::new("/proj/fanfold-jobs/score-12345678");
    let own = own_directories(&job, Path::new("/proj/results"));
    for dir in ["/proj/fanfold-jobs", "/proj/fanfold-jobs/score-12345678", "/proj/results"] {
        assert!(own.contains(&PathBuf::from(dir)), "{own:?}");
    }
}

#[test]
fn an_empty_input_says_what_was_looked_at_and_what_might_be_meant() {
    let place = Place::with(&[b"IMG.PNG", b"x/deep.jpg", b"2024-01/raw.tif"]);
    fs::create_dir_all(place.path("data/empty/sub")).unwrap();
    let table = [
        (
            "data/empty",
            "input `input0` is empty: the folder `/t/data/empty` is there, but neither it nor the 1 folder in it hold files",
            "put files there, or give another path",
        ),
        (
            "data/empty/*.png",
            "input `input0` is empty: `/t/data/empty/*.png` matches no file; the folder `/t/data/empty` is there, but holds no files",
            "put files there, or give another path",
        ),
        (
            "data/*.png",
            "input `input0` is empty: `/t/data/*.png` matches no file; the folder `/t/data` holds 3 files, none of which match",
            "upper and lower case differ: `IMG.PNG` is there",
        ),
        (
            "data/*.jpg",
            "input `input0` is empty: `/t/data/*.jpg` matches no file; the folder `/t/data` holds 3 files, none of which match",
            "files further down match: write `/t/data/**/*.jpg`",
        ),
        (
            "data/*.gif",
            "input `input0` is empty: `/t/data/*.gif` matches no file; the folder `/t/data` holds 3 files, none of which match",
            "for example `2024-01/raw.tif` is there",
        ),
        (
            "data/2024-*",
            "input `input0` is empty: `/t/data/2024-*` matches no file; the folder `/t/data` holds 3 files, none of which match",
            "it matches folders: write `/t/data/2024-*/**` for the files in them",
        ),
        (
            "data/Empty/x",
            "input `input0`: `/t/data/Empty/x` does not exist",
            "the folder `/t/data` has no `Empty`, but `empty`",
        ),
        ("dat/*.png", "input `input0`: `/t/dat` does not exist", "the folder `/t` has no `dat`, but `data`"),
        ("qq/*.png", "input `input0`: `/t/qq` does not exist", "the folder `/t` is there, but has no `qq`"),
    ];
    for (input, error, hint) in table {
        assert_eq!(place.refusal(FILES, &[input]), (error.to_string(), hint.to_string()), "for `{input}`");
    }
    let (error, hint) = place.refusal(FILES, &["data/[z-a"]);
    assert_eq!(error, "input `input0`: `/t/data/[z-a` is not a valid pattern");
    assert!(hint.contains("`**/`"));
}

#[test]
fn list_files_give_their_lines_in_order() {
    let place = Place::with(&[]);
    place.write(b"b.txt", b"s3://x/2\r\n\nlast");
    place.write(b"a.txt", b"s3://x/9\ns3://x/1\n");
    assert_eq!(place.items(LINES, &["data/b.txt"]), [&b"s3://x/2"[..], b"last"]);
    let all = [&b"s3://x/9"[..], b"s3://x/1", b"s3://x/2", b"last"];
    assert_eq!(place.items(LINES, &["data"]), all);
    assert_eq!(place.items(LINES, &["data/*.txt"]), all);
    let listed = place.list(LINES, &["data/a.txt", "data/b.txt"]).unwrap();
    assert_eq!(listed.items.split().mini_batches(), 2);
    assert_eq!((listed.items.split().inputs[1].root.as_str(), listed.items.separator()), ("", b'\n'));

    place.write(b"blank", b"\n\n \n");
    assert_eq!(
        place.refusal(LINES, &["data/blank"]).0,
        "input `input0` is empty: `/t/data/blank` has only blank lines"
    );
    let blank = place.refusal(LINES, &["data/bl*"]).0;
    assert_eq!(blank, "input `input0` is empty: its 1 list files under `/t/data` have only blank lines");
    symlink("nowhere", place.path("data/dangling")).unwrap();
    assert_eq!(place.refusal(LINES, &["data"]).0, "input `input0` can't be read");
}

#[test]
fn spilling_does_not_change_the_list() {
    let names: Vec<String> = (0..300).map(|i| format!("{}/file {}", i % 7, (i * 7919) % 1000)).collect();
    let borrowed: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let place = Place::with(&borrowed);
    let expected = place.items(FILES, &["data"]);
    let spilled =
        list_in_runs(&place.spec(FILES, &["data"]), &place.path("spilled"), &[], Grace::Endless, &|| Ok(()), 500)
            .unwrap()
            .items;
    assert_eq!(
        spilled.read(0..300).unwrap(),
        expected.iter().flat_map(|name| [name, &b"\0"[..]].concat()).collect::<Vec<_>>()
    );
    let mut left: Vec<_> =
        fs::read_dir(place.path("spilled")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["data", "index", "manifest.json"]);
}

#[test]
fn stopping_leaves_nothing_complete_and_the_next_start_lists_anew() {
    let names: Vec<String> = (0..3000).map(|i| format!("{i}")).collect();
    let borrowed: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let place = Place::with(&borrowed);
    let (spec, items) = (place.spec(FILES, &["data"]), place.path("items"));
    let asked = Cell::new(0);
    let third_time = || {
        asked.set(asked.get() + 1);
        ListError::canceled_if(asked.get() == 3)
    };
    assert!(matches!(list(&spec, &items, &[], Grace::Endless, &third_time), Err(ListError::Canceled)));
    assert!(!is_listed(&items));
    assert_eq!(list(&spec, &items, &[], Grace::Endless, &|| Ok(())).unwrap().items.entries(), 3000);

    // Once complete, the list is what it is.
    place.write(b"one more", b"");
    assert_eq!(list(&spec, &items, &[], Grace::Endless, &|| Ok(())).unwrap().items.entries(), 3000);
    assert_eq!(count(&spec, &[], &|| Ok(())).unwrap().split.items(), 3001);
}

/// Not a test but a measurement: `cargo test --release -p fanfold measure_listing -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure_listing() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    fs::create_dir(place.path("data")).unwrap();
    let files = 1_000_000u64;
    for i in 0..files {
        fs::File::create(place.path("data").join(format!("image-{:09}.png", (i * 7919) % 1_000_003))).unwrap();
    }
    for input in ["data", "data/*.png", "data/**/*.png"] {
        let spec = place.spec(FILES, &[input]);
        for round in 0..2 {
            let start = Instant::now();
            let counted = count(&spec, &[], &|| Ok(())).unwrap();
            println!("{input}: counted {} in {:?}", counted.split.items(), start.elapsed());
            let items = place.path(&format!("items{round}"));
            let _ = fs::remove_dir_all(&items);
            let start = Instant::now();
            let listed = list(&spec, &items, &[], Grace::Endless, &|| Ok(())).unwrap();
            assert_eq!(listed.items.entries(), files);
            println!("{input}: listed {} in {:?}", listed.items.entries(), start.elapsed());
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
    let items = ItemReader::open(&place.path("items0")).unwrap();
    let prints = fanfold_shared::items::Fingerprints::create(&place.path("items0"), items.entries()).unwrap();
    let start = Instant::now();
    prints.take(&items, 0..items.entries()).unwrap();
    println!("fingerprints taken in {:?}", start.elapsed());
    let known = prints.get(0..items.entries()).unwrap();
    let names = items.read(0..items.entries()).unwrap();
    let start = Instant::now();
    let troubles =
        fanfold_shared::items::check(&place.path("data"), names.split(|b| *b == 0).take(known.len()), &known);
    println!("checked in {:?}, {} troubles", start.elapsed(), troubles.len());
}
