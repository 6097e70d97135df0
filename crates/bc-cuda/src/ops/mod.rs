//! The operators: methods of [`Gpu`](crate::Gpu), one file for each group.

mod conv;
mod elements;
mod linear;
mod loss;
mod norm;
mod optim;
mod pool;

pub use elements::{Runs, WeightCopies};
pub use linear::Linear;
pub use loss::{CrossEntropy, Mining, TripletMargin, Triplets};
pub use norm::{Activation, Epilogue, Norm, NormGradients, NormSaved, Peers};
pub use optim::{Adam, AdamSettings, State, Step};
pub use pool::{MaxMeanSaved, MaxPoolSaved};
