//! How long a request may take.
//!
//! The library's limit for a silent server runs from the first byte of a request, so it would count the time in which a body is sent: a part of 16 MiB would
//! need a line of 5 Mbit/s for itself, and on a slower one it would be begun again for ever. Requests with a body that takes time have a limit by its
//! length instead. A connection on which nothing moves at all is ended earlier, by the kernel (`TCP_USER_TIMEOUT`, which the client sets).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Without a byte from the server. The whole of a large object may take as long as it takes.
const SILENCE: Duration = Duration::from_secs(30);
/// What a body comes on at least, bytes a second. Four parts share a line.
const FLOOR: u64 = 15 << 10;
/// Bodies up to here, bytes, take no time of their own.
const SHORT: usize = 64 << 10;

/// How long a server may be silent. Tests may say otherwise where points to die at are compiled in.
pub(crate) fn silence() -> Duration {
    if !cfg!(feature = "failpoints") {
        return SILENCE;
    }
    let told = std::env::var("FANFOLD_STORE_SILENCE_MS").ok().and_then(|told| told.parse().ok());
    told.map_or(SILENCE, Duration::from_millis)
}

/// Makes clients that give a long body its time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patient;

impl HttpConnector for Patient {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let connector = ReqwestConnector::default();
        let asks = connector.connect(options)?;
        let sends = connector.connect(&options.clone().with_read_timeout_disabled())?;
        Ok(HttpClient::new(Clients { asks, sends }))
    }
}

#[derive(Debug)]
struct Clients {
    asks: HttpClient,
    sends: HttpClient,
}

#[async_trait]
impl HttpService for Clients {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let len = request.body().content_length();
        if len <= SHORT {
            return self.asks.execute(request).await;
        }
        let limit = limit(len as u64);
        let answer = async {
            let (head, body) = self.sends.execute(request).await?.into_parts();
            // What is said of a body that was sent is short.
            Ok(HttpResponse::from_parts(head, body.bytes().await?.into()))
        };
        let too_slow = |_| Err(HttpError::new(HttpErrorKind::Timeout, TooSlow { len, limit }));
        tokio::time::timeout(limit, answer).await.unwrap_or_else(too_slow)
    }
}

/// For a request with a body of so many bytes, its answer included.
fn limit(len: u64) -> Duration {
    silence() + Duration::from_secs(len / FLOOR)
}

/// A body was not taken in its time.
#[derive(Debug)]
pub(crate) struct TooSlow {
    len: usize,
    limit: Duration,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes were not taken within {} s", self.len, self.limit.as_secs())
    }
}

impl std::error::Error for TooSlow {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_half_a_megabit_takes_four_parts_at_once() {
        let part = 16 << 20;
        assert!(limit(part) >= Duration::from_secs(4 * part * 8 / 500_000));
    }
}
