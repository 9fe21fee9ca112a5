//! Whole messages as the user sees them.

use fanfold_shared::job::{NoDatasets, load};
use fanfold_shared::report::{ExitCode, Report};
use insta::assert_snapshot;

use crate::folder::Folder;

#[test]
fn a_fault_looks_like_a_compilers() {
    let folder = Folder::new();
    let errors = folder.errors("\n# ten\nmini_batch_size: 0\n");
    assert_snapshot!(folder.rendered(errors), @r"
    error: `mini_batch_size` must be a count of at least 1; of tables a size (`1MB`) or rows (`1000rows`)
      --> job.yaml:6:18
       |
     6 | mini_batch_size: 0
       |                  ^
    hint: for example `mini_batch_size: 10`
    ");
}

#[test]
fn all_faults_come_at_once_in_the_order_of_the_file() {
    let folder = Folder::new();
    let text = "priority: 12\nname: x\nentry_scrpt: score.py\nentry_script: score.py\ngpus: [0, zero]\n";
    assert_snapshot!(folder.rendered(folder.parse_with(text, &["run_max_try=0"]).unwrap_err()), @r"
    error: `priority` must be a whole number from 0 to 9
      --> job.yaml:2:11
       |
     2 | priority: 12
       |           ^^
    hint: for example `priority: 4`

    error: `name` must be 3 to 32 of `a-z`, `0-9` and `-`, starting with a letter and not ending with `-`
      --> job.yaml:3:7
       |
     3 | name: x
       |       ^
    hint: `x` has 1 characters; for example `name: score-images`

    error: unknown key `entry_scrpt`
      --> job.yaml:4:1
       |
     4 | entry_scrpt: score.py
       | ^^^^^^^^^^^
    hint: did you mean `entry_script`?

    error: `zero` in `gpus` is no device
      --> job.yaml:6:11
       |
     6 | gpus: [0, zero]
       |           ^^^^
    hint: write an index or a UUID as `nvidia-smi -L` shows it: `gpus: [0, 1]`, `gpus: [GPU-8932f937-…]`

    error: `run_max_try` must be a whole number of at least 1
      --> --set
       |
       | run_max_try=0
       |             ^
    hint: for example `run_max_try: 3`
    ");
}

#[test]
fn a_missing_key_names_the_file_unless_a_slip_explains_it() {
    let folder = Folder::new();
    let parse = |text: &str| fanfold_shared::job::parse(text, &folder.job_file(), &[], &NoDatasets).unwrap_err();
    assert_snapshot!(folder.rendered(parse("name: abc\ninputs: [images]\n")), @r"
    error: `entry_script` is missing
      --> job.yaml
    hint: add it, for example `entry_script: score.py`
    ");
    let slip = parse("name: abc\ninputs: [images]\nscript: score.py\n");
    assert_eq!(slip.errors.len(), 1, "{slip}");
    assert_eq!(slip.hint().unwrap(), "here this key is `entry_script`");
}

#[test]
fn a_key_given_twice_names_both_lines() {
    let folder = Folder::new();
    let errors = folder.errors("priority: 1\nenvironment_variables: {A: 1, B: 2, A: 3}\npriority: 2\npriority: 3\n");
    let told: Vec<&str> = errors.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "`A` is given twice: in line 5 and in line 5",
            "`priority` is given twice: in line 4 and in line 6",
            "`priority` is given twice: in line 4 and in line 7",
        ]
    );
    assert_eq!(errors.errors[0].place.spot.as_ref().unwrap().column, 37);
    // The same name in two mappings is no repetition.
    folder.spec("models: {a: model}\nside_inputs: {a: model}\n");
}

#[test]
fn broken_yaml_is_explained() {
    let folder = Folder::new();
    for (more, line, column, hint) in [
        ("arguments: [--x, ${inputs.x}]", 4, 19, "needs quotes"),
        ("output: *x", 4, 9, "starts with `*` needs quotes"),
        ("environment:\n\tpython: x", 5, 2, "spaces"),
        ("output: a: b", 4, 10, "quote a value"),
        ("output: @x", 4, 9, "quote a value"),
        ("gpus: [0, 1", 4, 7, "brackets"),
        ("---\npriority: 1", 5, 1, "one file is one job"),
    ] {
        let errors = folder.errors(more);
        assert_eq!(errors.errors.len(), 1, "{errors}");
        let error = &errors.errors[0];
        assert!(error.message.starts_with("this is not valid YAML: "), "{errors}");
        let spot = error.place.spot.as_ref().unwrap();
        assert_eq!((spot.line, spot.column), (line, column), "{errors}");
        assert!(error.hint.as_ref().unwrap().contains(hint), "{more}: {error:?}");
    }
}

#[test]
fn a_file_that_is_no_mapping_is_explained() {
    let folder = Folder::new();
    for (text, message) in [
        ("", "the job file is empty"),
        ("# only a comment\n", "the job file is empty"),
        ("- a\n- b\n", "a job file is a mapping of keys to values, not a list"),
        ("score.py", "a job file is a mapping of keys to values, not text"),
    ] {
        let errors = fanfold_shared::job::parse(text, &folder.job_file(), &[], &NoDatasets).unwrap_err();
        assert_eq!(errors.errors[0].message, message);
        assert_eq!(errors.exit_code(), ExitCode::Usage);
    }
    let odd = folder.errors("[a, b]: c\n");
    assert!(odd.errors[0].message.contains("a key must be a word, not a list"), "{odd}");
}

#[test]
fn aliases_are_followed_within_a_budget() {
    let folder = Folder::new();
    let spec = folder.spec("side_inputs: &s {a: labels.txt}\nmodels: *s\n");
    assert_eq!(spec.models, spec.side_inputs);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for i in 1..9 {
        let refer = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{refer}]\n"));
    }
    let errors = folder.errors(&bomb);
    assert!(errors.hint().unwrap().contains("flat list of keys"), "{errors}");
    let deep = format!("arguments: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(folder.errors(&deep).exit_code(), ExitCode::Usage);
}

#[test]
fn a_job_file_that_can_not_be_read_is_explained() {
    let folder = Folder::new();
    folder.write("jobs.yaml", "name: x");
    let missing = load(&folder.path("job.yaml"), &[], &NoDatasets).unwrap_err();
    assert_eq!(missing.exit_code(), ExitCode::Usage);
    assert_snapshot!(folder.rendered(missing), @r"
    error: cannot read the job file
      --> job.yaml
      cause: No such file or directory (os error 2)
    hint: did you mean `jobs.yaml`?
    ");
    let folder_instead = load(&folder.path("images"), &[], &NoDatasets).unwrap_err();
    assert!(folder_instead.hint().unwrap().contains("--job-dir"), "{folder_instead:?}");
    std::fs::write(folder.path("latin1.yaml"), b"name: abc\n# caf\xe9\n").unwrap();
    let latin1 = load(&folder.path("latin1.yaml"), &[], &NoDatasets).unwrap_err();
    assert!(latin1.errors[0].message.contains("not UTF-8 text (line 2)"), "{latin1}");
    std::fs::write(folder.path("big.yaml"), vec![b'#'; 5 << 20]).unwrap();
    let big = load(&folder.path("big.yaml"), &[], &NoDatasets).unwrap_err();
    assert!(big.errors[0].message.contains("larger than 4 MiB"), "{big}");
}

#[test]
fn what_a_file_holds_does_not_drive_the_terminal() {
    let folder = Folder::new();
    let errors = folder.errors("name: \"\\e[31mred\"\noutputx\u{1b}[2J: 1\n");
    assert!(!folder.rendered(errors).contains('\u{1b}'));
    let long = folder.errors(&format!("name: {} # {}\n", "A".repeat(300), "b".repeat(5000)));
    assert!(folder.rendered(long).lines().all(|line| line.chars().count() < 250));
}

#[test]
fn flags_that_are_no_assignments_are_refused() {
    let folder = Folder::new();
    for (flag, message) in [
        ("mini_batch_size", "is not `key=value`"),
        ("=5", "is not `key=value`"),
        ("colour=red", "unknown key `colour`"),
        ("inputs.x=images", "`inputs` is a list here"),
        ("inputs=[a", "not valid YAML"),
    ] {
        let errors = folder.parse_with("", &[flag]).unwrap_err();
        assert_eq!(errors.errors.len(), 1, "{errors}");
        assert!(errors.errors[0].message.contains(message), "{errors}");
    }
}
