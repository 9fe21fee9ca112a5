//! The service over HTTP, as the verbs see it: how to prove who asks, and what it answers.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfold_shared::fleet::config::{ServerUrl, TlsFiles, UrlError, is_of_certificates};
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_worker::fleet::secrets;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, http};

use crate::api::{END, Envelope};
use crate::view::StatusView;

/// To connect, and to be answered.
const LIMIT: Duration = Duration::from_secs(30);
/// Where systems keep the authorities that they trust.
const SYSTEM_CA: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A service.
pub struct Client {
    url: String,
    token: Option<SecretString>,
    tls: TlsFiles,
    agent: Agent,
}

/// Why the service gave no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Nobody answers.
    #[error("cannot reach the service at {url}: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// It says no.
    #[error("{message}")]
    Refused {
        /// HTTP.
        status: u16,
        /// For programs.
        code: String,
        /// What is wrong, in its words.
        message: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// It is another program.
    #[error("what answers at {url} is no fanfold service: {why}")]
    Stranger {
        /// Where.
        url: String,
        /// What it said.
        why: String,
    },
    /// Certificates can't be read.
    #[error("`{}` holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The verb is about a service, and none is named.
    #[error("`fanfold {0}` asks a service, and none is named")]
    NoService(&'static str),
}

impl Report for ClientError {
    fn exit_code(&self) -> ExitCode {
        match self {
            ClientError::Unreachable { .. } | ClientError::Stranger { .. } => ExitCode::Unreachable,
            ClientError::Refused { status: 503, .. } => ExitCode::Unreachable,
            ClientError::Refused { status: 500.., .. } => ExitCode::Failed,
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ClientError::Url(_) => Some("an address looks like http://127.0.0.1:7070".into()),
            ClientError::Unreachable { why, .. } if is_of_certificates(why) => Some(
                "give `--ca` (FANFOLD_CA) a PEM file with the authority that signed the service's certificate".into(),
            ),
            ClientError::Unreachable { .. } => {
                Some("`fanfold serve` starts one; see to `--service` (FANFOLD_SERVICE), and to `--ca` for https".into())
            }
            ClientError::Stranger { .. } => Some("see to `--service` (FANFOLD_SERVICE)".into()),
            ClientError::Refused { hint, .. } => hint.clone(),
            ClientError::NoCertificate(_) => Some("give `--ca` a PEM file with the authorities to trust".into()),
            ClientError::NoService(_) => Some("give `--service http://127.0.0.1:7070`, or set FANFOLD_SERVICE".into()),
        }
    }
}

impl Client {
    /// The service at `url`, with the token that the environment names.
    ///
    /// # Errors
    /// The address, the token's file or the authorities can't be used.
    pub fn new(url: &str, ca: Option<&Path>) -> Result<Client> {
        let parsed = ServerUrl::parse("the service", url, &["http", "https"]).map_err(ClientError::from)?;
        let token = match std::env::var("FANFOLD_TOKEN").ok().filter(|token| !token.is_empty()) {
            Some(token) => {
                // A script on this host may run as the same user.
                secrets::keep();
                Some(token)
            }
            None => match std::env::var_os("FANFOLD_TOKEN_FILE").filter(|path| !path.is_empty()) {
                Some(path) => Some(std::fs::read_to_string(&path).during("read", Path::new(&path))?),
                None => None,
            },
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("fanfold/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(LIMIT))
            .timeout_recv_response(Some(LIMIT));
        if parsed.is_tls() {
            crate::api::install_crypto();
            config = config.tls_config(TlsConfig::builder().root_certs(authorities(ca)?).build());
        }
        Ok(Client {
            url: parsed.to_string().trim_end_matches('/').to_string(),
            token: token.map(|token| SecretString::from(token.trim().to_string())),
            tls: TlsFiles { ca: parsed.is_tls().then(|| ca.map(Path::to_path_buf)).flatten(), identity: None },
            agent: config.build().into(),
        })
    }

    fn address(&self, path: &[&str], query: &[(&str, &str)]) -> String {
        let mut url = url::Url::parse(&self.url).expect("it was read before");
        // `http` and `https` have paths.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url.to_string()
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_ref().map_or("", |token| token.expose_secret()))
    }

    /// The answer, if it is a good one.
    fn answer(&self, sent: Result<http::Response<Body>, ureq::Error>) -> Result<http::Response<Body>, ClientError> {
        let mut response = sent.map_err(|error| ClientError::Unreachable {
            url: self.url.clone(),
            why: self.tls.explain(error.to_string()),
        })?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        match serde_json::from_str::<Envelope>(&text) {
            Ok(Envelope { error }) => {
                Err(ClientError::Refused { status, code: error.code, message: error.message, hint: error.hint })
            }
            Err(_) => Err(self.stranger(format!("it answers with status {status}"))),
        }
    }

    fn get_response(&self, path: &[&str], query: &[(&str, &str)]) -> Result<http::Response<Body>, ClientError> {
        let mut request = self.agent.get(self.address(path, query));
        if self.token.is_some() {
            request = request.header("authorization", self.bearer());
        }
        self.answer(request.call())
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, ClientError> {
        self.read(self.get_response(path, query)?)
    }

    fn read<T: DeserializeOwned>(&self, mut response: http::Response<Body>) -> Result<T, ClientError> {
        let stranger = |why: String| self.stranger(why);
        // A list of a hundred thousand jobs is some 30 MB.
        let text = response
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_string()
            .map_err(|error| stranger(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| stranger(error.to_string()))
    }

    /// An answer in JSON as what it should be.
    ///
    /// # Errors
    /// It is something else.
    pub fn understand<T: DeserializeOwned>(&self, answer: Value) -> Result<T, ClientError> {
        serde_json::from_value(answer).map_err(|error| self.stranger(error.to_string()))
    }

    fn stranger(&self, why: String) -> ClientError {
        ClientError::Stranger { url: self.url.clone(), why }
    }

    /// Asks for bytes, as they come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn stream(&self, path: &[&str], query: &[(&str, &str)]) -> Result<impl Read + use<>, ClientError> {
        Ok(bytes(self.get_response(path, query)?))
    }

    /// [`Client::stream`] of a file that grows, and how long it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn stream_to_end(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(impl Read + use<>, u64), ClientError> {
        let response = self.get_response(path, query)?;
        let end = response.headers().get(END).and_then(|end| end.to_str().ok()?.parse().ok());
        let end = end.ok_or_else(|| self.stranger(format!("its answer has no header `{END}`")))?;
        Ok((bytes(response), end))
    }

    /// Orders something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let mut request = self.agent.post(self.address(path, &[])).header("content-type", "application/json");
        if self.token.is_some() {
            request = request.header("authorization", self.bearer());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.read(self.answer(request.send(serde_json::to_vec(body).expect("plain types can be written")))?)
    }

    /// A job's status.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&self, job: &str) -> Result<StatusView> {
        self.view(self.get::<Value>(&["v1", "jobs", job], &[])?)
    }

    /// An order to a job, answered with its status.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn order(&self, job: &str, verb: &str, body: &impl Serialize) -> Result<StatusView> {
        self.view(self.post::<Value>(&["v1", "jobs", job, verb], None, body)?)
    }

    /// As [`Client::order`], a retry with the script as it is now: also the number of the copy that was taken. None: the script is what it was.
    ///
    /// # Errors
    /// As there.
    pub fn retry_with_new_script(&self, job: &str, body: &impl Serialize) -> Result<(StatusView, Option<u64>)> {
        let answer = self.post::<Value>(&["v1", "jobs", job, "retry"], None, body)?;
        let taken = answer["new_script"].as_u64();
        Ok((self.view(answer)?, taken))
    }

    fn view(&self, value: Value) -> Result<StatusView> {
        Ok(StatusView::from_json(value).map_err(|error| self.stranger(error.to_string()))?)
    }
}

fn bytes(response: http::Response<Body>) -> impl Read {
    response.into_body().into_with_config().limit(u64::MAX).reader()
}

/// The authorities in `ca`, else the system's.
fn authorities(ca: Option<&Path>) -> Result<RootCerts> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let system = || named.into_iter().chain(SYSTEM_CA.map(PathBuf::from)).find(|path| path.exists());
    let path = ca.map(Path::to_path_buf).or_else(system).unwrap_or_else(|| SYSTEM_CA[0].into());
    let pem = std::fs::read(&path).during("read", &path)?;
    let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(ClientError::NoCertificate(path).into());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_made_of_their_parts() {
        let client = Client::new("http://127.0.0.1:7070/", None).unwrap();
        assert_eq!(
            client.address(&["v1", "jobs", "a b/../c"], &[("kind", "o&m")]),
            "http://127.0.0.1:7070/v1/jobs/a%20b%2F..%2Fc?kind=o%26m"
        );
        let behind = Client::new("http://proxy/fanfold", None).unwrap();
        assert_eq!(behind.address(&["v1", "jobs"], &[]), "http://proxy/fanfold/v1/jobs");
        assert!(Client::new("amqp://x", None).is_err());
    }
}
