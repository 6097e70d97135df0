//! Which works a recording may be a version of.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extracted};
use bc_embed::recording::{AudioEmbedder, Compared};
use bc_embed::windows::Windows;
use utoipa::ToSchema;

use super::compare::LONGEST_ALIGNED_S;
use crate::aligned;
use crate::answer::Query;
use crate::serve::answers::{IdentifyAnswer, SentFile, WorkAnswer};
use crate::serve::feature_cache::unusable;
use crate::serve::refusal::{Refusal, Refused};
use crate::serve::state::{MAX_WORKS, State};
use crate::serve::upload::{self, Uploaded};

/// Works of an answer if nobody says how many.
const WORKS: usize = 10;
/// Works that are aligned with one request, at most: each costs decoding a file.
const MOST_ALIGNED: usize = 5;

/// The form of a question.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes the form; the fields are read as they come")]
pub struct IdentifyForm {
    /// A recording, in any format that is known by its content.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Works of the answer, 1 to 100; 10 if not given.
    k: Option<usize>,
    /// Of so many of the first works, 0 to 5, say how they run beside the query; 0 if not given.
    align: Option<usize>,
}

/// Which works of the index a recording may be a version of, and how likely it is of none.
#[utoipa::path(
    post,
    path = "/identify",
    request_body(content = IdentifyForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = IdentifyAnswer),
        (status = 400, description = "another form", body = Refused),
        (status = 408, description = "the file came too slowly", body = Refused),
        (status = 413, description = "the file is too large", body = Refused),
        (status = 415, description = "no form at all", body = Refused),
        (status = 422, description = "no audio, too long, silent, or empty", body = Refused),
        (status = 503, description = "the server is busy: come again", body = Refused),
    )
)]
pub async fn identify(
    Extracted(state): Extracted<Arc<State>>,
    request: Request,
) -> Result<Json<IdentifyAnswer>, Refusal> {
    let mut form = upload::form(request, &state.spool, &state.queue, (&["file"], &["k", "align"])).await?;
    let file = form.file("file")?;
    let works = form.number("k", WORKS, MAX_WORKS)?.max(1);
    let align = form.number("align", 0, MOST_ALIGNED)?;
    let shared = state.clone();
    let answer = state.queue.work(move || answer(&shared, &file, works, align));
    Ok(Json(answer.await?))
}

fn answer(state: &State, file: &Uploaded, works: usize, align: usize) -> Result<IdentifyAnswer, Refusal> {
    let internal = |error: anyhow::Error| Refusal::internal(&error);
    let searcher = state.searcher();
    let audio: &AudioEmbedder = searcher.audio().map_err(internal)?;
    let (features, content_hash) = state.feature_cache.uploaded(audio, file)?;
    let compare = searcher.compare();
    let short = compare.map(Windows::of_comparison).transpose().map_err(internal)?;
    let short = short.zip(compare).map(|(short, compare)| (short, &compare.tempi[..]));
    let embedded = audio.embed_features_compared(file.path(), &features, None, short);
    let Compared { embedded, tempi } = embedded.map_err(|error| unusable(&error, file))?;
    let duration_s = embedded.duration_s;
    let query = Query { tempi, ..Query::from_embedded(&file.name, embedded, content_hash.clone()) };
    let answered = searcher.answer(&[query]).map_err(internal)?.pop();
    let answered = answered.ok_or_else(|| internal(anyhow::anyhow!("a query without an answer")))?;
    let mut found: Vec<WorkAnswer> =
        answered.hits.iter().take(works).map(|hit| WorkAnswer::of(state, hit)).collect();
    if align > 0 {
        let own = aligned::of_features(audio, &features).map_err(internal)?;
        for (work, hit) in found.iter_mut().zip(&answered.hits).take(align) {
            let other = state
                .feature_cache
                .indexed(audio, &state.hashes, &hit.row)
                .map_err(|refusal| refusal.body.error);
            let made = other.and_then(|other| {
                let other = aligned::of_features(audio, &other);
                let made = other.and_then(|other| aligned::align_within(&own, &other, LONGEST_ALIGNED_S));
                made.map_err(|error| bc_cli::describe(&error))
            });
            match made {
                Ok(made) => work.alignment = Some(made.into()),
                Err(reason) => work.alignment_unavailable = Some(reason),
            }
        }
    }
    let name = file.name.clone();
    Ok(IdentifyAnswer {
        query: SentFile { name, duration_s, content_hash },
        works: found,
        probability_of_none: answered.probability_of_none,
    })
}
