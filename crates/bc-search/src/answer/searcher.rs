//! Answers queries against an index: finds candidates by exact search or graphs, groups them into works, gives probabilities.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use bc_calibration::{Calibration, Cohort, KindProbabilities, PairKind, Posterior};
use bc_embed::origin;
use bc_embed::recording::AudioEmbedder;
use bc_embed::windows::{Windows, describe as describe_windows};
use bc_formats::config::{Compare, Config};
use bc_formats::run::WindowComparison;
use bc_retrieval::Sides;
use rayon::prelude::*;

use super::candidates::{Candidate, CandidateFinder, Candidates};
use super::cohort::IndexCohort;
use super::cohort_scores::CohortScores;
use super::evidence::{GroupedCandidates, QueryEvidence, WorkEvidence};
use super::query::{self, Query};
use super::windows::{self, QueryWindows};
use super::works::{self, Work};
use super::{Answer, Hit};
use crate::ann::Graphs;
use crate::calibrations::{self, Calibrations};
use crate::index::{Index, Recording};

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
    cohort: IndexCohort,
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
        let cohort = IndexCohort::of(&index);
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
    pub fn require_calibration(&self) -> Result<&Calibration> {
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
        self.cohort.of_recordings(&self.index, recordings)
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
        let candidates = self.finder().find(batch, k)?;
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
        let candidates = self.finder().among(query, among)?;
        self.answer_from(query, candidates, self.options.k)
    }

    /// The evidence for the works nearest to each query: log-likelihood ratios, before works exclude each other. It is based on
    /// short windows if the index and the query have them and their scores are calibrated; `sides` says which recording must be
    /// found in which.
    ///
    /// # Errors
    /// No calibration; otherwise as [`Searcher::answer`].
    pub fn evidence(&self, batch: &[Query], sides: Sides) -> Result<Vec<QueryEvidence>> {
        let calibration = self.require_calibration()?;
        let candidates = self.finder().find(batch, self.options.k)?;
        let evidence = batch.par_iter().zip(candidates).map(|(query, mut candidates)| {
            self.finder().add_versions(query, &mut candidates)?;
            let whole = CohortScores::whole(&candidates);
            let by_windows = match &self.window_calibration {
                Some(_) => self.compare_windows(query, &mut candidates, sides),
                None => None,
            };
            let works = works::group(&candidates.found, None, |_, _| 0.0);
            let grouped = self.grouped(query, &candidates, &works);
            let (whole_evidence, rest_of_whole) = grouped.evidence(calibration, &whole);
            let (calibration, cohort_scores) = self.calibration_for(calibration, whole, by_windows);
            let (evidence, rest) = grouped.evidence(calibration, &cohort_scores);
            let works =
                works.iter().zip(evidence).zip(whole_evidence).map(|((work, evidence), whole_evidence)| {
                    let best = &candidates.found[work.members[0]];
                    WorkEvidence {
                        best: best.recording,
                        work: best.work,
                        score: best.ranking_score(),
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
        let calibration = self.require_calibration()?;
        let candidates = self.finder().find(batch, self.options.k)?;
        let pairs = batch.iter().zip(candidates).map(|(query, candidates)| {
            let cohort = Cohort::from_scores(candidates.cohort.iter().flatten().copied());
            let pair = |candidate: &Candidate| {
                let score = f64::from(candidate.score);
                let same_file = candidate.is_same_file(query);
                let kinds = calibration.kinds(score, same_file, cohort.as_ref(), prior);
                (candidate.recording, candidate.score, kinds)
            };
            candidates.found.iter().map(pair).collect()
        });
        Ok(pairs.collect())
    }

    /// Whether a query is the only recording of its work in the index, so that leaving it out leaves out a work.
    fn is_only_version(&self, query: &Query) -> bool {
        query.own.is_some_and(|own| {
            let work = self.index.key(own).work;
            work == 0 || self.index.of_work(work) == [own]
        })
    }

    /// The answer to a query from its candidates, with `k` works.
    fn answer_from(&self, query: &Query, mut candidates: Candidates, k: usize) -> Result<Answer> {
        self.finder().add_versions(query, &mut candidates)?;
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
                self.grouped(query, &candidates, &works).evidence(calibration, &cohort_scores);
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
        candidates.found.sort_by(|a, b| b.ranking_score().total_cmp(&a.ranking_score()));
        let cohort = self.window_calibration.as_ref().map(|_| &self.cohort);
        CohortScores::by_windows(&self.index, cohort, &short, candidates, query.own, sides)
    }

    /// Sorts candidates that were compared by short windows by their locally scaled scores.
    fn sort_by_scaled_scores(&self, candidates: &mut Candidates) {
        let neighbours = self.compare.as_ref().map_or(0, |compare| compare.neighbours);
        let scores: Vec<f32> = candidates.found.iter().map(Candidate::ranking_score).collect();
        let scaled = windows::locally_scaled(&self.index, &candidates.recordings(), &scores, neighbours);
        let mut order: Vec<usize> = (0..scaled.len()).collect();
        order.sort_by(|a, b| scaled[*b].total_cmp(&scaled[*a]));
        candidates.found = order.into_iter().map(|position| candidates.found[position]).collect();
    }

    fn finder(&self) -> CandidateFinder<'_> {
        let cohort = self.calibration.as_ref().map(|_| &self.cohort);
        CandidateFinder { index: &self.index, graphs: self.graphs.as_ref(), cohort }
    }

    fn grouped<'a>(
        &self,
        query: &'a Query,
        candidates: &'a Candidates,
        works: &'a [Work],
    ) -> GroupedCandidates<'a> {
        let works_in_index = self.works.saturating_sub(u64::from(self.is_only_version(query)));
        GroupedCandidates { query, candidates: &candidates.found, works, works_in_index }
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

    fn hit(
        &self,
        rank: usize,
        members: &[&Candidate],
        probability: Option<f64>,
        query: &Query,
    ) -> Result<Hit> {
        let best = members[0];
        let segment = &self.index.segments[best.recording.segment as usize];
        let same_file = members.iter().any(|member| member.is_same_file(query));
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
            score: best.ranking_score(),
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

/// Number of works of an index; each recording of an unnamed work counts as one.
fn count_works(index: &Index) -> u64 {
    let mut named: Vec<u64> = index.recordings().map(|recording| index.key(recording).work).collect();
    let unnamed = named.iter().filter(|work| **work == 0).count() as u64;
    named.retain(|work| *work != 0);
    named.par_sort_unstable();
    named.dedup();
    unnamed + named.len() as u64
}
