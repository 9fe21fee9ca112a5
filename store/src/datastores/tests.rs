use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn read(text: &str) -> Result<BTreeMap<String, Datastore>, String> {
    parse(text, Path::new("/etc/fanfold"))
}

#[test]
fn every_type_of_datastore_is_read() {
    let entries = read(
        "flat: {type: azure_blob, account: acct, container: imgs, account_key: {env: KEY}}\n\
         lake: {type: azure_data_lake_gen2, account: acct, filesystem: fs, tenant_id: t, client_id: c, client_secret: {file: s}}\n\
         sas: {type: azure_blob, account: acct, container: imgs, sas_token: 'sv=1&sig=x'}\n\
         minio: {type: s3, bucket: b, endpoint: 'http://127.0.0.1:9000', access_key_id: a, secret_access_key: {file: /run/s}}\n\
         aws: {type: s3, bucket: b, region: eu-central-1}\n\
         open: {type: s3, bucket: b, anonymous: true}\n\
         goog: {type: gcs, bucket: b, service_account_file: sa.json}\n\
         web: {type: https, url: 'https://host/files/', token: {env: TOKEN}}\n",
    )
    .unwrap();
    let texts: Vec<String> = entries
        .iter()
        .map(|(name, entry)| format!("{name}: {} {} with {}", entry.kind(), entry.place(), entry.credential_text()))
        .collect();
    assert_eq!(
        texts,
        [
            "aws: s3 s3://b with what the environment says",
            "flat: azure_blob abfss://imgs@acct.dfs.core.windows.net with account key from $KEY",
            "goog: gcs gs://b with service account from /etc/fanfold/sa.json",
            "lake: azure_data_lake_gen2 abfss://fs@acct.dfs.core.windows.net with service principal c of tenant t, secret from \
             /etc/fanfold/s",
            "minio: s3 http://127.0.0.1:9000/b with access key, secret from /run/s",
            "open: s3 s3://b with no credentials",
            "sas: azure_blob abfss://imgs@acct.dfs.core.windows.net with shared access signature in the file",
            "web: https https://host/files with token from $TOKEN",
        ]
    );
}

#[test]
fn what_is_wrong_is_told_without_values() {
    for (text, words) in [
        ("a: {type: azure_blob, account: x, account_key: CANARY}", "`container` is missing"),
        ("a: {type: s3, bucket: b, secret_access_key: CANARY}", "`access_key_id` and `secret_access_key`"),
        ("a: {type: s3, bucket: b, access_key_id: CANARY, secret_access_key: {vault: CANARY}}", "`{env: NAME}`"),
        ("a: {type: azure_blob, account: x, container: c, account_key: CANARY, sas_token: CANARY}", "keep one"),
        ("a: {type: azure_blob, account: x, container: c, client_secret: CANARY}", "service principal"),
        ("a: {type: s3, bucket: b, acces_key_id: CANARY}", "`acces_key_id` means nothing for `s3`"),
        ("a: {type: ftp, token: CANARY}", "`type` must be"),
        ("a: {type: https, url: 'https://u:CANARY@host/'}", "credentials have keys of their own"),
        ("a: {type: https, url: 'https://host/?sig=CANARY'}", "credentials have keys of their own"),
        ("a: {type: s3, bucket: b, secret_access_key: [CANARY]}", "`secret_access_key` must be"),
        ("a: {type: s3, bucket: 's3://b', secret_access_key: CANARY}", "`bucket` is a name"),
        ("a: [CANARY", "no YAML"),
        ("a: {type: s3, bucket: b, secret_access_key: \"CANARY", "no YAML"),
        ("CANARY", "must be a map"),
        ("'a b': {type: s3, bucket: CANARY}", "a name must have"),
    ] {
        let what = read(text).unwrap_err();
        assert!(what.contains(words), "{text}: {what}");
        assert!(!what.contains("CANARY"), "{what}");
    }
    assert_eq!(read("# nothing yet\n").unwrap().len(), 0);
}

#[test]
fn debug_hides_every_secret() {
    let entries = read(
        "a: {type: azure_blob, account: acct, container: imgs, account_key: CANARY}\n\
         b: {type: s3, bucket: b, access_key_id: CANARY, secret_access_key: CANARY, session_token: CANARY}\n\
         c: {type: gcs, bucket: b, service_account: 'CANARY'}\n\
         d: {type: https, url: 'https://h', username: u, password: CANARY}\n",
    )
    .unwrap();
    assert!(!format!("{entries:?}").contains("CANARY"));
    assert!(entries.values().all(|entry| !entry.credential_text().contains("CANARY")));
}

#[test]
fn a_file_that_others_can_read_is_warned_of_if_it_holds_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datastores.yaml");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    fs::write(&path, "a: {type: azure_blob, account: x, container: c, account_key: k}").unwrap();
    mode(0o644);
    assert!(Datastores::read(&path).unwrap().warning.unwrap().contains("chmod 600"));
    mode(0o600);
    assert_eq!(Datastores::read(&path).unwrap().warning, None);
    fs::write(&path, "a: {type: azure_blob, account: x, container: c, account_key: {file: key}}").unwrap();
    mode(0o644);
    let datastores = Datastores::read(&path).unwrap();
    assert_eq!(datastores.warning, None);
    let [secret] = datastores.entries["a"].secrets()[..] else { panic!("one secret") };
    assert!(secret.get().unwrap_err().contains("key"));
    fs::write(dir.path().join("key"), "s3cret\n").unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&secret.get().unwrap()), "s3cret");
}
