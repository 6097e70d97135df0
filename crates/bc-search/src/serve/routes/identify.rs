//! Finds the works that a recording may be a version of.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extracted};
use bc_embed::recording::{AudioEmbedder, EmbeddedWithWindows};
use bc_embed::windows::Windows;
use utoipa::ToSchema;

use super::compare::MAX_ALIGNED_S;
use crate::aligned;
use crate::answer::query::{self, Query};
use crate::serve::answers::{IdentifyAnswer, SentFile, WorkAnswer};
use crate::serve::api_error::{ApiError, ErrorBody};
use crate::serve::feature_cache::unusable_file;
use crate::serve::state::{MAX_WORKS, State};
use crate::serve::upload::{self, Uploaded};

/// Default number of works of an answer.
const DEFAULT_WORKS: usize = 10;
/// Maximum number of works that are aligned per request, because each needs a decoded file.
const MAX_ALIGNED: usize = 5;

/// The form of a query.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; the fields are read by name")]
pub struct IdentifyForm {
    /// A recording in any supported format.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Number of works of the answer, 1 to 100; 10 if not given.
    #[schema(value_type = usize, required = false, minimum = 1, maximum = 100)]
    k: Option<usize>,
    /// Number of the first works that are aligned with the query, 0 to 5; 0 if not given.
    #[schema(value_type = usize, required = false, minimum = 0, maximum = 5)]
    align: Option<usize>,
}

/// The works of the index that a recording may be a version of, and the probability of none.
#[utoipa::path(
    post,
    path = "/identify",
    request_body(content = IdentifyForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = IdentifyAnswer),
        (status = 400, description = "invalid form", body = ErrorBody),
        (status = 408, description = "the file arrived too slowly", body = ErrorBody),
        (status = 413, description = "the file is too large", body = ErrorBody),
        (status = 415, description = "not multipart/form-data", body = ErrorBody),
        (status = 422, description = "not audio, too long, silent, or empty", body = ErrorBody),
        (status = 503, description = "the server is busy: try again later", body = ErrorBody),
    )
)]
pub async fn identify(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
) -> Result<Json<IdentifyAnswer>, ApiError> {
    let mut form = upload::form(request, &state.spool, &state.queue, (&["file"], &["k", "align"])).await?;
    let file = form.file("file")?;
    let works = form.number("k", DEFAULT_WORKS, 1..=MAX_WORKS)?;
    let align = form.number("align", 0, 0..=MAX_ALIGNED)?;
    let shared = state.clone();
    let answer = state.queue.work(move || answer(&shared, &file, works, align));
    Ok(Json(answer.await?))
}

fn answer(state: &State, file: &Uploaded, works: usize, align: usize) -> Result<IdentifyAnswer, ApiError> {
    let internal = |error: anyhow::Error| ApiError::internal(&error);
    let searcher = state.searcher();
    let audio: &AudioEmbedder = searcher.audio().map_err(internal)?;
    let (features, content_hash) = state.feature_cache.uploaded(audio, file)?;
    let compare = searcher.compare();
    let short = compare.map(Windows::from_comparison).transpose().map_err(internal)?;
    let short = short.zip(compare).map(|(short, compare)| (short, &compare.tempi[..]));
    let embedded = audio.embed_features_compared(file.path(), &features, None, short);
    let EmbeddedWithWindows { embedded, tempi } = embedded.map_err(|error| unusable_file(&error, file))?;
    let duration_s = embedded.duration_s;
    let warnings = query::warnings(duration_s, embedded.declared_s, state.missing_share)
        .into_iter()
        .map(|warning| format!("{} {warning}", file.name));
    let warnings = warnings.collect();
    let query = Query { tempi, ..Query::from_embedded(&file.name, embedded, content_hash.clone()) };
    let answer = searcher.answer(&[query]).map_err(internal)?.pop();
    let answer = answer.ok_or_else(|| internal(anyhow::anyhow!("a query without an answer")))?;
    let mut work_answers: Vec<WorkAnswer> =
        answer.hits.iter().take(works).map(|hit| WorkAnswer::from_hit(state, hit)).collect();
    if align > 0 {
        let own = aligned::chroma_of_features(audio, &features).map_err(internal)?;
        for (work, hit) in work_answers.iter_mut().zip(&answer.hits).take(align) {
            let other =
                state.feature_cache.indexed(audio, &state.hashes, &hit.row).map_err(|error| error.body.error);
            let alignment = other.and_then(|other| {
                let other = aligned::chroma_of_features(audio, &other);
                let alignment = other.and_then(|other| aligned::align_within(&own, &other, MAX_ALIGNED_S));
                alignment.map_err(|error| bc_cli::describe(&error))
            });
            match alignment {
                Ok(alignment) => work.alignment = Some(alignment.into()),
                Err(reason) => work.alignment_unavailable = Some(reason),
            }
        }
    }
    let name = file.name.clone();
    Ok(IdentifyAnswer {
        query: SentFile { name, duration_s, content_hash },
        works: work_answers,
        probability_of_none: answer.probability_of_none,
        warnings,
    })
}
