//! Recordings become embeddings: what evaluation and search share of it.
//!
//! **In**: a network file ([`embedder`]), and audio files ([`recording`], found by [`files`]) or stored features in the
//! network's form ([`lengths`]). **Out**: one vector for a whole recording, or one for each of its [`windows`], at any [`tempo`]; and
//! which network made them ([`origin`]), so that vectors of two networks are never compared.
//!
//! A crate of its own because bc-eval embeds what it measures and bc-search what it indexes and is asked, and both
//! must do it alike.

pub mod arguments;
pub mod bundle;
pub mod embedder;
pub mod files;
pub mod lengths;
pub mod origin;
pub mod recording;
pub mod tempo;
pub mod windows;
