//! From a place to a client of the library: which server, as whom, how patiently.

use std::env;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use fanfold_shared::uri::{Place, Uri};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder, split_sas};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, Certificate, ClientOptions, HeaderMap, HeaderValue, ObjectStore, RetryConfig};

use crate::datastores::{Access, Credential, Datastore};
use crate::error::NO_CREDENTIALS;
use crate::listing::Near;
use crate::patience::{Patient, silence};
use crate::put::Multipart;
use crate::{Datastores, Why};

/// For a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// From the first try of a request to the last, and how often it is tried again.
const RETRY: Duration = Duration::from_secs(60);
const RETRIES: usize = 5;

/// A place that can be asked.
pub(crate) struct Connected {
    pub store: Box<dyn ObjectStore>,
    /// As whom it is asked, and where that comes from.
    pub credentials: String,
    /// Of an address without a datastore nothing; of a datastore on a web server the folder its address names.
    pub base: String,
    /// It can list what it has.
    pub lists: bool,
    /// What of it writes in parts.
    pub multipart: Multipart,
    /// What was looked for last among what exists.
    pub near: Mutex<Option<Near>>,
}

impl Connected {
    fn new(store: impl ObjectStore, credentials: String, lists: bool, multipart: Multipart) -> Connected {
        let (base, near) = Default::default();
        Connected { store: Box::new(store), credentials, base, lists, multipart, near }
    }
}

type Refused = (Why, String);

/// Makes a client for `place`.
///
/// # Errors
/// Why not, and with which credentials it was tried.
pub(crate) fn connect(place: &Place, datastores: &Datastores) -> Result<Connected, Refused> {
    match place {
        Place::Datastore { name } => {
            let Some(datastore) = datastores.entries.get(name) else {
                return Err((Why::NoDatastore(datastores.missing(name)), NO_CREDENTIALS.into()));
            };
            let path = datastores.path.display();
            let credentials = match datastore.credential {
                Some(Credential::Anonymous) => format!("{NO_CREDENTIALS}, as datastore `{name}` says ({path})"),
                _ => format!("{} of datastore `{name}` ({path})", datastore.credential_text()),
            };
            named(datastore, credentials)
        }
        Place::S3 { bucket } => s3(AmazonS3Builder::from_env(), bucket, None, None),
        Place::Azure { container, host } => azure(MicrosoftAzureBuilder::from_env(), container, host.as_deref(), None),
        Place::Gcs { bucket } => gcs(GoogleCloudStorageBuilder::from_env(), bucket, None),
        Place::Http { origin } => http(origin, HeaderMap::new(), None, NO_CREDENTIALS.into()),
    }
}

fn options(ca_file: Option<&Path>, allow_http: bool) -> Result<ClientOptions, String> {
    let agent = HeaderValue::from_static(concat!("fanfold/", env!("CARGO_PKG_VERSION")));
    let mut options = ClientOptions::new()
        .with_user_agent(agent)
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(silence())
        .with_allow_http(allow_http);
    if let Some(path) = ca_file {
        let unusable = |why: String| format!("`ca_file` `{}` can't be used: {why}", path.display());
        let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unusable("it is no PEM".into()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate".into()));
        }
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY }
}

/// A datastore's own credentials, or those of the environment if it has none.
fn named(datastore: &Datastore, credentials: String) -> Result<Connected, Refused> {
    let ca_file = datastore.ca_file.as_deref();
    let from_env = datastore.credential.is_none();
    let refuse = |what: String| (Why::setup(what), credentials.clone());
    let mut connected = match &datastore.access {
        Access::S3 { bucket, region, endpoint, path_style } => {
            let mut builder = if from_env { AmazonS3Builder::from_env() } else { AmazonS3Builder::new() };
            if let Some(region) = region {
                builder = builder.with_region(region);
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(path_style) = path_style {
                builder = builder.with_virtual_hosted_style_request(!path_style);
            }
            match &datastore.credential {
                Some(Credential::Anonymous) => builder = builder.with_skip_signature(true),
                Some(Credential::AccessKey { access_key_id, secret_access_key, session_token }) => {
                    builder = builder
                        .with_access_key_id(access_key_id.expose().map_err(refuse)?)
                        .with_secret_access_key(secret_access_key.expose().map_err(refuse)?);
                    if let Some(token) = session_token {
                        builder = builder.with_token(token.expose().map_err(refuse)?);
                    }
                }
                _ => {}
            }
            s3(builder, bucket, ca_file, Some(credentials.clone()))?
        }
        Access::Azure { account, container, endpoint, .. } => {
            let mut builder = if from_env { MicrosoftAzureBuilder::from_env() } else { MicrosoftAzureBuilder::new() };
            builder = builder.with_account(account);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            match &datastore.credential {
                Some(Credential::Anonymous) => builder = builder.with_skip_signature(true),
                Some(Credential::AccountKey(key)) => builder = builder.with_access_key(key.expose().map_err(refuse)?),
                Some(Credential::Sas(sas)) => {
                    let sas = sas.expose().map_err(refuse)?;
                    let pairs = split_sas(&sas).map_err(|_| refuse("the shared access signature is none".into()))?;
                    builder = builder.with_sas_authorization(pairs);
                }
                Some(Credential::ServicePrincipal { tenant_id, client_id, client_secret, authority_host }) => {
                    let secret = client_secret.expose().map_err(refuse)?;
                    builder = builder.with_client_secret_authorization(client_id, secret, tenant_id);
                    if let Some(host) = authority_host {
                        builder = builder.with_authority_host(host);
                    }
                }
                _ => {}
            }
            azure(builder, container, None, Some((ca_file, credentials.clone())))?
        }
        Access::Gcs { bucket, endpoint } => {
            let mut builder =
                if from_env { GoogleCloudStorageBuilder::from_env() } else { GoogleCloudStorageBuilder::new() };
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint);
            }
            match &datastore.credential {
                Some(Credential::Anonymous) => builder = builder.with_skip_signature(true),
                Some(Credential::ServiceAccountFile(path)) => {
                    let text = fs::read_to_string(path).map_err(|error| {
                        refuse(format!("the service account in `{}` can't be read: {error}", path.display()))
                    })?;
                    builder = builder.with_service_account_key(text);
                }
                Some(Credential::ServiceAccount(secret)) => {
                    builder = builder.with_service_account_key(secret.expose().map_err(refuse)?);
                }
                _ => {}
            }
            gcs(builder, bucket, Some((ca_file, endpoint.as_deref(), credentials.clone())))?
        }
        Access::Http { url } => {
            let uri = Uri::parse(url).map_err(|error| refuse(format!("`url`: {error}")))?;
            let Place::Http { origin } = uri.place() else { return Err(refuse("`url` is no web server's".into())) };
            let mut headers = HeaderMap::new();
            let said = match &datastore.credential {
                Some(Credential::Token(token)) => Some(format!("Bearer {}", token.expose().map_err(refuse)?)),
                Some(Credential::Password { username, password }) => {
                    let pair = format!("{username}:{}", password.expose().map_err(refuse)?);
                    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
                }
                _ => None,
            };
            if let Some(said) = said {
                let mut value =
                    HeaderValue::from_str(&said).map_err(|_| refuse("the secret can't stand in a header".into()))?;
                value.set_sensitive(true);
                headers.insert("authorization", value);
            }
            let base = uri.path().to_string();
            Connected { base, ..http(origin, headers, ca_file, credentials.clone())? }
        }
    };
    connected.credentials = credentials;
    Ok(connected)
}

fn s3(
    builder: AmazonS3Builder,
    bucket: &str,
    ca_file: Option<&Path>,
    credentials: Option<String>,
) -> Result<Connected, Refused> {
    let credentials = credentials.unwrap_or_else(|| match builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId) {
        Some(_) => "$AWS_ACCESS_KEY_ID of the environment".into(),
        None if builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).as_deref() == Some("true") => {
            format!("{NO_CREDENTIALS} ($AWS_SKIP_SIGNATURE)")
        }
        None => "what the machine itself is allowed, as $AWS_ACCESS_KEY_ID is not set".to_string(),
    });
    let refuse = |what: String| (Why::setup(what), credentials.clone());
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let options = options(ca_file, allow_http).map_err(refuse)?;
    let builder = builder
        .with_bucket_name(bucket)
        .with_client_options(options.clone())
        .with_http_connector(Patient)
        .with_retry(retry());
    let store = builder.clone().build().map_err(|error| refuse(unusable(&error)))?;
    let multipart =
        Multipart::S3 { store: Box::new(store.clone()), builder: Box::new(builder), options: Box::new(options) };
    Ok(Connected::new(store, credentials, true, multipart))
}

fn azure(
    mut builder: MicrosoftAzureBuilder,
    container: &str,
    host: Option<&str>,
    named: Option<(Option<&Path>, String)>,
) -> Result<Connected, Refused> {
    if let Some(host) = host {
        let (account, suffix) = host.split_once('.').unwrap_or((host, ""));
        builder = builder.with_account(account);
        if suffix != "dfs.core.windows.net" && builder.get_config_value(&AzureConfigKey::Endpoint).is_none() {
            // A cloud of its own: China, governments.
            builder = builder.with_endpoint(format!("https://{account}.{}", suffix.replacen("dfs.", "blob.", 1)));
        }
    }
    let (ca_file, credentials) = match named {
        Some((ca_file, credentials)) => (ca_file, credentials),
        None => {
            let set = |key: AzureConfigKey| builder.get_config_value(&key).is_some();
            let credentials = if set(AzureConfigKey::AccessKey) {
                "$AZURE_STORAGE_ACCOUNT_KEY of the environment"
            } else if set(AzureConfigKey::ClientSecret) {
                "$AZURE_STORAGE_CLIENT_SECRET of the environment"
            } else if set(AzureConfigKey::SasKey) {
                "$AZURE_STORAGE_SAS_KEY of the environment"
            } else if builder.get_config_value(&AzureConfigKey::SkipSignature).as_deref() == Some("true") {
                &format!("{NO_CREDENTIALS} ($AZURE_SKIP_SIGNATURE)")
            } else {
                "what the machine itself is allowed, as $AZURE_STORAGE_ACCOUNT_KEY is not set"
            };
            (None, credentials.to_string())
        }
    };
    let refuse = |what: String| (Why::setup(what), credentials.clone());
    let plain = |key| builder.get_config_value(&key).is_some_and(|url| url.starts_with("http://"));
    let emulator = builder.get_config_value(&AzureConfigKey::UseEmulator).as_deref() == Some("true");
    let allow_http = emulator || plain(AzureConfigKey::Endpoint) || plain(AzureConfigKey::AuthorityHost);
    let builder = builder
        .with_container_name(container)
        .with_client_options(options(ca_file, allow_http).map_err(refuse)?)
        .with_http_connector(Patient)
        .with_retry(retry());
    let store = builder.clone().build().map_err(|error| refuse(unusable(&error)))?;
    let multipart = Multipart::Azure { store: Box::new(store.clone()), builder: Box::new(builder) };
    Ok(Connected::new(store, credentials, true, multipart))
}

type NamedGcs<'a> = (Option<&'a Path>, Option<&'a str>, String);

fn gcs(builder: GoogleCloudStorageBuilder, bucket: &str, named: Option<NamedGcs<'_>>) -> Result<Connected, Refused> {
    let (ca_file, endpoint, credentials) = named.unwrap_or_else(|| {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let credentials = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"]
            .into_iter()
            .find(|name| set(name))
            .map_or(
                "what the machine itself is allowed, as $GOOGLE_APPLICATION_CREDENTIALS is not set".into(),
                |name| format!("${name} of the environment"),
            );
        (None, None, credentials)
    });
    let refuse = |what: String| (Why::setup(what), credentials.clone());
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let builder = builder
        .with_bucket_name(bucket)
        .with_client_options(options(ca_file, allow_http).map_err(refuse)?)
        .with_http_connector(Patient)
        .with_retry(retry());
    let store = builder.build().map_err(|error| refuse(unusable(&error)))?;
    let multipart = Multipart::Gcs(Box::new(store.clone()));
    Ok(Connected::new(store, credentials, true, multipart))
}

fn http(origin: &str, headers: HeaderMap, ca_file: Option<&Path>, credentials: String) -> Result<Connected, Refused> {
    let refuse = |what: String| (Why::setup(what), credentials.clone());
    let allow_http = origin.starts_with("http://");
    let options = options(ca_file, allow_http).map_err(refuse)?.with_default_headers(headers);
    let builder = HttpBuilder::new().with_url(origin).with_client_options(options).with_retry(retry());
    let store = builder.build().map_err(|error| refuse(unusable(&error)))?;
    Ok(Connected::new(store, credentials, false, Multipart::None))
}

/// What the library says of a setting. Its words may hold what was set, so only its first ones count: they name the setting.
fn unusable(error: &object_store::Error) -> String {
    let text = error.to_string();
    for (words, say) in [
        ("Missing bucket", "no bucket is named"),
        ("Missing SecretAccessKey", "AWS_SECRET_ACCESS_KEY is not set, AWS_ACCESS_KEY_ID is"),
        ("Missing AccessKeyId", "AWS_ACCESS_KEY_ID is not set, AWS_SECRET_ACCESS_KEY is"),
        (
            "Account must be specified",
            "no account is named: write abfss://<container>@<account>.dfs.core.windows.net/…, \
                                       or set AZURE_STORAGE_ACCOUNT_NAME",
        ),
        ("Container name must be specified", "no container is named"),
        ("decode", "the key can't be decoded: is it whole?"),
        ("base64", "the key can't be decoded: is it whole?"),
        ("SAS", "the shared access signature can't be read"),
        ("service account", "the service account can't be read"),
        ("Unable to parse", "an address in its settings is none"),
    ] {
        if text.contains(words) {
            return say.into();
        }
    }
    "its settings can't be used".into()
}
