//! Batches of P cliques x K versions (Hermans et al. 2017, "In Defense of the Triplet Loss").

use std::collections::VecDeque;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::Cliques;

/// Returns the number of batches of one pass: enough to use every version once, on average.
pub(super) fn batches(cliques: &Cliques, p: usize, k: usize) -> usize {
    let groups: usize = cliques.members.iter().map(Vec::len).filter(|&n| n >= 2).map(|n| n.div_ceil(k)).sum();
    groups.div_ceil(p)
}

/// Draws the batches of one pass, each a list of versions. The versions of each clique are shuffled and cut into groups of
/// K; the last group is filled up with others of the clique, repeatedly if the clique has fewer than K. The groups are
/// distributed so that a batch holds P different cliques. A clique that is so large that it would have to appear twice in a
/// batch is not used completely.
pub(super) fn pass(cliques: &Cliques, p: usize, k: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let candidates = cliques.with_a_pair();
    let mut groups: Vec<(u32, Vec<u32>)> = Vec::new();
    for &label in &candidates {
        let mut members = cliques.members[label as usize].clone();
        members.shuffle(rng);
        let n = members.len();
        for start in (0..n).step_by(k) {
            groups.push((label, group(&members, start, k)));
        }
    }
    groups.shuffle(rng);

    let mut waiting: VecDeque<(u32, Vec<u32>)> = groups.into();
    (0..batches(cliques, p, k))
        .map(|_| {
            let mut labels: Vec<u32> = Vec::with_capacity(p);
            let mut items = Vec::with_capacity(p * k);
            let mut put_off = Vec::new();
            while labels.len() < p
                && let Some((label, versions)) = waiting.pop_front()
            {
                if labels.contains(&label) {
                    put_off.push((label, versions));
                } else {
                    labels.push(label);
                    items.extend(versions);
                }
            }
            for group in put_off.into_iter().rev() {
                waiting.push_front(group);
            }
            while labels.len() < p {
                let &label = candidates.choose(rng).expect("a checked split has at least P cliques");
                if !labels.contains(&label) {
                    labels.push(label);
                    let mut members = cliques.members[label as usize].clone();
                    members.shuffle(rng);
                    items.extend(group(&members, 0, k));
                }
            }
            items
        })
        .collect()
}

/// Returns `k` of `members` from `start` on, continuing at the beginning after the end.
pub(super) fn group(members: &[u32], start: usize, k: usize) -> Vec<u32> {
    (0..k).map(|i| members[(start + i) % members.len()]).collect()
}
