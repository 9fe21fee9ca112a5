//! What `docs/guide.md` shows happens: its first job is run as it stands there, and what the guide prints is what comes.

use std::fs;
use std::process::Command;

use crate::page;
use crate::support::{Place, Ran, python_with_pandas};
use crate::told::told;

/// Where the guide says that it was.
const HOME: &str = "/home/me";

#[test]
fn the_first_job_of_the_guide_succeeds_fails_and_is_mended_as_it_says() {
    let guide = Guide::read();
    let place = Place::new();
    place.write("count.py", guide.block("python", "def init():"));
    place.write("job.yaml", guide.block("yaml", "name: letters"));
    shell(&place, &guide.block("sh", "mkdir letters"));

    let plan = place.run(&["plan", "job.yaml"]).expect(0).stdout;
    assert!(plan.starts_with("letters: 40 files in 8 mini-batches\n"), "{plan}");
    let first = place.run(&["run", "job.yaml", "--job-dir", "first"]).expect(0);
    guide.shows("/home/me/first/output/words.csv (40 results", &place, &first);
    let rows = fs::read_to_string(place.path("first/output/words.csv")).unwrap();
    assert!(rows.lines().any(|row| row == "00.txt,1,short"), "{rows}");
    assert!(rows.lines().any(|row| row.ends_with(",long")), "{rows}");

    shell(&place, &guide.command("printf"));
    let second = place.run(&["run", "job.yaml", "--job-dir", "second"]).expect(5);
    guide.shows("/home/me/second/output/words.csv (35 results", &place, &second);
    let line = guide.command("fanfold retry --failed second");
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    guide.shows("39 succeeded, 1 failed", &place, &place.run(&words).expect(5));
    let failed = place.run(&["errors", "second"]).expect(0).stdout;
    assert!(failed.contains("letters/13.txt"), "{failed}");

    // The script that bears it: the lines of the guide in place of the one that raised.
    let script = fs::read_to_string(place.path("count.py")).unwrap();
    let start = script.find("        with open").unwrap();
    let end = script.find("        rows.append").unwrap();
    place.write("count.py", format!("{}{}{}", &script[..start], guide.block("python", "try:"), &script[end..]));
    let borne = place.run(&["run", "job.yaml", "--job-dir", "borne", "--set", "error_threshold=10"]).expect(0);
    assert!(borne.stderr.contains("39 succeeded, 1 failed"), "{}", borne.stderr);

    // A slip in the job file is refused as shown.
    let slip = fs::read_to_string(place.path("job.yaml")).unwrap().replace("mini_batch_size", "mini_batch_sise");
    place.write("job.yaml", slip);
    guide.shows("unknown key `mini_batch_sise`", &place, &place.run(&["run", "job.yaml"]).expect(2));
}

#[test]
fn the_table_of_the_guide_becomes_the_parquet_file_that_it_says() {
    if !crate::support::has_pandas() {
        return;
    }
    let guide = Guide::read();
    let place = Place::new();
    let job = guide.block("yaml", "name: totals");
    // Its packages are those of a Python that has them: nothing is downloaded here.
    let python = format!("environment: {{python: {}}}", python_with_pandas().display());
    place.write("job.yaml", job.replace("environment: {requirements: [pandas, pyarrow]}", &python));
    place.write("totals.py", guide.block("python", "mini_batch.assign(total"));
    let rows: String = (0..1000).map(|i| format!("{},{},{}\n", ["north", "south"][i % 2], i % 13, i % 17)).collect();
    place.write("sales.csv", format!("shop,amount,price\n{rows}"));
    let ran = place.run(&["run", "job.yaml", "--job-dir", "totals-1"]).expect(0);
    assert!(ran.stderr.contains("mini-batches  4 planned, 4 run, 0 run again, 4 committed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1,000 succeeded, 0 failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("totals.parquet (1,000 results"), "{}", ran.stderr);
}

fn shell(place: &Place, script: &str) {
    let mut bash = Command::new("bash");
    let done = bash.args(["-ec", script]).current_dir(place.path("")).status().expect("bash");
    assert!(done.success(), "{script}");
}

struct Guide(String);

impl Guide {
    fn read() -> Guide {
        Guide(fs::read_to_string(page("guide.md")).expect("the guide"))
    }

    /// The fenced block of `kind` with `part` in it.
    #[track_caller]
    fn block(&self, kind: &str, part: &str) -> String {
        let fence = format!("\n```{kind}\n");
        let blocks = self.0.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
        let mut found = blocks.filter(|block| block.contains(part));
        found.next().unwrap_or_else(|| panic!("the guide has no block of {kind} with `{part}`")).to_string()
    }

    /// The indented line that begins so.
    #[track_caller]
    fn command(&self, begin: &str) -> String {
        let mut lines = self.0.lines().filter_map(|line| line.strip_prefix("    "));
        lines.find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no command `{begin}`")).to_string()
    }

    /// The block of output with `part` in it is what the program said: each of its lines, in this order; `…` stands for any.
    #[track_caller]
    fn shows(&self, part: &str, place: &Place, ran: &Ran) {
        let block = self.block("text", part);
        let said = told(&ran.stderr, &place.path(""), "letters");
        let mut rest = said.lines();
        for line in told(&block, HOME.as_ref(), "letters").lines().filter(|line| *line != "…") {
            // Which of the two processes it was, and how many were seen at that moment, differs.
            let same = |said: &str| without_process(said) == without_process(line);
            assert!(rest.any(same), "the guide says `{line}`, which does not come (there) in:\n{said}");
        }
    }
}

/// The line without the number of the process that it names.
fn without_process(line: &str) -> &str {
    line.split("process0").next().unwrap_or(line)
}
