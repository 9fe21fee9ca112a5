//! Where broker and Redis are, and how to prove who we are: an option, else a file that the environment names, else the environment. A
//! file is to be preferred, as everybody may read the options of a program. Nothing of it is ever printed.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::report::{During, ExitCode, IoError, Report};

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

/// One of the two servers.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// What it is called in errors.
    pub what: &'static str,
    /// The option, for hints.
    pub option: &'static str,
    /// The variable that holds the address; with `_FILE`, the path of a file that does.
    pub variable: &'static str,
    /// The schemes of its addresses.
    pub schemes: &'static [&'static str],
    /// An address, for hints.
    pub example: &'static str,
}

/// RabbitMQ.
pub const BROKER: Server = Server {
    what: "the broker",
    option: "--broker",
    variable: "FANFOLD_BROKER",
    schemes: &["amqp", "amqps"],
    example: "amqp://user:password@host:5672/",
};

/// Redis.
pub const REDIS: Server = Server {
    what: "Redis",
    option: "--redis",
    variable: "FANFOLD_REDIS",
    schemes: &["redis", "rediss"],
    example: "redis://:password@host:6379/0",
};

/// Why it is not known how to reach the servers.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nobody said where.
    #[error("the address of {} is not known", .0.what)]
    Missing(Server),
    /// It is none.
    #[error("{error}")]
    Url {
        /// What is wrong.
        error: UrlError,
        /// Of which server.
        server: Server,
    },
    /// The file can't be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A certificate without its key, or the other way round.
    #[error("a client certificate needs both FANFOLD_CERT and FANFOLD_KEY")]
    HalfIdentity,
}

impl Report for ConfigError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Missing(server) => Some(format!(
                "set {}_FILE to the path of a file with it, or {} or `{}` to an address like {}",
                server.variable, server.variable, server.option, server.example
            )),
            ConfigError::Url { server, .. } => Some(format!("it should look like {}", server.example)),
            ConfigError::Io(error) => error.hint(),
            ConfigError::HalfIdentity => None,
        }
    }
}

impl FleetConfig {
    /// Reads it. `broker` and `redis` are the options' values, `variable` looks into the environment: see [`environment`].
    ///
    /// # Errors
    /// An address is missing or is none, a file can't be read, or a certificate has no key.
    pub fn read(
        broker: Option<&str>,
        redis: Option<&str>,
        name: String,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<FleetConfig, ConfigError> {
        Ok(FleetConfig {
            broker: BROKER.url(broker, &variable)?,
            redis: REDIS.url(redis, &variable)?,
            tls: TlsFiles::read(&variable)?,
            name,
        })
    }

    /// Whether the environment names one of the servers.
    pub fn is_named(variable: impl Fn(&str) -> Option<String>) -> bool {
        [BROKER, REDIS].iter().any(|server| {
            [server.variable.to_string(), server.file_variable()].iter().any(|name| variable(name).is_some())
        })
    }
}

impl Server {
    fn file_variable(&self) -> String {
        format!("{}_FILE", self.variable)
    }

    /// Its address; `given` is the option's.
    fn url(self, given: Option<&str>, variable: &impl Fn(&str) -> Option<String>) -> Result<ServerUrl, ConfigError> {
        let text = match (given, variable(&self.file_variable())) {
            (Some(given), _) => given.to_string(),
            (None, Some(file)) => std::fs::read_to_string(Path::new(&file)).during("read", &file)?,
            (None, None) => variable(self.variable).ok_or(ConfigError::Missing(self))?,
        };
        ServerUrl::parse(self.what, &text, self.schemes).map_err(|error| ConfigError::Url { error, server: self })
    }
}

impl TlsFiles {
    /// `FANFOLD_CA`, `FANFOLD_CERT` and `FANFOLD_KEY`.
    fn read(variable: &impl Fn(&str) -> Option<String>) -> Result<TlsFiles, ConfigError> {
        let path = |name| variable(name).map(PathBuf::from);
        let identity = match (path("FANFOLD_CERT"), path("FANFOLD_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(ConfigError::HalfIdentity),
        };
        Ok(TlsFiles { ca: path("FANFOLD_CA"), identity })
    }
}

/// A variable of the environment; empty is as good as none.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(broker: Option<&str>, set: &[(&str, &str)]) -> Result<FleetConfig, ConfigError> {
        let find = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        FleetConfig::read(broker, None, "fanfold/test".into(), find)
    }

    #[test]
    fn an_option_goes_before_a_file_and_a_file_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker");
        std::fs::write(&file, "amqp://u:secret@from-file/\n").unwrap();
        let set = [
            ("FANFOLD_BROKER_FILE", file.to_str().unwrap()),
            ("FANFOLD_BROKER", "amqp://from-environment/"),
            ("FANFOLD_REDIS", "redis://from-environment/0"),
        ];
        let shown = |given, set: &[_]| read(given, set).unwrap().broker.to_string();
        assert_eq!(shown(Some("amqps://from-option/"), &set), "amqps://from-option/");
        assert_eq!(shown(None, &set), "amqp://from-file/");
        assert_eq!(shown(None, &set[1..]), "amqp://from-environment/");
        assert_eq!(read(None, &set).unwrap().redis.to_string(), "redis://from-environment/0");
        assert!(FleetConfig::is_named(|name| (name == "FANFOLD_REDIS_FILE").then(String::new)));
        assert!(!FleetConfig::is_named(|_| None));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let error = read(Some("http://u:canary@host/"), &[]).unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("canary"));
        let error = read(Some("amqp://host/"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "the address of Redis is not known");
        assert!(error.hint().unwrap().contains("FANFOLD_REDIS_FILE"));
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let servers = [("FANFOLD_BROKER", "amqps://host/"), ("FANFOLD_REDIS", "rediss://host/")];
        let with = |more: &[(&'static str, &'static str)]| read(None, &[&servers, more].concat());
        let tls = with(&[("FANFOLD_CA", "ca"), ("FANFOLD_CERT", "cert"), ("FANFOLD_KEY", "key")]).unwrap().tls;
        assert_eq!(tls, TlsFiles { ca: Some("ca".into()), identity: Some(("cert".into(), "key".into())) });
        assert!(matches!(with(&[("FANFOLD_CERT", "cert")]), Err(ConfigError::HalfIdentity)));
    }
}
