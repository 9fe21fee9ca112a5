//! Jobs for the crash tests: what goes in, how the script behaves, and the rows that must come out.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::seed::Random;
use crate::support::{Place, python_with_pandas};

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
    /// Rows of tables, which run while the rest is still being split. Needs pandas.
    Rows,
    /// A few lines, each a mini-batch; the tests tell one of them how to behave.
    Few,
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
}

impl Job {
    /// A job of that shape, everything else by chance. `more` goes into the job file.
    pub fn new(shape: Shape, random: &mut Random, more: &str) -> Job {
        let place = Place::new();
        let (names, size) = match shape {
            Shape::Files => (files(&place, random), random.between(1, 5) as usize),
            Shape::Lines => (lines(&place, random, 400, 1200), random.between(1, 4) as usize),
            Shape::LargeRows => (lines(&place, random, 60, 120), random.between(1, 3) as usize),
            Shape::LongNames => (long_names(&place), 500),
            Shape::Parts => (parts(&place, random), 0),
            Shape::Rows => (rows(&place, random), random.between(1, 5) as usize),
            Shape::Few => (lines(&place, random, 12, 12), 1),
        };
        let part = |name: &[u8]| name.iter().position(|byte| *byte == b'-').map(|at| name[..at].to_vec());
        let chunks: Vec<&[Vec<u8>]> = match shape {
            Shape::Parts => names.chunk_by(|a, b| part(a) == part(b)).collect(),
            Shape::Rows => names.chunk_by(|a, b| part(a) == part(b)).flat_map(|of_file| of_file.chunks(size)).collect(),
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
        let of_key = mini_batches
            .iter()
            .enumerate()
            .flat_map(|(at, mini_batch)| mini_batch.keys.iter().map(move |key| (key.clone(), at)))
            .collect();
        let mut job = Job { place, mini_batches, of_key, exit: 0 };
        job.write_behaviour(random.magnitude(0.0005, 0.004));

        let (inputs, input_type) = match shape {
            Shape::Files | Shape::LongNames | Shape::Parts => ("data", "files"),
            Shape::Rows => ("data", "csv"),
            Shape::Lines | Shape::LargeRows | Shape::Few => ("items.txt", "lines"),
        };
        let short = job.mini_batches.iter().any(|mini_batch| matches!(mini_batch.behaviour, Behaviour::Short(_)));
        // With a threshold, failed items that stay below it are no reason for another exit code.
        let tolerant = short && random.percent(50);
        job.exit = if short && !tolerant { 5 } else { 0 };
        fs::create_dir(job.place.path("tries")).unwrap();
        let cut = match shape {
            Shape::Parts => "partition_format: \"{part}/*\"".to_string(),
            Shape::Rows => {
                format!("mini_batch_size: {size}rows\nenvironment: {{python: {}}}", python_with_pandas().display())
            }
            _ => format!("mini_batch_size: {size}"),
        };
        let yaml = format!(
            "name: crash\nentry_script: score.py\ninputs: [{inputs}]\ninput_type: {input_type}\n{cut}\n\
             process_count_per_node: {processes}\nerror_threshold: {threshold}\n\
             environment_variables:\n  CRASH_SIDE_LOG: {side_log}\n  CRASH_TRIES: {tries}\n{more}",
            processes = random.between(1, 3),
            threshold = if tolerant { 100_000 } else { -1 },
            side_log = job.place.path("side.log").display(),
            tries = job.place.path("tries").display(),
        );
        job.place.write("score.py", include_str!("score.py"));
        job.place.write("job.yaml", yaml);
        job
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

/// One to eight tables of some hundred rows, with a line break in each field.
fn rows(place: &Place, random: &mut Random) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    for file in 0..random.between(1, 8) {
        let of_file: Vec<String> = (0..random.between(1, 200)).map(|row| format!("{file}-{row}, \"é\n\"")).collect();
        let text: String = of_file.iter().map(|name| format!("1,\"{}\"\n", name.replace('"', "\"\""))).collect();
        place.write(format!("data/{file}.csv"), format!("n,name\n{text}"));
        names.extend(of_file.into_iter().map(String::into_bytes));
    }
    names
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
