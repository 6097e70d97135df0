//! Random triplets, as the public re-implementation draws them: an anchor, a random other
//! version of its clique, a random version of another clique.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::Cliques;

/// Returns the number of batches of one pass.
pub(super) fn batches(cliques: &Cliques, triplets: usize, min: usize) -> usize {
    let anchors = cliques.members.iter().map(Vec::len).filter(|&n| n >= 2).sum();
    sizes(anchors, triplets, min).len()
}

/// Returns the number of anchors in each batch: `triplets`, and the remainder in the last one. A remainder of fewer than
/// `min` is filled up from the batch before it, or added to that batch if it would itself become too small.
fn sizes(anchors: usize, triplets: usize, min: usize) -> Vec<usize> {
    let mut sizes = vec![triplets; anchors / triplets];
    let rest = anchors % triplets;
    match sizes.last_mut() {
        Some(last) if rest > 0 && rest < min => {
            let missing = min - rest;
            if *last >= min + missing {
                *last -= missing;
                sizes.push(min);
            } else {
                *last += rest;
            }
        }
        _ if rest > 0 => sizes.push(rest),
        _ => {}
    }
    sizes
}

/// Draws the batches of one pass, each a list of anchors, then positives, then negatives. Every version of a clique with a
/// pair is an anchor once. No batch has fewer than `min` triplets, unless the split has no more.
pub(super) fn pass(cliques: &Cliques, triplets: usize, min: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let mut anchors: Vec<(u32, u32)> = Vec::new();
    let mut all_versions: Vec<(u32, u32)> = Vec::new();
    for (label, members) in cliques.members.iter().enumerate() {
        let labelled = members.iter().map(|&m| (label as u32, m));
        all_versions.extend(labelled.clone());
        if members.len() >= 2 {
            anchors.extend(labelled);
        }
    }
    anchors.shuffle(rng);
    let mut rest = anchors.as_slice();
    sizes(anchors.len(), triplets, min)
        .into_iter()
        .map(|size| {
            let (chunk, after) = rest.split_at(size);
            rest = after;
            let mut items: Vec<u32> = chunk.iter().map(|&(_, version)| version).collect();
            for &(label, anchor) in chunk {
                let others = &cliques.members[label as usize];
                items.push(redraw(rng, |rng| pick(others, rng), |&p| p != anchor));
            }
            for &(label, _) in chunk {
                let draw = |rng: &mut _| pick(&all_versions, rng);
                let (_, negative) = redraw(rng, draw, |&(other, _)| other != label);
                items.push(negative);
            }
            items
        })
        .collect()
}

/// Draws an element of `from`.
fn pick<T: Copy>(from: &[T], rng: &mut impl Rng) -> T {
    from[rng.random_range(0..from.len())]
}

/// Draws until `fits` is true, which the caller knows to be possible.
fn redraw<R: Rng, T>(rng: &mut R, draw: impl Fn(&mut R) -> T, fits: impl Fn(&T) -> bool) -> T {
    loop {
        let candidate = draw(rng);
        if fits(&candidate) {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sizes;

    #[test]
    fn too_small_last_batch_is_filled_up_or_merged() {
        assert_eq!(sizes(16, 8, 2), [8, 8]);
        assert_eq!(sizes(17, 8, 2), [8, 7, 2]);
        assert_eq!(sizes(17, 8, 1), [8, 8, 1]);
        assert_eq!(sizes(18, 8, 2), [8, 8, 2]);
        assert_eq!(sizes(7, 3, 2), [3, 2, 2]);
        assert_eq!(sizes(5, 2, 2), [2, 3]);
        assert_eq!(sizes(2, 8, 2), [2]);
    }
}
