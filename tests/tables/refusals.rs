//! What can't be a table is refused before anything runs, with its place and a way out.

use crate::jobs::{ROWS, job};
use crate::python;
use crate::support::Place;

fn refused(content: &[u8], more: &str) -> String {
    let place = Place::new();
    place.write("t", content);
    place.write("score.py", "def run(mini_batch):\n    return mini_batch\n");
    let yaml = format!(
        "name: table\nentry_script: score.py\ninputs: [t]\n{more}\nenvironment: {{python: {}}}\n",
        python().display()
    );
    place.write("job.yaml", yaml);
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
    assert!(!place.job().exists(), "nothing is left of it");
    ran.stderr.replace(place.path("").to_str().unwrap(), "/place/")
}

#[test]
fn files_that_are_no_tables_of_that_kind() {
    if !crate::has_pandas() {
        return;
    }
    let cases: [(&[u8], &str); 7] = [
        (b"a,b\n1,\"x\ny,z\n", "csv"),
        (b"a,b\n", "csv"),
        (b"\xff\xfea\0,\0", "csv"),
        (b"PK\x03\x04....", "csv"),
        (b"PAR1....", "csv"),
        (b"a,b\n1,2\n", "parquet"),
        (b"", "jsonl"),
    ];
    let told = cases.map(|(content, kind)| refused(content, &format!("input_type: {kind}")));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_a_job_file_says_of_tables() {
    if !crate::has_pandas() {
        return;
    }
    let cases = [
        "input_type: csv\nread_csv: {seperator: ';', sep: ab, encoding: utf-16, header: 3, chunksize: 5}",
        "input_type: csv\nread_csv: {sep: '\"', dtype: [str]}",
        "input_type: parquet\nread_csv: {sep: ';'}",
        "input_type: files\nmini_batch_size: 1MB",
        "input_type: csv\nmini_batch_size: 0",
        "input_type: jsonl\nmini_batch_size: 5GB",
        "input_type: mltable",
        "input_type: ndjson",
    ];
    insta::assert_snapshot!(cases.map(|more| refused(b"a\n1\n", more)).join("\n"));
}

#[test]
fn a_python_without_pandas_is_told_what_to_do() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("t.csv", "a\n1\n");
    place.write("score.py", "def run(mini_batch):\n    return mini_batch\n");
    let bare = python();
    let yaml = format!(
        "name: table\nentry_script: score.py\ninputs: [t.csv]\ninput_type: csv\nenvironment: {{python: {}}}\nenvironment_variables: {{PYTHONNOUSERSITE: '1', PYTHONPATH: {}}}\n",
        bare.display(),
        place.path("shadow").display()
    );
    place.write("shadow/pandas.py", "raise ImportError('there is no pandas here')\n");
    place.write("job.yaml", yaml);
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(
        ran.stderr.contains("pandas can't be imported by ") && ran.stderr.contains("requirements: [pandas]"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_footer_with_more_elements_than_bytes_is_refused_at_once() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    // A list of two billion booleans, through which a library would count.
    let footer = [0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
    let file = [b"PAR1", &footer[..], &8u32.to_le_bytes(), b"PAR1"].concat();
    place.write("t.parquet", file);
    for more in ["", "partition_keys: [a]\n"] {
        job(&place, ROWS, "[t.parquet]", &format!("input_type: parquet\n{more}"));
        let told = place.run(&["plan", "job.yaml"]).expect(2).stderr;
        assert!(told.contains("a list of 2147483647 elements where 1 bytes are left"), "{told}");
    }
}
