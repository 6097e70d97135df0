//! Answers queries against an index: finds candidates by exact search or graphs, groups them into works, gives probabilities.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use bc_calibration::{
    Calibration, Cohort, Evidence, KindProbabilities, PairKind, Posterior, UnexaminedWorks,
};
use bc_embed::origin;
use bc_embed::recording::AudioEmbedder;
use bc_embed::windows::{Windows, describe as describe_windows};
use bc_formats::config::{Compare, Config};
use bc_formats::fingerprint;
use bc_formats::run::WindowComparison;
use bc_retrieval::Sides;
use rayon::prelude::*;

use super::query::{self, Query};
use super::windows::{self, QueryWindows};
use super::works::{self, Candidate, Work};
use super::{Answer, Hit};
use crate::ann::Graphs;
use crate::calibrations::{self, Calibrations};
use crate::index::{Index, Recording};
use crate::scan::{self, Queries, ScoredRow};

/// Number of candidates that are examined one by one; the rest of the index is represented by its mean.
const CANDIDATES: usize = 200;
/// Number of works whose further versions are looked up.
const COMPLETED_WORKS: usize = 50;
/// Maximum number of further versions of a work that are looked up.
const MAX_VERSIONS: usize = 200;
/// Number of recordings whose cohorts are computed together.
const COHORT_BATCH: usize = 128;
/// Size of a query's cohort: recordings spread over the index.
const COHORT: usize = 1024;
/// Size of the cohort for short windows, whose scores cost more.
const WINDOW_COHORT: usize = 256;
/// Works with a probability above this come first.
const LIKELY: f64 = 0.5;
/// Maximum number of other versions of a work that are named in addition to the best one.
const MAX_NAMED_VERSIONS: usize = 10;

/// How to search.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of works per answer.
    pub k: usize,
    /// Cut audio files into windows.
    pub windows: Option<Windows>,
    /// The probability that the index holds a query's work, before the scores are known.
    pub prior: f64,
    /// `calibration.json`; by default the network's own, or the one next to the index.
    pub calibration: Option<PathBuf>,
    /// Find candidates with the graphs of the index ([`crate::ann`]): some of the nearest may be missed.
    pub approximate: bool,
}

/// An index that can be searched, by several threads at once.
pub struct Searcher {
    config: Config,
    /// The index that is searched.
    pub index: Index,
    calibration: Option<Calibration>,
    /// The graphs, if candidates are not found by an exact search.
    graphs: Option<Graphs>,
    /// How short windows are compared, if at all.
    compare: Option<WindowComparison>,
    /// The calibration of scores of short windows; without it, probabilities are those of whole recordings.
    window_calibration: Option<Calibration>,
    /// Number of works; each recording of an unnamed work counts as one.
    works: u64,
    /// First vectors of recordings spread over the index.
    cohort: Vec<(u32, usize)>,
    audio: OnceLock<Arc<AudioEmbedder>>,
    options: Options,
}

impl Searcher {
    /// Opens an index and its calibration. The network of `config` is opened with the first audio file.
    ///
    /// # Errors
    /// Files that are absent or unreadable; a calibration that was given and is of another network; windows of another
    /// length than those of the index.
    pub fn open(config: &Config, path: &Path, options: Options) -> Result<Self> {
        Self::from_index(config, Index::open(path)?, options)
    }

    /// As [`Searcher::open`], with an index that is already open.
    ///
    /// # Errors
    /// As [`Searcher::open`].
    pub fn from_index(config: &Config, index: Index, options: Options) -> Result<Self> {
        Self::next_generation(config, index, options, None)
    }

    /// As [`Searcher::from_index`], reusing the graphs of an older generation.
    fn next_generation(
        config: &Config,
        index: Index,
        options: Options,
        older: Option<&Self>,
    ) -> Result<Self> {
        let indexed = index.windows()?;
        if let (Some(indexed), Some(requested)) = (indexed, options.windows) {
            ensure!(
                indexed.length_s == requested.length_s,
                "{} holds {}, the queries would be {}: scores of windows of two lengths do not compare; give the \
                 same --window, or none",
                index.path.display(),
                describe_windows(Some(indexed)),
                describe_windows(Some(requested))
            );
        }
        let windowed = indexed.is_some() || options.windows.is_some();
        let by_short_windows = !windowed && config.eval.compare != Compare::Whole;
        let compare = index.manifest.compare.clone().filter(|_| by_short_windows);
        let Calibrations { whole, windows: window_calibration } =
            calibrations::of_index(config, &index, options.calibration.as_deref(), compare.as_ref())?;
        // After the checks that fail at once: opening reads every graph to check its hash.
        let graphs =
            options.approximate.then(|| Graphs::open(&index, older.and_then(|older| older.graphs.as_ref())));
        let graphs = graphs.transpose()?;
        let calibration = whole.filter(|(path, _)| {
            if windowed {
                tracing::warn!(
                    "{} is for whole recordings; windows get scores without probabilities",
                    path.display()
                );
            }
            !windowed
        });
        let calibration = calibration.map(|(_, calibration)| calibration);
        let window_calibration = window_calibration.map(|(_, calibration)| calibration);
        let works = if calibration.is_some() { count_works(&index) } else { 0 };
        let cohort = cohort_rows(&index);
        Ok(Self {
            config: config.clone(),
            index,
            calibration,
            graphs,
            compare,
            window_calibration,
            works,
            cohort,
            audio: OnceLock::new(),
            options,
        })
    }

    /// The newest generation of the index, if it differs from this one.
    ///
    /// # Errors
    /// As [`Searcher::open`].
    pub fn newer(&self) -> Result<Option<Self>> {
        let Some(index) = self.index.newer()? else { return Ok(None) };
        let mut newer = Self::next_generation(&self.config, index, self.options.clone(), Some(self))?;
        // The network is reused; the index was checked against it.
        if let Some(audio) = self.audio.get() {
            newer.audio = OnceLock::from(audio.clone());
        }
        Ok(Some(newer))
    }

    /// The calibration of the index's scores, if there is one.
    #[must_use]
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// The calibration of the index's scores.
    ///
    /// # Errors
    /// There is no calibration.
    pub fn expect_calibration(&self) -> Result<&Calibration> {
        self.calibration.as_ref().context(
            "there is no calibration of this network, and without one the scores cannot tell whether any work is present, nor whether two \
             recordings are of one work; give --calibration, or a --network FOLDER that holds one",
        )
    }

    /// The cohorts of recordings of the index; `None` if it is too small.
    ///
    /// # Errors
    /// Does not fail for recordings of this index.
    pub fn cohorts(&self, recordings: &[Recording]) -> Result<Vec<Option<Cohort>>> {
        let cohort: Vec<Recording> = self.cohort.iter().map(|row| self.recording_at(row)).collect();
        let rows = crate::cells::copy_vectors(&self.index, cohort.into_iter())?;
        let cohorts_of = |recordings: &[Recording]| -> Vec<Option<Cohort>> {
            let batch_queries = crate::cells::queries(&self.index, recordings.iter().copied());
            let scores = scan::scores_of_rows(&rows, 0, rows.rows, &batch_queries);
            let cohort_of = |query: usize| {
                let scores = (0..rows.rows).map(|row| f64::from(scores[row * batch_queries.len() + query]));
                Cohort::from_scores(self.without_own(scores, Some(recordings[query])))
            };
            (0..batch_queries.len()).map(cohort_of).collect()
        };
        Ok(recordings.par_chunks(COHORT_BATCH).flat_map_iter(cohorts_of).collect())
    }

    /// Number of works of the index; 0 without a calibration.
    #[must_use]
    pub fn works(&self) -> u64 {
        self.works
    }

    /// The folder of stored features (`[features] output`), which need not exist.
    #[must_use]
    pub fn features_folder(&self) -> &Path {
        &self.config.features.output
    }

    /// The network that made the index's vectors.
    ///
    /// # Errors
    /// There is no network at the configured path, or it is not the one that made the index.
    pub fn audio(&self) -> Result<&AudioEmbedder> {
        if let Some(audio) = self.audio.get() {
            return Ok(audio);
        }
        let embedder =
            origin::audio_embedder_like(&self.config, &self.index.path, &self.index.manifest.provenance)?;
        Ok(self.audio.get_or_init(|| Arc::new(embedder)))
    }

    /// The queries of these names: audio files, or paths of recordings in the index, which are left out of their own
    /// answers. One result per name.
    ///
    /// # Errors
    /// Errors of the network; a query's own errors are in its result.
    pub fn queries(&self, names: &[String]) -> Result<Vec<Result<Query>>> {
        let files: Vec<PathBuf> = names.iter().map(PathBuf::from).filter(|path| path.is_file()).collect();
        let mut embedded = if files.is_empty() {
            Vec::new().into_iter()
        } else {
            query::embed(
                self.audio()?,
                &files,
                self.options.windows,
                self.compare.as_ref(),
                self.config.verify.missing_share,
            )?
            .into_iter()
        };
        let queries = names.iter().map(|name| {
            if Path::new(name).is_file() {
                embedded.next().context("a file without an answer")?
            } else {
                Query::from_path(&self.index, name)
            }
        });
        Ok(queries.collect())
    }

    /// Answers queries together: the index is read once for all of them.
    ///
    /// # Errors
    /// Vectors of another length than the index's; a file of the index that cannot be read.
    pub fn answer(&self, batch: &[Query]) -> Result<Vec<Answer>> {
        self.answer_best(batch, self.options.k)
    }

    /// As [`Searcher::answer`], with `k` works per answer.
    ///
    /// # Errors
    /// As [`Searcher::answer`].
    pub fn answer_best(&self, batch: &[Query], k: usize) -> Result<Vec<Answer>> {
        let candidates = self.candidates(batch, k)?;
        batch
            .par_iter()
            .zip(candidates)
            .map(|(query, candidates)| self.answer_from(query, candidates, k))
            .collect()
    }

    /// An answer from the given candidates only, which another database found. All other works are represented by the cohort.
    ///
    /// # Errors
    /// As [`Searcher::answer`].
    pub fn answer_among(&self, query: &Query, among: &[Recording]) -> Result<Answer> {
        let queries = self.vectors(std::slice::from_ref(query))?;
        let cohort = self.cohort_scores(&queries).filter(|_| queries.len() == 1);
        let cohort = cohort.map(|scores| self.without_own(scores.into_iter().map(f64::from), query.own));
        let mut candidates = Candidates { found: Vec::new(), cohort, unexamined_score_bound: -1.0 };
        for recording in among.iter().filter(|recording| Some(**recording) != query.own) {
            candidates.found.extend(self.best_pair(&queries, *recording));
        }
        candidates.sort();
        candidates.unexamined_score_bound = candidates.found.last().map_or(-1.0, |last| last.score);
        self.answer_from(query, candidates, self.options.k)
    }

    /// The evidence for the works nearest to each query: log-likelihood ratios, before works exclude each other. It is based on
    /// short windows if the index and the query have them and their scores are calibrated; `sides` says which recording must be
    /// found in which.
    ///
    /// # Errors
    /// No calibration; otherwise as [`Searcher::answer`].
    pub fn evidence(&self, batch: &[Query], sides: Sides) -> Result<Vec<QueryEvidence>> {
        let calibration = self.expect_calibration()?;
        let candidates = self.candidates(batch, self.options.k)?;
        let evidence = batch.par_iter().zip(candidates).map(|(query, mut candidates)| {
            self.add_versions(query, &mut candidates)?;
            let whole = CohortScores::whole(&candidates);
            let by_windows = match &self.window_calibration {
                Some(_) => self.compare_windows(query, &mut candidates, sides),
                None => None,
            };
            let works = works::group(&candidates.found, None, |_, _| 0.0);
            let (whole_evidence, rest_of_whole) =
                self.work_evidence(calibration, query, &candidates, &works, &whole);
            let (calibration, cohort_scores) = self.calibration_for(calibration, whole, by_windows);
            let (evidence, rest) =
                self.work_evidence(calibration, query, &candidates, &works, &cohort_scores);
            let works =
                works.iter().zip(evidence).zip(whole_evidence).map(|((work, evidence), whole_evidence)| {
                    let best = &candidates.found[work.members[0]];
                    WorkEvidence {
                        best: best.recording,
                        work: best.work,
                        score: ranking_score(best),
                        ratio: evidence.log_ratio(),
                        ratio_of_whole: whole_evidence.log_ratio(),
                    }
                });
            Ok(QueryEvidence { works: works.collect(), rest, rest_of_whole })
        });
        evidence.collect()
    }

    /// The pairs of each query with the nearest recordings, the best first: recording, score, and the probabilities of the kinds if
    /// a share `prior` of all pairs is of one work.
    ///
    /// # Errors
    /// As [`Searcher::evidence`].
    pub fn pairs(
        &self,
        batch: &[Query],
        prior: f64,
    ) -> Result<Vec<Vec<(Recording, f32, KindProbabilities)>>> {
        let calibration = self.expect_calibration()?;
        let candidates = self.candidates(batch, self.options.k)?;
        let pairs = batch.iter().zip(candidates).map(|(query, candidates)| {
            let cohort = Cohort::from_scores(candidates.cohort.iter().flatten().copied());
            let pair = |candidate: &Candidate| {
                let score = f64::from(candidate.score);
                let same_file = is_same_file(query, candidate);
                let kinds = calibration.kinds(score, same_file, cohort.as_ref(), prior);
                (candidate.recording, candidate.score, kinds)
            };
            candidates.found.iter().map(pair).collect()
        });
        Ok(pairs.collect())
    }

    fn vectors(&self, batch: &[Query]) -> Result<Queries> {
        let dim = self.index.dim();
        let mut vectors = Vec::new();
        for query in batch {
            ensure!(!query.excerpts.is_empty(), "{} has only silent parts", query.name);
            for excerpt in &query.excerpts {
                ensure!(
                    excerpt.vector.len() == dim,
                    "{} has a vector of {} numbers, those of {} have {dim}",
                    query.name,
                    excerpt.vector.len(),
                    self.index.path.display()
                );
                vectors.extend_from_slice(&excerpt.vector);
            }
        }
        Ok(Queries::new(&vectors, dim, self.index.manifest.storage))
    }

    /// The best recordings of every query.
    fn candidates(&self, batch: &[Query], k: usize) -> Result<Vec<Candidates>> {
        let queries = self.vectors(batch)?;
        let min_recordings = CANDIDATES.max(2 * k) + 1;
        let total = self.index.vectors();
        let mut k = min_recordings;
        let lists = loop {
            let lists = match &self.graphs {
                Some(graphs) => graphs.nearest(&self.index, &queries, k),
                None => scan::nearest(&self.index, &queries, k),
            };
            // With windows, only a list with enough recordings is certain to hold a recording's best pair.
            let enough = |list: &Vec<ScoredRow>| {
                list.len() < k
                    || list.iter().map(|row| self.recording(row)).collect::<HashSet<_>>().len()
                        >= min_recordings
            };
            if k >= total || lists.iter().all(enough) {
                break lists;
            }
            k = (2 * k).min(total);
        };
        let cohorts = self.cohort_scores(&queries);
        let cohort_of = |query: usize, own: Option<Recording>| {
            let scores = cohorts.as_ref()?.chunks(queries.len());
            Some(self.without_own(scores.map(|scores| f64::from(scores[query])), own))
        };
        let mut lists = lists.into_iter();
        let mut first = 0;
        let answers = batch.iter().map(|query| {
            let cohort = if query.excerpts.len() == 1 { cohort_of(first, query.own) } else { None };
            first += query.excerpts.len();
            self.best_pairs(query, lists.by_ref().take(query.excerpts.len()), cohort)
        });
        Ok(answers.collect())
    }

    fn recording(&self, row: &ScoredRow) -> Recording {
        self.recording_at(&(row.segment, row.row as usize))
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
                let recording = self.recording(&scored);
                if Some(recording) == query.own {
                    continue;
                }
                let candidate = self.candidate(recording, scored.row as usize, scored.score, excerpt);
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

    fn candidate(&self, recording: Recording, row: usize, score: f32, excerpt: usize) -> Candidate {
        let key = self.index.key(recording);
        Candidate { recording, row, score, by_windows: None, excerpt, work: key.work, content: key.content }
    }

    /// The best pair of a recording with a query.
    fn best_pair(&self, queries: &Queries, recording: Recording) -> Option<Candidate> {
        let segment = &self.index.segments[recording.segment as usize];
        let (first, end) = segment.keys.vectors_of(recording.number);
        let rows: Vec<(u32, usize)> = (first..end).map(|row| (recording.segment, row)).collect();
        let scores = scan::scores_of(&self.index, &rows, queries);
        let best = scores.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let (row, excerpt) = (first + best.0 / queries.len(), best.0 % queries.len());
        Some(self.candidate(recording, row, best.1, excerpt))
    }

    /// A query's scores with the cohort, without the query itself: its score of 1 would look like a work that was not examined.
    fn without_own(&self, scores: impl Iterator<Item = f64>, own: Option<Recording>) -> Vec<f64> {
        let others = self.cohort.iter().zip(scores).filter(|(row, _)| Some(self.recording_at(row)) != own);
        others.map(|(_, score)| score).collect()
    }

    /// Whether a query is the only recording of its work in the index, so that leaving it out leaves out a work.
    fn is_only_version(&self, query: &Query) -> bool {
        query.own.is_some_and(|own| {
            let work = self.index.key(own).work;
            work == 0 || self.index.of_work(work) == [own]
        })
    }

    /// The scores of all queries with the cohort; `None` if they are not needed.
    fn cohort_scores(&self, queries: &Queries) -> Option<Vec<f32>> {
        self.calibration.as_ref()?;
        Some(scan::scores_of(&self.index, &self.cohort, queries))
    }

    /// Adds the further versions of the candidates' works, because each version is evidence.
    fn add_versions(&self, query: &Query, candidates: &mut Candidates) -> Result<()> {
        let mut known: HashSet<Recording> =
            candidates.found.iter().map(|candidate| candidate.recording).collect();
        let mut works: Vec<u64> = Vec::new();
        for candidate in candidates.found.iter().filter(|candidate| candidate.work != 0) {
            if !works.contains(&candidate.work) && works.len() < COMPLETED_WORKS {
                works.push(candidate.work);
            }
        }
        let queries = self.vectors(std::slice::from_ref(query))?;
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

    /// The answer to a query from its candidates, with `k` works.
    fn answer_from(&self, query: &Query, mut candidates: Candidates, k: usize) -> Result<Answer> {
        self.add_versions(query, &mut candidates)?;
        let whole = CohortScores::whole(&candidates);
        let by_windows = self.compare_windows(query, &mut candidates, Sides::Both);
        let windows_compared = by_windows.is_some();
        if windows_compared {
            self.sort_by_scaled_scores(&mut candidates);
        }
        let same_work = self.calibration.as_ref().map(Calibration::same_work_score);
        let works = works::group(&candidates.found, same_work, |a, b| self.score_between(a, b));
        let posterior = self.calibration.as_ref().map(|calibration| {
            let (calibration, cohort_scores) = self.calibration_for(calibration, whole, by_windows);
            let (evidence, rest) =
                self.work_evidence(calibration, query, &candidates, &works, &cohort_scores);
            bc_calibration::posterior(&evidence, rest, self.options.prior)
        });
        let probability = |work: usize| posterior.as_ref().map(|posterior| posterior.works[work]);
        let order = display_order(&works, posterior.as_ref(), windows_compared);
        let hits = order.into_iter().take(k).zip(1..).map(|(work, rank)| {
            let members: Vec<&Candidate> =
                works[work].members.iter().map(|member| &candidates.found[*member]).collect();
            self.hit(rank, &members, probability(work), query)
        });
        Ok(Answer {
            query: query.name.clone(),
            hits: hits.collect::<Result<_>>()?,
            probability_of_none: posterior.as_ref().map(|posterior| posterior.none),
        })
    }

    /// Compares all candidates by short windows and sorts them by the scores; returns the cohort's scores. Returns `None` and changes
    /// nothing if the index or the query has no windows.
    fn compare_windows(
        &self,
        query: &Query,
        candidates: &mut Candidates,
        sides: Sides,
    ) -> Option<CohortScores> {
        self.compare.as_ref()?;
        let short = QueryWindows::new(query, &self.index)?;
        let recordings = candidates.recordings();
        let scores = short.scores(&self.index, &recordings, sides)?;
        for (candidate, score) in candidates.found.iter_mut().zip(scores) {
            candidate.by_windows = Some(score);
        }
        candidates.found.sort_by(|a, b| ranking_score(b).total_cmp(&ranking_score(a)));
        let known: HashSet<Recording> = recordings.into_iter().collect();
        let cohort = if self.window_calibration.is_some() { self.window_cohort() } else { Vec::new() };
        let scores = short.scores(&self.index, &cohort, sides)?;
        let all: Vec<(Recording, f64)> =
            cohort.into_iter().zip(scores).map(|(recording, score)| (recording, f64::from(score))).collect();
        let others = all.iter().filter(|(recording, _)| Some(*recording) != query.own);
        let rest = others.clone().filter(|(recording, _)| !known.contains(recording));
        Some(CohortScores {
            cohort: others.map(|(_, score)| *score).collect(),
            rest: rest.map(|(_, score)| *score).collect(),
            by_windows: true,
        })
    }

    /// Sorts candidates that were compared by short windows by their locally scaled scores.
    fn sort_by_scaled_scores(&self, candidates: &mut Candidates) {
        let neighbours = self.compare.as_ref().map_or(0, |compare| compare.neighbours);
        let scores: Vec<f32> = candidates.found.iter().map(ranking_score).collect();
        let scaled = windows::locally_scaled(&self.index, &candidates.recordings(), &scores, neighbours);
        let mut order: Vec<usize> = (0..scaled.len()).collect();
        order.sort_by(|a, b| scaled[*b].total_cmp(&scaled[*a]));
        candidates.found = order.into_iter().map(|position| candidates.found[position]).collect();
    }

    /// How short windows are compared, if at all.
    #[must_use]
    pub fn compare(&self) -> Option<&WindowComparison> {
        self.compare.as_ref()
    }

    /// How short windows are compared, and the calibration of such scores, if there is one.
    #[must_use]
    pub fn window_calibration(&self) -> Option<(&WindowComparison, &Calibration)> {
        self.compare.as_ref().zip(self.window_calibration.as_ref())
    }

    /// How short windows are compared if [`Searcher::evidence`] is based on them, which needs their scores to be calibrated.
    #[must_use]
    pub fn compare_for_evidence(&self) -> Option<&WindowComparison> {
        self.compare.as_ref().filter(|_| self.window_calibration.is_some())
    }

    /// A query's cohort by short windows: recordings spread over the index.
    fn window_cohort(&self) -> Vec<Recording> {
        let step = self.cohort.len().div_ceil(WINDOW_COHORT).max(1);
        self.cohort.iter().step_by(step).map(|row| self.recording_at(row)).collect()
    }

    fn recording_at(&self, (segment, row): &(u32, usize)) -> Recording {
        let source = self.index.segments[*segment as usize].keys.sources()[*row];
        Recording { segment: *segment, number: source.recording }
    }

    /// The calibration and the scores to use: those of short windows if these are calibrated and were compared, else those
    /// of whole recordings (`calibration`, `whole`).
    fn calibration_for<'a>(
        &'a self,
        calibration: &'a Calibration,
        whole: CohortScores,
        by_windows: Option<CohortScores>,
    ) -> (&'a Calibration, CohortScores) {
        self.window_calibration.as_ref().zip(by_windows).unwrap_or((calibration, whole))
    }

    /// The evidence for each work, and for the works that were not examined.
    fn work_evidence(
        &self,
        calibration: &Calibration,
        query: &Query,
        candidates: &Candidates,
        works: &[Work],
        cohort_scores: &CohortScores,
    ) -> (Vec<Evidence>, UnexaminedWorks) {
        let cohort = Cohort::from_scores(cohort_scores.cohort.iter().copied());
        let ratio = |score: f64| calibration.log_ratio(score, cohort.as_ref());
        let score = |candidate: &Candidate| {
            let by_windows = candidate.by_windows.filter(|_| cohort_scores.by_windows);
            f64::from(by_windows.unwrap_or(candidate.score))
        };
        let evidence = works.iter().map(|work| {
            let members = || work.members.iter().map(|member| &candidates.found[*member]);
            Evidence {
                ratios: members().map(|candidate| ratio(score(candidate))).collect(),
                same_file: members().any(|candidate| is_same_file(query, candidate)),
            }
        });
        let mean_ratio = cohort_scores.rest.iter().map(|score| ratio(*score).exp()).sum::<f64>()
            / cohort_scores.rest.len().max(1) as f64;
        let all_works = self.works.saturating_sub(u64::from(self.is_only_version(query)));
        let rest = UnexaminedWorks { works: all_works.saturating_sub(works.len() as u64), mean_ratio };
        (evidence.collect(), rest)
    }

    fn hit(
        &self,
        rank: usize,
        members: &[&Candidate],
        probability: Option<f64>,
        query: &Query,
    ) -> Result<Hit> {
        let best = members[0];
        let segment = &self.index.segments[best.recording.segment as usize];
        let same_file = members.iter().any(|member| is_same_file(query, member));
        let kinds = probability.zip(self.calibration.as_ref()).map(|(same, calibration)| {
            let share = calibration.copy_share(f64::from(best.score), same_file);
            let (same_audio, same_work) = (same * share, same * (1.0 - share));
            KindProbabilities { same_audio, same_work, other: 1.0 - same }
        });
        let kind = PairKind::of(kinds, same_file);
        let others = members[1..].iter().take(MAX_NAMED_VERSIONS);
        let others = others.map(|other| Ok(self.index.row(other.recording)?.path));
        Ok(Hit {
            rank,
            score: ranking_score(best),
            probability,
            kind,
            row: self.index.row(best.recording)?,
            query_start_s: query.excerpts[best.excerpt].start_s,
            start_s: segment.keys.sources()[best.row].start_s,
            versions: members.len(),
            other_versions: others.collect::<Result<_>>()?,
            alignment: None,
        })
    }

    /// The score of two recordings of the index by their best vectors.
    fn score_between(&self, a: &Candidate, b: &Candidate) -> f64 {
        let vector =
            |row: &Candidate| self.index.segments[row.recording.segment as usize].vectors.vector(row.row);
        f64::from(bc_retrieval::cosine(&vector(a), &vector(b)))
    }
}

/// Scores of a query with the cohort.
struct CohortScores {
    /// Scores with the whole cohort.
    cohort: Vec<f64>,
    /// Scores with the recordings of the cohort that are not candidates: they represent all unexamined recordings.
    rest: Vec<f64>,
    /// Whether the scores are of short windows.
    by_windows: bool,
}

impl CohortScores {
    /// The scores of whole recordings.
    fn whole(candidates: &Candidates) -> Self {
        let cohort: Vec<f64> = candidates.cohort.iter().flatten().copied().collect();
        let rest = cohort
            .iter()
            .copied()
            .filter(|score| *score <= f64::from(candidates.unexamined_score_bound))
            .collect();
        Self { cohort, rest, by_windows: false }
    }
}

/// The order in which works are shown: by probability. If short windows were compared, only works with a probability above
/// [`LIKELY`] move to the front, and the others keep the order of their best versions.
fn display_order(works: &[Work], posterior: Option<&Posterior>, by_windows: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..works.len()).collect();
    let Some(posterior) = posterior else { return order };
    let key = |work: &usize| match posterior.works[*work] {
        likely if likely > LIKELY || !by_windows => likely,
        _ => 0.0,
    };
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    order
}

/// The evidence for one query, work by work.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryEvidence {
    /// The works nearest to the query, best version first.
    pub works: Vec<WorkEvidence>,
    /// The evidence for all other works.
    pub rest: UnexaminedWorks,
    /// The evidence for all other works, compared by whole recordings.
    pub rest_of_whole: UnexaminedWorks,
}

/// The evidence for one work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkEvidence {
    /// The best version of the work.
    pub best: Recording,
    /// The hash of the work's name; 0 if it has none.
    pub work: u64,
    /// The score of the best version.
    pub score: f32,
    /// Log-likelihood ratio of all the work's versions together.
    pub ratio: f64,
    /// The ratio by whole recordings; equal to `ratio` if short windows are not compared.
    pub ratio_of_whole: f64,
}

/// The recordings that a search found for one query.
struct Candidates {
    /// The candidates, the best first.
    found: Vec<Candidate>,
    /// The query's scores with the cohort.
    cohort: Option<Vec<f64>>,
    /// Upper bound of the scores of recordings that were not examined.
    unexamined_score_bound: f32,
}

/// The score by short windows if they were compared, else that of whole recordings.
fn ranking_score(candidate: &Candidate) -> f32 {
    candidate.by_windows.unwrap_or(candidate.score)
}

impl Candidates {
    fn recordings(&self) -> Vec<Recording> {
        self.found.iter().map(|candidate| candidate.recording).collect()
    }

    fn sort(&mut self) {
        self.found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.recording.cmp(&b.recording)));
    }
}

fn is_same_file(query: &Query, candidate: &Candidate) -> bool {
    candidate.content != [0; 16] && fingerprint::of_hex(&query.content_hash) == Some(candidate.content)
}

/// Number of works of an index; each recording of an unnamed work counts as one.
fn count_works(index: &Index) -> u64 {
    let mut named: Vec<u64> = index.recordings().map(|recording| index.key(recording).work).collect();
    let unnamed = named.iter().filter(|work| **work == 0).count() as u64;
    named.retain(|work| *work != 0);
    named.par_sort_unstable();
    named.dedup();
    unnamed + named.len() as u64
}

/// The first vectors of recordings spread evenly over those of the index that were not removed.
fn cohort_rows(index: &Index) -> Vec<(u32, usize)> {
    let step = index.len().div_ceil(COHORT).max(1);
    let first_vector = |recording: Recording| {
        let (row, end) = index.segments[recording.segment as usize].keys.vectors_of(recording.number);
        (row < end).then_some((recording.segment, row))
    };
    index.recordings().step_by(step).filter_map(first_vector).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::change::{Adder, Addition, ConflictPolicy, compact};
    use crate::index::update::RowUpdate;
    use crate::index::{Manifest, Row, Storage};

    fn row(number: usize, title: &str) -> Row {
        let path = format!("/music/{number}.mp3");
        let content_hash = format!("{:032x}", number + 1);
        Row { path, title: title.to_owned(), content_hash, ..Row::default() }
    }

    #[test]
    fn cohort_is_drawn_from_present_rows_and_stays_the_same_without_removed_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let empty = Manifest::from_provenance(serde_json::json!({}), [].into(), Storage::F16, 2);
        let mut adder = Adder::open(&path, empty, ConflictPolicy::KeepOld).unwrap();
        let count = 2500;
        let additions = (0..count).map(|number| Addition {
            row: row(number, "old"),
            parts: vec![(0.0, vec![1.0, number as f32])],
            windows: Vec::new(),
        });
        adder.add(additions.collect()).unwrap();
        let paths = |index: &Index, rows: &[(u32, usize)]| -> Vec<String> {
            let row = |(segment, row): &(u32, usize)| {
                let segment = &index.segments[*segment as usize];
                segment.row(segment.keys.sources()[*row].recording).unwrap().path
            };
            rows.iter().map(row).collect()
        };
        let index = Index::open(&path).unwrap();
        let before = cohort_rows(&index);
        // Every third of 2500, as without any removed rows since version 0.1.
        let expected: Vec<String> = (0..count).step_by(3).map(|number| row(number, "").path).collect();
        assert_eq!(paths(&index, &before), expected);
        // Metadata of all rows are corrected, twice: 5000 removed rows stay until `compact`.
        for (old, new) in [("old", "new"), ("new", "newer")] {
            let updates = (0..count).map(|number| RowUpdate { old: row(number, old), row: row(number, new) });
            adder.update(&updates.collect::<Vec<_>>()).unwrap();
        }
        let index = Index::open(&path).unwrap();
        assert_eq!((index.len(), index.vectors()), (count, 3 * count));
        assert_eq!(paths(&index, &cohort_rows(&index)), expected, "updates do not change the cohort");
        compact(&path).unwrap();
        let index = Index::open(&path).unwrap();
        assert_eq!(paths(&index, &cohort_rows(&index)), expected);
    }
}
