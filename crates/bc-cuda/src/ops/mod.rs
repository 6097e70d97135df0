//! The operators: methods of [`Gpu`](crate::Gpu), one file for each group.

mod conv;
mod elements;
mod linear;
mod loss;
mod norm;
mod optim;
mod peers;
mod pool;

pub use elements::{Runs, WeightCopies};
pub use linear::Linear;
pub use loss::Triplets;
pub use norm::{Activation, Epilogue, Norm, NormGradients, NormSaved};
pub use optim::{Adam, AdamSettings, State, Step};
pub use peers::Peers;
pub use pool::{MaxMeanSaved, MaxPoolSaved};
