//! Tables in the cloud: split as they come, slices fetched by range, the frame that a local file gives.

use std::process::Command;

use fanfold_test_servers::{Fault, Faults, Files, Rule, has_cloud_servers};

use crate::World;
use crate::support::{assert_each_once, has_pandas, python_with_pandas as python};

const ROWS: &str =
    "def run(mini_batch):\n    return [f'{row.id}:{row.name}' for row in mini_batch.itertuples(index=False)]\n";

fn job(world: &World, input: &str, more: &str) {
    world.job(input, &format!("environment: {{python: {}}}\n{more}", python().display()));
    world.place.write("score.py", ROWS);
}

#[test]
fn slices_of_csv_and_json_lines_are_fetched_by_range() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::new();
    let row = |id: usize| if id.is_multiple_of(3) { format!("x {id}, y") } else { format!("é{id}") };
    let expected: Vec<String> = (0..20_000).map(|id| format!("{id}:{}", row(id))).collect();
    let csv: String = (0..20_000).map(|id| format!("{id},\"{}\"\n", row(id))).collect();
    let json: String = (0..20_000).map(|id| format!("{{\"id\": {id}, \"name\": \"{}\"}}\n", row(id))).collect();
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    for (kind, text) in [("csv", format!("id,name\n{csv}")), ("jsonl", json)] {
        world.bucket.put(&format!("{kind}/t.{kind}"), text.clone());
        job(&world, &format!("[datastore://store/{kind}]"), &format!("input_type: {kind}\nmini_batch_size: 100kB\n"));
        std::fs::remove_dir_all(world.place.job()).unwrap_or_default();
        world.run_job().expect(0);
        assert_each_once(&world.place.rows(), &expected);
    }
    let whole = faults
        .seen()
        .iter()
        .filter(|seen| seen.target.contains("/csv/t.csv") && seen.range.is_none() && seen.method == "GET")
        .count();
    assert_eq!(whole, 1, "the listing reads it once, and nobody else");
}

#[test]
fn of_a_large_parquet_file_only_the_row_groups_of_a_slice_are_fetched() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::new();
    let script = "import os, pandas\nframe = pandas.DataFrame({'id': range(4000), 'name': [os.urandom(1000).hex() for i in range(4000)]})\n\
                  frame.to_parquet('t.parquet', row_group_size=500)";
    let made = Command::new(python()).args(["-c", script]).current_dir(world.place.path("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = std::fs::read(world.place.path("t.parquet")).unwrap();
    assert!(file.len() > 4 << 20);
    world.bucket.put("in/t.parquet", file);
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    job(&world, "[datastore://store/in]", "input_type: parquet\nmini_batch_size: 1000rows\n");
    world.place.write(
        "score.py",
        "import pandas, os\nwhole = pandas.read_parquet(os.environ['WHOLE'])\n\ndef run(mini_batch):\n    same = whole.iloc[mini_batch.id.iloc[0]:][:len(mini_batch)].reset_index(drop=True)\n    pandas.testing.assert_frame_equal(mini_batch, same)\n    return list(mini_batch.id)\n",
    );
    let mut command = world.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("WHOLE", world.place.path("t.parquet"));
    crate::finish(command.spawn().unwrap(), crate::LIMIT).expect(0);
    let expected: Vec<String> = (0..4000).map(|id| id.to_string()).collect();
    assert_each_once(&world.place.rows(), &expected);
    let whole = |seen: &&fanfold_test_servers::Seen| {
        seen.target.contains("t.parquet") && seen.range.is_none() && seen.method == "GET"
    };
    assert_eq!(faults.seen().iter().filter(whole).count(), 0, "nobody reads all of it");
}

#[test]
fn parquet_and_what_is_compressed_are_read_as_well() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    for (kind, file, make) in [
        ("parquet", "t.parquet", "frame.to_parquet('t.parquet', row_group_size=7)"),
        ("csv", "t.csv.gz", "frame.to_csv('t.csv.gz', index=False)"),
    ] {
        let world = World::new();
        let script = format!(
            "import pandas\nframe = pandas.DataFrame({{'id': range(100), 'name': [f'n{{i}}' for i in range(100)]}})\n{make}"
        );
        let made = Command::new(python()).args(["-c", &script]).current_dir(world.place.path("")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        world.bucket.put(&format!("in/{file}"), std::fs::read(world.place.path(file)).unwrap());
        job(&world, "[datastore://store/in]", &format!("input_type: {kind}\nmini_batch_size: 10rows\n"));
        world.run_job().expect(0);
        let expected: Vec<String> = (0..100).map(|id| format!("{id}:n{id}")).collect();
        assert_each_once(&world.place.rows(), &expected);
    }
}

/// Web servers that know no ranges.
#[test]
fn of_a_server_that_sends_no_parts_whole_tables_are_fetched_once() {
    if !has_pandas() {
        return;
    }
    let place = crate::Place::new();
    let expected: Vec<String> = (0..20_000).map(|id| format!("{id}:n{id}")).collect();
    let csv: String = (0..20_000).map(|id| format!("{id},n{id}\n")).collect();
    place.write("web/t.csv", format!("id,name\n{csv}"));
    let script = "import os, pandas\nframe = pandas.DataFrame({'id': range(9), 'name': [f'n{i}' for i in range(9)]})\n\
                  frame.to_parquet('web/small.parquet', row_group_size=3)\n\
                  frame['name'] = [os.urandom(30_000).hex() for i in range(9)]\nframe.to_parquet('web/large.parquet', row_group_size=3)";
    let made = Command::new(python()).args(["-c", script]).current_dir(place.path("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let files = Files::serve(&place.path("web"));
    files.set_ranges(false);
    let faults = Faults::before(files.port());
    place.write("score.py", ROWS);
    let run = |file: &str, more: &str| {
        let input = format!("{}/{file}", faults.url());
        let python = python();
        let job = format!(
            "name: web\nentry_script: score.py\ninputs: [{input}]\nenvironment: {{python: {}}}\n",
            python.display()
        );
        place.write("job.yaml", job + more);
        std::fs::remove_dir_all(place.job()).unwrap_or_default();
        place.run(&["run", "job.yaml", "--job-dir", "job"])
    };
    // The first answer breaks off: what is missing can't be asked for alone.
    faults.rule(Rule::new(Fault::CutBody(100_000)).method("GET").on("/t.csv").times(1));
    run("t.csv", "input_type: csv\nmini_batch_size: 50kB\n").expect(0);
    assert_each_once(&place.rows(), &expected);
    let errors = place.errors();
    assert!(errors.is_empty(), "{errors:?}");
    // A file that is asked for as a whole.
    run("small.parquet", "input_type: parquet\nmini_batch_size: 3rows\n").expect(0);
    assert_each_once(&place.rows(), &expected[..9]);
    // Of this one the footer is wanted before anything can run.
    let refused = run("large.parquet", "input_type: parquet\nmini_batch_size: 3rows\n").expect(2).stderr;
    assert!(refused.contains("large.parquet") && refused.contains("sends whole files only"), "{refused}");
    assert!(refused.contains("hint: serve it with a server that knows ranges"), "{refused}");
}
