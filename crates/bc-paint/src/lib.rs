//! Paints synthetic versions of works: their notes become constant-Q magnitudes, without rendering any audio.
//!
//! **In**: works as notes ([`read`]: MIDI files with POP909's tracks, tunes as JSON lines), a position
//! ([`VersionSeed`]: seed, epoch, version) and the ranges of the configuration (`[paint]`). **Out**: [`Picture`],
//! bins x columns, as bc-features would compute them from a recording of that version.
//!
//! Why: a network that is trained on a few recordings of each work overfits to these recordings. With painted versions, the
//! network sees another version of a work every time, with another key, tempo, form, accompaniment and sound. A version is
//! arranged as a band would ([`arrange`]: notes in seconds) and then painted as the transform would show it
//! ([`sound`]: every harmonic is the main lobe of the transform's window, at the height that the transform
//! gives it). A minute takes about a millisecond, so training can paint its batches while it runs.
//!
//! A picture depends only on the work's notes, the version's seed and the settings.

pub mod arrange;
pub mod catalogue;
pub mod harmony;
pub mod notes;
pub mod performance;
pub mod random_stream;
pub mod read;
pub mod sound;
pub mod work;

mod painter;
mod version_seed;

pub use catalogue::Catalogue;
pub use painter::Painter;
pub use sound::Picture;
pub use version_seed::{VariationRange, VersionSeed};
pub use work::Work;

/// Version number of the painter, which is increased whenever the same seed gives different pictures than before.
pub const PAINTER: u32 = 2;
