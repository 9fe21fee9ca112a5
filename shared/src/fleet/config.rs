//! Where broker and Redis are, and how to prove who we are: from options, the environment or files; never printed.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// Where a server is, with user and password in it. Its `Debug` and `Display` leave those out.
#[derive(Clone)]
pub struct ServerUrl {
    secret: SecretString,
    shown: String,
}

/// How to reach RabbitMQ and Redis.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// `amqp://user:password@host:5672/vhost` or `amqps://…`
    pub broker: ServerUrl,
    /// `redis://user:password@host:6379/0` or `rediss://…`
    pub redis: ServerUrl,
    /// For TLS.
    pub tls: TlsFiles,
    /// What the connections are called: `fanfold/<role>/<host>/<pid>`.
    pub name: String,
}

/// PEM files for TLS; all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate chain and key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Why a connection failed, with the file that decided who is trusted, if that is what failed.
    pub fn explain(&self, why: String) -> String {
        match &self.ca {
            Some(ca) if is_of_certificates(&why) => {
                format!("{why}; only the authorities in `{}` are trusted", ca.display())
            }
            None if is_of_certificates(&why) => format!("{why}; the authorities of this system are trusted"),
            _ => why,
        }
    }
}

/// Whether a reason speaks of certificates; libraries spell it as they like.
pub fn is_of_certificates(why: &str) -> bool {
    ["ertificate", "UnknownCA", "UnknownIssuer"].iter().any(|word| why.contains(word))
}

/// Why a URL can't be one of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has no valid address: {why}")]
pub struct UrlError {
    /// `the broker`, `Redis`.
    pub what: &'static str,
    /// What is wrong; never shows the URL, which may hold a password.
    pub why: String,
}

impl ServerUrl {
    /// Reads the URL of `what`, whose scheme must be one of `schemes`.
    ///
    /// # Errors
    /// It is no URL, has another scheme or no host.
    pub fn parse(what: &'static str, text: &str, schemes: &[&str]) -> Result<ServerUrl, UrlError> {
        let wrong = |why: String| UrlError { what, why };
        let url = url::Url::parse(text.trim()).map_err(|error| wrong(error.to_string()))?;
        if !schemes.contains(&url.scheme()) {
            return Err(wrong(format!(
                "it begins with `{}://`, not with `{}://`",
                url.scheme(),
                schemes.join("://` or `")
            )));
        }
        // A password with a `/`, `?` or `#` in it: what seems to be the rest of the address is a part of the password.
        let rest = [Some(url.path()), url.query(), url.fragment()];
        if rest.into_iter().flatten().any(|part| part.contains('@')) {
            return Err(wrong("there is an `@` after the host; write `/` in a user or password as %2F, `?` as %3F, `#` as %23, `@` as %40".into()));
        }
        let Some(host) = url.host_str() else { return Err(wrong("it names no host".into())) };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{}://{host}{port}{}", url.scheme(), url.path());
        Ok(ServerUrl { secret: SecretString::from(text.trim().to_string()), shown })
    }

    /// The whole URL, for the client library alone.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Whether it asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.shown.starts_with("amqps:") || self.shown.starts_with("rediss:") || self.shown.starts_with("https:")
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({})", self.shown)
    }
}
