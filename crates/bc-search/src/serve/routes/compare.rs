//! Compares two recordings: are they versions of one work, and which parts match?

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extracted};
use axum::http::StatusCode;
use bc_audio::Features;
use bc_calibration::{Calibration, PairKind};
use bc_embed::recording::AudioEmbedder;
use utoipa::ToSchema;

use super::recordings::row_of;
use crate::aligned;
use crate::answer::Searcher;
use crate::compare::{by_vectors, by_windows};
use crate::index::Row;
use crate::serve::answers::{
    AlignmentAnswer, CompareAnswer, ComparedRecording, IndexedRecording, data_url, kind_name,
};
use crate::serve::api_error::{ApiError, ErrorBody};
use crate::serve::feature_cache::{file_name, unusable_file, without_folder};
use crate::serve::picture;
use crate::serve::state::State;
use crate::serve::upload::{self, Uploaded};

/// Maximum length of recordings that are aligned, in seconds, because memory grows with the product of both lengths.
pub const MAX_ALIGNED_S: f64 = 900.0;

/// The form of a comparison.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; the fields are read by name")]
pub struct CompareForm {
    /// A recording.
    #[schema(value_type = String, format = Binary)]
    a: Vec<u8>,
    /// The other recording, unless `recording` is given.
    #[schema(value_type = String, format = Binary, required = false)]
    b: Option<Vec<u8>>,
    /// The id of a recording of the index.
    #[schema(value_type = String, required = false)]
    recording: Option<String>,
    /// 1 to get pictures of both.
    #[schema(value_type = usize, required = false, minimum = 0, maximum = 1)]
    pictures: Option<usize>,
}

/// The other recording.
enum OtherRecording {
    Uploaded(Box<Uploaded>),
    Indexed(Box<Row>),
}

/// Whether two recordings are versions of one work: two files, or a file and a recording of the index.
#[utoipa::path(
    post,
    path = "/compare",
    request_body(content = CompareForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = CompareAnswer),
        (status = 400, description = "invalid form", body = ErrorBody),
        (status = 404, description = "no such recording", body = ErrorBody),
        (status = 408, description = "a file arrived too slowly", body = ErrorBody),
        (status = 410, description = "the recording's audio no longer exists", body = ErrorBody),
        (status = 413, description = "a file is too large", body = ErrorBody),
        (status = 415, description = "not multipart/form-data", body = ErrorBody),
        (status = 422, description = "not audio, too long, silent, or empty", body = ErrorBody),
        (status = 503, description = "the server is busy: try again later", body = ErrorBody),
    )
)]
pub async fn compare(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
) -> Result<Json<CompareAnswer>, ApiError> {
    let fields = (&["a", "b"][..], &["recording", "pictures"][..]);
    let mut form = upload::form(request, &state.spool, &state.queue, fields).await?;
    let a = form.file("a")?;
    let pictures = form.number("pictures", 0, 0..=1)? == 1;
    let (b, recording) = (form.file_if_any("b"), form.text("recording").to_owned());
    let shared = state.clone();
    let answer = state.queue.work(move || {
        let other = match (b, recording.as_str()) {
            (Some(b), "") => OtherRecording::Uploaded(Box::new(b)),
            (None, id) if !id.is_empty() => OtherRecording::Indexed(Box::new(row_of(&shared, id)?)),
            _ => {
                return Err(ApiError::bad_request(
                    "send either a second file as `b` or the id of a `recording`",
                ));
            }
        };
        answer(&shared, &a, &other, pictures)
    });
    Ok(Json(answer.await?))
}

fn answer(
    state: &State,
    a: &Uploaded,
    other: &OtherRecording,
    pictures: bool,
) -> Result<CompareAnswer, ApiError> {
    let internal = |error: anyhow::Error| ApiError::internal(&error);
    let searcher = state.searcher();
    let audio = searcher.audio().map_err(internal)?;
    let (first, hash) = state.feature_cache.uploaded(audio, a)?;
    let (second, other_hash, name, recording) = match other {
        OtherRecording::Uploaded(b) => {
            let (features, hash) = state.feature_cache.uploaded(audio, b)?;
            (features, hash, b.name.clone(), None)
        }
        OtherRecording::Indexed(row) => {
            let features = state.feature_cache.indexed(audio, &state.hashes, row)?;
            let name = if row.title.is_empty() { file_name(&row.path) } else { &row.title };
            (
                features,
                row.content_hash.clone(),
                name.to_owned(),
                Some(IndexedRecording::from_row(state, row)),
            )
        }
    };
    let other_path = match other {
        OtherRecording::Uploaded(b) => b.path(),
        OtherRecording::Indexed(row) => Path::new(&row.path),
    };
    let recordings: [(&Path, &Features); 2] = [(a.path(), &first), (other_path, &second)];
    let (score, calibration) = score(&searcher, audio, recordings);
    let score = score.map_err(|error| score_error(&error, a, other))?;
    let same_file = hash == other_hash;
    let kinds = calibration
        .map(|calibration| calibration.kinds(f64::from(score), same_file, None, bc_calibration::EVEN_ODDS));
    let (alignment, alignment_unavailable) = match align(audio, &first, &second) {
        Ok(alignment) => (Some(alignment), None),
        Err(error) => (None, Some(bc_cli::describe(&error))),
    };
    let describe = |name: String, features: &Features| {
        let picture = pictures.then(|| picture::png(features, audio.embedder.input.cqt.bins as usize));
        let picture = picture.transpose().map_err(internal)?.map(|png| data_url(&png));
        Ok::<_, ApiError>(ComparedRecording { name, duration_s: features.duration_s, picture })
    };
    Ok(CompareAnswer {
        score,
        probability: kinds.map(|kinds| kinds.same_audio + kinds.same_work),
        kind: PairKind::of(kinds, same_file).map(kind_name),
        a: describe(a.name.clone(), &first)?,
        b: describe(name, &second)?,
        recording,
        alignment,
        alignment_unavailable,
    })
}

/// The similarity of two recordings, with the calibration of such scores.
fn score<'a>(
    searcher: &'a Searcher,
    audio: &AudioEmbedder,
    recordings: [(&Path, &Features); 2],
) -> (anyhow::Result<f32>, Option<&'a Calibration>) {
    if let Some((compare, calibration)) = searcher.window_calibration() {
        return (by_windows(audio, recordings, compare), Some(calibration));
    }
    (by_vectors(audio, recordings, None).map(|(score, _)| score), searcher.calibration())
}

/// The error of a recording that cannot be embedded, named as its sender knows it.
fn score_error(error: &anyhow::Error, a: &Uploaded, other: &OtherRecording) -> ApiError {
    match other {
        OtherRecording::Indexed(row) if format!("{error:#}").contains(&row.path) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, without_folder(error, &row.path))
        }
        OtherRecording::Uploaded(b) if format!("{error:#}").contains(&*b.path().to_string_lossy()) => {
            unusable_file(error, b)
        }
        _ => unusable_file(error, a),
    }
}

fn align(audio: &AudioEmbedder, a: &Features, b: &Features) -> anyhow::Result<AlignmentAnswer> {
    let chroma = |features: &Features| aligned::chroma_of_features(audio, features);
    Ok(aligned::align_within(&chroma(a)?, &chroma(b)?, MAX_ALIGNED_S)?.into())
}
