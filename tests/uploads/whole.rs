//! What a healthy job leaves.

use std::fs;

use fanfold_test_servers::{Fault, Rule, has_cloud_servers};

use crate::running::open_gate;
use crate::support::{has_pandas, python_with_pandas};
use crate::world::{FAILS, World};

const URI: &str = "datastore://out/results/parallel_run_step.txt";

fn is_there_and_shown(world: &World) {
    let items = world.job(20, "def run(mini_batch):\n    return mini_batch\n", "");
    let plan = world.run(&["plan", "job.yaml"]).expect(0);
    assert!(plan.stdout.contains(URI), "{}", plan.stdout);
    assert_eq!(world.bucket.list(""), [], "looking leaves nothing");

    let ran = world.run_job().expect(0);
    world.is_whole(&items);
    assert!(ran.stderr.contains(&format!("output        {URI} (20 results")), "{}", ran.stderr);
    assert_eq!(world.status()["output"]["uri"], URI);
    let status = world.run(&["status", "job"]).expect(0);
    assert!(status.stdout.contains(URI), "{}", status.stdout);
    let result = fs::read_to_string(world.place.job().join("logs/job_result.txt")).unwrap();
    assert!(result.contains(&format!("Output: {URI}")), "{result}");
    assert_eq!(world.run(&["results", "job"]).expect(0).stdout.lines().count(), 20);
    let record = fs::read_to_string(world.place.job().join("job.yaml")).unwrap();
    assert!(record.contains("output: datastore://out/results\n"), "{record}");

    // Nothing more to do, and nothing is done.
    let puts = world.faults.count("PUT", "parallel_run_step");
    let again = world.run_job().expect(0);
    assert!(again.stderr.contains("is Completed already") && again.stderr.contains(URI), "{}", again.stderr);
    assert_eq!(world.faults.count("PUT", "parallel_run_step"), puts);

    let verified = world.run(&["doctor", "--verify", "job"]).expect(0);
    assert!(verified.stdout.contains("uploaded to datastore://out/results\n"), "{}", verified.stdout);
    world.bucket.put("results/parallel_run_step.txt", "somebody else's");
    let verified = world.run(&["doctor", "--verify", "job"]).expect(1);
    assert!(verified.stdout.contains("is not the object that was uploaded"), "{}", verified.stdout);
    world.bucket.delete("results/parallel_run_step.txt");
    let verified = world.run(&["doctor", "--verify", "job"]).expect(1);
    assert!(verified.stdout.contains(&format!("`{URI}` is gone")), "{}", verified.stdout);
}

#[test]
fn an_output_in_s3_is_there_and_shown() {
    if has_cloud_servers() {
        is_there_and_shown(&World::s3());
    }
}

#[test]
fn an_output_in_azure_is_there_and_shown() {
    if has_cloud_servers() {
        is_there_and_shown(&World::azure());
    }
}

#[test]
fn a_parquet_file_is_uploaded_by_the_start_that_can() {
    if !has_cloud_servers() || !has_pandas() {
        return;
    }
    let world = World::s3();
    let script = "def run(mini_batch):\n    return [{'item': item, 'length': len(item)} for item in mini_batch]\n";
    let python = python_with_pandas();
    let more = format!("append_row_file_name: x.parquet\nenvironment: {{python: '{}'}}\n", python.display());
    world.job(12, script, &more);
    world.faults.rule(Rule::new(Fault::Status(403, None)).method("PUT"));
    world.run_job().expect(1);
    assert_eq!(world.bucket.list(""), []);
    world.faults.clear();
    world.killed_at("upload_after_put:1");
    world.run_job().expect(0);
    let file = fs::read(world.place.job().join("output/x.parquet")).unwrap();
    assert!(world.bucket.get("results/x.parquet").unwrap() == file && file.starts_with(b"PAR1"));
    world.run(&["doctor", "--verify", "job"]).expect(0);
    let object = world.place.path("object.parquet");
    fs::write(&object, &file).unwrap();
    let count = "import pandas, sys; print(pandas.read_parquet(sys.argv[1])['item'].nunique())";
    let read = std::process::Command::new(python).args(["-c", count]).arg(object).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "12");
}

#[test]
fn a_job_that_was_the_same_stands_in_while_its_object_is_there() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3();
    world.job(3, "def run(mini_batch):\n    return mini_batch\n", "");
    world.run_job().expect(0);
    let ran = world.run(&["run", "job.yaml"]).expect(0);
    assert!(ran.stderr.contains("its result is used") && ran.stderr.contains(URI), "{}", ran.stderr);
    world.bucket.delete("results/parallel_run_step.txt");
    let ran = world.run(&["run", "job.yaml"]).expect(0);
    assert!(ran.stderr.contains("is gone: its result is not used"), "{}", ran.stderr);
    assert_eq!(world.object().unwrap().len(), 3 * "item-000\n".len());
}

#[test]
fn what_a_script_stores_itself_is_uploaded_with_its_folders() {
    if !has_cloud_servers() {
        return;
    }
    for world in [World::s3(), World::azure()] {
        let script = r#"
import os

def run(mini_batch):
    for item in mini_batch:
        folder = os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "by item", item)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "ü +%20.txt"), "w") as file:
            file.write(item)
        open(os.path.join(folder, "empty"), "w").close()
    return mini_batch
"#;
        let items = world.job(5, script, "output_action: summary_only\n");
        let ran = world.run_job().expect(0);
        assert!(ran.stderr.contains("what the script stored, at datastore://out/results"), "{}", ran.stderr);
        assert_eq!(world.bucket.list("").len(), 10, "{:?}", world.bucket.list(""));
        for item in items {
            let stored = world.bucket.get(&format!("results/by item/{item}/ü +%20.txt"));
            assert_eq!(stored.as_deref(), Some(item.as_bytes()));
        }
        world.run(&["doctor", "--verify", "job"]).expect(0);
    }
}

#[test]
fn retry_replaces_the_jobs_own_object_and_no_other() {
    if !has_cloud_servers() {
        return;
    }
    for world in [World::s3(), World::azure()] {
        let items = world.job(12, FAILS, "run_max_try: 1\n");
        world.run_job().expect(5);
        assert_eq!(world.object().unwrap().len(), 10 * "item-000\n".len());
        open_gate(&world.place);

        // Somebody has written there since: it is theirs now.
        let ours = world.object().unwrap();
        world.bucket.put("results/parallel_run_step.txt", "somebody else's");
        let refused = world.run(&["retry", "--failed", "job"]).expect(1);
        assert!(refused.stderr.contains("is there already and is not this job's"), "{}", refused.stderr);
        assert_eq!(world.object().unwrap(), b"somebody else's");
        assert_eq!(world.status()["state"], "Finalizing");
        // Whoever gives it up lets the job go on.
        world.bucket.delete("results/parallel_run_step.txt");
        world.run_job().expect(0);
        world.is_whole(&items);
        assert_ne!(world.object().unwrap(), ours);
    }
}

#[test]
fn retry_puts_the_longer_file_in_place_of_the_shorter_one() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::azure();
    let items = world.job(6, FAILS, "run_max_try: 1\n");
    world.run_job().expect(5);
    let first = world.bucket.etag("results/parallel_run_step.txt").unwrap();
    open_gate(&world.place);
    world.run(&["retry", "--failed", "job"]).expect(0);
    world.is_whole(&items);
    let seen = world.faults.seen();
    let last = seen.iter().rfind(|seen| seen.method == "PUT").unwrap();
    assert_eq!(last.condition.as_deref(), Some(first.as_str()), "over the version it knows, and no other");
}
