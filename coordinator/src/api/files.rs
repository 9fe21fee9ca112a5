//! The routes that give what lies in a job's directory: its failures, its logs, its result. Nothing outside it, whatever a path says.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path as FilePath, PathBuf};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fanfold_shared::job::is_parquet;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};
use serde::Deserialize;
use serde_json::Value;

use super::error::Envelope;
use super::{Api, ApiError, blocking};
use crate::commands::{errors as errors_view, logs as logs_view};
use crate::service::{Job, ServiceError};

/// How long a log is: whoever follows it asks for what follows.
pub(crate) const END: &str = "fanfold-end";

/// What a Parquet file is, as registered with IANA.
const PARQUET: &str = "application/vnd.apache.parquet";

/// Read at once.
const CHUNK: usize = 256 << 10;

#[derive(Deserialize)]
pub struct ErrorsQuery {
    kind: Option<String>,
    #[serde(default)]
    grouped: bool,
}

#[derive(Deserialize)]
pub struct LogQuery {
    tail: Option<usize>,
    from: Option<u64>,
}

#[derive(Deserialize)]
pub struct ResultsQuery {
    #[serde(default)]
    partial: bool,
}

/// What failed: the lines that `fanfold errors --json` gives, or their groups.
#[utoipa::path(get, path = "/v1/jobs/{id}/errors",
    params(("id" = String, Path, description = "The job's id, or its beginning"),
        ("kind" = Option<String>, Query, description = "Only failures of this kind"),
        ("grouped" = Option<bool>, Query, description = "Distinct errors with their counts, as one object")),
    responses((status = 200, description = "One JSON object a line", body = String, content_type = "application/x-ndjson"),
        (status = 404, description = "There is no such job.", body = Envelope)))]
pub async fn errors(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(query): Query<ErrorsQuery>,
) -> Result<Response, ApiError> {
    blocking(move || {
        let dir = JobDir::new(api.service.find(&id)?.dir);
        if query.grouped {
            return Ok(Json(errors_view::groups_of(&dir, query.kind.as_deref())?).into_response());
        }
        let body = match (&query.kind, File::open(dir.errors_jsonl())) {
            (None, Ok(file)) => {
                let length = file.metadata().during("look at", dir.errors_jsonl())?.len();
                stream(file, whole_lines(&dir.errors_jsonl(), length)?)
            }
            (kind, _) => {
                let mut lines = Vec::new();
                errors_view::write_lines(&dir, kind.as_deref(), &mut lines)?;
                Body::from(lines)
            }
        };
        Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
    })
    .await
}

/// The files of the log tree: what `fanfold logs --json` says.
#[utoipa::path(get, path = "/v1/jobs/{id}/logs", params(("id" = String, Path, description = "The job's id, or its beginning")),
    responses((status = 200, description = "`{version, job_dir, files: [{path, bytes, what}]}`", body = Value),
        (status = 404, description = "There is no such job.", body = Envelope)))]
pub async fn logs(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    blocking(move || Ok(Json(logs_view::to_json(&JobDir::new(api.service.find(&id)?.dir))))).await
}

/// One log, by its path in the list.
#[utoipa::path(get, path = "/v1/jobs/{id}/logs/{path}",
    params(("id" = String, Path, description = "The job's id, or its beginning"), ("path" = String, Path, description = "As the list has it"),
        ("tail" = Option<usize>, Query, description = "Only the last lines"),
        ("from" = Option<u64>, Query, description = "Only what follows so many bytes; the header `fanfold-end` says how many there are")),
    responses((status = 200, description = "Its bytes", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such job or log.", body = Envelope)))]
pub async fn log(
    State(api): State<Api>,
    Path((id, path)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Response, ApiError> {
    blocking(move || {
        let job = api.service.find(&id)?;
        let log = log_file(&job, &path)?;
        let start = match query.tail {
            Some(lines) => logs_view::tail_start(&log, lines).during("read", &log)?,
            None => query.from.unwrap_or(0),
        };
        let mut file = File::open(&log).during("open", &log)?;
        let length = file.metadata().during("look at", &log)?.len();
        // Cut at its cap: what follows is new.
        let start = if start > length { length } else { start };
        file.seek(SeekFrom::Start(start)).during("read", &log)?;
        let headers =
            [(header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_string()), (END, length.to_string())];
        Ok((headers, stream(file, length - start)).into_response())
    })
    .await
}

/// The output file of a job that is Completed; with `partial`, what is committed of it so far.
#[utoipa::path(get, path = "/v1/jobs/{id}/results",
    params(("id" = String, Path, description = "The job's id, or its beginning"), ("partial" = Option<bool>, Query, description = "What is committed so far")),
    responses((status = 200, description = "Its bytes; those of a Parquet file are `application/vnd.apache.parquet`", body = String, content_type = "text/plain"),
        (status = 409, description = "There is no whole result.", body = Envelope)))]
pub async fn results(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(query): Query<ResultsQuery>,
) -> Result<Response, ApiError> {
    blocking(move || {
        let view = api.service.status(&api.service.find(&id)?);
        let (file, length) = view.result(query.partial)?;
        let is_table = view.status.output.file.as_deref().is_some_and(is_parquet);
        let length_header = [
            (header::CONTENT_TYPE, if is_table { PARQUET } else { "text/plain; charset=utf-8" }.to_string()),
            (header::CONTENT_LENGTH, length.to_string()),
        ];
        Ok((length_header, stream(file, length)).into_response())
    })
    .await
}

/// A log of the job: named by its path in the list, which leads nowhere else.
fn log_file(job: &Job, path: &str) -> Result<PathBuf, ApiError> {
    let absent = || ServiceError::NoSuchLog { job: job.id.clone(), path: path.to_string() };
    let relative = FilePath::new(path);
    if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
        return Err(absent().into());
    }
    let dir = JobDir::new(&job.dir);
    // The list is what there is: what a script put beside it, or a link that it made, is not in it.
    let known = logs_view::files(&dir)
        .into_iter()
        .find(|file| file == relative || file.strip_prefix("logs").is_ok_and(|rest| rest == relative));
    Ok(dir.root().join(known.ok_or_else(absent)?))
}

/// The bytes of the file that are whole lines; the last one may be being written just now.
fn whole_lines(path: &FilePath, length: u64) -> Result<u64> {
    let mut file = File::open(path).during("open", path)?;
    let (mut end, mut buffer) = (length, vec![0; 64 << 10]);
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(part)).during("read", path)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The next `length` bytes of the file, as they are asked for.
fn stream(file: File, length: u64) -> Body {
    Body::from_stream(futures_util::stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            let read = file.read(&mut bytes)?;
            bytes.truncate(read);
            // A file that became shorter ends the connection: whoever reads must not take it for whole.
            if read == 0 { Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)) } else { Ok((file, bytes)) }
        });
        let (file, bytes) = read.await.map_err(std::io::Error::other)??;
        let left = left - bytes.len() as u64;
        Ok(Some((Bytes::from(bytes), (file, left))))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.jsonl");
        for (text, whole) in [("", 0), ("{}", 0), ("{}\n{", 3), ("{}\n{}\n", 6)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(whole_lines(&path, text.len() as u64).unwrap(), whole, "{text}");
        }
        let long = format!("{{}}\n{}", "x".repeat(200_000));
        std::fs::write(&path, &long).unwrap();
        assert_eq!(whole_lines(&path, long.len() as u64).unwrap(), 3);
    }
}
