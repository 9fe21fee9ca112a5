//! The cache keeps to its size, serves the next job, and outlives whoever dies over it.

use fanfold_test_servers::{Fault, Faults, Rule, has_cloud_servers};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::World;
use crate::support::{assert_each_once, wait_for};

/// Files of 100,000 bytes each.
fn fill(world: &World, count: usize) -> Vec<String> {
    (0..count)
        .map(|file| {
            world.bucket.put(&format!("in/{file}"), vec![b'a' + (file % 26) as u8; 100_000]);
            format!("{file} {} 100000", (b'a' + (file % 26) as u8) as char)
        })
        .collect()
}

const SIZES: &str = "import os\n\ndef run(mini_batch):\n    texts = [(path, open(path).read()) for path in mini_batch]\n    assert all(set(text) == {text[0]} for _, text in texts)\n    return [f'{os.path.basename(path)} {text[0]} {len(text)}' for path, text in texts]\n";

#[test]
fn it_keeps_to_its_size_and_a_mini_batch_that_is_too_large_for_it_says_so() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = fill(&world, 40);
    world.job("[datastore://store/in]", "mini_batch_size: 2\n");
    world.place.write("score.py", SIZES);
    let run = |size: &str, job: &str| {
        let mut command = world.fanfold();
        command.args(["run", "job.yaml", "--no-reuse", "--job-dir", job]).env("FANFOLD_CACHE_SIZE", size);
        crate::finish(command.spawn().unwrap(), crate::LIMIT)
    };
    run("1MB", "job").expect(0);
    assert_each_once(&world.place.rows(), &expected);
    let held: u64 = world.cached().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(held <= 1 << 20, "{held}");
    let ran = run("150kB", "small").expect(1);
    // The same by options, which go before it; a relative one is of this directory.
    let with = |options: &[&str], job: &str| {
        let mut command = world.fanfold();
        command.args(["run", "job.yaml", "--no-reuse", "--job-dir", job]).args(options).env("FANFOLD_CACHE_SIZE", "1B");
        crate::finish(command.spawn().unwrap(), crate::LIMIT)
    };
    with(&["--cache", "kept", "--cache-size", "300kB"], "other").expect(0);
    let held: u64 = world.cached_in("kept").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((100_000..=300 << 10).contains(&held), "{held}");
    let bad = with(&["--cache-size", "much"], "never").expect(2);
    assert!(bad.stderr.contains("--cache-size") && bad.stderr.contains("200GB"), "{}", bad.stderr);
    let fleet = with(&["--cache", "kept", "--shared", "."], "never").expect(2);
    assert!(
        fleet.stderr.contains("about this machine") && fleet.stderr.contains("`fanfold-worker`"),
        "{}",
        fleet.stderr
    );
    // `resume` takes them as well.
    let mut command = world.fanfold();
    command.args(["run", "job.yaml", "--job-dir", "later"]).env("FANFOLD_FAILPOINT", "blame_before_forget");
    crate::finish(command.spawn().unwrap(), crate::LIMIT);
    let mut command = world.fanfold();
    command.args(["resume", "./later", "--cache-size", "1MB"]).env("FANFOLD_CACHE_SIZE", "1B");
    crate::finish(command.spawn().unwrap(), crate::LIMIT).expect(0);
    assert_each_once(&crate::support::lines(&world.place.path("later/output/parallel_run_step.txt")), &expected);
    let why = "take 200000 bytes, and the cache of this machine may have 153600";
    assert!(ran.stderr.contains(why) && ran.stderr.contains("--cache-size"), "{}", ran.stderr);
}

#[test]
fn the_next_job_downloads_nothing_and_a_torn_entry_is_not_used() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = fill(&world, 6);
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    world.job("[datastore://store/in]", "mini_batch_size: 2\n");
    world.place.write("score.py", SIZES);
    let downloads = || faults.seen().iter().filter(|seen| seen.target.contains("/bucket/in/")).count();
    world.run_job().expect(0);
    assert_eq!(downloads(), 6);
    let torn = world.cached().into_iter().find(|path| path.to_string_lossy().contains("objects")).unwrap();
    std::fs::set_permissions(&torn, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::File::options().write(true).open(&torn).unwrap().set_len(50_000).unwrap();
    std::fs::remove_dir_all(world.place.job()).unwrap();
    world.run_job().expect(0);
    assert_each_once(&world.place.rows(), &expected);
    assert_eq!(downloads(), 7, "the one that was torn");
}

#[test]
fn what_a_killed_job_left_is_swept_and_nothing_torn_is_ever_seen() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = fill(&world, 30);
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    world.job("[datastore://store/in]", "mini_batch_size: 2\n");
    world.place.write("score.py", SIZES);
    for round in 0..3 {
        let (before, passed) = (faults.count("GET", "/bucket/in/"), 6 + 3 * round);
        faults.clear();
        faults.rule(Rule::new(Fault::StallBody(30_000)).method("GET").on("/bucket/in/").after(passed));
        let mut child = world.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
        wait_for("a download that hangs", || (faults.count("GET", "/bucket/in/") > before + passed).then_some(()));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
    faults.clear();
    assert!(world.cached().iter().any(|path| path.to_string_lossy().contains("in-use")));
    world.run_job().expect(0);
    assert_each_once(&world.place.rows(), &expected);
    let left: Vec<_> = world.cached().into_iter().filter(|path| path.to_string_lossy().contains("in-use")).collect();
    assert!(left.is_empty(), "{left:?}");
    let taken = std::fs::read_to_string(world.place.path("cache/fanfold/cloud/lock")).unwrap();
    let held: u64 =
        world.cached().iter().filter(|path| !path.ends_with("lock")).map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(taken.trim().parse::<u64>().unwrap(), held, "what is taken is what is there");
}
