//! Classical methods of music retrieval, on the constant-Q magnitudes that the network also uses.
//!
//! **In**: a recording's magnitudes (bins x frames, as bc-features stores them or bc-audio computes them), which
//! [`chroma`] folds into twelve pitch classes per column. **Out**: a vector that is compared by cosine ([`two_dfm`]), the
//! similarity of two recordings by their best local alignment ([`qmax`]), or that alignment itself: key shift, tempo
//! ratio and matched sections in seconds ([`align()`]).
//!
//! A separate crate, because evaluation (baselines to compare with a network) and search (which sections of two versions match) both
//! need it, and neither needs the other. It reads and writes no files.
//!
//! Sources: Bertin-Mahieux & Ellis, *Large-Scale Cover Song Recognition Using the 2D Fourier Transform Magnitude*
//! (ISMIR 2012); Serrà, Serra & Andrzejak, *Cross recurrence quantification for cover song identification* (New Journal
//! of Physics 11, 2009); Smith & Waterman, *Identification of common molecular subsequences* (1981).

pub mod align;
pub mod chroma;
pub mod qmax;
mod recurrence;
pub mod two_dfm;
mod vectors;

pub use align::{Alignment, Section, align};
pub use chroma::{Chroma, Folding, PITCH_CLASSES};

/// Errors in a recording's features.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Magnitudes that are not bins x frames.
    #[error("{values} magnitudes are not {bins} bins x {frames} frames")]
    Shape {
        /// Number of magnitudes that were given.
        values: usize,
        /// Bins of the transform.
        bins: usize,
        /// Number of columns that was given.
        frames: usize,
    },
    /// A transform whose bins cannot be folded into twelve pitch classes.
    #[error(
        "chroma needs a multiple of 12 bins per octave and at least one octave, not {bins_per_octave} of {bins} bins"
    )]
    NoPitchClasses {
        /// Bins per octave of the transform.
        bins_per_octave: u32,
        /// Bins of the transform.
        bins: u32,
    },
    /// A magnitude that is infinite, negative or not a number.
    #[error("the features hold a magnitude that is negative or not a finite number; extract them again")]
    NotFinite,
    /// A recording that is too short to align.
    #[error("a recording of {seconds:.1} s is too short to be aligned; at least {min_s:.1} s are needed")]
    TooShort {
        /// Length of the recording in seconds.
        seconds: f64,
        /// Minimum length in seconds.
        min_s: f64,
    },
    /// A recording that is too long: the memory of an alignment grows with the product of both lengths.
    #[error(
        "a recording of {seconds:.0} s is too long to be aligned as a whole; cut it to at most {max_s:.0} s"
    )]
    TooLong {
        /// Length of the recording in seconds.
        seconds: f64,
        /// Maximum length in seconds.
        max_s: f64,
    },
}
