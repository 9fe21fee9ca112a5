//! Whole jobs over tables.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::python;
use crate::support::{LIMIT, Place, assert_each_once, finish, wait_for};

/// Says of each row what it is.
pub const ROWS: &str =
    "def run(mini_batch):\n    return [f'{row.id}:{row.name}' for row in mini_batch.itertuples(index=False)]\n";

/// The job over `input`, an entry for the job file.
pub fn job(place: &Place, script: &str, input: &str, more: &str) {
    place.write("score.py", script);
    let python = python();
    let yaml = format!(
        "name: table\nentry_script: score.py\ninputs: {input}\nenvironment: {{python: {}}}\nprocess_count_per_node: 1\n{more}",
        python.display()
    );
    place.write("job.yaml", yaml);
}

/// Writes a table of so many rows; returns what [`ROWS`] says of them.
fn csv(place: &Place, name: &str, ids: std::ops::Range<usize>) -> Vec<String> {
    let rows: Vec<(usize, String)> =
        ids.map(|id| (id, if id % 3 == 0 { format!("x {id}, y") } else { format!("é{id}") })).collect();
    let text: String = rows.iter().map(|(id, name)| format!("{id},\"{name}\"\n")).collect();
    place.write(name, format!("id,name\n{text}"));
    rows.into_iter().map(|(id, name)| format!("{id}:{name}")).collect()
}

pub fn python_makes(place: &Place, script: &str) {
    let made = Command::new(python()).args(["-c", script]).current_dir(place.path("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn every_row_of_several_files_is_in_the_output_once() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let mut expected = csv(&place, "data/a.csv", 0..500);
    place.write("data/b.csv", "id,name\n");
    expected.extend(csv(&place, "data/c d.csv", 500..503));
    job(&place, ROWS, "[data]", "input_type: csv\nmini_batch_size: 1KB\n");
    let plan = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(plan.starts_with("table: 503 rows in "), "{plan}");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &expected);
    let counts = &place.status()["counts"];
    assert_eq!((counts["items"].as_u64(), counts["items_succeeded"].as_u64()), (Some(503), Some(503)));
    // Of a kilobyte, and the three rows of the last file by themselves.
    let mini_batches = counts["mini_batches"].as_u64().unwrap();
    assert!((8..=12).contains(&mini_batches), "{mini_batches}");
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn json_lines_parquet_and_files_compressed_as_a_whole_are_read_as_well() {
    if !crate::has_pandas() {
        return;
    }
    for (kind, files, make) in [
        ("jsonl", "t.jsonl", "frame.to_json('t.jsonl', orient='records', lines=True)"),
        ("parquet", "t.parquet", "frame.to_parquet('t.parquet', row_group_size=7)"),
        ("csv", "t.csv.gz", "frame.to_csv('t.csv.gz', index=False)"),
        ("tsv", "t.zst", "frame.to_csv('t.zst', index=False, sep='\\t', compression='zstd')"),
        ("jsonl", "t.gz", "frame.to_json('t.gz', orient='records', lines=True, compression='gzip')"),
    ] {
        let place = Place::new();
        let frame =
            "import pandas\nframe = pandas.DataFrame({'id': range(100), 'name': [f'n{i}' for i in range(100)]})\n";
        python_makes(&place, &format!("{frame}{make}"));
        job(&place, ROWS, &format!("[{files}]"), &format!("input_type: {kind}\nmini_batch_size: 10rows\n"));
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        let expected: Vec<String> = (0..100).map(|id| format!("{id}:n{id}")).collect();
        assert_each_once(&place.rows(), &expected);
        let mini_batches = place.status()["counts"]["mini_batches"].as_u64().unwrap();
        // Row groups of 7 are not put together beyond 10 rows; only the last one, of 2, fits to another.
        let planned = if kind == "parquet" {
            14
        } else if files.ends_with('l') {
            10
        } else {
            1
        };
        assert_eq!(mini_batches, planned, "{files}");
    }
}

#[test]
fn frames_of_zstd_one_behind_the_other_are_one_file() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected = csv(&place, "t.csv", 0..40);
    let pack = "import zstandard as z\nt = open('t.csv', 'rb').read()\nopen('t.zst', 'wb').write(z.compress(t[:301]) + z.compress(t[301:]))\n";
    python_makes(&place, pack);
    job(&place, ROWS, "[t.zst]", "input_type: csv\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &expected);
}

#[test]
fn a_frame_goes_in_and_a_frame_comes_out() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("t.csv", "id;weight\n1;0,5\n2;1,5\n007;2\n");
    let script = "def run(mini_batch, context):\n    assert context.dataset.to_path()[0].endswith('t.csv')\n    \
                  return mini_batch.assign(kind=str(mini_batch.id.dtype))\n";
    let more = "input_type: csv\nread_csv: {sep: ';', dtype: {id: object}}\nappend_row_dataframe_header: true\n";
    job(&place, script, "[t.csv]", more);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_eq!(place.rows(), ["id weight kind", "1 0,5 object", "2 1,5 object", "007 2 object"]);
}

#[test]
fn under_a_header_line_columns_are_in_their_places() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    for (name, text) in [("a", "k,v\na1,1\na2,2\n"), ("b", "v,k\n3,b1\n4,b2\n"), ("c", "k,w\nc1,5\n")] {
        place.write(format!("data/{name}.csv"), text);
    }
    let more = "input_type: csv\nappend_row_dataframe_header: true\nmini_batch_size: 1rows\n";
    job(&place, "def run(mini_batch):\n    return mini_batch\n", "[data]", more);
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_eq!(place.rows(), ["k v", "a1 1", "a2 2", "b1 3", "b2 4"]);
    let told = "run() returned a DataFrame with the columns `k`, `w`, and one with `k`, `v` before";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert_eq!(place.errors()[0]["kind"], "bad_return");
}

#[test]
fn failures_count_rows_and_name_them() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    csv(&place, "t.csv", 0..30);
    let script = "def run(mini_batch):\n    if (mini_batch.id == 17).any():\n        raise ValueError('bad row')\n    return mini_batch.name.tolist()\n";
    job(&place, script, "[t.csv]", "input_type: csv\nmini_batch_size: 10rows\nerror_threshold: 9\nrun_max_try: 1\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ran.stderr.contains("10 failed items exceed error_threshold 9"), "{}", ran.stderr);
    let error = &place.errors()[0];
    assert_eq!((error["kind"].as_str(), error["item_count"].as_u64()), (Some("exception"), Some(10)));
    let first = error["items"][0].as_str().unwrap();
    assert!(first.ends_with("/t.csv, row 11"), "{first}");
}

#[test]
fn a_table_that_changed_or_vanished_fails_its_rows_and_says_so() {
    if !crate::has_pandas() {
        return;
    }
    for (change, says) in [
        ("os.remove('gone.csv')", "vanished since the job listed it"),
        ("open('gone.csv', 'a').write('9,more\\n')", "changed since the job listed it: size"),
    ] {
        let place = Place::new();
        // What is handed over ahead is less than what runs before it.
        let expected = csv(&place, "first.csv", 0..12);
        csv(&place, "gone.csv", 12..15);
        let dir = place.path("").display().to_string();
        let script = format!(
            "import os, time\n\ndef run(mini_batch):\n    time.sleep(0.05)\n    os.chdir('{dir}')\n    if mini_batch.id[0] == 0:\n        {change}\n    return [f'{{row.id}}:{{row.name}}' for row in mini_batch.itertuples(index=False)]\n"
        );
        job(&place, &script, "[first.csv, gone.csv]", "input_type: csv\nmini_batch_size: 3rows\nrun_max_try: 2\n");
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "process_count_per_node=1"]).expect(5);
        assert!(ran.stderr.contains("gone.csv"), "{}", ran.stderr);
        let error = &place.errors()[0];
        assert_eq!((error["kind"].as_str(), error["item_count"].as_u64()), (Some("input"), Some(3)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        assert_each_once(&place.rows(), &expected);
    }
}

#[test]
fn a_row_that_pandas_can_t_parse_is_told_with_file_and_rows() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("t.csv", "a,b\n1,2\n3,4\n5,6\n7,8,9,10\n");
    job(
        &place,
        "def run(mini_batch):\n    return mini_batch.a.tolist()\n",
        "[t.csv]",
        "input_type: csv\nmini_batch_size: 2rows\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let error = &place.errors()[0];
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("/t.csv`, row 4: ") && message.contains("Expected 2 fields"), "{message}");
    assert_eq!(place.rows(), ["1", "3"]);
}

#[test]
fn a_job_that_is_killed_again_and_again_has_every_row_once() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected = csv(&place, "t.csv", 0..3000);
    let script = format!("import time\n{}", ROWS.replace("    return", "    time.sleep(0.01)\n    return"));
    job(&place, &script, "[t.csv]", "input_type: csv\nmini_batch_size: 100\n");
    let yaml = std::fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", yaml.replace("process_count_per_node: 1", "process_count_per_node: 2"));
    for round in 1..=4 {
        let mut child = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
        let committed = |least: u64| {
            let status = std::fs::read(place.job().join("status.json")).ok()?;
            let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
            (status["counts"]["mini_batches_succeeded"].as_u64()? >= least).then_some(())
        };
        wait_for("some of it", || committed(round * 40));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
    finish(place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap(), LIMIT).expect(0);
    assert_each_once(&place.rows(), &expected);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}
