//! One mini-batch for each combination of values that stand in columns.

use std::fs;
use std::process::Stdio;

use crate::jobs::python_makes;
use crate::python;
use crate::support::{LIMIT, Place, assert_each_once, finish, wait_for};

/// Says of a mini-batch what it is of, and of each row what is in it.
const TELLS: &str = "def run(mini_batch, context):\n    \
    key = context.partition_key_value\n    \
    assert list(mini_batch.index) == list(range(len(mini_batch))), mini_batch.index\n    \
    return [f'{key}|' + ','.join(f'{k}={v!r}' for k, v in row.items()) for row in mini_batch.astype(object).to_dict('records')]\n";

fn job_of(place: &Place, script: &str, more: &str) {
    place.write("score.py", script);
    let python = python();
    let yaml = format!(
        "name: groups\nentry_script: score.py\ninputs: [data]\nenvironment: {{python: {}}}\nprocess_count_per_node: 1\n{more}\n",
        python.display()
    );
    place.write("job.yaml", yaml);
}

/// A place with an empty folder `data`, where `script` makes files.
fn made(script: &str) -> Place {
    let place = Place::new();
    fs::create_dir_all(place.path("data")).unwrap();
    python_makes(&place, script);
    place
}

/// Runs the job as planned, and compares its rows and how many mini-batches they came in.
fn expect(place: &Place, script: &str, more: &str, mini_batches: u64, expected: &[&str]) {
    job_of(place, script, more);
    let plan = place.run(&["plan", "job.yaml", "--json"]).expect(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let counts = &place.status()["counts"];
    assert_eq!((&plan["items"], &plan["mini_batches"]), (&counts["items"], &counts["mini_batches"]));
    assert_eq!(counts["mini_batches"], mini_batches);
    let root = place.path("").display().to_string();
    let rows: Vec<String> = place.rows().into_iter().map(|row| row.replace(&root, "/")).collect();
    let expected: Vec<String> = expected.iter().map(|row| row.to_string()).collect();
    assert_each_once(&rows, &expected);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn rows_of_csv_come_by_the_texts_of_their_fields() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    // The same text, quoted or not; other line ends, a byte order mark, a blank line, a line end in quotes, no end at all.
    place.write("data/1.csv", "\u{feff}user,n,note\r\nann,1,\"x\ny\"\r\n\"ann\",1.0,b\r\n\r\nbob,1,NA\r\n");
    place.write("data/2.csv", "user,n,note\nann,2,c\n,3,d\n\"a\"\"b\",4");
    place.write("data/3.csv", "user,n,note\n");
    // Another order of columns, and one more.
    place.write("data/4.csv", "n,note,user,more\n5,e,ann,m\n");
    expect(
        &place,
        TELLS,
        "input_type: csv\nread_csv: {dtype: str}\npartition_keys: [user]",
        4,
        &[
            "{'user': 'ann'}|user='ann',n='1',note='x\\ny',more=nan",
            "{'user': 'ann'}|user='ann',n='1.0',note='b',more=nan",
            "{'user': 'ann'}|user='ann',n='2',note='c',more=nan",
            "{'user': 'ann'}|user='ann',n='5',note='e',more='m'",
            "{'user': 'bob'}|user='bob',n='1',note=nan",
            "{'user': ''}|user=nan,n='3',note='d'",
            "{'user': 'a\"b'}|user='a\"b',n='4',note=nan",
        ],
    );

    // The text counts, not the number; several keys; types are those of the part.
    let place = Place::new();
    place.write("data/1.csv", "user,n\nann,1\nann,1.0\nbob,1\nann,1\n");
    expect(
        &place,
        TELLS,
        "input_type: csv\npartition_keys: [n, user]",
        3,
        &[
            "{'n': '1', 'user': 'ann'}|user='ann',n=1",
            "{'n': '1', 'user': 'ann'}|user='ann',n=1",
            "{'n': '1.0', 'user': 'ann'}|user='ann',n=1.0",
            "{'n': '1', 'user': 'bob'}|user='bob',n=1",
        ],
    );
}

#[test]
fn columns_may_have_numbers_and_files_any_form() {
    if !crate::has_pandas() {
        return;
    }
    let place = made(
        "import gzip\nopen('data/1.tsv', 'wb').write('\\ufeffé\\t1\\nb\\t2\\n'.encode('utf-8'))\n\
         gzip.open('data/2.tsv', 'wb').write('b\\t3\\nc\\n'.encode())\n",
    );
    expect(
        &place,
        TELLS,
        "input_type: tsv\nread_csv: {header: false}\npartition_keys: [0]",
        3,
        &["{'0': 'é'}|0='é',1=1", "{'0': 'b'}|0='b',1=2", "{'0': 'b'}|0='b',1=3", "{'0': 'c'}|0='c',1=nan"],
    );

    let place = made("open('data/1.csv', 'wb').write('größe;x\\n1é;2\\n'.encode('latin-1'))\n");
    expect(
        &place,
        TELLS,
        "input_type: csv\nread_csv: {sep: ';', encoding: latin-1}\npartition_keys: [größe]",
        1,
        &["{'größe': '1é'}|größe='1é',x=2"],
    );
}

#[test]
fn rows_of_json_lines_come_by_what_stands_there() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write(
        "data/1.jsonl",
        "{\"k\": \"\\u00e9\", \"i\": 1}\n\n{\"i\": 2}\n{\"k\": null, \"i\": 3}\n{\"k\": \"\", \"i\": 4}",
    );
    place.write(
        "data/2.jsonl",
        "{\"k\": \"é\", \"i\": 5}\n{\"k\": true, \"i\": 6}\n{\"k\": 1, \"i\": 7}\n{\"k\": 1.0, \"i\": 8}\n",
    );
    let script =
        "def run(mini_batch, context):\n    return [f'{context.partition_key_value} {i}' for i in mini_batch.i]\n";
    expect(
        &place,
        script,
        "input_type: jsonl\npartition_keys: [k]",
        6,
        &[
            "{'k': 'é'} 1",
            "{'k': 'é'} 5",
            "{'k': None} 2",
            "{'k': None} 3",
            "{'k': ''} 4",
            "{'k': 'true'} 6",
            "{'k': '1'} 7",
            "{'k': '1.0'} 8",
        ],
    );
}

#[test]
fn rows_of_parquet_come_by_their_values_as_text() {
    if !crate::has_pandas() {
        return;
    }
    let place = made(
        "import datetime, pandas\nf = pandas.DataFrame({'i': range(6), 'd': [datetime.date(2026, 1, 1 + i % 2) for i in range(6)],\n  \
         't': pandas.Categorical(['a', 'b', 'a', None, 'a', 'b']), 'ok': [True, False] * 3})\n\
         f.to_parquet('data/1.parquet', row_group_size=2, compression='snappy')\n\
         f.assign(i=f.i + 10).to_parquet('data/2.parquet', compression='zstd')\n",
    );
    let script = "def run(mini_batch, context):\n    key = list(context.partition_key_value.values())\n    \
                  return [f'{key} {r.i} {r.d} {r.t} {r.ok}' for r in mini_batch.itertuples()]\n";
    let mut expected = Vec::new();
    for n in [0, 10] {
        for i in 0..6 {
            let (t, ok) = (["'a'", "'b'", "'a'", "None", "'a'", "'b'"][i], ["True", "False"][i % 2]);
            let plain = if t == "None" { "nan".into() } else { t.replace('\'', "") };
            let d = format!("2026-01-0{}", 1 + i % 2);
            expected.push(format!("['{d}', {t}, '{ok}'] {} {d} {plain} {ok}", n + i));
        }
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expect(&place, script, "input_type: parquet\npartition_keys: [d, t, ok]", 3, &expected);

    // Rows that are all over the file make it be read again and again, which is said.
    let place = made(
        "import pandas\npandas.DataFrame({'id': [n % 20 for n in range(80)]}).to_parquet('data/1.parquet', row_group_size=20)\n",
    );
    job_of(
        &place,
        "def run(mini_batch, context):\n    return [f'{context.partition_key_value} {n}' for n in mini_batch.id]\n",
        "input_type: parquet\npartition_keys: [id]",
    );
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(ran.stderr.contains("the 4 row groups of the files will be read 80 times in all"), "{}", ran.stderr);
    let expected: Vec<String> = (0..80).map(|n| format!("{{'id': '{}'}} {}", n % 20, n % 20)).collect();
    assert_each_once(&place.rows(), &expected);
}

#[test]
fn an_mltable_may_say_what_becomes_of_their_columns() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/MLTable", "paths: [{pattern: ./*/*.csv}]\ntransformations:\n  - read_delimited: {header: from_first_file, \
                                 include_path_column: true}\n  - extract_columns_from_partition_format: {partition_format: '/{store}/*.csv'}\n  \
                                 - drop_columns: user\n");
    place.write("data/a/1.csv", "user,n\nann,1\nbob,2\n");
    place.write("data/a/2.csv", "ann,3\n");
    place.write("data/b/1.csv", "ann,4\n");
    // A column, and a value of the path.
    expect(
        &place,
        TELLS,
        "input_type: mltable\npartition_keys: [user, store]",
        3,
        &[
            "{'user': 'ann', 'store': 'a'}|Path='/data/a/1.csv',n=1,store='a'",
            "{'user': 'ann', 'store': 'a'}|Path='/data/a/2.csv',n=3,store='a'",
            "{'user': 'bob', 'store': 'a'}|Path='/data/a/1.csv',n=2,store='a'",
            "{'user': 'ann', 'store': 'b'}|Path='/data/b/1.csv',n=4,store='b'",
        ],
    );

    // Its paths are one table; an empty field is a value.
    let place = Place::new();
    place.write(
        "data/MLTable",
        "paths: [{file: x/1.csv}, {folder: y}]\ntransformations: [read_delimited: {header: no_header}]\n",
    );
    place.write("data/x/1.csv", "ann,1\nNA,2\n");
    place.write("data/y/2.csv", "ann,3\n,4\n");
    expect(
        &place,
        TELLS,
        "input_type: mltable\npartition_keys: Column1",
        3,
        &[
            "{'Column1': 'ann'}|Column1='ann',Column2=1",
            "{'Column1': 'ann'}|Column1='ann',Column2=3",
            "{'Column1': 'NA'}|Column1='NA',Column2=2",
            "{'Column1': ''}|Column1=nan,Column2=4",
        ],
    );
}

#[test]
fn failed_rows_are_named_by_their_file_and_row() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/1.csv", "user,n\nann,1\nbob,2\nann,3\n");
    place.write("data/2.csv", "user,n\nbob,4\nann,5\n");
    let script = "import os\n\ndef run(mini_batch, context):\n    \
                  if context.partition_key_value['user'] == 'ann' and not os.path.exists(r'ROOT/mended'):\n        \
                  raise ValueError('no')\n    return mini_batch.n.tolist()\n";
    let script = script.replace("ROOT", &place.path("").display().to_string());
    job_of(&place, &script, "input_type: csv\npartition_keys: [user]\nrun_max_try: 1");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_each_once(&place.rows(), &["2", "4"].map(String::from));
    let errors = fs::read_to_string(place.path("job/errors.jsonl")).unwrap();
    for named in ["data/1.csv, row 1", "data/1.csv, row 3", "data/2.csv, row 2"] {
        assert!(errors.contains(named), "{named}: {errors}");
    }
    // The copy is what is read: the files may go meanwhile.
    fs::remove_dir_all(place.path("data")).unwrap();
    place.write("mended", "");
    place.run(&["retry", "--failed", "job"]).expect(0);
    assert_each_once(&place.rows(), &["2", "4", "1", "3", "5"].map(String::from));
}

#[test]
fn a_group_that_is_damaged_fails_and_no_other() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/1.csv", "user,n\nann,1\nbob,2\nann,3\n");
    let script = "import os, pathlib, time\n\ndef run(mini_batch, context):\n    here = pathlib.Path(r'ROOT')\n    \
                  (here / 'begun').touch()\n    while not (here / 'go').exists():\n        time.sleep(0.01)\n    return mini_batch.n.tolist()\n";
    let script = script.replace("ROOT", &place.path("").display().to_string());
    job_of(&place, &script, "input_type: csv\npartition_keys: [user]\nrun_max_try: 1");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    wait_for("the first mini-batch to begin", || place.path("begun").exists().then_some(()));
    // `ann` comes first, and was read.
    let groups = place.path("job/.fanfold/items/groups");
    let mut bytes = fs::read(&groups).unwrap();
    let at = bytes.windows(6).position(|six| six == b"bob,2\n").unwrap();
    bytes[at + 4] = b'9';
    fs::write(&groups, bytes).unwrap();
    place.write("go", "");
    finish(running, LIMIT).expect(5);
    assert_each_once(&place.rows(), &["1", "3"].map(String::from));
    let errors = fs::read_to_string(place.path("job/errors.jsonl")).unwrap();
    assert!(errors.contains("the checksum of these rows is wrong") && errors.contains("data/1.csv, row 2"), "{errors}");
}

#[test]
fn a_row_that_is_too_long_is_told_by_the_files_that_its_group_is_of() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    place.write("data/1.csv", "user,n\nann,1\nann,2,7\nbob,3\ncid,4\ndan,5\ndan,6,7\n");
    place.write("data/2.csv", "user,n\ncid,10\nbob,8,9\n");
    place.write("data/3.csv", "user,n\neve,11\neve,12,13\n");
    let script = "def run(mini_batch, context):\n    return mini_batch.n.tolist()\n";
    job_of(&place, script, "input_type: csv\npartition_keys: [user]\nrun_max_try: 1");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_each_once(&place.rows(), &["4", "10"].map(String::from));
    let errors = fs::read_to_string(place.path("job/errors.jsonl")).unwrap();
    let data = place.path("data");
    for (file, gathered) in [("1.csv", "there"), ("1.csv", "there and in other files"), ("3.csv", "there")] {
        let told = format!("`{}/{file}`, 2 rows that `partition_keys` gathered {gathered}: ", data.display());
        assert!(errors.contains(&told), "{told}: {errors}");
    }
    assert_eq!(errors.matches("in other files").count(), 1, "{errors}");
}

#[test]
fn what_can_not_be_partitioned_by_columns_is_refused() {
    let place = Place::new();
    for (name, bytes) in [
        ("a.csv", &b"user,n\nann,1\n"[..]),
        ("twice.csv", b"user,n,user\nann,1,2\n"),
        ("long.csv", b"user\nann,1\n"),
        ("open.csv", b"user\n\"ann\n"),
        ("empty.csv", b"user\n"),
        ("a.jsonl", b"{\"user\": 1}\n{\"user\": {}}\n"),
        ("list.jsonl", b"[1]\n"),
    ] {
        place.write(name, bytes);
    }
    let told = |input: &str, more: &str| {
        place.write("score.py", TELLS);
        place.write("job.yaml", format!("name: groups\nentry_script: score.py\ninputs: [{input}]\n{more}\n"));
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
        ran.stderr.replace(place.path("").to_str().unwrap(), "/place/")
    };
    let cases = [
        ("a.csv", "input_type: csv\npartition_keys: [usr]"),
        ("twice.csv", "input_type: csv\npartition_keys: [user]"),
        ("long.csv", "input_type: csv\npartition_keys: [user]"),
        ("open.csv", "input_type: csv\npartition_keys: [user]"),
        ("empty.csv", "input_type: csv\npartition_keys: [user]"),
        ("a.jsonl", "input_type: jsonl\npartition_keys: [user]"),
        ("a.jsonl", "input_type: jsonl\npartition_keys: [usr]"),
        ("list.jsonl", "input_type: jsonl\npartition_keys: [user]"),
        ("a.csv", "input_type: parquet\npartition_keys: [user]"),
        ("a.csv", "partition_keys: [user]"),
        ("a.csv", "input_type: lines\npartition_keys: [user]"),
        ("a.csv", "input_type: csv\npartition_keys: [user]\nmini_batch_size: 1MB"),
        ("a.csv", "input_type: csv\npartition_keys: [user, user]"),
        ("a.csv", "input_type: csv\npartition_keys: [user]\nrank_mini_batch_count: 2"),
        ("a.csv", "input_type: csv\npartition_keys: []"),
        ("a.csv", "input_type: csv\npartition_keys: ['']"),
        ("a.csv", "input_type: csv\nread_csv: {header: false}\npartition_keys: [user]"),
        ("a.csv", "input_type: csv\nread_csv: {header: false}\npartition_keys: [2]"),
        ("a.csv", "input_type: csv\nread_csv: {encoding: shift_jis}\npartition_keys: [user]"),
    ];
    insta::assert_snapshot!(cases.map(|(input, more)| told(input, more)).join("\n"));
}
