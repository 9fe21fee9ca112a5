//! Several jobs, and fewer workers than they would like.

use std::time::Instant;

use super::served;
use crate::running::{PACED, open_gate};
use crate::support::{assert_each_once, wait_for};

/// A tenth of a second a mini-batch.
const SLOW: &str = "import time\n\ndef run(mini_batch):\n    time.sleep(0.1)\n    return mini_batch\n";

#[test]
fn the_more_urgent_job_gets_the_worker_and_gives_it_back() {
    let (served, items) = served(SLOW, "", 150);
    let mut worker = served.world.worker();
    let old = served.submit("job.yaml", &[]);
    wait_for("the first job to have the worker", || {
        (served.get(&format!("/v1/jobs/{old}")).1["counts"]["items_succeeded"].as_u64()? > 0).then_some(())
    });
    let urgent = served.submit("job.yaml", &["priority=8", "node_count=1"]);
    served.wait_for_state(&urgent, "Completed");
    assert_each_once(&served.rows(&urgent), &items);
    assert_eq!(served.state(&old), "Running", "it waited meanwhile");
    served.wait_for_state(&old, "Completed");
    assert_each_once(&served.rows(&old), &items);

    // The worker is told to go.
    let listed = served.get("/v1/nodes").1;
    let name = listed["workers"][0]["worker"].as_str().unwrap().to_string();
    let ran = served.verb(&["drain", &name, "--json"]).expect(0);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!((&told["version"], told["worker"].as_str()), (&1.into(), Some(name.as_str())));
    let ran = served.verb(&["drain", &name]).expect(0);
    assert!(ran.stdout.starts_with(&format!("{name} takes no more nodes")), "{}", ran.stdout);
    worker.wait_until_said("told to end");
    drop(worker);
}

#[test]
fn a_job_gives_half_of_its_workers_to_an_equal_one() {
    let (served, items) = served(PACED, "", 20_000);
    let _workers = [served.world.worker(), served.world.worker()];
    let nodes = |job: &str| served.get(&format!("/v1/jobs/{job}")).1["nodes"].as_u64();
    let first = served.submit("job.yaml", &[]);
    wait_for("the first job to have both workers", || (nodes(&first)? == 2).then_some(()));
    let second = served.submit("job.yaml", &[]);
    let began = Instant::now();
    wait_for("each to have one", || (nodes(&first)? == 1 && nodes(&second)? == 1).then_some(()));
    println!("the second job has its worker after {:?}", began.elapsed());
    open_gate(served.place());
    for job in [&first, &second] {
        served.wait_for_state(job, "Completed");
        assert_each_once(&served.rows(job), &items);
    }
}

#[test]
fn jobs_beyond_the_most_that_may_run_wait_and_say_why() {
    let (mut served, _) = served(SLOW, "", 2);
    served.kill();
    served.start(&["--max-jobs", "1"]);
    let first = served.submit("job.yaml", &[]);
    served.wait_for_state(&first, "Running");
    let second = served.submit("job.yaml", &[]);
    let explained = served.verb(&["explain", &second]).expect(0).stdout;
    assert!(explained.contains("1 job run already, which is all that may (`--max-jobs`)"), "{explained}");
    let third = served.submit("job.yaml", &[]);
    let ran = served.verb(&["cancel", &third]).expect(0);
    assert!(ran.stdout.ends_with(" Canceled\n"), "a job that never began ends as well: {}", ran.stdout);
    let _worker = served.world.worker();
    served.wait_for_state(&first, "Completed");
    served.wait_for_state(&second, "Completed");
}
