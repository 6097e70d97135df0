//! Turns recordings into embeddings, for evaluation and search.
//!
//! **In**: a network file ([`embedder`]), and audio files ([`recording`], found by [`files`]) or stored features in the
//! network's form ([`lengths`]). **Out**: one vector for a whole recording, or one for each of its [`windows`], at any [`tempo`]; and
//! which network made them ([`origin`]), so that vectors of two networks are never compared.
//!
//! A separate crate, because bc-eval embeds what it evaluates and bc-search what it indexes and searches for, and both
//! must do it in the same way.

pub mod arguments;
pub mod bundle;
pub mod embedder;
pub mod files;
pub mod lengths;
pub mod origin;
pub mod recording;
pub mod tempo;
pub mod windows;
