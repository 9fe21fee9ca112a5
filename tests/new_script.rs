//! `retry --failed --new-script`: a mended script finishes the job that the old one could not, whatever dies meanwhile.

#[path = "crash/points.rs"]
mod points;
#[path = "support/running.rs"]
mod running;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use running::{GATED, Running, job_of, open_gate, wait_until_begun};
use support::{Place, assert_each_once, wait_for};

/// Says of each item which script it was; these items it can't do.
const OLD: &str = "BAD = {'item-003', 'item-011', 'item-017'}\n\ndef run(mini_batch):\n    if BAD & set(mini_batch):\n        \
                   raise ValueError('bad pixel')\n    return ['old ' + item for item in mini_batch]\n";
const MENDED: &str = "def run(mini_batch):\n    return ['new ' + item for item in mini_batch]\n";
const BAD: [&str; 3] = ["item-003", "item-011", "item-017"];

const RETRY: [&str; 4] = ["retry", "--failed", "--new-script", "job"];

/// A job whose script failed at three of twenty mini-batches; the items.
fn failed(place: &Place, more: &str) -> Vec<String> {
    let items = place.write_items(20);
    job_of(place, OLD, &format!("run_max_try: 2\n{more}"));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_eq!(place.rows().len(), 17);
    items
}

/// Each row is in once, those of the bad items by the new script.
#[track_caller]
fn mended(place: &Place, items: &[String]) {
    let by = |item: &String| format!("{} {item}", if BAD.contains(&item.as_str()) { "new" } else { "old" });
    assert_each_once(&place.rows(), &items.iter().map(by).collect::<Vec<_>>());
    place.run(&["doctor", "--verify", "job"]).expect(0);
    assert!(place.errors().is_empty());
}

/// Every file of the job but its logs, with what is in it. SQLite makes and removes files of its own where it only reads.
fn files(dir: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        match path.is_dir() {
            true if name != "logs" => all.extend(files(&path)),
            false if name != "lock" && !name.contains("sqlite-") => {
                all.insert((path.display().to_string(), fs::read(&path).unwrap()));
            }
            _ => (),
        }
    }
    all
}

#[test]
fn a_mended_script_finishes_the_job() {
    let place = Place::new();
    let items = failed(&place, "");
    place.write("score.py", MENDED);
    let again = place.run(&["retry", "--failed", "job"]).expect(5);
    assert!(again.stderr.contains("fanfold retry --failed --new-script"), "{}", again.stderr);
    let completed = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert!(completed.stderr.contains("runs what failed with the script as it is now"), "{}", completed.stderr);
    let ran = place.run(&["retry", "--failed", "--new-script", "job", "--json"]).expect(0);
    mended(&place, &items);

    // Everybody says which script it is, and since when.
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&status["state"], &status["script"]["number"]), (&"Completed".into(), &2.into()));
    assert_eq!(status["script"]["mini_batches_before"], 17);
    let words = "copy 2, since 20";
    let told = place.run(&["status", "job"]).expect(0).stdout;
    assert!(told.contains(words), "{told}");
    for log in ["logs/job_result.txt", "logs/sys/master_role.txt", "azureml-logs/70_driver_log.txt"] {
        let text = fs::read_to_string(place.job().join(log)).unwrap();
        assert!(
            text.contains(words) && text.contains("rows of 17 mini-batches are of an earlier one"),
            "{log}: {text}"
        );
    }
    // The first copy is where it was.
    assert_eq!(fs::read_to_string(place.job().join(".fanfold/snapshot/score.py")).unwrap(), OLD);
    assert_eq!(fs::read_to_string(place.job().join(".fanfold/snapshot-2/score.py")).unwrap(), MENDED);

    // It is the job's script from now on.
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(again.stderr.contains("Completed already") && !again.stderr.contains("changed since"), "{}", again.stderr);
    let nothing = place.run(&RETRY).expect(2);
    assert!(nothing.stderr.contains("no mini-batch of it is out of tries"), "{}", nothing.stderr);
    mended(&place, &items);
}

#[test]
fn bad_items_of_a_bisected_mini_batch_come_in_with_the_new_script() {
    let place = Place::new();
    let items = place.write_items(20);
    job_of(&place, OLD, "run_max_try: 2\non_failure: bisect\n");
    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "mini_batch_size=10"]).expect(5);
    assert_eq!(place.rows().len(), 17);
    place.write("score.py", MENDED);
    place.run(&RETRY).expect(0);
    mended(&place, &items);
}

/// Without a settled mini-batch there is nothing out of tries; the new script is taken all the same.
#[test]
fn a_script_that_failed_in_init_is_mended_and_one_with_a_syntax_error_fails_as_ever() {
    let place = Place::new();
    let items = place.write_items(8);
    job_of(&place, "def init():\n    raise OSError('no model')\n\ndef run(mini_batch):\n    return mini_batch\n", "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    place.write("score.py", "def run(mini_batch:\n");
    let ran = place.run(&RETRY).expect(1);
    assert!(ran.stderr.contains("SyntaxError"), "{}", ran.stderr);
    let ended = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ended.stderr.contains("with `--new-script` with the script as it is now"), "{}", ended.stderr);
    place.write("score.py", MENDED);
    place.run(&RETRY).expect(0);
    assert_each_once(&place.rows(), &items.iter().map(|item| format!("new {item}")).collect::<Vec<_>>());
    assert_eq!(place.status()["script"]["number"], 3);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

/// What the old script could not do says nothing of what the new one can: nothing is near the end of its tries.
#[test]
fn attempts_of_the_old_script_do_not_count() {
    let place = Place::new();
    let items = place.write_items(8);
    // All fail once; the threshold ends the job before the second try.
    job_of(&place, "def run(mini_batch):\n    raise ValueError('once')\n", "run_max_try: 2\nerror_threshold: 0\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    // Each fails at its first try with the new script, too.
    let script = "import os\n\ndef run(mini_batch):\n    tried = os.path.join(os.environ['PLACE'], mini_batch[0])\n    if not \
                  os.path.exists(tried):\n        open(tried, 'w')\n        raise ValueError('again')\n    return mini_batch\n";
    place.write("score.py", script);
    place.run(&RETRY).expect(0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn a_script_that_is_what_it_was_is_run_again() {
    let place = Place::new();
    failed(&place, "source_directory: .\n");
    // The job file lies beside the script, and is no part of it; nor is what the job wrote.
    let text = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", text + "# a note\n");
    for name in ["state", "cache", "devices"] {
        let _ = fs::remove_dir_all(place.path(name));
    }
    let ran = place.run(&RETRY).expect(5);
    assert!(
        ran.stderr.contains("the script is what it was: the retry runs the job's own copy of it"),
        "{}",
        ran.stderr
    );
    assert!(place.status()["script"].is_null());
    assert!(!place.job().join(".fanfold/snapshot-2").exists());
    assert_eq!(place.rows().len(), 17);
}

#[test]
fn a_script_that_is_gone_is_refused_and_nothing_is_changed() {
    let place = Place::new();
    let items = place.write_items(20);
    job_of(&place, OLD, "run_max_try: 2\n");
    let yaml = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", yaml.replace("score.py", "src/score.py"));
    place.write("src/score.py", OLD);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let before = files(&place.job());
    fs::write(place.path("src/other.py"), "").unwrap();
    fs::remove_file(place.path("src/score.py")).unwrap();
    let script = place.path("src/score.py");
    let refused = |path: &Path| {
        let ran = place.run(&RETRY).expect(2);
        let gone = format!("`{}` is gone", path.display());
        assert!(ran.stderr.contains("there is no new script for job") && ran.stderr.contains(&gone), "{}", ran.stderr);
        assert!(ran.stderr.contains("leave `--new-script` out"), "{}", ran.stderr);
        assert!(files(&place.job()) == before, "nothing was changed");
    };
    refused(&script);
    fs::remove_dir_all(place.path("src")).unwrap();
    refused(&place.path("src"));
    // With its own copy the job needs no source.
    place.run(&["retry", "--failed", "job"]).expect(5);
    place.write("src/score.py", MENDED);
    place.run(&RETRY).expect(0);
    mended(&place, &items);
}

#[test]
fn rows_of_one_output_are_written_in_one_way() {
    let place = Place::new();
    let items = failed(&place, "");
    place.write("score.py", MENDED);
    let settings = r#"{"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}"#;
    let settings = place.write("parallel_run_step.settings.json", settings);
    let ran = place.run(&RETRY).expect(2);
    assert!(ran.stderr.contains("otherwise than those that are in"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&settings.display().to_string()), "{}", ran.stderr);
    fs::remove_file(settings).unwrap();
    place.run(&RETRY).expect(0);
    mended(&place, &items);
}

#[test]
fn it_is_an_option_of_retry_failed() {
    let place = Place::new();
    failed(&place, "");
    let ran = place.run(&["retry", "--new-script", "job"]).expect(2);
    assert!(ran.stderr.contains("--failed"), "{}", ran.stderr);
}

/// A job that was only interrupted does not go on with another script by itself, and the refusal says how it does.
#[test]
fn an_interrupted_job_takes_the_new_script_when_it_is_told_to() {
    let place = Place::new();
    let items = place.write_items(8);
    job_of(&place, GATED, "");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    let running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGTERM);
    wait_for("it to say so", || running.said().contains("interrupted").then_some(()));
    open_gate(&place);
    running.ends(support::LIMIT, 143);
    let before = fs::read_to_string(place.job().join("output/parallel_run_step.txt.partial")).unwrap().lines().count();
    assert!((2..8).contains(&before), "{before}");
    place.write("score.py", MENDED);
    let refused = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(2);
    assert!(refused.stderr.contains("changed since"), "{}", refused.stderr);
    let command = format!("`fanfold retry --failed --new-script {}`", place.status()["job_id"].as_str().unwrap());
    assert!(refused.stderr.contains(&command), "{}", refused.stderr);
    place.run(&RETRY).expect(0);
    let rows = place.rows();
    let told: Vec<String> = rows.iter().map(|row| row.trim_start_matches("new ").to_string()).collect();
    assert_each_once(&told, &items);
    assert_eq!(rows.iter().filter(|row| row.starts_with("new ")).count(), 8 - before);
}

#[test]
fn a_retry_that_is_killed_goes_on_with_the_new_script() {
    let place = Place::new();
    let items = failed(&place, "");
    place.write("score.py", GATED.replace("return mini_batch", "return ['new ' + item for item in mini_batch]"));
    let mut command = place.fanfold();
    command.args(RETRY);
    let running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    kill(Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
    drop(running);
    place.nothing_left().unwrap();
    open_gate(&place);
    let resumed = place.run(&["resume", "job"]).expect(0);
    assert!(resumed.stderr.contains("Completed"), "{}", resumed.stderr);
    mended(&place, &items);
    assert_eq!(place.status()["script"]["number"], 2);
}

/// Killed anywhere on its way, the job is what it was or runs the new script, and the same command again does what it should have done.
#[test]
fn wherever_it_is_killed_the_same_command_again_finishes_the_job() {
    let of_its_own = points::of_the_script();
    assert!(of_its_own.len() >= 2, "{of_its_own:?}");
    let names = of_its_own.into_iter().map(|point| point.name);
    for point in names.chain(["snapshot_copied", "snapshot_synced", "snapshot_renamed"].map(String::from)) {
        for again in [&RETRY[..], &["retry", "--failed", "job"]] {
            let place = Place::new();
            let items = failed(&place, "");
            place.write("score.py", MENDED);
            let mut command = place.fanfold();
            command.args(RETRY).env("FANFOLD_FAILPOINT", format!("{point}:1"));
            let killed = support::finish(command.spawn().unwrap(), support::LIMIT);
            assert_eq!(killed.code, None, "{point} was not reached: {}", killed.stderr);
            let recorded = point == "script_recorded";
            // Mended better meanwhile: what nobody ran is no script of the job.
            place.write("score.py", format!("{MENDED}# better\n"));
            let ran = place.run(again);
            match (again.contains(&"--new-script"), recorded) {
                (true, _) => assert_eq!(ran.code, Some(0), "{point}: {}", ran.stderr),
                (false, true) => assert_eq!(ran.code, Some(0), "{point}: it runs the new one: {}", ran.stderr),
                (false, false) => {
                    assert_eq!(ran.code, Some(5), "{point}: the job was what it was: {}", ran.stderr);
                    assert!(place.status()["script"].is_null());
                    place.run(&RETRY).expect(0);
                }
            }
            mended(&place, &items);
            let number = place.status()["script"]["number"].as_u64().unwrap();
            assert_eq!(number, if recorded && again == RETRY { 3 } else { 2 }, "{point}");
            let copy = fs::read_to_string(place.job().join(format!(".fanfold/snapshot-{number}/score.py"))).unwrap();
            assert_eq!(copy.ends_with("# better\n"), !(recorded && again != RETRY), "{point}");
        }
    }
}

#[test]
fn a_script_is_not_taken_where_nothing_is_left_to_be_run() {
    let place = Place::new();
    let items = place.write_items(4);
    job_of(&place, "def run(mini_batch):\n    return mini_batch[1:]\n", "error_threshold: 0\n");
    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "mini_batch_size=4"]).expect(1);
    place.write("score.py", MENDED);
    let ran = place.run(&[&RETRY[..], &["--set", "error_threshold=1"]].concat()).expect(0);
    assert!(ran.stderr.contains("nothing is left to be run: the new script is not needed"), "{}", ran.stderr);
    assert_each_once(&place.rows(), &items[1..]);
    assert!(place.status()["script"].is_null());
    place.run(&["doctor", "--verify", "job"]).expect(0);
}
