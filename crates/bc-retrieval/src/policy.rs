//! The evaluation rules of published codebases.

use serde::{Deserialize, Serialize};

use crate::{Distance, Error};

/// How the query's own entry among the candidates is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnEntry {
    /// The candidate with the query's identity is left out.
    LeftOut,
    /// The candidate that ranks first is assumed to be the query and left out.
    NearestDropped,
    /// The query's own entry is ranked last and counted as an irrelevant candidate.
    Last,
}

/// How a query without a relevant candidate is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// It is not counted as a query.
    LeftOut,
    /// It is an error.
    Refused,
    /// Its average precision is 0 and its first rank 0.
    Zero,
    /// Its average precision is NaN (and therefore mAP is NaN) and its first rank 0.
    NotANumber,
    /// It is not counted in mAP, but has first rank 1 in MR1.
    RankOne,
}

/// The rules by which metrics are computed. Equal distances are always ranked in the order of the candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The distance function of two vectors.
    pub distance: Distance,
    /// How the query's own entry is treated.
    pub own_entry: OwnEntry,
    /// How queries without a match are treated.
    pub unmatched: Unmatched,
    /// The rank that MR1 assigns to the nearest candidate: 1, or 0 in codebases that count from 0.
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

    /// Describes the rules in one sentence.
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
