//! Azure and Google, with the credentials that datastores have for them.

use fanfold_test_servers::{Azurite, AzuriteOptions, Gcs, ServicePrincipal, TestCa, Tokens, has_cloud_servers};

use crate::support::{LIMIT, Place, assert_each_once, finish};

fn run(place: &Place, datastore: &str) {
    place.write("datastores.yaml", datastore);
    place.write("score.py", crate::SAYS);
    place.write(
        "job.yaml",
        "name: places\nentry_script: score.py\ninputs: [datastore://store/in]\nmini_batch_size: 2\n",
    );
    let mut command = place.fanfold();
    command.args(["run", "job.yaml", "--no-reuse", "--job-dir", "job"]);
    command.env("FANFOLD_DATASTORES", place.path("datastores.yaml"));
    finish(command.spawn().unwrap(), LIMIT).expect(0);
    let expected: Vec<String> = (0..5).map(|file| format!("in/{file} b.txt=content {file}")).collect();
    assert_each_once(&place.rows(), &expected);
    std::fs::remove_dir_all(place.job()).unwrap();
    std::fs::remove_dir_all(place.path("cache")).unwrap();
}

#[test]
fn azure_with_a_key_and_with_a_signature() {
    if !has_cloud_servers() {
        return;
    }
    let (place, azurite) = (Place::new(), Azurite::start());
    let container = azurite.container("container");
    (0..5).for_each(|file| container.put(&format!("in/{file} b.txt"), format!("content {file}")));
    let about = format!(
        "store:\n  type: azure_blob\n  account: {}\n  container: container\n  endpoint: {}\n",
        Azurite::ACCOUNT,
        azurite.url()
    );
    place.write("key", azurite.key());
    run(&place, &format!("{about}  account_key: {{file: key}}\n"));
    place.write("sas", azurite.sas("rl"));
    run(&place, &format!("{about}  sas_token: {{file: sas}}\n"));
}

#[test]
fn azure_as_a_service_principal() {
    if !has_cloud_servers() {
        return;
    }
    let (place, ca) = (Place::new(), TestCa::new());
    let azurite = Azurite::start_with(AzuriteOptions::tls(&ca));
    let container = azurite.container("container");
    (0..5).for_each(|file| container.put(&format!("in/{file} b.txt"), format!("content {file}")));
    let principal = ServicePrincipal { tenant: "tenant".into(), client: "client".into(), secret: "canary".into() };
    let tokens = Tokens::start(&ca.sign("localhost"), principal, 3600);
    run(
        &place,
        &format!(
            "store:\n  type: azure_data_lake_gen2\n  account: {}\n  container: container\n  endpoint: {}\n  tenant_id: tenant\n  client_id: \
             client\n  client_secret: canary\n  authority_host: {}\n  ca_file: {}\n",
            Azurite::ACCOUNT,
            azurite.url(),
            tokens.url(),
            ca.file().display()
        ),
    );
    assert!(!tokens.given().is_empty());
}

#[test]
fn google_as_nobody() {
    if !has_cloud_servers() {
        return;
    }
    let (place, gcs) = (Place::new(), Gcs::start());
    let bucket = gcs.bucket("bucket");
    (0..5).for_each(|file| bucket.put(&format!("in/{file} b.txt"), format!("content {file}")));
    run(&place, &format!("store:\n  type: gcs\n  bucket: bucket\n  endpoint: {}\n  anonymous: true\n", gcs.url()));
}
