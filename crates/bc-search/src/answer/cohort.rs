//! The cohort of an index: recordings spread over it. Its scores with a query show how high recordings of other works score.

use anyhow::Result;
use bc_calibration::Cohort;
use rayon::prelude::*;

use crate::index::{Index, Recording, VectorId};
use crate::scan::{self, Queries};

/// Number of recordings whose cohorts are computed together.
const BATCH: usize = 128;
/// Size of the cohort.
const SIZE: usize = 1024;
/// Size of the cohort for short windows, whose scores cost more.
const WINDOW_SIZE: usize = 256;

/// First vectors of recordings spread evenly over those of an index that were not removed.
pub(super) struct IndexCohort {
    vectors: Vec<VectorId>,
    recordings: Vec<Recording>,
}

impl IndexCohort {
    /// The cohort of an index.
    pub(super) fn of(index: &Index) -> Self {
        let step = index.len().div_ceil(SIZE).max(1);
        let first_vector = |recording: Recording| {
            let (row, end) = index.segments[recording.segment as usize].keys.vectors_of(recording.number);
            (row < end).then_some((VectorId { segment: recording.segment, row }, recording))
        };
        let (vectors, recordings) = index.recordings().step_by(step).filter_map(first_vector).unzip();
        Self { vectors, recordings }
    }

    /// The scores of all queries with the cohort: `scores[member * queries + query]`.
    pub(super) fn scores(&self, index: &Index, queries: &Queries) -> Vec<f32> {
        scan::scores_of(index, &self.vectors, queries)
    }

    /// A query's scores with the cohort, without the query itself: its score of 1 would look like a work that was not examined.
    pub(super) fn without_own(&self, scores: impl Iterator<Item = f64>, own: Option<Recording>) -> Vec<f64> {
        let others = self.recordings.iter().zip(scores).filter(|(member, _)| Some(**member) != own);
        others.map(|(_, score)| score).collect()
    }

    /// The cohorts of recordings of the index; `None` if it is too small.
    pub(super) fn of_recordings(
        &self,
        index: &Index,
        recordings: &[Recording],
    ) -> Result<Vec<Option<Cohort>>> {
        let rows = crate::cells::copy_vectors(index, self.recordings.iter().copied())?;
        let cohorts_of = |recordings: &[Recording]| -> Vec<Option<Cohort>> {
            let batch_queries = crate::cells::queries(index, recordings.iter().copied());
            let scores = scan::scores_of_rows(&rows, 0, rows.rows, &batch_queries);
            let cohort_of = |query: usize| {
                let scores = (0..rows.rows).map(|row| f64::from(scores[row * batch_queries.len() + query]));
                Cohort::from_scores(self.without_own(scores, Some(recordings[query])))
            };
            (0..batch_queries.len()).map(cohort_of).collect()
        };
        Ok(recordings.par_chunks(BATCH).flat_map_iter(cohorts_of).collect())
    }

    /// The members whose short windows are compared with a query's.
    pub(super) fn for_windows(&self) -> impl Iterator<Item = Recording> {
        let step = self.recordings.len().div_ceil(WINDOW_SIZE).max(1);
        self.recordings.iter().copied().step_by(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::change::{Adder, Addition, ConflictPolicy, compact};
    use crate::index::update::RowUpdate;
    use crate::index::{Manifest, Row, Storage};

    fn row(number: usize, title: &str) -> Row {
        let path = format!("/music/{number}.mp3");
        let content_hash = format!("{:032x}", number + 1);
        Row { path, title: title.to_owned(), content_hash, ..Row::default() }
    }

    #[test]
    fn cohort_is_drawn_from_present_rows_and_stays_the_same_without_removed_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let empty = Manifest::from_provenance(serde_json::json!({}), [].into(), Storage::F16, 2);
        let mut adder = Adder::open(&path, empty, ConflictPolicy::KeepOld).unwrap();
        let count = 2500;
        let additions = (0..count).map(|number| Addition {
            row: row(number, "old"),
            parts: vec![(0.0, vec![1.0, number as f32])],
            windows: Vec::new(),
        });
        adder.add(additions.collect()).unwrap();
        let paths = |index: &Index| -> Vec<String> {
            let cohort = IndexCohort::of(index);
            let of_vectors: Vec<Recording> =
                cohort.vectors.iter().map(|vector| index.recording_of(*vector)).collect();
            assert_eq!(of_vectors, cohort.recordings);
            cohort.recordings.iter().map(|recording| index.row(*recording).unwrap().path).collect()
        };
        let index = Index::open(&path).unwrap();
        let before = paths(&index);
        // Every third of 2500, as without any removed rows since version 0.1.
        let expected: Vec<String> = (0..count).step_by(3).map(|number| row(number, "").path).collect();
        assert_eq!(before, expected);
        // Metadata of all rows are corrected, twice: 5000 removed rows stay until `compact`.
        for (old, new) in [("old", "new"), ("new", "newer")] {
            let updates = (0..count).map(|number| RowUpdate { old: row(number, old), row: row(number, new) });
            adder.update(&updates.collect::<Vec<_>>()).unwrap();
        }
        let index = Index::open(&path).unwrap();
        assert_eq!((index.len(), index.vectors()), (count, 3 * count));
        assert_eq!(paths(&index), expected, "updates do not change the cohort");
        compact(&path).unwrap();
        let index = Index::open(&path).unwrap();
        assert_eq!(paths(&index), expected);
    }
}
