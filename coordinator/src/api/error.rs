//! Errors as callers see them: one envelope, `{"error": {"code", "message", "hint"}}`, in the words of the command line.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfold_shared::report::{ExitCode, Failure, IoError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::datasets::DatasetError;
use crate::service::ServiceError;
use crate::view::NoResult;

/// The code of [`DatasetError::NoSuchDataset`].
pub(crate) const NO_SUCH_DATASET: &str = "dataset_not_found";

/// The body of every answer that is an error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// The error.
    pub error: ErrorBody,
}

/// See [`Envelope`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs: `job_not_found`, `token_wrong`, …
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it, where that is known.
    pub hint: Option<String>,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: Option<String>) -> ApiError {
        ApiError { status, body: ErrorBody { code: code.into(), message: message.into(), hint } }
    }

    /// No token was shown.
    pub fn token_missing() -> ApiError {
        let hint = "give the path of the service's token file in FANFOLD_TOKEN_FILE; another program sends `Authorization: Bearer <token>`".into();
        ApiError::new(StatusCode::UNAUTHORIZED, "token_missing", "this service wants a token", Some(hint))
    }

    /// Another token was shown.
    pub fn token_wrong() -> ApiError {
        let hint = "the service's `--token-file` holds the right one; give its path in FANFOLD_TOKEN_FILE".into();
        ApiError::new(StatusCode::UNAUTHORIZED, "token_wrong", "the token is not this service's", Some(hint))
    }

    /// Nothing is there.
    pub fn no_such_route(path: &str) -> ApiError {
        let hint = "`/openapi.json` describes what there is".into();
        ApiError::new(StatusCode::NOT_FOUND, "no_such_route", format!("there is nothing at `{path}`"), Some(hint))
    }

    /// Something is there, but not for this method.
    pub fn wrong_method(method: &str, path: &str) -> ApiError {
        let hint = "`/openapi.json` describes what there is".into();
        ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong_method",
            format!("`{path}` can't be asked with {method}"),
            Some(hint),
        )
    }

    /// The body is too large.
    pub fn too_large(most: usize) -> ApiError {
        let hint = "data belongs into the shared directory; a request only names it".into();
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the request has more than {} KiB", most >> 10),
            Some(hint),
        )
    }

    /// The body did not come in time.
    pub fn too_slow(limit: std::time::Duration) -> ApiError {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!("the request was not here within {} s", limit.as_secs()),
            Some("send it again, in one go".into()),
        )
    }

    /// The body can't be read.
    pub fn bad_request(message: impl Into<String>, hint: &str) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message, Some(hint.into()))
    }

    /// A bug of ours.
    pub fn bug(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", message, None)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        use ServiceError as E;
        let (status, code) = match &error {
            E::NoSuchJob { .. } => (StatusCode::NOT_FOUND, "job_not_found"),
            E::Ambiguous { .. } => (StatusCode::CONFLICT, "job_ambiguous"),
            E::KeyReused { .. } => (StatusCode::CONFLICT, "key_reused"),
            E::BadKey(_) => (StatusCode::BAD_REQUEST, "bad_key"),
            E::Outside(_) | E::LeadsOut { .. } => (StatusCode::BAD_REQUEST, "outside_shared_directory"),
            E::NotNow { .. } => (StatusCode::CONFLICT, "not_now"),
            E::NoSuchLog { .. } => (StatusCode::NOT_FOUND, "log_not_found"),
            E::NoSuchWorker { .. } => (StatusCode::NOT_FOUND, "worker_not_found"),
            E::WorkersUnknown => (StatusCode::SERVICE_UNAVAILABLE, "redis_away"),
            E::NoBroker { .. } => (StatusCode::SERVICE_UNAVAILABLE, "broker_away"),
        };
        let failure = Failure::from(error);
        ApiError::new(status, code, failure.one_line(), failure.hint())
    }
}

impl From<DatasetError> for ApiError {
    fn from(error: DatasetError) -> ApiError {
        use DatasetError as E;
        let (status, code) = match &error {
            E::NoSuchDataset { .. } => (StatusCode::NOT_FOUND, NO_SUCH_DATASET),
            E::NoSuchVersion { .. } => (StatusCode::NOT_FOUND, "dataset_version_not_found"),
            E::Exists { .. } => (StatusCode::CONFLICT, "dataset_exists"),
            E::BadName(_) | E::BadReference(_) => (StatusCode::BAD_REQUEST, "bad_dataset"),
            // The service's own books.
            E::Damaged { .. } | E::Misplaced { .. } | E::Later { .. } | E::NoPlace | E::Io(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "failed")
            }
        };
        let failure = Failure::from(error);
        ApiError::new(status, code, failure.one_line(), failure.hint())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let failure = match failure.downcast::<ServiceError>() {
            Ok(error) => return error.into(),
            Err(failure) => failure,
        };
        let failure = match failure.downcast::<DatasetError>() {
            Ok(error) => return error.into(),
            Err(failure) => failure,
        };
        let (status, code) = match failure.exit_code() {
            _ if failure.is::<NoResult>() => (StatusCode::CONFLICT, "no_result"),
            ExitCode::Usage => (StatusCode::BAD_REQUEST, "bad_job"),
            ExitCode::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, "unreachable"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        ApiError::new(status, code, failure.one_line(), failure.hint())
    }
}

impl From<IoError> for ApiError {
    fn from(error: IoError) -> ApiError {
        Failure::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(Envelope { error: self.body })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
