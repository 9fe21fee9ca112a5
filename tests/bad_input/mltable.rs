//! `MLTable` files that can't be what a job runs over: each fault with the file, the line and a way out.

use super::{job_file, place, refused};
use crate::support::Place;

fn with(place: &Place, text: &str) -> String {
    place.write("table/MLTable", text);
    place.write("job.yaml", job_file(place, &[("inputs", "[table]"), ("input_type", "mltable")]));
    refused(place, &["job.yaml"])
}

#[test]
fn what_is_no_mltable_is_refused_with_what_is_there() {
    let place = place();
    place.write("table/MLTable.yaml", "paths: []\n");
    place.write("data.csv", "a\n1\n");
    let told = ["table", "data.csv", "nowhere", "table/*.yaml"].map(|input| {
        place.write("job.yaml", job_file(&place, &[("inputs", &format!("[{input}]")), ("input_type", "mltable")]));
        refused(&place, &["job.yaml"])
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_it_says_is_understood_or_refused_by_name_and_line() {
    let place = place();
    place.write("table/a.csv", "a\n1\n");
    let step = |step: &str| format!("paths:\n  - file: a.csv\ntransformations:\n  - read_delimited\n  - {step}\n");
    let read = |read: &str| format!("paths: [{{file: a.csv}}]\ntransformations:\n  - {read}\n");
    let mut cases = vec![
        "".to_string(),
        "- a\n".into(),
        "type: uri_file\n".into(),
        "paths: a.csv\n".into(),
        "paths: [a.csv, {file: b.csv}, {folder: a.csv}, {file: ., folder: .}, {fil: a.csv}]\n".into(),
        "paths:\n  - file: ftp://h/a.csv\n  - pattern: https://h/x?sig=canary\n".into(),
        "paths: [{folder: 'https://h/data'}, {file: 'https://h/data/'}]\n".into(),
        "query_source: {query: select}\n".into(),
        "paths: [{file: a.csv}]\ntransformation: []\n".into(),
        "paths: [{file: a.csv}\n".into(),
        "paths: [{file: a.csv}]\ntransformations: {read_parquet: x}\n".into(),
    ];
    for refused in [
        "filter: 'col(\"a\") > 1'",
        "take: 5",
        "skip: 1",
        "take_random_sample: {probability: 0.5}",
        "convert_column_types: []",
        "read_parquet",
        "rename_columns: {a: b}",
        "drop_column: a",
        "keep_columns: {pattern: x}",
        "keep_columns: []",
    ] {
        cases.push(step(refused));
    }
    for refused in [
        "read_delta_lake",
        "keep_columns: a",
        "extract_columns_from_partition_format: '/{a}/*.csv'",
        "extract_columns_from_partition_format: {partition_format: '/{day:yyyy/MM/dd}/*.csv'}",
        "read_delimited: {delimeter: ',', header: no_headers, encoding: utf16, path_column: P, empty_as_string: 1, delimiter: '::'}",
        "read_delimited: {infer_column_types: {column_type_overrides: [{columns: a, column_type: int}, {columns: a}], size: 3}}",
        "read_json_lines: {invalid_lines: drop, encoding: latin1}",
        "read_parquet: {include_path: true}",
    ] {
        cases.push(read(refused));
    }
    let told: Vec<String> = cases.iter().map(|case| with(&place, case)).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_the_job_says_must_fit_to_it() {
    let place = place();
    place.write("table/a/b.csv", "a\n1\n");
    place.write("table/MLTable", "paths: [{pattern: '*/*.csv'}]\ntransformations: [{read_delimited: {header: from_first_file}}, {extract_columns_from_partition_format: {partition_format: '{k}/*.csv'}}]\n");
    place.write("other/MLTable", "paths: [{file: ../table/a/b.csv}]\ntransformations: [read_delimited]\n");
    let cases: [&[(&str, &str)]; 4] = [
        &[("inputs", "[table, other]")],
        &[("partition_keys", "[k]")],
        &[("partition_format", "'{k}/*'"), ("read_csv", "{header: false}")],
        &[("mini_batch_size", "5"), ("partition_keys", "[l]")],
    ];
    let told = cases.map(|keys| {
        let inputs = ("inputs", "[table]");
        let mut all = vec![("input_type", "mltable")];
        all.extend(if keys[0].0 == "inputs" { None } else { Some(inputs) });
        all.extend(keys);
        place.write("job.yaml", job_file(&place, &all));
        refused(&place, &["job.yaml"])
    });
    insta::assert_snapshot!(told.join("\n"));
}
