//! Tables that were written to between two runs of a job: it is refused before anything runs, while something of them is still to be run.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::growing::table;
use crate::jobs::{job, python_makes};
use crate::support::{LIMIT, Place, Ran, assert_each_once, finish};

/// Fails over ids from `FROM` on until the file `ok` is there.
fn script(place: &Place, from: usize) -> String {
    format!(
        "import os\n\ndef run(mini_batch):\n    if mini_batch.id.max() >= {from} and not os.path.exists({:?}):\n        raise ValueError('not \
         yet')\n    return [f'{{row.id}}:{{row.name}}' for row in mini_batch.itertuples(index=False)]\n",
        place.path("ok")
    )
}

/// Sets the time of a file to so many seconds after a moment that is long past.
fn touch(place: &Place, name: &str, seconds: u64) {
    let file = File::options().write(true).open(place.path(name)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)).unwrap();
}

/// Every file of the job directory with its contents.
fn contents(place: &Place) -> Vec<(String, Vec<u8>)> {
    let names = ["job.yaml", "status.json", "errors.jsonl", ".fanfold/job.json"];
    let output = fs::read_dir(place.job().join("output")).unwrap().map(|entry| entry.unwrap().path());
    let names = names.map(|name| place.job().join(name)).into_iter().chain(output);
    names.map(|path| (path.display().to_string(), fs::read(&path).unwrap_or_default())).collect()
}

/// What the program says of a change, which is no change of the job.
fn refused(place: &Place, args: &[&str]) -> String {
    let before = contents(place);
    let Ran { stderr, .. } = place.run(args).expect(2);
    assert!(contents(place) == before, "it was refused, and the job is another one:\n{stderr}");
    stderr.replace(place.path("").to_str().unwrap(), "/place/")
}

#[test]
fn a_table_that_changed_is_refused_before_its_rows_fail_and_as_it_was_it_goes_on() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let mut expected = table(&place, "data/a.csv", 0..20);
    expected.extend(table(&place, "data/b.csv", 20..40));
    expected.extend(table(&place, "data/c.csv", 40..60));
    for name in ["data/a.csv", "data/b.csv", "data/c.csv"] {
        touch(&place, name, 0);
    }
    let more = "input_type: csv\nmini_batch_size: 10rows\nrun_max_try: 1\n";
    job(&place, &script(&place, 25), "[data]", more);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    place.write("ok", "");
    let retry = ["retry", "--failed", "job"];

    touch(&place, "data/b.csv", 60);
    insta::assert_snapshot!(refused(&place, &retry), @r"
    error: input `input0`: `/place/data/b.csv` changed since the job listed it: modified 2023-11-14T22:13:20Z -> 2023-11-14T22:14:20Z, and rows of it are still to be run
    hint: nothing was run or changed; bring the file back as it was, its time of change included (`cp -p`, `touch -d`), and give the same command; or run what is there now as a new job, in a new directory
    ");
    // Both are named in numbers, the first by its name.
    let text = fs::read(place.path("data/c.csv")).unwrap();
    fs::write(place.path("data/c.csv"), &text[..50]).unwrap();
    let said = refused(&place, &retry);
    assert!(said.contains("data/b.csv` changed") && said.contains("; 1 file more changed or vanished"), "{said}");
    touch(&place, "data/b.csv", 0);
    let said = refused(&place, &retry);
    assert!(said.contains("data/c.csv` changed since the job listed it: size "), "{said}");
    fs::rename(place.path("data/c.csv"), place.path("c.csv")).unwrap();
    let said = refused(&place, &retry);
    assert!(said.contains("data/c.csv` vanished since the job listed it"), "{said}");

    // As they were. All of the first file is committed: it may be what it likes.
    fs::write(place.path("data/c.csv"), &text).unwrap();
    touch(&place, "data/c.csv", 0);
    fs::write(place.path("data/a.csv"), "id,name\n").unwrap();
    place.run(&retry).expect(0);
    assert_each_once(&place.rows(), &expected);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn a_job_that_stopped_goes_on_only_over_the_tables_it_began_with() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let mut expected = table(&place, "data/a.csv", 0..20);
    expected.extend(table(&place, "data/b.csv", 20..40));
    for name in ["data/a.csv", "data/b.csv"] {
        touch(&place, name, 0);
    }
    // The last rows fail again and again.
    job(&place, &script(&place, 30), "[data]", "input_type: csv\nmini_batch_size: 10rows\nrun_max_try: 1000000\n");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", "commit_after_transaction:1");
    let killed = finish(command.spawn().expect("the program starts"), LIMIT);
    assert_eq!(killed.code, None, "it was not killed:\n{}", killed.stderr);
    place.write("ok", "");

    touch(&place, "data/b.csv", 1);
    for verb in [&["run", "job.yaml", "--job-dir", "job"][..], &["resume", "job"]] {
        let said = refused(&place, verb);
        assert!(said.contains("data/b.csv` changed since the job listed it: modified "), "{said}");
    }
    touch(&place, "data/b.csv", 0);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &expected);
}

#[test]
fn gathered_rows_of_text_need_their_files_no_more_and_those_of_parquet_do() {
    if !crate::has_pandas() {
        return;
    }
    for kind in ["csv", "parquet"] {
        let place = Place::new();
        python_makes(
            &place,
            "import os, pandas\nos.mkdir('data')\n\
             for name, ids in [('a', range(0, 10)), ('b', range(10, 20)), ('c', range(40, 50))]:\n\
             \x20   frame = pandas.DataFrame({'id': list(ids), 'name': [f'name {id}' for id in ids], 'key': ['k' + str(id // 20) for id in ids]})\n\
             \x20   frame.to_csv(f'data/{name}.csv', index=False)\n\
             \x20   frame.to_parquet(f'data/{name}.parquet', index=False)\n",
        );
        let more = format!("input_type: {kind}\npartition_keys: [key]\nrun_max_try: 1\n");
        job(&place, &script(&place, 40), &format!("[data/*.{kind}]"), &more);
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
        place.write("ok", "");
        // All combinations with rows of it are in.
        touch(&place, &format!("data/b.{kind}"), 0);
        let changed = format!("data/c.{kind}");
        let before = fs::metadata(place.path(&changed)).unwrap().modified().unwrap();
        touch(&place, &changed, 0);
        if kind == "parquet" {
            let said = refused(&place, &["retry", "--failed", "job"]);
            assert!(said.contains("data/c.parquet` changed") && !said.contains("more"), "{said}");
            File::options().write(true).open(place.path(&changed)).unwrap().set_modified(before).unwrap();
        }
        place.run(&["retry", "--failed", "job"]).expect(0);
        assert_eq!(place.rows().len(), 30);
    }
}
