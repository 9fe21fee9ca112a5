//! On a real GPU: what [`gpus`](../tests/gpus.rs) shows with devices that stand in, and what only a device can show: whose memory it is, when it is
//! free again, and what an error of CUDA costs.
//!
//! Ignored where nobody asks for it. It needs an NVIDIA GPU that nobody else uses and a `python3` that has PyTorch:
//! `cargo test -p fanfold --all-features --locked --test gpu_device -- --ignored --test-threads 1`.

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Place, Ran, assert_each_once, finish, wait_for};

/// Importing PyTorch and the first use of a device can each take many seconds.
const LIMIT: Duration = Duration::from_secs(150);

/// What the scripts have in common. Each process notes its device and how much of its memory was free when it came.
const BEGINNING: &str = r#"
import json, os, subprocess, sys
import torch
from azureml_user.parallel_run import EntryScript

def see():
    seen = {"visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "found": os.environ["AZ_BATCHAI_GPU_COUNT_FOUND"]}
    seen["count"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen["count"]:
        seen["uuid"] = str(torch.cuda.get_device_properties(0).uuid)
        free, total = torch.cuda.mem_get_info()
        seen["free"] = free / total
    name = os.path.join(SEEN, EntryScript().agent_name)
    with open(name + ".new", "w") as file:
        json.dump(seen, file)
    os.rename(name + ".new", name)

def take(share):
    return torch.empty(int(torch.cuda.mem_get_info()[1] * share), dtype=torch.uint8, device="cuda")
"#;

fn job(place: &Place, script: &str, more: &str) {
    let seen = place.path("seen");
    fs::create_dir_all(&seen).unwrap();
    place.write("score.py", format!("SEEN = {:?}\n{BEGINNING}\n{script}", seen.display().to_string()));
    place.write(
        "job.yaml",
        format!(
            "name: gpu\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
             progress_update_timeout: 120\nrun_invocation_timeout: 60\n{more}"
        ),
    );
}

/// The program with this machine's GPUs.
fn with_gpus(place: &Place, args: &[&str]) -> Command {
    let mut command = place.fanfold();
    command.args(args).env_remove("LD_LIBRARY_PATH");
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

fn run(place: &Place, more: &[&str]) -> Ran {
    let args = [&["run", "job.yaml", "--job-dir", "job"], more].concat();
    finish(with_gpus(place, &args).spawn().unwrap(), LIMIT)
}

fn seen(place: &Place, process: u32) -> serde_json::Value {
    let text = fs::read(place.path(format!("seen/process{process:03}"))).expect("the process was there");
    serde_json::from_slice(&text).unwrap()
}

/// What `nvidia-smi` knows of each GPU.
fn query(what: &str) -> Vec<String> {
    let output =
        Command::new("nvidia-smi").args([&format!("--query-gpu={what}"), "--format=csv,noheader,nounits"]).output();
    let output = output.expect("nvidia-smi is there");
    assert!(output.status.success(), "{}", support::text(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().to_string()).collect()
}

const SEES: &str = "
def init():
    see()

def run(mini_batch):
    return [item for item in mini_batch if torch.ones(8, device='cuda').sum().item() == 8]
";

#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn a_node_finds_its_gpus_and_gives_one_to_its_process() {
    let place = Place::new();
    let items = place.write_items(20);
    job(&place, SEES, "");
    run(&place, &[]).expect(0);
    assert_each_once(&place.rows(), &items);
    let uuids = query("uuid");
    let seen = seen(&place, 0);
    assert_eq!((&seen["visible"], &seen["count"]), (&"0".into(), &1.into()), "{seen}");
    assert_eq!(seen["found"], uuids.len().to_string());
    assert!(uuids[0].ends_with(seen["uuid"].as_str().unwrap()), "{seen} {uuids:?}");
    assert!(!place.path("seen/process001").exists(), "one process unless told otherwise");
}

#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn a_gpu_goes_by_its_uuid_and_one_that_is_not_there_is_refused() {
    let place = Place::new();
    place.write_items(2);
    let uuid = query("uuid").remove(0);
    job(&place, SEES, &format!("gpus: [{}]\n", &uuid[..12]));
    run(&place, &[]).expect(0);
    assert_eq!(seen(&place, 0)["count"], 1, "{}", seen(&place, 0));
    let missing = query("uuid").len().to_string();
    let args = ["run", "job.yaml", "--job-dir", "other", "--gpus", &missing];
    let ran = finish(with_gpus(&place, &args).spawn().unwrap(), LIMIT).expect(2);
    assert!(ran.stderr.contains(&format!("this machine has no GPU `{missing}`")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&uuid), "what there is instead: {}", ran.stderr);
    // As CUDA itself takes it: what the mask does not name is not there.
    fs::remove_dir_all(place.path("seen")).unwrap();
    fs::create_dir_all(place.path("seen")).unwrap();
    job(
        &place,
        "def init():\n    see()\n\ndef run(mini_batch):\n    return mini_batch\n",
        "process_count_per_node: 1\n",
    );
    let mut masked = with_gpus(&place, &["run", "job.yaml", "--job-dir", "masked"]);
    finish(masked.env("CUDA_VISIBLE_DEVICES", "").spawn().unwrap(), LIMIT).expect(0);
    assert_eq!((&seen(&place, 0)["count"], &seen(&place, 0)["found"]), (&0.into(), &"0".into()));
}

#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn surplus_processes_see_all_none_or_the_same_gpu() {
    // More processes than GPUs: what the second last one sees, and how many GPUs that is.
    let gpus = query("uuid").len();
    let hold = SEES.replace(
        "def run(mini_batch):",
        "def run(mini_batch):\n    import time\n    while len([n for n in os.listdir(SEEN) if '.' not in n]) < int(os.environ['ALL']):\n        time.sleep(0.05)\n    return mini_batch\n\ndef unused(mini_batch):",
    );
    for (surplus, visible, count) in [
        ("", serde_json::Value::Null, gpus),
        ("surplus_processes: hide\n", "".into(), 0),
        ("surplus_processes: share\n", "0".into(), 1),
    ] {
        let place = Place::new();
        let items = place.write_items(20);
        let all = gpus + 1;
        job(
            &place,
            &hold,
            &format!("process_count_per_node: {all}\nenvironment_variables: {{ALL: '{all}'}}\n{surplus}"),
        );
        run(&place, &[]).expect(0);
        assert_each_once(&place.rows(), &items);
        let last = seen(&place, gpus as u32);
        assert_eq!((&last["visible"], &last["count"]), (&visible, &count.into()), "{surplus} {last}");
        assert_eq!(seen(&place, 0)["visible"], "0");
    }
}

/// A process gets the GPU only when its memory is free again, whatever the last one left behind.
#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn the_next_process_finds_the_memory_of_a_killed_one_free() {
    let place = Place::new();
    let items = place.write_items(12);
    let script = r#"
def init():
    global held, orphan
    see()
    code = "import sys, torch; t = torch.empty(int(torch.cuda.mem_get_info()[1] * 0.3), dtype=torch.uint8, device='cuda'); print('held', flush=True); sys.stdin.read()"
    stdin, keeps = os.pipe()
    orphan = subprocess.Popen([sys.executable, "-c", code], stdin=stdin, stdout=subprocess.PIPE, start_new_session=True, pass_fds=[keeps])
    assert orphan.stdout.readline() == b"held\n"
    held = take(0.5)

def run(mini_batch):
    if mini_batch[0] in ("item-002", "item-005") and not os.path.exists(SEEN + "." + mini_batch[0]):
        open(SEEN + "." + mini_batch[0], "w").close()
        os.kill(os.getpid(), 9)
    return mini_batch
"#;
    job(&place, script, "run_max_try: 3\ngpus: [0]\nprocess_count_per_node: 1\n");
    run(&place, &[]).expect(0);
    assert_each_once(&place.rows(), &items);
    let free = [0, 1, 2].map(|process| seen(&place, process)["free"].as_f64().unwrap());
    assert!(free.iter().all(|share| *share > 0.85), "{free:?}");
}

/// The run itself is killed: nothing of it keeps the GPU, and the same job goes on.
#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn a_killed_run_frees_the_gpu_and_resumes() {
    let place = Place::new();
    let items = place.write_items(40);
    let script = r#"
import time
def init():
    global held
    see()
    held = take(0.6)

def run(mini_batch):
    open(os.path.join(SEEN, "..", "began"), "a").close()
    time.sleep(0.02)
    return mini_batch
"#;
    job(&place, script, "");
    let mut first = with_gpus(&place, &["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
    wait_for("the first mini-batch", || place.path("began").exists().then_some(()));
    kill(Pid::from_raw(first.id() as i32), Signal::SIGKILL).unwrap();
    first.wait().unwrap();
    fs::remove_dir_all(place.path("seen")).unwrap();
    fs::create_dir_all(place.path("seen")).unwrap();
    let resumed = with_gpus(&place, &["resume", "job"]).spawn().unwrap();
    finish(resumed, LIMIT).expect(0);
    assert_each_once(&place.rows(), &items);
    let next = fs::read_dir(place.path("seen")).unwrap().flatten().next().expect("the process of the second run");
    let next: serde_json::Value = serde_json::from_slice(&fs::read(next.path()).unwrap()).unwrap();
    assert!(next["free"].as_f64().unwrap() > 0.85, "it came before the memory was free: {next}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn an_item_too_large_for_the_gpu_costs_one_item() {
    let place = Place::new();
    let items = place.write_items(40);
    let script = r#"
def init():
    see()

def run(mini_batch):
    for item in mini_batch:
        take(2.0 if item == "item-017" else 0.1)
    return mini_batch
"#;
    job(&place, script, "on_failure: bisect\nrun_max_try: 2\n");
    let yaml = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", yaml.replace("mini_batch_size: 1", "mini_batch_size: 20"));
    run(&place, &[]).expect(5);
    let good: Vec<String> = items.iter().filter(|item| *item != "item-017").cloned().collect();
    assert_each_once(&place.rows(), &good);
    let errors = place.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = &errors[0];
    assert_eq!((&error["kind"], &error["item"]), (&"oom".into(), &"item-017".into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("CUDA out of memory"), "{error}");
}

/// After an assertion on the device every call of CUDA in that process fails: it must not get another mini-batch.
#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn an_error_that_sticks_to_the_process_costs_the_process_and_no_other_mini_batch() {
    let place = Place::new();
    let items = place.write_items(20);
    let script = r#"
def init():
    see()

def run(mini_batch):
    table = torch.arange(8, device="cuda")
    for item in mini_batch:
        index = torch.tensor([1 << 20 if item == "item-007" else 3], device="cuda")
        assert table[index].item() == 3
    return mini_batch
"#;
    job(&place, script, "run_max_try: 2\nerror_threshold: 1\n");
    run(&place, &[]).expect(0);
    let good: Vec<String> = items.iter().filter(|item| *item != "item-007").cloned().collect();
    assert_each_once(&place.rows(), &good);
    let errors = place.errors();
    assert_eq!((errors.len(), &errors[0]["item"]), (1, &"item-007".into()), "{errors:?}");
    assert!(errors[0]["message"].as_str().unwrap().contains("device-side assert"), "{errors:?}");
    assert!(place.path("seen/process002").exists(), "a new process after each of the two runs");
    assert!(!place.path("seen/process003").exists(), "and none but these");
}

#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn the_resource_log_says_how_much_of_its_gpu_a_process_has() {
    let place = Place::new();
    place.write_items(4);
    let script = r#"
import time
def init():
    global held
    see()
    held = torch.empty(3 << 30, dtype=torch.uint8, device="cuda")

def run(mini_batch):
    time.sleep(1)
    return mini_batch
"#;
    job(&place, script, "resource_monitor_interval: 1\n");
    run(&place, &[]).expect(0);
    let files = walk(&place.path("job/logs/perf"));
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // `…,3560.00,0:3560.00,command`
    let most =
        text.lines().filter_map(|line| line.split(',').find_map(|cell| cell.strip_prefix("0:")?.parse::<f64>().ok()));
    let most = most.fold(0.0, f64::max);
    assert!((3072.0..6000.0).contains(&most), "{most} MiB\n{text}");
}

fn walk(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

/// The only GPU is taken: the second job says by whom, and runs when it is free.
#[test]
#[ignore = "needs an NVIDIA GPU and PyTorch"]
fn a_second_job_is_told_who_holds_the_gpu() {
    let place = Place::new();
    place.write_items(2);
    let script = r#"
import time
def init():
    see()

def run(mini_batch):
    while not os.path.exists(SEEN + ".go"):
        time.sleep(0.02)
    return mini_batch
"#;
    job(&place, script, "gpus: [0]\n");
    let first = with_gpus(&place, &["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
    wait_for("the first job's process", || place.path("seen/process000").exists().then_some(()));
    let uuid = query("uuid").remove(0);
    let args = ["run", "job.yaml", "--job-dir", "second", "--gpus", &uuid];
    let second = finish(with_gpus(&place, &args).spawn().unwrap(), LIMIT);
    assert_ne!(second.code, Some(0), "{}", second.stderr);
    assert!(second.stderr.contains("is held by"), "{}", second.stderr);
    place.write("seen.go", "");
    finish(first, LIMIT).expect(0);
    finish(with_gpus(&place, &args).spawn().unwrap(), LIMIT).expect(0);
}
