//! Recordings of the index, and their audio: never a path that somebody sends, only what the index names.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State as Extracted};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use crate::index::Row;
use crate::serve::answers::IndexedRecording;
use crate::serve::refusal::{Refusal, Refused};
use crate::serve::state::State;

/// The row of a recording by its id.
///
/// # Errors
/// No such recording.
pub fn row_of(state: &State, id: &str) -> Result<Row, Refusal> {
    let absent = || Refusal::absent("there is no recording of this id; /works lists them");
    let plain = id.len() == 16 && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let hash = u64::from_str_radix(id, 16).ok().filter(|_| plain).ok_or_else(absent)?;
    let searcher = state.searcher();
    let index = &searcher.index;
    let found = index.of_path_hash(hash).next();
    index.row(found.ok_or_else(absent)?).map_err(|error| Refusal::internal(&error))
}

/// What the index knows of a recording.
#[utoipa::path(
    get,
    path = "/recordings/{id}",
    params(("id" = String, Path, description = "16 hex digits, as answers have them")),
    responses((status = 200, body = IndexedRecording), (status = 404, body = Refused))
)]
pub async fn recording(
    Extracted(state): Extracted<Arc<State>>,
    Path(id): Path<String>,
) -> Result<Json<IndexedRecording>, Refusal> {
    blocking(move || Ok(IndexedRecording::of(&state, &row_of(&state, &id)?))).await.map(Json)
}

/// The audio of a recording, whole or in ranges.
#[utoipa::path(
    get,
    path = "/recordings/{id}/audio",
    params(("id" = String, Path, description = "16 hex digits, as answers have them")),
    responses(
        (status = 200, description = "the file as it is", content_type = "audio/*"),
        (status = 206, description = "the range that was asked for", content_type = "audio/*"),
        (status = 403, description = "this server hands out no audio", body = Refused),
        (status = 404, body = Refused),
        (status = 410, description = "its audio is not there any more", body = Refused),
        (status = 416, description = "there is no such range"),
    )
)]
pub async fn audio(
    Extracted(state): Extracted<Arc<State>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    if !state.options.audio {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "this server hands out no audio (--no-audio)"));
    }
    let path = blocking(move || state.hashes.audio_of(&row_of(&state, &id)?));
    let Ok(response) = ServeFile::new(path.await?).oneshot(request).await;
    let mut response = response.map(Body::new);
    // Whatever the file is called, a browser is not to run it.
    let audio = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if response.status().is_success() && !audio.is_some_and(is_sound) {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Ok(response.into_response())
}

fn is_sound(kind: &str) -> bool {
    kind.starts_with("audio/") || kind.starts_with("video/")
}

/// Runs a short piece of work that reads files.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::internal(&anyhow::anyhow!("a thread broke: {error}"))))
}
