//! The object stores of the tests are strict: they refuse who has no right, keep conditions, and the relay before them does what it is told.

use std::time::Duration;

use fanfold_test_servers::{
    Azurite, AzuriteOptions, Bucket, Fault, Faults, Files, Gcs, Rule, S3, S3Key, ServicePrincipal, TestCa, Tokens,
    has_cloud_servers,
};
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, RetryConfig,
};

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(10), backoff: BackoffConfig::default() }
}

fn plain() -> ClientOptions {
    ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(5))
}

fn s3(url: &str, key: &S3Key) -> AmazonS3 {
    let mut builder = AmazonS3Builder::new()
        .with_endpoint(url)
        .with_region(S3::REGION)
        .with_bucket_name("bucket")
        .with_access_key_id(&key.id)
        .with_secret_access_key(&key.secret)
        .with_retry(once())
        .with_client_options(plain());
    if let Some(token) = &key.session_token {
        builder = builder.with_token(token);
    }
    builder.build().unwrap()
}

fn azure(url: &str) -> MicrosoftAzureBuilder {
    MicrosoftAzureBuilder::new()
        .with_account(Azurite::ACCOUNT)
        .with_endpoint(url.into())
        .with_container_name("container")
        .with_retry(once())
        .with_client_options(plain())
}

fn get(store: &dyn ObjectStore, path: &str) -> Result<String, Error> {
    run(async {
        let bytes = store.get(&Path::parse(path).unwrap()).await?.bytes().await?;
        Ok(String::from_utf8(bytes.into()).unwrap())
    })
}

/// What every store must do for who has the right.
fn keeps_its_promises(store: &dyn ObjectStore, bucket: &Bucket) {
    run(promises(store));
    let large = ("folder/large".to_string(), (5 << 20) + 3);
    assert_eq!(bucket.list("folder"), [("folder/a b.bin".to_string(), 10), large]);
    assert_eq!(bucket.get("folder/a b.bin").unwrap(), b"0123456789");
}

async fn promises(store: &dyn ObjectStore) {
    let path = Path::from("folder/a b.bin");
    let create = PutOptions::from(PutMode::Create);
    let first = store.put_opts(&path, "0123456789".into(), create.clone()).await.unwrap();
    let again = store.put_opts(&path, "other".into(), create).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. } | Error::Precondition { .. }), "{again:?}");
    let range = GetOptions { range: Some(GetRange::Bounded(2..5)), if_match: first.e_tag, ..Default::default() };
    assert_eq!(store.get_opts(&path, range).await.unwrap().bytes().await.unwrap(), "234");
    let other = GetOptions { if_match: Some("\"other\"".into()), ..Default::default() };
    let refused = store.get_opts(&path, other).await.unwrap_err();
    assert!(matches!(refused, Error::Precondition { .. }), "{refused:?}");

    let mut upload = store.put_multipart(&Path::from("folder/large")).await.unwrap();
    let part = vec![7_u8; 5 << 20];
    upload.put_part(part.clone().into()).await.unwrap();
    assert!(store.head(&Path::from("folder/large")).await.is_err(), "an unfinished upload is no object");
    upload.put_part("end".into()).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(store.head(&Path::from("folder/large")).await.unwrap().size, (5 << 20) + 3);
    let listed: Vec<_> = store.list(Some(&Path::from("folder"))).try_collect().await.unwrap();
    assert_eq!(listed.len(), 2);
}

#[test]
fn s3_refuses_wrong_keys_and_keeps_conditions() {
    if !has_cloud_servers() {
        return;
    }
    let server = S3::start();
    let bucket = server.bucket("bucket");
    keeps_its_promises(&s3(&server.url(), server.key()), &bucket);
    let session = server.session();
    assert!(session.session_token.is_some());
    let path = Path::from("folder/a b.bin");
    assert_eq!(get(&s3(&server.url(), &session), "folder/a b.bin").unwrap(), "0123456789");

    let refused = |key: S3Key| run(s3(&server.url(), &key).get(&path)).unwrap_err();
    let wrong = S3Key { secret: "wrong".into(), ..server.key().clone() };
    let error = refused(wrong);
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    let unknown = S3Key { id: "AKIAUNKNOWN".into(), ..server.key().clone() };
    let error = refused(unknown);
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    let error = refused(S3Key { session_token: Some("wrong".into()), ..session });
    assert!(error.to_string().contains("40"), "{error:?}");
    let reader = server.user(&["s3:GetObject", "s3:ListBucket"]);
    let store = s3(&server.url(), &reader);
    assert!(get(&store, "folder/a b.bin").is_ok());
    let error = run(store.put(&Path::from("new"), "x".into())).unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");

    // More than one page of a listing.
    for n in 0..1005 {
        bucket.put(&format!("many/{n:04}"), "x");
    }
    assert_eq!(bucket.list("many").len(), 1005);
}

#[test]
fn azurite_takes_keys_and_sas_and_refuses_others() {
    if !has_cloud_servers() {
        return;
    }
    let server = Azurite::start();
    let bucket = server.container("container");
    keeps_its_promises(&azure(&server.url()).with_access_key(server.key()).build().unwrap(), &bucket);
    let path = Path::from("folder/a b.bin");
    let with_sas = |sas: &str| {
        let pairs = url::form_urlencoded::parse(sas.as_bytes()).into_owned().collect::<Vec<_>>();
        azure(&server.url()).with_sas_authorization(pairs).build().unwrap()
    };
    assert_eq!(get(&with_sas(&server.sas("rl")), "folder/a b.bin").unwrap(), "0123456789");
    let error = run(with_sas(&server.sas("rl")).put(&path, "x".into())).unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    let forged = server.sas("rl").replace("sp=rl", "sp=rwl");
    let error = get(&with_sas(&forged), "folder/a b.bin").unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    let wrong = azure(&server.url()).with_access_key("d3Jvbmc=").build().unwrap();
    let wrong = get(&wrong, "folder/a b.bin").unwrap_err();
    assert!(matches!(wrong, Error::PermissionDenied { .. }), "{wrong:?}");
}

#[test]
fn azurite_takes_the_tokens_of_a_service_principal() {
    if !has_cloud_servers() {
        return;
    }
    let ca = TestCa::new();
    let server = Azurite::start_with(AzuriteOptions::tls(&ca));
    let bucket = server.container("container");
    bucket.put("x", "here");
    let principal = ServicePrincipal { tenant: "tenant".into(), client: "client".into(), secret: "s3cret".into() };
    let tokens = Tokens::start(&ca.sign("localhost"), principal, 3600);
    let client = |secret: &str| {
        let certificate = Certificate::from_pem(&std::fs::read(ca.file()).unwrap()).unwrap();
        azure(&server.url())
            .with_client_options(plain().with_root_certificate(certificate))
            .with_client_secret_authorization("client", secret, "tenant")
            .with_config(object_store::azure::AzureConfigKey::AuthorityHost, tokens.url())
            .build()
            .unwrap()
    };
    assert_eq!(get(&client("s3cret"), "x").unwrap(), "here");
    assert_eq!(tokens.given().len(), 1);
    assert!(get(&client("wrong"), "x").is_err());
    assert_eq!(tokens.given().len(), 1);
}

#[test]
fn google_cloud_storage_is_listed_and_read() {
    if !has_cloud_servers() {
        return;
    }
    let server = Gcs::start();
    let bucket = server.bucket("bucket");
    for n in 0..5 {
        bucket.put(&format!("folder/a {n}.bin"), format!("{n}123456789"));
    }
    bucket.put("other/x", "x");
    let listed = bucket.list("folder");
    assert_eq!(listed.len(), 5);
    assert_eq!(listed[3], ("folder/a 3.bin".to_string(), 10));
    let store = GoogleCloudStorageBuilder::new()
        .with_bucket_name("bucket")
        .with_service_account_key(server.service_account("").to_string())
        .with_retry(once())
        .with_client_options(plain())
        .build()
        .unwrap();
    let range = GetOptions { range: Some(GetRange::Bounded(0..2)), ..Default::default() };
    let ranged =
        run(async { store.get_opts(&Path::from("folder/a 3.bin"), range).await.unwrap().bytes().await.unwrap() });
    assert_eq!(ranged, "31");
    assert!(matches!(get(&store, "folder/b").unwrap_err(), Error::NotFound { .. }));
}

#[test]
fn the_relay_breaks_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), [7; 100_000]).unwrap();
    let files = Files::serve(dir.path());
    let relay = Faults::before(files.port());
    let store =
        HttpBuilder::new().with_url(relay.url()).with_retry(once()).with_client_options(plain()).build().unwrap();
    let read = || get(&store, "file");
    assert_eq!(read().unwrap().len(), 100_000);
    let faults = [
        Fault::Status(503, Some(1)),
        Fault::CutBody(70_000),
        Fault::LoseAnswer,
        Fault::Reset,
        Fault::WrongLength(10),
        Fault::Stall,
        Fault::StallBody(10),
    ];
    for fault in faults {
        relay.rule(Rule::new(fault).method("GET").on("/file").times(1));
        assert!(read().is_err());
        relay.clear();
        assert_eq!(read().unwrap().len(), 100_000);
    }
    relay.rule(Rule::new(Fault::WrongLength(-10)).times(1));
    assert_eq!(read().unwrap().len(), 99_990);
    relay.rule(Rule::new(Fault::Drip(50_000, Duration::from_millis(10))).after(1));
    assert_eq!(read().unwrap().len(), 100_000);
    assert_eq!(read().unwrap().len(), 100_000);
    assert_eq!(relay.seen()[0].status, Some(200));
    assert_eq!(relay.count("GET", "/file"), relay.seen().len());
    let ranged = GetOptions { range: Some(GetRange::Bounded(99_990..200_000)), ..Default::default() };
    let ranged = run(async { store.get_opts(&Path::from("file"), ranged).await.unwrap().bytes().await.unwrap() });
    assert_eq!(ranged.len(), 10);
}

#[test]
fn files_are_served_with_tls_to_who_trusts_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "here").unwrap();
    let ca = TestCa::new();
    let files = Files::serve_tls(dir.path(), &ca.sign("localhost"));
    let relay = Faults::before_tls(files.port(), &ca.sign("localhost"));
    let certificate = Certificate::from_pem(&std::fs::read(ca.file()).unwrap()).unwrap();
    for url in [files.url(""), relay.url()] {
        let store = |client: ClientOptions| {
            HttpBuilder::new().with_url(&url).with_retry(once()).with_client_options(client).build().unwrap()
        };
        let trusting = store(ClientOptions::new().with_root_certificate(certificate.clone()));
        assert_eq!(get(&trusting, "file").unwrap(), "here");
        assert!(get(&store(ClientOptions::new()), "file").is_err());
    }
}
