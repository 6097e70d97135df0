//! Stage 3: features become a trained network.
//!
//! **In**: `index.parquet` (which version is in which split), the folder of features, the
//! sections `[model]`, `[train]`, `[augment]` of the configuration. **Out**: a run folder
//! with the resolved configuration, checkpoints, `best.safetensors`, `metrics.jsonl`,
//! TensorBoard events and curves.
//!
//! ```text
//! sampler: which versions form batch n        (a function of seed and epoch)
//!    -> data: crops, augmentation, pooling    (threads ahead; a function of seed and n)
//!    -> step: forward, losses, backward, optimiser
//!    -> record: metrics, events, curves; checkpoint: everything a resume needs
//! ```
//!
//! No random generator keeps a state: all randomness is a function of the seed
//! and a position ([`randomness`]). That is why a killed run can continue from its last
//! checkpoint as if nothing had happened, bit for bit on the CPU.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "the macros of bc_cli do not panic")]

pub mod augment;
pub mod bench;
pub mod best;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod dry_run;
mod ending;
mod folder;
pub mod learner;
pub mod machine;
mod memory_check;
pub mod mining;
mod objective;
pub mod randomness;
pub mod ranks;
pub mod record;

pub mod sampler;
pub mod schedule;
mod session;
mod settings;
pub mod setup;
pub mod train;
pub mod validate;
