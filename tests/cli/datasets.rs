//! `dataset`, and jobs that name registered datasets.

use std::fs;

use super::{json, said, told};
use crate::support::Place;

/// A place with two tables in `iris`, and a job over the dataset of that name whose rows are the names of its files.
fn place() -> Place {
    let place = Place::new();
    place.write("data/iris/a.csv", "x;y\n1;2\n3;4\n");
    place.write("data/iris/b.csv", "x;y\n5;6\n");
    place.write(
        "score.py",
        "import os\n\ndef run(mini_batch):\n    return sorted(os.path.basename(path) for path in mini_batch)\n",
    );
    place.write("job.yaml", "name: names\nentry_script: score.py\ninputs: [iris]\nprocess_count_per_node: 1\n");
    place
}

const REGISTER: [&str; 5] = ["dataset", "register", "iris", "--path", "data/iris"];

/// As the user sees it, without what differs from run to run.
fn refused(place: &Place, args: &[&str]) -> String {
    let ran = place.run(args).expect(2);
    assert_eq!(ran.stdout, "", "{args:?}");
    told(place, &ran.stderr)
}

#[test]
fn a_dataset_is_registered_listed_and_shown() {
    let place = place();
    assert_eq!(
        said(&place, &["dataset", "list"]),
        "No datasets. `fanfold dataset register NAME --path PATH` registers one.\n"
    );
    let csv = ["--input-type", "csv", "--read-csv", "{sep: \";\"}", "--description", "petals"];
    let ran = place.run(&[&REGISTER[..], &csv].concat()).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("iris:1\n", "iris:1 is registered: 2 files, 20 B\n"));
    let ran = place.run(&[&REGISTER[..], &csv].concat()).expect(0);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("iris:1\n", "iris:1 is just this already: 2 files, 20 B\n")
    );
    insta::assert_snapshot!(refused(&place, &REGISTER), @r#"
    error: `iris` is registered already: `iris:1` has `input_type: csv`
    hint: versions don't change: `--new-version` registers this as `iris:2`; `fanfold dataset show iris` shows what is there
    "#);
    let ran = place.run(&[&REGISTER[..], &["--path", "job.yaml", "--new-version"]].concat()).expect(0);
    assert_eq!(ran.stdout, "iris:2\n");

    let listed = said(&place, &["dataset", "list"]);
    let cells: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["DATASET", "VERSIONS", "TYPE", "FILES", "SIZE", "AGE", "PATH"]);
    assert_eq!(cells[1][..6], ["iris:2", "2", "files", "3", "96", "B"], "{listed}");
    assert!(listed.ends_with("<place>/data/iris and 1 more\n"), "{listed}");
    let shown = said(&place, &["dataset", "show", "iris:1"]);
    let by = shown.find(" by ").unwrap();
    let line = shown[by..].find('\n').unwrap();
    insta::assert_snapshot!(format!("{} by <user>{}", &shown[..by], &shown[by + line..]), @r#"
    iris:1 of 2 versions, the newest is 2
      petals

    path           <place>/data/iris (2 files, 20 B)
    input type     csv
    read_csv       {"sep":";","encoding":"utf-8","header":true,"quotechar":"\"","dtype":{}}
    registered     <time> by <user>
    in a job file  inputs: [iris:1]
    "#);

    let list = json(&place, &["dataset", "list"]);
    assert_eq!(
        (&list["datasets"][0]["version"], &list["datasets"][0]["versions"]),
        (&2.into(), &serde_json::json!([1, 2]))
    );
    let newest = json(&place, &["dataset", "show", "iris@latest"]);
    assert_eq!((&newest["dataset"]["version"], &newest["dataset"]["input_type"]), (&2.into(), &"files".into()));
    let first = json(&place, &["dataset", "show", "iris:1"]);
    assert_eq!(first["dataset"]["read_csv"]["sep"], ";");
    assert_eq!(first["dataset"]["paths"][0]["path"], place.path("data/iris").to_str().unwrap());
}

#[test]
fn what_cannot_be_registered_or_found_is_refused() {
    let place = place();
    insta::assert_snapshot!(refused(&place, &["dataset", "show", "iris"]), @r#"
    error: there is no dataset `iris`
    hint: nothing is registered yet; `fanfold dataset register iris --path PATH` registers it
    "#);
    place.run(&REGISTER).expect(0);
    insta::assert_snapshot!(refused(&place, &["dataset", "show", "irsi"]), @r#"
    error: there is no dataset `irsi`
    hint: did you mean `iris`? `fanfold dataset list` shows all
    "#);
    insta::assert_snapshot!(refused(&place, &["dataset", "show", "iris:7"]), @r#"
    error: dataset `iris` has no version 7
    hint: there is `iris:1`
    "#);
    insta::assert_snapshot!(refused(&place, &["dataset", "show", "data/iris"]), @r#"
    error: `data/iris` names no dataset
    hint: write `iris`, `iris:3` or `iris@latest`
    "#);
    insta::assert_snapshot!(refused(&place, &["dataset", "register", "my.iris", "--path", "data"]), @r#"
    error: a dataset can't be called `my.iris`
    hint: a name is a letter, then letters, digits, `_` and `-`, at most 64 in all
    "#);
    insta::assert_snapshot!(refused(&place, &["dataset", "register", "more", "--path", "data/isir"]), @r#"
    error: `--path`: there is no `data/isir`
      --> the registration
       |
       | --path data/isir
       |        ^^^^^^^^^
    hint: `<place>/data` holds `iris`
    "#);
    insta::assert_snapshot!(refused(&place, &["dataset", "register", "more", "--path", "data/*.png"]), @r#"
    error: input `more` is empty: `<place>/data/*.png` matches no file; the folder `<place>/data` holds 2 files, none of which match
    hint: for example `iris/a.csv` is there
    "#);
    let cvs = ["dataset", "register", "more", "--path", "data", "--input-type", "cvs"];
    insta::assert_snapshot!(refused(&place, &cvs), @r#"
    error: `input_type` must be `files`, `lines`, `csv`, `tsv`, `jsonl`, `parquet` or `mltable`
      --> the registration
       |
       | --input-type cvs
       |              ^^^
    hint: did you mean `input_type: csv`?
    "#);
    place.write("state/fanfold/datasets/iris/2.json", "{");
    insta::assert_snapshot!(refused(&place, &["dataset", "show", "iris"]), @r#"
    error: `<place>/state/fanfold/datasets/iris/2.json` does not describe a version of a dataset
      cause: EOF while parsing an object at line 1 column 1
    hint: nothing was changed; bring `<place>/state/fanfold/datasets/iris/2.json` back from a copy, or remove it and register the data again
    "#);
    let ran = place.run(&["dataset", "list"]).expect(0);
    assert!(ran.stderr.starts_with("warning: `") && ran.stderr.contains("datasets/iris/2.json`"), "{}", ran.stderr);
}

#[test]
fn a_job_runs_over_a_version() {
    let place = place();
    place.run(&REGISTER).expect(0);
    place.write("data/more/c.csv", "x\n");
    place.run(&["dataset", "register", "iris", "--path", "data/more", "--new-version"]).expect(0);

    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "inputs=iris:1"]).expect(0);
    assert_eq!(place.rows(), ["a.csv", "b.csv"]);
    assert_eq!(place.status()["datasets"], serde_json::json!({"input0": "iris:1"}));
    assert!(said_of(&place, &["status", "job"]).contains("\ndatasets  iris:1 as input0\n"));
    let resolved = fs::read_to_string(place.job().join("job.yaml")).unwrap();
    assert!(resolved.contains(place.path("data/iris").to_str().unwrap()) && resolved.contains("iris:1"), "{resolved}");
    // The job's own copy of its job file says all: the record may go.
    fs::remove_dir_all(place.path("state/fanfold/datasets")).unwrap();
    place.run(&["run", "job/job.yaml", "--job-dir", "job"]).expect(0);
    place.run(&["run", "job/job.yaml", "--job-dir", "again"]).expect(0);

    place.run(&REGISTER).expect(0);
    let plan = said_of(&place, &["plan", "job.yaml"]);
    assert!(plan.contains("  input0        2 files of iris:1 under <place>/data/iris, 1 mini-batch\n"), "{plan}");
    assert!(!plan.contains("changed since"), "{plan}");
    let plan = json(&place, &["plan", "job.yaml"]);
    let notes = plan["notes"].as_array().unwrap();
    // The job that ran would stand in.
    assert!(matches!(&notes[..], [note] if note.as_str().unwrap().contains("which was the same job")), "{notes:?}");
    assert_eq!(plan["inputs"][0]["dataset"], "iris:1");
}

fn said_of(place: &Place, args: &[&str]) -> String {
    super::told::told(&place.run(args).expect(0).stdout, &place.path(""), "names")
}

#[test]
fn another_version_is_another_job() {
    let place = place();
    place.run(&REGISTER).expect(0);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    place.run(&[&REGISTER[..], &["--new-version"]].concat()).expect(0);
    let text = refused(&place, &["run", "job.yaml", "--job-dir", "job"]);
    assert!(text.contains("(iris:1)\"}, is {input0: ") && text.contains("(iris:2)\"}"), "{text}");
    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "inputs=iris:1"]).expect(0);
}

#[test]
fn data_that_changed_is_told_of_and_runs() {
    let place = place();
    place.run(&REGISTER).expect(0);
    place.write("data/iris/c.csv", "x;y\n7;8\n");
    let note =
        "input `input0`: the data of `iris:1` changed since it was registered: 2 files (20 B) then, 3 files (28 B) now";
    let plan = said_of(&place, &["plan", "job.yaml"]);
    assert!(
        plan.contains(&format!("  note          {note}; `fanfold dataset register iris … --new-version`")),
        "{plan}"
    );
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert_eq!(place.rows(), ["a.csv", "b.csv", "c.csv"]);
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(!again.stderr.contains(note), "it has its list: {}", again.stderr);
}

#[test]
fn what_lies_beside_the_job_file_goes_before_a_dataset() {
    let place = place();
    place.run(&REGISTER).expect(0);
    place.write("iris/one.txt", "");
    let note = "input `input0`: `iris` is what lies beside the job file; `iris@latest` is the dataset of that name";
    let plan = said_of(&place, &["plan", "job.yaml"]);
    assert!(plan.contains("1 file under <place>/iris,") && plan.contains(note), "{plan}");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    let plan = said_of(&place, &["plan", "job.yaml", "--set", "inputs=iris@latest"]);
    assert!(plan.contains("2 files of iris:1 under <place>/data/iris") && !plan.contains(note), "{plan}");
}

#[test]
fn an_input_that_is_no_dataset_is_refused() {
    let place = place();
    insta::assert_snapshot!(refused(&place, &["run", "job.yaml", "--set", "inputs=iris:1"]), @r#"
    error: `inputs`: no dataset is registered as `iris`
      --> --set
       |
       | inputs=iris:1
       |        ^^^^^^
    hint: `fanfold dataset register iris --path PATH` registers one; or give the path of the data
    "#);
    place.run(&[&REGISTER[..], &["--input-type", "csv"]].concat()).expect(0);
    insta::assert_snapshot!(refused(&place, &["run", "job.yaml", "--set", "inputs=iris:9"]), @r#"
    error: `inputs`: dataset `iris` has no version 9
      --> --set
       |
       | inputs=iris:9
       |        ^^^^^^
    hint: there is `iris:1`
    "#);
    insta::assert_snapshot!(refused(&place, &["run", "job.yaml", "--set", "inputs=irsi"]), @r#"
    error: `inputs`: there is no file, folder or registered dataset `irsi`
      --> --set
       |
       | inputs=irsi
       |        ^^^^
    hint: did you mean the dataset `iris`?
    "#);
    insta::assert_snapshot!(refused(&place, &["run", "job.yaml", "--set", "input_type=files"]), @r#"
    error: `iris:1` is registered as `csv`, and `input_type` says `files`
      --> --set
       |
       | input_type=files
       |            ^^^^^
    hint: remove `input_type`: a registered dataset carries its own
    "#);
    assert!(!place.path("fanfold-jobs").exists(), "a refused job leaves nothing");
}

#[test]
fn all_versions_of_a_dataset_are_listed() {
    let place = place();
    assert_eq!(refused(&place, &["dataset", "list", "iris"]).lines().next(), Some("error: there is no dataset `iris`"));
    let csv = ["--input-type", "csv"];
    place.run(&[&REGISTER[..], &csv].concat()).expect(0);
    place.run(&[&REGISTER[..], &["--path", "job.yaml", "--new-version"]].concat()).expect(0);
    place.run(&[&REGISTER[..], &["--new-version"]].concat()).expect(0);
    let cells = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_string).collect()).collect()
    };
    let listed = said(&place, &["dataset", "list", "iris"]);
    let table = cells(&listed);
    assert_eq!(table[0], ["DATASET", "TYPE", "FILES", "SIZE", "AGE", "BY", "PATH"]);
    let first: Vec<&str> = table[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(first, ["iris:1", "iris:2", "iris:3"], "{listed}");
    assert_eq!(table[1][1..5], ["csv", "2", "20", "B"], "{listed}");
    assert!(listed.lines().nth(2).unwrap().ends_with("<place>/data/iris and 1 more"), "{listed}");
    assert_eq!(cells(&said(&place, &["dataset", "list", "iris:2"])).len(), 2);

    let value = json(&place, &["dataset", "list", "iris"]);
    let versions: Vec<_> = value["datasets"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    assert_eq!((&value["version"], versions), (&1.into(), vec![1.into(), 2.into(), 3.into()]));
    assert_eq!(value["datasets"][0]["paths"][0]["path"], place.path("data/iris").to_str().unwrap());

    // One that can't be read does not hide the others.
    place.write("state/fanfold/datasets/iris/2.json", "{");
    let ran = place.run(&["dataset", "list", "iris"]).expect(0);
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("iris/2.json"), "{}", ran.stderr);
    assert_eq!(cells(&ran.stdout).len(), 3, "{}", ran.stdout);
    let said = refused(&place, &["dataset", "list", "iris:7"]);
    assert!(said.contains("has no version 7") && said.contains("`fanfold dataset list iris` shows all"), "{said}");
}

#[test]
fn data_of_another_kind_is_not_registered() {
    let place = place();
    let parquet = ["--input-type", "parquet"];
    insta::assert_snapshot!(refused(&place, &[&REGISTER[..], &parquet].concat()), @r"
    error: `<place>/data/iris/a.csv`: it is no Parquet file: it looks like CSV
    hint: register it with `--input-type csv`; or name the Parquet files alone, by a pattern
    ");
    place.write("data/t.parquet", b"PAR1....");
    let csv = ["dataset", "register", "t", "--path", "data/t.parquet", "--input-type", "csv"];
    insta::assert_snapshot!(refused(&place, &csv), @r"
    error: `<place>/data/t.parquet`: it is a Parquet file
    hint: register it with `--input-type parquet`
    ");
    assert!(said(&place, &["dataset", "list"]).starts_with("No datasets."));
    place.run(&["dataset", "register", "t", "--path", "data/t.parquet", "--input-type", "parquet"]).expect(0);
}
