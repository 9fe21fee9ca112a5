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
    assert_eq!(place.run(&["plan", "job.yaml"]).expect(2).stderr, ran.stderr, "looking is like running");
    let told = ran.stderr.replace(place.path("").to_str().unwrap(), "/place/");
    // The program shows it without the `..` in its path.
    let bin = python().parent().expect("a folder").canonicalize().expect("it is there");
    told.replace(bin.join("python").to_str().unwrap(), "<python>")
}

#[test]
fn files_that_are_no_tables_of_that_kind() {
    if !crate::has_pandas() {
        return;
    }
    let cases: [(&[u8], &str); 9] = [
        (b"a,b\n1,\"x\ny,z\n", "csv"),
        (b"a,b\n", "csv"),
        (b"\xff\xfea\0,\0", "csv"),
        (b"\xff\xfe\0\0a\0\0\0,\0\0\0", "csv"),
        (b"\0\0\xfe\xff\0\0\0a\0\0\0,", "jsonl"),
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
        "input_type: csv\nmini_batch_size: 1.5MB",
        "input_type: csv\nmini_batch_size: 0.3KB",
        "input_type: csv\nmini_batch_size: 2.5",
        "input_type: files\nmini_batch_size: 2.5",
        "input_type: jsonl\nmini_batch_size: 5GB",
        "input_type: mltable",
        "input_type: ndjson",
    ];
    insta::assert_snapshot!(cases.map(|more| refused(b"a\n1\n", more)).join("\n"));
}

#[test]
fn what_a_job_file_says_of_encodings_types_and_columns() {
    if !crate::has_pandas() {
        return;
    }
    let cases = [
        "encoding: utf8x",
        "encoding: klingon",
        "encoding: cp037",
        "dtype: strng",
        "dtype: {id: Int46, name: text, zip: 'datetime64[ns]'}",
        "dtype: {id: banana}",
        "dtype: {zpi: str}",
        "dtype: {weight: str}",
    ];
    let told =
        cases.map(|more| refused(b"id,name,zip\n1,a,00123\n", &format!("input_type: csv\nread_csv: {{{more}}}")));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn types_of_columns_that_only_some_files_have_are_taken() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/a.csv", "id,name\n1,a\n");
    place.write("data/b.csv", "id,zip,zip,\n2,00123,1,x\n");
    let script =
        "def run(mini_batch):\n    return [' '.join(map(str, row)) for row in mini_batch.itertuples(index=False)]\n";
    let dtype = "{zip: str, zip.1: float, 'Unnamed: 3': category, name: str}";
    job(&place, script, "[data]", &format!("input_type: csv\nread_csv: {{dtype: {dtype}}}\n"));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    crate::support::assert_each_once(&place.rows(), &["1 a", "2 00123 1.0 x"].map(String::from));
    // One that none has.
    let told = place.run(&["plan", "job.yaml", "--set", "read_csv={dtype: {zip: str, zip.x: str}}"]).expect(2).stderr;
    assert!(told.contains("names a column `zip.x`, and no file has one of that name"), "{told}");
}

#[test]
fn settings_of_the_script_that_can_not_be_read() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("t.csv", "id,name\n1,a\n");
    job(&place, ROWS, "[t.csv]", "input_type: csv\n");
    let told = ["{", "[]", "{\"append_row\": {\"pandas.DataFrame.to_csv\": 7}}"].map(|text| {
        place.write("parallel_run_step.settings.json", text);
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
        assert!(!place.job().exists(), "nothing is left of it");
        assert_eq!(place.run(&["plan", "job.yaml"]).expect(2).stderr, ran.stderr, "looking is like running");
        ran.stderr.replace(place.path("").to_str().unwrap(), "/place/")
    });
    insta::assert_snapshot!(told.join("\n"));
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
