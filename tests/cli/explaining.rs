//! `fanfold explain` on a running job: the causes are staged, and what it says of each, figure included, is right.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::program::{GATED, Running, SmallDisk, begun, job_of, open_gate, skip, wait_for_state, wait_until_begun};
use crate::support::{LIMIT, Place, wait_for};

/// More mini-batches than any of these jobs gets through.
const MANY: usize = 5000;

/// A job of so many items with this script, at work in two processes.
fn at_work(items: usize, script: &str, more: &str) -> (Place, Running) {
    at_work_in(2, items, script, more)
}

/// The same in so many processes.
fn at_work_in(processes: u32, items: usize, script: &str, more: &str) -> (Place, Running) {
    let place = Place::new();
    place.write_items(items);
    job_of(&place, script, more);
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job", "--set", &format!("process_count_per_node={processes}")]);
    let running = Running::start(&place, command);
    (place, running)
}

/// The reasons that `explain` gives: code and text, in their order.
fn reasons(place: &Place) -> Option<Vec<(String, String)>> {
    let ran = place.run(&["explain", "job", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).ok()?;
    assert_eq!(told["version"], 1, "{told}");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_string();
    let reasons = told["reasons"].as_array().expect("a list");
    Some(reasons.iter().map(|reason| (text(&reason["code"]), text(&reason["text"]))).collect())
}

/// What `explain` says for `code`, as soon as `right` has nothing against it. The same line is in the text for people.
#[track_caller]
fn explained(place: &Place, code: &str, right: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = reasons(place);
        let found = said.iter().flatten().find(|(of, text)| of == code && right(text));
        if let Some((_, text)) = found {
            return text.clone();
        }
        assert!(Instant::now() < deadline, "explain never said the right thing of `{code}`, last: {said:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The number that stands between `before` and the next space in `text`.
#[track_caller]
fn figure(text: &str, before: &str) -> f64 {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in `{text}`")).1;
    let word = rest.split(' ').next().expect("split gives one");
    word.replace(',', "").parse().unwrap_or_else(|_| panic!("no number after `{before}` in `{text}`"))
}

/// Ends a job that has shown what it was for.
#[track_caller]
fn end(place: &Place, running: Running) {
    let ran = place.run(&["cancel", "job"]).expect(0);
    assert!(ran.stdout.contains(" Canceled"), "{}", ran.stdout);
    running.ends(LIMIT, 3);
}

#[test]
fn a_script_that_computes() {
    let script = "import time\n\ndef run(mini_batch):\n    began = time.process_time()\n    \
                  while time.process_time() - began < 0.2:\n        pass\n    return mini_batch\n";
    let (place, running) = at_work_in(1, MANY, script, "");
    // On a machine that has much else to do it is right to say that.
    let code = wait_for("a word of what it spends its time on", || {
        let is_of_it = |(code, text): &(String, String)| {
            code == "starved" || code == "computing" && figure(text, "computes ") > 60.0
        };
        reasons(&place)?.into_iter().find(is_of_it).map(|(code, _)| code)
    });
    let text = explained(&place, &code, |_| true);
    let takes = figure(&text, "run() takes ");
    assert!(takes >= 195.0 && text.contains(" ms a mini-batch"), "{text}");
    match code.as_str() {
        "computing" => assert!(takes < 340.0, "{text}"),
        _ => assert!(takes > 240.0 && figure(&text, "mini-batch, and ") >= 25.0, "{text}"),
    }
    let told = place.run(&["explain", "job"]).expect(0).stdout;
    assert!(told.contains("\n  it works: ") && told.contains("\n  run() takes "), "{told}");
    end(&place, running);
}

#[test]
fn a_script_that_waits() {
    let script = "import time\n\ndef run(mini_batch):\n    time.sleep(0.3)\n    return mini_batch\n";
    let (place, running) = at_work(MANY, script, "");
    let text = explained(&place, "waiting", |text| figure(text, "it computes ") <= 10.0);
    assert!(
        (295.0..400.0).contains(&figure(&text, "run() takes ")) && text.contains("mostly waits (for files"),
        "{text}"
    );
    let speed = explained(&place, "working", |text| figure(text, "mini-batches, ") > 5.0);
    assert!(figure(&speed, "mini-batches, ") < 7.5 && speed.contains(" with 2 processes on 1 node"), "{speed}");
    end(&place, running);
}

#[test]
fn processes_that_share_one_processor() {
    if fs::read_to_string("/proc/self/schedstat").is_err() {
        return skip("this kernel does not count how long who waits for a processor");
    }
    let script = "import os, time\n\ndef init():\n    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n\n\
                  def run(mini_batch):\n    began = time.process_time()\n    \
                  while time.process_time() - began < 0.05:\n        pass\n    return mini_batch\n";
    let (place, running) = at_work_in(4, MANY, script, "");
    // Three of four wait at any time.
    let text = explained(&place, "starved", |text| text.contains("of the time of 4 processes"));
    let waits = figure(&text, "mini-batch, and ");
    assert!((50.0..=100.0).contains(&waits), "{text}");
    assert!(text.contains("waiting for a processor that others use"), "{text}");
    end(&place, running);
}

#[test]
fn rows_that_take_longer_to_write_than_to_make() {
    let script = "import time\n\nclass Row:\n    def __str__(self):\n        time.sleep(0.2)\n        return 'row'\n\n\
                  def run(mini_batch):\n    time.sleep(0.05)\n    return [Row()]\n";
    let (place, running) = at_work(MANY, script, "");
    let text = explained(&place, "loading", |_| true);
    let share = figure(&text, "rows take ");
    assert!((70.0..85.0).contains(&share), "{text}");
    assert!((195.0..260.0).contains(&figure(&text, "mini-batch: ")), "{text}");
    assert!((48.0..80.0).contains(&figure(&text, "run() ")), "{text}");
    end(&place, running);
}

#[test]
fn one_mini_batch_that_all_others_wait_for() {
    let script = GATED.replace("while not", "while mini_batch[0] == 'item-000' and not");
    let (place, running) = at_work(30, &script, "");
    let text = explained(&place, "straggler", |text| text.contains(" left: "));
    assert!(text.starts_with("1 mini-batch left: mini-batch 0 has taken "), "{text}");
    assert!(text.contains(" s in process00") && text.ends_with("; 1 of 2 processes has nothing to do"), "{text}");
    assert!(figure(&text, "has taken ") >= 1.0 && figure(&text, "where one takes ") < 1000.0, "{text}");
    open_gate(&place);
    running.ends(LIMIT, 0);
}

#[test]
fn an_init_that_takes_long() {
    let script = "import os, time\n\ndef init():\n    while not os.path.exists(os.path.join(os.environ['PLACE'], 'go')):\n        \
                  time.sleep(0.01)\n\ndef run(mini_batch):\n    return mini_batch\n";
    let began = Instant::now();
    let (place, running) = at_work(3, script, "");
    let text = explained(&place, "init", |text| figure(text, "longest for ") >= 2.0);
    assert!(text.starts_with("2 of 2 processes are still in init(), the longest for "), "{text}");
    let true_s = began.elapsed().as_secs_f64();
    assert!(figure(&text, "longest for ") <= true_s + 0.1, "{true_s}: {text}");
    open_gate(&place);
    running.ends(LIMIT, 0);
}

#[test]
fn processes_that_die_again_and_again() {
    let script = "import os, signal\n\ndef run(mini_batch):\n    if int(mini_batch[0][5:]) % 5 == 0:\n        \
                  os.kill(os.getpid(), signal.SIGKILL)\n    return mini_batch\n";
    let (place, running) = at_work(MANY, script, "run_max_try: 1\n");
    let text = explained(&place, "dying", |text| figure(&format!(" {text}"), " ") >= 5.0);
    assert!(text.contains(" processes died in the last ") && text.contains("; a new one is ready after "), "{text}");
    assert!(text.contains("; the first error: ") && text.contains("SIGKILL"), "{text}");
    end(&place, running);
}

#[test]
fn attempts_that_fail_and_cost_time() {
    let script = "import time\n\ndef run(mini_batch):\n    time.sleep(0.1)\n    if int(mini_batch[0][5:]) % 2:\n        \
                  raise ValueError('bad pixel')\n    return mini_batch\n";
    let (place, running) = at_work(MANY, script, "run_max_try: 3\n");
    // Three tries for each second item.
    let text = explained(&place, "failing", |text| figure(text, " of ") >= 30.0);
    let (failed, all) = (figure(&format!(" {text}"), " "), figure(&text, " of "));
    assert!((0.6..0.9).contains(&(failed / all)), "{text}");
    assert!((60.0..90.0).contains(&figure(&text, "which took ")), "{text}");
    assert!(text.ends_with("of the time; the first error: ValueError: bad pixel"), "{text}");
    end(&place, running);
}

#[test]
fn a_job_that_was_told_to_stand_still_and_then_does() {
    let (place, running) = at_work(8, GATED, "");
    wait_until_begun(&place, 2);
    let ask = place.fanfold().args(["pause", "job"]).spawn().expect("the program starts");
    let text = explained(&place, "stopping", |text| figure(text, "the longest for ") >= 1.0);
    assert!(text.starts_with("it was told to stand still "), "{text}");
    assert!(text.contains(" s ago: 2 of 2 processes are at a mini-batch, the longest for "), "{text}");
    assert!(text.ends_with("; 0 of 8 mini-batches are settled"), "{text}");
    open_gate(&place);
    running.ends(LIMIT, 0);
    crate::support::finish(ask, LIMIT).expect(0);
    let settled = begun(&place).len();
    let paused = explained(&place, "paused", |_| true);
    assert_eq!(paused, format!("it is Paused: paused on request; {settled} of 8 mini-batches are settled"));
}

#[test]
fn a_disk_that_is_full() {
    let place = Place::new();
    place.write_items(40);
    let script = GATED.replace("    return mini_batch\n", "    return [item + 'x' * 5000 for item in mini_batch]\n");
    job_of(&place, &script, &format!("output: {}/disk/out\n", place.path("").display()));
    let Some((mut command, disk)) = SmallDisk::command(&place, "disk", "4m") else { return };
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    let running = Running::start(&place, command);
    wait_until_begun(&place, 2);
    disk.fill(&running);
    open_gate(&place);
    let text = explained(&place, "blocked", |_| true);
    assert!(text.contains("disk full: cannot write `") && text.contains("disk/out"), "{text}");
    disk.make_room(&running);
    running.ends(LIMIT, 0);
}

#[test]
fn an_environment_that_is_being_built() {
    let place = Place::new();
    place.write_items(3);
    // An index that never answers: pip waits for it.
    let index = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = index.local_addr().unwrap().port();
    job_of(&place, GATED, "environment: {requirements: [no-such-thing]}\n");
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    command.env("PIP_INDEX_URL", format!("http://127.0.0.1:{port}/simple")).env("PIP_CONFIG_FILE", "/dev/null");
    let (began, running) = (Instant::now(), Running::start(&place, command));
    let _pip = index.accept().unwrap();
    let text = explained(&place, "preparing", |text| figure(text, "; it began ") >= 1.0);
    assert!(text.starts_with("its environment is being built: "), "{text}");
    let true_s = began.elapsed().as_secs_f64();
    assert!(figure(&text, "; it began ") <= true_s + 0.1, "{true_s}: {text}");
    running.signal(Signal::SIGTERM);
    running.ends(LIMIT, 143);
}

#[test]
fn a_job_whose_program_is_gone() {
    let (place, running) = at_work(8, GATED, "");
    wait_for_state(&place, "Running");
    wait_until_begun(&place, 2);
    running.signal(Signal::SIGKILL);
    running.dies(LIMIT);
    let text = explained(&place, "gone", |_| true);
    assert!(text.starts_with("nobody works on it: its coordinator has been gone for about "), "{text}");
    assert!(text.contains("s, 0 of 8 mini-batches are settled; `fanfold resume attack-"), "{text}");
    let said = reasons(&place).expect("it is told");
    assert!(said.len() == 1, "what its processes did last is true no more: {said:?}");
}
