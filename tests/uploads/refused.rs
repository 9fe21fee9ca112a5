//! Services and people who do not let the output in: the job says what, why and how to go on, and nothing is lost.

use std::sync::Arc;

use fanfold_test_servers::{Fault, Rule, has_cloud_servers};

use crate::running::{GATED, open_gate, wait_until_begun};
use crate::world::{PATIENCE, World};

const ECHO: &str = "def run(mini_batch):\n    return mini_batch\n";

#[test]
fn what_would_be_refused_is_refused_at_submission() {
    if !has_cloud_servers() {
        return;
    }
    for world in [World::s3(), World::azure()] {
        world.job(2, ECHO, "");
        world.bucket.put("results/parallel_run_step.txt", "somebody else's");
        for args in [&["plan", "job.yaml"][..], &["run", "job.yaml", "--job-dir", "job"]] {
            let ran = world.run(args).expect(2);
            let said = "`datastore://out/results/parallel_run_step.txt` is there already and is not this job's";
            assert!(ran.stderr.contains(said) && ran.stderr.contains("set another `output`"), "{}", ran.stderr);
        }
        assert!(!world.place.job().exists(), "a refused job leaves nothing");
        assert_eq!(world.object().unwrap(), b"somebody else's");
        // Under another name it is welcome; and the next job finds whose it is.
        world.run(&["run", "job.yaml", "--job-dir", "job", "--set", "append_row_file_name=x.txt"]).expect(0);
        let other = ["run", "job.yaml", "--no-reuse", "--set", "append_row_file_name=x.txt"];
        let ran = world.run(&other).expect(2);
        assert!(ran.stderr.contains("is not this job's, but that of job attack-"), "{}", ran.stderr);
    }
}

#[test]
fn credentials_that_may_not_write_are_refused_at_submission() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3_as(|s3| s3.user(&["s3:GetObject", "s3:ListBucket"]));
    world.job(2, ECHO, "");
    for args in [&["plan", "job.yaml"][..], &["run", "job.yaml", "--job-dir", "job"]] {
        let ran = world.run(args).expect(2);
        assert!(ran.stderr.contains("cannot write `datastore://out/results/parallel_run_step.txt`"), "{}", ran.stderr);
        assert!(ran.stderr.contains("the right to write there"), "{}", ran.stderr);
    }
    assert!(!world.place.job().exists());
    world.run(&["run", "job.yaml", "--job-dir", "job", "--set", "output=datastore://none/x"]).expect(2);
    world.run(&["run", "job.yaml", "--job-dir", "job", "--set", "output=https://127.0.0.1/x"]).expect(2);
}

#[test]
fn credentials_that_are_refused_at_the_end_cost_nothing_but_another_start() {
    if !has_cloud_servers() {
        return;
    }
    for (world, large) in [(World::s3(), false), (World::s3(), true), (World::azure(), false)] {
        let items = if large { world.wide_job(20) } else { world.job(6, ECHO, "") };
        // Looking is allowed, writing is not any more.
        world.let_it_ask();
        world.faults.rule(Rule::new(Fault::Status(403, None)).method("PUT"));
        let ran = world.run_job().expect(1);
        assert!(ran.stderr.contains("Finalizing") && ran.stderr.contains("access is denied"), "{}", ran.stderr);
        assert!(ran.stderr.contains("The output is whole and stays on this machine"), "{}", ran.stderr);
        assert_eq!((world.status()["state"].as_str().unwrap(), world.object()), ("Finalizing", None));
        assert_eq!(world.place.rows().len(), items.len());
        world.faults.clear();
        let runs = world.status()["counts"]["attempts"].clone();
        world.run_job().expect(0);
        world.is_whole(&items);
        assert_eq!(world.status()["counts"]["attempts"], runs, "nothing was run again");
    }
}

#[test]
fn an_object_that_appears_while_the_job_runs_is_not_overwritten() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3();
    let items = world.job(4, GATED, "");
    let running = world.start();
    wait_until_begun(&world.place, 1);
    world.stranger()();
    open_gate(&world.place);
    let said = running.ends(PATIENCE, 1);
    assert!(said.contains("is there already and is not this job's") && said.contains("move it away"), "{said}");
    assert_eq!(world.object().unwrap(), b"somebody else's");
    world.bucket.delete("results/parallel_run_step.txt");
    world.run_job().expect(0);
    world.is_whole(&items);
}

#[test]
fn an_object_that_appears_between_the_look_and_the_request_is_not_overwritten() {
    if !has_cloud_servers() {
        return;
    }
    for (world, large) in [(World::s3(), false), (World::s3(), true), (World::azure(), false), (World::azure(), true)] {
        if large {
            world.wide_job(20);
        } else {
            world.job(4, ECHO, "");
        }
        let write = Fault::First(Arc::new(world.stranger()));
        let text = match (large, world.is_azure()) {
            (false, _) => "parallel_run_step.txt",
            (true, true) => "comp=blocklist",
            (true, false) => "parallel_run_step.txt?uploadId=",
        };
        world.let_it_ask();
        world
            .faults
            .rule(Rule::new(write).method(if large && !world.is_azure() { "POST" } else { "PUT" }).on(text).times(1));
        let ran = world.run_job().expect(1);
        assert!(ran.stderr.contains("is there already and is not this job's"), "{}", ran.stderr);
        assert_eq!(world.object().unwrap(), b"somebody else's");
    }
}
