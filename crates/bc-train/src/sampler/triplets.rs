//! Random triplets, as the public re-implementation draws them: an anchor, a random other
//! version of its clique, a random version of another clique.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::Cliques;

/// Batches of one pass.
pub(super) fn batches(cliques: &Cliques, triplets: usize) -> usize {
    cliques.members.iter().map(Vec::len).filter(|&n| n >= 2).sum::<usize>().div_ceil(triplets)
}

/// One pass: every version of a clique with a pair is an anchor once.
pub(super) fn pass(cliques: &Cliques, triplets: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let mut anchors: Vec<(u32, u32)> = Vec::new();
    let mut everyone: Vec<(u32, u32)> = Vec::new();
    for (label, members) in cliques.members.iter().enumerate() {
        let labelled = members.iter().map(|&m| (label as u32, m));
        everyone.extend(labelled.clone());
        if members.len() >= 2 {
            anchors.extend(labelled);
        }
    }
    anchors.shuffle(rng);
    anchors
        .chunks(triplets)
        .map(|chunk| {
            let mut items: Vec<u32> = chunk.iter().map(|&(_, version)| version).collect();
            for &(label, anchor) in chunk {
                let others = &cliques.members[label as usize];
                items.push(redraw(rng, |rng| pick(others, rng), |&p| p != anchor));
            }
            for &(label, _) in chunk {
                let draw = |rng: &mut _| pick(&everyone, rng);
                let (_, negative) = redraw(rng, draw, |&(other, _)| other != label);
                items.push(negative);
            }
            items
        })
        .collect()
}

fn pick<T: Copy>(from: &[T], rng: &mut impl Rng) -> T {
    from[rng.random_range(0..from.len())]
}

/// Draws until `fits`; the caller knows that something does.
fn redraw<R: Rng, T>(rng: &mut R, draw: impl Fn(&mut R) -> T, fits: impl Fn(&T) -> bool) -> T {
    loop {
        let candidate = draw(rng);
        if fits(&candidate) {
            return candidate;
        }
    }
}
