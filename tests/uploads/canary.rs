//! Secrets of datastores are found nowhere but in the file that the test wrote them to, whatever becomes of the upload.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fanfold_test_servers::{
    Azurite, AzuriteOptions, Bucket, Fault, Faults, Gcs, Rule, S3, S3Key, ServicePrincipal, TestCa, Tokens,
    has_cloud_servers,
};
use nix::sys::signal::Signal;

use crate::running::{Running, job_of};
use crate::support::{Place, finish, wait_for};
use crate::world::PATIENCE;

/// A secret that a test may choose. Never written as it is, so that no listing of this file can be mistaken for it.
const CANARY: &str = concat!("cAn", "ArY.of-a~secret");

/// Prints whatever it can read of itself and of the programs around it, and fails once.
const NOSY: &str = r#"
import os

def look(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return error.strerror.encode()

def run(mini_batch):
    mine = ("PLACE_OF_A_TEST=" + os.environ["PLACE"].rstrip("/")).encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            environ = look(f"/proc/{name}/environ")
            if mine in environ:
                print(name, environ, look(f"/proc/{name}/cmdline"))
    if mini_batch[0].endswith("1"):
        raise ValueError(dict(os.environ))
    return mini_batch
"#;

struct World {
    place: Place,
    faults: Faults,
    bucket: Arc<Bucket>,
    secrets: Vec<String>,
}

impl World {
    fn new(faults: Faults, bucket: Bucket, entry: &str, secrets: &[&str]) -> World {
        let place = Place::new();
        place.write("secrets/datastores.yaml", format!("out: {{{entry}}}\n"));
        place.write_items(4);
        job_of(&place, NOSY, "output: datastore://out/results\nrun_max_try: 1\nlogging_level: DEBUG\n");
        let secrets = secrets.iter().map(|secret| (*secret).to_string()).collect();
        World { place, faults, bucket: Arc::new(bucket), secrets }
    }

    fn s3(key: impl Fn(&S3) -> S3Key) -> (S3, World) {
        let s3 = S3::start();
        let (faults, key) = (Faults::before(s3.port()), key(&s3));
        let token = key.session_token.as_ref().map(|token| format!(", session_token: '{token}'")).unwrap_or_default();
        let entry = format!(
            "type: s3, bucket: bucket, region: {}, endpoint: '{}', access_key_id: '{}', secret_access_key: '{}'{token}",
            S3::REGION,
            faults.url(),
            key.id,
            key.secret
        );
        let secrets = [Some(key.secret.as_str()), key.session_token.as_deref()];
        let world = World::new(faults, s3.bucket("bucket"), &entry, &secrets.into_iter().flatten().collect::<Vec<_>>());
        (s3, world)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.place.fanfold();
        command.env("FANFOLD_DATASTORES", self.place.path("secrets/datastores.yaml")).args(args);
        command
    }

    /// Runs the job so often that everything has happened to it, and looks at what it left.
    fn is_discreet(&self, written: &dyn Fn(Rule) -> Rule) {
        let run = ["run", "job.yaml", "--job-dir", "job"];
        let said = |args: &[&str]| {
            let ran = finish(self.command(args).spawn().expect("the program starts"), PATIENCE);
            self.holds_none("what it says", format!("{}{}", ran.stdout, ran.stderr).as_bytes());
            ran
        };
        said(&["plan", "job.yaml", "--json"]).expect(0);
        // Everything is refused, then cut, then nothing answers.
        self.faults.rule(written(Rule::new(Fault::Status(403, None))));
        said(&run).expect(1);
        self.faults.clear();
        self.faults.rule(written(Rule::new(Fault::Stall)));
        let before = self.faults.seen().len();
        let running = Running::start(&self.place, self.command(&run));
        wait_for("a request", || (self.faults.seen().len() > before).then_some(()));
        for (pid, _) in self.place.processes() {
            for name in ["environ", "cmdline"] {
                self.holds_none(name, &fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default());
            }
        }
        running.signal(Signal::SIGTERM);
        running.ends(Duration::from_secs(30), 143);
        self.faults.clear();
        self.faults.rule(written(Rule::new(Fault::CutRequest(3)).times(2)));
        self.faults.rule(written(Rule::new(Fault::LoseAnswer).times(1)));
        said(&run).expect(5);
        assert_eq!(self.bucket.list("").len(), 1);
        for args in [
            &["status", "job", "--json"][..],
            &["errors", "job", "--full"],
            &["doctor", "--verify", "job"],
            &["datastore", "list"],
            &["datastore", "check", "out"],
        ] {
            said(args);
        }
        self.files_hold_none();
    }

    fn files_hold_none(&self) {
        let (mut dirs, mut files) = (vec![self.place.path("")], 0);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() && path != self.place.path("secrets") {
                    dirs.push(path);
                } else if kind.is_file() {
                    files += 1;
                    self.holds_none(&path.display().to_string(), &fs::read(&path).unwrap());
                }
            }
        }
        assert!(files > 20, "it has looked: {files}");
        let printed = fs::read_dir(self.place.job().join("logs/user/stdout")).unwrap().count();
        assert!(printed > 0, "the script has looked around");
    }

    #[track_caller]
    fn holds_none(&self, what: &str, bytes: &[u8]) {
        for secret in &self.secrets {
            let escaped = secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            for form in [secret, &escaped] {
                let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
                assert!(!found, "a secret is in {what}:\n{}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

#[test]
fn the_key_of_s3_is_nowhere() {
    if has_cloud_servers() {
        let (_s3, world) = World::s3(|s3| s3.key().clone());
        world.is_discreet(&|rule| rule.method("PUT"));
    }
}

#[test]
fn the_token_of_a_session_of_s3_is_nowhere() {
    if has_cloud_servers() {
        let (_s3, world) = World::s3(S3::session);
        world.is_discreet(&|rule| rule.method("PUT"));
    }
}

fn azure(credential: impl Fn(&Azurite) -> (String, String)) -> (Azurite, World) {
    let azurite = Azurite::start();
    let faults = Faults::before(azurite.port());
    let (credential, secret) = credential(&azurite);
    let entry = format!(
        "type: azure_blob, account: {0}, container: bucket, endpoint: '{1}/{0}', {credential}",
        Azurite::ACCOUNT,
        faults.url()
    );
    let world = World::new(faults, azurite.container("bucket"), &entry, &[&secret]);
    (azurite, world)
}

/// Requests that write the object; those that ask at submission whether that is allowed write a block.
fn of_the_object(rule: Rule) -> Rule {
    rule.method("PUT").on("parallel_run_step.txt")
}

#[test]
fn the_key_of_an_account_of_azure_is_nowhere() {
    if has_cloud_servers() {
        let (_azurite, world) = azure(|azurite| (format!("account_key: '{0}'", azurite.key()), azurite.key().into()));
        world.faults.rule(Rule::new(Fault::Pass).on("comp=block&"));
        world.is_discreet(&of_the_object);
    }
}

#[test]
fn the_signature_of_azure_is_nowhere() {
    if has_cloud_servers() {
        let (_azurite, world) = azure(|azurite| {
            let sas = azurite.sas("rwdlc");
            let signature = sas.split("sig=").nth(1).unwrap().to_string();
            (format!("sas_token: '{sas}'"), signature)
        });
        world.faults.rule(Rule::new(Fault::Pass).on("comp=block&"));
        world.is_discreet(&of_the_object);
    }
}

#[test]
fn the_secret_of_a_service_principal_and_its_tokens_are_nowhere() {
    if !has_cloud_servers() {
        return;
    }
    let ca = TestCa::new();
    let azurite = Azurite::start_with(AzuriteOptions::tls(&ca));
    let faults = Faults::before_tls(azurite.port(), &ca.sign("localhost"));
    let principal = ServicePrincipal { tenant: "tenant".into(), client: "client".into(), secret: CANARY.into() };
    let tokens = Tokens::start(&ca.sign("localhost"), principal, 3600);
    let entry = format!(
        "type: azure_data_lake_gen2, account: {0}, container: bucket, endpoint: '{1}/{0}', tenant_id: tenant, client_id: client, \
         client_secret: '{CANARY}', authority_host: '{2}', ca_file: '{3}'",
        Azurite::ACCOUNT,
        faults.url(),
        tokens.url(),
        ca.file().display()
    );
    let mut world = World::new(faults, azurite.container("bucket"), &entry, &[CANARY]);
    world.faults.rule(Rule::new(Fault::Pass).on("comp=block&"));
    world.is_discreet(&of_the_object);
    assert!(!tokens.given().is_empty());
    world.secrets = tokens.given();
    for name in ["status.json", "logs/sys/master_role.txt", "logs/job_result.txt"] {
        world.holds_none(name, &fs::read(world.place.job().join(name)).unwrap());
    }
}

#[test]
fn the_key_of_a_service_account_of_google_is_nowhere_though_its_upload_comes_to_nothing() {
    if !has_cloud_servers() {
        return;
    }
    let gcs = Gcs::start();
    let bucket = gcs.bucket("bucket");
    let place = Place::new();
    place.write("secrets/account.json", gcs.service_account(CANARY).to_string());
    let entry = "type: gcs, bucket: bucket, service_account_file: account.json";
    place.write("secrets/datastores.yaml", format!("out: {{{entry}}}\n"));
    place.write_items(4);
    job_of(&place, NOSY, "output: datastore://out/results\n");
    let secrets = vec![CANARY.to_string()];
    let world = World { place, faults: Faults::before(gcs.port()), bucket: Arc::new(bucket), secrets };
    let running = Running::start(&world.place, world.command(&["run", "job.yaml", "--job-dir", "job"]));
    wait_for("the upload, which the fake does not take", || {
        let status = fs::read_to_string(world.place.job().join("status.json")).unwrap_or_default();
        (status.contains("\"Finalizing\"") && status.contains("uploading 0 B of")).then_some(())
    });
    running.signal(Signal::SIGTERM);
    running.ends(Duration::from_secs(30), 143);
    world.files_hold_none();
}

#[test]
fn an_address_with_a_secret_in_it_is_refused_and_not_repeated() {
    let place = Place::new();
    place.write_items(1);
    for output in [
        format!("https://user:{CANARY}@host/x"),
        format!("s3://user:{CANARY}@bucket/x"),
        format!("az://container/x?sig={CANARY}"),
    ] {
        job_of(&place, NOSY, &format!("output: '{output}'\n"));
        for args in [&["plan", "job.yaml"][..], &["run", "job.yaml", "--job-dir", "job"]] {
            let ran = place.run(args).expect(2);
            assert!(ran.stderr.contains("which is a secret") && !ran.stderr.contains(CANARY), "{}", ran.stderr);
        }
        assert!(!place.job().exists());
    }
}
