//! Search: an index of recordings that grows, and answers with calibrated probabilities.
//!
//! **In**: audio files, or embeddings that bc-eval made, become the recordings of an [`index`]; audio files or recordings
//! of the index are queries ([`answer::query`]). **Out**: ranked works with probabilities and that of none ([`answer`]), found by an
//! exact search ([`scan`]), or by graphs beside it ([`ann`]); whether two recordings are of one work ([`compare`]); the pairs of a whole catalogue
//! ([`duplicates`]); a timeline of a mix ([`identify`]); the index in forms that databases load ([`export`]), and
//! calibrated answers from their candidates ([`rerank`]); for a hit, its alignment with the query ([`aligned`]).
//!
//! [`serve`] answers all of this over HTTP, with a page to listen on. Another program opens an index with [`answer::Searcher::open`], searches it from several threads, and switches to the
//! [`answer::Searcher::newer`] generation when others have added ([`add`]).

pub mod add;
pub mod aligned;
pub mod ann;
pub mod answer;
pub mod bench;
mod calibrations;
mod cells;
pub mod cli;
pub mod compare;
pub mod duplicates;
pub mod export;
pub mod identify;
pub mod import;
pub mod index;
pub mod list;
pub mod output;
pub mod rerank;
pub mod scan;
pub mod serve;
