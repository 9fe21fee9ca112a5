//! Partitions by columns of tables in the cloud: what comes of them is what comes of the same files on this machine.

use std::process::Command;
use std::sync::{Arc, Once};

use fanfold_test_servers::{Fault, Faults, Rule, has_cloud_servers};

use crate::support::{assert_each_once, has_pandas, python_with_pandas as python};
use crate::{LIMIT, World, finish};

/// Says of a mini-batch what it is of, and of each row what is in it.
const TELLS: &str = "def run(mini_batch, context):\n    key = context.partition_key_value\n    \
                     return [f'{key}|' + '|'.join(f'{k}={v!r}' for k, v in row.items()) for row in mini_batch.astype(object).to_dict('records')]\n";

/// A world whose store is behind a relay, with what `script` makes in the folder `in` on this machine and in the bucket.
fn made(script: &str) -> (World, Faults) {
    let world = World::new();
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    world.place.write("in/.made", "");
    let made = Command::new(python()).args(["-c", script]).current_dir(world.place.path("in")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::remove_file(world.place.path("in/.made")).unwrap();
    for entry in std::fs::read_dir(world.place.path("in")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        world.bucket.put(&format!("in/{name}"), std::fs::read(entry.path()).unwrap());
    }
    (world, faults)
}

fn job(world: &World, inputs: &str, more: &str) {
    world.job(inputs, &format!("environment: {{python: {}}}\n{more}", python().display()));
    world.place.write("score.py", TELLS);
    std::fs::remove_dir_all(world.place.job()).unwrap_or_default();
}

/// Runs the job over `inputs`, as many mini-batches as were planned, and returns its rows.
fn rows(world: &World, inputs: &str, more: &str) -> Vec<String> {
    job(world, inputs, more);
    let plan = world.run(&["plan", "job.yaml", "--json"]).expect(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    world.run_job().expect(0);
    let counts = &world.place.status()["counts"];
    assert_eq!((&plan["items"], &plan["mini_batches"]), (&counts["items"], &counts["mini_batches"]));
    world.place.rows()
}

/// Of the rows of both files every fifth has the same user.
const TEXT: &str = "import pandas, gzip, os\n\
    for file in '12':\n    \
        frame = pandas.DataFrame({'n': range(3000), 'user': [f'u{i % 5}, \"é' for i in range(3000)], 'text': ['x\\ny' * 20] * 3000})\n    \
        frame['n'] += int(file) * 10000\n    \
        KIND\n";

#[test]
fn rows_of_text_are_gathered_as_those_of_local_files() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    for (kind, make) in [
        ("csv", "frame.to_csv(f'{file}.csv', index=False)"),
        ("csv", "frame.to_csv(f'{file}.csv.gz', index=False)"),
        ("jsonl", "frame.to_json(f'{file}.jsonl', orient='records', lines=True)"),
    ] {
        let (world, faults) = made(&TEXT.replace("KIND", make));
        let more = format!("input_type: {kind}\npartition_keys: [user]\n");
        let local = rows(&world, "[in]", &more);
        assert_eq!(local.len(), 6000);
        // A body that breaks off, a server that is at its limit: it is asked again.
        faults.rule(Rule::new(Fault::CutBody(9_000)).method("GET").on("/bucket/in/1").times(2));
        faults.rule(Rule::new(Fault::Status(503, None)).method("GET").on("/bucket/in/2").times(2));
        assert_each_once(&rows(&world, "[datastore://store/in]", &more), &local);
        // `errors.jsonl` and the like name where each row is from.
        world.run(&["doctor", "--verify", "job"]).expect(0);
        // What was gathered is a copy: nothing that happens in the store, or to its credentials, matters any more.
        job(&world, "[datastore://store/in]", &more);
        let mut command = world.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", "items_after_manifest");
        finish(command.spawn().unwrap(), LIMIT);
        let before = faults.count("GET", "/bucket/in/");
        world.place.write("datastores.yaml", "{}\n");
        world.run_job().expect(0);
        assert_each_once(&world.place.rows(), &local);
        assert_eq!(faults.count("GET", "/bucket/in/"), before);
    }
}

#[test]
fn of_parquet_keys_are_read_first_and_then_the_row_groups_that_have_rows_of_a_combination() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    // Sorted by the key, as one should; one file is small, and fetched whole.
    let script = "import pandas, os\n\
        for file, rows in ('1', 6000), ('2', 100):\n    \
            frame = pandas.DataFrame({'n': range(rows), 'text': [os.urandom(600).hex() for i in range(rows)], 'user': [i * 6 // rows for i in range(rows)]})\n    \
            frame.to_parquet(f'{file}.parquet', row_group_size=500)\n";
    let (world, faults) = made(script);
    let large = world.place.path("in/1.parquet").metadata().unwrap().len();
    assert!(large > 6 << 20, "{large}");
    let more = "input_type: parquet\npartition_keys: [user]\n";
    let local = rows(&world, "[in]", more);
    faults.rule(Rule::new(Fault::CutBody(9_000)).method("GET").on("/bucket/in/1").times(2));
    faults.rule(Rule::new(Fault::Status(503, None)).method("GET").on("/bucket/in/1").after(3).times(2));
    assert_each_once(&rows(&world, "[datastore://store/in]", more), &local);
    let seen = faults.seen();
    let of_large: Vec<_> =
        seen.iter().filter(|seen| seen.method == "GET" && seen.target.contains("/in/1.parquet")).collect();
    assert!(of_large.iter().all(|seen| seen.range.is_some()), "nobody reads all of it: {of_large:?}");
    let conditional = of_large.iter().filter(|seen| seen.condition.is_some()).count();
    assert_eq!(conditional, of_large.len(), "each is of the version that was listed");
    // It changes when all is listed: mini-batches with rows of it fail, by address.
    job(&world, "[datastore://store/in]", &format!("{more}error_threshold: 6000\nrun_max_try: 1\n"));
    let mut command = world.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", "items_after_manifest");
    finish(command.spawn().unwrap(), LIMIT);
    world.bucket.put("in/1.parquet", "something else");
    world.run_job().expect(1);
    let errors = format!("{:?}", world.place.errors());
    assert!(errors.contains("`datastore://store/in/1.parquet`: changed since the job listed it"), "{errors}");
}

#[test]
fn a_file_that_changes_while_its_rows_are_gathered_is_told() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let parquet = "import pandas, os\nfor file in '12':\n    \
        frame = pandas.DataFrame({'user': [i // 1000 for i in range(4000)], 'text': [os.urandom(600).hex() for i in range(4000)]})\n    \
        frame.to_parquet(f'{file}.parquet', row_group_size=500)\n";
    for (kind, script, after) in [
        ("csv", TEXT.replace("KIND", "frame.to_csv(f'{file}.csv', index=False)"), 1),
        ("parquet", parquet.to_string(), 2),
    ] {
        let (world, faults) = made(&script);
        let more = format!("input_type: {kind}\npartition_keys: [user]\n");
        job(&world, "[datastore://store/in]", &more);
        let name = format!("in/2.{kind}");
        let content = world.bucket.get(&name).unwrap();
        // In the middle of it: what is missing is asked for of the version that was begun.
        let (bucket, once, key, mut other) = (world.s3.bucket("bucket"), Once::new(), name.clone(), content.clone());
        other[10] ^= 1;
        let change = move || once.call_once(|| bucket.put(&key, other.clone()));
        if kind == "csv" {
            faults.rule(Rule::new(Fault::CutBody(9_000)).method("GET").on(&name).times(1));
        }
        faults.rule(Rule::new(Fault::First(Arc::new(change))).method("GET").on(&name).after(after - 1));
        let told = world.run_job().expect(2).stderr;
        assert!(told.contains(&format!("`datastore://store/{name}`: changed since the job listed it")), "{told}");
        assert!(told.contains("run the job anew"), "{told}");
        // That is what it is now.
        faults.clear();
        world.bucket.put(&name, content);
        world.run_job().expect(0);
        assert_eq!(world.place.rows().len(), if kind == "csv" { 6000 } else { 8000 });
    }
}

#[test]
fn paths_of_an_mltable_in_several_places_are_one_table() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let (world, _faults) = made(
        "import pandas\nframe = pandas.DataFrame({'n': [1, 2, 3], 'user': ['a', 'b', 'a']})\n\
         frame.to_csv('1.csv', index=False)\n(frame + frame).to_csv('2.csv', index=False, header=False)\n\
         frame.to_parquet('t.parquet')\n",
    );
    let root = world.place.path("").display().to_string();
    let steps = "transformations:\n  - read_delimited: {header: from_first_file, include_path_column: true}\n";
    for (first, second) in [("datastore://store/in/1.csv", "./2.csv"), ("./1.csv", "datastore://store/in/2.csv")] {
        world.place.write("in/MLTable", format!("paths: [{{file: '{first}'}}, {{file: '{second}'}}]\n{steps}"));
        let told = |path: &str, key: &str, n: u64, user: &str| {
            let path = path.replace("./", &format!("{root}/in/")).replace("//in", "/in");
            format!("{{'user': '{key}'}}|Path='{path}'|n={n}|user='{user}'")
        };
        let expected = [
            told(first, "a", 1, "a"),
            told(first, "b", 2, "b"),
            told(first, "a", 3, "a"),
            told(second, "aa", 2, "aa"),
            told(second, "bb", 4, "bb"),
            told(second, "aa", 6, "aa"),
        ];
        assert_each_once(&rows(&world, "[in]", "input_type: mltable\npartition_keys: [user]\n"), &expected);
    }
    // The same name in both places.
    world.place.write(
        "in/MLTable",
        "paths: [{file: 'datastore://store/in/t.parquet'}, {file: ./t.parquet}]\ntransformations:\n  - read_parquet: {include_path_column: true}\n",
    );
    let got = rows(&world, "[in]", "input_type: mltable\npartition_keys: [user]\n");
    assert_eq!(got.iter().filter(|row| row.contains("Path='datastore://store/in/t.parquet'")).count(), 3, "{got:?}");
    assert_eq!(got.iter().filter(|row| row.contains("|Path='/")).count(), 3, "{got:?}");
    // A column that is not there is told with those that are.
    job(&world, "[datastore://store/in/1.csv]", "input_type: csv\npartition_keys: [users]\n");
    let refused = world.run_job().expect(2).stderr;
    for told in ["`datastore://store/in/1.csv`: it has no column `users`", "its columns are: n, user"] {
        assert!(refused.contains(told), "{refused}");
    }
}
