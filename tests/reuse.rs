//! `allow_reuse`: a job that is Completed stands in for one that would be the same, and for no other.

mod support;

use std::fs;
use std::path::PathBuf;

use support::{Place, Ran, lines};

/// Leaves a line in the file that `RUNS` names whenever it runs.
const COUNTS: &str = "import os\n\ndef run(mini_batch):\n    with open(os.environ['RUNS'], 'a') as runs:\n        \
                      runs.write('x')\n    return [os.path.basename(item) for item in mini_batch]\n";

const USED: &str = "was the same job and is Completed: its result is used, nothing was run";

/// Three files, a side input, a model and a script that counts.
fn counting(place: &Place, more: &str) {
    for name in ["a", "b", "c"] {
        place.write(format!("in/{name}.txt"), name);
    }
    place.write("labels/labels.csv", "1");
    place.write("model.bin", "weights");
    place.write("src/score.py", COUNTS);
    write_job(place, more);
}

fn write_job(place: &Place, more: &str) {
    let runs = place.path("runs");
    place.write(
        "job.yaml",
        format!(
            "name: count\nentry_script: score.py\nsource_directory: src\ninputs: [in]\nmini_batch_size: 1\n\
             process_count_per_node: 1\nside_inputs: {{labels: labels}}\nmodels: {{model: model.bin}}\n\
             environment_variables: {{RUNS: {}}}\n{more}",
            runs.display()
        ),
    );
}

/// Runs the job, and returns how many mini-batches ran.
#[track_caller]
fn runs_of(place: &Place, args: &[&str], code: i32) -> (usize, Ran) {
    let before = runs(place);
    let ran = place.run(&[&["run", "job.yaml"], args].concat()).expect(code);
    (runs(place) - before, ran)
}

fn runs(place: &Place) -> usize {
    fs::read(place.path("runs")).map_or(0, |runs| runs.len())
}

fn jobs(place: &Place) -> Vec<PathBuf> {
    let jobs = fs::read_dir(place.path("fanfold-jobs")).into_iter().flatten();
    jobs.map(|job| job.unwrap().path()).collect()
}

#[test]
fn the_same_job_is_answered_by_the_one_that_is_completed() {
    let place = Place::new();
    counting(&place, "");
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    let [job] = &jobs(&place)[..] else { panic!("one job") };
    let (ran, again) = runs_of(&place, &[], 0);
    assert_eq!((ran, jobs(&place).len()), (0, 1), "{}", again.stderr);
    let id = job.file_name().unwrap().to_str().unwrap();
    let output = job.join("output/parallel_run_step.txt");
    let expected = format!(
        "{id} {USED}\n  output        {} (3 results, 18 B)\n  hint          `--no-reuse` runs the job all the same\n",
        output.display()
    );
    assert_eq!(again.stderr, expected);
    assert_eq!(lines(&output).len(), 3);
    let plan = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(
        plan.contains(&format!("would use the result of {id}, which was the same job; `--no-reuse` runs it")),
        "{plan}"
    );
    // Whatever has no part in what comes out.
    let (ran, again) = runs_of(&place, &["--set", "process_count_per_node=2", "--set", "run_max_try=1"], 0);
    assert_eq!(ran, 0, "{}", again.stderr);
}

#[test]
fn whoever_says_so_gets_a_run() {
    let place = Place::new();
    counting(&place, "");
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    assert_eq!(runs_of(&place, &["--no-reuse"], 0).0, 3);
    assert_eq!(runs_of(&place, &["--set", "allow_reuse=false"], 0).0, 3);
    assert_eq!(runs_of(&place, &["--job-dir", "job"], 0).0, 3, "that directory is to hold the job");
    assert_eq!(runs_of(&place, &[], 0).0, 0);
    // The one that must not be stood in for stands in for nobody.
    let place = Place::new();
    counting(&place, "allow_reuse: false\n");
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    write_job(&place, "");
    assert_eq!(runs_of(&place, &[], 0).0, 3);
}

/// Each change makes another job, which then answers for itself.
#[test]
fn what_is_different_is_run() {
    let place = Place::new();
    counting(&place, "");
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    let changes: [(&str, &dyn Fn(), usize); 10] = [
        ("a key", &|| write_job(&place, "arguments: [--fast]\n"), 3),
        (
            "a variable",
            &|| {
                let text = fs::read_to_string(place.path("job.yaml")).unwrap();
                place.write("job.yaml", text.replace("{RUNS:", "{MODE: fast, RUNS:"));
            },
            3,
        ),
        ("the script", &|| drop(place.write("src/score.py", format!("# another\n{COUNTS}"))), 3),
        ("a file beside it", &|| drop(place.write("src/extra.py", "")), 3),
        ("an input's content", &|| drop(place.write("in/a.txt", "longer")), 3),
        ("an input's time", &|| drop(place.write("in/a.txt", "Longer")), 3),
        ("an input more", &|| drop(place.write("in/d.txt", "d")), 4),
        ("an input less", &|| fs::remove_file(place.path("in/c.txt")).unwrap(), 3),
        ("a side input", &|| drop(place.write("labels/labels.csv", "22")), 3),
        ("a model", &|| drop(place.write("model.bin", "other weights")), 3),
    ];
    for (what, change, expected) in changes {
        change();
        let (ran, said) = runs_of(&place, &[], 0);
        assert_eq!(ran, expected, "{what}: {}", said.stderr);
        assert!(!said.stderr.contains("is not used"), "{what}: {}", said.stderr);
        assert_eq!(runs_of(&place, &[], 0).0, 0, "after {what}");
    }
}

#[test]
fn another_python_or_another_package_makes_another_job() {
    let place = Place::new();
    counting(&place, "environment: {python: bin/python}\n");
    // Reports the packages of a folder that is the test's own.
    let site = place.path("site");
    fs::create_dir(&site).unwrap();
    let python = format!("#!/bin/sh\nPYTHONPATH={} exec python3 \"$@\"\n", site.display());
    let path = place.write("bin/python", python);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    assert_eq!(runs_of(&place, &[], 0).0, 0);
    fs::create_dir(site.join("model-1.0.dist-info")).unwrap();
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    fs::rename(site.join("model-1.0.dist-info"), site.join("model-1.1.dist-info")).unwrap();
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    assert_eq!(runs_of(&place, &[], 0).0, 0);
}

#[test]
fn lines_count_in_their_order() {
    let place = Place::new();
    counting(&place, "");
    place.write("items.txt", "one\ntwo\n");
    let lines = |place: &Place| runs_of(place, &["--set", "inputs=[items.txt]", "--set", "input_type=lines"], 0).0;
    assert_eq!((lines(&place), lines(&place)), (2, 0));
    place.write("items.txt", "one\n\ntwo\n");
    assert_eq!(lines(&place), 0, "the same lines");
    place.write("items.txt", "two\none\n");
    assert_eq!((lines(&place), lines(&place)), (2, 0));
}

#[test]
fn partitions_are_the_same_while_their_files_are() {
    let place = Place::new();
    counting(&place, "");
    let text = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", text.replace("mini_batch_size: 1\n", "partition_format: \"in/{letter}.txt\"\n"));
    assert_eq!((runs_of(&place, &[], 0).0, runs_of(&place, &[], 0).0), (3, 0));
    place.write("in/a.txt", "longer");
    assert_eq!((runs_of(&place, &[], 0).0, runs_of(&place, &[], 0).0), (3, 0));
}

#[test]
fn mini_batches_without_input_are_the_same_while_what_the_script_reads_is() {
    let place = Place::new();
    counting(&place, "rank_mini_batch_count: 2\n");
    let ranks = COUNTS.replace("[os.path.basename(item) for item in mini_batch]", "['done']");
    place.write("src/score.py", ranks);
    assert_eq!((runs_of(&place, &[], 0).0, runs_of(&place, &[], 0).0), (2, 0));
    place.write("in/a.txt", "longer");
    assert_eq!((runs_of(&place, &[], 0).0, runs_of(&place, &[], 0).0), (2, 0));
    assert_eq!(runs_of(&place, &["--set", "rank_mini_batch_count=3"], 0).0, 3);
}

#[test]
fn a_result_that_is_gone_or_changed_is_missed() {
    let place = Place::new();
    counting(&place, "");
    let first = |place: &Place| {
        assert_eq!(runs_of(place, &["--no-reuse"], 0).0, 3);
        let [job] = &jobs(place)[..] else { panic!("one job") };
        job.clone()
    };
    let damages: [(&dyn Fn(PathBuf), &str); 4] = [
        (&|job| fs::remove_file(job.join("output/parallel_run_step.txt")).unwrap(), "parallel_run_step.txt` is gone"),
        (&|job| fs::write(job.join("output/parallel_run_step.txt"), "short").unwrap(), "was changed since"),
        (&|job| fs::write(job.join("output/parallel_run_step.txt"), "x\n".repeat(9)).unwrap(), "was changed since"),
        (&|job| fs::remove_dir_all(job.join(".fanfold/items")).unwrap(), "is damaged"),
    ];
    for (damage, expected) in damages {
        damage(first(&place));
        let (ran, said) = runs_of(&place, &[], 0);
        assert_eq!(ran, 3, "{}", said.stderr);
        let note = said.stderr.lines().find(|line| line.contains("had the same settings and script, but"));
        assert!(
            note.is_some_and(|note| note.contains(expected) && note.ends_with("its result is not used")),
            "{note:?}"
        );
        fs::remove_dir_all(place.path("fanfold-jobs")).unwrap();
        assert_eq!(runs_of(&place, &[], 0).0, 3, "nothing is known of jobs whose directories are gone");
        fs::remove_dir_all(place.path("fanfold-jobs")).unwrap();
    }
}

#[test]
fn only_a_result_without_a_failure_stands_in() {
    let place = Place::new();
    counting(&place, "");
    let fails = COUNTS
        .replace("    return", "    if mini_batch[0].endswith('b.txt'):\n        raise ValueError('no')\n    return");
    place.write("src/score.py", fails);
    assert_eq!(runs_of(&place, &["--set", "run_max_try=1"], 5).0, 3);
    assert_eq!(runs_of(&place, &["--set", "run_max_try=1"], 5).0, 3);
    place.write(
        "src/score.py",
        COUNTS.replace("for item in mini_batch]", "for item in mini_batch if 'b.txt' not in item]"),
    );
    assert_eq!(runs_of(&place, &[], 5).0, 3, "a short return");
    assert_eq!(runs_of(&place, &[], 5).0, 3);
    place.write("src/score.py", COUNTS);
    assert_eq!(runs_of(&place, &["--set", "output_action=summary_only"], 0).0, 3);
    assert_eq!(runs_of(&place, &["--set", "output_action=summary_only"], 0).0, 3);
}

#[test]
fn a_job_whose_input_was_written_while_it_ran_stands_in_for_nothing() {
    let place = Place::new();
    counting(&place, "");
    let writes =
        COUNTS.replace("    return", "    os.utime(mini_batch[0]) if 'b.txt' in mini_batch[0] else None\n    return");
    place.write("src/score.py", writes);
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    assert_eq!(runs_of(&place, &[], 0).0, 3);
}

#[test]
fn a_job_that_was_retried_stands_in_unless_it_changed_on_its_way() {
    for (set, expected) in [(None, 0), (Some("environment_variables.MODE=fast"), 3)] {
        let place = Place::new();
        counting(&place, "");
        let fails = COUNTS.replace(
            "    return",
            "    open(os.environ['RUNS'] + '.mended') if 'b.txt' in mini_batch[0] else None\n    return",
        );
        place.write("src/score.py", fails);
        assert_eq!(runs_of(&place, &["--set", "run_max_try=1"], 5).0, 3);
        let [job] = &jobs(&place)[..] else { panic!("one job") };
        place.write("runs.mended", "");
        let job = job.to_str().unwrap();
        let mut args = vec!["retry", "--failed", job];
        if let Some(set) = set {
            args.extend(["--set", set]);
        }
        place.run(&args).expect(0);
        let mut args = Vec::new();
        if let Some(set) = set {
            args.extend(["--set", set]);
        }
        assert_eq!(runs_of(&place, &args, 0).0, expected, "{set:?}");
    }
}

/// Its rows are of two scripts: it stands in neither for a job of the one nor of the other.
#[test]
fn a_job_that_took_a_new_script_stands_in_for_nothing() {
    let place = Place::new();
    counting(&place, "");
    let fails =
        COUNTS.replace("    return", "    if 'b.txt' in mini_batch[0]:\n        raise ValueError('b')\n    return");
    place.write("src/score.py", &fails);
    assert_eq!(runs_of(&place, &["--set", "run_max_try=1"], 5).0, 3);
    let [job] = &jobs(&place)[..] else { panic!("one job") };
    place.write("src/score.py", COUNTS);
    place.run(&["retry", "--failed", "--new-script", job.to_str().unwrap()]).expect(0);
    assert_eq!(runs_of(&place, &["--set", "run_max_try=1"], 0).0, 3, "not the new one's");
    place.write("src/score.py", fails);
    assert_eq!(runs_of(&place, &["--set", "run_max_try=1"], 5).0, 3, "not the old one's");
}

#[test]
fn a_mistake_is_refused_as_ever_and_leaves_what_was_there() {
    let place = Place::new();
    counting(&place, "");
    assert_eq!(runs_of(&place, &[], 0).0, 3);
    fs::remove_dir_all(place.path("in")).unwrap();
    fs::create_dir(place.path("in")).unwrap();
    let refused = place.run(&["run", "job.yaml"]).expect(2);
    assert!(refused.stderr.contains("holds no files"), "{}", refused.stderr);
    assert_eq!(jobs(&place).len(), 1);
}
