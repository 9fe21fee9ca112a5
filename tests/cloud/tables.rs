//! Tables in the cloud: split as they come, slices fetched by range, the frame that a local file gives.

use std::process::Command;

use fanfold_test_servers::{Faults, has_cloud_servers};

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
