//! What is wrong with an object is a failed item with its reason; what is wrong with the job is said before it runs. Nothing says a secret.

use std::sync::{Arc, Once};

use fanfold_test_servers::{Fault, Faults, Files, Rule, has_cloud_servers};

use crate::support::{assert_each_once, wait_for};
use crate::{CANARY, World};

#[test]
fn objects_that_vanish_or_change_fail_alone() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = world.fill(20);
    let faults = Faults::before(world.s3.port());
    let key = world.s3.key();
    world.datastore(&faults.url(), &key.id, &key.secret);
    // Between the listing and the first download; all wait for it.
    let (bucket, once) = (world.s3.bucket("bucket"), Once::new());
    let change = move || {
        once.call_once(|| {
            bucket.delete("in/0/3 é.txt");
            bucket.put("in/0/4 é.txt", "longer than it was");
            bucket.put("in/0/5 é.txt", "CONTENT 5");
        });
    };
    faults.rule(Rule::new(Fault::First(Arc::new(change))).method("GET").on("/bucket/in/"));
    world.job("[datastore://store/in]", "mini_batch_size: 10\n");
    world.run_job().expect(5);
    let rest: Vec<String> = [&expected[..3], &expected[6..]].concat();
    assert_each_once(&world.place.rows(), &rest);
    let errors = world.place.errors();
    let of = |name: &str| {
        let found: Vec<_> = errors.iter().filter(|error| error["message"].as_str().unwrap().contains(name)).collect();
        assert!(found.len() == 1 && found[0]["kind"] == "input", "{name}: {found:?}");
        found[0]["message"].as_str().unwrap().to_string()
    };
    assert!(of("in/0/3 é.txt").contains("vanished since the job listed it"), "{errors:?}");
    assert!(of("in/0/4 é.txt").contains("changed since the job listed it: size 9 -> 18"), "{errors:?}");
    assert!(of("in/0/5 é.txt").contains("written anew"), "{errors:?}");
}

#[test]
fn what_has_vanished_is_not_looked_for_again_and_again() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    for file in 0..60 {
        world.bucket.put(&format!("in/{file}"), format!("content {file}"));
    }
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    let (bucket, once) = (world.s3.bucket("bucket"), Once::new());
    let vanish = move || once.call_once(|| (0..50).for_each(|file| bucket.delete(&format!("in/{file}"))));
    faults.rule(Rule::new(Fault::First(Arc::new(vanish))).method("GET").on("/bucket/in/"));
    world.job("[datastore://store/in]", "mini_batch_size: 10\n");
    world.run_job().expect(5);
    assert_eq!((world.place.rows().len(), world.place.errors().len()), (10, 50));
    let seen = faults.seen();
    let listings = seen.iter().map(|seen| &seen.target).filter(|target| target.contains("list-type=2"));
    let near: Vec<_> = listings.filter(|target| target.contains("delimiter=")).collect();
    assert!(near.iter().all(|target| target.contains("max-keys=100")), "{near:?}");
    // One when the address was looked at, one for all that has vanished.
    assert_eq!(near.len(), 2, "{near:?}");
}

#[test]
fn a_body_that_breaks_off_is_gone_on_with() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let large: String = (0..200_000).map(|line| format!("{line}\n")).collect();
    world.bucket.put("in/large", large.clone());
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    faults.rule(Rule::new(Fault::CutBody(100_000)).method("GET").on("/bucket/in/large").times(3));
    world.job("[datastore://store/in]", "");
    world.place.write(
        "score.py",
        "import hashlib\n\ndef run(mini_batch):\n    return [hashlib.sha256(open(path, 'rb').read()).hexdigest() for path in mini_batch]\n",
    );
    world.run_job().expect(0);
    let python = std::process::Command::new("python3")
        .args([
            "-c",
            "import hashlib\nprint(hashlib.sha256(b''.join(b'%d\\n' % i for i in range(200000))).hexdigest())",
        ])
        .output()
        .unwrap();
    assert_eq!(world.place.rows(), [String::from_utf8(python.stdout).unwrap().trim()]);
}

#[test]
fn what_keeps_a_job_from_being_listed_is_said_with_the_way_out() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(3);
    let refused = |inputs: &str, code: i32| {
        world.job(inputs, "");
        let ran = world.run_job().expect(code);
        assert!(!ran.stderr.contains(CANARY), "{}", ran.stderr);
        ran.stderr
    };
    let missing = refused("[datastore://store/on/0]", 2);
    assert!(missing.contains("`datastore://store/on/0`") && missing.contains("holds `in`"), "{missing}");
    let pattern = refused("[\"datastore://store/in/**/*.png\"]", 2);
    assert!(pattern.contains("matches no object") && pattern.contains("for example `0/0 é.txt` is there"), "{pattern}");
    // As it was written, and not as it is meant.
    for written in ["azureml://datastores/store/paths/on/0", "azureml://subscriptions/s/datastores/store/paths/on/0"] {
        let missing = refused(&format!("['{written}']"), 2);
        assert!(missing.contains(&format!("`{written}`")) && missing.contains("/store/paths` holds `in`"), "{missing}");
        assert!(!missing.contains("datastore://"), "{missing}");
    }
    let unknown = refused("[datastore://stores/in]", 2);
    assert!(unknown.contains("no datastore is called so") && unknown.contains("store"), "{unknown}");
    world.datastore(&world.s3.url(), &world.s3.key().id, CANARY);
    let denied = refused("[datastore://store/in]", 2);
    assert!(denied.contains("access is denied") && denied.contains("of datastore `store`"), "{denied}");
    let azureml = refused("[azureml://datastores/store/paths/in]", 2);
    assert!(azureml.contains("`azureml://datastores/store/paths/in`: access is denied"), "{azureml}");
    // Nobody's credentials are none.
    world.place.write("web/a.txt", "a");
    let files = Files::serve(&world.place.path("web"));
    let faults = Faults::before(files.port());
    faults.rule(Rule::new(Fault::Status(403, None)));
    let entry = format!("web: {{type: https, url: '{}', anonymous: true}}\n", faults.url());
    world.place.write("datastores.yaml", entry);
    for (input, told) in [
        ("datastore://web/a.txt".to_string(), "asked without credentials, as datastore `web` says ("),
        (format!("{}/a.txt", faults.url()), "asked without credentials, and not everybody may: describe some"),
    ] {
        let anonymous = refused(&format!("['{input}']"), 2);
        assert!(anonymous.contains("access is denied") && anonymous.contains(told), "{anonymous}");
    }
    world.datastore("http://127.0.0.1:1", "id", CANARY);
    let secret = refused("[\"https://host/file?sig=canary/of+a+secret\"]", 2);
    assert!(secret.contains("a signature or a token, which is a secret"), "{secret}");
}

#[test]
fn a_secret_is_nowhere_but_in_the_request() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(3);
    world.job("[datastore://store/in]", "");
    world.place.write(
        "score.py",
        "import os\n\ndef run(mini_batch):\n    return [' '.join(map(str, os.environ.items()))] * len(mini_batch)\n",
    );
    let ran = world.run_job().expect(0);
    let secret = world.s3.key().secret.clone();
    assert!(!ran.stderr.contains(&secret) && !ran.stdout.contains(&secret));
    let grep =
        std::process::Command::new("grep").args(["-rlF", "--", &secret]).arg(world.place.path("")).output().unwrap();
    let found = String::from_utf8(grep.stdout).unwrap();
    assert_eq!(found.trim(), world.place.path("secret").to_str().unwrap());
}

#[test]
fn a_download_that_hangs_is_left_when_the_job_is_canceled() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    world.fill(3);
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    faults.rule(Rule::new(Fault::Stall).method("GET").on("/bucket/in/"));
    world.job("[datastore://store/in]", "");
    let child = world.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
    wait_for("a download", || faults.seen().iter().any(|seen| seen.target.contains("/bucket/in/")).then_some(()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let ran = crate::finish(child, crate::LIMIT).expect(130);
    assert!(ran.stderr.contains("aused"), "{}", ran.stderr);
    faults.clear();
    // It goes on where it was.
    world.run_job().expect(0);
    assert_eq!(world.place.rows().len(), 3);
}

#[test]
fn an_outage_fails_nothing_and_is_waited_for() {
    if !has_cloud_servers() {
        return;
    }
    let world = World::new();
    let expected = world.fill(5);
    let faults = Faults::before(world.s3.port());
    world.datastore(&faults.url(), &world.s3.key().id, &world.s3.key().secret);
    faults.rule(Rule::new(Fault::Reset).method("GET").on("/bucket/in/"));
    world.job("[datastore://store/in]", "");
    let child = world.fanfold().args(["run", "job.yaml", "--job-dir", "job"]).spawn().unwrap();
    let blocked = wait_for("the status to say so", || {
        let status = std::fs::read(world.place.job().join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("status.json is replaced whole");
        status["blocked"].as_str().map(str::to_string)
    });
    assert!(blocked.contains("can't be reached"), "{blocked}");
    faults.clear();
    crate::finish(child, crate::LIMIT).expect(0);
    assert_each_once(&world.place.rows(), &expected);
}
