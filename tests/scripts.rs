//! Misbehaving entry scripts, each as a whole job with the real program, compared with what `scripts/table.json` says that it must
//! yield (`scripts/README.md`). One test for each case; `cargo test --test scripts -- NAME` runs those whose names contain NAME.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use serde_json::{Map, Value};
use support::{FANFOLD, Place, Ran, finish};

/// No case may wait for a limit that is not its own: the default of `task_overhead_timeout` is longer than this.
const LIMIT: Duration = Duration::from_secs(25);
/// Cases wait more than they work.
const AT_ONCE: usize = 4;
/// Bytes of a log file, its last note included.
const LOG_CAP: u64 = (64 << 20) + 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    version: u32,
    defaults: Defaults,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    items: usize,
    input_type: String,
    job: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    script: String,
    items: Option<usize>,
    input_type: Option<String>,
    #[serde(default)]
    job: Map<String, Value>,
    /// Seconds, where [`LIMIT`] is not enough.
    limit: Option<u64>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    state: String,
    exit_code: i32,
    #[serde(flatten)]
    more: BTreeMap<String, Wanted>,
}

/// What a case may expect besides.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    Count(u64),
    Text(String),
    Lines(Vec<String>),
    Counts(BTreeMap<String, u64>),
    Logs(BTreeMap<String, Vec<String>>),
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let table = fs::read_to_string(scripts().join("table.json")).expect("the table");
    let table: Table = serde_json::from_str(&table).expect("the table makes sense");
    assert_eq!(table.version, 1);
    let defaults = table.defaults.clone();
    // Those that take long first, so that the others run meanwhile.
    let (long, short): (Vec<_>, Vec<_>) = table.cases.into_iter().partition(|case| case.limit.is_some());
    let cases = long.into_iter().chain(short).map(|case| {
        let defaults = defaults.clone();
        Trial::test(case.name.clone(), move || case.run(&defaults))
    });
    let more = [
        Trial::test("the mark of a place reaches the scripts", the_mark_reaches_the_scripts),
        Trial::test("a full log disk stops no work", a_full_log_disk_stops_no_work),
    ];
    libtest_mimic::run(&arguments, cases.chain(more).collect()).exit();
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts")
}

impl Case {
    fn run(&self, defaults: &Defaults) -> Result<(), Failed> {
        let place = Place::new();
        let (items, job) = self.prepare(&place, defaults);
        let limit = self.limit.map_or(LIMIT, Duration::from_secs);
        let child = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().expect("the program starts");
        let ran = finish(child, limit);
        let mut look = Look { place: &place, ran: &ran, items, job, wrong: Vec::new() };
        look.at(&self.expect);
        let left = place.nothing_left();
        look.check(left.is_ok(), || left.unwrap_err());
        if look.wrong.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for wrong in &look.wrong {
            let _ = writeln!(text, "- {wrong}");
        }
        Err(format!("{text}\nstderr of the program:\n{}", ran.stderr).into())
    }

    /// Writes the job and its input; returns the items and the job.
    fn prepare(&self, place: &Place, defaults: &Defaults) -> (Vec<String>, Map<String, Value>) {
        fs::copy(scripts().join(&self.script), place.path(&self.script)).expect("the script");
        let items = place.write_items(self.items.unwrap_or(defaults.items));
        let input_type = self.input_type.as_ref().unwrap_or(&defaults.input_type);
        let mut job = defaults.job.clone();
        job.extend(self.job.clone());
        let mut set = |key: &str, value: &str| job.insert(key.into(), value.into());
        set("name", "case");
        set("entry_script", &self.script);
        set("input_type", input_type);
        set("inputs", if input_type == "files" { "items" } else { "items.txt" });
        if input_type == "files" {
            items.iter().for_each(|item| drop(place.write(format!("items/{item}"), item)));
        }
        job["inputs"] = vec![job["inputs"].clone()].into();
        place.write("job.yaml", Value::Object(job.clone()).to_string());
        (items, job)
    }
}

/// Compares a finished job with what was expected, and collects what is wrong.
struct Look<'a> {
    place: &'a Place,
    ran: &'a Ran,
    items: Vec<String>,
    job: Map<String, Value>,
    wrong: Vec<String>,
}

impl<'a> Look<'a> {
    fn check(&mut self, right: bool, wrong: impl FnOnce() -> String) {
        if !right {
            self.wrong.push(wrong());
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, is: T, expected: T) {
        self.check(is == expected, || format!("{what}: {is:?}, expected: {expected:?}"));
    }

    fn contains(&mut self, what: &str, text: &str, part: &str) {
        self.check(text.contains(part), || {
            format!("{what} lacks `{part}`:\n{}", &text[..text.floor_char_boundary(4000)])
        });
    }

    fn at(&mut self, expect: &Expect) {
        self.same("exit code", self.ran.code, Some(expect.exit_code));
        if !self.place.job().join("status.json").exists() {
            self.wrong.push("there is no status.json".into());
            return;
        }
        let status = self.place.status();
        self.same("state", status["state"].as_str(), Some(&*expect.state));
        let errors = self.place.errors();
        for (key, wanted) in &expect.more {
            self.wanted(key, wanted, &status, &errors);
        }
        self.whatever_was_expected(&status, &errors);
    }

    fn wanted(&mut self, key: &str, wanted: &Wanted, status: &Value, errors: &[Value]) {
        let any =
            |field: &str, part: &str| errors.iter().any(|error| error[field].as_str().unwrap_or("").contains(part));
        match (key, wanted) {
            ("rows", Wanted::Count(count)) => self.same(key, self.rows().len() as u64, *count),
            (_, Wanted::Count(count)) => self.same(key, status["counts"][key].as_u64(), Some(*count)),
            ("message", Wanted::Text(part)) => {
                self.check(any(key, part), || format!("no message in errors.jsonl has `{part}`: {errors:#?}"));
                self.contains("logs/user/error.txt", &self.log("user/error.txt"), part);
                self.contains("the closing summary", self.summary(), part);
                self.contains("`fanfold errors`", &self.place.run(&["errors", "job"]).stdout, part);
            }
            ("traceback" | "stderr", Wanted::Text(part)) => {
                self.check(any(key, part), || format!("no {key} in errors.jsonl has `{part}`: {errors:#?}"));
                self.contains("logs/user/error.txt", &self.log("user/error.txt"), part);
                self.contains("stderr of the program", &self.ran.stderr, part);
                self.contains("`fanfold errors --full`", &self.place.run(&["errors", "job", "--full"]).stdout, part);
            }
            ("cause", Wanted::Text(part)) => {
                self.contains("the cause in status.json", status["cause"].as_str().unwrap_or(""), part);
                self.contains("logs/job_result.txt", &self.log("job_result.txt"), part);
                self.contains("the closing summary", self.summary(), part);
            }
            ("capped", Wanted::Text(log)) => {
                self.contains(log, &self.log(log), "[fanfold: this file has reached its cap of 64.0 MiB");
            }
            ("kinds", Wanted::Counts(expected)) => {
                let mut kinds = BTreeMap::new();
                for error in errors {
                    *kinds.entry(error["kind"].as_str().unwrap_or("").to_string()).or_insert(0) += 1;
                }
                for kind in kinds.keys() {
                    self.contains("the closing summary", self.summary(), &format!("  {kind}: "));
                }
                self.same(key, kinds, expected.clone());
            }
            ("missing", Wanted::Lines(missing)) => self.missing(missing),
            ("output", Wanted::Lines(lines)) => {
                let mut rows: Vec<_> =
                    self.rows().into_iter().map(|row| String::from_utf8_lossy(&row).into_owned()).collect();
                let mut expected = lines.clone();
                rows.sort();
                expected.sort();
                self.same(key, rows, expected);
            }
            ("logs", Wanted::Logs(logs)) => {
                for (folder, parts) in logs {
                    let text: String = files(&self.place.job().join("logs").join(folder))
                        .iter()
                        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned())
                        .collect();
                    parts.iter().for_each(|part| self.contains(&format!("logs/{folder}"), &text, part));
                }
            }
            _ => panic!("the table expects something unknown: `{key}`"),
        }
    }

    /// A row belongs to the item it begins with; every item but those missing has equally many rows.
    fn missing(&mut self, missing: &[String]) {
        let mut rows: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for row in self.rows() {
            *rows.entry(row[..row.len().min("item-000".len())].to_vec()).or_default() += 1;
        }
        let each = rows.values().copied().max().unwrap_or(1);
        let expected: BTreeMap<Vec<u8>, usize> = self
            .items
            .iter()
            .filter(|item| !missing.contains(item))
            .map(|item| (item.clone().into_bytes(), each))
            .collect();
        let shown = |rows: &BTreeMap<Vec<u8>, usize>| -> Vec<(String, usize)> {
            rows.iter().map(|(row, count)| (String::from_utf8_lossy(row).into_owned(), *count)).collect()
        };
        self.same("rows of each item", shown(&rows), shown(&expected));
    }

    /// What is true of every job, whatever its script does.
    fn whatever_was_expected(&mut self, status: &Value, errors: &[Value]) {
        let counts = &status["counts"];
        let count = |key: &str| counts[key].as_u64().unwrap_or_default();
        let (failed, settled) = (count("items_failed"), count("items_failed") + count("items_succeeded"));
        let told: u64 = errors.iter().filter_map(|error| error["failed_items"].as_u64()).sum();
        self.same("failed items in errors.jsonl", told, failed);
        let completed = status["state"] == "Completed";
        if completed {
            self.same("items settled", settled, self.items.len() as u64);
        }
        for error in errors {
            let text = error["message"].as_str().unwrap_or("");
            self.check(!text.is_empty() && !text.contains('\n'), || format!("a message that is no line: {error:#}"));
        }

        let appends = self.job.get("output_action").is_none_or(|action| action == "append_row");
        self.same("the output has its final name", self.output().exists(), completed && appends);
        let partial = self.output().with_extension("txt.partial");
        self.check(!(completed && partial.exists()), || format!("{} is left", partial.display()));

        let verified = self.place.run(&["doctor", "--verify", "job"]);
        self.check(verified.code == Some(0), || format!("doctor --verify: {}{}", verified.stdout, verified.stderr));

        for log in files(&self.place.job().join("logs")) {
            let bytes = fs::metadata(&log).map_or(0, |metadata| metadata.len());
            self.check(bytes <= LOG_CAP, || format!("{} has {bytes} bytes", log.display()));
        }
        for (what, text) in
            [("stderr of the program", &*self.ran.stderr), ("user/error.txt", &self.log("user/error.txt"))]
        {
            let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
            self.check(!text.contains(harmful), || format!("{what} has control characters: {text:?}"));
        }
        if errors.is_empty() && count("attempts_failed") == 0 {
            self.same("user/error.txt", self.log("user/error.txt").trim_end(), "No errors.");
        }
    }

    fn output(&self) -> PathBuf {
        self.place.job().join("output/parallel_run_step.txt")
    }

    /// The lines of the output, which need not be UTF-8; of a job that did not complete, of its partial output.
    fn rows(&self) -> Vec<Vec<u8>> {
        let read = fs::read(self.output()).or_else(|_| fs::read(self.output().with_extension("txt.partial")));
        let bytes = read.unwrap_or_default();
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "the last row is torn");
        bytes.split_inclusive(|byte| *byte == b'\n').map(|row| row[..row.len() - 1].to_vec()).collect()
    }

    /// What `fanfold run` says last.
    fn summary(&self) -> &'a str {
        let text = self.ran.stderr.as_str();
        let state = text.rfind(" after ").unwrap_or(0);
        &text[text[..state].rfind('\n').unwrap_or(0)..]
    }

    fn log(&self, name: &str) -> String {
        let bytes = fs::read(self.place.job().join("logs").join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Without this no test would notice a process that is left.
fn the_mark_reaches_the_scripts() -> Result<(), Failed> {
    let place = Place::new();
    place.write_items(1);
    place.write("score.py", "import os\n\ndef run(mini_batch):\n    return [repr(dict(os.environ))]\n");
    place.write("job.yaml", "name: mark\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let (name, value) = place.mark();
    assert!(place.rows()[0].contains(&format!("'{name}': '{value}'")), "{:?}", place.rows());
    Ok(())
}

/// `logs/` is a disk of 256 KiB, and the script prints more than that. Only the directory of a job that exists can have such a
/// disk in it, so the job is interrupted first.
fn a_full_log_disk_stops_no_work() -> Result<(), Failed> {
    let place = Place::new();
    // In a mount namespace of its own, so that nothing has to be unmounted.
    let unshare = |root: &[&str], program: &[&str]| {
        let mount = "mkdir -p job/logs && mount -t tmpfs -o size=256k none job/logs && exec \"$@\"";
        let mut command = place.command("unshare");
        command.arg("--mount").args(root).args(["sh", "-c", mount, "sh"]).args(program);
        command
    };
    let possible = [&[][..], &["--map-root-user"][..]]
        .into_iter()
        .find(|root| unshare(root, &["true"]).output().is_ok_and(|output| output.status.success()));
    let Some(root) = possible else {
        eprintln!("SKIPPED: a full log disk stops no work: this machine lets nobody mount a small file system");
        return Ok(());
    };
    fs::remove_dir_all(place.job()).unwrap();

    let items = place.write_items(20);
    let script = r#"
import os, subprocess, sys, time

def run(mini_batch):
    time.sleep(0.005)  # so that each is answered by itself
    while mini_batch[0] >= "item-004" and not os.path.exists(sys.argv[-1]):
        time.sleep(0.005)
    for stream in (sys.stdout, sys.stderr):
        stream.write(("x" * 99 + "\n") * 4000)
    subprocess.call(["sh", "-c", "head -c 400000 /dev/zero >&2"])
    return mini_batch
"#;
    place.write("score.py", script);
    let job = format!(
        "name: full\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
         process_count_per_node: 2\narguments: [\"{}\"]\n",
        place.path("go").display()
    );
    place.write("job.yaml", job);
    let arguments = ["run", "job.yaml", "--job-dir", "job"];
    let first = place.fanfold().args(arguments).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(first.id() as i32);
    let partial = place.job().join("output/parallel_run_step.txt.partial");
    support::wait_for("the first row", || fs::metadata(&partial).ok().filter(|metadata| metadata.len() > 0));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    place.write("go", "");
    finish(first, LIMIT).expect(130);

    let second = unshare(root, &[&[FANFOLD], &arguments[..]].concat()).spawn().expect("unshare starts");
    finish(second, LIMIT).expect(0);
    support::assert_each_once(&place.rows(), &items);
    Ok(())
}
