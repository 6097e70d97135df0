//! A recording becomes one of the index, for who has the token.

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

use crate::add::{addition, stamp};
use crate::index::change::{AddOutcome, Adder, Addition, ConflictPolicy};
use crate::index::keys::Key;
use crate::index::{Manifest, Row};
use crate::serve::answers::{AddAnswer, id_of};
use crate::serve::feature_cache::unusable;
use crate::serve::refusal::{Refusal, Refused};
use crate::serve::state::State;
use crate::serve::upload::{self, Uploaded};

/// The form of an addition.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; the fields are read as they come")]
pub struct AddForm {
    /// The recording. The server keeps the file, to be listened to.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Title; the file's name if not given.
    title: Option<String>,
    /// Performer.
    performer: Option<String>,
    /// The work that it is a version of.
    work: Option<String>,
    /// International Standard Recording Code.
    isrc: Option<String>,
    /// International Standard Musical Work Code.
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
        (status = 400, description = "another form", body = Refused),
        (status = 401, description = "another token, or none", body = Refused),
        (status = 403, description = "this server adds nothing", body = Refused),
        (status = 408, description = "the file came too slowly", body = Refused),
        (status = 413, description = "the file is too large", body = Refused),
        (status = 415, description = "no form at all", body = Refused),
        (status = 422, description = "no audio, too long, silent, or empty", body = Refused),
        (status = 503, description = "the server is busy: come again", body = Refused),
    )
)]
pub async fn add(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
) -> Result<Json<AddAnswer>, Refusal> {
    if let Err(refusal) = allowed(&state, &request) {
        upload::discard_body(request);
        return Err(refusal);
    }
    let texts = ["title", "performer", "work", "isrc", "iswc"];
    let mut form = upload::form(request, &state.spool, &state.queue, (&["file"], &texts)).await?;
    let file = form.file("file")?;
    let title = match form.text("title") {
        "" => {
            Path::new(&file.name).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into())
        }
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
    Ok(Json(state.queue.work(move || take(&shared, &file, row)).await?))
}

fn allowed(state: &State, request: &Request) -> Result<(), Refusal> {
    let Some(token) = &state.options.token else {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "this server adds nothing: it was started without --token-file",
        ));
    };
    if !state.index.is_dir() {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "this server adds nothing: its index is a file of embeddings; `bc-search import` makes a folder of it, which can be added to",
        ));
    }
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token.is_in(header) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "send the server's token: Authorization: Bearer TOKEN"))
}

fn take(state: &State, file: &Uploaded, mut row: Row) -> Result<AddAnswer, Refusal> {
    let internal = |error: anyhow::Error| Refusal::internal(&error);
    let searcher = state.searcher();
    let audio = searcher.audio().map_err(internal)?;
    let windows = searcher.index.windows().map_err(internal)?;
    row.content_hash = fingerprint::of_file(file.path()).map_err(|error| unusable(&error, file))?;
    let key = Key::from_row(&row);
    if searcher.index.recordings().any(|recording| searcher.index.key(recording).has_content(&key.content)) {
        // A recording that the index already holds is not decoded.
        return Ok(AddAnswer { status: "there".to_owned(), id: None, recordings: searcher.index.len() });
    }
    let features = state.feature_cache.uploaded_as(audio, file, &row.content_hash)?;
    let compare = searcher.index.manifest.compare.clone();
    let short = compare.as_ref().map(Windows::of_comparison).transpose().map_err(internal)?;
    let short = short.map(|short| (short, &[1.0][..]));
    let embedded = audio.embed_features_compared(file.path(), &features, windows, short);
    let embedded = embedded.map_err(|error| unusable(&error, file))?;
    let addition = addition(row, embedded)
        .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{}: {error}", file.name)))?;
    let mut empty = Manifest::empty(&audio.embedder, windows, searcher.index.manifest.storage);
    empty.compare = compare;
    let outcome = keep_and_add(state, file, addition, empty).map_err(internal)?;
    state.refresh().map_err(internal)?;
    let recordings = state.searcher().index.len();
    Ok(match outcome {
        (AddOutcome::Added | AddOutcome::Replaced, id) => {
            AddAnswer { status: "added".to_owned(), id: Some(id), recordings }
        }
        (AddOutcome::AlreadyPresent | AddOutcome::PathTaken, _) => {
            AddAnswer { status: "there".to_owned(), id: None, recordings }
        }
    })
}

/// Keeps the audio under a name that is its content, and adds the recording; of audio that was there nothing is kept.
fn keep_and_add(
    state: &State,
    file: &Uploaded,
    mut addition: Addition,
    empty: Manifest,
) -> Result<(AddOutcome, String)> {
    let row = &mut addition.row;
    let kept = kept_path(&state.index, &row.content_hash, &file.name);
    // One at a time: of two requests with the same file the second must not remove what the first has kept.
    let _adding = state.adding.lock().unwrap_or_else(PoisonError::into_inner);
    let was_kept = kept.exists();
    // What is there has this content. Written again it would have another time, and be hashed at every look.
    if !was_kept {
        let mut source = std::fs::File::open(file.path()).context("the uploaded file is gone")?;
        atomic::write_with(&kept, |target| Ok(std::io::copy(&mut source, target).map(|_| ())?))?;
    }
    (row.bytes, row.modified_ns) = stamp(&kept);
    row.path = kept.to_string_lossy().into_owned();
    let id = id_of(&row.path);
    let outcome = Adder::open(&state.index, empty, ConflictPolicy::KeepOld)
        .and_then(|mut adder| adder.add(vec![addition]))
        .map(|fates| fates.first().copied().unwrap_or(AddOutcome::AlreadyPresent));
    if !matches!(outcome, Ok(AddOutcome::Added | AddOutcome::Replaced)) && !was_kept {
        let _ = std::fs::remove_file(&kept);
    }
    Ok((outcome?, id))
}

/// Where the audio of a recording that was sent is kept: `audio/` in the index, the content hash, and the ending of its name if that is
/// one of audio.
fn kept_path(index: &Path, content_hash: &str, name: &str) -> PathBuf {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    let ending = ending.filter(|ending| bc_audio::EXTENSIONS.contains(&ending.as_str()));
    index.join("audio").join(format!("{content_hash}.{}", ending.as_deref().unwrap_or("bin")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_cannot_choose_the_path_of_an_added_file() {
        for (name, expected) in [
            ("song.MP3", "audio/0123.mp3"),
            ("../../x.wav", "audio/0123.wav"),
            ("page.html", "audio/0123.bin"),
            ("x./../../etc/passwd", "audio/0123.bin"),
            ("", "audio/0123.bin"),
        ] {
            assert_eq!(kept_path(Path::new("i"), "0123", name), Path::new("i").join(expected));
        }
    }
}
