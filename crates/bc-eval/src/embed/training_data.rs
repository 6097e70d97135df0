//! Compares what a network was trained on with the splits that are measured.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use bc_embed::embedder::Embedder;
use bc_formats::features::FeatureSet;
use bc_formats::index::{Index, Split, Version};
use bc_formats::run::fingerprint_of_cliques;

/// Returns a warning if a network was trained on these features, but on other cliques than those of the index's training
/// split: the splits were drawn anew since, so it may know cliques that are measured. The network's file has only a
/// fingerprint of the cliques, so it is not known which ones these are. `None` if the file does not say what the network was
/// trained on, if that were other features or painted works (whose cliques have other ids), or if nothing but the
/// training split is measured.
pub(super) fn warning_of_other_splits(
    embedder: &Embedder,
    set: &FeatureSet,
    (index_path, index): (&Path, &Index),
    measured: &[Split],
) -> Option<String> {
    let trained_on = &embedder.trained_on;
    let known = trained_on.cliques.as_ref()?;
    if trained_on.inputs.get("features") != Some(&set.fingerprint())
        || trained_on.inputs.contains_key("works")
    {
        return None;
    }
    let with_features: HashSet<&str> =
        set.rows.iter().filter(|row| row.frames > 0).map(|row| row.version_id.as_str()).collect();
    let stored = |version: &&Version| with_features.contains(version.version_id.as_str());
    let cliques = |split: Split, keep: fn(&Version) -> bool| -> BTreeSet<&str> {
        let of_split = index.versions.iter().filter(|version| version.split == split && keep(version));
        of_split.filter(stored).map(|version| version.clique_id.as_str()).collect()
    };
    let training = fingerprint_of_cliques(cliques(Split::Train, Version::usable));
    // Versions that were usable then and are not now (duplicates that `verify` found since) do not change the splits.
    if *known == training || *known == fingerprint_of_cliques(cliques(Split::Train, |_| true)) {
        return None;
    }
    let held_out: Vec<String> = [Split::Val, Split::Test, Split::None]
        .into_iter()
        .filter(|split| measured.is_empty() || measured.contains(split))
        .map(|split| (split, cliques(split, Version::usable).len()))
        .filter(|(_, count)| *count > 0)
        .map(|(split, count)| format!("{count} cliques of the split `{split}`"))
        .collect();
    if held_out.is_empty() {
        return None;
    }
    Some(format!(
        "{} was trained on these features, but on other cliques ({known}) than those of the split `train` in {} now \
         ({training}): it may have been trained on some of the {}, whose figures are then too good; train a network on the \
         present splits, or restore those that it was trained on",
        embedder.path.display(),
        index_path.display(),
        held_out.join(" and ")
    ))
}
