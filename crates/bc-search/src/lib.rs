//! Search: an index of recordings that grows, and answers with calibrated probabilities.
//!
//! **In**: audio files, or embeddings of bc-eval, become the recordings of an [`index`]; audio files or recordings
//! of the index are queries ([`answer::query`]). **Out**: ranked works with probabilities, and the probability of none ([`answer`]),
//! by exact search ([`scan`]) or by graphs ([`ann`]); whether two recordings are of one work ([`compare`]); the pairs of a whole
//! catalogue ([`duplicates`]); a timeline of a mix ([`identify`]); the index in formats that databases load ([`export`]), and
//! calibrated answers from the candidates of a database ([`rerank`]); the alignment of a hit with the query ([`aligned`]).
//!
//! [`serve`] offers all of this over HTTP, with a web page. Another program can open an index with [`answer::Searcher::open`], search
//! it from several threads, and switch to the [`answer::Searcher::newer`] generation when others have added ([`add`]).

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "the macros of bc_cli do not panic")]

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
mod moves;
pub mod output;
pub mod paths;
pub mod rerank;
pub mod scan;
pub mod serve;
