//! Kills the program and its processes, at random and at every named point, and lets it go on: nothing may be lost, doubled or torn.
//!
//! `life.rs` says what is looked at after every death. Only the program itself is killed, as `kill -9` would; its children must
//! vanish by themselves. `FANFOLD_CRASH_SEED=<seed>` runs one job again, `FANFOLD_CRASH_KILLS=<number>` runs more than the 200 random
//! kills of a usual run, to which tables and the named points add some more each.

mod support;

#[path = "crash/job.rs"]
mod job;
#[path = "crash/life.rs"]
mod life;
#[path = "crash/points.rs"]
mod points;
#[path = "crash/seed.rs"]
mod seed;
#[path = "crash/tables.rs"]
mod tables;

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use job::{Behaviour, Job, MiniBatch, Shape};
use life::{End, Life, Running};
use points::{Does, Point, in_the_sources};
use seed::Random;
use support::has_pandas;
use tables::Kind;

/// A healthy mini-batch that happens to run alone, as a suspect, at `run_max_try` deaths is dropped, and rightly so. Hundreds of deaths
/// within seconds of each other would get there by chance.
const MANY_TRIES: &str = "run_max_try: 1000\n";

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

#[test]
fn files_survive_kills_at_random_moments() {
    kills_at_random(Shape::Files, 1, 40);
}

#[test]
fn lines_survive_kills_at_random_moments() {
    kills_at_random(Shape::Lines, 2, 40);
}

#[test]
fn large_rows_survive_kills_at_random_moments() {
    kills_at_random(Shape::LargeRows, 3, 20);
}

#[test]
fn tables_of_both_kinds_survive_kills_at_random_moments() {
    if has_pandas() {
        kills_at_random(Shape::Table(Kind::Csv, Kind::Parquet), 8, 8);
        kills_at_random(Shape::Table(Kind::Parquet, Kind::Csv), 9, 5);
    }
}

/// Runs jobs of that shape until the program was killed so often: `percent` of all random kills.
fn kills_at_random(shape: Shape, number: u64, percent: u64) {
    if let Some(seed) = seed::asked() {
        live(shape, seed);
        return;
    }
    let wanted = (seed::kills() * percent).div_ceil(100);
    let (mut kills, mut jobs) = (0, 0);
    while kills < wanted {
        jobs += 1;
        kills += live(shape, number * 1_000_000 + jobs);
    }
    println!("{shape:?}: {kills} kills in {jobs} jobs, no violation");
}

/// When the program is killed.
#[derive(Debug)]
enum Moment {
    /// So long after its start.
    After(Duration),
    /// So many mini-batches and so much time later.
    Runs(usize, Duration),
    /// At a named point, its n-th time.
    Point(String),
    /// So long after its start, with an operation that fails meanwhile.
    Failing(String, Duration),
}

impl Moment {
    fn draw(random: &mut Random, kill: &[Point], fail: &[Point]) -> Moment {
        let early = Duration::from_secs_f64(random.magnitude(0.001, 0.4));
        match random.between(1, 100) {
            1..=35 => Moment::After(early),
            36..=70 => {
                Moment::Runs(random.magnitude(1.0, 60.0) as usize, Duration::from_micros(random.between(0, 10_000)))
            }
            71..=92 => {
                // Most points are passed once, or never in such a job; it then completes.
                let often: Vec<&Point> = kill.iter().filter(|point| point.name.starts_with("commit_")).collect();
                let any: Vec<&Point> = kill.iter().collect();
                let among = if random.percent(80) { &often } else { &any };
                Moment::Point(format!("{}:{}", random.pick(among).name, random.magnitude(1.0, 40.0) as u64))
            }
            _ => {
                let (name, errno) = (&random.pick(fail).name, *random.pick(&[ENOSPC, EIO]));
                let (at, times) = (random.between(1, 20), random.between(1, 2));
                Moment::Failing(format!("{name}:{at}:{errno}:{times}"), early + Duration::from_millis(100))
            }
        }
    }

    fn strike(&self, life: &mut Life) -> End {
        match self {
            Moment::After(time) => {
                let running = life.start(None);
                std::thread::sleep(*time);
                life.kill(running)
            }
            Moment::Runs(runs, time) => {
                let before = life.runs();
                let mut running = life.start(None);
                life.wait_for(&mut running, "mini-batches", |life| (life.runs() >= before + runs).then_some(()));
                std::thread::sleep(*time);
                life.kill(running)
            }
            Moment::Point(point) => life.run(Some(point)),
            Moment::Failing(point, time) => {
                let running = life.start(Some(point));
                std::thread::sleep(*time);
                life.kill(running)
            }
        }
    }
}

/// One job, killed some times; how often.
fn live(shape: Shape, seed: u64) -> u64 {
    let (kill, fail) = (in_the_sources(Does::Kill), in_the_sources(Does::Fail));
    let mut random = Random::new(seed);
    let mut life = Life::new(Job::new(shape, &mut random, MANY_TRIES), seed);
    let wanted = random.between(5, 30);
    while life.kills < wanted {
        let moment = Moment::draw(&mut random, &kill, &fail);
        match moment.strike(&mut life) {
            End::Killed => (),
            End::Completed => break,
            End::GaveUp(code) => {
                assert!(code == 1 && matches!(moment, Moment::Failing(..)), "{moment:?}: exit code {code}");
            }
        }
        // Sometimes the next start comes at once, while the last one's children may still be there.
        if random.percent(80) {
            life.check();
        }
    }
    life.finish();
    life.kills
}

#[test]
fn every_named_point_may_kill_the_program() {
    let points = in_the_sources(Does::Kill);
    assert!(points.len() > 20, "the sources are where this test looks for them: {points:?}");
    let mut kills = 0;
    for (number, point) in points.iter().enumerate() {
        if is_of_tables(point) && !has_pandas() {
            continue;
        }
        let seed = seed::asked().unwrap_or(4_000_000 + number as u64);
        let mut random = Random::new(seed);
        let builds = point.name.starts_with("environment_");
        let shape = match point.name.as_str() {
            "items_run_spilled" => Shape::LongNames,
            "items_slices_synced" => Shape::Parts,
            "items_groups_synced" => Shape::Grouped(Kind::Csv, Kind::Parquet),
            _ if is_of_tables(point) => Shape::Table(Kind::Csv, Kind::Parquet),
            _ if builds => Shape::Few,
            _ => *random.pick(&[Shape::Files, Shape::Lines, Shape::Parts]),
        };
        let more = match builds {
            true => &format!("{MANY_TRIES}environment:\n  requirements: []\n"),
            false if point.name.starts_with(OF_ORDER) => &format!("{MANY_TRIES}ordered: true\n"),
            false => MANY_TRIES,
        };
        let mut life = Life::new(Job::new(shape, &mut random, more), seed);
        let end = life.run(Some(&format!("{}:1", point.name)));
        assert_eq!(
            end,
            End::Killed,
            "`{}` in {} is never reached: give this test a job that does",
            point.name,
            point.file.display()
        );
        life.check();
        // Again and again at the same point, wherever the job stands by then.
        // (An environment takes seconds to build.)
        for _ in 0..if builds { 0 } else { 3 } {
            if life.run(Some(&format!("{}:{}", point.name, random.between(1, 8)))) == End::Completed {
                break;
            }
            life.check();
        }
        life.finish();
        kills += life.kills;
    }
    println!("{kills} kills at {} points, no violation", points.len());
}

/// Points of the pass that puts rows in order have this in front.
const OF_ORDER: &str = "order_";

/// Points of the pass that makes a Parquet file.
fn is_of_tables(point: &Point) -> bool {
    ["table_", "items_stretch_", "items_groups_"].iter().any(|of_tables| point.name.starts_with(of_tables))
}

#[test]
fn every_named_point_may_kill_a_job_over_tables() {
    if !has_pandas() {
        return;
    }
    const KINDS: [Kind; 2] = [Kind::Csv, Kind::Parquet];
    let elsewhere = |point: &Point| point.name.starts_with("environment_") || point.name == "items_run_spilled";
    let (mut kills, mut number) = (0, 0);
    for point in in_the_sources(Does::Kill).iter().filter(|point| !elsewhere(point)) {
        number += 1;
        let seed = seed::asked().unwrap_or(10_000_000 + number);
        // Each kind of input with each kind of output, in turn.
        let (input, turn) = (KINDS[(number / 2 % 2) as usize], KINDS[(number % 2) as usize]);
        let (output, more) = match point.name.as_str() {
            // Of the pass that copies text; the other ones are of both.
            "order_half_written" => (Kind::Csv, &format!("{MANY_TRIES}ordered: true\n")[..]),
            name if name.starts_with(OF_ORDER) => (Kind::Parquet, &format!("{MANY_TRIES}ordered: true\n")[..]),
            _ if is_of_tables(point) => (Kind::Parquet, MANY_TRIES),
            _ => (turn, MANY_TRIES),
        };
        let shape = match point.name.starts_with("items_groups_") {
            true => Shape::Grouped(Kind::Csv, output),
            false => Shape::Table(input, output),
        };
        let job = Job::new(shape, &mut Random::new(seed), more);
        let mut life = Life::new(job, seed);
        let end = life.run(Some(&format!("{}:1", point.name)));
        assert_eq!(end, End::Killed, "`{}` in {} is never reached", point.name, point.file.display());
        life.check();
        life.finish();
        kills += life.kills;
    }
    println!("{kills} kills of jobs over tables, no violation");
}

#[test]
fn every_named_operation_may_fail_and_the_program_be_killed_meanwhile() {
    let points = in_the_sources(Does::Fail);
    assert!(points.len() >= 3, "the sources are where this test looks for them: {points:?}");
    for (number, point) in points.iter().enumerate() {
        for errno in [ENOSPC, EIO] {
            let seed = seed::asked().unwrap_or(5_000_000 + 10 * number as u64 + errno as u64);
            let mut random = Random::new(seed);
            let (shape, most) = match is_of_tables(point) {
                true if !has_pandas() => continue,
                // The list is opened with the first one, and waits for room from then on.
                true if point.name.starts_with("items_stretch_") => (Shape::Table(Kind::Csv, Kind::Csv), 3),
                // Reached once or twice.
                true => (Shape::Table(Kind::Csv, Kind::Parquet), 1),
                // A slow disk makes few commits of many mini-batches.
                false => (Shape::Lines, 3),
            };
            let mut life = Life::new(Job::new(shape, &mut random, MANY_TRIES), seed);
            for _ in 0..2 {
                let failpoint = format!("{}:{}:{errno}", point.name, random.between(1, most));
                fails_until_killed(&mut life, point, &failpoint);
                life.check();
            }
            // The same, but it passes: the program goes on by itself, or says that it must be started again.
            let end = life.run(Some(&format!("{}:{}:{errno}:1", point.name, random.between(1, most))));
            assert!(matches!(end, End::Completed | End::GaveUp(1)), "{point:?} {errno}: {end:?}");
            life.check();
            life.finish();
        }
    }
}

/// Starts the program with an operation that fails for ever: it waits, saying so, until it is killed, or it gives up.
#[track_caller]
fn fails_until_killed(life: &mut Life, point: &Point, failpoint: &str) {
    let mut running = life.start(Some(failpoint));
    let pid = running.pid();
    let blocked = life.wait_for(&mut running, "the status to be blocked", |life| {
        let status = std::fs::read(life.job.place.job().join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("status.json is replaced whole");
        (status["pid"] == pid && !status["blocked"].is_null()).then_some(())
    });
    let end = if blocked.is_some() { life.kill(running) } else { life.wait(running) };
    assert!(
        matches!(end, End::Killed | End::GaveUp(1)),
        "`{}` in {} never fails: {failpoint}: {end:?}",
        point.name,
        point.file.display()
    );
}

#[test]
fn processes_may_be_killed_while_the_program_lives() {
    let (mut deaths, mut jobs) = (0, 0);
    while deaths < 40 {
        let seed = seed::asked().unwrap_or(6_000_000 + jobs);
        jobs += 1;
        let mut random = Random::new(seed);
        // A mini-batch is charged with a death that it had no part in. Chance may hit one thrice.
        let mut life = Life::new(Job::new(Shape::Lines, &mut random, MANY_TRIES), seed);
        life.job.write_behaviour(0.004);
        let mut running = life.start(None);
        let (mut kills, mut spared) = (0, 0);
        while kills < 30 {
            // Between two deaths something must succeed, or the node rightly gives up.
            let wanted = life.runs() + random.between(4, 20) as usize;
            if life.wait_for(&mut running, "mini-batches", |life| (life.runs() >= wanted).then_some(())).is_none() {
                break;
            }
            std::thread::sleep(Duration::from_micros(random.between(0, 5000)));
            let processes = life.processes_of_the_job();
            if processes.is_empty() {
                continue;
            }
            let (pid, ready) = *random.pick(&processes);
            // Likewise: processes that die in `init()` again and again, and no other one that gets through it.
            spared = if ready { 0 } else { spared + 1 };
            if spared <= 2 && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                kills += 1;
            }
        }
        assert_eq!(life.wait(running), End::Completed);
        life.check();
        let attempts_failed = life.job.place.status()["counts"]["attempts_failed"].as_u64().unwrap();
        let raises = |mini_batch: &MiniBatch| match mini_batch.behaviour {
            Behaviour::Raises(times) => times,
            _ => 0,
        };
        let raised: u64 = life.job.mini_batches.iter().map(raises).sum();
        assert!(attempts_failed <= raised + kills, "{attempts_failed} attempts are charged with {kills} deaths");
        life.finish();
        deaths += kills;
    }
    println!("{deaths} processes killed in {jobs} jobs, no violation");
}

/// A job whose output has its final name must not be Running again: a death then, and nobody knew whose file that is.
#[test]
fn a_start_that_finds_everything_settled_only_finishes() {
    let seed = seed::asked().unwrap_or(7_200_000);
    let mut life = Life::new(Job::new(Shape::Few, &mut Random::new(seed), ""), seed);
    assert_eq!(life.run(Some("finish_after_rename:1")), End::Killed);
    life.check();
    let before = life.side_log();
    assert_eq!(life.run(Some("before_publish:1")), End::Completed);
    assert_eq!(life.side_log(), before, "a process was started for nothing");
    life.finish();
}

/// Between its record and its job file; the next start dies as well, and what it left is a job to every verb.
#[test]
fn a_job_that_died_before_its_job_file_was_there_gets_one_from_the_next_start() {
    let seed = seed::asked().unwrap_or(7_400_000);
    let mut life = Life::new(Job::new(Shape::Few, &mut Random::new(seed), ""), seed);
    assert_eq!(life.run(Some("submit_after_record:1")), End::Killed);
    let job_yaml = life.job.place.job().join("job.yaml");
    assert!(!job_yaml.exists());
    life.check();
    assert_eq!(life.run(Some("snapshot_copied:1")), End::Killed);
    assert!(job_yaml.exists());
    life.check();
    life.finish();
}

#[test]
fn a_mini_batch_that_kills_its_host_is_charged_alone_and_the_others_are_not() {
    let seed = seed::asked().unwrap_or(7_000_000);
    let mut random = Random::new(seed);
    let mut life = hanging(&mut random, seed, "run_max_try: 3\n");
    life.job.exit = 5;
    // The first death makes suspects of all that ran; then three that it caused alone.
    for death in 0..4 {
        dies_when_it_hangs(&mut life);
        assert_eq!(life.kills, death + 1);
        life.check();
    }
    life.finish();
    let lost = &life.job.place.errors()[0];
    assert_eq!((&lost["kind"], &lost["attempt"]), (&"node_lost".into(), &3.into()));
}

/// The blame is taken in one step and the pages are forgotten in the next: who dies between them, again and again, must not charge
/// anybody twice, and not at all who did not run alone.
#[test]
fn a_death_is_charged_once_however_often_the_next_start_dies() {
    let seed = seed::asked().unwrap_or(7_100_000);
    let mut random = Random::new(seed);
    let mut life = hanging(&mut random, seed, "run_max_try: 2\n");
    for _ in 0..2 {
        dies_when_it_hangs(&mut life);
        for _ in 0..4 {
            assert_eq!(life.run(Some("blame_before_forget:1")), End::Killed);
            let poison = life.poison.take();
            life.check();
            life.poison = poison;
        }
    }
    life.job.exit = 5;
    dies_when_it_hangs(&mut life);
    life.finish();
}

/// A job of twelve mini-batches, one of which hangs, where the test kills the program.
fn hanging(random: &mut Random, seed: u64, more: &str) -> Life {
    let mut job = Job::new(Shape::Few, random, more);
    let poison = random.between(0, 11) as usize;
    job.mini_batches[poison].behaviour = Behaviour::Hangs;
    job.write_behaviour(0.001);
    let mut life = Life::new(job, seed);
    life.poison = Some(poison);
    life
}

/// Starts the program and kills it when the mini-batch that hangs is running.
#[track_caller]
fn dies_when_it_hangs(life: &mut Life) {
    let hanging = |life: &Life| life.side_log().lines().filter(|line| line.starts_with("hangs ")).count();
    let before = hanging(life);
    let mut running: Running = life.start(None);
    life.wait_for(&mut running, "the mini-batch that hangs", |life| (hanging(life) > before).then_some(()));
    assert_eq!(life.kill(running), End::Killed);
}
