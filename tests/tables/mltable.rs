//! `input_type: mltable`: what an `MLTable` says comes true in the frames of whole jobs.

use std::fs;

use crate::jobs::python_makes;
use crate::python;
use crate::support::{Place, assert_each_once};

/// Says of a frame what its columns are, of each row what is in it, and of each mini-batch what it is of.
const TELLS: &str = "def run(mini_batch, context):\n    \
    key = context.partition_key_value or ''\n    \
    head = ','.join(f'{name}' for name in mini_batch.columns)\n    \
    return [f'{key}{head}|' + ','.join(map(repr, row)) for row in mini_batch.astype(object).itertuples(index=False, name=None)]\n";

/// The job over the folder `data`.
fn job(place: &Place, mltable: &str, more: &str) {
    place.write("data/MLTable", mltable);
    place.write("score.py", TELLS);
    let python = python();
    let yaml = format!(
        "name: table\nentry_script: score.py\ninputs: [data]\ninput_type: mltable\nenvironment: {{python: {}}}\n\
         process_count_per_node: 1\n{more}\n",
        python.display()
    );
    place.write("job.yaml", yaml);
}

/// Runs it, and returns its rows without the place.
fn rows(place: &Place) -> Vec<String> {
    let plan = place.run(&["plan", "job.yaml", "--json"]).expect(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let counts = &place.status()["counts"];
    assert_eq!((&plan["items"], &plan["mini_batches"]), (&counts["items"], &counts["mini_batches"]));
    let root = place.path("").display().to_string();
    place.rows().into_iter().map(|row| row.replace(&root, "/")).collect()
}

fn expect(place: &Place, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|row| row.to_string()).collect();
    assert_each_once(&rows(place), &expected);
}

#[test]
fn delimited_files_are_read_as_it_says() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/one.csv", "a;b;c\n1;NA;\n2;\"y\nz\";7.5\n");
    place.write("data/sub/two.csv", "a;b;c\n3;;8\n");
    let table = "type: mltable\n$schema: https://example.org/MLTable.json\nmetadata: {owner: ann}\ntraits: {timestamp_column: t}\npaths:\n  \
                 - file: ./one.csv\n  - folder: sub\ntransformations:\n  - read_delimited:\n      delimiter: ';'\n      \
                 support_multi_line: true\n      include_path_column: true\n      partition_size: 1000\n  - drop_columns: a\n";
    job(&place, table, "mini_batch_size: 1rows");
    // `NA` is a text there, and only an empty field is missing.
    expect(
        &place,
        &[
            "Path,b,c|'/data/one.csv','NA',nan",
            "Path,b,c|'/data/one.csv','y\\nz',7.5",
            "Path,b,c|'/data/sub/two.csv',nan,8",
        ],
    );
    let resolved = fs::read_to_string(place.job().join("job.yaml")).unwrap();
    for told in ["input_type: csv", "input0-1:", "input0-2:", "- path\n", "drop:"] {
        assert!(resolved.contains(told), "{told}: {resolved}");
    }
}

#[test]
fn text_may_be_empty_and_types_may_be_fixed() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/a.csv", "n,zip,s\n1,007,\n,008,x\n");
    let table = "paths: [{pattern: ./*.csv}]\ntransformations:\n  - read_delimited:\n      empty_as_string: true\n      \
                 infer_column_types: {sample_size: 5, column_type_overrides: [{columns: [zip], column_type: string}]}\n  \
                 - keep_columns: [s, zip, n, more]\n";
    job(&place, table, "");
    // In the order of the file. A number has no empty text.
    expect(&place, &["n,zip,s|1.0,'007',''", "n,zip,s|nan,'008','x'"]);

    let place = Place::new();
    place.write("data/a.csv", "1,x\n2,\n");
    job(
        &place,
        "paths: [{file: a.csv}]\ntransformations:\n  - read_delimited: {header: no_header, infer_column_types: false}\n",
        "",
    );
    expect(&place, &["Column1,Column2|'1','x'", "Column1,Column2|'2',nan"]);
}

#[test]
fn only_the_first_file_may_have_the_header() {
    if !crate::has_pandas() {
        return;
    }
    for compressed in [false, true] {
        let place = Place::new();
        let many: String = (10..60).map(|n| format!("{n},\"v\n{n}\"\n")).collect();
        place.write("data/1.csv", "a,\"b,c\"\n1,x\n2,y\n");
        place.write("data/2.csv", format!("\u{feff}{many}"));
        place.write("data/3.csv", "3,z\n");
        if compressed {
            let root = place.path("data").display().to_string();
            let pack = "import gzip\nfor n in '13':\n    t = open(f'ROOT/{n}.csv', 'rb').read()\n    open(f'ROOT/{n}.csv', 'wb').write(gzip.compress(t))\n";
            python_makes(&place, &pack.replace("ROOT", &root));
        }
        let table = "paths: [{pattern: ./*.csv}]\ntransformations:\n  - read_delimited: {header: from_first_file}\n";
        job(&place, table, "mini_batch_size: 7rows");
        let mut expected: Vec<String> = (10..60).map(|n| format!("a,b,c|{n},'v\\n{n}'")).collect();
        expected.extend(["a,b,c|1,'x'", "a,b,c|2,'y'", "a,b,c|3,'z'"].map(String::from));
        assert_each_once(&rows(&place), &expected);
    }
}

#[test]
fn json_lines_and_parquet_are_read_as_it_says() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/a.jsonl", "{\"a\": 1, \"b\": \"x\"}\n{\"a\": 2, \"b\": \"y\"}\n");
    let table = "paths: [{file: a.jsonl}]\ntransformations:\n  - read_json_lines: {include_path_column: true, invalid_lines: error, encoding: utf8}\n  - keep_columns: [b, Path]\n";
    job(&place, table, "mini_batch_size: 1rows");
    expect(&place, &["Path,b|'/data/a.jsonl','x'", "Path,b|'/data/a.jsonl','y'"]);

    for (kept, expected) in [
        ("keep_columns: [c, a]", ["a,c|0,0.0", "a,c|1,0.5", "a,c|2,1.0"]),
        ("drop_columns: [c, a]", ["b|'n0'", "b|'n1'", "b|'n2'"]),
    ] {
        let place = Place::new();
        let frame = "import pandas\npandas.DataFrame({'a': range(3), 'b': ['n0', 'n1', 'n2'], 'c': [0, .5, 1]}).to_parquet('t.parquet', row_group_size=2)\n";
        python_makes(&place, frame);
        fs::create_dir(place.path("data")).unwrap();
        job(&place, &format!("paths: [{{file: ../t.parquet}}]\ntransformations: [read_parquet, {{{kept}}}]\n"), "");
        expect(&place, &expected);
    }
}

#[test]
fn values_of_paths_are_columns_and_may_make_mini_batches() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    for (path, x) in
        [("ann/winter/a.csv", 1), ("ann/winter/b.csv", 2), ("ann/summer/a.csv", 3), ("bob/winter/a.csv", 4)]
    {
        place.write(format!("data/{path}"), format!("x\n{x}\n"));
    }
    let extract = "extract_columns_from_partition_format: {partition_format: \"/{user}/{season}/*.csv\"}";
    let table = |steps: &str| format!("paths:\n  - pattern: ./**/*.csv\ntransformations: [{steps}]\n");
    let plain = table(&format!("read_delimited, {{{extract}}}"));
    job(&place, &plain, "");
    expect(
        &place,
        &[
            "x,user,season|1,'ann','winter'",
            "x,user,season|2,'ann','winter'",
            "x,user,season|3,'ann','summer'",
            "x,user,season|4,'bob','winter'",
        ],
    );
    assert_eq!(place.status()["counts"]["mini_batches"], 4);

    fs::remove_dir_all(place.job()).unwrap();
    job(&place, &plain, "partition_keys: [user]");
    let of_ann = "{'user': 'ann'}x,user,season|";
    let rows_of = |key: &str, rows: &[&str]| rows.iter().map(|row| format!("{key}{row}")).collect::<Vec<_>>();
    let mut expected = rows_of(of_ann, &["1,'ann','winter'", "2,'ann','winter'", "3,'ann','summer'"]);
    expected.extend(rows_of("{'user': 'bob'}x,user,season|", &["4,'bob','winter'"]));
    assert_each_once(&rows(&place), &expected);
    assert_eq!(place.status()["counts"]["mini_batches"], 2);

    // Before the step that reads they stand first, and what is kept before them does not concern them.
    fs::remove_dir_all(place.job()).unwrap();
    job(
        &place,
        &table(&format!(
            "{{{extract}}}, {{read_delimited: {{include_path_column: true}}}}, {{drop_columns: [Path, season]}}"
        )),
        "",
    );
    expect(&place, &["user,x|'ann',1", "user,x|'ann',2", "user,x|'ann',3", "user,x|'bob',4"]);

    fs::remove_dir_all(place.job()).unwrap();
    job(&place, &table(&format!("read_delimited, {{keep_columns: []}}, {{{extract}}}")).replace("[]", "[y]"), "");
    expect(
        &place,
        &[
            "user,season|'ann','winter'",
            "user,season|'ann','winter'",
            "user,season|'ann','summer'",
            "user,season|'bob','winter'",
        ],
    );
}

#[test]
fn without_a_step_that_reads_it_names_files() {
    let place = Place::new();
    for name in ["a.png", "b.png", "deep/c.png"] {
        place.write(format!("data/{name}"), name);
    }
    place.write("data/MLTable", "type: mltable\npaths:\n  - folder: .\n");
    place.write(
        "score.py",
        "import os\n\ndef run(mini_batch):\n    return [os.path.basename(path) for path in mini_batch]\n",
    );
    // The folder, or the file itself.
    for (input, dir) in [("data", "job"), ("data/MLTable", "job2")] {
        place.write(
            "job.yaml",
            format!(
                "name: files\nentry_script: score.py\ninputs: [{input}]\ninput_type: mltable\nmini_batch_size: 2\n"
            ),
        );
        place.run(&["run", "job.yaml", "--job-dir", dir, "--no-reuse"]).expect(0);
        let text = fs::read_to_string(place.path(dir).join("output/parallel_run_step.txt")).unwrap();
        let mut rows: Vec<&str> = text.lines().collect();
        rows.sort_unstable();
        // The MLTable is none of the data.
        assert_eq!(rows, ["a.png", "b.png", "c.png"]);
    }
}

#[test]
fn what_it_said_at_submission_stays_with_the_job() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/a.csv", "a,b\n1,2\n");
    let table = "paths: [{file: a.csv}]\ntransformations: [read_delimited, {keep_columns: [a]}]\n";
    job(&place, table, "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    // The job's own file runs without the MLTable, and is the same job.
    fs::remove_file(place.path("data/MLTable")).unwrap();
    place.run(&["run", "job/job.yaml", "--job-dir", "job"]).expect(0);
    place.write("data/MLTable", table.replace("[a]", "[b]"));
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
    assert!(ran.stderr.contains("input_type") && ran.stderr.contains("keep"), "{}", ran.stderr);
    assert_eq!(place.rows(), ["a|1"]);
}

#[test]
fn a_registered_one_is_read_when_a_job_names_it() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/a.csv", "a,b\n1,2\n");
    place.write("data/b.csv", "a,b\n3,4\n");
    job(&place, "paths: [{file: a.csv}, {file: b.csv}]\ntransformations: [read_delimited, {drop_columns: b}]\n", "");
    place.run(&["dataset", "register", "table", "--path", "data", "--input-type", "mltable"]).expect(0);
    let yaml = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", yaml.replace("[data]\ninput_type: mltable", "['table@latest']"));
    expect(&place, &["a|1", "a|3"]);
    let resolved = fs::read_to_string(place.job().join("job.yaml")).unwrap();
    assert!(resolved.contains("dataset: table:1") || resolved.contains("dataset: \"table:1\""), "{resolved}");
    place.run(&["run", "job/job.yaml", "--job-dir", "job"]).expect(0);

    // The note is about what was registered, and there is one for both inputs.
    let quiet = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(!quiet.contains("changed since it was registered"), "{quiet}");
    place.write("data/a.csv", "a,b\n1,2\n5,6\n");
    let told = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert_eq!(told.matches("changed since it was registered").count(), 1, "{told}");

    place.write("broken/MLTable", "paths: []\n");
    let ran = place.run(&["dataset", "register", "broken", "--path", "broken", "--input-type", "mltable"]).expect(2);
    assert!(ran.stderr.contains("`paths` must be a list of at least one path"), "{}", ran.stderr);
}

#[test]
fn columns_that_clash_and_frames_without_any_are_told() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/a.csv", "Path,x\n1,2\n");
    job(&place, "paths: [{file: a.csv}]\ntransformations: [{read_delimited: {include_path_column: true}}]\n", "");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ran.stderr.contains("`Path` is a column of the file and that of the path"), "{}", ran.stderr);

    job(&place, "paths: [{file: a.csv}]\ntransformations: [read_delimited, {keep_columns: [path]}]\n", "");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job2"]).expect(1);
    assert!(ran.stderr.contains("no column is left of it: look at `keep_columns`"), "{}", ran.stderr);
}
