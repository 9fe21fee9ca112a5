//! A server that refuses: one object is a failed item; where nothing is given out the attempt failed, and nothing is lost for good.

use fanfold_test_servers::{Fault, Faults, Rule, has_cloud_servers};

use crate::World;
use crate::support::assert_each_once;

/// Everything goes through a relay.
fn world() -> (World, Faults) {
    let world = World::new();
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    (world, faults)
}

#[test]
fn one_object_that_is_refused_fails_alone_and_at_once() {
    if !has_cloud_servers() {
        return;
    }
    let (world, faults) = world();
    let expected = world.fill(10);
    faults.rule(Rule::new(Fault::Status(403, None)).on("/bucket/in/0/3"));
    world.job("[datastore://store/in]", "mini_batch_size: 5\n");
    world.run_job().expect(5);
    assert_each_once(&world.place.rows(), &[&expected[..3], &expected[4..]].concat());
    let errors = world.place.errors();
    assert!(errors.len() == 1 && errors[0]["kind"] == "input" && errors[0]["attempt"] == 1, "{errors:?}");
    let message = errors[0]["message"].as_str().unwrap();
    assert!(message.contains("in/0/3") && message.contains("access is denied"), "{message}");
    assert_eq!(faults.count("GET", "/bucket/in/0/3"), 1);
}

#[test]
fn a_server_that_refuses_for_a_while_costs_attempts_and_no_item() {
    if !has_cloud_servers() {
        return;
    }
    let (world, faults) = world();
    let expected = world.fill(12);
    // The first round of all threads, and two tries afterwards.
    faults.rule(Rule::new(Fault::Status(403, None)).method("GET").on("/bucket/in/").times(6));
    world.job("[datastore://store/in]", "mini_batch_size: 1\n");
    let ran = world.run_job().expect(0);
    assert_each_once(&world.place.rows(), &expected);
    assert!(world.place.errors().is_empty(), "{:?}", world.place.errors());
    assert!(!ran.stderr.contains("retry --failed"), "{}", ran.stderr);
    let log = std::fs::read_to_string(world.place.job().join("logs/sys/master_role.txt")).unwrap();
    assert!(log.contains("what it asks for is refused"), "{log}");
    assert_eq!(faults.count("GET", "/bucket/in/"), 12 + 6);
}

#[test]
fn credentials_that_are_refused_everywhere_fail_the_job_and_it_goes_on_when_they_are_mended() {
    if !has_cloud_servers() {
        return;
    }
    let (world, faults) = world();
    let expected = world.fill(12);
    let run = |args: &[&str]| {
        let mut command = world.fanfold();
        command.args(args).env("FANFOLD_REFUSED_PAUSE_MS", "20");
        crate::finish(command.spawn().expect("the program starts"), crate::LIMIT)
    };
    for (size, cause) in
        [("1", "the node cannot work: it is refused what lies in the cloud"), ("12", "no item succeeded")]
    {
        faults.rule(Rule::new(Fault::Status(403, None)).method("GET").on("/bucket/in/"));
        world.job("[datastore://store/in]", &format!("mini_batch_size: {size}\n"));
        let ran = run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
        let status = world.place.status();
        assert_eq!(status["state"], "Failed");
        let said = status["cause"].as_str().unwrap();
        assert!(said.contains(cause) && said.contains("access is denied"), "{said}");
        assert!(said.contains("of datastore `store`"), "{said}");
        assert!(ran.stderr.contains("retry --failed"), "{}", ran.stderr);
        faults.clear();
        run(&["retry", "--failed", "job"]).expect(0);
        assert_each_once(&world.place.rows(), &expected);
        for left in ["job", "cache"] {
            std::fs::remove_dir_all(world.place.path(left)).unwrap();
        }
    }
}

#[test]
fn a_side_input_that_is_refused_loses_nothing() {
    if !has_cloud_servers() {
        return;
    }
    let (world, faults) = world();
    let expected = world.fill(3);
    world.bucket.put("labels.txt", "cat dog");
    // A look at it is allowed.
    faults.rule(Rule::new(Fault::Status(403, None)).method("GET").on("/bucket/labels.txt"));
    world.job("[datastore://store/in]", "side_inputs: {labels: datastore://store/labels.txt}\n");
    let ran = world.run_job().expect(1);
    assert!(
        ran.stderr.contains("access is denied") && ran.stderr.contains("fanfold datastore check"),
        "{}",
        ran.stderr
    );
    faults.clear();
    world.run(&["retry", "--failed", "job"]).expect(0);
    assert_each_once(&world.place.rows(), &expected);
}
