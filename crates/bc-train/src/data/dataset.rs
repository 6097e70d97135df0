//! The training and validation splits, with their features.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use bc_formats::config::{Config, TrainingData};
use bc_formats::features::{CqtSettings, FeatureSet};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::index::{Index, Split};
use bc_ranks::Ranks;

use super::mapped_file::{self, MappedPath};
use super::painted::Painted;
use super::store::PutTrack;
use super::{Store, Track};
use crate::sampler::{Cliques, Pool};

/// The data that a run is trained and validated on.
///
/// Training items are counted from 0: the tracks of the training split, then the works of which versions are
/// painted.
pub struct DataSet {
    /// Features of the training split, then of the validation split.
    pub store: Store,
    /// Number of tracks of the training split, which come first in `store`.
    pub training_tracks: usize,
    /// Works after the training tracks, of which versions are painted.
    pub painted: Option<Painted>,
    /// Label of every training item: the rank of its clique id among all items'. A track and a work with the same
    /// id are of one class.
    pub labels: Vec<u32>,
    /// Positions in `store` of the tracks that are validated: the validation split without those whose features are not
    /// finite.
    pub validation: Vec<usize>,
    /// Number of the clique of every track in `validation`.
    pub validation_cliques: Vec<u32>,
    /// What the features were made with.
    pub cqt: CqtSettings,
    /// Fingerprint of the features.
    pub fingerprint: String,
    /// Fingerprint of the training items' clique ids, in the order of the labels.
    pub cliques_fingerprint: String,
    /// Fingerprint of the versions and cliques of the two splits.
    pub splits_fingerprint: String,
    /// Usable versions of the two splits that have no features.
    pub without_features: usize,
}

impl DataSet {
    /// Reads the data of the configuration.
    ///
    /// # Errors
    /// No index, no features, features of another CQT than `[features]` or of other audio than the index's, no
    /// version of the training split with features; works that cannot be painted.
    pub fn open(config: &Config, ranks: &Ranks) -> Result<Self> {
        let index = Index::read(&config.features.index)?;
        let folder = &config.features.output;
        let features = FeatureSet::open(folder)?;
        features.require_settings(folder, &config.features.cqt())?;
        refuse_other_audio(&index, &config.features.index, &features, folder)?;

        let frames: HashMap<&str, usize> =
            features.rows.iter().map(|row| (row.version_id.as_str(), row.frames as usize)).collect();
        let mut without_features = 0;
        let mut tracks_of = |split: Split| -> Vec<Track> {
            let mut tracks = Vec::new();
            for version in index.versions.iter().filter(|version| version.split == split && version.usable())
            {
                match frames.get(version.version_id.as_str()) {
                    Some(&frames) if frames > 0 => tracks.push(Track {
                        version_id: version.version_id.clone(),
                        clique_id: version.clique_id.clone(),
                        frames,
                    }),
                    _ => without_features += 1,
                }
            }
            tracks
        };
        let painted = match config.train.data {
            TrainingData::Features => None,
            TrainingData::Painted => Some(Painted::open(config, &held_out(&index))?),
        };
        let needs_training = painted.is_none() || config.train.features_share > 0.0;
        let training = if needs_training { tracks_of(Split::Train) } else { Vec::new() };
        let validation = tracks_of(Split::Val);
        if training.is_empty() && needs_training {
            bail!("{}", nothing_to_train_on(&index, &config.features.index, folder));
        }
        if without_features > 0 {
            tracing::warn!(
                "{without_features} usable versions of the index have no features in {} and are left out; \
                 `bc-features extract` makes them",
                folder.display()
            );
        }
        let fingerprint = features.fingerprint();
        // Ranks of one machine share the memory of one file. Rank 0 opens it first.
        let shared = config.train.map_features || !ranks.is_alone();
        let mapped = shared.then(|| MappedFolder { run: &config.train.run, is_checked: !ranks.is_first() });
        Self::build(training, validation, features.settings, fingerprint, mapped, |positions, put| {
            features.for_each(|row| match positions.get(row.version_id.as_str()) {
                Some(&position) => put(position, &row.magnitude),
                None => Ok(()),
            })
        })
        .map(|set| Self { without_features, ..set }.with_painted(painted))
    }

    /// Builds a data set of these tracks. `fill(positions, put)` supplies their magnitudes: `positions` maps version ids to
    /// positions in the store, and `put(position, values)` stores the values of one track. With `mapped`, the store is a
    /// memory-mapped file in that folder.
    ///
    /// # Errors
    /// The errors of `fill`; training tracks with values that are not finite; a file that cannot be written or read.
    pub(super) fn build(
        training: Vec<Track>,
        validation: Vec<Track>,
        cqt: CqtSettings,
        fingerprint: String,
        mapped: Option<MappedFolder<'_>>,
        fill: impl FnOnce(&HashMap<String, usize>, &mut PutTrack<'_>) -> Result<()>,
    ) -> Result<Self> {
        let splits_fingerprint = splits_fingerprint_of(&training, &validation);
        let file = mapped.map(|folder| folder.file(&mapped_file::name(&fingerprint, &splits_fingerprint)));
        let labels = label_cliques(&clique_ids(&training));
        let validation_labels = label_cliques(&clique_ids(&validation));
        let cliques_fingerprint = cliques_fingerprint_of(&clique_ids(&training));
        let count = training.len();
        let tracks: Vec<Track> = training.into_iter().chain(validation).collect();
        let positions = tracks.iter().enumerate().map(|(i, t)| (t.version_id.clone(), i)).collect();
        let store = Store::build(cqt.bins as usize, tracks, file.as_ref(), |put| fill(&positions, put))?;
        require_finite_training_tracks(&store, count)?;
        let validation = finite_validation_tracks(&store, count);
        Ok(Self {
            training_tracks: count,
            painted: None,
            labels,
            validation_cliques: validation.iter().map(|&track| validation_labels[track - count]).collect(),
            validation,
            store,
            cqt,
            fingerprint,
            cliques_fingerprint,
            splits_fingerprint,
            without_features: 0,
        })
    }

    /// Adds works after the training tracks; all training items are labelled together.
    fn with_painted(mut self, painted: Option<Painted>) -> Self {
        if let Some(painted) = painted {
            let mut all = clique_ids(&self.store.tracks()[..self.training_tracks]);
            all.extend(painted.ids());
            self.labels = label_cliques(&all);
            self.cliques_fingerprint = cliques_fingerprint_of(&all);
            self.painted = Some(painted);
        }
        self
    }

    /// Returns the training split by label.
    pub fn cliques(&self) -> Cliques {
        Cliques::from_labels(&self.labels[..self.training_tracks])
    }

    /// Returns the pools that batches of painted versions are drawn from: the sources of works and, with
    /// `features_share`, the cliques of the training split that have a pair; `name` is the split's in messages.
    /// Pools without a share are left out.
    pub fn pools(&self, painted: &Painted, features_share: f64, name: String) -> Vec<Pool> {
        let cliques = self.cliques();
        let stored =
            cliques.with_a_pair().into_iter().map(|label| (label, cliques.members[label as usize].clone()));
        let mut pools = vec![Pool { name, share: features_share, cliques: stored.collect() }];
        for source in painted.sources() {
            let works = source.works.clone().map(|work| {
                let item = self.training_tracks + work;
                (self.labels[item], vec![item as u32])
            });
            pools.push(Pool {
                name: source.path.display().to_string(),
                share: (1.0 - features_share) * source.share,
                cliques: works.collect(),
            });
        }
        pools.retain(|pool| pool.share > 0.0);
        pools
    }

    /// Returns the name of a training item, for messages.
    pub fn item_name(&self, item: u32) -> String {
        let item = item as usize;
        match &self.painted {
            Some(painted) if item >= self.training_tracks => {
                format!("{} (painted)", painted.id(item - self.training_tracks))
            }
            _ => self.store.tracks()[item].version_id.clone(),
        }
    }

    /// Fingerprints of what is trained on, by its kind.
    pub fn inputs(&self) -> BTreeMap<String, String> {
        let works = self.painted.iter().map(|painted| ("works".to_owned(), painted.fingerprint.clone()));
        works.chain([("features".to_owned(), self.fingerprint.clone())]).collect()
    }

    /// Returns the number of training cliques.
    pub fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |&max| max as usize + 1)
    }

    /// Returns why validation is not possible, or `None` if it is: it needs two versions of one clique (a query and its
    /// match) and another clique to distinguish them from.
    pub fn validation_obstacle(&self) -> Option<&'static str> {
        let mut seen = BTreeSet::new();
        let repeated = self.validation_cliques.iter().filter(|clique| !seen.insert(**clique)).count();
        match (repeated > 0, seen.len()) {
            (_, 0) => Some("has no version with features"),
            (_, 1) => Some("has a single clique"),
            (false, _) => Some("has no clique with two versions"),
            (true, _) => None,
        }
    }
}

/// Refuses features of the first `count` tracks that are not finite. Some networks would learn from them with losses that are
/// finite all the same, because a maximum passes over NaN.
fn require_finite_training_tracks(store: &Store, count: usize) -> Result<()> {
    let broken: Vec<usize> = (0..count).filter(|&track| !store.is_finite(track)).collect();
    ensure!(
        broken.is_empty(),
        "{} training versions have features that are not finite ({}); extract them again, or take them out of the split \
         `train` of the index",
        broken.len(),
        named(store, &broken)
    );
    Ok(())
}

/// Returns the tracks from `first` on whose features are finite; a warning names the others, which would make every
/// validation figure NaN.
fn finite_validation_tracks(store: &Store, first: usize) -> Vec<usize> {
    let (finite, broken): (Vec<usize>, Vec<usize>) =
        (first..store.tracks().len()).partition(|&track| store.is_finite(track));
    if !broken.is_empty() {
        tracing::warn!(
            "{} validation versions have features that are not finite and are left out of validation ({}); extract them \
             again",
            broken.len(),
            named(store, &broken)
        );
    }
    finite
}

/// Returns the ids of the first of these tracks, for messages.
fn named(store: &Store, tracks: &[usize]) -> String {
    let ids = tracks.iter().map(|&track| store.tracks()[track].version_id.as_str());
    list_of(ids.collect())
}

/// Returns the first [`MAX_NAMED`] ids, for messages.
fn list_of(ids: Vec<&str>) -> String {
    let more = if ids.len() > MAX_NAMED { ", ..." } else { "" };
    format!("{}{more}", ids[..ids.len().min(MAX_NAMED)].join(", "))
}

/// Maximum number of versions that a message names.
const MAX_NAMED: usize = 5;

/// Refuses features that were made from other audio than the index lists now: a recording would be trained on under
/// the id of another one. Without content hashes in the index this cannot be checked.
fn refuse_other_audio(index: &Index, path: &Path, features: &FeatureSet, folder: &Path) -> Result<()> {
    let trained_on: HashSet<&str> = index
        .versions
        .iter()
        .filter(|version| matches!(version.split, Split::Train | Split::Val))
        .map(|version| version.version_id.as_str())
        .collect();
    let outdated = features.outdated(index);
    let other: Vec<&str> =
        outdated.iter().map(|row| row.version_id).filter(|id| trained_on.contains(id)).collect();
    if other.is_empty() {
        return Ok(());
    }
    bail!(
        "{} versions have features in {} that were made from other audio than {} says ({}): their content hashes \
         differ; run `bc-features extract`, which recomputes them",
        other.len(),
        folder.display(),
        path.display(),
        list_of(other)
    )
}

/// The folder of a run that holds the features in a memory-mapped file.
pub(super) struct MappedFolder<'a> {
    run: &'a Path,
    /// Whether another rank has written the file, or checked its hash, just before.
    is_checked: bool,
}

impl MappedFolder<'_> {
    /// Returns where the file of this name is, and removes what killed processes left of such files.
    fn file(&self, name: &str) -> MappedPath {
        if !self.is_checked {
            mapped_file::remove_leftovers(self.run);
        }
        MappedPath { path: self.run.join(name), is_checked: self.is_checked }
    }
}

impl DataSet {
    /// Returns the name of the file in a run's folder that holds these features, where they are mapped.
    pub(crate) fn mapped_file(&self) -> String {
        mapped_file::name(&self.fingerprint, &self.splits_fingerprint)
    }
}

/// Returns the fingerprint of the versions and cliques of both splits.
fn splits_fingerprint_of(training: &[Track], validation: &[Track]) -> String {
    let mut fingerprint = Fingerprint::of("splits");
    for (split, tracks) in [("train", training), ("val", validation)] {
        fingerprint.add(split);
        for track in tracks {
            fingerprint.add(&track.version_id).add(&track.clique_id);
        }
    }
    fingerprint.finish()
}

/// Returns the clique ids that the index holds out for validation and test.
fn held_out(index: &Index) -> BTreeSet<&str> {
    let of_split = |version: &&bc_formats::index::Version| matches!(version.split, Split::Val | Split::Test);
    index.versions.iter().filter(of_split).map(|version| version.clique_id.as_str()).collect()
}

/// Returns the clique id of every track.
fn clique_ids(tracks: &[Track]) -> Vec<&str> {
    tracks.iter().map(|track| track.clique_id.as_str()).collect()
}

/// Returns the fingerprint of the different clique ids in ascending order.
fn cliques_fingerprint_of(ids: &[&str]) -> String {
    bc_formats::run::fingerprint_of_cliques(ids)
}

/// Returns a label for each clique id: its position among the different ids in ascending order.
fn label_cliques(ids: &[&str]) -> Vec<u32> {
    let sorted: BTreeSet<&str> = ids.iter().copied().collect();
    let numbers: HashMap<&str, u32> = sorted.into_iter().zip(0..).collect();
    ids.iter().map(|id| numbers[id]).collect()
}

/// Returns the error message for an index without a training track that has features.
fn nothing_to_train_on(index: &Index, path: &Path, features: &Path) -> String {
    let in_split = index.versions.iter().filter(|v| v.split == Split::Train).count();
    let usable = index.versions.iter().filter(|v| v.split == Split::Train && v.usable()).count();
    let reason = match (in_split, usable) {
        (0, _) => "no version is in the split `train`; give [index] a split or split ratios".to_owned(),
        (_, 0) => format!(
            "none of the {in_split} versions of the split `train` has usable audio; see `bc-download-index status`"
        ),
        _ => format!(
            "none of its {usable} usable versions has features in {}; make them with `bc-features extract`",
            features.display()
        ),
    };
    format!("{}: there is no training clique: {reason}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_differ_if_a_version_or_its_clique_moves() {
        let track = |version: &str, clique: &str| Track {
            version_id: version.into(),
            clique_id: clique.into(),
            frames: 1,
        };
        let (a, b) = (track("a", "1"), track("b", "1"));
        let first = splits_fingerprint_of(&[a.clone(), b.clone()], &[]);
        assert_eq!(first, splits_fingerprint_of(&[a.clone(), b.clone()], &[]));
        assert_ne!(first, splits_fingerprint_of(std::slice::from_ref(&b), std::slice::from_ref(&a)));
        assert_ne!(first, splits_fingerprint_of(&[a, track("b", "2")], &[]));
        let is_mapped_store = mapped_file::is_mapped_store;
        assert!(
            is_mapped_store(&mapped_file::name("0123", &first)) && !is_mapped_store("features-notes.txt")
        );
    }

    #[test]
    fn cliques_have_the_fingerprint_of_their_ids_however_many_versions_they_have() {
        let first = cliques_fingerprint_of(&["b", "a"]);
        assert_eq!(first, cliques_fingerprint_of(&["a", "b", "a"]));
        assert_ne!(first, cliques_fingerprint_of(&["a", "c"]));
    }

    #[test]
    fn cliques_are_numbered_by_the_order_of_their_ids() {
        assert_eq!(label_cliques(&["b", "a", "b", "c"]), [1, 0, 1, 2]);
    }
}
