//! The job file. Every single message is in the parser's own table; here each key goes through the program once with a wrong
//! type and once misspelt, and one of each class is shown whole.

use fanfold_shared::job::KEYS;

use super::{job_file, place, refused};

#[test]
fn every_key_of_a_wrong_type_is_refused_by_its_name() {
    let place = place();
    for key in KEYS {
        // A list in a list is none of what any key takes.
        place.write("job.yaml", job_file(&place, &[(key.name, "[[1]]")]));
        let said = refused(&place, &["job.yaml"]);
        let first = said.lines().next().unwrap();
        assert!(first.contains(&format!("`{}", key.name)), "{}:\n{said}", key.name);
        assert!(said.contains("--> job.yaml:"), "{}:\n{said}", key.name);
        assert!(said.contains("^"), "{}:\n{said}", key.name);
    }
}

#[test]
fn every_misspelt_key_gets_the_right_one() {
    let place = place();
    for key in KEYS {
        let (most, last) = key.name.split_at(key.name.len() - 1);
        place.write("job.yaml", job_file(&place, &[(&format!("{most}{last}{last}"), "1")]));
        let said = refused(&place, &["job.yaml"]);
        assert!(said.starts_with(&format!("error: unknown key `{most}{last}{last}`\n")), "{said}");
        assert!(said.ends_with(&format!("\nhint: did you mean `{}`?\n", key.name)), "{said}");
    }
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let place = place();
    let faults = [("run_max_try", "0"), ("error_treshold", "5"), ("mini_batch_size", "[3]"), ("input_type", "cvs")];
    place.write("job.yaml", job_file(&place, &faults));
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `run_max_try` must be a whole number of at least 1
      --> job.yaml:6:14
       |
     6 | run_max_try: 0
       |              ^
    hint: for example `run_max_try: 3`

    error: unknown key `error_treshold`
      --> job.yaml:7:1
       |
     7 | error_treshold: 5
       | ^^^^^^^^^^^^^^
    hint: did you mean `error_threshold`?

    error: `mini_batch_size` must be a count of at least 1; of tables a size (`1MB`) or rows (`1000rows`), not a list
      --> job.yaml:8:18
       |
     8 | mini_batch_size: [3]
       |                  ^
    hint: for example `mini_batch_size: 10`

    error: `input_type` must be `files`, `lines`, `csv`, `tsv`, `jsonl`, `parquet` or `mltable`
      --> job.yaml:9:13
       |
     9 | input_type: cvs
       |             ^^^
    hint: did you mean `input_type: csv`?
    "#);
}

#[test]
fn a_fault_in_a_flag_is_shown_in_the_flag() {
    let place = place();
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--set", "run_max_try=0"]), @r#"
    error: `run_max_try` must be a whole number of at least 1
      --> --set
       |
       | run_max_try=0
       |             ^
    hint: for example `run_max_try: 3`
    "#);
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--set", "run_max_tri=3"]), @r#"
    error: unknown key `run_max_tri`
      --> --set
       |
       | run_max_tri=3
       | ^^^^^^^^^^^
    hint: did you mean `run_max_try`?
    "#);
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--set", "run_max_try"]), @r#"
    error: `--set run_max_try` is not `key=value`
      --> --set
       |
       | run_max_try
       | ^^^^^^^^^^^
    hint: for example `--set mini_batch_size=5`
    "#);
    insta::assert_snapshot!(refused(&place, &["job.yaml", "--gpus", "cuda:0"]), @r#"
    error: `cuda:0` in `gpus` is no device
      --> --set
       |
       | gpus="cuda:0"
       |      ^^^^^^^^
    hint: write an index or a UUID as `nvidia-smi -L` shows it: `gpus: [0, 1]`, `gpus: [GPU-8932f937-…]`
    "#);
}

#[test]
fn what_is_no_job_file_is_refused() {
    let place = place();
    insta::assert_snapshot!(refused(&place, &["jbo.yaml"]), @r#"
    error: cannot read the job file
      --> jbo.yaml
      cause: No such file or directory (os error 2)
    hint: did you mean `job.yaml`?
    "#);
    place.write("folder/job.yaml", "");
    insta::assert_snapshot!(refused(&place, &["folder"]), @r#"
    error: cannot read the job file
      --> folder
      cause: Is a directory (os error 21)
    hint: give the job file in it, or `--job-dir` for a job directory
    "#);
    place.write("job.yaml", "");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: the job file is empty
      --> job.yaml
    hint: start with `name:`, `entry_script:` and `inputs:`
    "#);
    place.write("job.yaml", "name: echo\n  inputs: [a\n");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: this is not valid YAML: mapping values are not allowed in this context
      --> job.yaml:2:9
       |
     2 |   inputs: [a
       |         ^
    hint: write `key: value` with a space after the colon, and quote a value that holds `: `
    "#);
    place.write("job.yaml", b"name: \xff\xfe\n");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: the job file is not UTF-8 text (line 1)
      --> job.yaml
    hint: save it as UTF-8
    "#);
    place.write("job.yaml", "[1, 2]\n");
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: a job file is a mapping of keys to values, not a list
      --> job.yaml:1:1
       |
     1 | [1, 2]
       | ^
    hint: write one `key: value` a line, for example `name: score-images`
    "#);
}

#[test]
fn a_script_that_is_not_there_is_refused() {
    let place = place();
    place.write("job.yaml", job_file(&place, &[("entry_script", "scor.py")]));
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `entry_script`: there is no `scor.py`
      --> job.yaml:7:15
       |
     7 | entry_script: scor.py
       |               ^^^^^^^
    hint: did you mean `score.py`?
    "#);
    place.write("src/main.py", "");
    place.write("job.yaml", job_file(&place, &[("entry_script", "src")]));
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: `entry_script` must be a file, and `src` is a folder
      --> job.yaml:7:15
       |
     7 | entry_script: src
       |               ^^^
    hint: did you mean `src/main.py`?
    "#);
    place.write("src/.amlignore", "main.py\n");
    place.write("job.yaml", job_file(&place, &[("source_directory", "src"), ("entry_script", "main.py")]));
    insta::assert_snapshot!(refused(&place, &["job.yaml"]), @r#"
    error: entry script `main.py` is left out of the snapshot of `src`
    hint: look for it in `.amlignore` or `.gitignore`; inputs, side inputs, models, job directories, the output and virtual environments are left out as well
    "#);
}
