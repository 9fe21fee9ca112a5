//! The routes that say something in JSON. Each is what its OpenAPI entry says.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fanfold_shared::fleet::JobRequest;
use fanfold_shared::report::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::Envelope;
use super::{Api, ApiError, MOST_BODY, blocking, metrics as figures};
use crate::commands::ls;
use crate::commands::nodes as nodes_view;
use crate::run::RetryScript;
use crate::service::{Caller, Job, Service};

/// What a job is made of: either `job_file` or `job`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Submission {
    /// A job file under the shared directory: relative to it, or absolute as the service sees it.
    pub job_file: Option<String>,
    /// The keys of a job file; relative paths start at `base`.
    pub job: Option<Value>,
    /// A directory under the shared directory [default: the shared directory].
    pub base: Option<String>,
    /// `key=value` of each key that is set otherwise.
    pub set: Option<Vec<String>>,
}

/// The answer to a submission.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Submitted)]
pub struct Receipt {
    /// The version of this form: 1.
    pub version: u32,
    /// The job.
    pub job_id: String,
    /// Its directory, absolute as the service sees it.
    pub job_dir: String,
    /// It became a job with an earlier request that had the same idempotency key.
    pub duplicate: bool,
}

/// What a retry sets otherwise.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// `key=value` of each key that may change and is set otherwise.
    #[serde(default)]
    pub set: Vec<String>,
    /// Run what is left with a copy of the script as it is now, and not with the one that the job has.
    #[serde(default)]
    pub new_script: bool,
}

#[derive(Deserialize)]
pub struct Listing {
    prefix: Option<String>,
}

const WHO: &str = "http";

/// Whether the service is there.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It is there.")), security(()))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Makes a job. The same `Idempotency-Key` again names the job that it became then.
#[utoipa::path(post, path = "/v1/jobs", request_body = Submission,
    params(("Idempotency-Key" = Option<String>, Header, description = "Chosen by the caller; the same request again makes no second job")),
    responses(
        (status = 201, description = "It is a job now.", body = Receipt),
        (status = 200, description = "It has been a job since an earlier request.", body = Receipt),
        (status = 400, description = "It can't be one.", body = Envelope),
        (status = 409, description = "The key was used for another request.", body = Envelope),
        (status = 413, description = "It is too large.", body = Envelope)))]
pub async fn submit(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|_| ApiError::too_large(MOST_BODY))?;
    let key = match headers.get("idempotency-key").map(|key| key.to_str()) {
        Some(Ok(key)) => Some(key.to_string()),
        Some(Err(_)) => {
            return Err(ApiError::bad_request("`Idempotency-Key` is not visible ASCII", "a UUID is a good one"));
        }
        None => None,
    };
    let request: JobRequest = serde_json::from_slice(&body).map_err(|error| {
        let hint = "send `{\"job_file\": \"path/to/job.yaml\"}` or `{\"job\": {…the keys of a job file…}}`";
        ApiError::bad_request(format!("the request can't be read: {error}"), hint)
    })?;
    let accepted = blocking(move || {
        let caller = Caller { key: key.as_deref(), source: "http", who: WHO, redelivered: false };
        Ok(api.service.submit(&request, &caller)?)
    });
    let accepted = accepted.await?;
    let status = if accepted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let receipt = Receipt {
        version: 1,
        job_id: accepted.job.id.0,
        job_dir: accepted.job.dir.display().to_string(),
        duplicate: accepted.duplicate,
    };
    Ok((status, Json(receipt)).into_response())
}

/// The jobs, the newest first: what `fanfold ls --json` says.
#[utoipa::path(get, path = "/v1/jobs",
    params(("prefix" = Option<String>, Query, description = "Only jobs whose id begins with this")),
    responses((status = 200, description = "`{version, jobs: […]}`", body = Value)))]
pub async fn jobs(State(api): State<Api>, Query(listing): Query<Listing>) -> Result<Json<Value>, ApiError> {
    let list = blocking(move || {
        let prefix = listing.prefix.unwrap_or_default();
        let jobs = api.service.jobs()?.into_iter().filter(|job| job.id.0.starts_with(&prefix));
        let lines: Vec<ls::Line> = jobs.map(|job| ls::Line::of_view(&api.service.status(&job))).collect();
        Ok(ls::to_json(&lines))
    });
    list.await.map(Json)
}

/// Where a job stands: what `fanfold status --json` says.
#[utoipa::path(get, path = "/v1/jobs/{id}", params(("id" = String, Path, description = "The job's id, or its beginning")),
    responses((status = 200, description = "status.json, with `coordinator` and `age_seconds`", body = Value),
        (status = 404, description = "There is no such job.", body = Envelope)))]
pub async fn status(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    blocking(move || Ok(Json(api.service.status(&api.service.find(&id)?).to_json()))).await
}

/// Why a job waits or is slow: what `fanfold explain --json` says.
#[utoipa::path(get, path = "/v1/jobs/{id}/explain", params(("id" = String, Path, description = "The job's id, or its beginning")),
    responses((status = 200, description = "`{version, job_id, state, reasons: [{code, text}]}`", body = Value),
        (status = 404, description = "There is no such job.", body = Envelope)))]
pub async fn explain(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    blocking(move || {
        let explained = api.service.explain(&api.service.find(&id)?);
        Ok(Json(serde_json::to_value(explained).expect("plain types can be written")))
    })
    .await
}

/// Gives an order, and answers with the job's status.
async fn order(
    api: Api,
    id: String,
    give: impl FnOnce(&Service, &Job) -> Result<()> + Send + 'static,
) -> Result<Response, ApiError> {
    blocking(move || {
        let job = api.service.find(&id)?;
        give(&api.service, &job)?;
        let job = api.service.find(&job.id.0)?;
        Ok((StatusCode::ACCEPTED, Json(api.service.status(&job).to_json())).into_response())
    })
    .await
}

/// The job ends without a result, within seconds.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", params(("id" = String, Path, description = "The job's id, or its beginning")),
    responses((status = 202, description = "It is under way; the job's status", body = Value),
        (status = 409, description = "The job is over.", body = Envelope)))]
pub async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, ApiError> {
    order(api, id, |service, job| service.cancel(job, WHO)).await
}

/// The job finishes what runs, and stands still until it is resumed.
#[utoipa::path(post, path = "/v1/jobs/{id}/pause", params(("id" = String, Path, description = "The job's id, or its beginning")),
    responses((status = 202, description = "It is under way; the job's status", body = Value),
        (status = 409, description = "The job is over.", body = Envelope)))]
pub async fn pause(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, ApiError> {
    order(api, id, |service, job| service.pause(job, WHO)).await
}

/// The job goes on.
#[utoipa::path(post, path = "/v1/jobs/{id}/resume", params(("id" = String, Path, description = "The job's id, or its beginning")),
    responses((status = 202, description = "It is under way; the job's status", body = Value),
        (status = 409, description = "The job is over.", body = Envelope)))]
pub async fn resume(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, ApiError> {
    order(api, id, |service, job| service.resume(job, WHO)).await
}

/// What is out of tries is tried again.
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", params(("id" = String, Path, description = "The job's id, or its beginning")),
    request_body(content = Option<RetryRequest>),
    responses((status = 202, description = "It is under way; the job's status, and in `new_script` the number of the copy that was taken (null: the script is what it was)", body = Value),
        (status = 400, description = "Nothing of it failed, a key would make it another job, or its script is gone.", body = Envelope),
        (status = 409, description = "The job is not over.", body = Envelope)))]
pub async fn retry(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|_| ApiError::too_large(MOST_BODY))?;
    let request: RetryRequest = match body.is_empty() {
        true => RetryRequest::default(),
        false => serde_json::from_slice(&body).map_err(|error| {
            ApiError::bad_request(
                format!("the request can't be read: {error}"),
                "send nothing, or `{\"set\": [\"run_max_try=5\"]}`",
            )
        })?,
    };
    blocking(move || {
        let job = api.service.find(&id)?;
        let script = if request.new_script { RetryScript::New } else { RetryScript::Own };
        let taken = api.service.retry(&job, &request.set, script, WHO)?;
        let mut value = api.service.status(&api.service.find(&job.id.0)?).to_json();
        if request.new_script {
            value["new_script"] = json!(taken);
        }
        Ok((StatusCode::ACCEPTED, Json(value)).into_response())
    })
    .await
}

/// The workers: what `fanfold nodes --json` says.
#[utoipa::path(get, path = "/v1/nodes", responses((status = 200, description = "`{version, workers: […]}`", body = Value),
    (status = 503, description = "Redis is away.", body = Envelope)))]
pub async fn nodes(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    blocking(move || Ok(Json(nodes_view::to_json(&api.service.workers()?)))).await
}

/// The worker takes no more nodes, leaves its job in order, and ends.
#[utoipa::path(post, path = "/v1/nodes/{worker}/drain", params(("worker" = String, Path, description = "The worker's id, or its beginning")),
    responses((status = 202, description = "It was told.", body = Value), (status = 404, description = "There is no such worker.", body = Envelope),
        (status = 503, description = "Redis or the broker is away.", body = Envelope)))]
pub async fn drain(State(api): State<Api>, Path(worker): Path<String>) -> Result<Response, ApiError> {
    blocking(move || {
        let worker = api.service.worker(&worker)?;
        api.service.drain(&worker.worker, WHO)?;
        Ok((StatusCode::ACCEPTED, Json(json!({"version": 1, "worker": worker.worker}))).into_response())
    })
    .await
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI", body = Value)))]
pub async fn openapi() -> Response {
    let text = super::openapi::document();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "OpenMetrics text", body = String)))]
pub async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let text = blocking(move || Ok(figures::text(&api.service)?)).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
