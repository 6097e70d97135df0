//! A performance, in seconds: the result of arranging and the input of painting.

/// A note in seconds from the beginning of the version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// Where the tone begins, in seconds; below 0 where the version begins in the middle of it.
    pub start: f32,
    /// Where the tone ends, in seconds.
    pub end: f32,
    /// MIDI pitch, transposed; may be outside the transform's range.
    pub pitch: i32,
    /// Loudness, from 0 to about 1.
    pub loudness: f32,
}

/// The role of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The tune, and its doublings.
    Melody,
    /// Chords and figures.
    Backing,
    /// Held chords.
    Pad,
    /// The bass line.
    Bass,
}

/// One instrument's notes.
#[derive(Debug, Clone, PartialEq)]
pub struct InstrumentPart {
    /// The role of the part.
    pub role: Role,
    /// The tones, in no particular order.
    pub tones: Vec<Tone>,
    /// Factor on the amplitude, relative to the other parts of the lead or of the accompaniment.
    pub gain: f32,
}

/// The notes that are played.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    /// Pitched parts.
    pub parts: Vec<InstrumentPart>,
    /// Drums.
    pub hits: Vec<Hit>,
    /// Semitones that the whole is out of tune.
    pub tuning: f32,
}

/// Kinds of drums that sound differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drum {
    /// Low.
    Kick,
    /// Broad.
    Snare,
    /// High and short.
    Hat,
    /// High and long.
    Cymbal,
}

/// A beat on a drum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Time of the stroke, in seconds.
    pub at: f32,
    /// Which drum.
    pub drum: Drum,
    /// Loudness, from 0 to about 1.
    pub loudness: f32,
}
