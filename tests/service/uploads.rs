//! Jobs of a service whose output goes to the cloud: the coordinator uploads it, and its datastores are the service's.

use fanfold_test_servers::{Fault, Faults, Rule, S3, has_cloud_servers};
use serde_json::json;

use super::ECHO;
use super::world::Served;
use crate::running::job_of;
use crate::support::{assert_each_once, wait_for};

/// A service that knows the datastore `out`.
fn served(s3: &S3, faults: &Faults) -> Served {
    let mut served = Served::new();
    served.kill();
    let (region, url, key) = (S3::REGION, faults.url(), s3.key());
    let entry = format!(
        "out: {{type: s3, bucket: bucket, region: {region}, endpoint: '{url}', access_key_id: '{}', secret_access_key: '{}'}}\n",
        key.id, key.secret
    );
    served.place().write("secrets/datastores.yaml", entry);
    served.start(&[]);
    served
}

#[test]
fn the_output_of_a_job_of_the_service_is_uploaded_and_waits_for_credentials_that_are_mended() {
    if !has_cloud_servers() {
        return;
    }
    let s3 = S3::start();
    let (bucket, faults) = (s3.bucket("bucket"), Faults::before(s3.port()));
    let served = served(&s3, &faults);
    job_of(served.place(), ECHO, "output: datastore://out/results\n");
    let items = served.place().write_items(20);
    let _worker = served.world.worker();

    faults.rule(Rule::new(Fault::Status(403, None)).method("PUT"));
    let job = served.submit("job.yaml", &[]);
    let said = wait_for("the job to say what is refused", || {
        let said = served.get(&format!("/v1/jobs/{job}")).1.to_string();
        said.contains("the output can't be uploaded").then_some(said)
    });
    assert!(said.contains("access is denied"), "{said}");
    assert_eq!(bucket.list(""), []);
    faults.clear();
    served.wait_for_state(&job, "Completed");
    let object = String::from_utf8(bucket.get("results/parallel_run_step.txt").unwrap()).unwrap();
    assert_each_once(&object.lines().map(str::to_string).collect::<Vec<_>>(), &items);
    let (_, status) = served.get(&format!("/v1/jobs/{job}"));
    assert_eq!(status["output"]["uri"], "datastore://out/results/parallel_run_step.txt");

    // The next one is refused before it is a job.
    let (code, answer) = served.post("/v1/jobs", None, &json!({"job_file": "job.yaml"}).to_string());
    assert!(code >= 400 && answer.to_string().contains("is there already and is not this job's"), "{code} {answer}");
}

#[test]
fn inputs_and_output_of_a_job_on_a_fleet_go_over_a_bad_network() {
    if !has_cloud_servers() {
        return;
    }
    let s3 = S3::start();
    let (bucket, faults) = (s3.bucket("bucket"), Faults::before(s3.port()));
    let served = served(&s3, &faults);
    let script = "def run(mini_batch):\n    return [open(path).read() for path in mini_batch]\n";
    job_of(served.place(), script, "output: datastore://out/results\n");
    let yaml = std::fs::read_to_string(served.place().path("job.yaml")).unwrap();
    let inputs = yaml.replace("inputs: [items.txt]\ninput_type: lines\n", "inputs: [datastore://out/in]\n");
    served.place().write("job.yaml", inputs);
    let contents: Vec<String> = (0..60).map(|file| format!("content of {file} {}", "x".repeat(2000))).collect();
    for (file, content) in contents.iter().enumerate() {
        bucket.put(&format!("in/{}/{file}.txt", file % 7), content.clone());
    }
    let faulty = [Fault::Status(503, None), Fault::CutBody(700), Fault::Reset, Fault::LoseAnswer];
    for (number, fault) in faulty.into_iter().enumerate() {
        faults.rule(Rule::new(fault).method("GET").on("/in/").on(".txt").after(3 * number).times(2));
    }
    for fault in [Fault::Status(503, None), Fault::LoseAnswer] {
        faults.rule(Rule::new(fault).method("PUT").times(1));
    }
    let knows = |command: &mut std::process::Command| {
        command.env("FANFOLD_DATASTORES", served.place().path("secrets/datastores.yaml"));
    };
    let _workers = [served.world.worker_with(knows), served.world.worker_with(knows)];
    let job = served.submit("job.yaml", &[]);
    served.wait_for_state(&job, "Completed");
    let object = String::from_utf8(bucket.get("results/parallel_run_step.txt").unwrap()).unwrap();
    assert_each_once(&object.lines().map(str::to_string).collect::<Vec<_>>(), &contents);
}
