//! A place with an object store, a relay before it, and a datastore that names the relay.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fanfold_test_servers::{Azurite, Bucket, Fault, Faults, Rule, S3, S3Key};
use serde_json::Value;

use crate::running::{Running, job_of};
use crate::support::{LIMIT, Place, Ran, finish};

/// Returns each item as a row of so many bytes: `item-007 xxxxx…`.
const WIDE: &str = r#"
import os

WIDTH = int(os.environ["WIDTH"])

def run(mini_batch):
    return [item.ljust(WIDTH, "x") for item in mini_batch]
"#;

/// Fails where the item ends in 1, until the gate is open.
pub const FAILS: &str = r#"
import os

def run(mini_batch):
    if mini_batch[0].endswith("1") and not os.path.exists(os.path.join(os.environ["PLACE"], "go")):
        raise ValueError("not yet")
    return mini_batch
"#;

/// An object store.
pub enum Service {
    S3(S3),
    Azure(Azurite),
}

pub struct World {
    pub place: Place,
    pub faults: Faults,
    pub bucket: Arc<Bucket>,
    pub service: Service,
}

impl World {
    pub fn s3() -> World {
        World::s3_as(|s3| s3.key().clone())
    }

    /// With the key of somebody.
    pub fn s3_as(key: impl Fn(&S3) -> S3Key) -> World {
        let s3 = S3::start();
        let (bucket, faults) = (s3.bucket("bucket"), Faults::before(s3.port()));
        let key = key(&s3);
        let world = World { place: Place::new(), faults, bucket: Arc::new(bucket), service: Service::S3(s3) };
        world.use_key(&key);
        world
    }

    pub fn azure() -> World {
        let azurite = Azurite::start();
        let (bucket, faults) = (azurite.container("bucket"), Faults::before(azurite.port()));
        let (place, bucket) = (Place::new(), Arc::new(bucket));
        let world = World { place, faults, bucket, service: Service::Azure(azurite) };
        let Service::Azure(azurite) = &world.service else { unreachable!() };
        let entry = format!(
            "type: azure_blob, account: {0}, container: bucket, endpoint: '{1}/{0}', account_key: '{2}'",
            Azurite::ACCOUNT,
            world.faults.url(),
            azurite.key()
        );
        world.datastore(&entry);
        world
    }

    /// The datastore's key is this one from now on.
    pub fn use_key(&self, key: &S3Key) {
        self.datastore(&format!(
            "type: s3, bucket: bucket, region: {}, endpoint: '{}', access_key_id: '{}', secret_access_key: '{}'",
            S3::REGION,
            self.faults.url(),
            key.id,
            key.secret
        ));
    }

    fn datastore(&self, entry: &str) {
        self.place.write("secrets/datastores.yaml", format!("out: {{{entry}}}\n"));
    }

    pub fn is_azure(&self) -> bool {
        matches!(self.service, Service::Azure(_))
    }

    /// Uploads in parts that nobody has ended.
    pub fn unfinished(&self) -> Vec<String> {
        match &self.service {
            Service::S3(s3) => s3.unfinished_uploads("bucket"),
            Service::Azure(_) => Vec::new(),
        }
    }

    /// Lets the requests of a submission pass that look whether it may write.
    pub fn let_it_ask(&self) {
        if self.is_azure() {
            self.faults.rule(Rule::new(Fault::Pass).method("PUT").on("comp=block&").times(1));
        }
    }

    /// Somebody who writes there, too.
    pub fn stranger(&self) -> impl Fn() + Send + Sync + 'static {
        let bucket = self.bucket.clone();
        move || bucket.put("results/parallel_run_step.txt", "somebody else's")
    }

    /// A job whose output goes to the folder `results`. Returns its items.
    pub fn job(&self, items: usize, script: &str, more: &str) -> Vec<String> {
        let items = self.place.write_items(items);
        job_of(&self.place, script, &format!("output: datastore://out/results\n{more}"));
        items
    }

    /// A job with an output of so many MiB.
    pub fn wide_job(&self, mib: usize) -> Vec<String> {
        let items = self.job(mib, WIDE, "");
        let yaml = fs::read_to_string(self.place.path("job.yaml")).unwrap();
        let wide = format!("environment_variables: {{WIDTH: '{}', ", (1 << 20) - 1);
        self.place.write("job.yaml", yaml.replace("environment_variables: {", &wide));
        items.iter().map(|item| item.clone() + &"x".repeat((1 << 20) - 1 - item.len())).collect()
    }

    pub fn fanfold(&self) -> Command {
        let mut command = self.place.fanfold();
        command.env("FANFOLD_DATASTORES", self.place.path("secrets/datastores.yaml"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.fanfold().args(args).spawn().expect("the program starts"), 2 * LIMIT)
    }

    /// `fanfold run` of the job, to its end.
    pub fn run_job(&self) -> Ran {
        self.run(&["run", "job.yaml", "--job-dir", "job"])
    }

    /// The same, while something is done to it.
    pub fn start(&self) -> Running {
        let mut command = self.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]);
        Running::start(&self.place, command)
    }

    /// What it is killed at; then nothing of it is left.
    #[track_caller]
    pub fn killed_at(&self, point: &str) {
        let mut command = self.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]).env("FANFOLD_FAILPOINT", point);
        let ran = finish(command.spawn().expect("the program starts"), 2 * LIMIT);
        assert_eq!(ran.code, None, "{point}: it was to be killed\n{}", ran.stderr);
        self.place.nothing_left().unwrap();
    }

    /// The object of the output file.
    pub fn object(&self) -> Option<Vec<u8>> {
        self.bucket.get("results/parallel_run_step.txt")
    }

    /// The object is the file, and the file has each row once.
    #[track_caller]
    pub fn is_whole(&self, rows: &[String]) {
        crate::support::assert_each_once(&self.place.rows(), rows);
        let file = fs::read(self.place.job().join("output/parallel_run_step.txt")).unwrap();
        assert!(self.object().expect("the object is there") == file, "the object is not the file");
        assert_eq!(self.place.status()["state"], "Completed");
    }

    pub fn status(&self) -> Value {
        self.place.status()
    }
}

/// Long enough for anything that has to wait for a service's next try.
pub const PATIENCE: Duration = Duration::from_secs(120);
