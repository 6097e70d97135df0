//! From an audio file to a pooled constant-Q magnitude.
//!
//! **In**: a path. **Out**: [`Features`], the 16-bit magnitudes of the configured
//! transform, or a [`DecodeError`] that says what is wrong with the file. Everything is
//! a stream ([`decode`] -> [`resample`] -> [`cqt`] -> pooling in [`extract`]), so a three-hour
//! mix costs no more memory than a song, apart from its features.
//!
//! A crate of its own because three stages need it: features are made of it, the
//! index is verified with it, and a search begins with it.

pub mod cqt;
pub mod decode;
pub mod extract;
pub mod inspect;
pub mod resample;

pub use decode::DecodeError;
pub use extract::{Extractor, Features, Limits};
