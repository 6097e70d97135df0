//! Makes a timeline of works from a long recording (a DJ set, a broadcast).
//!
//! The recording is cut into overlapping windows. Each is a query that must match an excerpt of a work, by short windows at several tempi
//! if the index has them. The most likely sequence of works, each of which lasts longer
//! than one window or is none, is found by dynamic programming (Viterbi, "Error bounds for convolutional codes and an
//! asymptotically optimum decoding algorithm", IEEE Transactions on Information Theory 13, 1967). Short windows then locate the
//! beginning and end of each work more precisely ([`edges`]). Finally each stretch is one query as a whole, as in the calibration.

mod edges;
mod short;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bc_calibration::{Evidence, UnexaminedWorks, posterior};
use bc_cli::progress;
use bc_embed::recording::Excerpt;
use bc_embed::windows::Windows;
use bc_formats::run::WindowComparison;
use bc_retrieval::Sides;
use serde::Serialize;

use crate::answer::{Query, QueryEvidence, Searcher, WorkEvidence};
use crate::index::{Index, Recording, Row};
use edges::SimilarityCurve;
use short::FileWindows;

/// Number of windows that are searched at once.
const SEARCH_BATCH: usize = 256;
/// Windows that overlap by less than this share of their length count as independent.
const MIN_OVERLAP: f64 = 1.0 / 3.0;
/// Minimum length of a window in seconds: a shorter excerpt does not tell works apart.
const MIN_WINDOW_S: f64 = 2.0;
/// Minimum distance of windows in seconds: with a smaller one the evidence of a window counts for nothing.
const MIN_STEP_S: f64 = 0.5;
/// How often works change, per second: a song lasts some minutes.
const CHANGES_PER_S: f64 = 1.0 / 120.0;

/// A stretch of the recording that belongs to one work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// The long recording.
    pub file: PathBuf,
    /// Where the stretch begins in the file, in seconds.
    pub start_s: f64,
    /// Where the stretch ends, in seconds.
    pub end_s: f64,
    /// The probability that the stretch is of this work, against every other and none.
    pub probability: f64,
    /// The highest score of a window.
    pub score: f32,
    /// The best version of the work.
    pub row: Row,
}

/// Settings of a timeline.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The windows.
    pub windows: Windows,
    /// The probability that a stretch is of a work of the index.
    pub prior: f64,
    /// Stretches below this probability are left out.
    pub min_probability: f64,
}

/// Refuses windows of which no timeline can be made.
///
/// # Errors
/// A window below 2 s; a step below 0.5 s or above the window.
pub fn check_windows(windows: Windows) -> Result<Windows> {
    ensure!(
        windows.length_s >= MIN_WINDOW_S,
        "--window {} is too short; give {MIN_WINDOW_S} s or more",
        windows.length_s
    );
    ensure!(
        (MIN_STEP_S..=windows.length_s).contains(&windows.step_s),
        "--step {} is not possible; give {MIN_STEP_S} to {} s, the length of a window",
        windows.step_s,
        windows.length_s
    );
    Ok(windows)
}

/// A window must hold at least one of the short windows that the index keeps.
fn check_short_windows(windows: Windows, compare: Option<&WindowComparison>) -> Result<()> {
    let Some(compare) = compare else { return Ok(()) };
    ensure!(
        windows.length_s >= compare.window_s,
        "--window {} is shorter than the short windows that the index keeps; give {} s or more",
        windows.length_s,
        compare.window_s
    );
    Ok(())
}

/// The works of a file, in order of their times. Memory grows with the file's length, whatever the index's size: features, 5 MB per hour at the
/// default pooling; inputs of windows, 10 MB; vectors of short windows, 8 MB at five tempi.
///
/// # Errors
/// No calibration; an index of windows; a file that does not decode or is silent.
pub fn timeline(searcher: &Searcher, file: &Path, options: Options) -> Result<Vec<Stretch>> {
    ensure!(
        searcher.index.windows()?.is_none(),
        "{} holds windows of recordings; a timeline needs an index of whole recordings",
        searcher.index.path.display()
    );
    check_short_windows(options.windows, searcher.compare_for_evidence())?;
    let audio = searcher.audio()?;
    let features = audio.features(file)?;
    ensure!(
        features.duration_s >= options.windows.length_s,
        "{} is {:.1} s long, which is less than a window of {} s; give a shorter --window, or use `bc-search search`",
        file.display(),
        features.duration_s,
        options.windows.length_s
    );
    let embedded = audio.embed_features(file, &features, Some(options.windows))?;
    let short = FileWindows::new(searcher, file, &features)?;
    let bar = progress::bar(embedded.excerpts.len() as u64, "searching", "windows");
    let (mut starts, mut window_evidence) = (Vec::new(), Vec::new());
    for excerpts in embedded.excerpts.chunks(SEARCH_BATCH) {
        let queries = excerpts.iter().cloned().map(|excerpt| {
            let tempi = short.within(excerpt.start_s, excerpt.start_s + options.windows.length_s);
            query(excerpt, tempi)
        });
        window_evidence.extend(searcher.evidence(&queries.collect::<Vec<_>>(), Sides::Second)?);
        starts.extend(excerpts.iter().map(|excerpt| excerpt.start_s));
        bar.inc(excerpts.len() as u64);
    }
    bar.finish_and_clear();
    let sequence = WorkSequence::new(&window_evidence, searcher.works(), options);
    let runs: Vec<WindowRun> = sequence.runs().into_iter().filter(|run| run.work.is_some()).collect();
    let mut spans: Vec<(f64, f64)> =
        runs.iter().map(|run| run_times(&starts, run, options.windows, embedded.duration_s)).collect();
    let bests: Vec<Option<Recording>> = runs.iter().map(|run| sequence.best(&window_evidence, run)).collect();
    refine_edges(&searcher.index, &short, &bests, &mut spans, options.windows);
    let wholes = audio.embed_spans(&features, &spans)?;
    let queries = spans.iter().zip(wholes).map(|((start_s, end_s), vector)| {
        query(Excerpt { start_s: 0.0, vector }, short.within(*start_s, *end_s))
    });
    let queries = queries.collect();
    let stretches = runs.into_iter().zip(spans).collect();
    search_stretches(searcher, file, options, &sequence, stretches, queries)
}

/// Searches for every stretch as a whole, and keeps those with the minimum probability; `stretches` holds the windows of each, and
/// its beginning and end in seconds.
fn search_stretches(
    searcher: &Searcher,
    file: &Path,
    options: Options,
    sequence: &WorkSequence,
    stretches: Vec<(WindowRun, (f64, f64))>,
    queries: Vec<Query>,
) -> Result<Vec<Stretch>> {
    let mut found = Vec::new();
    for ((run, (start_s, end_s)), query_evidence) in
        stretches.into_iter().zip(searcher.evidence(&queries, Sides::Both)?)
    {
        let Some(key) = run.work.map(|work| sequence.keys[work]) else { continue };
        let (evidence, rest) = pooled(&query_evidence);
        let posterior = posterior(&evidence, rest, options.prior);
        let Some(position) = query_evidence.works.iter().position(|work| key_of(work) == key) else {
            continue;
        };
        if posterior.works[position] < options.min_probability {
            continue;
        }
        let work = query_evidence.works[position];
        found.push(Stretch {
            file: file.to_owned(),
            start_s,
            end_s,
            probability: posterior.works[position],
            score: work.score,
            row: searcher.index.row(work.best)?,
        });
    }
    Ok(found)
}

/// The pooled evidence of both comparisons (short windows and whole recordings) for a stretch: the mean of their log-likelihood ratios, so that neither counts twice (Genest and
/// Zidek, "Combining probability distributions", Statistical Science 1, 1986: the logarithmic pool of equal weights). Each of
/// them alone reports more works that are not in the recording.
fn pooled(query: &QueryEvidence) -> (Vec<Evidence>, UnexaminedWorks) {
    let evidence = query.works.iter().map(|work| {
        let ratio = (work.ratio + work.ratio_of_whole) / 2.0;
        Evidence { ratios: vec![ratio], same_file: false }
    });
    let mean_ratio = (query.rest.mean_ratio * query.rest_of_whole.mean_ratio).sqrt();
    (evidence.collect(), UnexaminedWorks { works: query.rest.works, mean_ratio })
}

fn query(excerpt: Excerpt, tempi: Vec<Vec<Excerpt>>) -> Query {
    Query { name: String::new(), excerpts: vec![excerpt], tempi, content_hash: String::new(), own: None }
}

/// Moves the edges of spans, each of a work whose best recording is given, to where the work begins or ends according to the short windows.
fn refine_edges(
    index: &Index,
    short: &FileWindows,
    bests: &[Option<Recording>],
    spans: &mut [(f64, f64)],
    windows: Windows,
) {
    let margin = windows.length_s;
    let curves = bests.iter().zip(&*spans).map(|(best, (start_s, end_s))| {
        best.map_or_else(Vec::new, |best| {
            edges::similarity_curve(
                short,
                index,
                best,
                [*start_s, *end_s],
                [start_s - margin, end_s + margin],
            )
        })
    });
    let similarity_curves: Vec<SimilarityCurve> = curves.collect();
    let coarse = spans.to_vec();
    let middle = |span: usize| (coarse[span].0 + coarse[span].1) / 2.0;
    for number in 0..spans.len() {
        let (start_s, end_s) = coarse[number];
        let before = number.checked_sub(1).filter(|before| start_s - coarse[*before].1 < windows.step_s);
        // The next work's beginning is this one's end.
        let is_followed = coarse.get(number + 1).is_some_and(|(next_s, _)| next_s - end_s < windows.step_s);
        // An edge is between the middles of the works that it separates.
        let first = before.map_or(start_s - margin, |before| middle(before).max(start_s - margin));
        let own = &similarity_curves[number];
        let inner = [(start_s + margin).min(middle(number)), (end_s - margin).max(middle(number))];
        let rising =
            before.map_or_else(|| own.clone(), |before| edges::difference(own, &similarity_curves[before]));
        if let Some(start_s) = edges::change_point(&rising, [first, inner[0]], true) {
            spans[number].0 = start_s;
            before.into_iter().for_each(|before| spans[before].1 = start_s);
        }
        if !is_followed && let Some(end_s) = edges::change_point(own, [inner[1], end_s + margin], false) {
            spans[number].1 = end_s;
        }
    }
}

/// What identifies a work: its name, or the recording if it has none.
type WorkKey = (u64, Option<Recording>);

fn key_of(work: &WorkEvidence) -> WorkKey {
    (work.work, (work.work == 0).then_some(work.best))
}

/// The beginning and end of a run in seconds. Works change at the middle of a window: half of it belongs to the one, half to the
/// other.
fn run_times(starts: &[f64], run: &WindowRun, windows: Windows, duration_s: f64) -> (f64, f64) {
    let middle = |window: usize| starts[window] + windows.length_s / 2.0;
    let between = |a: usize, b: usize| (middle(a) + middle(b)) / 2.0;
    let start = if run.first == 0 { starts[0] } else { between(run.first - 1, run.first) };
    let end = if run.end == starts.len() { duration_s } else { between(run.end - 1, run.end) };
    // Silence between two works belongs to neither.
    let reach = windows.length_s / 2.0 + windows.step_s;
    (start.max(middle(run.first) - reach), end.min(middle(run.end - 1) + reach))
}

/// Consecutive windows that are of one work, or of none: `first..end`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct WindowRun {
    first: usize,
    end: usize,
    work: Option<usize>,
}

/// The most likely sequence of works over all windows.
struct WorkSequence {
    /// The log-likelihood ratio of each work in each window: `ratios[window][work]`.
    ratios: Vec<Vec<f64>>,
    keys: Vec<WorkKey>,
    /// Factor of the ratios, because overlapping windows are not independent.
    evidence_weight: f64,
    prior: f64,
    works: f64,
    states: Vec<Option<usize>>,
}

impl WorkSequence {
    fn new(windows: &[QueryEvidence], works: u64, options: Options) -> Self {
        // Only works that are likely in some window, because no other can be in the sequence.
        let mut seen = HashSet::new();
        let likely =
            windows.iter().flat_map(|window| &window.works).filter(|work| work.ratio > 0.0).map(key_of);
        let keys: Vec<WorkKey> = likely.filter(|key| seen.insert(*key)).collect();
        let numbers: HashMap<WorkKey, usize> = keys.iter().copied().zip(0..).collect();
        let ratios = windows.iter().map(|window| {
            let lowest = window.works.iter().map(|work| work.ratio).fold(0.0, f64::min);
            let mut ratios = vec![lowest; keys.len()];
            for work in &window.works {
                if let Some(number) = numbers.get(&key_of(work)) {
                    ratios[*number] = work.ratio;
                }
            }
            ratios
        });
        let mut sequence = Self {
            ratios: ratios.collect(),
            evidence_weight: (options.windows.step_s / options.windows.length_s / MIN_OVERLAP).min(1.0),
            prior: options.prior,
            works: works.max(1) as f64,
            states: Vec::new(),
            keys,
        };
        sequence.states = sequence.viterbi(sequence.keys.len(), options.windows.step_s);
        sequence
    }

    /// The best state of each window: none, or a work.
    fn viterbi(&self, count: usize, step_s: f64) -> Vec<Option<usize>> {
        let change = 1.0 - (-step_s * CHANGES_PER_S).exp();
        let (stay, leave) = ((1.0 - change).ln(), change.ln());
        let enter =
            |state: usize| if state == 0 { (1.0 - self.prior).ln() } else { (self.prior / self.works).ln() };
        let emit = |window: usize, state: usize| {
            if state == 0 { 0.0 } else { self.evidence_weight * self.ratios[window][state - 1] }
        };
        let states = count + 1;
        let mut scores: Vec<f64> = vec![f64::NEG_INFINITY; states];
        let mut previous_states: Vec<Vec<u32>> = Vec::with_capacity(self.ratios.len());
        for window in 0..self.ratios.len() {
            let best = (0..states).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
            let mut previous = vec![0u32; states];
            let next: Vec<f64> = (0..states)
                .map(|state| {
                    if window == 0 {
                        return enter(state) + emit(0, state);
                    }
                    let (kept, changed) = (scores[state] + stay, scores[best] + leave + enter(state));
                    previous[state] = if kept >= changed { state as u32 } else { best as u32 };
                    kept.max(changed) + emit(window, state)
                })
                .collect();
            scores = next;
            previous_states.push(previous);
        }
        let mut state = (0..states).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        let mut path = vec![None; self.ratios.len()];
        for window in (0..self.ratios.len()).rev() {
            path[window] = state.checked_sub(1);
            state = previous_states[window][state] as usize;
        }
        path
    }

    /// The recording of a run's work that is most similar to its windows.
    fn best(&self, windows: &[QueryEvidence], run: &WindowRun) -> Option<Recording> {
        let key = self.keys[run.work?];
        let run_works = windows[run.first..run.end].iter().flat_map(|window| &window.works);
        let best = run_works.filter(|work| key_of(work) == key).max_by(|a, b| a.score.total_cmp(&b.score));
        best.map(|work| work.best)
    }

    fn runs(&self) -> Vec<WindowRun> {
        let mut runs: Vec<WindowRun> = Vec::new();
        for (window, state) in self.states.iter().enumerate() {
            match runs.last_mut() {
                Some(last) if last.work == *state => last.end = window + 1,
                _ => runs.push(WindowRun { first: window, end: window + 1, work: *state }),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(ratios: &[f64]) -> QueryEvidence {
        let works = ratios.iter().zip(1u32..).map(|(ratio, number)| WorkEvidence {
            best: Recording { segment: 0, number },
            work: u64::from(number),
            score: 0.5,
            ratio: *ratio,
            ratio_of_whole: *ratio,
        });
        QueryEvidence {
            works: works.collect(),
            rest: UnexaminedWorks::default(),
            rest_of_whole: UnexaminedWorks::default(),
        }
    }

    #[test]
    fn sequence_follows_the_works_and_ignores_a_single_other_window() {
        let options = Options { windows: Windows::new(20.0, 5.0).unwrap(), prior: 0.5, min_probability: 0.5 };
        let (a, b, none) = (evidence(&[8.0, -3.0]), evidence(&[-3.0, 8.0]), evidence(&[-4.0, -4.0]));
        let mut windows = vec![a.clone(); 12];
        windows[5] = evidence(&[-1.0, 2.0]);
        windows.extend(vec![none; 10]);
        windows.extend(vec![b; 12]);
        let sequence = WorkSequence::new(&windows, 100, options);
        let runs = sequence.runs();
        let shape: Vec<(usize, usize, bool)> =
            runs.iter().map(|run| (run.first, run.end, run.work.is_some())).collect();
        assert_eq!(shape, [(0, 12, true), (12, 22, false), (22, 34, true)]);
        assert_eq!(sequence.keys[runs[2].work.unwrap()].0, 2);
        let starts: Vec<f64> = (0..34).map(|window| 5.0 * f64::from(window)).collect();
        // The middle of window 11 is at 65 s, that of window 12 at 70 s.
        assert_eq!(run_times(&starts, &runs[0], options.windows, 185.0), (0.0, 67.5));
        assert_eq!(run_times(&starts, &runs[2], options.windows, 185.0), (117.5, 185.0));
    }
}
