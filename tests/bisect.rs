//! `on_failure: bisect`: a bad item costs one item, whatever is wrong with it.

#[path = "support/running.rs"]
mod running;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Place, assert_each_once};

/// Each bad item has its own way; the others return themselves. `calls` counts the calls of `run()`.
const SCRIPT: &str = r#"
import os, signal, time

def run(mini_batch, context):
    with open("../calls", "a") as calls:
        print(context.minibatch_index, len(mini_batch), file=calls)
    if os.path.exists("../calls.mended"):
        return list(mini_batch)
    for item in mini_batch:
        number = int(item.rpartition("-")[2])
        if number in RAISES:
            raise ValueError("bad item")
        if number in DIES:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number in HANGS:
            time.sleep(600)
        if number in OUT_OF_MEMORY:
            raise MemoryError
        if number in LEAVES:
            os._exit(0)
        if number in RETURNS_NOTHING:
            return None
    return list(mini_batch)
"#;

fn script(kinds: &[(&str, &[u64])]) -> String {
    let sets = ["RAISES", "DIES", "HANGS", "OUT_OF_MEMORY", "LEAVES", "RETURNS_NOTHING"].map(|kind| {
        let of_it: Vec<u64> = kinds.iter().filter(|(name, _)| *name == kind).flat_map(|(_, of)| of.to_vec()).collect();
        format!("{kind} = {of_it:?}\n")
    });
    sets.concat() + &SCRIPT.replace("../calls", "{calls}")
}

fn job(place: &Place, kinds: &[(&str, &[u64])], more: &str) {
    let calls = place.path("calls");
    place.write("score.py", script(kinds).replace("{calls}", calls.to_str().unwrap()));
    let yaml = format!(
        "name: bisect\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nprocess_count_per_node: 2\non_failure: bisect\n{more}"
    );
    place.write("job.yaml", yaml);
}

/// `minibatch_index` and the number of items of each call.
fn calls(place: &Place) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(place.path("calls")).unwrap();
    let call = |line: &str| line.split_once(' ').map(|(index, items)| (index.to_string(), items.parse().unwrap()));
    text.lines().filter_map(call).collect()
}

/// Attempts that were tried again, as `fanfold errors` counts them.
fn beside(grouped: &str) -> u64 {
    let rest = grouped.split_once("\nbeside that ").expect("a line of them").1;
    rest.split(' ').next().unwrap().replace(',', "").parse().expect("a number")
}

#[test]
fn ten_bad_items_of_ten_thousand_cost_ten_items_each_with_its_cause() {
    let place = Place::new();
    let items = place.write_items(10_000);
    let bad: [(&str, &str, &[u64]); 6] = [
        ("RAISES", "exception", &[0, 4_321, 4_322]),
        ("DIES", "signal", &[1_234, 9_999]),
        ("HANGS", "timeout", &[7_777]),
        ("OUT_OF_MEMORY", "oom", &[2_500, 2_599]),
        ("LEAVES", "exit", &[5_005]),
        ("RETURNS_NOTHING", "bad_return", &[6_050]),
    ];
    let kinds = bad.map(|(set, _, items)| (set, items));
    job(&place, &kinds, "mini_batch_size: 100\nrun_max_try: 2\nrun_invocation_timeout: 1\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let all_bad: BTreeSet<u64> = bad.iter().flat_map(|(_, _, items)| items.to_vec()).collect();
    let good = |number: &u64| !all_bad.contains(number);
    let expected: Vec<String> = (0..10_000).filter(good).map(|number| items[number as usize].clone()).collect();
    assert_each_once(&place.rows(), &expected);
    let errors = place.errors();
    let mut told: Vec<(String, String)> = errors
        .iter()
        .map(|error| {
            assert_eq!(error["item_count"], 1, "{error}");
            (error["item"].as_str().unwrap().to_string(), error["kind"].as_str().unwrap().to_string())
        })
        .collect();
    told.sort();
    let mut wanted: Vec<(String, String)> = bad
        .iter()
        .flat_map(|(_, kind, of)| of.iter().map(|number| (items[*number as usize].clone(), kind.to_string())))
        .collect();
    wanted.sort();
    assert_eq!(told, wanted);
    let counts = place.status()["counts"].clone();
    // A mini-batch of 100 is halved seven times at most: docs/design/bisect.md says how many runs that are. What a process had run and not
    // said before the next item killed it is run again, at nobody's expense.
    let (mini_batches, k, tries, depth) = (100, all_bad.len() as u64, 2, 7);
    let attempts = counts["attempts"].as_u64().unwrap();
    assert!(attempts <= mini_batches + k * tries + 2 * k * depth + k * tries, "{attempts}");
    assert_eq!((counts["items_succeeded"].as_u64(), counts["items_failed"].as_u64()), (Some(9_990), Some(10)));
    assert_eq!(
        (counts["mini_batches_failed"].as_u64(), counts["mini_batches_succeeded"].as_u64()),
        (Some(0), Some(100))
    );
    place.run(&["doctor", "--verify", "job"]).expect(0);
    assert!(ran.stderr.contains("retry --failed"), "{}", ran.stderr);
    // Of many attempts that failed it is said what was lost with them.
    let lost = |text: &str| -> Vec<String> {
        let of = |line: &str| {
            line.split_once("items lost in ").or(line.split_once("item lost in ")).map(|_| line.to_string())
        };
        text.lines().filter_map(of).collect()
    };
    let told = lost(&ran.stderr);
    assert!(!told.is_empty() && told.iter().all(|line| line.ends_with(" failed attempts)")), "{}", ran.stderr);
    assert!(told.iter().any(|line| line.contains("(3 items lost in ")), "{told:?}");
    let grouped = place.run(&["errors", "job"]).expect(0).stdout;
    assert!(grouped.starts_with("10 failures, 10 items lost, "), "{grouped}");
    assert!(
        grouped.contains("\nbeside that ") && grouped.contains(" failed attempts that cost no item: tried again\n"),
        "{grouped}"
    );
    assert_eq!(counts["attempts_failed"].as_u64().unwrap() - 10, beside(&grouped));

    // Mended, the ten come in, and nothing else is run again.
    let before = calls(&place).len();
    place.write("calls.mended", "");
    place.run(&["retry", "--failed", "job"]).expect(0);
    assert_each_once(&place.rows(), &items);
    let again: u64 = calls(&place)[before..].iter().map(|(_, items)| items).sum();
    assert_eq!(again, 10);
    place.run(&["doctor", "--verify", "job"]).expect(0);
    place.nothing_left().unwrap();
}

#[test]
fn parts_have_names_of_their_own_and_thresholds_count_items() {
    let place = Place::new();
    place.write_items(20);
    job(&place, &[("RAISES", &[13])], "mini_batch_size: 10\nrun_max_try: 1\nerror_threshold: 1\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let indices: BTreeSet<String> = calls(&place).into_iter().map(|(index, _)| index).collect();
    let wanted = ["0", "1", "1.0-1", "1.0-4", "1.2-2", "1.2-4", "1.3-3", "1.3-4", "1.4-4", "1.5-9"];
    assert_eq!(indices, wanted.map(String::from).into());
    assert_eq!(place.rows().len(), 19);

    // Two failed items are more than one.
    let place = Place::new();
    place.write_items(20);
    job(&place, &[("RAISES", &[3, 13])], "mini_batch_size: 10\nrun_max_try: 1\nerror_threshold: 1\n");
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ran.stderr.contains("error_threshold"), "{}", ran.stderr);
}

#[test]
fn a_job_that_dropped_is_bisected_by_its_retry() {
    let place = Place::new();
    let items = place.write_items(40);
    job(&place, &[("DIES", &[17])], "mini_batch_size: 10\nrun_max_try: 2\n");
    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "on_failure=drop"]).expect(5);
    assert_eq!(place.rows().len(), 30);
    place.run(&["retry", "--failed", "job", "--set", "on_failure=bisect"]).expect(5);
    let expected: Vec<String> = items.into_iter().filter(|item| item != "item-017").collect();
    assert_each_once(&place.rows(), &expected);
    assert_eq!(place.errors().last().unwrap()["item"], "item-017");
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn files_are_bisected_and_a_missing_one_is_no_reason_to() {
    let place = Place::new();
    for number in 0..12 {
        place.write(format!("data/f-{number:02}"), "x");
    }
    let script = r#"
import os
def init():
    if os.path.exists("GONE"):
        os.remove("GONE")
def run(mini_batch):
    if any(path.endswith("f-05") for path in mini_batch):
        raise ValueError("bad file")
    return [os.path.basename(path) for path in mini_batch]
"#;
    place.write("score.py", script.replace("GONE", place.path("data/f-09").to_str().unwrap()));
    place.write(
        "job.yaml",
        "name: files\nentry_script: score.py\ninputs: [data]\nmini_batch_size: 12\nprocess_count_per_node: 1\nrun_max_try: 1\non_failure: bisect\n",
    );
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let expected: Vec<String> =
        (0..12).filter(|number| ![5, 9].contains(number)).map(|number| format!("f-{number:02}")).collect();
    assert_each_once(&place.rows(), &expected);
    let mut kinds: Vec<String> = place.errors().iter().map(|error| error["kind"].to_string()).collect();
    kinds.sort();
    assert_eq!(kinds, ["\"exception\"", "\"input\""]);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn parts_survive_kills_at_any_moment() {
    let place = Place::new();
    let items = place.write_items(600);
    let bad: [(&str, &[u64]); 3] = [("RAISES", &[5, 311]), ("DIES", &[77, 599]), ("RETURNS_NOTHING", &[450])];
    job(&place, &bad, "mini_batch_size: 60\nrun_max_try: 3\nrun_invocation_timeout: 60\n");
    let mut random = 1u64;
    for kills in 1..=12 {
        let mut child = place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
        let begun = std::fs::read_to_string(place.path("calls")).map_or(0, |text| text.lines().count());
        // Far enough apart that nothing healthy runs alone at three of them.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(kills);
        let more = 8 + (random >> 40) as usize % 12;
        let over = support::wait_for("it to go on", || {
            let begun_now = std::fs::read_to_string(place.path("calls")).map_or(0, |text| text.lines().count());
            if child.try_wait().unwrap().is_some() { Some(true) } else { (begun_now >= begun + more).then_some(false) }
        });
        if over {
            break;
        }
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
    support::finish(place.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap(), support::LIMIT);
    let all_bad: BTreeSet<u64> = bad.iter().flat_map(|(_, items)| items.to_vec()).collect();
    let expected: Vec<String> =
        (0..600).filter(|number| !all_bad.contains(number)).map(|number| items[number as usize].clone()).collect();
    assert_each_once(&place.rows(), &expected);
    let named: BTreeSet<String> =
        place.errors().iter().map(|error| error["item"].as_str().unwrap().to_string()).collect();
    assert_eq!(named, all_bad.iter().map(|number| items[*number as usize].clone()).collect());
    place.run(&["doctor", "--verify", "job"]).expect(0);
    place.nothing_left().unwrap();
}
