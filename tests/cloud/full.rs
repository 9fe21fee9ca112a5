//! A disk without room under the cache: the job says what it waits for, asks for nothing again, and goes on by itself.

use std::fs::{self, File};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fanfold_test_servers::{Fault, Faults, Rule, has_cloud_servers};

use crate::World;
use crate::running::{Running, SmallDisk, open_gate};
use crate::support::{LIMIT, assert_each_once, wait_for};

/// Starts the job with its cache on a disk of its own; nothing of `what` is given out before the gate is open. None: this user may not mount.
fn start(world: &World, faults: &Faults, what: &str, disk: &str) -> Option<(Running, SmallDisk)> {
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    let gate = world.place.path("go");
    let wait = move || {
        while !gate.exists() {
            thread::sleep(Duration::from_millis(5));
        }
    };
    faults.rule(Rule::new(Fault::First(Arc::new(wait))).method("GET").on(what));
    let (mut command, disk) = SmallDisk::command(&world.place, "disk", disk)?;
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    command.env("FANFOLD_DATASTORES", world.place.path("datastores.yaml"));
    command.env("FANFOLD_CACHE", world.place.path("disk/cache"));
    let running = Running::start(&world.place, command);
    wait_for("a download", || (faults.count("GET", what) > 0).then_some(()));
    Some((running, disk))
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_downloaded_in_vain() {
    if !has_cloud_servers() {
        return;
    }
    // Without room for a byte, and without room for a file.
    for (size, bytes) in [("4m", true), ("4m,nr_inodes=60", false)] {
        let world = World::new();
        let faults = Faults::before(world.s3.port());
        let expected = world.fill(20);
        world.job("[datastore://store/in]", "mini_batch_size: 2\nrun_max_try: 1\n");
        let Some((running, disk)) = start(&world, &faults, "/bucket/in/", size) else { return };
        let seen = disk.seen_by(&running);
        if bytes {
            disk.fill(&running);
        } else {
            let full = (0..100).find(|number| File::create(seen.join(format!("filler-{number}"))).is_err());
            assert!(full.is_some(), "that is no small disk");
        }
        open_gate(&world.place);
        let blocked = wait_for("the status to say so", || world.place.status()["blocked"].as_str().map(str::to_string));
        assert!(blocked.contains("room on the disk of the cache") && blocked.contains("disk/cache"), "{blocked}");
        thread::sleep(Duration::from_secs(4));
        if bytes {
            disk.make_room(&running);
        } else {
            let filler = |path: &std::path::Path| path.to_string_lossy().contains("filler-");
            let found = fs::read_dir(&seen).unwrap().map(|found| found.unwrap().path());
            found.filter(|path| filler(path)).for_each(|path| fs::remove_file(path).unwrap());
        }
        running.ends(LIMIT, 0);
        assert_each_once(&world.place.rows(), &expected);
        assert_eq!(world.place.status()["blocked"], serde_json::Value::Null);
        let asked = faults.count("GET", "/bucket/in/");
        assert!(asked <= 20 + 8, "{asked} downloads of 20 files; eight were under way when the disk was full");
    }
}

#[test]
fn a_side_input_without_room_says_what_it_waits_for() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let faults = Faults::before(world.s3.port());
    let expected = world.fill(3);
    world.bucket.put("labels.txt", vec![b'x'; 100_000]);
    world.job("[datastore://store/in]", "side_inputs: {labels: datastore://store/labels.txt}\n");
    let Some((mut running, disk)) = start(&world, &faults, "/bucket/labels.txt", "4m") else { return };
    disk.fill(&running);
    open_gate(&world.place);
    running.wait_until_said("side_inputs.labels waits for room on the disk of the cache");
    disk.make_room(&running);
    running.wait_until_said("side_inputs.labels goes on");
    running.ends(LIMIT, 0);
    assert_each_once(&world.place.rows(), &expected);
}
