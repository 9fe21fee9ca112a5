//! Rows of tables, and parts of the data, on a fleet: the same slices wherever they run.

use crate::LONG;
use crate::support::{has_pandas, python_with_pandas, text};
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

/// Runs the job on two workers, of which one is killed after so many mini-batches, and its coordinator after as many more; the next one ends
/// it.
fn ends_whoever_dies(world: &World, committed: u64) {
    let victim = world.worker();
    let _other = world.worker();
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.wait_for_committed(committed);
    kill_9(&victim);
    world.wait_for_more_committed(committed);
    kill_9(&coordinator);
    world.coordinator().ends(LONG, 0);
}

#[test]
fn rows_of_tables_are_there_once_whoever_dies() {
    if !has_pandas() {
        return;
    }
    let world = World::new();
    let expected = table_job(&world, 1200, "mini_batch_size: 5rows");
    ends_whoever_dies(&world, 20);
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

#[test]
fn a_parquet_file_has_each_row_once_whoever_dies() {
    if !has_pandas() {
        return;
    }
    let world = World::new();
    table_job(&world, 1200, "mini_batch_size: 5rows\nappend_row_file_name: rows.parquet");
    // Every second frame has its columns in another order, and every third one a column without a value; some are too large for a message.
    let script = "import time\n\ndef run(mini_batch):\n    time.sleep(0.05)\n    i = int(mini_batch.id.iloc[0])\n    \
                  frame = mini_batch.assign(ballast='x' * (200_000 if i % 50 == 0 else 10), half=None if i % 3 else mini_batch.id / 2)\n    \
                  return frame[list(reversed(frame.columns))] if i % 2 else frame\n";
    world.place.write("score.py", script);
    ends_whoever_dies(&world, 20);
    world.nothing_left();
    world.place.run(&["doctor", "--verify", "job"]).expect(0);
    let look = "import pandas\nframe = pandas.read_parquet('job/output/rows.parquet').sort_values('id')\n\
                assert list(frame.id) == list(range(1200)), sorted(frame.id)\n\
                assert list(frame.name) == [f'name {i},\\nof two lines' for i in frame.id]\n\
                with_half = frame[frame.half.notna()]\nassert len(with_half) and (with_half.half == with_half.id / 2).all()\n";
    let looked = world.place.command(python_with_pandas().to_str().unwrap()).args(["-c", look]).output().unwrap();
    assert!(looked.status.success(), "{}", text(&looked));
}

#[test]
fn rows_of_a_combination_go_to_any_worker() {
    if !has_pandas() {
        return;
    }
    let world = World::new();
    let expected = table_job(&world, 60, "partition_keys: [name]");
    ends_whoever_dies(&world, 5);
    assert_eq!(world.place.status()["counts"]["mini_batches"], 60);
    world.each_once_and_nothing_left(&expected);
}
