//! Finds the recordings of an index that a query may be a version of, by exact search or graphs.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, ensure};
use bc_formats::fingerprint;

use super::cohort::IndexCohort;
use super::query::Query;
use crate::ann::Graphs;
use crate::index::{Index, Recording};
use crate::scan::{self, Queries, ScoredRow};

/// Number of candidates that are examined one by one; the rest of the index is represented by its mean.
const CANDIDATES: usize = 200;
/// Number of works whose further versions are looked up.
const COMPLETED_WORKS: usize = 50;
/// Maximum number of further versions of a work that are looked up.
const MAX_VERSIONS: usize = 200;

/// A recording with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// The recording.
    pub recording: Recording,
    /// Row of the recording's best vector in its segment.
    pub row: usize,
    /// The recording's best score by vectors of the index.
    pub score: f32,
    /// The recording's score by short windows, if they were compared.
    pub by_windows: Option<f32>,
    /// The part of the query that has this score.
    pub excerpt: usize,
    /// The hash of the recording's work; 0 if unknown.
    pub work: u64,
    /// Content hash of the recording's audio file; zeros if unknown.
    pub content: [u8; 16],
}

impl Candidate {
    fn new(index: &Index, recording: Recording, row: usize, score: f32, excerpt: usize) -> Self {
        let key = index.key(recording);
        Self { recording, row, score, by_windows: None, excerpt, work: key.work, content: key.content }
    }

    /// The score by short windows if they were compared, else that of whole recordings.
    pub(super) fn ranking_score(&self) -> f32 {
        self.by_windows.unwrap_or(self.score)
    }

    /// Whether the query is a file with the same bytes.
    pub(super) fn is_same_file(&self, query: &Query) -> bool {
        self.content != [0; 16] && fingerprint::of_hex(&query.content_hash) == Some(self.content)
    }
}

/// The recordings that a search found for one query.
pub(super) struct Candidates {
    /// The candidates, the best first.
    pub(super) found: Vec<Candidate>,
    /// The query's scores with the cohort.
    pub(super) cohort: Option<Vec<f64>>,
    /// Upper bound of the scores of recordings that were not examined.
    pub(super) unexamined_score_bound: f32,
}

impl Candidates {
    /// The recordings, in order.
    pub(super) fn recordings(&self) -> Vec<Recording> {
        self.found.iter().map(|candidate| candidate.recording).collect()
    }

    fn sort(&mut self) {
        self.found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.recording.cmp(&b.recording)));
    }
}

/// What candidates are found in, and how.
#[derive(Clone, Copy)]
pub(super) struct CandidateFinder<'a> {
    /// The index.
    pub(super) index: &'a Index,
    /// The graphs of the index, unless the search is exact.
    pub(super) graphs: Option<&'a Graphs>,
    /// The cohort, if its scores are needed: they are if scores are calibrated.
    pub(super) cohort: Option<&'a IndexCohort>,
}

impl CandidateFinder<'_> {
    /// The best recordings of every query: enough for answers of `k` works.
    ///
    /// # Errors
    /// As [`query_vectors`].
    pub(super) fn find(&self, batch: &[Query], k: usize) -> Result<Vec<Candidates>> {
        let queries = query_vectors(self.index, batch)?;
        let min_recordings = CANDIDATES.max(2 * k) + 1;
        let total = self.index.vectors();
        let mut k = min_recordings;
        let lists = loop {
            let lists = match self.graphs {
                Some(graphs) => graphs.nearest(self.index, &queries, k),
                None => scan::nearest(self.index, &queries, k),
            };
            // With windows, only a list with enough recordings is certain to hold a recording's best pair.
            let enough = |list: &Vec<ScoredRow>| {
                list.len() < k
                    || list
                        .iter()
                        .map(|row| self.index.recording_of(row.vector()))
                        .collect::<HashSet<_>>()
                        .len()
                        >= min_recordings
            };
            if k >= total || lists.iter().all(enough) {
                break lists;
            }
            k = (2 * k).min(total);
        };
        let cohorts = self.cohort.map(|cohort| (cohort, cohort.scores(self.index, &queries)));
        let cohort_of = |query: usize, own: Option<Recording>| {
            let (cohort, scores) = cohorts.as_ref()?;
            let scores = scores.chunks(queries.len());
            Some(cohort.without_own(scores.map(|scores| f64::from(scores[query])), own))
        };
        let mut lists = lists.into_iter();
        let mut first = 0;
        let candidates = batch.iter().map(|query| {
            let cohort = if query.excerpts.len() == 1 { cohort_of(first, query.own) } else { None };
            first += query.excerpts.len();
            self.best_pairs(query, lists.by_ref().take(query.excerpts.len()), cohort)
        });
        Ok(candidates.collect())
    }

    /// The given recordings as the only candidates; all others are represented by the cohort.
    ///
    /// # Errors
    /// As [`query_vectors`].
    pub(super) fn among(&self, query: &Query, among: &[Recording]) -> Result<Candidates> {
        let queries = query_vectors(self.index, std::slice::from_ref(query))?;
        let cohort = self.cohort.filter(|_| queries.len() == 1).map(|cohort| {
            let scores = cohort.scores(self.index, &queries);
            cohort.without_own(scores.into_iter().map(f64::from), query.own)
        });
        let mut candidates = Candidates { found: Vec::new(), cohort, unexamined_score_bound: -1.0 };
        for recording in among.iter().filter(|recording| Some(**recording) != query.own) {
            candidates.found.extend(self.best_pair(&queries, *recording));
        }
        candidates.sort();
        candidates.unexamined_score_bound = candidates.found.last().map_or(-1.0, |last| last.score);
        Ok(candidates)
    }

    /// Adds the further versions of the candidates' works, because each version is evidence.
    ///
    /// # Errors
    /// As [`query_vectors`].
    pub(super) fn add_versions(&self, query: &Query, candidates: &mut Candidates) -> Result<()> {
        let mut known: HashSet<Recording> = candidates.recordings().into_iter().collect();
        let mut works: Vec<u64> = Vec::new();
        for candidate in candidates.found.iter().filter(|candidate| candidate.work != 0) {
            if !works.contains(&candidate.work) && works.len() < COMPLETED_WORKS {
                works.push(candidate.work);
            }
        }
        let queries = query_vectors(self.index, std::slice::from_ref(query))?;
        for work in works {
            for recording in self.index.of_work(work).into_iter().take(MAX_VERSIONS) {
                if Some(recording) != query.own && known.insert(recording) {
                    candidates.found.extend(self.best_pair(&queries, recording));
                }
            }
        }
        candidates.sort();
        Ok(())
    }

    /// The best pair of a window and a vector for each recording in the lists of a query's windows.
    fn best_pairs(
        &self,
        query: &Query,
        lists: impl Iterator<Item = Vec<ScoredRow>>,
        cohort: Option<Vec<f64>>,
    ) -> Candidates {
        let mut best: HashMap<Recording, Candidate> = HashMap::new();
        let mut unexamined_score_bound: f32 = -1.0;
        for (excerpt, list) in lists.enumerate() {
            unexamined_score_bound = unexamined_score_bound.max(list.last().map_or(-1.0, |last| last.score));
            for scored in list {
                let recording = self.index.recording_of(scored.vector());
                if Some(recording) == query.own {
                    continue;
                }
                let row = scored.row as usize;
                let candidate = Candidate::new(self.index, recording, row, scored.score, excerpt);
                let old = best.entry(recording).or_insert(candidate);
                if candidate.score > old.score {
                    *old = candidate;
                }
            }
        }
        let mut candidates =
            Candidates { found: best.into_values().collect(), cohort, unexamined_score_bound };
        candidates.sort();
        candidates
    }

    /// The best pair of a recording with a query.
    fn best_pair(&self, queries: &Queries, recording: Recording) -> Option<Candidate> {
        let segment = &self.index.segments[recording.segment as usize];
        let (first, end) = segment.keys.vectors_of(recording.number);
        let scores = scan::scores_of_rows(&segment.vectors, first, end, queries);
        let best = scores.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let (row, excerpt) = (first + best.0 / queries.len(), best.0 % queries.len());
        Some(Candidate::new(self.index, recording, row, best.1, excerpt))
    }
}

/// The vectors of all parts of the queries, in the storage of the index.
///
/// # Errors
/// A silent query; vectors of another length than the index's.
fn query_vectors(index: &Index, batch: &[Query]) -> Result<Queries> {
    let dim = index.dim();
    let mut vectors = Vec::new();
    for query in batch {
        ensure!(!query.excerpts.is_empty(), "{} has only silent parts", query.name);
        for excerpt in &query.excerpts {
            ensure!(
                excerpt.vector.len() == dim,
                "{} has a vector of {} numbers, those of {} have {dim}",
                query.name,
                excerpt.vector.len(),
                index.path.display()
            );
            vectors.extend_from_slice(&excerpt.vector);
        }
    }
    Ok(Queries::new(&vectors, dim, index.manifest.storage))
}
