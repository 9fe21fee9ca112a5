//! The service over HTTP: routes, the token, errors, the OpenAPI document, metrics.
//!
//! The only asynchronous part of the program, on a thread with a runtime of its own. Nothing here decides anything: every route asks
//! [`crate::service::Service`], on a thread that may wait, and says what `--json` of the verb of the same name says.

mod datasets;
mod error;
mod files;
mod gate;
mod metrics;
mod openapi;
mod routes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use fanfold_shared::report::{During, ExitCode, Report, Result};
use hyper_util::rt::TokioTimer;

use crate::service::{Service, Token};
use gate::Gate;

pub(crate) use error::NO_SUCH_DATASET;
pub use error::{ApiError, Envelope, ErrorBody};
pub(crate) use files::END;
pub use openapi::document;
pub use routes::Receipt;

/// A request is never larger, bytes.
pub const MOST_BODY: usize = 1 << 20;
/// Who has not said what he wants by then is sent away.
const HEADERS: Duration = Duration::from_secs(10);
/// Who has not sent the rest of his request by then is sent away as well.
const BODY: Duration = Duration::from_secs(10);
/// How long requests under way may take when the service stops.
const STOP: Duration = Duration::from_secs(5);

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Where.
    pub address: SocketAddr,
    /// Certificate chain and key, PEM files: then it is HTTPS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Other machines may come without TLS.
    pub insecure: bool,
}

/// Why it does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Tokens would travel for everybody to read.
    #[error("`--listen {0}` would let other machines in without TLS, and their token would travel in the clear")]
    Insecure(SocketAddr),
    /// The system refuses the address.
    #[error("cannot listen on {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificate or key can't be used.
    #[error("cannot use `{}` and `{}` for TLS", certificate.display(), key.display())]
    Tls {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Report for ListenError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ListenError::Insecure(_) => {
                "give `--tls-cert` and `--tls-key`; or `--insecure`, behind a proxy that does TLS or in a network of its own".into()
            }
            ListenError::Address { .. } => "another program may have that port: give another `--listen`".into(),
            ListenError::Tls { .. } => "give PEM files: the certificate with its chain, and its private key".into(),
        })
    }
}

/// What the routes share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) service: Service,
    pub(crate) token: Arc<Token>,
}

/// A server that listens. Dropped without [`Server::stop`], it goes on until the program ends.
pub struct Server {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Listens, and answers from now on.
    ///
    /// # Errors
    /// [`ListenError`], or the system gives no thread.
    pub fn start(service: Service, token: Token, config: &ListenConfig) -> Result<Server> {
        if !config.address.ip().is_loopback() && config.tls.is_none() && !config.insecure {
            return Err(ListenError::Insecure(config.address).into());
        }
        let failed = |source| ListenError::Address { address: config.address, source };
        let listener = TcpListener::bind(config.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .during("start a runtime in", "this process")?;
        let tls = match &config.tls {
            Some((certificate, key)) => {
                install_crypto();
                let read = RustlsConfig::from_pem_file(certificate, key);
                let tls = runtime.block_on(read).map_err(|source| ListenError::Tls {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?;
                // One version of HTTP, so that one set of limits holds for everybody.
                let mut config = (*tls.get_inner()).clone();
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                tls.reload_from_config(Arc::new(config));
                Some(tls)
            }
            None => None,
        };
        let handle = Handle::new();
        let (app, given) = (router(Api { service, token: Arc::new(token) }), handle.clone());
        let serve = move || {
            let ended = runtime.block_on(async move {
                let mut server = axum_server::from_tcp(listener)?.handle(given);
                server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
                let app = app.into_make_service();
                // `http1_only`: to find out which version a silent client would speak, the library waits for ever. It forgets that where it is
                // told another acceptor afterwards.
                match tls {
                    Some(tls) => {
                        let tls = RustlsAcceptor::new(tls).handshake_timeout(HEADERS);
                        server.acceptor(Gate::before(tls)).http1_only().serve(app).await
                    }
                    None => server.acceptor(Gate::before(DefaultAcceptor::new())).http1_only().serve(app).await,
                }
            });
            if let Err(error) = ended {
                crate::service::say(&format!("the HTTP server ended: {error}"));
            }
        };
        let thread =
            thread::Builder::new().name("http".into()).spawn(serve).during("start a thread of", "this process")?;
        Ok(Server { address, handle, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits a moment for those under way.
    pub fn stop(self) {
        self.handle.graceful_shutdown(Some(STOP));
        // It catches its own panics.
        let _ = self.thread.join();
    }
}

/// One provider of cryptography for the whole program; a second call changes nothing.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/jobs", post(routes::submit).get(routes::jobs))
        .route("/v1/jobs/{id}", get(routes::status))
        .route("/v1/jobs/{id}/errors", get(files::errors))
        .route("/v1/jobs/{id}/logs", get(files::logs))
        .route("/v1/jobs/{id}/logs/{*path}", get(files::log))
        .route("/v1/jobs/{id}/results", get(files::results))
        .route("/v1/jobs/{id}/explain", get(routes::explain))
        .route("/v1/jobs/{id}/cancel", post(routes::cancel))
        .route("/v1/jobs/{id}/pause", post(routes::pause))
        .route("/v1/jobs/{id}/resume", post(routes::resume))
        .route("/v1/jobs/{id}/retry", post(routes::retry))
        .route("/v1/datasets", post(datasets::register).get(datasets::datasets))
        .route("/v1/datasets/{name}", get(datasets::dataset))
        .route("/v1/nodes", get(routes::nodes))
        .route("/v1/nodes/{worker}/drain", post(routes::drain))
        .route("/openapi.json", get(routes::openapi))
        .route("/metrics", get(routes::metrics))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        // Behind nothing, and says nothing: for those who only want to know whether somebody is there.
        .route("/healthz", get(routes::healthz))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(api)
}

async fn nothing(request: Request) -> ApiError {
    ApiError::no_such_route(request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method().as_str(), request.uri().path())
}

/// Lets through who shows the token.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = shown.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match bearer {
        None => ApiError::token_missing().into_response(),
        // Said before it is sent: then it need not be.
        Some(token) if api.token.is(token) && announced(&request) > MOST_BODY as u64 => {
            ApiError::too_large(MOST_BODY).into_response()
        }
        Some(token) if api.token.is(token) => whole(request, next).await,
        Some(_) => ApiError::token_wrong().into_response(),
    }
}

/// Goes on with a request that came as a whole. Requests are small: who sends one by the drop, or never, is sent away.
async fn whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY, axum::body::to_bytes(body, MOST_BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(Err(_)) => ApiError::too_large(MOST_BODY).into_response(),
        Err(_) => ApiError::too_slow(BODY).into_response(),
    }
}

/// Does what may wait on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ApiError::bug("the service failed at this request; its log has more")),
    }
}

/// How long the body is by the word of its sender.
fn announced(request: &Request) -> u64 {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0)
}
