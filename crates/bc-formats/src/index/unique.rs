//! Conditions on an index as a whole: each version id once, each clique in one split.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Split, Version};
use crate::fingerprint::{Digest, digest};

/// How a version conflicts with earlier ones. `P` says where a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict<P> {
    /// The version's id occurred before.
    Twice,
    /// The version's clique is in this other split, because of the version at this position.
    Crossing(Split, P),
}

/// The ids and cliques of the versions so far, as [`Digest`]s: of ten million some hundred megabytes.
#[derive(Debug)]
pub struct Unique<P> {
    ids: HashSet<Digest>,
    /// The split of each clique, and the version that was the first to be in it.
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
        if !self.ids.insert(digest(&version.version_id)) {
            return Err(Conflict::Twice);
        }
        let mut entry = match self.cliques.entry(digest(&version.clique_id)) {
            Entry::Vacant(entry) => {
                entry.insert((version.split, position));
                return Ok(true);
            }
            Entry::Occupied(entry) => entry,
        };
        let (split, first) = *entry.get();
        if split == Split::None {
            entry.insert((version.split, position));
        } else if version.split != Split::None && version.split != split {
            return Err(Conflict::Crossing(split, first));
        }
        Ok(false)
    }

    /// Whether a version has this one's id, and a version is of its clique; after [`Self::forget_ids`] none has.
    pub fn has(&self, version: &Version) -> bool {
        self.ids.contains(&digest(&version.version_id))
            && self.cliques.contains_key(&digest(&version.clique_id))
    }

    /// How many versions there are.
    pub fn versions(&self) -> usize {
        self.ids.len()
    }

    /// Frees the memory of the ids, after the last version.
    pub fn forget_ids(&mut self) {
        self.ids = HashSet::new();
    }

    /// The split of a clique.
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
