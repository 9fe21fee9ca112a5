//! The routes of registered datasets: what `fanfold dataset` says in JSON.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fanfold_shared::report::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::Envelope;
use super::{Api, ApiError, MOST_BODY, blocking};
use crate::commands::dataset as verb;
use crate::datasets::Registration;

/// What is to be registered.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetRequest {
    /// A letter, then letters, digits, `_` and `-`, at most 64 in all.
    pub name: String,
    /// Files, folders and patterns under the shared directory: relative to it, or absolute as the service sees it.
    pub paths: Vec<String>,
    /// As in a job file [default: files].
    pub input_type: Option<String>,
    /// As in a job file: a map, or the text of one.
    pub read_csv: Option<Value>,
    /// What it is, in the caller's words.
    pub description: Option<String>,
    /// The name may be taken: then this is its next version.
    #[serde(default)]
    pub new_version: bool,
}

/// Which version.
#[derive(Deserialize)]
pub struct Which {
    version: Option<u32>,
}

const WHO: &str = "http";

/// Registers a version of a dataset. What is registered just so already is found instead.
#[utoipa::path(post, path = "/v1/datasets", request_body = DatasetRequest,
    responses(
        (status = 201, description = "It is a version now: `{version, dataset: {…}, known: false}`", body = Value),
        (status = 200, description = "It was one before, with everything equal: `{version, dataset: {…}, known: true}`", body = Value),
        (status = 400, description = "It can't be one.", body = Envelope),
        (status = 409, description = "The name is taken, and `new_version` was not said.", body = Envelope),
        (status = 413, description = "It is too large.", body = Envelope)))]
pub async fn register(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let body = body.map_err(|_| ApiError::too_large(MOST_BODY))?;
    let request: DatasetRequest = serde_json::from_slice(&body).map_err(|error| {
        let hint = "send `{\"name\": \"iris\", \"paths\": [\"data/iris\"], \"input_type\": \"csv\"}`";
        ApiError::bad_request(format!("the request can't be read: {error}"), hint)
    })?;
    blocking(move || {
        let registration = Registration {
            name: request.name,
            paths: request.paths,
            base: api.service.shared().root().to_path_buf(),
            input_type: request.input_type,
            read_csv: request.read_csv.filter(|map| !map.is_null()).map(|map| match map {
                Value::String(text) => text,
                map => map.to_string(),
            }),
            description: request.description,
            new_version: request.new_version,
            who: WHO.into(),
        };
        let outcome = api.service.register_dataset(&registration)?;
        let status = if outcome.known { StatusCode::OK } else { StatusCode::CREATED };
        let answer = json!({"version": 1, "dataset": outcome.dataset, "known": outcome.known});
        Ok((status, Json(answer)).into_response())
    })
    .await
}

/// The newest version of every dataset: what `fanfold dataset list --json` says.
#[utoipa::path(get, path = "/v1/datasets",
    responses((status = 200, description = "`{version, datasets: [{name, version, paths, …, versions}]}`", body = Value)))]
pub async fn datasets(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    blocking(move || Ok(Json(verb::list_json(api.service.datasets(), &crate::service::say)?))).await
}

/// One version of a dataset: what `fanfold dataset show --json` says.
#[utoipa::path(get, path = "/v1/datasets/{name}",
    params(("name" = String, Path, description = "The dataset's name"),
        ("version" = Option<u32>, Query, description = "Which version [default: the newest]")),
    responses((status = 200, description = "`{version, dataset: {…}, versions: […]}`", body = Value),
        (status = 404, description = "There is no such dataset, or no such version of it.", body = Envelope)))]
pub async fn dataset(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let wanted = fanfold_shared::job::DatasetRef { name, version: which.version };
        let shown = verb::shown(api.service.datasets(), &wanted)?;
        Ok(Json(serde_json::to_value(shown).expect("strings and numbers")))
    })
    .await
}
