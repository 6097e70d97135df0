//! Which of the scored versions are of one work, before works are said to exclude each other.

use std::collections::HashMap;

/// So many of the best versions are compared with each other; below them no probability is worth sharing.
const COMPARED: usize = 50;

/// A version with its score.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Row of its best vector in the index.
    pub row: usize,
    /// Its best score.
    pub score: f32,
    /// The part of the query that has this score.
    pub excerpt: usize,
    /// Its work, as far as the index knows.
    pub clique: &'a str,
    /// Content hash of its audio file; may be empty.
    pub hash: &'a str,
}

/// Versions of one work.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Places among the candidates, best first.
    pub members: Vec<usize>,
}

/// Puts `candidates` (best first) together by work: those of one clique, those of the same audio file, and, if a score
/// `same_work` is known, those as much alike as this. Two cliques of several recordings each are known to be
/// two works and stay apart whatever they score; a recording that is a work of its own is one of which nobody
/// said what it is a version of. `score_of` gives the score of two rows. The works come in order of their best version.
pub fn group(
    candidates: &[Candidate<'_>],
    same_work: Option<f64>,
    score_of: impl Fn(usize, usize) -> f64,
) -> Vec<Work> {
    let mut sets = Sets::new(candidates.len());
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    for (place, candidate) in candidates.iter().enumerate() {
        let first = *first_of.entry(candidate.clique).or_insert(place);
        sets.join(first, place);
    }
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for candidate in candidates {
        *sizes.entry(candidate.clique).or_default() += 1;
    }
    // Joined by what people said, not by sound.
    let mut known: Vec<bool> = candidates.iter().map(|candidate| sizes[candidate.clique] > 1).collect();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    for (place, candidate) in
        candidates.iter().enumerate().filter(|(_, candidate)| !candidate.hash.is_empty())
    {
        let first = *first_of.entry(candidate.hash).or_insert(place);
        let known_now = known[sets.root(first)] || known[sets.root(place)];
        sets.join(first, place);
        known[sets.root(place)] = known_now;
    }
    if let Some(least) = same_work {
        join_alike(candidates, &mut sets, &mut known, |a, b| score_of(a.row, b.row) >= least);
    }
    let mut works: Vec<Work> = Vec::new();
    let mut place_of: HashMap<usize, usize> = HashMap::new();
    for place in 0..candidates.len() {
        let work = *place_of.entry(sets.root(place)).or_insert_with(|| {
            works.push(Work { members: Vec::new() });
            works.len() - 1
        });
        works[work].members.push(place);
    }
    works
}

/// Joins sets whose best versions are alike. Only these are compared, so that no chain of weak likenesses ties all
/// together.
fn join_alike<'a>(
    candidates: &[Candidate<'a>],
    sets: &mut Sets,
    known: &mut [bool],
    alike: impl Fn(&Candidate<'a>, &Candidate<'a>) -> bool,
) {
    let mut leaders: Vec<usize> = Vec::new();
    for place in 0..candidates.len().min(COMPARED) {
        let root = sets.root(place);
        if leaders.iter().any(|leader| sets.root(*leader) == root) {
            continue;
        }
        let leader = leaders.iter().copied().find(|leader| {
            !(known[sets.root(*leader)] && known[root]) && alike(&candidates[*leader], &candidates[place])
        });
        match leader {
            None => leaders.push(place),
            Some(leader) => {
                let known_now = known[sets.root(leader)] || known[root];
                sets.join(leader, place);
                known[sets.root(place)] = known_now;
            }
        }
    }
}

/// Disjoint sets of places, each named by its lowest member.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&self, mut place: usize) -> usize {
        while self.0[place] != place {
            place = self.0[place];
        }
        place
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates<'a>(of: &[(&'a str, &'a str)]) -> Vec<Candidate<'a>> {
        let place = |(row, (clique, hash)): (usize, &(&'a str, &'a str))| Candidate {
            row,
            score: 1.0 - row as f32 / 100.0,
            excerpt: 0,
            clique,
            hash,
        };
        of.iter().enumerate().map(place).collect()
    }

    fn members(works: &[Work]) -> Vec<Vec<usize>> {
        works.iter().map(|work| work.members.clone()).collect()
    }

    #[test]
    fn cliques_and_equal_audio_are_one_work() {
        let of = candidates(&[("a", "1"), ("b", ""), ("a", "2"), ("c", "1"), ("d", "")]);
        assert_eq!(members(&group(&of, None, |_, _| 1.0)), [vec![0, 2, 3], vec![1], vec![4]]);
    }

    #[test]
    fn unknown_works_that_sound_alike_are_one_and_known_ones_stay_two() {
        // 0 and 1 are one known work, 2 and 3 another, 4 and 5 are unknown.
        let of = candidates(&[("a", ""), ("a", ""), ("b", ""), ("b", ""), ("x", ""), ("y", "")]);
        let all_alike = members(&group(&of, Some(0.9), |_, _| 0.95));
        assert_eq!(all_alike, [vec![0, 1, 4, 5], vec![2, 3]]);
        let unlike = members(&group(&of, Some(0.9), |_, _| 0.85));
        assert_eq!(unlike, [vec![0, 1], vec![2, 3], vec![4], vec![5]]);
        // An unknown recording between two known works does not tie them together.
        let between = candidates(&[("x", ""), ("a", ""), ("a", ""), ("b", ""), ("b", "")]);
        let found =
            members(&group(&between, Some(0.9), |one, two| if one == 0 || two == 0 { 0.95 } else { 0.0 }));
        assert_eq!(found, [vec![0, 1, 2], vec![3, 4]]);
    }

    #[test]
    fn a_chain_of_likenesses_is_cut_at_its_leader() {
        let of = candidates(&[("a", ""), ("b", ""), ("c", "")]);
        let chain = |one: usize, two: usize| if one.abs_diff(two) == 1 { 0.95 } else { 0.0 };
        assert_eq!(members(&group(&of, Some(0.9), chain)), [vec![0, 1], vec![2]]);
    }
}
