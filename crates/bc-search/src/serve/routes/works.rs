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
use crate::serve::feature_cache::file_name;
use crate::serve::refusal::{Refusal, Refused};
use crate::serve::state::{State, Works};

/// Works of a page, at most.
const MOST: usize = 200;
/// Recordings of a work that are listed.
const RECORDINGS: usize = 20;

/// Which works.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Those with this in their name, title, performer or file name; all if not given.
    #[serde(default)]
    q: String,
    /// Works to pass over.
    #[serde(default)]
    offset: usize,
    /// Works of the answer, 1 to 200; 50 if not given.
    limit: Option<usize>,
}

/// All works of the index as it is now, in the order in which they came.
pub fn all(state: &State, searcher: &Searcher) -> Works {
    let generation = searcher.index.manifest.generation;
    let mut held = state.works.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, works)) = held.as_ref().filter(|(of, _)| *of == generation) {
        return works.clone();
    }
    let (mut works, mut places) = (Vec::new(), HashMap::new());
    for recording in searcher.index.recordings() {
        let work = searcher.index.key(recording).work;
        if work == 0 {
            works.push(vec![recording]);
        } else {
            let place = *places.entry(work).or_insert(works.len());
            if place == works.len() {
                works.push(Vec::new());
            }
            works[place].push(recording);
        }
    }
    let works = Arc::new(works);
    *held = Some((generation, works.clone()));
    works
}

/// The works of the index.
#[utoipa::path(
    get,
    path = "/works",
    params(Asked),
    responses(
        (status = 200, body = WorksAnswer),
        (status = 400, description = "another question", body = Refused),
        (status = 503, description = "the server is busy: come again", body = Refused),
    )
)]
pub async fn works(
    Extracted(state): Extracted<Arc<State>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<WorksAnswer>, Refusal> {
    let Query(asked) = asked.map_err(|error| Refusal::bad(error.body_text()))?;
    let shared = state.clone();
    let answer = state.queue.work(move || list(&shared, &asked).map_err(|error| Refusal::internal(&error)));
    Ok(Json(answer.await?))
}

fn list(state: &State, asked: &Asked) -> anyhow::Result<WorksAnswer> {
    let searcher = state.searcher();
    let works = all(state, &searcher);
    let text = asked.q.trim().to_lowercase();
    let fits = |row: &Row| {
        [&row.work, &row.title, &row.performer, file_name(&row.path)]
            .iter()
            .any(|field| field.to_lowercase().contains(&text))
    };
    let mut places = Vec::new();
    for (place, recordings) in works.iter().enumerate() {
        let mut fit = text.is_empty();
        for recording in recordings {
            if fit {
                break;
            }
            fit = fits(&searcher.index.row(*recording)?);
        }
        places.extend(fit.then_some(place));
    }
    let limit = asked.limit.unwrap_or(50).clamp(1, MOST);
    let shown = places.iter().skip(asked.offset).take(limit).map(|place| {
        let recordings = &works[*place];
        let rows: anyhow::Result<Vec<Row>> =
            recordings.iter().take(RECORDINGS).map(|recording| searcher.index.row(*recording)).collect();
        let rows = rows?;
        let first = rows.first().cloned().unwrap_or_default();
        let names = [first.work, first.title, file_name(&first.path).to_owned()];
        Ok(ListedWork {
            name: names.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
            versions: recordings.len(),
            recordings: rows.iter().map(|row| IndexedRecording::of(state, row)).collect(),
        })
    });
    Ok(WorksAnswer {
        total: places.len(),
        offset: asked.offset,
        works: shown.collect::<anyhow::Result<_>>()?,
    })
}
