//! Both ends of every size, and memory that stays flat.

use std::fs;
use std::time::{Duration, Instant};

use crate::running::{GATED, Running, job_of, open_gate};
use crate::support::{LIMIT, Place, assert_each_once};

const ECHO: &str = "def run(mini_batch):\n    return mini_batch\n";

/// Runs the job to its end and returns the most memory that the program ever had, bytes.
fn peak_memory(place: &Place) -> u64 {
    let running = Running::job(place);
    let status = format!("/proc/{}/status", running.pid());
    let deadline = Instant::now() + 2 * LIMIT;
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        // None: it is a zombie.
        let Some(kib) =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok())
        else {
            break;
        };
        peak = peak.max(kib << 10);
        assert!(Instant::now() < deadline, "{}", running.said());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.ends(LIMIT, 0);
    peak
}

#[test]
fn one_item_and_a_mini_batch_larger_than_the_input() {
    for count in [1, 7] {
        let place = Place::new();
        let items = place.write_items(count);
        job_of(&place, ECHO, "");
        place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "mini_batch_size=1000000000"]).expect(0);
        assert_each_once(&place.rows(), &items);
        assert_eq!(place.status()["counts"]["mini_batches"], 1);
    }
}

#[test]
fn a_hundred_thousand_items_one_by_one() {
    let place = Place::new();
    let items = place.write_items(100_000);
    job_of(&place, ECHO, "");
    let peak = peak_memory(&place);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["counts"]["attempts"], 100_000);
    assert!(peak < 150 << 20, "{} MiB", peak >> 20);
}

#[test]
fn names_as_long_as_they_may_be() {
    let place = Place::new();
    let mut folder = "data".to_string();
    while folder.len() < 3000 {
        folder = format!("{folder}/{}", "d".repeat(200));
    }
    let mut names = vec![];
    for end in ["a", "b"] {
        names.push(format!("{folder}/{}{end}", "f".repeat(254)));
        names.push(format!("data/{}{end}", "é".repeat(127)));
    }
    for name in &names {
        place.write(name, "");
    }
    job_of(&place, GATED, "");
    open_gate(&place);
    place
        .run(&["run", "job.yaml", "--job-dir", "job", "--set", "inputs=[data]", "--set", "input_type=files"])
        .expect(0);
    let names: Vec<String> = names.iter().map(|name| place.path(name).to_str().unwrap().to_string()).collect();
    assert_each_once(&place.rows(), &names);
}

#[test]
fn lines_of_a_mebibyte() {
    let place = Place::new();
    let items: Vec<String> = (0..8).map(|i| format!("{i}{}", "y".repeat((1 << 20) - 1))).collect();
    place.write("items.txt", items.join("\n"));
    job_of(&place, ECHO, "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(place.rows().len() == 8 && items.iter().all(|item| place.rows().contains(item)));
    let too_long = format!("{}\n{}z\n", items[0], items[1]);
    place.write("items.txt", too_long);
    let refused = place.run(&["run", "job.yaml", "--job-dir", "other"]).expect(2);
    assert!(refused.stderr.contains("line 2") && refused.stderr.contains("1 MiB"), "{}", refused.stderr);
}

#[test]
fn memory_stays_flat_with_results_of_a_megabyte() {
    let place = Place::new();
    place.write_items(300);
    job_of(&place, "def run(mini_batch):\n    return [item + 'x' * (1 << 20) for item in mini_batch]\n", "");
    let peak = peak_memory(&place);
    let output = place.job().join("output/parallel_run_step.txt");
    assert_eq!(fs::metadata(output).unwrap().len(), 300 * ((1 << 20) + 9));
    assert!(peak < 150 << 20, "{} MiB", peak >> 20);
}

#[test]
fn memory_stays_flat_with_one_result_of_300_megabytes() {
    let place = Place::new();
    place.write_items(3);
    let script = "def run(mini_batch):\n    if mini_batch == ['item-001']:\n        \
                  return ('x' * (1 << 20) for _ in range(300))\n    return mini_batch\n";
    job_of(&place, script, "");
    let peak = peak_memory(&place);
    let output = place.job().join("output/parallel_run_step.txt");
    assert_eq!(fs::metadata(output).unwrap().len(), 300 * ((1 << 20) + 1) + 2 * 9);
    assert!(peak < 150 << 20, "{} MiB", peak >> 20);
    assert_eq!(place.status()["counts"]["surplus_results"], 299);
    assert!(!place.job().join(".fanfold/spool").exists(), "nothing is left in the spool");
}
