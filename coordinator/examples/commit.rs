//! How fast commits are: `cargo run --release -p fanfold --example commit [DIR] [MINI_BATCHES] [GROUP]`.
//!
//! Commits MINI_BATCHES outcomes of one item and one short row each, GROUP to a commit, in messages of 64 as nodes send
//! them, with every sync that a job has. Says how long commits take, what they cost without the syncs of DIR's disk (run it
//! on a memory disk for that), and how large ledger and memory become.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fanfold::aggregate::{Aggregate, AggregateConfig, Part, verify};
use fanfold::ledger::JobLock;
use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::{Outcome, OutcomeEnd, Results};
use fanfold_shared::split::{Split, SplitInput};

const MESSAGE: u64 = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut number = |default| arguments.next().map_or(default, |text| text.parse::<u64>().expect("a number"));
    let (mini_batches, group_size) = (number(1_000_000), number(10_000));

    let job = JobDir::new(dir.join(format!("fanfold-commit-{}", std::process::id())));
    let input = SplitInput::of_items("input0", "", 0..mini_batches);
    let config = || AggregateConfig {
        job: job.clone(),
        lock: JobLock::acquire(&job).expect("a new directory"),
        job_id: JobId("commit-00000000".into()),
        fingerprint: "x".into(),
        split: Split { inputs: vec![input.clone()], ..Split::even(1) },
        output: Some(job.default_output().join("parallel_run_step.txt")),
        table: false,
        ordered: false,
        header: false,
        tries: fanfold::aggregate::Tries { most: 3, bisect: false },
    };
    let (mut aggregate, _) = Aggregate::open(config()).expect("a new job");
    let node = NodeId("0".into());
    let mut times = Vec::new();
    let mut at = 0;
    while at < mini_batches {
        let end = (at + group_size).min(mini_batches);
        let messages: Vec<Results> = (at..end)
            .step_by(MESSAGE as usize)
            .map(|first| message(first..(first + MESSAGE).min(end), (first / MESSAGE % 8) as u32))
            .collect();
        let parts: Vec<Part<'_>> = messages.iter().map(|results| Part::Results { node: &node, results }).collect();
        let start = Instant::now();
        let done = aggregate.commit(&parts).expect("a sound disk");
        times.push(start.elapsed());
        assert_eq!(done.mini_batches_succeeded, end - at);
        at = end;
    }
    let total: Duration = times.iter().sum();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{mini_batches} mini-batches in groups of {group_size}: {:.0} a second; a group takes {:.2} ms (median), {:.2} ms (99 %), {:.2} ms (longest)",
        mini_batches as f64 / total.as_secs_f64(),
        ms(times[times.len() / 2]),
        ms(times[times.len() * 99 / 100]),
        ms(times[times.len() - 1]),
    );
    let size = |suffix: &str| fs::metadata(format!("{}{suffix}", job.ledger().display())).map_or(0, |file| file.len());
    let log = size("-wal") >> 10;
    drop(aggregate);
    println!("ledger {:.1} bytes a mini-batch, log {log} KiB, {}", size("") as f64 / mini_batches as f64, peak());
    let start = Instant::now();
    let (mut aggregate, _) = Aggregate::open(config()).expect("the job just made");
    println!("opened again in {:.0} ms, {}", ms(start.elapsed()), peak());
    aggregate.finish().expect("everything is settled");
    let start = Instant::now();
    assert!(verify(&job).expect("a sound job").is_clean());
    println!("verified in {:.0} ms", ms(start.elapsed()));
    fs::remove_dir_all(job.root()).expect("our own directory");
}

fn message(ids: std::ops::Range<u64>, process: u32) -> Results {
    let outcome = |id| Outcome {
        mini_batch: id,
        items: id..id + 1,
        attempt: 1,
        started_us: 1_790_000_000_000_000 + id * 150,
        elapsed_us: 140,
        run_us: 120,
        cpu_us: 110,
        end: OutcomeEnd::Returned { returned: 1, rows_len: 20, spooled: None, unreadable: Vec::new() },
    };
    let rows = ids.clone().flat_map(|id| format!("item {id:010} 0.5\n").into_bytes()).collect();
    Results { process: ProcessNumber(process), outcomes: ids.map(outcome).collect(), rows, header: None }
}

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?");
    format!("peak memory {}", line.trim())
}
