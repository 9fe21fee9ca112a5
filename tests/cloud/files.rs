//! Folders, objects and patterns become items, and their files arrive.

use fanfold_test_servers::{Files, has_cloud_servers};

use crate::World;
use crate::support::assert_each_once;

#[test]
fn every_object_of_a_folder_is_in_the_output_once() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = world.fill(45);
    // Stands for the folder, in accounts that have such.
    world.bucket.put("in/3", "");
    world.bucket.put("inside", "not meant");
    world.job("[datastore://store/in]", "mini_batch_size: 4\n");
    let plan = world.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(plan.starts_with("cloud: 45 files"), "{plan}");
    world.run_job().expect(0);
    assert_each_once(&world.place.rows(), &expected);
    // Nothing stays pinned, and the next job finds everything here.
    assert_eq!(world.cached().iter().filter(|path| path.to_string_lossy().contains("in-use")).count(), 0);
    assert_eq!(world.cached().iter().filter(|path| path.to_string_lossy().contains("objects")).count(), 45);
    world.place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn rows_begin_with_the_address_of_their_file_if_that_is_wanted() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = world.fill(12);
    world.job("[datastore://store/in]", "mini_batch_size: 4\nappend_row_key: true\n");
    world.run_job().expect(0);
    let rows = world.place.rows();
    let addresses: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row.split_once('\t').expect("a key").0).collect();
    assert!(addresses.len() == 12 && addresses.iter().all(|at| at.starts_with("datastore://store/in/")), "{rows:?}");
    let results: Vec<String> = rows.iter().map(|row| row.split_once('\t').unwrap().1.to_string()).collect();
    assert_each_once(&results, &expected);
}

#[test]
fn one_object_a_pattern_and_other_spellings_of_an_address_do_as_well() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let all = world.fill(25);
    for (inputs, expected) in [
        ("[\"datastore://store/in/1/10 é.txt\"]", vec![all[10].clone()]),
        ("[\"azureml://datastores/store/paths/in/2/*.txt\"]", all[20..].to_vec()),
        ("[\"datastore://store/in/**/*5 é.txt\", datastore://store/in/1]", {
            let mut both: Vec<String> = all.iter().filter(|name| name.contains("5 é")).cloned().collect();
            both.extend(all[10..20].to_vec());
            both
        }),
    ] {
        world.job(inputs, "mini_batch_size: 3\nallow_reuse: false\n");
        std::fs::remove_dir_all(world.place.job()).unwrap_or_default();
        world.run_job().expect(0);
        assert_each_once(&world.place.rows(), &expected);
    }
}

#[test]
fn credentials_of_the_environment_do_for_plain_addresses() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = world.fill(12);
    world.job("[s3://bucket/in]", "");
    let mut command = world.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env_remove("FANFOLD_DATASTORES");
    command.env("AWS_ACCESS_KEY_ID", &world.s3.key().id).env("AWS_SECRET_ACCESS_KEY", &world.s3.key().secret);
    command.env("AWS_ENDPOINT_URL", world.s3.url()).env("AWS_REGION", "us-east-1").env("AWS_ALLOW_HTTP", "true");
    crate::finish(command.spawn().unwrap(), crate::LIMIT).expect(0);
    assert_each_once(&world.place.rows(), &expected);
}

#[test]
fn a_file_of_a_web_server_is_an_input() {
    let place = crate::Place::new();
    place.write("web/a b.txt", "over http");
    place.write("web/list.txt", "one\ntwo\nthree\n");
    let files = Files::serve(&place.path("web"));
    place.write("score.py", crate::SAYS);
    let job = |inputs: &str, more: &str| {
        let yaml = format!("name: web\nentry_script: score.py\ninputs: {inputs}\n{more}");
        place.write("job.yaml", yaml);
    };
    job(&format!("[{}]", files.url("a%20b.txt")), "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(place.rows()[0].ends_with("/a b.txt=over http"), "{:?}", place.rows());
    // A list of items.
    place.write("score.py", "def run(mini_batch):\n    return list(mini_batch)\n");
    job(&format!("[{}]", files.url("list.txt")), "input_type: lines\nmini_batch_size: 2\n");
    std::fs::remove_dir_all(place.job()).unwrap();
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &["one".into(), "two".into(), "three".into()]);
}

#[test]
fn of_a_server_that_says_no_versions_nothing_is_kept_for_another_job() {
    let place = crate::Place::new();
    place.write("web/a.txt", "one");
    let files = Files::serve(&place.path("web"));
    files.set_versions(false);
    place.write("score.py", crate::SAYS);
    place.write("job.yaml", format!("name: web\nentry_script: score.py\ninputs: [{}]\n", files.url("a.txt")));
    for content in ["one", "two"] {
        place.write("web/a.txt", content);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        assert!(place.rows()[0].ends_with(&format!("/a.txt={content}")), "{:?}", place.rows());
        std::fs::remove_dir_all(place.job()).unwrap();
    }
    // Nor is a whole job: each of these runs.
    for _ in 0..2 {
        place.run(&["run", "job.yaml"]).expect(0);
    }
    assert_eq!(std::fs::read_dir(place.path("fanfold-jobs")).unwrap().count(), 2);
}

#[test]
fn partitions_by_path_hold_the_files_of_one_combination() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    for (user, season) in [("ann", "winter"), ("ann", "summer"), ("bob", "summer")] {
        for clip in 0..3 {
            world.bucket.put(&format!("in/{user}/{season}/{clip}.wav"), "sound");
        }
    }
    world.job("[datastore://store/in]", "partition_format: '{user}/{season}/*.wav'\npartition_keys: [season]\n");
    world.place.write(
        "score.py",
        "def run(mini_batch, context):\n    season = context.partition_key_value['season']\n    assert all('/' + season + '/' in path for path in mini_batch)\n    return [f'{season} {len(mini_batch)}'] * len(mini_batch)\n",
    );
    world.run_job().expect(0);
    let mut rows = world.place.rows();
    rows.sort();
    assert_eq!(rows, [vec!["summer 6"; 6], vec!["winter 3"; 3]].concat());
}

#[test]
fn a_web_server_has_neither_folders_nor_patterns_and_its_pages_are_no_tables() {
    let place = crate::Place::new();
    place.write("web/data/index.html", "<a href=\"t.csv\">t.csv</a>\n");
    place.write("web/data/t.csv", "id,name\n1,a\n");
    place.write("web/data/*.csv", "id,name\n1,a\n");
    let files = Files::serve(&place.path("web"));
    place.write("score.py", crate::SAYS);
    let job = |inputs: &str, more: &str| {
        let yaml = format!("name: web\nentry_script: score.py\ninputs: ['{inputs}']\n{more}");
        place.write("job.yaml", yaml);
    };
    let refused = |inputs: &str, more: &str| {
        job(inputs, more);
        place.run(&["plan", "job.yaml"]).expect(2).stderr
    };
    let csv = "input_type: csv\n";
    for pattern in ["data/t*.csv", "data/**/*.csv", "*/t.csv"] {
        let pattern = files.url(pattern);
        let told = refused(&pattern, csv);
        assert!(told.contains(&format!("`{pattern}` is a pattern, and a web server can't be asked")), "{told}");
        assert!(told.contains("name each file"), "{told}");
    }
    let base = files.url("").trim_end_matches('/').to_string();
    for folder in [files.url("data/"), files.url(""), base] {
        for more in [csv, ""] {
            let told = refused(&folder, more);
            assert!(told.contains(&format!("`{folder}` is a folder, and a web server can't be asked")), "{told}");
            assert!(told.contains("name each file") && told.contains("job.yaml:3:"), "{told}");
        }
    }
    let side = format!("side_inputs: {{labels: '{}'}}\n", files.url("data/"));
    let told = refused(&files.url("data/t.csv"), &side);
    assert!(told.contains("`side_inputs.labels`: `http://") && told.contains("is a folder"), "{told}");
    place.write("table/MLTable", format!("paths: [{{folder: '{}'}}]\n", files.url("data")));
    let told = refused("table", "input_type: mltable\n");
    assert!(told.contains("is a folder") && told.contains("MLTable:1:"), "{told}");
    // Without the slash it is sent to the page.
    for page in ["data", "data/index.html"] {
        for kind in ["csv", "jsonl", "parquet", "lines"] {
            let told = refused(&files.url(page), &format!("input_type: {kind}\n"));
            let what = "its server says that it is `text/html; charset=utf-8`, a page and no data";
            assert!(told.contains(&format!("`{}`: {what}", files.url(page))), "{told}");
        }
    }
    // Nobody asks there with credentials.
    let missing = refused(&files.url("data/u.csv"), csv);
    assert!(missing.contains("hint: asked without credentials\n"), "{missing}");
    // A page may be a file, and a file may be called like a pattern.
    for (file, content) in
        [("data/index.html", "index.html=<a href=\"t.csv\">t.csv</a>\n"), ("data/*.csv", "*.csv=id,name\n1,a\n")]
    {
        job(&files.url(file), "");
        std::fs::remove_dir_all(place.job()).unwrap_or_default();
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        assert!(place.rows().join("\n").trim_end().ends_with(content.trim_end()), "{:?}", place.rows());
    }
}
