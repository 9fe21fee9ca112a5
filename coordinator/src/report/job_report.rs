//! `logs/sys/job_report/`: every mini-batch, and sums by process and by node, as CSV.
//!
//! The columns of `processed_mini-batches.csv` are the original's; of the other two it never published any. One pass over the
//! ledger, row by row; memory grows with the processes only.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use fanfold_shared::clock::Stamper;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::layout::Logs;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::text::{cut, push_csv, push_decimal, push_seconds};

use crate::ledger::{MiniBatchRow, ProcessRow};

const MINI_BATCHES: &str = "Mini-batch Id,Picked Count,Process,Process Start Time,Total,Succeeded,Failed,Elapsed Seconds,\
                            Process Seconds,Run Method Seconds,Status,Error Category,Error Message,Mini-batch Detail\n";
const SUMS: &str =
    "Mini-batches,Failed Mini-batches,Total,Succeeded,Failed,Elapsed Seconds,Process Seconds,Run Method Seconds";
/// Bytes of an error message in a row.
const MESSAGE: usize = 1000;

/// Sums over mini-batches.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    mini_batches: u64,
    failed_mini_batches: u64,
    total: u64,
    failed: u64,
    elapsed_us: u64,
    cpu_us: u64,
    run_us: u64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.mini_batches += other.mini_batches;
        self.failed_mini_batches += other.failed_mini_batches;
        self.total += other.total;
        self.failed += other.failed;
        self.elapsed_us += other.elapsed_us;
        self.cpu_us += other.cpu_us;
        self.run_us += other.run_us;
    }

    fn push(&self, out: &mut Vec<u8>) {
        let Sums { mini_batches, failed_mini_batches, total, failed, .. } = *self;
        for value in [mini_batches, failed_mini_batches, total, total.saturating_sub(failed), failed] {
            push_decimal(out, value);
            out.push(b',');
        }
        push_seconds(out, self.elapsed_us);
        out.push(b',');
        push_seconds(out, self.cpu_us);
        out.push(b',');
        push_seconds(out, self.run_us);
    }
}

/// Where a mini-batch was settled, and the sums of that place.
#[derive(Debug)]
struct Place {
    node: NodeId,
    process: Option<ProcessNumber>,
    /// `0/process000`, quoted where necessary: it is in every row.
    label: Vec<u8>,
    sums: Sums,
}

/// Writes the three files; see the module documentation.
#[derive(Debug)]
pub struct JobReport {
    logs: Logs,
    out: BufWriter<File>,
    row: Vec<u8>,
    stamper: Stamper,
    places: Vec<Place>,
    by_node: HashMap<NodeId, HashMap<Option<ProcessNumber>, usize>>,
    /// The place of the last row: most often that of the next.
    last: usize,
}

impl JobReport {
    /// Begins the report in `logs`, replacing an earlier one.
    pub fn create(logs: &Logs) -> io::Result<JobReport> {
        let path = logs.job_report("processed_mini-batches.csv");
        fs::create_dir_all(path.parent().expect("in a directory"))?;
        let mut out = BufWriter::with_capacity(256 << 10, File::create(path)?);
        out.write_all(MINI_BATCHES.as_bytes())?;
        Ok(JobReport {
            logs: logs.clone(),
            out,
            row: Vec::with_capacity(512),
            stamper: Stamper::default(),
            places: Vec::new(),
            by_node: HashMap::new(),
            last: usize::MAX,
        })
    }

    /// Adds one settled mini-batch.
    pub fn mini_batch(&mut self, mini_batch: &MiniBatchRow) -> io::Result<()> {
        let place = self.place(mini_batch);
        let total = mini_batch.items.end - mini_batch.items.start;
        let Self { row, places, stamper, .. } = self;
        let place = &mut places[place];
        place.sums.add(&Sums {
            mini_batches: 1,
            failed_mini_batches: mini_batch.error.is_some().into(),
            total,
            failed: mini_batch.failed_items,
            elapsed_us: mini_batch.elapsed_us,
            cpu_us: mini_batch.cpu_us,
            run_us: mini_batch.run_us,
        });
        row.clear();
        push_decimal(row, mini_batch.mini_batch);
        row.push(b',');
        push_decimal(row, mini_batch.attempt.into());
        row.push(b',');
        row.extend_from_slice(&place.label);
        row.push(b',');
        stamper.write_iso(row, mini_batch.started_us);
        for value in [total, total.saturating_sub(mini_batch.failed_items), mini_batch.failed_items] {
            row.push(b',');
            push_decimal(row, value);
        }
        for value in [mini_batch.elapsed_us, mini_batch.cpu_us, mini_batch.run_us] {
            row.push(b',');
            push_seconds(row, value);
        }
        row.push(b',');
        // Nothing of it was readable, so it was never run.
        let never_run = total > 0 && mini_batch.unreadable >= total;
        let kind = mini_batch.error.as_ref().map(|(kind, _)| *kind).or(never_run.then_some(ErrorKind::Input));
        row.extend_from_slice(status(kind).as_bytes());
        row.push(b',');
        row.extend_from_slice(kind.map_or("", ErrorKind::name).as_bytes());
        row.push(b',');
        if let Some((_, message)) = &mini_batch.error {
            push_csv(row, cut(message, MESSAGE));
        }
        // A JSON object, with its quotes doubled for CSV.
        row.extend_from_slice(b",\"{\"\"first_item\"\": ");
        push_decimal(row, mini_batch.items.start);
        row.extend_from_slice(b", \"\"returned\"\": ");
        push_decimal(row, mini_batch.returned);
        row.extend_from_slice(b", \"\"rows_bytes\"\": ");
        push_decimal(row, mini_batch.rows_len);
        row.extend_from_slice(b"}\"\n");
        self.out.write_all(row)
    }

    /// Completes the report: the sums, with what the ledger knows of each process.
    pub fn finish(mut self, processes: &[ProcessRow]) -> io::Result<()> {
        self.out.flush()?;
        self.process_summary(processes)?;
        self.node_summary(processes)
    }

    fn process_summary(&self, processes: &[ProcessRow]) -> io::Result<()> {
        let mut out = format!("Node,Process,Pid,Device,Start Time,Init Seconds,End Time,End,{SUMS}\n").into_bytes();
        let mut stamper = Stamper::default();
        for process in processes {
            push_csv(&mut out, &process.node.0);
            out.extend_from_slice(format!(",{},{},", process.process, process.pid).as_bytes());
            push_csv(&mut out, process.device.as_deref().unwrap_or(""));
            out.push(b',');
            stamper.write_iso(&mut out, process.started_us);
            out.push(b',');
            if let Some(us) = process.init_us {
                push_seconds(&mut out, us);
            }
            out.push(b',');
            if let Some(us) = process.ended_us {
                stamper.write_iso(&mut out, us);
            }
            out.push(b',');
            push_csv(&mut out, process.how.as_deref().unwrap_or(""));
            out.push(b',');
            self.sums(&process.node, Some(process.process)).push(&mut out);
            out.push(b'\n');
        }
        // What no process of the ledger accounts for: mini-batches that never ran in one.
        for place in &self.places {
            if !processes.iter().any(|p| p.node == place.node && Some(p.process) == place.process) {
                push_csv(&mut out, &place.node.0);
                out.push(b',');
                out.extend_from_slice(place.process.map_or("".to_string(), |p| p.to_string()).as_bytes());
                out.extend_from_slice(b",,,,,,,");
                place.sums.push(&mut out);
                out.push(b'\n');
            }
        }
        fs::write(self.path("process_summary.csv"), out)
    }

    fn node_summary(&self, processes: &[ProcessRow]) -> io::Result<()> {
        let mut out = format!("Node,Processes,{SUMS}\n").into_bytes();
        let mut nodes: Vec<&NodeId> = processes.iter().map(|p| &p.node).chain(self.by_node.keys()).collect();
        // As numbers where they are numbers.
        nodes.sort_by_key(|node| (node.0.parse::<u64>().unwrap_or(u64::MAX), *node));
        nodes.dedup();
        for node in nodes {
            let mut sums = Sums::default();
            self.places.iter().filter(|place| place.node == *node).for_each(|place| sums.add(&place.sums));
            push_csv(&mut out, &node.0);
            out.push(b',');
            push_decimal(&mut out, processes.iter().filter(|p| p.node == *node).count() as u64);
            out.push(b',');
            sums.push(&mut out);
            out.push(b'\n');
        }
        fs::write(self.path("node_summary.csv"), out)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.logs.job_report(name)
    }

    fn sums(&self, node: &NodeId, process: Option<ProcessNumber>) -> Sums {
        let place = self.by_node.get(node).and_then(|places| places.get(&process));
        place.map_or(Sums::default(), |place| self.places[*place].sums)
    }

    fn place(&mut self, row: &MiniBatchRow) -> usize {
        if let Some(last) = self.places.get(self.last)
            && last.process == row.process
            && last.node == row.node
        {
            return self.last;
        }
        let known = self.by_node.get(&row.node).and_then(|places| places.get(&row.process)).copied();
        self.last = known.unwrap_or_else(|| {
            let process = row.process.map_or(String::new(), |process| process.to_string());
            let mut label = Vec::new();
            push_csv(&mut label, &format!("{}/{process}", row.node));
            let place = Place { node: row.node.clone(), process: row.process, label, sums: Sums::default() };
            self.places.push(place);
            self.by_node.entry(row.node.clone()).or_default().insert(row.process, self.places.len() - 1);
            self.places.len() - 1
        });
        self.last
    }
}

/// In the original's vocabulary, as far as it is known.
fn status(error: Option<ErrorKind>) -> &'static str {
    match error {
        None => "RUN_DONE",
        Some(ErrorKind::Exception) => "RUN_EXCEPTION",
        Some(ErrorKind::Timeout) => "RUN_TIMEOUT",
        Some(ErrorKind::BadReturn) => "RUN_BAD_RETURN",
        Some(ErrorKind::ShortReturn) => "RUN_SHORT_RETURN",
        Some(ErrorKind::OverheadTimeout) => "OVERHEAD_TIMEOUT",
        Some(ErrorKind::Exit) => "PROCESS_EXITED",
        Some(ErrorKind::Signal) => "PROCESS_KILLED",
        Some(ErrorKind::Oom) => "OUT_OF_MEMORY",
        Some(ErrorKind::Init) => "INIT_FAILED",
        Some(ErrorKind::Input) => "INPUT_UNREADABLE",
        Some(ErrorKind::NodeLost) => "NODE_LOST",
    }
}

#[cfg(test)]
mod tests {
    use fanfold_shared::layout::JobDir;

    use super::super::snapshot::fixtures::THEN;
    use super::*;

    fn row(mini_batch: u64, process: Option<u32>) -> MiniBatchRow {
        MiniBatchRow {
            mini_batch,
            items: mini_batch * 10..mini_batch * 10 + 10,
            attempt: 1,
            node: NodeId("0".into()),
            process: process.map(ProcessNumber),
            started_us: THEN + mini_batch,
            elapsed_us: 822_071,
            run_us: 810_000,
            cpu_us: 790_000,
            returned: 10,
            failed_items: 0,
            unreadable: 0,
            rows_len: 123,
            error: None,
        }
    }

    fn process(number: u32, ended: bool) -> ProcessRow {
        ProcessRow {
            node: NodeId("0".into()),
            process: ProcessNumber(number),
            pid: 300 + number,
            device: (number == 0).then(|| "0,1".into()),
            started_us: THEN,
            init_us: ended.then_some(1_500_000),
            ended_us: ended.then_some(THEN + 9_000_000),
            how: ended.then(|| "killed by SIGKILL (signal 9)".into()),
        }
    }

    #[test]
    fn the_reports_have_the_original_columns_and_proper_quoting() {
        let dir = tempfile::tempdir().unwrap();
        let logs = JobDir::new(dir.path()).logs();
        let mut report = JobReport::create(&logs).unwrap();
        report.mini_batch(&row(0, Some(0))).unwrap();
        let error = Some((ErrorKind::Exception, "ValueError: \"a\",\nb".to_string()));
        report
            .mini_batch(&MiniBatchRow { error, failed_items: 10, returned: 0, rows_len: 0, ..row(1, Some(1)) })
            .unwrap();
        let error = Some((ErrorKind::Input, "gone".to_string()));
        report.mini_batch(&MiniBatchRow { error, failed_items: 10, ..row(2, None) }).unwrap();
        report.mini_batch(&row(3, Some(0))).unwrap();
        report.finish(&[process(0, true), process(1, false)]).unwrap();
        let read = |name| fs::read_to_string(logs.job_report(name)).unwrap();
        insta::assert_snapshot!(read("processed_mini-batches.csv"), @r#"
        Mini-batch Id,Picked Count,Process,Process Start Time,Total,Succeeded,Failed,Elapsed Seconds,Process Seconds,Run Method Seconds,Status,Error Category,Error Message,Mini-batch Detail
        0,1,0/process000,2026-11-21T02:38:55.226929,10,10,0,0.822071,0.790000,0.810000,RUN_DONE,,,"{""first_item"": 0, ""returned"": 10, ""rows_bytes"": 123}"
        1,1,0/process001,2026-11-21T02:38:55.226930,10,0,10,0.822071,0.790000,0.810000,RUN_EXCEPTION,exception,"ValueError: ""a"",
        b","{""first_item"": 10, ""returned"": 0, ""rows_bytes"": 0}"
        2,1,0/,2026-11-21T02:38:55.226931,10,0,10,0.822071,0.790000,0.810000,INPUT_UNREADABLE,input,gone,"{""first_item"": 20, ""returned"": 10, ""rows_bytes"": 123}"
        3,1,0/process000,2026-11-21T02:38:55.226932,10,10,0,0.822071,0.790000,0.810000,RUN_DONE,,,"{""first_item"": 30, ""returned"": 10, ""rows_bytes"": 123}"
        "#);
        insta::assert_snapshot!(read("process_summary.csv"), @r#"
        Node,Process,Pid,Device,Start Time,Init Seconds,End Time,End,Mini-batches,Failed Mini-batches,Total,Succeeded,Failed,Elapsed Seconds,Process Seconds,Run Method Seconds
        0,process000,300,"0,1",2026-11-21T02:38:55.226929,1.500000,2026-11-21T02:39:04.226929,killed by SIGKILL (signal 9),2,0,20,20,0,1.644142,1.580000,1.620000
        0,process001,301,,2026-11-21T02:38:55.226929,,,,1,1,10,0,10,0.822071,0.790000,0.810000
        0,,,,,,,,1,1,10,0,10,0.822071,0.790000,0.810000
        "#);
        insta::assert_snapshot!(read("node_summary.csv"), @r#"
        Node,Processes,Mini-batches,Failed Mini-batches,Total,Succeeded,Failed,Elapsed Seconds,Process Seconds,Run Method Seconds
        0,2,4,2,40,20,20,3.288284,3.160000,3.240000
        "#);
    }

    #[test]
    fn a_mini_batch_that_was_never_run_is_told_from_one_that_was() {
        let dir = tempfile::tempdir().unwrap();
        let logs = JobDir::new(dir.path()).logs();
        let mut report = JobReport::create(&logs).unwrap();
        for (id, unreadable) in [(0, 10), (1, 9)] {
            let returned = 10 - unreadable;
            let row = MiniBatchRow { failed_items: unreadable, unreadable, returned, ..row(id, Some(0)) };
            report.mini_batch(&row).unwrap();
        }
        report.finish(&[process(0, true)]).unwrap();
        let rows = fs::read_to_string(logs.job_report("processed_mini-batches.csv")).unwrap();
        let told: Vec<&str> = rows.lines().skip(1).map(|row| row.split("0.810000,").nth(1).unwrap()).collect();
        assert!(told[0].starts_with("INPUT_UNREADABLE,input,,"), "{rows}");
        assert!(told[1].starts_with("RUN_DONE,,,"), "{rows}");
    }

    /// Not a test but a measurement: `cargo test --release -p fanfold measure -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints a measurement"]
    fn measure_a_million_rows() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            let mut report = JobReport::create(&JobDir::new(dir.path()).logs()).unwrap();
            let mut row = row(0, Some(0));
            let begun = std::time::Instant::now();
            for i in 0..1_000_000 {
                (row.mini_batch, row.items) = (i, i * 10..i * 10 + 10);
                row.process = Some(ProcessNumber(i as u32 % 8));
                row.started_us += 700;
                report.mini_batch(&row).unwrap();
            }
            report.finish(&[]).unwrap();
            eprintln!("{:.2} s for a million rows", begun.elapsed().as_secs_f64());
        }
    }
}
