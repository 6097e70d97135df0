//! Networks that embed pooled CQT magnitudes of recordings: ByteCover and a key-invariant network.
//!
//! In: batches of (bins x frames) of 32-bit magnitudes as [`Tensor`](candle_core::Tensor)s, and
//! checkpoints ([`Network::load`]: ours, or the public PyTorch re-implementation's).
//! Out: f_t, f_c and logits ([`Outputs`]), [`Gradients`] of a training [`Pass`], steps of Adam
//! ([`optim`]), and checkpoints that PyTorch loads ([`Network::save`]).
//!
//! The stages `bc-train` and `bc-eval` share it, so that the network that is trained is the one that is
//! evaluated. Networks, losses and optimiser are written once, over the operators of a [`backend`] that is chosen once;
//! the network runs its own backward pass. candle's tensors appear only at the interface: inputs, outputs, files.
//! Source of the design: Du et al., "ByteCover: Cover Song Identification via Multi-Loss
//! Training", ICASSP 2021, section 3.

pub mod backend;
pub mod bench;
mod bytecover;
mod checkpoint;
mod clock;
mod gradients;
mod head;
mod layers;
pub mod loss;
pub mod memory;
mod network;
pub mod optim;
mod parameters;
mod peers;
mod recompute;
mod ring;
mod settings;
mod simd;
mod step_memory;
pub mod weights;

pub use backend::Backend;
pub use checkpoint::Loaded;
pub use gradients::{GradientListener, Gradients};
pub use head::HeadOutputs;
pub use network::{Images, Network, OutputGradients, Outputs, Pass, Snapshot};
pub use parameters::{Entry, Layout, Parameter, Parameters};
pub use peers::Peers;
pub use settings::{ByteCoverSettings, Kind, NetworkSettings, RingSettings};
pub use simd::instruction_set;
pub use step_memory::{Memory, MemoryOptions};
