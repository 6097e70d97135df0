//! Adds a recording to the index, for clients with the token.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::{Context, Result};
use axum::Json;
use axum::extract::{Request, State as Extracted};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use bc_embed::windows::Windows;
use bc_formats::{atomic, fingerprint};
use utoipa::ToSchema;

use crate::add::addition;
use crate::answer::Searcher;
use crate::index::change::{AddOutcome, Adder, Addition, ConflictPolicy};
use crate::index::keys::Key;
use crate::index::update::{RowUpdate, UpdateOutcome};
use crate::index::{Manifest, Row};
use crate::list::{Item, size_and_time, title_of};
use crate::serve::answers::{AddAnswer, id_of};
use crate::serve::api_error::{ApiError, ErrorBody};
use crate::serve::feature_cache::unusable_file;
use crate::serve::state::State;
use crate::serve::upload::{self, Uploaded};

/// The form of an addition.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; the fields are read by name")]
pub struct AddForm {
    /// The recording. The server keeps the file for playback.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Title. If not given, a new recording gets the name of the file, and one that the index holds keeps its title.
    #[schema(value_type = String, required = false)]
    title: Option<String>,
    /// Performer.
    #[schema(value_type = String, required = false)]
    performer: Option<String>,
    /// The work that it is a version of.
    #[schema(value_type = String, required = false)]
    work: Option<String>,
    /// International Standard Recording Code.
    #[schema(value_type = String, required = false)]
    isrc: Option<String>,
    /// International Standard Musical Work Code.
    #[schema(value_type = String, required = false)]
    iswc: Option<String>,
}

/// Adds a recording to the index.
#[utoipa::path(
    post,
    path = "/add",
    security(("token" = [])),
    request_body(content = AddForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = AddAnswer),
        (status = 400, description = "invalid form", body = ErrorBody),
        (status = 401, description = "missing or wrong token", body = ErrorBody),
        (status = 403, description = "this server does not accept additions", body = ErrorBody),
        (status = 408, description = "the file arrived too slowly", body = ErrorBody),
        (status = 413, description = "the file is too large", body = ErrorBody),
        (status = 415, description = "not multipart/form-data", body = ErrorBody),
        (status = 422, description = "not audio, too long, silent, or empty", body = ErrorBody),
        (status = 503, description = "the server is busy: try again later", body = ErrorBody),
    )
)]
pub async fn add(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
) -> Result<Json<AddAnswer>, ApiError> {
    if let Err(error) = check_allowed(&state, &request) {
        upload::discard_body(request);
        return Err(error);
    }
    let texts = ["title", "performer", "work", "isrc", "iswc"];
    let mut form = upload::form(request, &state.spool, &state.queue, (&["file"], &texts)).await?;
    let file = form.file("file")?;
    let title_is_file_name = form.text("title").is_empty();
    let title = match form.text("title") {
        "" => title_of(Path::new(&file.name)),
        title => title.to_owned(),
    };
    let text = |name: &str| form.text(name).to_owned();
    let row = Row {
        title,
        performer: text("performer"),
        work: text("work"),
        isrc: text("isrc"),
        iswc: text("iswc"),
        ..Row::default()
    };
    let shared = state.clone();
    Ok(Json(state.queue.work(move || add_file(&shared, &file, row, title_is_file_name)).await?))
}

/// Checks that the server accepts additions and that the request has the token.
fn check_allowed(state: &State, request: &Request) -> Result<(), ApiError> {
    let Some(token) = &state.options.token else {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "this server does not accept additions: it was started without --token-file",
        ));
    };
    if !state.index.is_dir() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "this server does not accept additions: its index is a file of embeddings; `bc-search import` converts it to a folder, which can grow",
        ));
    }
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token.is_in(header) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "send the server's token: Authorization: Bearer TOKEN"))
}

/// Embeds an uploaded file and adds it to the index, unless its audio is already present.
fn add_file(
    state: &State,
    file: &Uploaded,
    mut row: Row,
    title_is_file_name: bool,
) -> Result<AddAnswer, ApiError> {
    let internal = |error: anyhow::Error| ApiError::internal(&error);
    // Another process may just have removed this recording.
    state.refresh().map_err(internal)?;
    let searcher = state.searcher();
    let audio = searcher.audio().map_err(internal)?;
    let windows = searcher.index.windows().map_err(internal)?;
    row.content_hash = fingerprint::of_file(file.path()).map_err(|error| unusable_file(&error, file))?;
    let content = Key::from_row(&row).content;
    let compare = searcher.index.manifest.compare.clone();
    let mut empty = Manifest::empty(&audio.embedder, windows, searcher.index.manifest.storage);
    empty.compare.clone_from(&compare);
    // A recording that the index already holds is not decoded.
    if let Some(old) = row_with_content(&searcher, &content).map_err(internal)? {
        let answer = update_present(state, &empty, file, (row.clone(), title_is_file_name), &old);
        if let Some(answer) = answer.map_err(internal)? {
            return Ok(answer);
        }
    }
    let features = state.feature_cache.uploaded_with_hash(audio, file, &row.content_hash)?;
    let short = compare.as_ref().map(Windows::from_comparison).transpose().map_err(internal)?;
    let short = short.map(|short| (short, &[1.0][..]));
    let embedded = audio.embed_features_compared(file.path(), &features, windows, short);
    let embedded = embedded.map_err(|error| unusable_file(&error, file))?;
    let addition = addition(row, embedded).map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{}: {error}", file.name))
    })?;
    let id = store_and_add(state, file, addition, empty).map_err(internal)?;
    let searcher = state.searcher();
    let recordings = searcher.index.len();
    if id.is_some() {
        return Ok(AddAnswer { status: "added".to_owned(), id, updated: false, recordings });
    }
    // Added by another process meanwhile.
    let Some(present) = row_with_content(&searcher, &content).map_err(internal)? else {
        let text =
            format!("{} was not added, because another process changed the index; try again", file.name);
        return Err(ApiError::busy(text, 1));
    };
    Ok(AddAnswer { status: "there".to_owned(), id: Some(id_of(&present.path)), updated: false, recordings })
}

/// The row of the recording with this content, if the index holds it.
fn row_with_content(searcher: &Searcher, content: &[u8; 16]) -> Result<Option<Row>> {
    let index = &searcher.index;
    let mut recordings = index.recordings();
    recordings
        .find(|recording| index.key(*recording).has_content(content))
        .map(|at| index.row(at))
        .transpose()
}

/// Gives a recording that the index already holds the metadata that were sent, and its audio if the server has lost it; `None` if
/// another process has just removed the recording.
fn update_present(
    state: &State,
    empty: &Manifest,
    file: &Uploaded,
    (row, title_is_file_name): (Row, bool),
    old: &Row,
) -> Result<Option<AddAnswer>> {
    let item = Item { path: PathBuf::from(&old.path), row, title_is_file_name, work_is_folder: false };
    let row = item.updated(old);
    let mut updated = false;
    if row != *old {
        let update = RowUpdate { old: old.clone(), row };
        let outcomes =
            Adder::open(&state.index, empty.clone(), ConflictPolicy::KeepOld)?.update(&[update])?;
        state.refresh()?;
        if outcomes == [UpdateOutcome::Gone] {
            return Ok(None);
        }
        updated = outcomes == [UpdateOutcome::Updated];
    }
    let stored = Path::new(&old.path);
    if stored.parent() == Some(&audio_folder(&state.index)) {
        let _adding = state.adding.lock().unwrap_or_else(PoisonError::into_inner);
        store(file, stored, &old.content_hash)?;
    }
    let recordings = state.searcher().index.len();
    Ok(Some(AddAnswer { status: "there".to_owned(), id: Some(id_of(&old.path)), updated, recordings }))
}

/// Stores the audio under its content hash, adds the recording, and returns its id; audio that was already present has none, and is not
/// stored.
fn store_and_add(
    state: &State,
    file: &Uploaded,
    mut addition: Addition,
    empty: Manifest,
) -> Result<Option<String>> {
    let row = &mut addition.row;
    let stored = storage_path(&state.index, &row.content_hash, &file.name);
    let content = Key::from_row(row).content;
    // One at a time: of two requests with the same file, the second must not remove the file that the first has stored.
    let _adding = state.adding.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = store(file, &stored, &row.content_hash)?;
    (row.bytes, row.modified_ns) = size_and_time(&stored);
    row.path = stored.to_string_lossy().into_owned();
    let path = row.path.clone();
    let outcomes = Adder::open(&state.index, empty, ConflictPolicy::KeepOld)
        .and_then(|mut adder| adder.add(vec![addition]));
    let refreshed = state.refresh();
    if matches!(outcomes.as_deref(), Ok([AddOutcome::Added | AddOutcome::Replaced])) {
        return refreshed.map(|()| Some(id_of(&path)));
    }
    // Another server may have added the recording with the same file.
    let searcher = state.searcher();
    let is_used = || Ok(row_with_content(&searcher, &content)?.is_some_and(|row| row.path == path));
    if is_new && matches!(refreshed.and_then(|()| is_used()), Ok(false)) {
        let _ = std::fs::remove_file(&stored);
    }
    outcomes.map(|_| None)
}

/// Stores an uploaded file, unless the one that is stored there has the same content; returns whether there was no file.
fn store(file: &Uploaded, stored: &Path, content_hash: &str) -> Result<bool> {
    let is_new = !stored.exists();
    // Writing the same content again would change the file's time, so that it would be hashed again.
    if is_new || fingerprint::of_file(stored)? != content_hash {
        let mut source = std::fs::File::open(file.path()).context("the uploaded file is gone")?;
        atomic::write_with(stored, |target| Ok(std::io::copy(&mut source, target).map(|_| ())?))?;
    }
    Ok(is_new)
}

/// The folder where uploaded audio is stored.
fn audio_folder(index: &Path) -> PathBuf {
    index.join("audio")
}

/// The path where uploaded audio is stored: `audio/` in the index, the content hash, and the extension of its name if that is an
/// audio extension.
fn storage_path(index: &Path, content_hash: &str, name: &str) -> PathBuf {
    let extension =
        Path::new(name).extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
    let extension = extension.filter(|extension| bc_audio::EXTENSIONS.contains(&extension.as_str()));
    audio_folder(index).join(format!("{content_hash}.{}", extension.as_deref().unwrap_or("bin")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_choose_the_path_of_an_added_file() {
        for (name, expected) in [
            ("song.MP3", "audio/0123.mp3"),
            ("../../x.wav", "audio/0123.wav"),
            ("page.html", "audio/0123.bin"),
            ("x./../../etc/passwd", "audio/0123.bin"),
            ("", "audio/0123.bin"),
        ] {
            assert_eq!(storage_path(Path::new("i"), "0123", name), Path::new("i").join(expected));
        }
    }
}
