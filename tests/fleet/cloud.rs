//! Files in the cloud on a fleet: each worker fetches what it runs, with credentials of its own, whoever dies.

use fanfold_test_servers::{Bucket, S3, has_cloud_servers};

use crate::LONG;
use crate::support::wait_for;
use crate::world::{World, kill_9};

const SAYS: &str = "import os, time\n\ndef run(mini_batch):\n    time.sleep(0.02)\n    return [os.path.basename(path) + '=' + open(path).read() for path in mini_batch]\n";

/// A job over so many objects, and the datastore that they lie in; returns what it gives.
fn cloud_job(world: &World, bucket: &Bucket, s3: &S3, objects: usize) -> Vec<String> {
    let place = &world.place;
    let expected = (0..objects).map(|object| {
        bucket.put(&format!("in/{object}"), format!("content {object}"));
        format!("{object}=content {object}")
    });
    let (key, url) = (s3.key(), s3.url());
    place.write("secret", &key.secret);
    place.write(
        "datastores.yaml",
        format!(
            "store: {{type: s3, bucket: bucket, region: us-east-1, endpoint: \"{url}\", access_key_id: {}, secret_access_key: {{file: secret}}}}\n",
            key.id
        ),
    );
    place.write("score.py", SAYS);
    let job = "name: attack\nentry_script: score.py\ninputs: [datastore://store/in]\nmini_batch_size: 2\nprocess_count_per_node: 2\n";
    place.write("job.yaml", format!("{job}compute_target: {}\n", world.pool));
    expected.collect()
}

#[test]
fn files_in_the_cloud_are_processed_once_whoever_dies() {
    if !has_cloud_servers() {
        return;
    }
    let (world, s3) = (World::new(), S3::start());
    let expected = cloud_job(&world, &s3.bucket("bucket"), &s3, 600);
    let file = world.place.path("datastores.yaml");
    let worker = || {
        world.worker_with(|command| {
            command.env("FANFOLD_DATASTORES", &file);
        })
    };
    // Of one host: they share a cache.
    let victim = worker();
    let _other = worker();
    let coordinator = world.coordinator_with(|command| {
        command.env("FANFOLD_DATASTORES", &file);
    });
    world.wait_for_nodes(2);
    world.wait_for_committed(20);
    kill_9(&victim);
    world.wait_for_more_committed(20);
    kill_9(&coordinator);
    world
        .coordinator_with(|command| {
            command.env("FANFOLD_DATASTORES", &file);
        })
        .ends(LONG, 0);
    world.each_once_and_nothing_left(&expected);
}

#[test]
fn a_worker_without_the_datastore_says_so_and_another_does_the_work() {
    if !has_cloud_servers() {
        return;
    }
    let (world, s3) = (World::new(), S3::start());
    let expected = cloud_job(&world, &s3.bucket("bucket"), &s3, 10);
    let file = world.place.path("datastores.yaml");
    world.place.write("none.yaml", "");
    let none = world.place.path("none.yaml");
    let _without = world.worker_with(|command| {
        command.env("FANFOLD_DATASTORES", &none);
    });
    let coordinator = world.coordinator_with(|command| {
        command.env("FANFOLD_DATASTORES", &file);
    });
    wait_for("the worker to say what it lacks", || {
        let log = std::fs::read_to_string(world.place.path("job/logs/sys/master_role.txt")).unwrap_or_default();
        (log.contains("no datastore is called so") && log.contains("datastore://store/in")).then_some(())
    });
    let _with = world.worker_with(|command| {
        command.env("FANFOLD_DATASTORES", &file);
    });
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&expected);
}

#[test]
fn a_worker_whose_credentials_are_refused_leaves_the_work_to_another() {
    if !has_cloud_servers() {
        return;
    }
    let (world, s3) = (World::new(), S3::start());
    let expected = cloud_job(&world, &s3.bucket("bucket"), &s3, 200);
    let (good, bad) = (world.place.path("datastores.yaml"), world.place.path("expired.yaml"));
    let text = std::fs::read_to_string(&good).unwrap();
    world.place.write("expired.yaml", text.replace("{file: secret}", "expired"));
    // Each with a cache of its own, as on machines of their own.
    let worker = |file: &std::path::Path, cache: &str| {
        world.worker_with(|command| {
            command.env("FANFOLD_DATASTORES", file).env("FANFOLD_CACHE", world.place.path(cache));
        })
    };
    let _refused = worker(&bad, "cache-of-one");
    let coordinator = world.coordinator_with(|command| {
        command.env("FANFOLD_DATASTORES", &good);
    });
    wait_for("the worker to be refused", || {
        let log = std::fs::read_to_string(world.place.path("job/logs/sys/master_role.txt")).unwrap_or_default();
        log.contains("what it asks for is refused").then_some(())
    });
    let _other = worker(&good, "cache-of-another");
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&expected);
}
