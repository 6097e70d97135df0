//! The works of the index, page by page.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extracted};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::answer::Searcher;
use crate::index::Row;
use crate::serve::answers::{IndexedRecording, ListedWork, WorksAnswer};
use crate::serve::api_error::{ApiError, ErrorBody};
use crate::serve::feature_cache::file_name;
use crate::serve::state::{State, Works};

/// Maximum number of works of a page.
const MAX_WORKS: usize = 200;
/// Maximum number of recordings that are listed for a work.
const MAX_RECORDINGS: usize = 20;

/// The error of a request with other parameters.
const PARAMETERS: &str =
    "the parameters are `q` (a text), `offset` (a number from 0) and `limit` (a number from 1 to 200)";

/// The query parameters of a list of works.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorksQuery {
    /// Text that must be in the name, title, performer or file name; all works if not given.
    #[serde(default)]
    q: String,
    /// Number of works to skip.
    #[serde(default)]
    offset: usize,
    /// Number of works of the answer, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// All works of the current index, in the order of their first recordings.
pub fn all(state: &State, searcher: &Searcher) -> Works {
    let generation = searcher.index.manifest.generation;
    let mut cached = state.works.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, works)) =
        cached.as_ref().filter(|(cached_generation, _)| *cached_generation == generation)
    {
        return works.clone();
    }
    let (mut works, mut index_of_work) = (Vec::new(), HashMap::new());
    for recording in searcher.index.recordings() {
        let work = searcher.index.key(recording).work;
        if work == 0 {
            works.push(vec![recording]);
        } else {
            let index = *index_of_work.entry(work).or_insert(works.len());
            if index == works.len() {
                works.push(Vec::new());
            }
            works[index].push(recording);
        }
    }
    let works = Arc::new(works);
    *cached = Some((generation, works.clone()));
    works
}

/// The works of the index.
#[utoipa::path(
    get,
    path = "/works",
    params(WorksQuery),
    responses(
        (status = 200, body = WorksAnswer),
        (status = 400, description = "invalid query parameters", body = ErrorBody),
        (status = 503, description = "the server is busy: try again later", body = ErrorBody),
    )
)]
pub async fn works(
    Extracted(state): Extracted<Arc<State>>,
    query: Result<Query<WorksQuery>, QueryRejection>,
) -> Result<Json<WorksAnswer>, ApiError> {
    let Query(query) = query.map_err(|_| ApiError::bad_request(PARAMETERS))?;
    if query.limit.is_some_and(|limit| !(1..=MAX_WORKS).contains(&limit)) {
        return Err(ApiError::bad_request(PARAMETERS));
    }
    let shared = state.clone();
    let answer = state.queue.work(move || list(&shared, &query).map_err(|error| ApiError::internal(&error)));
    Ok(Json(answer.await?))
}

fn list(state: &State, query: &WorksQuery) -> anyhow::Result<WorksAnswer> {
    let searcher = state.searcher();
    let works = all(state, &searcher);
    let text = query.q.trim().to_lowercase();
    let matches = |row: &Row| {
        [&row.work, &row.title, &row.performer, file_name(&row.path)]
            .iter()
            .any(|field| field.to_lowercase().contains(&text))
    };
    let mut matching = Vec::new();
    for (index, recordings) in works.iter().enumerate() {
        let mut is_match = text.is_empty();
        for recording in recordings {
            if is_match {
                break;
            }
            is_match = matches(&searcher.index.row(*recording)?);
        }
        matching.extend(is_match.then_some(index));
    }
    let limit = query.limit.unwrap_or(50);
    let shown = matching.iter().skip(query.offset).take(limit).map(|index| {
        let recordings = &works[*index];
        let rows: anyhow::Result<Vec<Row>> =
            recordings.iter().take(MAX_RECORDINGS).map(|recording| searcher.index.row(*recording)).collect();
        let rows = rows?;
        let first = rows.first().cloned().unwrap_or_default();
        let names = [first.work, first.title, file_name(&first.path).to_owned()];
        Ok(ListedWork {
            name: names.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
            versions: recordings.len(),
            recordings: rows.iter().map(|row| IndexedRecording::from_row(state, row)).collect(),
        })
    });
    Ok(WorksAnswer {
        total: matching.len(),
        offset: query.offset,
        works: shown.collect::<anyhow::Result<_>>()?,
    })
}
