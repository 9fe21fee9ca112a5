//! How fast Parquet output is: `cargo run --release -p fanfold --example table [DIR] [FRAMES] [ROWS]`.
//!
//! Commits FRAMES frames of ROWS rows (a whole number, two floats and a text in each: 21,000 are 1 MB), about 16 MB to a commit, and as many bytes of text,
//! in turn, five times, with every sync that a job has; then makes a Parquet file of the frames. Says how fast each was, and how large the file and
//! the memory became.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use fanfold::aggregate::{Aggregate, AggregateConfig, Part};
use fanfold::ledger::JobLock;
use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::{Outcome, OutcomeEnd, Results};
use fanfold_shared::split::{Split, SplitInput};

/// Rows of a commit.
const GROUP_ROWS: u64 = 336_000;
const ROUNDS: usize = 5;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut number = |default| arguments.next().map_or(default, |text| text.parse::<u64>().expect("a number"));
    let (frames, rows) = (number(512), number(21_000));
    let (mut text, mut table, mut pass) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for (name, speeds) in [("text.txt", &mut text), ("table.parquet", &mut table)] {
            let job = JobDir::new(dir.join(format!("fanfold-table-{}-{round}-{name}", std::process::id())));
            let (mut aggregate, bytes, speed) = commit(&job, name, frames, rows);
            speeds.push(speed);
            if name.ends_with(".parquet") {
                let began = Instant::now();
                aggregate.finish().expect("everything is settled");
                pass.push(bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
                let written = fs::metadata(job.default_output().join(name)).expect("the output").len();
                println!(
                    "{:.0} MB of frames, a file of {:.0} MB, {}",
                    bytes as f64 / 1e6,
                    written as f64 / 1e6,
                    peak()
                );
            }
            drop(aggregate);
            fs::remove_dir_all(job.root()).expect("our own directory");
        }
    }
    for (what, mut speeds) in [("commits of text", text), ("commits of frames", table), ("the pass", pass)] {
        speeds.sort_by(f64::total_cmp);
        println!(
            "{what}: {:.0} MB/s (median of {ROUNDS}; {:.0} to {:.0})",
            speeds[ROUNDS / 2],
            speeds[0],
            speeds[ROUNDS - 1]
        );
    }
}

/// A job that has so many frames committed, how many bytes they are, and MB/s.
fn commit(job: &JobDir, name: &str, frames: u64, rows: u64) -> (Aggregate, u64, f64) {
    let config = AggregateConfig {
        job: job.clone(),
        lock: JobLock::acquire(job).expect("a new directory"),
        job_id: JobId("table-00000000".into()),
        fingerprint: "x".into(),
        split: Split { inputs: vec![SplitInput::of_items("input0", "", 0..frames * rows)], ..Split::even(rows) },
        output: Some(job.default_output().join(name)),
        table: name.ends_with(".parquet"),
        ordered: false,
        header: false,
        tries: fanfold::aggregate::Tries { most: 3, bisect: false },
    };
    let (mut aggregate, _) = Aggregate::open(config).expect("a new job");
    let node = NodeId("0".into());
    let (mut seconds, mut bytes) = (0.0, 0);
    let group = (GROUP_ROWS / rows).max(1);
    for first in (0..frames).step_by(group as usize) {
        let messages: Vec<Results> =
            (first..(first + group).min(frames)).map(|id| message(id, rows, name.ends_with(".parquet"))).collect();
        bytes += messages.iter().map(|results| results.rows.len() as u64).sum::<u64>();
        let parts: Vec<Part<'_>> = messages.iter().map(|results| Part::Results { node: &node, results }).collect();
        let began = Instant::now();
        let done = aggregate.commit(&parts).expect("a sound disk");
        seconds += began.elapsed().as_secs_f64();
        assert_eq!(done.mini_batches_succeeded, messages.len() as u64);
    }
    (aggregate, bytes, bytes as f64 / 1e6 / seconds)
}

fn message(id: u64, count: u64, table: bool) -> Results {
    let rows = frame(id, count);
    // Text is the same bytes: nobody looks at them.
    let outcome = Outcome {
        mini_batch: id,
        items: id * count..(id + 1) * count,
        attempt: 1,
        started_us: 1_790_000_000_000_000,
        elapsed_us: 140,
        run_us: 120,
        cpu_us: 110,
        end: OutcomeEnd::Returned {
            returned: count,
            rows_len: rows.len() as u64,
            spooled: None,
            unreadable: Vec::new(),
        },
    };
    let rows = if table { rows } else { vec![b'x'; rows.len()] };
    Results { process: ProcessNumber(0), outcomes: vec![outcome], rows, header: None }
}

fn frame(id: u64, count: u64) -> Vec<u8> {
    let rows = id * count..(id + 1) * count;
    // Digits that don't repeat, as scores of a model.
    let score = |row: u64| (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(rows.clone().map(|row| Some(row as i64)).collect::<Int64Array>())),
        ("score", Arc::new(rows.clone().map(|row| Some(score(row))).collect::<Float64Array>())),
        ("other", Arc::new(rows.clone().map(|row| Some(score(row + 1) * 100.0)).collect::<Float64Array>())),
        ("label", Arc::new(rows.map(|row| Some(format!("label {row:013}"))).collect::<StringArray>())),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("memory");
    writer.write(&batch).expect("memory");
    writer.into_inner().expect("memory")
}

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?");
    format!("peak memory {}", line.trim())
}
