//! DataFrames, Series and arrays of the real pandas and numpy, from an environment that is built once and kept.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::running::skip;
use crate::support::{LIMIT, Place, Ran, assert_each_once, finish};

/// A cache of environments that outlives the test run.
fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("environments")
}

/// Runs a job with pandas: `run()` has this body. None: pandas can't be had here.
fn run(body: &str, more: &str) -> Option<(Place, Ran)> {
    run_at_most(body, more, LIMIT)
}

fn run_at_most(body: &str, more: &str, limit: std::time::Duration) -> Option<(Place, Ran)> {
    let place = Place::new();
    place.write_items(6);
    place.write("score.py", format!("import numpy\nimport pandas\n\ndef run(mini_batch):\n    {body}\n"));
    let yaml = format!(
        "name: contract\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 2\n\
         process_count_per_node: 2\nenvironment: {{requirements: [pandas]}}\n{more}"
    );
    place.write("job.yaml", yaml);
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("XDG_CACHE_HOME", cache());
    let ran = finish(command.spawn().unwrap(), limit);
    if place.job().join("logs/sys/environment_build.txt").exists()
        && ran.code != Some(0)
        && !ran.stderr.contains("mini-batches ")
    {
        return None;
    }
    Some((place, ran))
}

/// Whether pandas is there; built by the first who asks, which may take minutes.
fn pandas() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    let there = *THERE.get_or_init(|| {
        let ran = run_at_most("return mini_batch", "", 10 * LIMIT);
        ran.is_some_and(|(_, ran)| {
            if ran.code != Some(0) {
                eprintln!("{}", ran.stderr);
            }
            ran.code == Some(0)
        })
    });
    if !there {
        skip("pandas can't be installed: DataFrames are not tried");
    }
    there
}

const FRAME: &str = "return pandas.DataFrame({'name': mini_batch, 'two words': ['a b'] * len(mini_batch), 'none': [None] * len(mini_batch)})";

#[test]
fn a_frame_is_separated_by_spaces_without_header_or_index() {
    if !pandas() {
        return;
    }
    let (place, ran) = run(FRAME, "").unwrap();
    ran.expect(0);
    let expected: Vec<String> = (0..6).map(|i| format!("item-{i:03} \"a b\" \"\"")).collect();
    let alternative: Vec<String> = (0..6).map(|i| format!("item-{i:03} \"a b\" ")).collect();
    let rows = place.rows();
    // An empty last field is spelt in two ways by versions of pandas.
    assert_each_once(&rows, if rows.iter().any(|row| row.ends_with("\"\"")) { &expected } else { &alternative });
    assert_eq!(place.status()["counts"]["items_succeeded"], 6);
}

#[test]
fn a_header_is_written_once_and_first() {
    if !pandas() {
        return;
    }
    for how in ["append_row_dataframe_header: true\n", "arguments: [--append_row_dataframe_header, 'True']\n"] {
        let (place, ran) = run(FRAME, how).unwrap();
        ran.expect(0);
        let rows = place.rows();
        assert_eq!(rows[0], "name \"two words\" none");
        assert_eq!(rows.len(), 7, "{rows:?}");
        assert!(rows[1..].iter().all(|row| row.starts_with("item-")), "{rows:?}");
    }
}

#[test]
fn the_settings_file_beside_the_script_decides_how() {
    if !pandas() {
        return;
    }
    let place = Place::new();
    place.write_items(4);
    place.write("source/score.py", format!("import pandas\ndef run(mini_batch):\n    {FRAME}\n"));
    place.write(
        "source/parallel_run_step.settings.json",
        r#"{"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "na_rep": "NULL", "index": true}}}"#,
    );
    place.write(
        "job.yaml",
        "name: contract\nentry_script: score.py\nsource_directory: source\ninputs: [items.txt]\ninput_type: lines\n\
         mini_batch_size: 2\nenvironment: {requirements: [pandas]}\nappend_row_dataframe_header: true\n",
    );
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("XDG_CACHE_HOME", cache());
    finish(command.spawn().unwrap(), LIMIT).expect(0);
    let rows = place.rows();
    assert_eq!(rows[0], ",name,two words,none");
    let expected: Vec<String> = (0..4).map(|i| format!("{},item-{i:03},a b,NULL", i % 2)).collect();
    assert_each_once(&rows[1..], &expected);
}

#[test]
fn series_and_arrays_have_an_element_for_each_item() {
    if !pandas() {
        return;
    }
    let items: Vec<String> = (0..6).map(|i| format!("item-{i:03}")).collect();
    for body in ["return pandas.Series(mini_batch)", "return numpy.array(mini_batch)"] {
        let (place, ran) = run(body, "").unwrap();
        ran.expect(0);
        assert_each_once(&place.rows(), &items);
    }
    let (place, ran) = run("return numpy.array([[1, 2], [3, 4]])", "").unwrap();
    ran.expect(0);
    assert_eq!(place.rows().len(), 6);
    assert!(place.rows().contains(&"[1, 2]".to_string()), "{:?}", place.rows());
}

#[test]
fn an_empty_frame_is_no_success_and_a_short_one_counts_its_rows() {
    if !pandas() {
        return;
    }
    let body = "return pandas.DataFrame({'name': [] if 'item-000' in mini_batch else mini_batch[:1]})";
    let (place, ran) = run(body, "").unwrap();
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert_each_once(&place.rows(), &["item-002", "item-004"].map(str::to_string));
    assert_eq!(place.status()["counts"]["items_failed"], 4);
}
