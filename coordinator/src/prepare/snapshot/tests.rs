use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fanfold_shared::job::Input;
use fanfold_shared::report::Report;
use tempfile::TempDir;

use super::*;
use crate::prepare::tests::spec;

/// A source tree and a job.
const FIRST: ScriptNumber = ScriptNumber::FIRST;

struct Place {
    dir: TempDir,
    spec: JobSpec,
}

impl Place {
    /// Files with their names as content, in a whole source directory.
    fn with(names: &[&str]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("src");
        let spec = JobSpec { source_directory: source, whole_source_directory: true, ..spec() };
        let place = Place { dir, spec };
        names.iter().for_each(|name| place.write(name, name));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.spec.source_directory.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn job(&self) -> JobDir {
        JobDir::new(self.dir.path().join("job"))
    }

    fn take(&self) -> Result<Snapshot, SnapshotError> {
        take(&self.spec, &self.job(), FIRST, &[self.path("job")])
    }

    /// Takes a new snapshot; its files and links, and its hash.
    fn names(&self) -> (Vec<String>, String) {
        let _ = fs::remove_dir_all(self.job().root());
        let snapshot = self.take().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(preview(&self.spec, &[self.path("job")]).unwrap(), snapshot, "looking is like taking");
        let again = self.take().unwrap();
        assert_eq!((again.hash, again.files, again.bytes), (snapshot.hash.clone(), snapshot.files, snapshot.bytes));
        let entries = select::stored(&self.job().snapshot(FIRST)).unwrap();
        let files = entries.iter().filter(|entry| entry.kind != select::Kind::Folder);
        let names: Vec<_> = files.map(|entry| entry.name.to_str().unwrap().to_string()).collect();
        assert_eq!(names.len() as u64, snapshot.files);
        (names, snapshot.hash)
    }
}

#[test]
fn a_script_alone_brings_the_python_files_beside_it() {
    let mut place = Place::with(&[
        "score.py",
        "helper.py",
        "parallel_run_step.settings.json",
        "data.csv",
        "package/other.py",
        "folder.py/inner",
    ]);
    place.spec.whole_source_directory = false;
    place.write("parallel_run_step.settings.json", "{}");
    symlink("../elsewhere.py", place.path("linked.py")).unwrap();
    fs::write(place.dir.path().join("elsewhere.py"), "far").unwrap();
    let (names, _) = place.names();
    assert_eq!(names, ["helper.py", "linked.py", "parallel_run_step.settings.json", "score.py"]);
    assert_eq!(fs::read(place.job().snapshot(FIRST).join("linked.py")).unwrap(), b"far");
}

#[test]
fn a_source_directory_comes_whole_but_for_what_is_never_meant() {
    let mut place = Place::with(&[
        "score.py",
        ".env.example",
        "package/__init__.py",
        "package/__pycache__/x.pyc",
        ".git/config",
        "venv/pyvenv.cfg",
        "venv/lib/huge.py",
        "fanfold-jobs/score-1/job.yaml",
        "old-job/.fanfold/items/data",
        "job/output/rows.txt",
        "images/1.png",
        "labels.txt",
        "model/weights.bin",
        "table-1.csv",
        "table.json",
    ]);
    fs::create_dir(place.path("empty")).unwrap();
    symlink(place.path("images"), place.path("more-images")).unwrap();
    let text = |name: &str| place.path(name).to_str().unwrap().to_string();
    let input = |path: String| Input { name: "x".into(), path, dataset: None };
    place.spec.inputs = vec![input(text("images")), input(text("table-*.csv"))];
    place.spec.side_inputs.insert("labels".into(), place.path("labels.txt"));
    place.spec.models.insert("m".into(), place.path("model"));
    assert_eq!(place.names().0, [".env.example", "package/__init__.py", "score.py", "table.json"]);
    assert!(place.job().snapshot(FIRST).join("empty").is_dir());
}

#[test]
fn amlignore_replaces_gitignore() {
    let place = Place::with(&["score.py", "a.log", "b.tmp", "sub/c.log", "sub/keep.tmp"]);
    // The ignore files of folders above are not the source's.
    fs::write(place.dir.path().join(".gitignore"), "score.py\n").unwrap();
    place.write(".gitignore", "*.log\n");
    place.write("sub/.gitignore", "c.*\n");
    assert_eq!(place.names().0, [".gitignore", "b.tmp", "score.py", "sub/.gitignore", "sub/keep.tmp"]);
    place.write(".amlignore", "# comment\n*.tmp\n!sub/keep.tmp\n");
    let expected = [".amlignore", ".gitignore", "a.log", "score.py", "sub/.gitignore", "sub/c.log", "sub/keep.tmp"];
    assert_eq!(place.names().0, expected);
}

#[test]
fn links_within_stay_links_and_what_others_lead_to_is_copied() {
    let place = Place::with(&["score.py", "real/file", "sub/deep/x"]);
    let outside = place.dir.path().join("outside");
    fs::create_dir_all(outside.join("folder")).unwrap();
    fs::write(outside.join("folder/content"), "far away").unwrap();
    symlink("..", outside.join("folder/loop")).unwrap();
    symlink("nowhere", outside.join("folder/dangling")).unwrap();
    symlink("real/file", place.path("relative")).unwrap();
    symlink(place.path("real"), place.path("sub/deep/absolute")).unwrap();
    symlink("nowhere", place.path("dangling")).unwrap();
    symlink(outside.join("folder/content"), place.path("far-file")).unwrap();
    symlink(&outside, place.path("far-folder")).unwrap();
    nix::unistd::mkfifo(&place.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();

    let (names, _) = place.names();
    let expected = [
        "dangling",
        "far-file",
        "far-folder/folder/content",
        "real/file",
        "relative",
        "score.py",
        "sub/deep/absolute",
        "sub/deep/x",
    ];
    assert_eq!(names, expected);
    let snapshot = place.job().snapshot(FIRST);
    let link = |name: &str| fs::read_link(snapshot.join(name)).unwrap();
    assert_eq!(link("relative"), Path::new("real/file"));
    assert_eq!(link("sub/deep/absolute"), Path::new("../../real"));
    assert_eq!(link("dangling"), Path::new("nowhere"));
    assert!(!snapshot.join("far-file").is_symlink());
    assert_eq!(fs::read(snapshot.join("far-folder/folder/content")).unwrap(), b"far away");

    let notes = preview(&place.spec, &[]).unwrap().notes;
    for name in ["pipe", "far-folder/folder/loop", "far-folder/folder/dangling"] {
        assert!(notes.iter().any(|note| note.contains(&format!("`{name}`"))), "{name}: {notes:?}");
    }
}

#[test]
fn the_hash_tells_names_contents_and_executable_bits_apart() {
    let place = Place::with(&["score.py", "a", "b"]);
    let (_, first) = place.names();
    assert_eq!(place.names().1, first, "the same source");
    fs::create_dir(place.path("empty")).unwrap();
    assert_eq!(place.names().1, first, "an empty folder is no change");
    let mut seen = vec![first];
    let mut changed = |what: &str| {
        let (_, hash) = place.names();
        assert!(!seen.contains(&hash), "{what}");
        seen.push(hash);
    };
    place.write("a", "other");
    changed("content");
    fs::rename(place.path("a"), place.path("c")).unwrap();
    changed("name");
    fs::set_permissions(place.path("b"), fs::Permissions::from_mode(0o755)).unwrap();
    changed("executable");
    fs::remove_file(place.path("b")).unwrap();
    changed("removed");
    symlink("c", place.path("b")).unwrap();
    changed("link");
    let mode = |name: &str| fs::metadata(place.job().snapshot(FIRST).join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("score.py"), mode("c")), (0o444, 0o444));
}

#[test]
fn a_snapshot_that_is_there_is_kept_and_a_half_built_one_is_not() {
    let place = Place::with(&["score.py"]);
    let building = durable::building(&place.job().snapshot(FIRST));
    fs::create_dir_all(building.join("left-over")).unwrap();
    fs::write(building.join("score.py"), "half").unwrap();
    let first = place.take().unwrap();
    assert!(!building.exists());
    assert_eq!(fs::read(place.job().snapshot(FIRST).join("score.py")).unwrap(), b"score.py");
    assert!(!place.job().snapshot(FIRST).join("left-over").exists());

    place.write("score.py", "edited since");
    assert_eq!(place.take().unwrap(), first);
    assert_eq!(fs::read(place.job().snapshot(FIRST).join("score.py")).unwrap(), b"score.py");
    assert_ne!(preview(&place.spec, &[]).unwrap().hash, first.hash);
}

#[test]
fn a_script_that_is_not_in_it_is_refused_by_name() {
    let mut place = Place::with(&["score.py", "package/main.py"]);
    place.write(".amlignore", "score.py\n");
    let error = place.take().unwrap_err();
    assert!(matches!(error, SnapshotError::ScriptLeftOut { .. }), "{error}");
    assert!(error.to_string().starts_with("entry script `score.py` is left out of the snapshot of `"));
    assert!(error.hint().unwrap().contains(".amlignore"));
    assert!(!place.job().snapshot(FIRST).exists());

    place.spec.entry_script = "package.main".into();
    assert!(place.names().0.contains(&"package/main.py".to_string()));
    place.spec.entry_script = "nothing.py".into();
    fs::remove_dir_all(place.job().root()).unwrap();
    assert!(matches!(place.take(), Err(SnapshotError::ScriptMissing { .. })));
}

#[test]
fn too_large_a_source_is_refused_before_anything_is_copied() {
    let place = Place::with(&["score.py", "data/small"]);
    // Sparse: it takes no room here either.
    fs::File::create(place.path("data/huge.bin")).unwrap().set_len(size::MAX_BYTES).unwrap();
    let error = place.take().unwrap_err();
    assert!(error.to_string().contains("the largest: `data/huge.bin` (300.0 MB), `data/small` (1 KB)"), "{error}");
    assert!(!place.job().root().exists());
}
