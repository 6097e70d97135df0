//! Networks for cover songs, ByteCover and a key-invariant one: pooled CQT magnitudes go in, embeddings come out.
//!
//! In: batches of (bins x frames) of 32-bit magnitudes as [`Tensor`](candle_core::Tensor)s, and
//! checkpoints ([`Network::load`]: ours, or the public PyTorch re-implementation's).
//! Out: f_t, f_c and logits ([`Outputs`]), [`Gradients`] of a training [`Pass`], steps of Adam
//! ([`optim`]), and checkpoints that PyTorch loads ([`Network::save`]).
//!
//! The stages `bc-train` and `bc-eval` share it, so that what is trained is what is
//! evaluated. candle holds the tensors and the graph of the losses; [`ops`] holds the
//! operators that it lacks or computes slowly, and the network runs its own backward pass.
//! Source of the design: Du et al., "ByteCover: Cover Song Identification via Multi-Loss
//! Training", ICASSP 2021, section 3.

pub mod bench;
mod bytecover;
mod checkpoint;
mod gradients;
mod head;
mod layers;
pub mod loss;
pub mod memory;
mod network;
pub mod ops;
pub mod optim;
mod peers;
mod ring;
mod settings;
mod simd;
pub mod weights;

pub use checkpoint::Loaded;
pub use gradients::{Gradients, Listener};
pub use network::{Network, Outputs, Pass};
pub use peers::Peers;
pub use settings::{ByteCoverSettings, Kind, Memory, NetworkSettings, RingSettings};
pub use simd::instruction_set;
