//! Works as notes become constant-Q magnitudes of made-up versions; no sound is made on the way.
//!
//! **In**: works as notes ([`read`]: MIDI files with POP909's tracks, tunes as JSON lines), a position
//! ([`Draw`]: seed, epoch, version) and the taste of the configuration (`[paint]`). **Out**: [`Picture`],
//! bins x columns as bc-features would give of a recording of that version.
//!
//! Why: a network that is trained on a few recordings of each work learns the recordings by heart. Here
//! every look at a work is another version: another key, tempo, form, accompaniment and sound. A version is
//! arranged as a band would ([`arrange`]: notes in seconds) and then painted as the transform would show it
//! ([`sound`]: every harmonic is the main lobe of the transform's window, at the height that the transform
//! gives it). A minute takes about a millisecond, so training can paint its batches while it runs.
//!
//! A picture is a function of the work's notes, the draw and the settings alone.

pub mod arrange;
pub mod catalogue;
pub mod dice;
pub mod harmony;
pub mod notes;
pub mod performance;
pub mod read;
pub mod sound;
pub mod work;

mod draw;
mod painter;

pub use catalogue::Catalogue;
pub use draw::{Draw, Taste};
pub use painter::Painter;
pub use sound::Picture;
pub use work::Work;

/// Counts up whenever the same draw is painted differently.
pub const PAINTER: u32 = 2;
