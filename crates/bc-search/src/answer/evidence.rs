//! The evidence that a query is a version of each work, and of those that were not examined.

use bc_calibration::{Calibration, Cohort, Evidence, UnexaminedWorks};

use super::candidates::Candidate;
use super::cohort_scores::CohortScores;
use super::query::Query;
use super::works::Work;
use crate::index::Recording;

/// The evidence for one query, work by work.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryEvidence {
    /// The works nearest to the query, best version first.
    pub works: Vec<WorkEvidence>,
    /// The evidence for all other works.
    pub rest: UnexaminedWorks,
    /// The evidence for all other works, compared by whole recordings.
    pub rest_of_whole: UnexaminedWorks,
}

/// The evidence for one work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkEvidence {
    /// The best version of the work.
    pub best: Recording,
    /// The hash of the work's name; 0 if it has none.
    pub work: u64,
    /// The score of the best version.
    pub score: f32,
    /// Log-likelihood ratio of all the work's versions together.
    pub ratio: f64,
    /// The ratio by whole recordings; equal to `ratio` if short windows are not compared.
    pub ratio_of_whole: f64,
}

/// A query's candidates, grouped into works.
#[derive(Clone, Copy)]
pub(super) struct GroupedCandidates<'a> {
    pub(super) query: &'a Query,
    pub(super) candidates: &'a [Candidate],
    /// Their members are positions in `candidates`.
    pub(super) works: &'a [Work],
    /// Number of works of the index that the query may be a version of.
    pub(super) works_in_index: u64,
}

impl GroupedCandidates<'_> {
    /// The evidence for each work, and for the works that were not examined. Scores of the candidates are of the kind of the
    /// cohort's.
    pub(super) fn evidence(
        &self,
        calibration: &Calibration,
        cohort_scores: &CohortScores,
    ) -> (Vec<Evidence>, UnexaminedWorks) {
        let cohort = Cohort::from_scores(cohort_scores.cohort.iter().copied());
        let ratio = |score: f64| calibration.log_ratio(score, cohort.as_ref());
        let score = |candidate: &Candidate| {
            let by_windows = candidate.by_windows.filter(|_| cohort_scores.by_windows);
            f64::from(by_windows.unwrap_or(candidate.score))
        };
        let evidence = self.works.iter().map(|work| {
            let members = || work.members.iter().map(|member| &self.candidates[*member]);
            Evidence {
                ratios: members().map(|candidate| ratio(score(candidate))).collect(),
                same_file: members().any(|candidate| candidate.is_same_file(self.query)),
            }
        });
        let mean_ratio = cohort_scores.rest.iter().map(|score| ratio(*score).exp()).sum::<f64>()
            / cohort_scores.rest.len().max(1) as f64;
        let works = self.works_in_index.saturating_sub(self.works.len() as u64);
        (evidence.collect(), UnexaminedWorks { works, mean_ratio })
    }
}
