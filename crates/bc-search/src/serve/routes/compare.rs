//! Whether two recordings are versions of one work, and where they match.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use axum::Json;
use axum::extract::{Request, State as Extracted};
use bc_audio::Features;
use bc_embed::recording::AudioEmbedder;
use utoipa::ToSchema;

use super::recordings::row_of;
use crate::aligned;
use crate::compare::{by_windows, closest};
use crate::index::Row;
use crate::serve::answers::{
    AlignmentAnswer, CompareAnswer, ComparedRecording, IndexedRecording, data_url, word_of,
};
use crate::serve::feature_cache::{file_name, unusable, without_folder};
use crate::serve::picture;
use crate::serve::refusal::{Refusal, Refused};
use crate::serve::state::State;
use crate::serve::upload::{self, Uploaded};

/// Longer recordings are not aligned: memory grows with the product of both lengths.
pub const LONGEST_ALIGNED_S: f64 = 900.0;

/// The form of a comparison.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; the fields are read as they come")]
pub struct CompareForm {
    /// A recording.
    #[schema(value_type = String, format = Binary)]
    a: Vec<u8>,
    /// Another one; or else `recording`.
    #[schema(value_type = Option<String>, format = Binary)]
    b: Option<Vec<u8>>,
    /// The id of a recording of the index.
    recording: Option<String>,
    /// 1 for pictures of both.
    pictures: Option<usize>,
}

/// The other recording.
enum Other {
    Sent(Box<Uploaded>),
    Indexed(Box<Row>),
}

/// Whether two recordings are versions of one work: two files, or a file and a recording of the index.
#[utoipa::path(
    post,
    path = "/compare",
    request_body(content = CompareForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = CompareAnswer),
        (status = 400, description = "another form", body = Refused),
        (status = 404, description = "no such recording", body = Refused),
        (status = 408, description = "a file came too slowly", body = Refused),
        (status = 410, description = "the recording's audio is not there any more", body = Refused),
        (status = 413, description = "a file is too large", body = Refused),
        (status = 415, description = "no form at all", body = Refused),
        (status = 422, description = "no audio, too long, silent, or empty", body = Refused),
        (status = 503, description = "the server is busy: come again", body = Refused),
    )
)]
pub async fn compare(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
) -> Result<Json<CompareAnswer>, Refusal> {
    let fields = (&["a", "b"][..], &["recording", "pictures"][..]);
    let mut form = upload::form(request, &state.spool, &state.queue, fields).await?;
    let a = form.file("a")?;
    let pictures = form.number("pictures", 0, 1)? == 1;
    let (b, recording) = (form.file_if_any("b"), form.text("recording").to_owned());
    let shared = state.clone();
    let answer = state.queue.work(move || {
        let other = match (b, recording.as_str()) {
            (Some(b), "") => Other::Sent(Box::new(b)),
            (None, id) if !id.is_empty() => Other::Indexed(Box::new(row_of(&shared, id)?)),
            _ => {
                return Err(Refusal::bad(
                    "send a second file as `b`, or the id of a `recording`; one of them",
                ));
            }
        };
        answer(&shared, &a, &other, pictures)
    });
    Ok(Json(answer.await?))
}

fn answer(state: &State, a: &Uploaded, other: &Other, pictures: bool) -> Result<CompareAnswer, Refusal> {
    let internal = |error: anyhow::Error| Refusal::internal(&error);
    let searcher = state.searcher();
    let audio = searcher.audio().map_err(internal)?;
    let (first, hash) = state.feature_cache.uploaded(audio, a)?;
    let (second, other_hash, name, recording) = match other {
        Other::Sent(b) => {
            let (features, hash) = state.feature_cache.uploaded(audio, b)?;
            (features, hash, b.name.clone(), None)
        }
        Other::Indexed(row) => {
            let features = state.feature_cache.indexed(audio, &state.hashes, row)?;
            let name = if row.title.is_empty() { file_name(&row.path) } else { &row.title };
            (features, row.content_hash.clone(), name.to_owned(), Some(IndexedRecording::of(state, row)))
        }
    };
    let other_path = match other {
        Other::Sent(b) => b.path(),
        Other::Indexed(row) => Path::new(&row.path),
    };
    let recordings: [(&Path, &Features); 2] = [(a.path(), &first), (other_path, &second)];
    let (score, calibration) = match searcher.window_calibration() {
        Some((compare, calibration)) => (by_windows(audio, recordings, compare), Some(calibration)),
        None => {
            let [left, right] = recordings.map(|(path, features)| audio.embed_features(path, features, None));
            let score = left.and_then(|left| Ok((left, right?)));
            let score = score.and_then(|(left, right)| {
                Ok(closest(&left.excerpts, &right.excerpts, searcher.index.dim())?.0)
            });
            (score, searcher.calibration())
        }
    };
    let score = score.map_err(|error| match other {
        Other::Indexed(row) if format!("{error:#}").contains(&row.path) => {
            Refusal::internal(&anyhow!(without_folder(&error, &row.path)))
        }
        Other::Sent(b) if format!("{error:#}").contains(&*b.path().to_string_lossy()) => unusable(&error, b),
        _ => unusable(&error, a),
    })?;
    let kinds = calibration.map(|calibration| {
        calibration.kinds(f64::from(score), hash == other_hash, None, bc_calibration::EVEN_ODDS)
    });
    let (alignment, alignment_unavailable) = match aligned(audio, &first, &second) {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(bc_cli::describe(&error))),
    };
    let shown = |name: String, features: &Features| {
        let picture = pictures.then(|| picture::png(features, audio.embedder.input.cqt.bins as usize));
        let picture = picture.transpose().map_err(internal)?.map(|png| data_url(&png));
        Ok::<_, Refusal>(ComparedRecording { name, duration_s: features.duration_s, picture })
    };
    Ok(CompareAnswer {
        score,
        probability: kinds.map(|kinds| kinds.same_audio + kinds.same_work),
        kind: kinds.map(|kinds| word_of(kinds.kind())),
        a: shown(a.name.clone(), &first)?,
        b: shown(name, &second)?,
        recording,
        alignment,
        alignment_unavailable,
    })
}

fn aligned(audio: &AudioEmbedder, a: &Features, b: &Features) -> anyhow::Result<AlignmentAnswer> {
    let chroma = |features: &Features| aligned::of_features(audio, features);
    Ok(aligned::align_within(&chroma(a)?, &chroma(b)?, LONGEST_ALIGNED_S)?.into())
}
