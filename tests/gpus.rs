//! GPU binding, as spec section 6 has it. `--gpus` stands in for devices that this machine does not have.

mod support;

use std::collections::BTreeMap;
use std::fs;

use support::{Place, assert_each_once, finish, wait_for};

/// Each process notes what it sees of its device, and dies on the item that says so.
const SCRIPT: &str = r#"
import os
import time
from azureml_user.parallel_run import EntryScript

def init():
    name = EntryScript().agent_name
    seen = os.path.join(os.environ["SEEN"], name)
    # Whole or not there: with the last one the others go on, and the job may end.
    with open(os.environ["SEEN"] + "." + name, "w") as file:
        file.write(repr(os.environ.get("CUDA_VISIBLE_DEVICES")) + " " + os.environ["AZ_BATCHAI_GPU_COUNT_FOUND"])
    os.rename(os.environ["SEEN"] + "." + name, seen)

def run(mini_batch):
    # Nobody gets on before every process of the first round is there, and the one that replaces the dead.
    wait_for(int(os.environ["FIRST_ROUND"]))
    if "DIES" in os.environ:
        if EntryScript().agent_name == os.environ["DIES"]:
            os._exit(1)
        wait_for(int(os.environ["FIRST_ROUND"]) + 1)
    return mini_batch

def wait_for(processes):
    while len(os.listdir(os.environ["SEEN"])) < processes:
        time.sleep(0.01)
"#;

fn job(place: &Place, more: &str) {
    fs::create_dir_all(place.path("seen")).unwrap();
    place.write("score.py", SCRIPT);
    let seen = place.path("seen");
    let yaml = format!(
        "name: gpus\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
         environment_variables:\n  SEEN: {}\n{more}",
        seen.display()
    );
    place.write("job.yaml", yaml);
}

/// What each process saw, by its name.
fn seen(place: &Place) -> BTreeMap<String, String> {
    let entries = fs::read_dir(place.path("seen")).unwrap().flatten();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect()
}

#[test]
fn two_gpus_and_four_processes_and_the_freed_one_goes_to_process_4() {
    let place = Place::new();
    let items = place.write_items(40);
    job(&place, "  FIRST_ROUND: '4'\n  DIES: process000\nprocess_count_per_node: 4\ngpus: [0, 1]\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &items);
    let seen = seen(&place);
    let saw = |n: u32| seen[&format!("process{n:03}")].as_str();
    assert_eq!([saw(0), saw(1), saw(2), saw(3)], ["'0' 2", "'1' 2", "None 2", "None 2"]);
    assert_eq!(saw(4), "'0' 2", "the next process gets the freed device");
    assert!(ran.stderr.contains("surplus_processes: hide"), "surplus processes are warned of: {}", ran.stderr);
}

#[test]
fn surplus_processes_are_hidden_or_share() {
    for (surplus, expected) in [("hide", ["'' 1", "'0' 1"]), ("share", ["'0' 1", "'0' 1"])] {
        let place = Place::new();
        place.write_items(20);
        job(
            &place,
            &format!("  FIRST_ROUND: '2'\nprocess_count_per_node: 2\ngpus: [0]\nsurplus_processes: {surplus}\n"),
        );
        place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        let mut saw: Vec<String> = seen(&place).into_values().collect();
        saw.sort();
        assert_eq!(saw, expected, "{surplus}");
    }
}

#[test]
fn an_inherited_mask_bounds_the_node() {
    let place = Place::new();
    place.write_items(20);
    job(&place, "  FIRST_ROUND: '2'\nprocess_count_per_node: 2\n");
    let child =
        place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).env("CUDA_VISIBLE_DEVICES", "3,5").spawn();
    finish(child.unwrap(), support::LIMIT).expect(0);
    let mut saw: Vec<String> = seen(&place).into_values().collect();
    saw.sort();
    assert_eq!(saw, ["'3' 2", "'5' 2"]);
}

#[test]
fn a_gpu_node_runs_one_process_unless_told_otherwise() {
    let place = Place::new();
    place.write_items(5);
    job(&place, "  FIRST_ROUND: '1'\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job", "--gpus", "0,1"]).expect(0);
    assert_eq!(seen(&place).into_values().collect::<Vec<_>>(), ["'0' 2"]);
    assert!(ran.stderr.contains("process_count_per_node: 2"), "the idle GPU is pointed out: {}", ran.stderr);
}

/// Two workers on one host: the second takes the device that the first has not, and one that wants a held device is told who
/// holds it.
#[test]
fn two_jobs_never_share_a_device() {
    let place = Place::new();
    place.write_items(4);
    job(&place, "  FIRST_ROUND: '2'\nprocess_count_per_node: 1\ngpus: [0, 1]\n");
    // The first waits in run() until the second has started: that is what FIRST_ROUND counts.
    let first = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
    wait_for("the first job's process", || seen(&place).get("process000").cloned());
    place.write(
        "second.yaml",
        fs::read_to_string(place.path("job.yaml"))
            .unwrap()
            .replace("SEEN: ", "OTHER: ")
            .replace(
                "environment_variables:\n",
                &format!("environment_variables:\n  SEEN: {}\n", place.path("seen2").display()),
            )
            .replace("FIRST_ROUND: '2'", "FIRST_ROUND: '0'"),
    );
    fs::create_dir_all(place.path("seen2")).unwrap();
    place.run(&["run", "second.yaml", "--job-dir", "second"]).expect(0);
    let saw_second = fs::read_to_string(place.path("seen2/process000")).unwrap();
    assert_eq!((seen(&place)["process000"].as_str(), saw_second.as_str()), ("'0' 2", "'1' 2"));
    // Let the first end.
    place.write("seen/process001", "");
    finish(first, support::LIMIT).expect(0);
}
