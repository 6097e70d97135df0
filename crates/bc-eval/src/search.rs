//! The versions of an index that are nearest to one of them, or to an audio file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_formats::config::Config;
use bc_formats::embeddings::Embeddings;
use bc_retrieval::{Distance, nearest};
use comfy_table::Table;
use serde::Serialize;

use crate::calibration::{self, Calibration};
use crate::embed;
use crate::origin;
use crate::recording::{Excerpt, Listener};
use crate::windows::Windows;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// Rank, from 1.
    pub rank: usize,
    /// Cosine similarity, from -1 to 1.
    pub score: f32,
    /// The probability that the query is a version of this work; absent without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index.
    pub clique_id: String,
    /// Title, empty where unknown.
    pub title: String,
    /// Performer, empty where unknown.
    pub performer: String,
    /// Where the window of the query that fits best begins, in seconds.
    pub query_start_s: f64,
    /// Where the indexed window that fits best begins, in seconds; 0 of whole tracks.
    pub start_s: f32,
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The version id or path asked for.
    pub query: String,
    /// The best, nearest first, one a version.
    pub hits: Vec<Hit>,
    /// The probability that the index holds no version of the query's work; absent without a
    /// calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability_of_none: Option<f64>,
}

/// How to search.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of answers a query.
    pub k: usize,
    /// Cut audio files into windows.
    pub windows: Option<Windows>,
    /// The probability that the index holds a query's work, before it was heard.
    pub prior: f64,
    /// `calibration.json`; the one beside the index if not given.
    pub calibration: Option<PathBuf>,
}

/// An index that can be asked.
pub struct Searcher<'a> {
    config: &'a Config,
    path: PathBuf,
    index: Embeddings,
    calibration: Option<Calibration>,
    listener: Option<Listener>,
    options: Options,
}

impl<'a> Searcher<'a> {
    /// Opens an index, and the calibration beside it or else that of the configuration, if there is one.
    ///
    /// # Errors
    /// Files that are absent or unreadable; a calibration of another checkpoint.
    pub fn open(config: &'a Config, path: &Path, options: Options) -> Result<Self> {
        let index = Embeddings::read(path)?;
        let beside = calibration::beside(path);
        let usual = if beside.exists() { beside } else { calibration::beside(&embed::path_of(config)) };
        let calibration = match Calibration::find(options.calibration.as_deref(), &usual)? {
            None => None,
            // Parts of tracks score otherwise than the whole tracks that a calibration is of.
            Some((file, _)) if options.windows.is_some() || index.windowed() => {
                tracing::warn!("{} is of whole tracks; windows get scores only", file.display());
                None
            }
            Some((file, calibration)) if same_network(&calibration, &index) => {
                tracing::debug!("probabilities by {}", file.display());
                Some(calibration)
            }
            Some((file, _)) if options.calibration.is_some() => bail!(
                "{} is of another checkpoint or layer than {}; make it again with `bc-eval calibrate`",
                file.display(),
                path.display()
            ),
            Some((file, _)) => {
                tracing::warn!("{} is of another checkpoint and left alone", file.display());
                None
            }
        };
        Ok(Self { config, path: path.to_owned(), index, calibration, listener: None, options })
    }

    /// Answers a query: an audio file, or the id of a version in the index, which is left out.
    ///
    /// # Errors
    /// Neither a file nor a version; a file that does not decode; another checkpoint.
    pub fn ask(&mut self, query: &str) -> Result<Answer> {
        let path = Path::new(query);
        let (excerpts, left_out) =
            if path.is_file() { (self.listen(path)?, None) } else { (self.stored(query)?, Some(query)) };
        let scores = self.scores(&excerpts, left_out)?;
        let posterior = self.calibration.as_ref().map(|calibration| {
            let works: Vec<(&str, f64)> = scores
                .iter()
                .map(|best| (self.index.labels[best.row].clique_id.as_str(), f64::from(best.score)))
                .collect();
            calibration::posterior(&calibration.line, &works, self.options.prior)
        });
        let hits = scores.iter().take(self.options.k).zip(1..).map(|(best, rank)| {
            let label = &self.index.labels[best.row];
            Hit {
                rank,
                score: best.score,
                probability: posterior.as_ref().map(|found| found.works[label.clique_id.as_str()]),
                version_id: label.version_id.clone(),
                clique_id: label.clique_id.clone(),
                title: label.title.clone(),
                performer: label.performer.clone(),
                query_start_s: excerpts[best.excerpt].start_s,
                start_s: label.start_s,
            }
        });
        Ok(Answer {
            query: query.to_owned(),
            hits: hits.collect(),
            probability_of_none: posterior.as_ref().map(|found| found.none),
        })
    }

    fn listen(&mut self, path: &Path) -> Result<Vec<Excerpt>> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => origin::listener_like(self.config, &self.path, &self.index)?,
        };
        let heard = self.listener.insert(listener).hear(path, self.options.windows)?;
        Ok(heard.excerpts)
    }

    fn stored(&self, id: &str) -> Result<Vec<Excerpt>> {
        let rows = self.index.labels.iter().zip(self.index.vectors.chunks_exact(self.index.dim.max(1)));
        let found: Vec<Excerpt> = rows
            .filter(|(label, _)| label.version_id == id)
            .map(|(label, vector)| Excerpt { start_s: f64::from(label.start_s), vector: vector.to_vec() })
            .collect();
        if found.is_empty() {
            let path = Path::new(id);
            if path.is_dir() {
                bail!("{id} is a folder; name the audio files in it");
            }
            bail!("there is no file {id:?}, and no version of that id in {}", self.path.display());
        }
        Ok(found)
    }

    /// The best pair of windows of every version, best version first.
    fn scores(&self, excerpts: &[Excerpt], left_out: Option<&str>) -> Result<Vec<Best>> {
        let vectors: Vec<f32> = excerpts.iter().flat_map(|excerpt| &excerpt.vector).copied().collect();
        let queries =
            bc_retrieval::Embeddings { vectors: &vectors, dim: vectors.len() / excerpts.len().max(1) };
        let all = bc_retrieval::Embeddings { vectors: &self.index.vectors, dim: self.index.dim };
        let found = nearest(&queries, &all, Distance::Cosine, all.rows())
            .with_context(|| self.path.display().to_string())?;
        let mut best: HashMap<&str, Best> = HashMap::new();
        for (excerpt, neighbours) in found.iter().enumerate() {
            for neighbour in neighbours {
                let new = Best { row: neighbour.row, score: 1.0 - neighbour.distance, excerpt };
                let id = self.index.labels[neighbour.row].version_id.as_str();
                let old = best.entry(id).or_insert(new);
                if new.score > old.score {
                    *old = new;
                }
            }
        }
        if let Some(id) = left_out {
            best.remove(id);
        }
        let mut best: Vec<Best> = best.into_values().collect();
        best.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        Ok(best)
    }
}

#[derive(Clone, Copy)]
struct Best {
    row: usize,
    score: f32,
    excerpt: usize,
}

/// Whether a calibration is of the network and layer that made an index.
fn same_network(calibration: &Calibration, index: &Embeddings) -> bool {
    let (left, right) = (&calibration.provenance, &index.provenance);
    origin::checkpoint_of(left) == origin::checkpoint_of(right)
        && left.settings["layer"] == right.settings["layer"]
}

/// An answer for people.
#[must_use]
pub fn table(answer: &Answer) -> String {
    let windowed = answer.hits.iter().any(|hit| hit.query_start_s > 0.0 || hit.start_s > 0.0);
    let likely = answer.probability_of_none.is_some();
    let mut table = Table::new();
    let mut head = vec!["rank", "score"];
    head.extend(likely.then_some("probability"));
    head.extend(["title", "performer", "version", "clique"]);
    head.extend(windowed.then_some("at (query / index)"));
    table.set_header(head);
    for hit in &answer.hits {
        let mut row = vec![hit.rank.to_string(), format!("{:.4}", hit.score)];
        row.extend(hit.probability.map(|value| format!("{:.1} %", 100.0 * value)));
        row.extend([&hit.title, &hit.performer, &hit.version_id, &hit.clique_id].map(Clone::clone));
        row.extend(windowed.then(|| format!("{:.0} s / {:.0} s", hit.query_start_s, hit.start_s)));
        table.add_row(row);
    }
    let verdict = match answer.probability_of_none {
        None => "No probabilities: there is no calibration for this (`bc-eval run` makes one on the validation split)."
            .to_owned(),
        Some(none) => {
            format!("The index holds no version of it with a probability of {:.1} %.", 100.0 * none)
        }
    };
    format!("{}\n{table}\n{verdict}", answer.query)
}
