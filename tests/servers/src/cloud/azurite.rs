//! Azurite: Azure Blob Storage on this machine, with shared keys, SAS and, with TLS, the tokens of service principals.

use std::process::{Child, Command};

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan};
use object_store::ClientOptions;
use object_store::azure::MicrosoftAzureBuilder;
use tempfile::TempDir;

use super::{Bucket, escaped, installed, start};
use crate::http::{Head, exchange};
use crate::process::{directory, free_port, kill};
use crate::{Identity, TestCa};

/// A storage account of this test.
pub struct Azurite {
    _dir: TempDir,
    port: u16,
    key: String,
    ca: Option<String>,
    child: Child,
}

/// How to start it.
#[derive(Default)]
pub struct AzuriteOptions {
    /// TLS only, with this certificate; bearer tokens are taken as well.
    pub tls: Option<(Identity, std::path::PathBuf)>,
}

impl AzuriteOptions {
    /// With TLS, by a certificate of this authority.
    pub fn tls(ca: &TestCa) -> AzuriteOptions {
        AzuriteOptions { tls: Some((ca.sign("localhost"), ca.file())) }
    }
}

impl Azurite {
    /// The name of its account.
    pub const ACCOUNT: &str = "fanfoldtest";

    /// Plain, with a random key.
    pub fn start() -> Azurite {
        Azurite::start_with(AzuriteOptions::default())
    }

    /// See [`AzuriteOptions`].
    pub fn start_with(options: AzuriteOptions) -> Azurite {
        let (dir, port) = (directory(), free_port());
        let mut key = [0; 64];
        rand::fill(&mut key).expect("random bytes");
        let key = STANDARD.encode(key);
        let main = installed().join("node_modules/azurite/dist/src/blob/main.js");
        let mut command = Command::new("node");
        command.arg(main).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--skipApiVersionCheck", "--disableTelemetry", "--silent", "--location"]).arg(dir.path());
        command.env("AZURITE_ACCOUNTS", format!("{}:{key}", Azurite::ACCOUNT));
        let mut ca = None;
        if let Some((identity, authority)) = &options.tls {
            command.arg("--cert").arg(&identity.certificate).arg("--key").arg(&identity.key).args(["--oauth", "basic"]);
            ca = Some(std::fs::read_to_string(authority).expect("the authority's certificate"));
        }
        let child = start(command, dir.path(), port);
        Azurite { _dir: dir, port, key, ca, child }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The endpoint of the account.
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{}", self.port, Azurite::ACCOUNT)
    }

    /// The key of the account.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A SAS of the account for an hour, without the question mark. Permissions: `r`ead, `w`rite, `c`reate, `d`elete, `l`ist …
    pub fn sas(&self, permissions: &str) -> String {
        let expiry = Timestamp::now().checked_add(1.hour()).expect("a near time");
        let expiry = format!("{:.0}", expiry);
        let (services, kinds, version) = ("b", "sco", "2020-08-04");
        let text = format!("{}\n{permissions}\n{services}\n{kinds}\n\n{expiry}\n\n\n{version}\n", Azurite::ACCOUNT);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&self.key).expect("our own key"));
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        format!(
            "sv={version}&ss={services}&srt={kinds}&sp={permissions}&se={}&sig={}",
            escaped(&expiry),
            escaped(&signature)
        )
    }

    /// Makes a container.
    pub fn container(&self, name: &str) -> Bucket {
        let target = format!("/{}/{name}?restype=container&{}", Azurite::ACCOUNT, self.sas("rwdlc"));
        let head = Head::request("PUT", &target, &[("x-ms-version", "2020-08-04")]);
        let (status, answer) = exchange(self.port, self.ca.is_some(), head, b"");
        assert_eq!(status, 201, "{answer}");
        let mut client = ClientOptions::new().with_allow_http(true);
        if let Some(ca) = &self.ca {
            let certificate = object_store::Certificate::from_pem(ca.as_bytes()).expect("a certificate");
            client = client.with_root_certificate(certificate);
        }
        let store = MicrosoftAzureBuilder::new()
            .with_account(Azurite::ACCOUNT)
            .with_access_key(&self.key)
            .with_endpoint(self.url())
            .with_container_name(name)
            .with_client_options(client)
            .build();
        Bucket::new(name, store.expect("a client"))
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}
