//! Notes of a work in beats: plain data.

/// A note, in beats of its setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// Where the note begins.
    pub start: f32,
    /// Where the note ends.
    pub end: f32,
    /// MIDI pitch: 60 is C4.
    pub pitch: u8,
    /// Loudness, from 0 to 1.
    pub loudness: f32,
}

/// The notes of a setting by their role; any of them may be empty, but not both melody and backing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parts {
    /// The tune.
    pub melody: Vec<Note>,
    /// Second voices and fills.
    pub bridge: Vec<Note>,
    /// The accompaniment.
    pub backing: Vec<Note>,
}
