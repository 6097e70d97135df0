//! The works of an index that a recording may be a version of: one line per work, the likeliest first.

mod table;
mod works;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::Config;
use bc_formats::embeddings::Embeddings;
use bc_formats::fingerprint;
use bc_retrieval::{Distance, Vectors, closest_by_group};
use serde::Serialize;

use crate::calibration::{self, Calibration, Evidence};
use crate::embed;
use crate::origin::{self, Origin};
use crate::recording::{AudioEmbedder, Excerpt};
use crate::windows::{Windows, in_words};
pub use table::table;
use works::{Candidate, Work};

/// Other versions of a work that are named beside the best one, at most.
const OTHERS: usize = 10;

/// A work that the query may be a version of, by its best version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Rank, from 1: by probability, or by score without a calibration.
    pub rank: usize,
    /// Cosine similarity of the best version, from -1 to 1.
    pub score: f32,
    /// The probability that the query is a version of this work; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Id of the best version.
    pub version_id: String,
    /// Its clique in the index.
    pub clique_id: String,
    /// Its title, empty where unknown.
    pub title: String,
    /// Its performer, empty where unknown.
    pub performer: String,
    /// Where the window of the query that fits best begins, in seconds.
    pub query_start_s: f64,
    /// Where the indexed window that fits best begins, in seconds; 0 of whole tracks.
    pub start_s: f32,
    /// Whether the query is the same recording: the same file, or a score that only copies have.
    pub copy: bool,
    /// Versions of this work in the index, the best one included.
    pub versions: usize,
    /// Ids of the next best ones.
    pub other_versions: Vec<String>,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The version id or path asked for.
    pub query: String,
    /// The works, likeliest first, one line each.
    pub hits: Vec<Hit>,
    /// The probability that the index holds no version of the query's work; absent without a
    /// calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_of_none: Option<f64>,
}

/// A query without an answer, as JSON says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// The version id or path asked for.
    pub query: String,
    /// Why there is no answer.
    pub error: String,
}

/// How to search.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of works per answer.
    pub k: usize,
    /// Cut audio files into windows.
    pub windows: Option<Windows>,
    /// The probability that the index holds a query's work, before the scores are known.
    pub prior: f64,
    /// `calibration.json`; the one beside the index if not given.
    pub calibration: Option<PathBuf>,
}

/// An index that can be asked.
pub struct Searcher<'a> {
    config: &'a Config,
    path: PathBuf,
    index: Embeddings,
    /// The version that each row is of.
    version_of: Vec<u32>,
    /// The first row of each version.
    first_rows: Vec<usize>,
    calibration: Option<Calibration>,
    audio: Option<AudioEmbedder>,
    options: Options,
}

/// What is asked: vectors, and what they are of.
struct Query {
    excerpts: Vec<Excerpt>,
    hash: String,
    /// The version that is left out of the answer: the query itself.
    own: Option<u32>,
}

impl<'a> Searcher<'a> {
    /// Opens an index, and the calibration beside it or else that of the configuration, if there is one.
    ///
    /// # Errors
    /// Files that are absent or unreadable; a calibration of another checkpoint; windows of another length than
    /// those of the index.
    pub fn open(config: &'a Config, path: &Path, options: Options) -> Result<Self> {
        let index = Embeddings::read(path)?;
        let indexed = Windows::of_file(&index.provenance).with_context(|| path.display().to_string())?;
        if let (Some(indexed), Some(asked)) = (indexed, options.windows) {
            ensure!(
                indexed.length_s == asked.length_s,
                "{} holds {}, the queries would be {}: scores of windows of two lengths do not compare; give the \
                 same --window, or none",
                path.display(),
                in_words(Some(indexed)),
                in_words(Some(asked))
            );
        }
        let windowed = indexed.is_some() || options.windows.is_some();
        let calibration = calibration(config, path, &index, windowed, options.calibration.as_deref())?;
        let (mut version_of, mut first_rows) = (Vec::with_capacity(index.labels.len()), Vec::new());
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (row, label) in index.labels.iter().enumerate() {
            let number = *numbers.entry(&label.version_id).or_insert_with(|| {
                first_rows.push(row);
                first_rows.len() as u32 - 1
            });
            version_of.push(number);
        }
        let path = path.to_owned();
        Ok(Self { config, path, index, version_of, first_rows, calibration, audio: None, options })
    }

    /// Answers a query: an audio file, or the id of a version in the index, which is left out.
    ///
    /// # Errors
    /// Neither a file nor a version; a file that does not decode; another checkpoint.
    pub fn ask(&mut self, text: &str) -> Result<Answer> {
        let path = Path::new(text);
        let query = if path.is_file() { self.audio_query(path)? } else { self.stored_query(text)? };
        let candidates = self.candidates(&query)?;
        let same_work = self.calibration.as_ref().map(Calibration::same_work_score);
        let works = works::group(&candidates, same_work, |a, b| self.score_of_rows(a, b));
        let copies: Vec<bool> = works.iter().map(|work| self.is_copy(work, &candidates, &query)).collect();
        let posterior = self.calibration.as_ref().map(|calibration| {
            let evidence = works.iter().zip(&copies).map(|(work, copy)| Evidence {
                scores: work.members.iter().map(|place| f64::from(candidates[*place].score)).collect(),
                copy: *copy,
            });
            calibration::posterior(&calibration.line, &evidence.collect::<Vec<_>>(), self.options.prior)
        });
        let probability = |work: usize| posterior.as_ref().map(|posterior| posterior.works[work]);
        let mut order: Vec<usize> = (0..works.len()).collect();
        // Works are in the order of their best versions, which decides where probabilities are equal.
        order.sort_by(|a, b| match (probability(*a), probability(*b)) {
            (Some(one), Some(two)) => two.total_cmp(&one),
            _ => Ordering::Equal,
        });
        let hits = order.into_iter().take(self.options.k).zip(1..).map(|(work, rank)| {
            let members: Vec<&Candidate<'_>> =
                works[work].members.iter().map(|place| &candidates[*place]).collect();
            self.hit(rank, &members, probability(work), copies[work], &query)
        });
        Ok(Answer {
            query: text.to_owned(),
            hits: hits.collect(),
            probability_of_none: posterior.as_ref().map(|posterior| posterior.none),
        })
    }

    fn hit(
        &self,
        rank: usize,
        members: &[&Candidate<'_>],
        probability: Option<f64>,
        copy: bool,
        query: &Query,
    ) -> Hit {
        let best = members[0];
        let label = &self.index.labels[best.row];
        let others = members[1..].iter().take(OTHERS);
        Hit {
            rank,
            score: best.score,
            probability,
            version_id: label.version_id.clone(),
            clique_id: label.clique_id.clone(),
            title: label.title.clone(),
            performer: label.performer.clone(),
            query_start_s: query.excerpts[best.excerpt].start_s,
            start_s: label.start_s,
            copy,
            versions: members.len(),
            other_versions: others.map(|other| self.index.labels[other.row].version_id.clone()).collect(),
        }
    }

    fn audio_query(&mut self, path: &Path) -> Result<Query> {
        let audio = match self.audio.take() {
            Some(audio) => audio,
            None => origin::audio_embedder_like(self.config, &self.path, &self.index.provenance)?,
        };
        let embedded = self.audio.insert(audio).embed(path, self.options.windows)?;
        Ok(Query { excerpts: embedded.excerpts, hash: fingerprint::of_file(path)?, own: None })
    }

    fn stored_query(&self, id: &str) -> Result<Query> {
        let first = self.first_rows.iter().position(|row| self.index.labels[*row].version_id == id);
        let Some(own) = first else {
            if Path::new(id).is_dir() {
                bail!("{id} is a folder; name the audio files in it");
            }
            bail!("there is no file {id:?}, and no version of that id in {}", self.path.display());
        };
        let rows = (0..self.index.labels.len()).filter(|row| self.version_of[*row] as usize == own);
        let excerpts = rows.map(|row| Excerpt {
            start_s: f64::from(self.index.labels[row].start_s),
            vector: self.vector(row).to_vec(),
        });
        let hash = self.index.labels[self.first_rows[own]].source_hash.clone();
        Ok(Query { excerpts: excerpts.collect(), hash, own: Some(own as u32) })
    }

    /// Every version with the score of its best pair of windows, best version first.
    fn candidates(&self, query: &Query) -> Result<Vec<Candidate<'_>>> {
        let vectors: Vec<f32> = query.excerpts.iter().flat_map(|excerpt| &excerpt.vector).copied().collect();
        let queries = Vectors { vectors: &vectors, dim: vectors.len() / query.excerpts.len().max(1) };
        let all = Vectors { vectors: &self.index.vectors, dim: self.index.dim };
        let closest =
            closest_by_group(&queries, &all, Distance::Cosine, &self.version_of, self.first_rows.len())
                .with_context(|| self.path.display().to_string())?;
        let others = closest.iter().enumerate().filter(|(version, _)| Some(*version as u32) != query.own);
        let mut candidates: Vec<Candidate<'_>> = others
            .filter_map(|(_, closest)| {
                let closest = (*closest)?;
                let label = &self.index.labels[closest.row];
                Some(Candidate {
                    row: closest.row,
                    score: 1.0 - closest.distance,
                    excerpt: closest.query,
                    clique: &label.clique_id,
                    hash: &label.source_hash,
                })
            })
            .collect();
        candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        Ok(candidates)
    }

    fn is_copy(&self, work: &Work, candidates: &[Candidate<'_>], query: &Query) -> bool {
        let least = self.calibration.as_ref().map(|calibration| calibration.copy_score);
        work.members.iter().map(|place| &candidates[*place]).any(|candidate| {
            let same_file = !query.hash.is_empty() && candidate.hash == query.hash;
            same_file || least.is_some_and(|least| f64::from(candidate.score) >= least)
        })
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.index.vectors[row * self.index.dim..][..self.index.dim]
    }

    fn score_of_rows(&self, a: usize, b: usize) -> f64 {
        f64::from(bc_retrieval::cosine(self.vector(a), self.vector(b)))
    }
}

/// The calibration to use: none for windows, and none of another network unless it was asked for.
fn calibration(
    config: &Config,
    path: &Path,
    index: &Embeddings,
    windowed: bool,
    given: Option<&Path>,
) -> Result<Option<Calibration>> {
    let beside = calibration::beside(path);
    let usual = if beside.exists() { beside } else { calibration::beside(&embed::path_of(config)) };
    let Some((file, calibration)) = Calibration::find(given, &usual)? else { return Ok(None) };
    if windowed {
        // Parts of tracks score otherwise than the whole tracks that a calibration is of.
        tracing::warn!("{} is of whole tracks; windows get scores only", file.display());
        return Ok(None);
    }
    let fits = Origin::of(&calibration.provenance).expect(&file, &Origin::of(&index.provenance), path);
    match fits {
        Ok(()) => {
            tracing::debug!("probabilities by {}", file.display());
            Ok(Some(calibration))
        }
        Err(error) if given.is_some() => Err(error.context("make it again with `bc-eval calibrate`")),
        Err(error) => {
            tracing::warn!("scores only: {error:#}");
            Ok(None)
        }
    }
}
