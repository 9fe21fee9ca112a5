//! Requests that break: the job waits, says why, and goes on by itself.

use std::time::Duration;

use fanfold_test_servers::{Fault, Rule, has_cloud_servers};
use nix::sys::signal::Signal;

use crate::running::{GATED, open_gate, wait_until_begun};
use crate::support::{LIMIT, finish, wait_for};
use crate::world::{PATIENCE, World};

fn survives_a_bad_network(world: &World, part: &str, last: (&'static str, &str)) {
    let rows = world.wide_job(70);
    world.let_it_ask();
    for fault in [Fault::CutRequest(3 << 20), Fault::Status(503, Some(1)), Fault::LoseAnswer, Fault::Reset] {
        world.faults.rule(Rule::new(fault).method("PUT").on(part).times(1));
    }
    // At last the object is there, and nobody says so.
    for fault in [Fault::Status(429, Some(1)), Fault::LoseAnswer] {
        world.faults.rule(Rule::new(fault).method(last.0).on(last.1).times(1));
    }
    world.run_job().expect(0);
    world.is_whole(&rows);
    assert_eq!(world.unfinished(), [""; 0]);
    let (parts, lasts) = (world.faults.count("PUT", part), world.faults.count(last.0, last.1));
    assert_eq!((parts, lasts), (5 + 4 + usize::from(world.is_azure()), 1 + 2), "only what broke was sent again");
}

#[test]
fn a_large_output_gets_to_s3_whole_over_a_bad_network() {
    if has_cloud_servers() {
        survives_a_bad_network(&World::s3(), "partNumber=", ("POST", "parallel_run_step.txt?uploadId="));
    }
}

#[test]
fn a_large_output_gets_to_azure_whole_over_a_bad_network() {
    if has_cloud_servers() {
        survives_a_bad_network(&World::azure(), "comp=block&", ("PUT", "comp=blocklist"));
    }
}

#[test]
fn a_small_output_whose_answer_is_lost_is_known_for_the_jobs_own() {
    if !has_cloud_servers() {
        return;
    }
    for world in [World::s3(), World::azure()] {
        let items = world.job(4, "def run(mini_batch):\n    return mini_batch\n", "");
        world.let_it_ask();
        world.faults.rule(Rule::new(Fault::LoseAnswer).method("PUT").on("parallel_run_step.txt").times(1));
        world.run_job().expect(0);
        world.is_whole(&items);
    }
}

#[test]
fn a_service_that_does_not_answer_blocks_the_job_until_it_does() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3();
    let items = world.job(4, GATED, "");
    let running = world.start();
    wait_until_begun(&world.place, 1);
    world.faults.rule(Rule::new(Fault::Status(503, None)));
    open_gate(&world.place);
    let blocked = wait_for("the job to say why it waits", || {
        let status = world.status();
        status["blocked"].as_str().map(|why| (status["state"].clone(), status["cause"].clone(), why.to_string()))
    });
    assert_eq!(blocked.0, "Finalizing");
    assert!(blocked.1.as_str().unwrap().starts_with("uploading 0 B of 36 B to datastore://out/results"), "{blocked:?}");
    assert!(blocked.2.contains("the server answers 503") && blocked.2.contains("goes on by itself"), "{blocked:?}");
    let whole = world.run(&["results", "job"]).expect(0);
    assert_eq!(whole.stdout.lines().count(), 4, "the result is whole, here");
    world.faults.clear();
    running.ends(PATIENCE, 0);
    world.is_whole(&items);
}

#[test]
fn an_upload_that_stalls_is_interrupted_at_once_and_goes_on_later() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::s3();
    let rows = world.wide_job(20);
    world.faults.rule(Rule::new(Fault::Stall).method("PUT").on("partNumber="));
    let running = world.start();
    wait_for("a part to stall", || (world.faults.count("PUT", "partNumber=") > 0).then_some(()));
    running.signal(Signal::SIGTERM);
    running.ends(Duration::from_secs(20), 143);
    assert_eq!((world.object(), world.status()["state"].as_str().unwrap()), (None, "Finalizing"));
    assert_eq!(world.unfinished().len(), 1);
    world.faults.clear();
    world.run_job().expect(0);
    world.is_whole(&rows);
    assert_eq!(world.unfinished(), [""; 0]);
}

/// A part takes several times as long as a server may be silent.
#[test]
fn a_large_output_gets_there_over_a_slow_line() {
    if !has_cloud_servers() {
        return;
    }
    for (world, part) in [(World::s3(), "partNumber="), (World::azure(), "comp=block&")] {
        let rows = world.wide_job(20);
        world.let_it_ask();
        world.faults.rule(Rule::new(Fault::DripRequest(64 << 10, Duration::from_millis(30))).method("PUT").on(part));
        let mut command = world.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_STORE_SILENCE_MS", "2500");
        let ran = finish(command.spawn().expect("the program starts"), 2 * LIMIT);
        ran.expect(0);
        world.is_whole(&rows);
        assert_eq!(world.faults.count("PUT", part), 2 + usize::from(world.is_azure()), "no part was sent twice");
    }
}

#[test]
fn inputs_and_output_go_over_a_bad_network() {
    if !has_cloud_servers() {
        return;
    }
    for world in [World::s3(), World::azure()] {
        let script = "def run(mini_batch):\n    return [open(path).read() for path in mini_batch]\n";
        world.job(1, script, "");
        let yaml = std::fs::read_to_string(world.place.path("job.yaml")).unwrap();
        let inputs = yaml.replace("inputs: [items.txt]\ninput_type: lines\n", "inputs: [datastore://out/in]\n");
        world.place.write("job.yaml", inputs);
        let contents: Vec<String> = (0..60).map(|file| format!("content of {file} {}", "x".repeat(2000))).collect();
        for (file, content) in contents.iter().enumerate() {
            world.bucket.put(&format!("in/{}/{file}.txt", file % 7), content.clone());
        }
        world.let_it_ask();
        let faults = [
            Fault::Status(503, None),
            Fault::CutBody(700),
            Fault::Reset,
            Fault::StallBody(900),
            Fault::Status(429, Some(1)),
            Fault::LoseAnswer,
        ];
        for (number, fault) in faults.into_iter().enumerate() {
            world.faults.rule(Rule::new(fault).method("GET").on("/in/").on(".txt").after(3 * number).times(2));
        }
        for fault in [Fault::Status(503, None), Fault::LoseAnswer] {
            world.faults.rule(Rule::new(fault).method("PUT").times(1));
        }
        world.run_job().expect(0);
        world.is_whole(&contents);
    }
}
