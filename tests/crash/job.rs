//! Jobs for the crash tests: what goes in, how the script behaves, and the rows that must come out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::seed::Random;
use crate::support::{Place, python_with_pandas};
use crate::tables::{self, Kind};

/// What kind of job it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Files, with names that nobody would choose.
    Files,
    /// Lines of a list.
    Lines,
    /// Lines that become rows of up to some MiB, and some that are too large for a message.
    LargeRows,
    /// Files with names so long that sorting them needs a second run.
    LongNames,
    /// Files in folders, each folder a mini-batch.
    Parts,
    /// A few lines, each a mini-batch; the tests tell one of them how to behave.
    Few,
    /// Rows of tables of one kind, which become a table of one kind.
    Table(Kind, Kind),
    /// The same, where a mini-batch has all rows with the same value in a column.
    Grouped(Kind, Kind),
}

/// What the script does with a mini-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Returns a row for each item.
    Plain,
    /// Raises in its first runs, so many.
    Raises(u64),
    /// Leaves out the rows of the last items, so many.
    Short(usize),
    /// Returns rows with so many bytes of ballast.
    Large(usize),
    /// Never returns.
    Hangs,
}

/// A mini-batch as the test knows it.
#[derive(Debug)]
pub struct MiniBatch {
    /// Its items, as the rows and the side log name them: names in hexadecimal.
    pub keys: Vec<String>,
    /// What becomes of it.
    pub behaviour: Behaviour,
}

impl MiniBatch {
    /// The bytes that it must be in the output.
    pub fn rows(&self) -> Vec<u8> {
        let (count, ballast) = match self.behaviour {
            Behaviour::Short(missing) => (self.keys.len() - missing, None),
            Behaviour::Large(bytes) => (self.keys.len(), Some("x".repeat(bytes))),
            Behaviour::Plain | Behaviour::Raises(_) | Behaviour::Hangs => (self.keys.len(), None),
        };
        let mut rows = Vec::new();
        for key in &self.keys[..count] {
            rows.extend_from_slice(key.as_bytes());
            if let Some(ballast) = &ballast {
                rows.push(b' ');
                rows.extend_from_slice(ballast.as_bytes());
            }
            rows.push(b'\n');
        }
        rows
    }
}

/// A job in a place of its own.
pub struct Job {
    /// The place.
    pub place: Place,
    /// The mini-batches, in the order of the split.
    pub mini_batches: Vec<MiniBatch>,
    /// Which mini-batch an item belongs to.
    pub of_key: HashMap<String, usize>,
    /// The exit code of a run that completes it.
    pub exit: i32,
    /// The name of its output.
    pub output: &'static str,
    /// The line that its output begins with, if it has one.
    pub header: &'static str,
    /// Its rows come in the order of the input in the end.
    pub ordered: bool,
}

impl Job {
    /// A job of that shape, everything else by chance. `more` goes into the job file.
    pub fn new(shape: Shape, random: &mut Random, more: &str) -> Job {
        if let Shape::Table(input, output) | Shape::Grouped(input, output) = shape {
            return Job::over_tables(shape, (input, output), random, more);
        }
        let place = Place::new();
        let (names, size) = match shape {
            Shape::Files => (files(&place, random), random.between(1, 5) as usize),
            Shape::Lines => (lines(&place, random, 400, 1200), random.between(1, 4) as usize),
            Shape::LargeRows => (lines(&place, random, 60, 120), random.between(1, 3) as usize),
            Shape::LongNames => (long_names(&place), 500),
            Shape::Parts => (parts(&place, random), 0),
            Shape::Few | Shape::Table(..) | Shape::Grouped(..) => (lines(&place, random, 12, 12), 1),
        };
        let part = |name: &[u8]| name.iter().position(|byte| *byte == b'-').map(|at| name[..at].to_vec());
        let chunks: Vec<&[Vec<u8>]> = match shape {
            Shape::Parts => names.chunk_by(|a, b| part(a) == part(b)).collect(),
            _ => names.chunks(size).collect(),
        };
        let mut mini_batches: Vec<MiniBatch> = chunks
            .into_iter()
            .map(|names| names.iter().map(|name| hex(name)).collect::<Vec<String>>())
            .map(|keys| MiniBatch { behaviour: behaviour(shape, keys.len(), random), keys })
            .collect();
        if shape == Shape::LargeRows {
            // Larger than what goes through a pipe (8 MiB): these come as files of the spool.
            for _ in 0..2 {
                let at = random.between(0, mini_batches.len() as u64 - 1) as usize;
                let bytes = (9 << 20) / mini_batches[at].keys.len();
                mini_batches[at].behaviour = Behaviour::Large(bytes);
            }
        }
        let mut job = Job::of(place, mini_batches, random);
        let (inputs, input_type) = match shape {
            Shape::Files | Shape::LongNames | Shape::Parts => ("data", "files"),
            _ => ("items.txt", "lines"),
        };
        let cut = match shape {
            Shape::Parts => "partition_format: \"{part}/*\"".to_string(),
            _ => format!("mini_batch_size: {size}"),
        };
        let what = format!("entry_script: score.py\ninputs: [{inputs}]\ninput_type: {input_type}\n{cut}\n{more}");
        job.write(&what, random);
        job
    }

    /// A job over tables: its output has a header, or is a Parquet file.
    fn over_tables(shape: Shape, (input, output): (Kind, Kind), random: &mut Random, more: &str) -> Job {
        let place = Place::new();
        let size = random.between(2, 8) as usize;
        let keys = tables::make(&place, input, size, random);
        let cut = match shape {
            Shape::Grouped(..) => "partition_keys: [part]".to_string(),
            _ => format!("mini_batch_size: {size}rows"),
        };
        let mut mini_batches: Vec<MiniBatch> =
            keys.into_iter().map(|keys| MiniBatch { behaviour: behaviour(shape, keys.len(), random), keys }).collect();
        if output == Kind::Parquet && random.percent(30) {
            // A file of the spool.
            let at = random.between(0, mini_batches.len() as u64 - 1) as usize;
            let bytes = (9 << 20) / mini_batches[at].keys.len();
            mini_batches[at].behaviour = Behaviour::Large(bytes);
        }
        let mut job = Job::of(place, mini_batches, random);
        job.output = output.output();
        let input_type = match input {
            Kind::Csv => "csv\nread_csv: {dtype: {key: str}}",
            Kind::Parquet => "parquet",
        };
        if output == Kind::Csv {
            job.header = "key\n";
        }
        let what = format!(
            "entry_script: score_table.py\ninputs: [data]\ninput_type: {input_type}\n{cut}\n\
             append_row_file_name: {}\nappend_row_dataframe_header: true\nenvironment: {{python: {}}}\n{more}",
            job.output,
            python_with_pandas().display()
        );
        job.place.write("score_table.py", include_str!("score_table.py"));
        job.write(&what, random);
        job
    }

    /// A job of these mini-batches, which has no file yet.
    fn of(place: Place, mini_batches: Vec<MiniBatch>, random: &mut Random) -> Job {
        let of_key = mini_batches
            .iter()
            .enumerate()
            .flat_map(|(at, mini_batch)| mini_batch.keys.iter().map(move |key| (key.clone(), at)))
            .collect();
        let mut job =
            Job { place, mini_batches, of_key, exit: 0, output: "parallel_run_step.txt", header: "", ordered: false };
        job.write_behaviour(random.magnitude(0.0005, 0.004));
        job
    }

    /// Writes its file: `what` it runs over what, everything else by chance.
    fn write(&mut self, what: &str, random: &mut Random) {
        let short = self.mini_batches.iter().any(|mini_batch| matches!(mini_batch.behaviour, Behaviour::Short(_)));
        // With a threshold, failed items that stay below it are no reason for another exit code.
        let tolerant = short && random.percent(50);
        self.exit = if short && !tolerant { 5 } else { 0 };
        self.ordered = what.contains("ordered: true");
        let ordered = !self.ordered && random.percent(35);
        self.ordered |= ordered;
        let order = if ordered { "ordered: true\n" } else { "" };
        fs::create_dir(self.place.path("tries")).unwrap();
        let yaml = format!(
            "name: crash\n{what}{order}process_count_per_node: {processes}\nerror_threshold: {threshold}\n\
             environment_variables:\n  CRASH_SIDE_LOG: {side_log}\n  CRASH_TRIES: {tries}\n  CRASH_OUTPUT: {output}\n",
            processes = random.between(1, 3),
            threshold = if tolerant { 100_000 } else { -1 },
            side_log = self.place.path("side.log").display(),
            tries = self.place.path("tries").display(),
            output = self.output,
        );
        self.place.write("score.py", include_str!("score.py"));
        self.place.write("job.yaml", yaml);
    }

    /// The bytes of the output that are committed, with a Parquet file's rows as text. `committed` is what the program says of their length.
    pub fn committed(&self, committed: usize) -> Vec<u8> {
        let output = self.place.job().join("output").join(self.output);
        let partial = self.partial();
        let is_table = self.output.ends_with(".parquet");
        assert!(is_table || self.ordered || !output.exists() || !partial.exists(), "the output has both of its names");
        let mut bytes = fs::read(if output.exists() { &output } else { &partial }).unwrap_or_default();
        assert!(bytes.len() >= committed, "{} bytes of {committed} committed", bytes.len());
        if output.exists() {
            assert_eq!(bytes.len(), committed, "under its final name the file is what is committed");
        }
        bytes.truncate(committed);
        match is_table {
            false => bytes,
            true if output.exists() => tables::rows_of_file(&output),
            true => tables::rows_of_streams(&bytes),
        }
    }

    /// Whether the output has its final name.
    pub fn is_finished(&self) -> bool {
        self.place.job().join("output").join(self.output).exists()
    }

    /// Where the output grows.
    pub fn partial(&self) -> PathBuf {
        self.place.job().join("output").join(format!("{}.partial", self.output))
    }

    /// Tells the script how to behave: each run takes so many seconds. To be called before the first start.
    pub fn write_behaviour(&mut self, seconds: f64) {
        let mut text = format!("SECONDS = {seconds:.6}\nOF = {{\n");
        for mini_batch in &self.mini_batches {
            let (does, n) = match mini_batch.behaviour {
                Behaviour::Plain => continue,
                Behaviour::Raises(times) => ("raises", times),
                Behaviour::Short(missing) => ("short", missing as u64),
                Behaviour::Large(bytes) => ("large", bytes as u64),
                Behaviour::Hangs => ("hangs", 0),
            };
            writeln!(text, "    {:?}: ({does:?}, {n}),", mini_batch.keys[0]).unwrap();
        }
        self.place.write("behaviour.py", text + "}\n");
    }
}

fn behaviour(shape: Shape, items: usize, random: &mut Random) -> Behaviour {
    match (shape, random.between(1, 100)) {
        (Shape::Few | Shape::LongNames, _) => Behaviour::Plain,
        (_, 1..=4) => Behaviour::Raises(random.between(1, 2)),
        // Never all of them: by its first row a test sees that a mini-batch is in.
        (_, 5..=7) if items > 1 => Behaviour::Short(random.between(1, items as u64 - 1) as usize),
        (Shape::LargeRows, 8..=60) => Behaviour::Large(random.magnitude(1e3, 1e6) as usize),
        (Shape::Table(_, Kind::Parquet) | Shape::Grouped(_, Kind::Parquet), 8..=20) => {
            Behaviour::Large(random.magnitude(1.0, 1e5) as usize)
        }
        _ => Behaviour::Plain,
    }
}

/// Where files lie, in an order that is not that of the folders alone.
const FOLDERS: &[&[u8]] = &[b"", b"b/", b"b c/", b"\xff/", b"new\nline/deep/"];

/// Makes files, and gives their names in the order of the split.
fn files(place: &Place, random: &mut Random) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for i in 0..random.between(300, 900) {
        let folder = random.pick(FOLDERS);
        let name = match random.between(0, 5) {
            0 => format!("with space {i} .bin").into_bytes(),
            1 => format!("line\nbreak\n{i}").into_bytes(),
            2 => [b"not \xfe\xff utf-8 ".as_slice(), i.to_string().as_bytes()].concat(),
            3 => format!("ünï-{i}'\"$`\\").into_bytes(),
            _ => format!("{i:05}").into_bytes(),
        };
        paths.push([*folder, name.as_slice()].concat());
    }
    write_files(place, paths)
}

/// One to five files in each of some hundred folders.
fn parts(place: &Place, random: &mut Random) -> Vec<Vec<u8>> {
    let parts = random.between(100, 300);
    let mut files = Vec::new();
    for part in 0..parts {
        files.extend((0..random.between(1, 5)).map(|i| format!("p {part:03}/{part:03}-{i}").into_bytes()));
    }
    write_files(place, files)
}

/// About 18 MB of names: more than is sorted in memory at once.
fn long_names(place: &Place) -> Vec<Vec<u8>> {
    let folder = format!("{}/", "d".repeat(240)).repeat(12);
    write_files(place, (0..6000).map(|i| format!("{folder}{i:05}").into_bytes()).collect())
}

fn write_files(place: &Place, mut paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let data = place.path("data");
    for path in &paths {
        let path = data.join(OsStr::from_bytes(path));
        fs::create_dir_all(path.parent().expect("in the data")).unwrap();
        fs::write(path, "").unwrap();
    }
    paths.sort();
    paths.into_iter().map(|path| path.rsplit(|byte| *byte == b'/').next().expect("a name").to_vec()).collect()
}

fn lines(place: &Place, random: &mut Random, least: u64, most: u64) -> Vec<Vec<u8>> {
    let items: Vec<String> = (0..random.between(least, most)).map(|i| format!("item {i:05} é")).collect();
    place.write("items.txt", items.join("\n") + "\n");
    items.into_iter().map(String::into_bytes).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
