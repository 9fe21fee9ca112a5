//! Where what a script says goes, and the log tree as users of the original know it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use crate::running::{Running, job_of, open_gate};
use crate::support::{LIMIT, Place, wait_for};

const TALKATIVE: &str = r#"
import ctypes
import logging
import os
import subprocess
import sys

from azureml_user.parallel_run import EntryScript

libc = ctypes.CDLL(None)

def init():
    logging.warning("root warning in init")
    logging.info("root info in init")
    EntryScript().logger.info("entry info in init")
    EntryScript().logger.debug("entry debug in init")
    os.makedirs(EntryScript().log_dir, exist_ok=True)
    with open(os.path.join(EntryScript().log_dir, EntryScript().agent_name + "_own.txt"), "w") as file:
        file.write("a file of the script's own\n")

def run(mini_batch):
    print("printed")
    print("printed to stderr", file=sys.stderr)
    sys.stdout.write("without newline")
    os.write(1, b"descriptor 1\n")
    os.write(2, b"descriptor 2\n")
    libc.puts(b"puts of C")
    libc.fflush(None)
    subprocess.run(["sh", "-c", "echo child out; echo child err >&2"])
    captured = subprocess.run(["echo", "captured"], stdout=subprocess.PIPE).stdout
    assert captured == b"captured\n"
    if "item-003" in mini_batch:
        raise ValueError("the third is bad")
    return mini_batch
"#;

fn talkative() -> Place {
    let place = Place::new();
    place.write_items(5);
    place.write("score.py", TALKATIVE);
    place.write(
        "job.yaml",
        "name: contract\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
         process_count_per_node: 1\nrun_max_try: 2\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    place
}

fn log(place: &Place, path: &str) -> String {
    let path = place.job().join("logs").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_way_of_saying_something_has_its_file() {
    let place = talkative();
    let stdout = log(&place, "user/stdout/0/process000.stdout.txt");
    let stderr = log(&place, "user/stderr/0/process000.stderr.txt");
    let descriptor_1 = log(&place, "sys/node/0/process000.stdout.txt");
    let descriptor_2 = log(&place, "sys/node/0/process000.stderr.txt");
    let entry = log(&place, "user/entry_script_log/0/process000.log.txt");

    assert_eq!(stdout.matches("printed\n").count(), 6, "{stdout}");
    assert!(stdout.contains("root warning in init") && !stdout.contains("root info"), "level WARNING: {stdout}");
    assert!(stdout.contains("without newline") && !stdout.contains("stderr"), "{stdout}");
    assert!(stderr.contains("printed to stderr") && !stderr.contains("descriptor"), "{stderr}");
    for what in ["descriptor 1\n", "puts of C\n", "child out\n"] {
        assert_eq!(descriptor_1.matches(what).count(), 6, "{what} in {descriptor_1}");
    }
    for what in ["descriptor 2\n", "child err\n"] {
        assert_eq!(descriptor_2.matches(what).count(), 6, "{what} in {descriptor_2}");
    }
    assert!(entry.contains("entry info in init") && !entry.contains("debug"), "level INFO: {entry}");
    let line = entry.lines().next().unwrap();
    assert!(line.contains("|INFO|") && line.contains("|init()|") && line.starts_with("20"), "{line}");
    assert!(log(&place, "user/entry_script_log/0/process000_own.txt").contains("own"));
}

#[test]
fn a_level_of_debug_is_that_of_the_entry_scripts_logger() {
    let place = Place::new();
    place.write_items(1);
    place.write("score.py", TALKATIVE);
    place.write(
        "job.yaml",
        "name: contract\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nlogging_level: DEBUG\n\
         process_count_per_node: 1\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(log(&place, "user/entry_script_log/0/process000.log.txt").contains("entry debug in init"));
}

#[test]
fn the_log_tree_is_complete() {
    let place = talkative();
    let job = place.job();
    let hour = fs::read_dir(job.join("logs")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let dated: Vec<String> = hour.filter(|name| name.starts_with("job_progress_overview.2")).collect();
    assert!(
        !dated.is_empty() && dated.iter().all(|name| name.len() == "job_progress_overview.yyyymmddhh.txt".len()),
        "{dated:?}"
    );
    let paths = [
        "job.yaml",
        "errors.jsonl",
        "status.json",
        "output/parallel_run_step.txt",
        "azureml-logs/70_driver_log.txt",
        "logs/readme.txt",
        "logs/job_progress_overview.txt",
        "logs/job_result.txt",
        "logs/user/error.txt",
        "logs/user/error/0/process000.txt",
        "logs/user/entry_script_log/0/process000.log.txt",
        "logs/user/stdout/0/process000.stdout.txt",
        "logs/user/stderr/0/process000.stderr.txt",
        "logs/sys/master_role.txt",
        "logs/sys/node/0/process000.txt",
        "logs/sys/node/0/process000.stdout.txt",
        "logs/sys/node/0/process000.stderr.txt",
        "logs/sys/job_report/processed_mini-batches.csv",
        "logs/sys/job_report/process_summary.csv",
        "logs/sys/job_report/node_summary.csv",
        "logs/perf/0/node_resource_usage.csv",
        "logs/perf/0/node_disk_usage.csv",
        "logs/perf/0/processes_resource_usage.csv",
    ];
    let missing: Vec<PathBuf> = paths
        .iter()
        .map(|path| job.join(path))
        .filter(|path| fs::metadata(path).map_or(0, |file| file.len()) == 0)
        .collect();
    assert!(missing.is_empty(), "missing or empty: {missing:?}");
    assert!(job.join("logs/sys/error/0").is_dir());

    let readme = log(&place, "readme.txt");
    for name in
        ["job_result.txt", "user/error.txt", "user/stdout", "user/entry_script_log", "sys/node", "sys/job_report"]
    {
        assert!(readme.contains(name), "the readme does not explain {name}:\n{readme}");
    }
    let result = log(&place, "job_result.txt");
    assert!(
        result.starts_with("State: Completed (exit code 5)") && result.contains("ValueError: the third is bad"),
        "{result}"
    );
    assert!(result.contains("Traceback (most recent call last)"), "{result}");
    let errors = log(&place, "user/error.txt");
    assert!(errors.contains("the third is bad") && errors.contains("item-003"), "{errors}");
    let error = log(&place, "user/error/0/process000.txt");
    assert!(error.contains("Traceback") && error.contains("score.py"), "{error}");
    let process = log(&place, "sys/node/0/process000.txt");
    assert!(process.lines().filter(|line| line.contains("mini_batch=")).count() >= 6, "{process}");
    let master = log(&place, "sys/master_role.txt");
    for what in ["Node 0", "joined", "process000", "The job is Completed"] {
        assert!(master.contains(what), "{what} in {master}");
    }
    let report = log(&place, "sys/job_report/processed_mini-batches.csv");
    assert_eq!(report.lines().count(), 6, "a heading and five mini-batches:\n{report}");
    assert!(report.contains("\n3,2,0/process000,"), "the third was picked twice:\n{report}");
    let driver = fs::read_to_string(job.join("azureml-logs/70_driver_log.txt")).unwrap();
    assert!(driver.contains("Preparing to call script [score.py] with arguments:"), "{driver}");
    let overview = log(&place, "job_progress_overview.txt");
    assert!(overview.contains("Completed"), "{overview}");
}

/// Takes 200 MiB, has a child in a session of its own, and waits for the gate.
const GREEDY: &str = r#"
import os
import subprocess
import sys
import time

GATE = os.path.join(os.environ["PLACE"], "go")

def init():
    global held, child
    held = b"x" * (200 << 20)
    wait = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", wait, "amqp://me:canary-4711@host/", "--password", "canary-4711"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

def run(mini_batch):
    while not os.path.exists(GATE):
        time.sleep(0.005)
    return mini_batch

def shutdown():
    child.stdin.close()
    child.wait()
"#;

/// The rows of a table below `logs/perf/0`, by column; the heading must be this one.
fn table(place: &Place, name: &str, heading: &str) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(place.job().join("logs/perf/0").join(name)).unwrap_or_default();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap_or(heading), heading);
    // The last cell may have commas in it.
    let columns: Vec<&str> = heading.split(',').collect();
    // The monitor may be about to write the rest of a line.
    let whole = lines.map(|line| line.splitn(columns.len(), ',')).filter(|row| row.clone().count() == columns.len());
    whole.map(|row| columns.iter().map(|column| column.to_string()).zip(row.map(str::to_string)).collect()).collect()
}

const HOST: &str = "Utc Time,Cpu Percent,Memory Total (MB),Memory Available (MB),Memory Used (MB),Memory Used Percent,\
                    Disk Io Read Count,Disk Io Write Count,Disk Io Read (MB),Disk Io Write (MB),Network Sent (MB),\
                    Network Recv (MB),# of TCP Connections,# of UDP Connections";
const PROCESSES: &str = "Utc Time,Process,Pid,Parent Pid,Cpu Percent,Memory Rss (MB),Memory Percent,Threads,Open Files,\
                         Gpu Memory (MB),Gpu Memory per Device (MB),Command";

#[test]
fn the_resource_monitor_sees_what_a_process_takes() {
    let place = Place::new();
    place.write_items(2);
    job_of(&place, GREEDY, "resource_monitor_interval: 1\n");
    let yaml = fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", yaml.replace("process_count_per_node: 2", "process_count_per_node: 1"));
    let job = Running::job(&place);
    let number = |row: &HashMap<String, String>, column: &str| -> f64 {
        row[column].parse().unwrap_or_else(|_| panic!("{column} is no number in {row:?}"))
    };
    let full = |row: &HashMap<String, String>| row["Process"] == "process000" && number(row, "Memory Rss (MB)") > 200.0;
    let (python, child) = wait_for("the process in the table", || {
        let rows = table(&place, "processes_resource_usage.csv", PROCESSES);
        let python = rows.iter().find(|row| full(row))?.clone();
        let child = rows.iter().find(|row| row["Parent Pid"] == python["Pid"])?.clone();
        Some((python, child))
    });
    let hosts = wait_for("two looks at the host", || {
        Some(table(&place, "node_resource_usage.csv", HOST)).filter(|rows| rows.len() >= 2)
    });
    let status = fs::read_to_string(format!("/proc/{}/status", python["Pid"])).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let rss: f64 = rss.unwrap();
    assert!((number(&python, "Memory Rss (MB)") - rss / 1024.0).abs() < 20.0, "{python:?} with {rss} KiB");
    assert!(number(&python, "Open Files") >= 5.0 && number(&python, "Threads") >= 1.0, "{python:?}");
    assert!(number(&python, "Memory Percent") > 0.0 && number(&python, "Cpu Percent") >= 0.0, "{python:?}");
    assert_eq!(child["Process"], "", "{child:?}");
    assert!(child["Command"].ends_with("amqp://me:***@host/ --password ***"), "{child:?}");
    open_gate(&place);
    job.ends(LIMIT, 0);

    let last = &hosts[hosts.len() - 1];
    assert!(number(last, "Memory Total (MB)") > number(last, "Memory Used (MB)"), "{last:?}");
    assert!((0.0..=100.0).contains(&number(last, "Cpu Percent")), "{last:?}");
    assert!(last["Utc Time"].len() == "2026-11-21T02:38:55.226929".len() && hosts[0]["Utc Time"] < last["Utc Time"]);
    let disks = table(&place, "node_disk_usage.csv", "Utc Time,Path,Total (MB),Used (MB),Free (MB),Used Percent");
    assert_eq!(disks[0]["Path"], place.job().display().to_string());
    assert!(number(&disks[0], "Total (MB)") > 0.0);
    let hours: Vec<_> = fs::read_dir(place.job().join("logs/perf/0/os")).unwrap().flatten().collect();
    assert!(hours.iter().all(|hour| hour.file_name().len() == "yyyymmddhh".len()), "{hours:?}");
    let lists = hours.iter().flat_map(|hour| fs::read_dir(hour.path()).unwrap().flatten());
    let lists: String = lists.map(|list| fs::read_to_string(list.path()).unwrap()).collect();
    assert!(lists.contains(" COMMAND\n") && lists.contains("run job.yaml"), "fanfold itself:\n{lists}");
    let processes = log(&place, "perf/0/processes_resource_usage.csv");
    assert!(!lists.contains("canary-4711") && !processes.contains("canary-4711"), "{processes}{lists}");
}

#[test]
fn no_resource_monitor_leaves_nothing() {
    let place = Place::new();
    place.write_items(2);
    job_of(&place, GREEDY, "resource_monitor_interval: 0\n");
    open_gate(&place);
    Running::job(&place).ends(LIMIT, 0);
    assert!(!place.job().join("logs/perf").exists());
}
