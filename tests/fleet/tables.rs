//! Rows of tables, and parts of the data, on a fleet: the same slices wherever they run.

use crate::LONG;
use crate::support::{has_pandas, python_with_pandas};
use crate::world::{World, kill_9};

const ROWS: &str = "import time\n\ndef run(mini_batch):\n    time.sleep(0.05)\n    return [f'{row.id}:{row.name}' for row in mini_batch.itertuples(index=False)]\n";

/// A job over two files of so many rows together; returns what it gives.
fn table_job(world: &World, rows: usize, cut: &str) -> Vec<String> {
    let place = &world.place;
    let mut expected = Vec::new();
    for (file, ids) in [("2025/a.csv", 0..rows / 3), ("2026/b.csv", rows / 3..rows)] {
        let text: String = ids.clone().map(|id| format!("{id},\"name {id},\nof two lines\"\n")).collect();
        place.write(format!("data/{file}"), format!("id,name\n{text}"));
        expected.extend(ids.flat_map(|id| [format!("{id}:name {id},"), "of two lines".to_string()]));
    }
    place.write("score.py", ROWS);
    let python = python_with_pandas();
    place.write(
        "job.yaml",
        format!(
            "name: attack\nentry_script: score.py\ninputs: [data]\ninput_type: csv\n{cut}\nenvironment: {{python: {}}}\n\
             process_count_per_node: 2\ncompute_target: {}\n",
            python.display(),
            world.pool
        ),
    );
    expected
}

#[test]
fn rows_of_tables_are_there_once_whoever_dies() {
    if !has_pandas() {
        return;
    }
    let world = World::new();
    let expected = table_job(&world, 1200, "mini_batch_size: 5rows");
    let victim = world.worker();
    let _other = world.worker();
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.wait_for_committed(20);
    kill_9(&victim);
    world.wait_for_more_committed(20);
    kill_9(&coordinator);
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&expected);
}

#[test]
fn a_table_that_is_being_split_when_its_coordinator_dies_is_split_on_by_the_next() {
    if !has_pandas() {
        return;
    }
    let world = World::new();
    let expected = table_job(&world, 3000, "mini_batch_size: 3rows");
    let _workers = [world.worker(), world.worker()];
    // Every mini-batch is told by itself, from the first one on.
    let grows = |command: &mut std::process::Command| {
        command.env("FANFOLD_SPLIT_GRACE_MS", "0").env("FANFOLD_SPLIT_STRETCH_MS", "0");
    };
    let first = world.coordinator_with(|command| {
        grows(command);
        command.env("FANFOLD_FAILPOINT", "items_stretch_logged:400");
    });
    first.dies(LONG);
    world.coordinator_with(grows).ends(LONG, 0);
    world.each_once_and_nothing_left(&expected);
}

#[test]
fn parts_of_a_table_go_to_any_worker() {
    if !has_pandas() {
        return;
    }
    let world = World::new();
    let expected = table_job(&world, 30, "partition_format: \"{year}/*.csv\"");
    let _workers = [world.worker(), world.worker()];
    world.coordinator().ends(LONG, 0);
    assert_eq!(world.place.status()["counts"]["mini_batches"], 2);
    world.each_once_and_nothing_left(&expected);
}
