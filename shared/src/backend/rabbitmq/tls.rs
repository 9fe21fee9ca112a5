//! Whom we trust, and who we are. The library's own configuration can only add authorities to the system's; ours are instead of them.

use std::path::Path;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{BrokerConfig, BrokerError};

/// Reads the files once, so that a wrong one is told at the start. None: the address asks for no TLS.
pub(super) fn connector(config: &BrokerConfig) -> Result<Option<RustlsConnector>, BrokerError> {
    if !config.url.is_tls() {
        return Ok(None);
    }
    let wrong = |path: &Path, why: String| BrokerError::Tls { path: path.to_path_buf(), why };
    let trusted = match &config.tls.ca {
        Some(path) => RustlsConnectorConfig::default().with_parsable_certificates(certificates(path)?),
        None => RustlsConnectorConfig::new_with_native_certs()
            .map_err(|error| wrong(Path::new("the system's certificates"), error.to_string()))?,
    };
    let connector = match &config.tls.identity {
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| wrong(key, error.to_string()))?;
            trusted
                .connector_with_single_cert(certificates(certificate)?, private)
                .map_err(|error| wrong(certificate, error.to_string()))?
        }
        None => trusted.connector_with_no_client_auth().map_err(|error| BrokerError::Unreachable {
            doing: "prepare TLS for the broker",
            url: config.url.to_string(),
            why: error.to_string(),
        })?,
    };
    Ok(Some(connector))
}

fn read(path: &Path) -> Result<Vec<u8>, BrokerError> {
    std::fs::read(path).map_err(|error| BrokerError::Tls { path: path.to_path_buf(), why: error.to_string() })
}

/// The certificates of a file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let wrong = |why: String| BrokerError::Tls { path: path.to_path_buf(), why };
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() { Err(wrong("no certificate is in it".into())) } else { Ok(all) }
}
