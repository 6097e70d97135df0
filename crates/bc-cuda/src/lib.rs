//! The operators of bytecover's networks on a CUDA device.
//!
//! In: batches, weights, labels as slices of the host. Out: embeddings, losses, gradients and updated weights, on the
//! device until they are read. This crate does not depend on networks, files or candle; `bc-nn` builds its networks from these
//! operators.
//!
//! A [`Gpu`] is a [`Device`](device::Device) with its memory; operators are its methods ([`ops`]). There are two kinds of
//! tensors: an [`Image`] holds activations, (batch, height, width, channels), as f32 or bf16. Its clones share memory, and an
//! operator that works in place copies it first if there are other clones. A [`Buffer`] holds flat weights, gradients, moments and
//! running statistics in 32 bits, or labels as `i32`. All work is queued in the order of the calls; only reads wait for it.
//! Batches are uploaded on a stream of their own ([`Uploader`]); values of several processes are exchanged through [`Peers`].
//!
//! With the feature `cuda`, `cuda::open` opens a GPU: kernels are compiled at run time by nvrtc from the sources in
//! `kernels/`, convolutions run in cuDNN, products in cuBLAS, exchange in NCCL (`cuda::Communicator`). All these libraries are
//! loaded at run time by cudarc, so that a program with this feature also starts without them. With the feature `emulated`,
//! `emulated::open` runs the same kernels on CPU threads, with plain loops for cuDNN and cuBLAS, for tests without a GPU.
//!
//! ```
//! use bc_cuda::{Gpu, Precision};
//! # fn train(device: std::sync::Arc<dyn bc_cuda::device::Device>) -> bc_cuda::Result<()> {
//! let gpu = Gpu::new(device, Precision::Bf16); // device: of `cuda::open("cuda:0")`
//! let weights = gpu.upload(&[0.5f32; 64])?;
//! assert_eq!(gpu.read(&weights, 0, 64)?, [0.5; 64]);
//! # Ok(())
//! # }
//! ```

#![allow(unsafe_code, reason = "a driver, libraries and kernels by their interfaces of C")]

#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
#[cfg(feature = "emulated")]
pub mod emulated;
mod error;
mod gpu;
pub mod kernels;
mod memory;
pub mod ops;
mod shape;
mod tensor;
mod upload;

pub use error::{Error, Result};
pub use gpu::Gpu;
pub use memory::Usage;
pub use ops::{
    Activation, Adam, AdamSettings, Epilogue, Linear, MaxMeanSaved, MaxPoolSaved, Norm, NormGradients,
    NormSaved, Peers, Runs, State, Step, Triplets, WeightCopies,
};
pub use shape::{Convolution, Element, Padding, Precision, Shape};
pub use tensor::{Buffer, Image, channels_first, channels_last};
pub use upload::{Upload, Uploader};
