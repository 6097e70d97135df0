//! Checks an index as a whole: each version id occurs once, and each clique is in one split.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Split, Version};
use crate::fingerprint::{Digest, digest};

/// How a version conflicts with earlier ones. `P` is the type of the position of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict<P> {
    /// The version's id occurred before.
    Twice,
    /// The version's clique is in another split because of an earlier version; holds that split and the earlier version's position.
    Crossing(Split, P),
}

/// The ids and cliques of the versions so far, as [`Digest`]s: some hundred megabytes for ten million versions.
#[derive(Debug)]
pub struct Unique<P> {
    ids: HashSet<Digest>,
    /// The split of each clique, and the position of its first version.
    cliques: HashMap<Digest, (Split, P)>,
}

impl<P> Default for Unique<P> {
    fn default() -> Self {
        Self { ids: HashSet::new(), cliques: HashMap::new() }
    }
}

impl<P: Copy> Unique<P> {
    /// Records the next version; returns whether it is the first of its clique.
    ///
    /// # Errors
    /// The version conflicts with an earlier one.
    pub fn add(&mut self, version: &Version, position: P) -> Result<bool, Conflict<P>> {
        self.add_ids(&version.version_id, &version.clique_id, version.split, position)
    }

    /// Records the ids and the split of the next version, like [`Self::add`].
    ///
    /// # Errors
    /// The version conflicts with an earlier one.
    pub fn add_ids(
        &mut self,
        version_id: &str,
        clique_id: &str,
        own_split: Split,
        position: P,
    ) -> Result<bool, Conflict<P>> {
        if !self.ids.insert(digest(version_id)) {
            return Err(Conflict::Twice);
        }
        let mut entry = match self.cliques.entry(digest(clique_id)) {
            Entry::Vacant(entry) => {
                entry.insert((own_split, position));
                return Ok(true);
            }
            Entry::Occupied(entry) => entry,
        };
        let (split, first) = *entry.get();
        if split == Split::None {
            entry.insert((own_split, position));
        } else if own_split != Split::None && own_split != split {
            return Err(Conflict::Crossing(split, first));
        }
        Ok(false)
    }

    /// Whether the id of this version is known, and its clique; always false after [`Self::forget_ids`].
    pub fn has(&self, version: &Version) -> bool {
        self.ids.contains(&digest(&version.version_id))
            && self.cliques.contains_key(&digest(&version.clique_id))
    }

    /// Returns how many versions there are.
    pub fn versions(&self) -> usize {
        self.ids.len()
    }

    /// Frees the memory of the ids, after the last version.
    pub fn forget_ids(&mut self) {
        self.ids = HashSet::new();
    }

    /// Returns the split of a clique.
    pub fn split_of(&self, clique_id: &str) -> Option<Split> {
        self.cliques.get(&digest(clique_id)).map(|(split, _)| *split)
    }

    /// Puts an existing clique into a split.
    pub fn set_split(&mut self, clique_id: &str, split: Split) {
        if let Some(known) = self.cliques.get_mut(&digest(clique_id)) {
            known.0 = split;
        }
    }
}
