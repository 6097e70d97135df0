//! Notes of a work, in beats.

/// A note of a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// Beat on which the note begins.
    pub start: f32,
    /// Beat on which the note ends.
    pub end: f32,
    /// MIDI pitch: 60 is C4.
    pub pitch: u8,
    /// Loudness, from 0 to 1.
    pub loudness: f32,
}

/// The notes of a setting by role. Parts may be empty, but not both melody and backing.
#[derive(Clone, Default, PartialEq)]
pub struct Parts {
    /// The melody.
    pub melody: Vec<Note>,
    /// Second voices and fills.
    pub second_voice: Vec<Note>,
    /// The accompaniment.
    pub backing: Vec<Note>,
}

/// Fingerprints of works are computed from this text, so it still uses `bridge`, POP909's name of the second voices.
impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("melody", &self.melody)
            .field("bridge", &self.second_voice)
            .field("backing", &self.backing)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_that_fingerprints_are_made_from_is_unchanged() {
        let note = Note { start: 0.0, end: 1.0, pitch: 60, loudness: 0.5 };
        let parts = Parts { melody: vec![note], ..Parts::default() };
        assert_eq!(
            format!("{parts:?}"),
            "Parts { melody: [Note { start: 0.0, end: 1.0, pitch: 60, loudness: 0.5 }], bridge: [], backing: [] }"
        );
    }
}
