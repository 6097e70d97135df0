//! Which recordings of a catalogue are the same, or of one work.
//!
//! Every recording is a query against all others, many at once, so that the index is read once per batch. A pair counts from
//! both sides; how likely pairs of one work are beforehand falls with the number of recordings.

use std::collections::HashMap;

use anyhow::Result;
use bc_calibration::{Kind, Kinds};
use bc_cli::{Interrupted, interrupt, progress};
use serde::Serialize;

use crate::answer::{Query, Searcher};
use crate::index::{Index, Recording, Row};

/// Recordings that are compared with all others at once.
const AT_ONCE: usize = 512;

/// Two recordings that are alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// What they are.
    pub kind: Kind,
    /// The probability that they are of one work, the same recording included.
    pub probability: f64,
    /// The probability that they are the same recording.
    pub probability_of_same_audio: f64,
    /// Their cosine.
    pub score: f32,
    /// Number of the group that they are of, from 1; 0 if they are of none because they are unsure.
    pub group: usize,
    /// The first.
    pub a: Row,
    /// The second.
    pub b: Row,
}

/// How to look.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Other versions that a recording of the catalogue has, on average, beforehand.
    pub prior: f64,
    /// Pairs below this probability are left out.
    pub least: f64,
}

/// What is known of a pair.
#[derive(Debug, Clone, Copy)]
struct Sides {
    score: f32,
    kinds: Kinds,
    sides: u32,
}

/// All pairs of at least this probability, the surest first, with their groups.
///
/// # Errors
/// No calibration; a file of the index that cannot be read; an interrupt.
pub fn pairs(searcher: &Searcher, options: Options) -> Result<Vec<Pair>> {
    let index = &searcher.index;
    let recordings: Vec<Recording> = index.recordings().collect();
    let prior = (options.prior / recordings.len().saturating_sub(1).max(1) as f64).clamp(1e-12, 0.5);
    interrupt::install("ending")?;
    let bar = progress::bar(recordings.len() as u64, "comparing", "recordings");
    let mut found: HashMap<(Recording, Recording), Sides> = HashMap::new();
    for batch in recordings.chunks(AT_ONCE) {
        if interrupt::requested() {
            return Err(Interrupted("no pairs were written".to_owned()).into());
        }
        let queries: Result<Vec<Query>> =
            batch.iter().map(|recording| Query::of_recording(index, *recording)).collect();
        for (one, pairs) in batch.iter().zip(searcher.pairs(&queries?, prior)?) {
            for (other, score, kinds) in pairs {
                if kinds.same_audio + kinds.same_work >= options.least {
                    add(&mut found, [*one, other], score, kinds);
                }
            }
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    grouped(index, found, options.least)
}

fn add(
    found: &mut HashMap<(Recording, Recording), Sides>,
    [one, other]: [Recording; 2],
    score: f32,
    kinds: Kinds,
) {
    let pair = (one.min(other), one.max(other));
    let sides = found.entry(pair).or_insert(Sides { score, kinds, sides: 0 });
    // The mean of both sides, where both found the pair.
    sides.sides += 1;
    let share = 1.0 / f64::from(sides.sides);
    let mean = |old: f64, new: f64| old + share * (new - old);
    sides.kinds = Kinds {
        same_audio: mean(sides.kinds.same_audio, kinds.same_audio),
        same_work: mean(sides.kinds.same_work, kinds.same_work),
        other: mean(sides.kinds.other, kinds.other),
    };
}

fn grouped(index: &Index, found: HashMap<(Recording, Recording), Sides>, least: f64) -> Result<Vec<Pair>> {
    let mut found: Vec<_> = found.into_iter().collect();
    let one = |sides: &Sides| sides.kinds.same_audio + sides.kinds.same_work;
    found.retain(|(_, sides)| one(sides) >= least);
    found.sort_by(|a, b| one(&b.1).total_cmp(&one(&a.1)).then(a.0.cmp(&b.0)));
    let sure = |sides: &Sides| matches!(sides.kinds.kind(), Kind::SameAudio | Kind::SameWork);
    let group_of = groups(found.iter().filter(|(_, sides)| sure(sides)).map(|(pair, _)| *pair));
    let pairs = found.into_iter().map(|((a, b), sides)| {
        Ok(Pair {
            kind: sides.kinds.kind(),
            probability: one(&sides),
            probability_of_same_audio: sides.kinds.same_audio,
            score: sides.score,
            group: if sure(&sides) { group_of[&a] } else { 0 },
            a: index.row(a)?,
            b: index.row(b)?,
        })
    });
    pairs.collect()
}

/// Numbers of the groups that pairs tie together, from 1, in order of the first pair of each.
fn groups(pairs: impl Iterator<Item = (Recording, Recording)>) -> HashMap<Recording, usize> {
    let mut members: Vec<Vec<Recording>> = Vec::new();
    let mut place_of: HashMap<Recording, usize> = HashMap::new();
    for (a, b) in pairs {
        let (a_in, b_in) = (place_of.get(&a).copied(), place_of.get(&b).copied());
        let place = match (a_in, b_in) {
            (None, None) => {
                members.push(Vec::new());
                members.len() - 1
            }
            (Some(place), None) | (None, Some(place)) => place,
            (Some(one), Some(other)) => {
                let (first, last) = (one.min(other), one.max(other));
                if first != last {
                    let moved = std::mem::take(&mut members[last]);
                    moved.iter().for_each(|recording| {
                        place_of.insert(*recording, first);
                    });
                    members[first].extend(moved);
                }
                first
            }
        };
        for recording in [a, b] {
            if place_of.insert(recording, place) != Some(place) {
                members[place].push(recording);
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
    fn groups_are_what_pairs_tie_together() {
        let at = |number: u32| Recording { segment: 0, number };
        let pairs = [(1, 2), (5, 6), (3, 4), (2, 3), (6, 7), (1, 4)].map(|(a, b)| (at(a), at(b)));
        let found = groups(pairs.into_iter());
        let of = |number: u32| found[&at(number)];
        assert_eq!([1, 2, 3, 4].map(of), [1; 4]);
        assert_eq!([5, 6, 7].map(of), [2; 3]);
        assert_eq!(found.len(), 7);
    }
}
