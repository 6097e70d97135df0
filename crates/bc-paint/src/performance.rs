//! Performances: notes in seconds, as arranging returns them and painting reads them.

/// A note of a performance. Times are in seconds from the beginning of the version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// Time at which the tone begins; below 0 if the version begins in the middle of the tone.
    pub start: f32,
    /// Time at which the tone ends.
    pub end: f32,
    /// MIDI pitch, transposed; may be outside the transform's range.
    pub pitch: i32,
    /// Loudness, from 0 to about 1.
    pub loudness: f32,
}

/// The role of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The melody or a doubling of it.
    Melody,
    /// The accompaniment: chords and figures.
    Backing,
    /// Sustained chords.
    Pad,
    /// The bass line.
    Bass,
}

/// The notes of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct InstrumentPart {
    /// The role of the part.
    pub role: Role,
    /// The tones, in no particular order.
    pub tones: Vec<Tone>,
    /// Factor on the amplitude, relative to the other parts of the lead or of the accompaniment.
    pub gain: f32,
}

/// All notes of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    /// The parts of pitched instruments.
    pub parts: Vec<InstrumentPart>,
    /// The drum hits.
    pub hits: Vec<Hit>,
    /// Number of semitones by which all parts are out of tune.
    pub tuning: f32,
}

/// A kind of drum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drum {
    /// A bass drum, low.
    Kick,
    /// A snare drum, with a broad spectrum.
    Snare,
    /// A hi-hat, high and short.
    Hat,
    /// A cymbal, high and long.
    Cymbal,
}

/// A stroke on a drum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Time of the stroke, in seconds.
    pub at: f32,
    /// The drum that is struck.
    pub drum: Drum,
    /// Loudness, from 0 to about 1.
    pub loudness: f32,
}
