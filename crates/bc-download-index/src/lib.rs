//! Stage 1: imports a data set into one index.
//!
//! **In**: a list in the form its publisher chose ([`importers`]) and a folder of audio.
//! **Out**: `index.parquet`, one row per version with its clique, split, file and status, and
//! the counts of what is usable ([`coverage`]). [`synth`] makes a demo set.
//!
//! [`download`] fetches files, and [`verify`] decodes each of them once. Both record their results next to the audio and the
//! index, and every later run of `build`, `download` or `verify` fills them in ([`known`]). A command that writes the index
//! first reads it again, under its [`lock`], so that commands that run at the same time do not lose each other's updates.
//!
//! An index is never held in memory as a whole: its versions are read, located, judged and written in chunks
//! ([`assemble`]), and only some hashes of each are kept.
//!
//! After this stage no program reads the raw lists again: ids that match no file, cliques
//! that cross splits and ids that are listed twice are found here.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "the macros of bc_cli do not panic")]

pub mod assemble;
pub mod build;
pub mod cli;
pub mod coverage;
pub mod disappeared;
pub mod download;
pub mod importers;
pub mod known;
pub mod locate;
pub mod lock;
mod retry;
pub mod shard;
pub mod shared_files;
pub mod splits;
pub mod synth;
pub mod tally;
pub mod update;
pub mod verify;
