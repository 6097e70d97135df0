//! Finds recordings of a catalogue that are the same, or of one work.
//!
//! In a small catalogue every recording is a query against all others, many at once, so that the index is read once per batch; in a
//! large one it is compared with those in the nearest cells ([`crate::cells`]), and the recall is measured on a sample that is compared
//! with all others. The evidence for a pair is the mean of both directions; the prior of a pair falls with the number of recordings.

use std::collections::HashMap;

use anyhow::Result;
use bc_calibration::{Cohort, KindProbabilities, PairKind};
use bc_cli::{Interrupted, interrupt, progress};
use rayon::prelude::*;
use serde::Serialize;

use crate::answer::{Query, Searcher};
use crate::cells::{Cells, NearPair};
use crate::index::{Index, Recording, Row};

/// Number of recordings that are compared with all others at once.
const BATCH: usize = 512;
/// Maximum number of recordings for which all pairs are compared by default.
pub const ALL_PAIRS: usize = 20_000;
/// Number of recordings that are compared with all others to measure the recall of the cells.
const RECALL_SAMPLE: usize = 512;

/// Two similar recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// The kind of the pair.
    pub kind: PairKind,
    /// The probability that they are of one work, the same recording included.
    pub probability: f64,
    /// The probability that they are the same recording.
    pub probability_of_same_audio: f64,
    /// Their cosine.
    pub score: f32,
    /// Number of the group that they belong to, from 1; 0 if the pair is unsure and therefore in no group.
    pub group: usize,
    /// The first recording.
    pub a: Row,
    /// The second recording.
    pub b: Row,
}

/// How to search for duplicates.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Prior: average number of other versions that a recording has in the catalogue.
    pub prior: f64,
    /// Pairs below this probability are left out.
    pub min_probability: f64,
    /// Cells that a recording is compared with; all pairs if not given.
    pub probes: Option<usize>,
}

/// The pairs of a catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct DuplicatePairs {
    /// The pairs with their groups, the surest first.
    pub pairs: Vec<Pair>,
    /// The recall, if not all pairs were compared.
    pub recall: Option<Recall>,
}

/// The recall on a sample of recordings that were compared with all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recall {
    /// Number of recordings of the sample (`asked` in JSON).
    #[serde(rename = "asked")]
    pub sampled: usize,
    /// Number of their pairs.
    pub pairs: usize,
    /// Number of these pairs that the cells found.
    pub found: usize,
}

/// The evidence for a pair, averaged over the directions in which it was found.
#[derive(Debug, Clone, Copy)]
struct PairEvidence {
    score: f32,
    kinds: KindProbabilities,
    sides: u32,
}

type Pairs = HashMap<(Recording, Recording), PairEvidence>;

/// Finds the pairs with at least the minimum probability, the surest first, with their groups.
///
/// # Errors
/// No calibration; a file of the index that cannot be read; an interrupt.
pub fn pairs(searcher: &Searcher, options: Options) -> Result<DuplicatePairs> {
    let index = &searcher.index;
    searcher.require_calibration()?;
    let recordings: Vec<Recording> = index.recordings().collect();
    let prior = (options.prior / recordings.len().saturating_sub(1).max(1) as f64).clamp(1e-12, 0.5);
    interrupt::install("stopping")?;
    let Some(probes) = options.probes else {
        let pairs = all_pairs(searcher, &recordings, prior, options.min_probability)?;
        return Ok(DuplicatePairs { pairs: grouped(index, pairs, options.min_probability)?, recall: None });
    };
    let pairs = near_pairs(searcher, &recordings, prior, options.min_probability, probes)?;
    let step = recordings.len().div_ceil(RECALL_SAMPLE).max(1);
    let sample: Vec<Recording> = recordings.iter().copied().step_by(step).collect();
    let exact = all_pairs(searcher, &sample, prior, options.min_probability)?;
    let recall = Recall {
        sampled: sample.len(),
        pairs: exact.len(),
        found: exact.keys().filter(|pair| pairs.contains_key(pair)).count(),
    };
    Ok(DuplicatePairs { pairs: grouped(index, pairs, options.min_probability)?, recall: Some(recall) })
}

fn check_interrupt() -> Result<()> {
    if interrupt::requested() {
        return Err(Interrupted("no pairs were written".to_owned()).into());
    }
    Ok(())
}

/// Compares each recording of `sample` with all recordings of the index.
fn all_pairs(searcher: &Searcher, sample: &[Recording], prior: f64, min_probability: f64) -> Result<Pairs> {
    let bar = progress::bar(sample.len() as u64, "comparing", "recordings");
    let mut pairs = Pairs::new();
    for batch in sample.chunks(BATCH) {
        check_interrupt()?;
        let queries: Result<Vec<Query>> =
            batch.iter().map(|recording| Query::from_recording(&searcher.index, *recording)).collect();
        for (recording, scored) in batch.iter().zip(searcher.pairs(&queries?, prior)?) {
            for (other, score, kinds) in scored {
                if kinds.same_audio + kinds.same_work >= min_probability {
                    add_evidence(&mut pairs, [*recording, other], score, kinds);
                }
            }
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(pairs)
}

/// Compares each recording with those in its nearest cells.
fn near_pairs(
    searcher: &Searcher,
    recordings: &[Recording],
    prior: f64,
    min_probability: f64,
    probes: usize,
) -> Result<Pairs> {
    let index = &searcher.index;
    let calibration = searcher.require_calibration()?;
    // The lowest score that reaches the minimum probability depends on a recording's cohort.
    let cohorts = searcher.cohorts(recordings)?;
    check_interrupt()?;
    let likely = |score: f64, cohort: &Option<Cohort>| {
        let kinds = calibration.kinds(score, false, cohort.as_ref(), prior);
        kinds.same_audio + kinds.same_work >= min_probability
    };
    let scores: Vec<f32> =
        cohorts.par_iter().map(|cohort| min_score(|score| likely(score, cohort))).collect();
    let cells = Cells::new(index, recordings, probes)?;
    let bar = progress::bar(cells.len() as u64, "comparing", "cells");
    let mut pairs = Pairs::new();
    for first in (0..cells.len()).step_by(BATCH) {
        check_interrupt()?;
        let batch: Vec<usize> = (first..cells.len().min(first + BATCH)).collect();
        let near: Result<Vec<Vec<NearPair>>> =
            batch.par_iter().map(|cell| cells.pairs(*cell, &scores)).collect();
        for NearPair { query, member, score } in near?.into_iter().flatten() {
            let [a, b] = [query, member].map(|number| recordings[number as usize]);
            if pairs.contains_key(&(a.min(b), a.max(b))) {
                continue;
            }
            let same_file = index.key(a).has_content(&index.key(b).content);
            for number in [query, member] {
                let cohort = cohorts[number as usize].as_ref();
                let kinds = calibration.kinds(f64::from(score), same_file, cohort, prior);
                if kinds.same_audio + kinds.same_work >= min_probability {
                    add_evidence(&mut pairs, [a, b], score, kinds);
                }
            }
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(pairs)
}

/// Slightly less than the lowest cosine for which `likely` holds; above 1 if there is none.
fn min_score(likely: impl Fn(f64) -> bool) -> f32 {
    let (mut low, mut high) = (-1.0, 1.01);
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        if likely(middle) { high = middle } else { low = middle }
    }
    (high - 1e-6) as f32
}

/// Adds the evidence for a pair in one direction.
fn add_evidence(pairs: &mut Pairs, [a, b]: [Recording; 2], score: f32, kinds: KindProbabilities) {
    let pair = (a.min(b), a.max(b));
    let evidence = pairs.entry(pair).or_insert(PairEvidence { score, kinds, sides: 0 });
    // The mean of both directions, if both found the pair.
    evidence.sides += 1;
    let share = 1.0 / f64::from(evidence.sides);
    let mean = |old: f64, new: f64| old + share * (new - old);
    evidence.kinds = KindProbabilities {
        same_audio: mean(evidence.kinds.same_audio, kinds.same_audio),
        same_work: mean(evidence.kinds.same_work, kinds.same_work),
        other: mean(evidence.kinds.other, kinds.other),
    };
}

/// The pairs with at least the minimum probability, the surest first, with the groups that sure pairs form.
fn grouped(index: &Index, pairs: Pairs, min_probability: f64) -> Result<Vec<Pair>> {
    let probability = |evidence: &PairEvidence| evidence.kinds.same_audio + evidence.kinds.same_work;
    let likely = pairs.into_iter().filter(|(_, evidence)| probability(evidence) >= min_probability);
    let with_kinds = likely.map(|((a, b), evidence)| {
        let kind = evidence.kinds.kind(index.key(a).has_content(&index.key(b).content));
        ((a, b), evidence, kind)
    });
    let mut sorted: Vec<_> = with_kinds.collect();
    sorted.sort_by(|a, b| probability(&b.1).total_cmp(&probability(&a.1)).then(a.0.cmp(&b.0)));
    let is_sure = |kind: PairKind| !matches!(kind, PairKind::Unsure | PairKind::Other);
    let group_of = groups(sorted.iter().filter(|(.., kind)| is_sure(*kind)).map(|(pair, ..)| *pair));
    let pairs = sorted.into_iter().map(|((a, b), evidence, kind)| {
        Ok(Pair {
            kind,
            probability: probability(&evidence),
            probability_of_same_audio: evidence.kinds.same_audio,
            score: evidence.score,
            group: if is_sure(kind) { group_of[&a] } else { 0 },
            a: index.row(a)?,
            b: index.row(b)?,
        })
    });
    pairs.collect()
}

/// Numbers of the connected components of the pairs, from 1, in order of the first pair of each.
fn groups(pairs: impl Iterator<Item = (Recording, Recording)>) -> HashMap<Recording, usize> {
    let mut members: Vec<Vec<Recording>> = Vec::new();
    let mut group_of_recording: HashMap<Recording, usize> = HashMap::new();
    for (a, b) in pairs {
        let (a_in, b_in) = (group_of_recording.get(&a).copied(), group_of_recording.get(&b).copied());
        let group = match (a_in, b_in) {
            (None, None) => {
                members.push(Vec::new());
                members.len() - 1
            }
            (Some(group), None) | (None, Some(group)) => group,
            (Some(group_a), Some(group_b)) => {
                let (first, last) = (group_a.min(group_b), group_a.max(group_b));
                if first != last {
                    let moved = std::mem::take(&mut members[last]);
                    moved.iter().for_each(|recording| {
                        group_of_recording.insert(*recording, first);
                    });
                    members[first].extend(moved);
                }
                first
            }
        };
        for recording in [a, b] {
            if group_of_recording.insert(recording, group) != Some(group) {
                members[group].push(recording);
            }
        }
    }
    let mut numbers = HashMap::new();
    for (group, number) in members.into_iter().filter(|group| !group.is_empty()).zip(1..) {
        numbers.extend(group.into_iter().map(|recording| (recording, number)));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_connected_components_of_pairs() {
        let recording = |number: u32| Recording { segment: 0, number };
        let pairs =
            [(1, 2), (5, 6), (3, 4), (2, 3), (6, 7), (1, 4)].map(|(a, b)| (recording(a), recording(b)));
        let found = groups(pairs.into_iter());
        let group_of = |number: u32| found[&recording(number)];
        assert_eq!([1, 2, 3, 4].map(group_of), [1; 4]);
        assert_eq!([5, 6, 7].map(group_of), [2; 3]);
        assert_eq!(found.len(), 7);
    }
}
