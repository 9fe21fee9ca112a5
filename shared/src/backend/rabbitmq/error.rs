//! Why the broker can't be used, and what to do about it.

use crate::backend::Closed;
use crate::fleet::config::is_of_certificates;
use crate::report::{ExitCode, Report};

/// Why the broker can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It does not answer, or closes the connection.
    #[error("cannot {doing} at {url}: {why}")]
    Unreachable {
        /// What was tried: `connect to the broker`.
        doing: &'static str,
        /// Where, without credentials.
        url: String,
        /// The library's reason.
        why: String,
    },
    /// It refuses our user or password, the virtual host, or an operation.
    #[error("the broker at {url} refuses: {why}")]
    Refused {
        /// Where, without credentials.
        url: String,
        /// The broker's words.
        why: String,
    },
    /// A certificate file can't be read, or is none.
    #[error("cannot use `{}` for TLS: {why}", path.display())]
    Tls {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// [`Broker::close`] was called.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl BrokerError {
    /// Why, without what was tried and where.
    pub(super) fn reason(&self) -> String {
        match self {
            BrokerError::Unreachable { why, .. } | BrokerError::Refused { why, .. } | BrokerError::Tls { why, .. } => {
                why.clone()
            }
            BrokerError::Closed(closed) => closed.to_string(),
        }
    }
}

impl Report for BrokerError {
    fn exit_code(&self) -> ExitCode {
        match self {
            BrokerError::Tls { .. } => ExitCode::Usage,
            _ => ExitCode::Unreachable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            BrokerError::Unreachable { why, .. } if is_of_certificates(why) => {
                Some(
                    "set FANFOLD_CA to a PEM file with the authority that signed the broker's certificate; where the broker asks for one \
                     of ours, FANFOLD_CERT and FANFOLD_KEY".into(),
                )
            }
            // The broker says why and hangs up; which of the two arrives is chance.
            BrokerError::Unreachable { url, why, .. } if url.to_string().starts_with("amqps") && why.contains("reset") => {
                Some(
                    "the broker hung up: does it speak TLS at this port, and does it ask for a certificate of ours (FANFOLD_CERT and FANFOLD_KEY)? \
                     FANFOLD_CA is the authority that signed its own".into(),
                )
            }
            BrokerError::Unreachable { .. } => {
                Some("is RabbitMQ running, and are host and port in `--broker` or FANFOLD_BROKER right?".into())
            }
            BrokerError::Refused { why, .. } if why.contains("password") => Some(
                "check user and password in `--broker` or FANFOLD_BROKER; `guest` is let in from the broker's own host only".into(),
            ),
            BrokerError::Refused { .. } => {
                Some("check virtual host and permissions of that user: `rabbitmqctl list_permissions`".into())
            }
            BrokerError::Tls { .. } => Some("it must be a file in PEM form that this program can read".into()),
            BrokerError::Closed(_) => None,
        }
    }
}
