//! Where broker and Redis are: an option, else a file that the environment names, else the environment. A file is to be
//! preferred, as everybody may read the options of a program.

use std::path::{Path, PathBuf};

use fanfold_shared::fleet::config::{ServerUrl, TlsFiles, UrlError};
use fanfold_shared::report::{During, ExitCode, IoError, Report};

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

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
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

impl Report for AddressError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            AddressError::Missing(server) => Some(format!(
                "set {}_FILE to the path of a file with it, or {} or `{}` to an address like {}",
                server.variable, server.variable, server.option, server.example
            )),
            AddressError::Url { server, .. } => Some(format!("it should look like {}", server.example)),
            AddressError::Io(error) => error.hint(),
            AddressError::HalfIdentity => None,
        }
    }
}

/// The address of `server`; `given` is the option's.
///
/// # Errors
/// There is none, or none that can be one.
pub fn of(
    server: Server,
    given: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ServerUrl, AddressError> {
    let text = match (given, variable(&format!("{}_FILE", server.variable))) {
        (Some(given), _) => given.to_string(),
        (None, Some(file)) => std::fs::read_to_string(Path::new(&file)).during("read", &file)?,
        (None, None) => variable(server.variable).ok_or(AddressError::Missing(server))?,
    };
    ServerUrl::parse(server.what, &text, server.schemes).map_err(|error| AddressError::Url { error, server })
}

/// The files for TLS: `FANFOLD_CA`, `FANFOLD_CERT` and `FANFOLD_KEY`.
///
/// # Errors
/// A certificate without key.
pub fn tls(variable: impl Fn(&str) -> Option<String>) -> Result<TlsFiles, AddressError> {
    let path = |name| variable(name).map(PathBuf::from);
    let identity = match (path("FANFOLD_CERT"), path("FANFOLD_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(AddressError::HalfIdentity),
    };
    Ok(TlsFiles { ca: path("FANFOLD_CA"), identity })
}

/// A variable of the environment; empty is as good as none.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_goes_before_a_file_and_a_file_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker");
        std::fs::write(&file, "amqp://u:secret@from-file/\n").unwrap();
        let file = file.to_str().unwrap().to_string();
        let with_file = |name: &str| match name {
            "FANFOLD_BROKER_FILE" => Some(file.clone()),
            "FANFOLD_BROKER" => Some("amqp://from-environment/".to_string()),
            _ => None,
        };
        let shown = |given| of(BROKER, given, with_file).unwrap().to_string();
        assert_eq!(shown(Some("amqps://from-option/")), "amqps://from-option/");
        assert_eq!(shown(None), "amqp://from-file/");
        let only = |name: &str| (name == "FANFOLD_REDIS").then(|| "redis://from-environment/0".to_string());
        assert_eq!(of(REDIS, None, only).unwrap().to_string(), "redis://from-environment/0");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let error = of(BROKER, Some("http://u:canary@host/"), |_| None).unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("canary"));
        let error = of(REDIS, None, |_| None).unwrap_err();
        assert!(error.hint().unwrap().contains("FANFOLD_REDIS_FILE"));
    }
}
