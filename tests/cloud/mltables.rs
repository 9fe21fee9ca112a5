//! An `MLTable` that lies at an address beside its data, as a workspace keeps it.

use fanfold_test_servers::{Faults, Files, has_cloud_servers};

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

/// Says of each row what its columns are called, and what is in them.
const TELLS: &str = "def run(mini_batch):\n    head = ','.join(map(str, mini_batch.columns))\n    \
                     return [f'{head}|' + ','.join(map(str, row)) for row in mini_batch.itertuples(index=False, name=None)]\n";

#[test]
fn headers_are_where_it_says_and_the_path_is_the_address_of_the_file() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::new();
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    let gzip = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    // A file of over a block, of which slices are fetched: with its first row behind the beginning of the second slice.
    let many = |first: usize| -> String {
        (first..first + 400).map(|n| format!("{n},\"x\n{n}{}\"\n", "é".repeat(100))).collect()
    };
    let said = |head: &str, file: &str, first: usize| -> Vec<String> {
        let tail = "é".repeat(100);
        (first..first + 400).map(|n| format!("Path,{head}|datastore://store/in/t/{file},{n},x\\n{n}{tail}")).collect()
    };
    for (header, first, second, heads) in [
        ("from_first_file", "a,\"b,c\"\n", "", ["a,b,c", "a,b,c"]),
        ("all_files_same_headers", "a,b\n", "a,b\n", ["a,b", "a,b"]),
        ("all_files_different_headers", "a,b\n", "c,d\n", ["a,b", "c,d"]),
        ("no_header", "", "", ["Column1,Column2", "Column1,Column2"]),
    ] {
        for packed in [false, true] {
            if packed && header != "from_first_file" {
                continue;
            }
            let (one, two) = (format!("{first}{}", many(0)), format!("{second}{}", many(1000)));
            match packed {
                true => world.bucket.put("in/t/1 é.csv", gzip(&one)),
                false => world.bucket.put("in/t/1 é.csv", one),
            }
            world.bucket.put("in/t/2.csv", two);
            let table = format!(
                "paths: [{{pattern: ./*.csv}}]\ntransformations:\n  - read_delimited: {{header: {header}, include_path_column: true, \
                 support_multi_line: true}}\n"
            );
            world.bucket.put("in/t/MLTable", table);
            job(&world, "[datastore://store/in/t]");
            world
                .place
                .write("score.py", TELLS.replace("map(str, row)", "[str(v).replace('\\n', '\\\\n') for v in row]"));
            std::fs::remove_dir_all(world.place.job()).unwrap_or_default();
            world.run_job().expect(0);
            let expected = [said(heads[0], "1 é.csv", 0), said(heads[1], "2.csv", 1000)].concat();
            assert_each_once(&world.place.rows(), &expected);
        }
    }
    // What is wrong with a row is told by address as well.
    world.bucket.put("in/t/2.csv", "1,2\n3,4,5\n");
    job(&world, "[datastore://store/in/t]");
    world.place.write("score.py", TELLS);
    std::fs::remove_dir_all(world.place.job()).unwrap();
    world.run_job().expect(5);
    let errors = format!("{:?}", world.place.errors());
    assert!(errors.contains("`datastore://store/in/t/2.csv`, row 2: "), "{errors}");
}

#[test]
fn the_header_of_a_first_file_that_vanished_is_told_and_of_a_server_without_parts_it_is_fetched_with_its_file() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::new();
    let table =
        "paths: [{file: ./1.csv}, {file: ./2.csv}]\ntransformations:\n  - read_delimited: {header: from_first_file}\n";
    let many: String = (0..100).map(|n| format!("{n},x{n}\n")).collect();
    let expected: Vec<String> = (0..100).chain(0..100).map(|n| format!("a,b|{n},x{n}")).collect();
    let web = world.place.path("web");
    for (name, text) in [("MLTable", table), ("1.csv", &format!("a,b\n{many}")), ("2.csv", &many)] {
        world.bucket.put(&format!("in/{name}"), text);
        world.place.write(format!("web/{name}"), text);
    }
    let files = Files::serve(&web);
    files.set_ranges(false);
    job(&world, &format!("['{}']", files.url("")));
    world.place.write("score.py", TELLS);
    world.run_job().expect(0);
    assert_eq!(sorted(world.place.rows()), sorted(expected.clone()));

    // The list is there, and its node is to be made ready.
    job(&world, "[datastore://store/in]");
    world.place.write("score.py", TELLS);
    std::fs::remove_dir_all(world.place.job()).unwrap();
    let mut command = world.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", "items_after_manifest");
    crate::finish(command.spawn().unwrap(), crate::LIMIT);
    world.bucket.delete("in/1.csv");
    let failed = world.run_job().expect(1).stderr;
    let told = "the header of the tables: `datastore://store/in/1.csv`: vanished since the job listed it";
    assert!(failed.contains(told), "{failed}");
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}
