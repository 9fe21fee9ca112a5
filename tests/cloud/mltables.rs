//! An `MLTable` that lies at an address beside its data, as a workspace keeps it.

use fanfold_test_servers::has_cloud_servers;

use crate::support::{assert_each_once, has_pandas, python_with_pandas as python};
use crate::{CANARY, World};

const SCORE: &str =
    "def run(mini_batch):\n    return [f'{row.day}:{row.id}' for row in mini_batch.itertuples(index=False)]\n";

/// A folder of two days, with the `MLTable` that names them.
fn fill(world: &World, paths: &str) {
    for day in ["mon", "tue"] {
        let rows: String = (0..50).map(|id| format!("{id};{day}{id}\n")).collect();
        world.bucket.put(&format!("in/[sales]/{day}/t.csv"), format!("id;name\n{rows}"));
    }
    let text = format!(
        "type: mltable\npaths:\n{paths}transformations:\n  - read_delimited:\n      delimiter: ';'\n  \
         - extract_columns_from_partition_format:\n      partition_format: '/{{day}}/*.csv'\n  - drop_columns: [name]\n"
    );
    world.bucket.put("in/[sales]/MLTable", text);
}

fn job(world: &World, input: &str) {
    world.job(
        input,
        &format!("input_type: mltable\nmini_batch_size: 20rows\nenvironment: {{python: {}}}\n", python().display()),
    );
    world.place.write("score.py", SCORE);
}

#[test]
fn an_mltable_at_an_address_is_read_and_its_paths_start_there() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::new();
    let expected: Vec<String> =
        ["mon", "tue"].iter().flat_map(|day| (0..50).map(move |id| format!("{day}:{id}"))).collect();
    for (paths, input) in [
        ("  - pattern: ./*/*.csv\n", "datastore://store/in/[sales]"),
        ("  - file: mon/t.csv\n  - folder: ./x/../tue\n", "datastore://store/in/[sales]/MLTable"),
        ("  - folder: .\n", "datastore://store/in/[sales]"),
    ] {
        fill(&world, paths);
        job(&world, &format!("['{input}']"));
        std::fs::remove_dir_all(world.place.job()).unwrap_or_default();
        world.run_job().expect(0);
        assert_each_once(&world.place.rows(), &expected);
    }
    // Registered, its content is what its version stands for.
    world
        .run(&["dataset", "register", "sales", "--input-type", "mltable", "--path", "datastore://store/in/[sales]"])
        .expect(0);
    job(&world, "[sales]");
    world.place.write(
        "job.yaml",
        std::fs::read_to_string(world.place.path("job.yaml")).unwrap().replace("input_type: mltable\n", ""),
    );
    std::fs::remove_dir_all(world.place.job()).unwrap();
    world.run_job().expect(0);
    assert_each_once(&world.place.rows(), &expected);
}

#[test]
fn what_is_wrong_with_an_mltable_at_an_address_is_told_by_line() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::new();
    let refused = |input: &str| {
        job(&world, &format!("['{input}']"));
        world.run(&["plan", "job.yaml"]).expect(2).stderr
    };
    let missing = refused("datastore://store/in/[sales]");
    assert!(missing.contains("there is no `datastore://store/in/[sales]/MLTable`"), "{missing}");
    fill(&world, "  - file: ../../../t.csv\n  - file: /data/t.csv\n");
    let outside = refused("datastore://store/in/[sales]");
    for told in [
        "`../../../t.csv` means nothing at `datastore://store/in/[sales]`",
        "`/data/t.csv` means nothing",
        "MLTable:3:",
        "MLTable:4:",
    ] {
        assert!(outside.contains(told), "{told}: {outside}");
    }
    world.bucket.put("in/[sales]/MLTable", vec![0xff; 100]);
    let binary = refused("datastore://store/in/[sales]");
    assert!(binary.contains("is not UTF-8 text"), "{binary}");
    world.bucket.put("in/[sales]/MLTable", vec![b' '; (1 << 20) + 1]);
    let large = refused("datastore://store/in/[sales]");
    assert!(large.contains("is larger than 1 MiB"), "{large}");
    world.datastore(&world.s3.url(), &world.s3.key().id, CANARY);
    let denied = refused("datastore://store/in/[sales]");
    assert!(denied.contains("its MLTable can't be read") && !denied.contains(CANARY), "{denied}");
}
