//! What jobs know of the cloud beyond a run: datastores, datasets, reuse.

use fanfold_test_servers::{Fault, Faults, Rule, has_cloud_servers};

use crate::{CANARY, World};

#[test]
fn datastores_are_shown_and_tried_without_their_secrets() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(3);
    let secret = world.s3.key().secret.clone();
    let list = world.run(&["datastore", "list"]).expect(0);
    assert!(list.stdout.contains("store") && list.stdout.contains("secret from "), "{}", list.stdout);
    let checked = world.run(&["datastore", "check", "store", "in"]).expect(0);
    assert!(checked.stdout.contains("can be listed and read, for example `0/"), "{}", checked.stdout);
    let json = world.run(&["datastore", "check", "store", "in", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["version"], &json["uri"]), (&1.into(), &"datastore://store/in".into()));
    let json = world.run(&["datastore", "list", "--json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["version"], &json["datastores"][0]["type"]), (&1.into(), &"s3".into()));
    assert!(![list.stdout, checked.stdout, json.to_string()].iter().any(|text| text.contains(&secret)));
    world.datastore(&world.s3.url(), &world.s3.key().id, CANARY);
    let refused = world.run(&["datastore", "check", "store"]).expect(2);
    assert!(refused.stderr.contains("access is denied") && !refused.stderr.contains(CANARY), "{}", refused.stderr);
    let literal = format!("store:\n  type: s3\n  bucket: bucket\n  access_key_id: id\n  secret_access_key: {CANARY}\n");
    let path = world.place.write("datastores.yaml", literal);
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let doctor = world.run(&["doctor"]);
    assert!(doctor.stdout.contains("others can read") && !doctor.stdout.contains(CANARY), "{}", doctor.stdout);
}

#[test]
fn a_dataset_in_the_cloud_is_registered_and_its_changes_are_seen() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(12);
    world.run(&["dataset", "register", "images", "--path", "datastore://store/in"]).expect(0);
    world.job("[images]", "");
    world.run_job().expect(0);
    assert_eq!(world.place.rows().len(), 12);
    world.bucket.put("in/0/0 é.txt", "changed");
    let plan = world.run(&["plan", "job.yaml"]).expect(0);
    assert!(format!("{}{}", plan.stdout, plan.stderr).contains("changed since"), "{}{}", plan.stdout, plan.stderr);
}

#[test]
fn the_same_objects_are_not_processed_again_and_others_are() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(5);
    world.job("[datastore://store/in]", "");
    world.run(&["run", "job.yaml"]).expect(0);
    let again = world.run(&["run", "job.yaml"]).expect(0);
    assert!(again.stderr.contains("reuse") || again.stderr.contains("stands in"), "{}", again.stderr);
    assert_eq!(std::fs::read_dir(world.place.path("fanfold-jobs")).unwrap().count(), 1);
    world.bucket.put("in/0/0 é.txt", "CONTENT 0");
    world.run(&["run", "job.yaml"]).expect(0);
    assert_eq!(std::fs::read_dir(world.place.path("fanfold-jobs")).unwrap().count(), 2);
}

#[test]
fn the_next_files_come_while_one_runs() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(12);
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    // Longer than the time limits of the job, if they counted it.
    let pause = std::time::Duration::from_millis(1500);
    faults.rule(Rule::new(Fault::Drip(4, pause)).method("GET").on("/bucket/in/"));
    world.job("[datastore://store/in]", "mini_batch_size: 1\nrun_invocation_timeout: 1\ntask_overhead_timeout: 1\n");
    // The first waits until the files of three others are here.
    world.place.write(
        "score.py",
        "import glob, os, time\n\ndef run(mini_batch):\n    there = os.path.join(os.path.dirname(mini_batch[0]), '..', '..', '..')\n    waiting = len([found for found in os.listdir(there) if found.isdigit()])\n    return [str(waiting)] * len(mini_batch)\n",
    );
    world.run_job().expect(0);
    let most = world.place.rows().iter().map(|row| row.parse::<u32>().unwrap()).max();
    assert!(most > Some(2), "files of several mini-batches are here at once: {:?}", world.place.rows());
}
