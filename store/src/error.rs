//! What can go wrong with an object: what, at which address, why, with which credentials. Never a secret, and never what a library said about a
//! request: that may hold one.

use std::fmt;

use fanfold_shared::report::{ExitCode, Report};
use fanfold_shared::uri::Uri;

/// Something in the cloud could not be done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} `{uri}`: {why}")]
pub struct StoreError {
    /// What was tried, as a verb: `read`, `list`.
    pub operation: &'static str,
    /// On what.
    pub uri: Box<Uri>,
    /// Why not.
    pub why: Why,
    /// The credentials that were used, and where they came from: `the account key of datastore `images``.
    pub credentials: Box<str>,
    /// Something near that does exist, if it was looked for.
    pub near: Option<String>,
}

/// What `credentials` begin with where there are none.
pub(crate) const NO_CREDENTIALS: &str = "no credentials";

/// `asked with the account key of …`, or `asked without credentials`.
pub fn asked(credentials: &str) -> String {
    match credentials.strip_prefix(NO_CREDENTIALS) {
        Some(why) => format!("asked without credentials{why}"),
        None => format!("asked with {credentials}"),
    }
}

/// Why an object can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no such object, bucket or container; what the server says beyond that.
    Missing(String),
    /// The credentials do not allow it (403).
    Denied(String),
    /// The credentials are not accepted, or there are none (401).
    Unauthenticated(String),
    /// It is not what it was when it was listed.
    Changed(String),
    /// There is one already.
    Exists,
    /// The name of the server is not known.
    NoSuchHost(String),
    /// No encrypted connection: a certificate nobody vouches for, as a rule.
    Tls(String),
    /// Nobody answers there.
    Unreachable(String),
    /// No answer in time.
    TimedOut(String),
    /// The server failed, over all tries: its status and what it said.
    Server(u16, String),
    /// No request can be made like this: what is wrong with the credentials or the address.
    Setup(String),
    /// The server sends whole files only: it takes no notice of `Range`.
    NoParts,
    /// No datastore is called so; those there are.
    NoDatastore(String),
    /// This program was built without the feature `cloud`.
    NotBuilt,
    /// Whoever asked waits no longer.
    Stopped,
    /// Anything else.
    Other(String),
}

impl Why {
    /// Whether it would be the same if it were tried again in a moment.
    pub fn is_final(&self) -> bool {
        !matches!(self, Why::Unreachable(_) | Why::TimedOut(_) | Why::Server(..) | Why::NoSuchHost(_) | Why::Other(_))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = |f: &mut fmt::Formatter<'_>, what: &str, said: &str| match said {
            "" => f.write_str(what),
            said => write!(f, "{what} ({said})"),
        };
        match self {
            Why::Missing(said) => more(f, "it does not exist", said),
            Why::Denied(said) => more(f, "access is denied", said),
            Why::Unauthenticated(said) => more(f, "the credentials are not accepted", said),
            Why::Changed(how) => write!(f, "changed since the job listed it: {how}"),
            Why::Exists => f.write_str("it exists already"),
            Why::NoSuchHost(said) => more(f, "its server is not known", said),
            Why::Tls(said) => more(f, "no secure connection", said),
            Why::Unreachable(said) => more(f, "its server can't be reached", said),
            Why::TimedOut(said) => more(f, "no answer in time", said),
            Why::Server(status, said) => more(f, &format!("the server answers {status}"), said),
            Why::Setup(what) => f.write_str(what),
            Why::NoParts => f.write_str("its server sends whole files only, and no parts of them (`Range`)"),
            Why::NoDatastore(_) => f.write_str("no datastore is called so"),
            Why::NotBuilt => f.write_str("this program was built without the cloud"),
            Why::Stopped => f.write_str("nobody waited for the answer"),
            Why::Other(said) => f.write_str(said),
        }
    }
}

impl Report for StoreError {
    fn exit_code(&self) -> ExitCode {
        match self.why {
            Why::NoSuchHost(_) | Why::Unreachable(_) | Why::TimedOut(_) | Why::Server(..) | Why::Other(_) => {
                ExitCode::Failed
            }
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let credentials = &self.credentials;
        Some(match &self.why {
            Why::Missing(_) => self.near.clone().unwrap_or_else(|| asked(credentials)),
            Why::Denied(_) | Why::Unauthenticated(_) if credentials.starts_with(NO_CREDENTIALS) => format!(
                "{}, and not everybody may: describe some in the file of datastores (`fanfold datastore list` says where it lies)",
                asked(credentials)
            ),
            Why::Denied(_) | Why::Unauthenticated(_) => format!(
                "asked with {credentials}: have they the right to {} there, and are they still valid? Other \
                 ones belong in the file of datastores (`fanfold datastore check NAME` tries them) or in the environment",
                if self.operation == "write" { "write" } else { "read and list" }
            ),
            Why::Changed(_) => "write what changes under a new name; run the job anew to take it as it is now".into(),
            Why::Exists => "choose another name".into(),
            Why::NoSuchHost(_) => "check the spelling of account, bucket and endpoint, and the name service".into(),
            Why::Tls(_) => "a server with an authority of its own: `ca_file` in its datastore, or the system's \
                            certificates (`SSL_CERT_FILE`)"
                .into(),
            Why::Unreachable(_) | Why::TimedOut(_) | Why::Server(..) => {
                "it was tried several times; check the network, a proxy (`HTTPS_PROXY`), and the state of the service"
                    .into()
            }
            Why::Setup(_) => format!("it was to be {}", asked(credentials)),
            Why::NoParts => {
                "serve it with a server that knows ranges, put it into an object store, or copy it to this machine"
                    .into()
            }
            Why::NoDatastore(there) => there.clone(),
            Why::NotBuilt => {
                "build it with `--features cloud` (`cargo install --path coordinator --features cloud`), and so the \
                 workers; or copy the data to this machine"
                    .into()
            }
            Why::Stopped | Why::Other(_) => return None,
        })
    }
}
