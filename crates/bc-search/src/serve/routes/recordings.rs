//! Recordings of the index, and their audio. Paths come from the index, never from a request.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State as Extracted};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use crate::index::Row;
use crate::serve::answers::IndexedRecording;
use crate::serve::api_error::{ApiError, ErrorBody};
use crate::serve::state::State;

/// The row of a recording by its id.
///
/// # Errors
/// There is no such recording.
pub fn row_of(state: &State, id: &str) -> Result<Row, ApiError> {
    let is_valid = id.len() == 16 && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let hash = u64::from_str_radix(id, 16).ok().filter(|_| is_valid).ok_or_else(no_recording)?;
    let searcher = state.searcher();
    let index = &searcher.index;
    let found = index.of_path_hash(hash).next();
    index.row(found.ok_or_else(no_recording)?).map_err(|error| ApiError::internal(&error))
}

fn no_recording() -> ApiError {
    ApiError::not_found("there is no recording with this id; /works lists them")
}

/// The id in a path; one that is not even UTF-8 is no recording's.
fn id_in(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(id)| id).map_err(|_| no_recording())
}

/// The index entry of a recording.
#[utoipa::path(
    get,
    path = "/recordings/{id}",
    params(("id" = String, Path, description = "16 hex digits, as in answers")),
    responses((status = 200, body = IndexedRecording), (status = 404, body = ErrorBody))
)]
pub async fn recording(
    Extracted(state): Extracted<Arc<State>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<IndexedRecording>, ApiError> {
    let id = id_in(id)?;
    run_blocking(move || Ok(IndexedRecording::from_row(&state, &row_of(&state, &id)?))).await.map(Json)
}

/// The audio of a recording, whole or in ranges.
#[utoipa::path(
    get,
    path = "/recordings/{id}/audio",
    params(("id" = String, Path, description = "16 hex digits, as in answers")),
    responses(
        (status = 200, description = "the unchanged file", content_type = "audio/*"),
        (status = 206, description = "the requested range", content_type = "audio/*"),
        (status = 403, description = "this server does not serve audio", body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 410, description = "its audio no longer exists", body = ErrorBody),
        (status = 416, description = "there is no such range"),
    )
)]
pub async fn audio(
    Extracted(state): Extracted<Arc<State>>,
    id: Result<Path<String>, PathRejection>,
    mut request: Request,
) -> Result<Response, ApiError> {
    if !state.options.audio {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "this server does not serve audio (--no-audio)"));
    }
    let id = id_in(id)?;
    let path = run_blocking(move || state.hashes.audio_of(&row_of(&state, &id)?)).await?;
    let bytes = tokio::fs::metadata(&path).await.map_or(0, |file| file.len());
    widen_long_suffix(request.headers_mut(), bytes);
    let Ok(response) = ServeFile::new(path).oneshot(request).await;
    let mut response = response.map(Body::new);
    // A browser must not execute the file, whatever its name.
    let audio = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if response.status().is_success() && !audio.is_some_and(is_audio_type) {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Ok(response.into_response())
}

/// Makes a range of more last bytes than the file has a range of the whole file (RFC 9110), which [`ServeFile`] would refuse.
fn widen_long_suffix(headers: &mut HeaderMap, bytes: u64) {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let Some(last) = range.and_then(|range| range.trim().strip_prefix("bytes=-")) else { return };
    let is_number = !last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit());
    // A number that does not fit is larger than any file.
    if bytes > 0 && is_number && last.parse::<u64>().map_or(true, |last| last > bytes) {
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-"));
    }
}

fn is_audio_type(kind: &str) -> bool {
    kind.starts_with("audio/") || kind.starts_with("video/")
}

/// Runs short work that reads files in a thread that may block.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ApiError::internal(&anyhow::anyhow!("a thread panicked: {error}"))))
}
