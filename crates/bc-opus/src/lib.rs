//! Opus (RFC 6716) as a decoder for symphonia, which has none.
//!
//! **In**: the packets of an Opus track and its identification header (RFC 7845 section 5.1; in MP4 the
//! `dOps` box), both as symphonia's demuxers of Ogg, Matroska/WebM and MP4 hand them over. **Out**: 32-bit
//! samples at 48 kHz, with the header's pre-skip and the container's end trim cut away to the sample and
//! the header's gain applied; a packet that does not decode is an error, never a panic.
//!
//! **Why a separate crate**: the decoder is libopus, whose C files are in `libopus/` and are compiled by
//! `build.rs`, so that a build needs a C compiler, but neither cmake nor an installed library. All bindings on
//! crates.io want cmake; of the decoders written in Rust, `opus-decoder` 0.1.1 and `opus-rs` 0.1.40 differ from
//! libopus audibly in some modes, and `unsafe-libopus` 0.2.0 fills concealed SILK frames with full scale
//! (`tests/reference.rs` finds each of these). All `unsafe` is in one small module.
//!
//! Mono, stereo and up to eight channels (mapping families 0 and 1) are decoded; ambisonics are refused as
//! unsupported. In Matroska the padding of the last packet, at most 120 ms, stays, since symphonia's demuxer
//! does not pass on what that container says of it.

mod decoder;
mod head;
mod libopus;

pub use decoder::OpusDecoder;
