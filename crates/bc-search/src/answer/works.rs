//! Groups the scored versions by work, before works exclude each other.

use std::collections::HashMap;

use super::candidates::Candidate;

/// Number of best versions that are compared with each other; the probabilities of further ones are negligible.
const MAX_COMPARED: usize = 50;

/// Versions of one work.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Indices of the candidates, best first.
    pub members: Vec<usize>,
}

/// Groups `candidates` (best first) by work: those of one named work, those with the same audio file, and, if the score
/// `same_work` is given, those with at least this score. Two named works are never joined, whatever their scores; a recording
/// without a work is one whose work is unknown. `score_of` returns the score of two candidates. The works are sorted by
/// their best version.
pub fn group(
    candidates: &[Candidate],
    same_work: Option<f64>,
    score_of: impl Fn(&Candidate, &Candidate) -> f64,
) -> Vec<Work> {
    let mut sets = DisjointSets::new(candidates.len());
    let mut known: Vec<bool> = candidates.iter().map(|candidate| candidate.work != 0).collect();
    let mut first_position: HashMap<u64, usize> = HashMap::new();
    for (position, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.work != 0) {
        let first = *first_position.entry(candidate.work).or_insert(position);
        sets.join(first, position);
    }
    let mut first_position: HashMap<[u8; 16], usize> = HashMap::new();
    let with_content = |candidate: &Candidate| candidate.content != [0; 16];
    for (position, candidate) in
        candidates.iter().enumerate().filter(|(_, candidate)| with_content(candidate))
    {
        let first = *first_position.entry(candidate.content).or_insert(position);
        let is_known = known[sets.root(first)] || known[sets.root(position)];
        sets.join(first, position);
        known[sets.root(position)] = is_known;
    }
    if let Some(min_score) = same_work {
        join_similar(candidates, &mut sets, &mut known, |a, b| score_of(a, b) >= min_score);
    }
    let mut works: Vec<Work> = Vec::new();
    let mut work_of_root: HashMap<usize, usize> = HashMap::new();
    for position in 0..candidates.len() {
        let work = *work_of_root.entry(sets.root(position)).or_insert_with(|| {
            works.push(Work { members: Vec::new() });
            works.len() - 1
        });
        works[work].members.push(position);
    }
    works
}

/// Joins sets whose best versions are similar. Only these are compared, so that a chain of weak similarities does not join
/// everything.
fn join_similar(
    candidates: &[Candidate],
    sets: &mut DisjointSets,
    known: &mut [bool],
    is_similar: impl Fn(&Candidate, &Candidate) -> bool,
) {
    let mut leaders: Vec<usize> = Vec::new();
    for position in 0..candidates.len().min(MAX_COMPARED) {
        let root = sets.root(position);
        if leaders.iter().any(|leader| sets.root(*leader) == root) {
            continue;
        }
        let leader = leaders.iter().copied().find(|leader| {
            !(known[sets.root(*leader)] && known[root])
                && is_similar(&candidates[*leader], &candidates[position])
        });
        match leader {
            None => leaders.push(position),
            Some(leader) => {
                let is_known = known[sets.root(leader)] || known[root];
                sets.join(leader, position);
                known[sets.root(position)] = is_known;
            }
        }
    }
}

/// Disjoint sets of indices, each named by its lowest member.
struct DisjointSets(Vec<usize>);

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&self, mut position: usize) -> usize {
        while self.0[position] != position {
            position = self.0[position];
        }
        position
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Recording;

    /// Candidates with these works and contents, each a number; 0 for none.
    fn candidates(works_and_contents: &[(u64, u8)]) -> Vec<Candidate> {
        let candidate = |(row, (work, content)): (usize, &(u64, u8))| Candidate {
            recording: Recording { segment: 0, number: row as u32 },
            row,
            score: 1.0 - row as f32 / 100.0,
            by_windows: None,
            excerpt: 0,
            work: *work,
            content: [*content; 16],
        };
        works_and_contents.iter().enumerate().map(candidate).collect()
    }

    fn members(works: &[Work]) -> Vec<Vec<usize>> {
        works.iter().map(|work| work.members.clone()).collect()
    }

    #[test]
    fn candidates_of_one_named_work_or_equal_audio_are_grouped() {
        let candidates = candidates(&[(1, 1), (2, 0), (1, 2), (3, 1), (0, 0)]);
        assert_eq!(members(&group(&candidates, None, |_, _| 1.0)), [vec![0, 2, 3], vec![1], vec![4]]);
    }

    #[test]
    fn similar_candidates_of_unknown_works_are_grouped_and_named_works_are_not() {
        // 0 and 1 are one named work, 2 and 3 another, 4 and 5 are unknown.
        let mixed = candidates(&[(1, 0), (1, 0), (2, 0), (2, 0), (0, 0), (0, 0)]);
        let all_alike = members(&group(&mixed, Some(0.9), |_, _| 0.95));
        assert_eq!(all_alike, [vec![0, 1, 4, 5], vec![2, 3]]);
        let unlike = members(&group(&mixed, Some(0.9), |_, _| 0.85));
        assert_eq!(unlike, [vec![0, 1], vec![2, 3], vec![4], vec![5]]);
        // An unknown recording similar to two named works does not join them.
        let between = candidates(&[(0, 0), (1, 0), (1, 0), (2, 0), (2, 0)]);
        let alike = |a: &Candidate, b: &Candidate| if a.row == 0 || b.row == 0 { 0.95 } else { 0.0 };
        assert_eq!(members(&group(&between, Some(0.9), alike)), [vec![0, 1, 2], vec![3, 4]]);
    }

    #[test]
    fn only_candidates_similar_to_the_best_one_are_grouped() {
        let candidates = candidates(&[(0, 0), (0, 0), (0, 0)]);
        let chain = |a: &Candidate, b: &Candidate| if a.row.abs_diff(b.row) == 1 { 0.95 } else { 0.0 };
        assert_eq!(members(&group(&candidates, Some(0.9), chain)), [vec![0, 1], vec![2]]);
    }
}
