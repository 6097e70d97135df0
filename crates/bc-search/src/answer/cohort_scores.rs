//! A query's scores with the cohort, by whole recordings or by short windows.

use std::collections::HashSet;

use bc_retrieval::Sides;

use super::candidates::Candidates;
use super::cohort::IndexCohort;
use super::windows::QueryWindows;
use crate::index::{Index, Recording};

/// Scores of a query with the cohort.
pub(super) struct CohortScores {
    /// Scores with the whole cohort.
    pub(super) cohort: Vec<f64>,
    /// Scores with the recordings of the cohort that are not candidates: they represent all unexamined recordings.
    pub(super) rest: Vec<f64>,
    /// Whether the scores are of short windows.
    pub(super) by_windows: bool,
}

impl CohortScores {
    /// The scores of whole recordings.
    pub(super) fn whole(candidates: &Candidates) -> Self {
        let cohort: Vec<f64> = candidates.cohort.iter().flatten().copied().collect();
        let rest = cohort
            .iter()
            .copied()
            .filter(|score| *score <= f64::from(candidates.unexamined_score_bound))
            .collect();
        Self { cohort, rest, by_windows: false }
    }

    /// The scores of short windows; `None` if the index has none. There are no scores without a cohort, which is needed only
    /// if such scores are calibrated.
    pub(super) fn by_windows(
        index: &Index,
        cohort: Option<&IndexCohort>,
        short: &QueryWindows,
        candidates: &Candidates,
        own: Option<Recording>,
        sides: Sides,
    ) -> Option<Self> {
        let members: Vec<Recording> = cohort.into_iter().flat_map(IndexCohort::for_windows).collect();
        let scores = short.scores(index, &members, sides)?;
        let others = members.into_iter().zip(scores).filter(|(member, _)| Some(*member) != own);
        let others: Vec<(Recording, f64)> =
            others.map(|(member, score)| (member, f64::from(score))).collect();
        let known: HashSet<Recording> = candidates.recordings().into_iter().collect();
        let rest = others.iter().filter(|(member, _)| !known.contains(member));
        Some(Self {
            cohort: others.iter().map(|(_, score)| *score).collect(),
            rest: rest.map(|(_, score)| *score).collect(),
            by_windows: true,
        })
    }
}
