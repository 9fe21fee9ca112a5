//! A job directory that somebody or something has damaged: the job is refused, and left as it is.

use std::fs;
use std::path::PathBuf;

use super::{completed, paused, place, refused, refused_with};
use crate::support::Place;

const AGAIN: [&str; 3] = ["job.yaml", "--job-dir", "job"];

fn internal(place: &Place, name: &str) -> PathBuf {
    place.job().join(".fanfold").join(name)
}

/// The ledger as one file: nothing waits in SQLite's log.
fn ledger(place: &Place) -> PathBuf {
    let path = internal(place, "ledger.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    drop(connection);
    for beside in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(internal(place, beside));
    }
    path
}

/// What the program says to a ledger with these bytes.
fn with_ledger(place: &Place, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let path = ledger(place);
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let said = refused_with(place, place.fanfold().arg("run").args(AGAIN), 2);
    assert!(fs::read(&path).unwrap() == bytes, "what can't be read is left as it is");
    for beside in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(internal(place, beside));
    }
    fs::write(&path, whole).unwrap();
    said
}

#[test]
fn a_damaged_ledger_is_refused() {
    let place = place();
    completed(&place);
    insta::assert_snapshot!(with_ledger(&place, |bytes| bytes.truncate(bytes.len() / 2)), @r#"
    error: ledger `job/.fanfold/ledger.sqlite` is damaged: SQLite can't follow its pages
      cause: database disk image is malformed
    hint: nothing was changed; bring the file back from a copy, or run the job again in another --job-dir (`fanfold doctor --verify` says what is wrong)
    "#);
    insta::assert_snapshot!(with_ledger(&place, |bytes| bytes.clear()), @r#"
    error: ledger `job/.fanfold/ledger.sqlite` is damaged: it is empty, or a database of another program
    hint: nothing was changed; bring the file back from a copy, or run the job again in another --job-dir (`fanfold doctor --verify` says what is wrong)
    "#);
    insta::assert_snapshot!(with_ledger(&place, |bytes| bytes.fill(b'x')), @r#"
    error: ledger `job/.fanfold/ledger.sqlite` is damaged: it is not a database
      cause: file is not a database
    hint: nothing was changed; bring the file back from a copy, or run the job again in another --job-dir (`fanfold doctor --verify` says what is wrong)
    "#);
    insta::assert_snapshot!(with_ledger(&place, |bytes| bytes[4096..].fill(0)), @r#"
    error: ledger `job/.fanfold/ledger.sqlite` is damaged: SQLite can't follow its pages
      cause: database disk image is malformed
    hint: nothing was changed; bring the file back from a copy, or run the job again in another --job-dir (`fanfold doctor --verify` says what is wrong)
    "#);
    // `PRAGMA user_version` lies at offset 60, big-endian.
    insta::assert_snapshot!(with_ledger(&place, |bytes| bytes[63] = 2), @r#"
    error: ledger `job/.fanfold/ledger.sqlite` has schema version 2, this program knows up to 1
    hint: use the version of fanfold that began the job, or a later one
    "#);
}

#[test]
fn an_output_that_changed_behind_the_ledger_is_refused() {
    let place = place();
    paused(&place);
    let output = place.job().join("output/parallel_run_step.txt.partial");
    let text = fs::read(&output).unwrap();
    fs::write(&output, &text[..text.len() - 9]).unwrap();
    let said = refused(&place, &AGAIN);
    let told = format!("has {} bytes, but the ledger proves {}\n", text.len() - 9, text.len());
    assert!(
        said.starts_with("error: output `job/output/parallel_run_step.txt.partial` has ") && said.contains(&told),
        "{said}"
    );

    let mut changed = text.clone();
    *changed.last_mut().unwrap() = b'!';
    fs::write(&output, &changed).unwrap();
    let said = refused(&place, &AGAIN);
    assert!(
        said.starts_with("error: output `job/output/parallel_run_step.txt.partial` was changed between bytes "),
        "{said}"
    );

    fs::remove_file(&output).unwrap();
    let said = refused(&place, &AGAIN);
    assert!(said.starts_with("error: output `job/output/parallel_run_step.txt.partial` "), "{said}");

    // What was appended was never proven: it is cut off.
    fs::write(&output, [&text[..], b"item-100\n"].concat()).unwrap();
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let rows = place.rows();
    assert_eq!(rows.len(), 20);
    assert!(!rows.contains(&"item-100".to_string()));
}

#[test]
fn a_damaged_record_of_the_job_is_refused() {
    let place = place();
    paused(&place);
    let path = internal(&place, "job.json");
    let text = fs::read_to_string(&path).unwrap();
    let within_a_word = text.find("process_count_per_node").unwrap() + 5;
    fs::write(&path, &text[..within_a_word]).unwrap();
    insta::assert_snapshot!(refused(&place, &AGAIN), @r#"
    error: `job/.fanfold/job.json` does not describe a job
      cause: EOF while parsing a string at line 47 column 10
    hint: nothing was changed; restore `job/.fanfold/job.json` from a copy, or run the job in a new directory
    "#);
    fs::write(&path, "").unwrap();
    insta::assert_snapshot!(refused(&place, &AGAIN), @r#"
    error: `job/.fanfold/job.json` does not describe a job
      cause: EOF while parsing a value at line 1 column 0
    hint: nothing was changed; restore `job/.fanfold/job.json` from a copy, or run the job in a new directory
    "#);
    fs::write(&path, text.replacen("\"version\": 1", "\"version\": 2", 1)).unwrap();
    insta::assert_snapshot!(refused(&place, &AGAIN), @r#"
    error: `job/.fanfold/job.json` was written by a later version of fanfold (format 2, this program knows 1)
    hint: continue this job with the newer fanfold
    "#);
}

#[test]
fn a_damaged_list_of_items_is_refused() {
    let place = place();
    paused(&place);
    for (name, damage) in [("data", true), ("index", true), ("manifest.json", true), ("data", false)] {
        let path = internal(&place, "items").join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        match damage {
            true => bytes[3] ^= 0x20,
            false => bytes.truncate(whole.len() / 2),
        }
        fs::write(&path, bytes).unwrap();
        let said = refused_with(&place, place.fanfold().arg("run").args(AGAIN), 2);
        let first = said.lines().next().unwrap();
        assert!(first.contains(&format!(".fanfold/items/{name}`")), "{said}");
        fs::write(&path, whole).unwrap();
    }
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(place.rows().len(), 20);
}
