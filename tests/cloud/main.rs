//! Jobs over inputs in the cloud, against servers that speak like it: every file arrives whole, once, and what is wrong is said by address, without
//! a secret.
//!
//! They need the servers that `tests/run.sh` installs under `target`.

#[path = "../support/running.rs"]
mod running;
#[path = "../support/mod.rs"]
mod support;

mod broken;
mod cache;
mod columns;
mod files;
mod full;
mod mltables;
mod places;
mod refused;
mod registered;
mod side;
mod tables;

use std::process::Command;

use fanfold_test_servers::{Bucket, S3};

use support::{LIMIT, Place, Ran, finish};

/// Says of each file its name, the folder it lies in and what is in it.
const SAYS: &str = "import os\n\ndef run(mini_batch):\n    return ['/'.join(path.split('/')[-2:]) + '=' + open(path).read() for path in mini_batch]\n";

/// The secret half of a key that must not be seen anywhere.
const CANARY: &str = "canary/of+a+secret";

/// A place with a bucket.
struct World {
    place: Place,
    s3: S3,
    bucket: Bucket,
}

impl World {
    fn new() -> World {
        let (place, s3) = (Place::new(), S3::start());
        let bucket = s3.bucket("bucket");
        let world = World { place, s3, bucket };
        let (url, key) = (world.s3.url(), world.s3.key().clone());
        world.datastore(&url, &key.id, &key.secret);
        world
    }

    /// Describes the datastore `store`.
    fn datastore(&self, endpoint: &str, id: &str, secret: &str) {
        self.place.write("secret", secret);
        let text = format!(
            "store:\n  type: s3\n  bucket: bucket\n  region: us-east-1\n  endpoint: {endpoint}\n  access_key_id: {id}\n  secret_access_key: \
             {{file: secret}}\n"
        );
        self.place.write("datastores.yaml", text);
    }

    /// The files `0`, `1` … in folders of ten; returns what [`SAYS`] says of them.
    fn fill(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|file| {
                let name = format!("{}/{file} é.txt", file / 10);
                self.bucket.put(&format!("in/{name}"), format!("content {file}"));
                format!("{name}=content {file}")
            })
            .collect()
    }

    fn job(&self, inputs: &str, more: &str) {
        self.place.write("score.py", SAYS);
        let yaml = format!("name: cloud\nentry_script: score.py\ninputs: {inputs}\nprocess_count_per_node: 2\n{more}");
        self.place.write("job.yaml", yaml);
    }

    fn fanfold(&self) -> Command {
        let mut command = self.place.fanfold();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_") || name.starts_with("AZURE_")) {
            command.env_remove(name);
        }
        command.env("FANFOLD_DATASTORES", self.place.path("datastores.yaml"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        finish(self.fanfold().args(args).spawn().expect("the program starts"), LIMIT)
    }

    fn run_job(&self) -> Ran {
        self.run(&["run", "job.yaml", "--job-dir", "job"])
    }

    /// Files of the cache, of all kinds.
    fn cached(&self) -> Vec<std::path::PathBuf> {
        self.cached_in("cache/fanfold/cloud")
    }

    /// Files of the cache that lies there.
    fn cached_in(&self, dir: &str) -> Vec<std::path::PathBuf> {
        fn walk(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.place.path(dir), &mut found);
        found
    }
}
