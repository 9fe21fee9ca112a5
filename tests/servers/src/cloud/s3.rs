//! Moto: S3 on this machine, with its signatures checked and its users' rights heeded.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use serde_json::json;
use tempfile::TempDir;

use super::{Bucket, element, escaped, installed, start};
use crate::http::{Head, exchange};
use crate::process::{directory, free_port, kill};

/// S3 of this test.
pub struct S3 {
    _dir: TempDir,
    port: u16,
    child: Child,
    admin: S3Key,
}

/// What a request is signed with.
#[derive(Clone, Debug)]
pub struct S3Key {
    /// The access key's id.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

impl S3 {
    /// Its region.
    pub const REGION: &str = "us-east-1";

    /// Starts it.
    pub fn start() -> S3 {
        let (dir, port) = (directory(), free_port());
        let mut command = Command::new(installed().join("venv/bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        // Some of its answers need a region of the environment.
        command.env("AWS_DEFAULT_REGION", S3::REGION);
        let child = start(command, dir.path(), port);
        let none = S3Key { id: String::new(), secret: String::new(), session_token: None };
        let mut s3 = S3 { _dir: dir, port, child, admin: none };
        s3.admin = s3.user(&["s3:*"]);
        s3
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A key that may do everything.
    pub fn key(&self) -> &S3Key {
        &self.admin
    }

    /// The key of a new user who may do this only (`s3:GetObject`, `s3:ListBucket`, `s3:PutObject` …).
    pub fn user(&self, actions: &[&str]) -> S3Key {
        self.unguarded(|| {
            static USERS: AtomicU32 = AtomicU32::new(0);
            let name = format!("user-{}", USERS.fetch_add(1, Ordering::Relaxed));
            self.form("iam", "CreateUser", &[("UserName", &name)]);
            let policy = policy(actions);
            let parameters = [("UserName", name.as_str()), ("PolicyName", "all"), ("PolicyDocument", policy.as_str())];
            self.form("iam", "PutUserPolicy", &parameters);
            let answer = self.form("iam", "CreateAccessKey", &[("UserName", &name)]);
            let (id, secret) = (element(&answer, "AccessKeyId"), element(&answer, "SecretAccessKey"));
            S3Key { id: id.into(), secret: secret.into(), session_token: None }
        })
    }

    /// Temporary credentials that may do everything.
    pub fn session(&self) -> S3Key {
        self.unguarded(|| {
            let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]});
            let trust = trust.to_string();
            let role = [("RoleName", "role"), ("AssumeRolePolicyDocument", trust.as_str())];
            let answer = self.form("iam", "CreateRole", &role);
            let policy = policy(&["s3:*"]);
            let parameters = [("RoleName", "role"), ("PolicyName", "all"), ("PolicyDocument", policy.as_str())];
            self.form("iam", "PutRolePolicy", &parameters);
            let parameters = [("RoleArn", element(&answer, "Arn")), ("RoleSessionName", "test")];
            let answer = self.form("sts", "AssumeRole", &parameters);
            S3Key {
                id: element(&answer, "AccessKeyId").into(),
                secret: element(&answer, "SecretAccessKey").into(),
                session_token: Some(element(&answer, "SessionToken").into()),
            }
        })
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) -> Bucket {
        self.unguarded(|| {
            let (status, answer) = exchange(self.port, false, Head::request("PUT", &format!("/{name}"), &[]), b"");
            assert_eq!(status, 200, "{answer}");
        });
        let store = AmazonS3Builder::new()
            .with_endpoint(self.url())
            .with_region(S3::REGION)
            .with_bucket_name(name)
            .with_access_key_id(&self.admin.id)
            .with_secret_access_key(&self.admin.secret)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build();
        Bucket::new(name, store.expect("a client"))
    }

    /// The keys of the multipart uploads to a bucket that nobody has ended.
    pub fn unfinished_uploads(&self, bucket: &str) -> Vec<String> {
        self.unguarded(|| {
            let head = Head::request("GET", &format!("/{bucket}?uploads"), &[]);
            let (status, answer) = exchange(self.port, false, head, b"");
            assert_eq!(status, 200, "{answer}");
            answer.split("<Upload>").skip(1).map(|upload| element(upload, "Key").to_string()).collect()
        })
    }

    /// Does something while nobody is asked who he is.
    fn unguarded<T>(&self, work: impl FnOnce() -> T) -> T {
        self.set_guard("inf");
        let outcome = work();
        self.set_guard("0");
        outcome
    }

    fn set_guard(&self, requests_without: &str) {
        let head = Head::request("POST", "/moto-api/reset-auth", &[("content-type", "text/plain")]);
        let (status, answer) = exchange(self.port, false, head, requests_without.as_bytes());
        assert_eq!(status, 200, "{answer}");
    }

    fn form(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        // Tells it which service is meant.
        let credential = format!("x/20260101/{}/{service}/aws4_request", S3::REGION);
        let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=x");
        let form = "application/x-www-form-urlencoded";
        let head = Head::request("POST", "/", &[("authorization", authorization.as_str()), ("content-type", form)]);
        let version = if service == "sts" { "2011-06-15" } else { "2010-05-08" };
        let mut body = format!("Action={action}&Version={version}");
        for (name, value) in parameters {
            body += &format!("&{name}={}", escaped(value));
        }
        let (status, answer) = exchange(self.port, false, head, body.as_bytes());
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

fn policy(actions: &[&str]) -> String {
    let allow = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": [allow]}).to_string()
}

impl Drop for S3 {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}
