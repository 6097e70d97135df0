//! The rules of evaluation, as data.

use serde::{Deserialize, Serialize};

use crate::{Distance, Error};

/// How the query's own entry among the candidates is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnEntry {
    /// Left out by its identity.
    LeftOut,
    /// Whatever ranks first is dropped, taken to be the query.
    NearestDropped,
    /// Ranked last and counted as a candidate that is not relevant.
    Last,
}

/// How a query without a relevant candidate is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// Not a query.
    LeftOut,
    /// An error.
    Refused,
    /// Average precision 0, first rank 0.
    Zero,
    /// Average precision NaN (and therefore mAP NaN), first rank 0.
    NotANumber,
    /// Not in mAP, but with first rank 1 in MR1.
    RankOne,
}

/// The rules by which a figure was computed. Ties always go to the candidate that comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The distance of two vectors.
    pub distance: Distance,
    /// How the query's own entry is treated.
    pub own_entry: OwnEntry,
    /// How queries without a match are treated.
    pub unmatched: Unmatched,
    /// Rank of the nearest candidate in MR1: 1, or 0.
    pub first_rank: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            distance: Distance::Cosine,
            own_entry: OwnEntry::LeftOut,
            unmatched: Unmatched::LeftOut,
            first_rank: 1,
        }
    }
}

impl Policy {
    /// The names that [`Self::named`] accepts.
    pub const NAMES: [&str; 7] =
        ["default", "orfium", "clews", "coverhunter", "cqtnet", "re-move", "discogs-vinet"];

    /// Returns the policy of a codebase.
    ///
    /// CoverHunter uses the minimum distance over a track's chunks; with one vector per track that
    /// is the distance itself.
    ///
    /// # Errors
    /// A name that is not in [`Self::NAMES`].
    pub fn named(name: &str) -> Result<Self, Error> {
        let default = Self::default();
        Ok(match name {
            "default" => default,
            "orfium" => Self {
                distance: Distance::Euclidean,
                own_entry: OwnEntry::NearestDropped,
                unmatched: Unmatched::NotANumber,
                first_rank: 0,
            },
            "clews" => Self { unmatched: Unmatched::Refused, ..default },
            "coverhunter" | "cqtnet" => Self { unmatched: Unmatched::Zero, ..default },
            "re-move" => Self {
                distance: Distance::Euclidean,
                own_entry: OwnEntry::Last,
                unmatched: Unmatched::RankOne,
                ..default
            },
            "discogs-vinet" => Self { own_entry: OwnEntry::Last, ..default },
            _ => {
                return Err(Error::UnknownPolicy { name: name.to_owned(), known: Self::NAMES.join(", ") });
            }
        })
    }

    /// One sentence that states the rules.
    #[must_use]
    pub fn statement(&self) -> String {
        let own = match self.own_entry {
            OwnEntry::LeftOut => "the query itself is left out by identity",
            OwnEntry::NearestDropped => "the nearest neighbour is dropped, taken to be the query",
            OwnEntry::Last => "the query itself ranks last",
        };
        let unmatched = match self.unmatched {
            Unmatched::LeftOut => "are left out",
            Unmatched::Refused => "are refused",
            Unmatched::Zero => "count with average precision 0 and rank 0",
            Unmatched::NotANumber => "have no average precision and rank 0",
            Unmatched::RankOne => "are not in mAP and have rank 1 in MR1",
        };
        format!(
            "{} distance; {own}; ties go to the candidate first in the file; queries without a match {unmatched}; ranks count from {}",
            self.distance.name(),
            self.first_rank
        )
    }
}
