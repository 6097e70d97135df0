//! Styles of bass lines and drums.

use crate::random_stream::RandomStream;

/// How a bass moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BassStyle {
    /// One note for each chord.
    Long,
    /// Root, then fifth.
    Fifth,
    /// Half beats on the root.
    Pulse,
    /// Chord tones, and a step into the next root.
    Walk,
    /// Long, then short before the next chord.
    Late,
}

impl BassStyle {
    pub(super) fn draw(random: &mut RandomStream) -> Self {
        random.weighted(&[
            (Self::Long, 0.3),
            (Self::Fifth, 0.25),
            (Self::Pulse, 0.2),
            (Self::Walk, 0.12),
            (Self::Late, 0.13),
        ])
    }
}

/// How drums are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrumStyle {
    /// Kick on one and three, snare on two and four, eighths on the hat.
    Rock,
    /// As `Rock`, softer and sparser.
    Ballad,
    /// A kick on each beat.
    Four,
    /// Syncopated rims.
    Bossa,
    /// Sixteenths of a shaker.
    Shaker,
}

impl DrumStyle {
    pub(super) fn draw(random: &mut RandomStream) -> Self {
        random.weighted(&[
            (Self::Rock, 0.34),
            (Self::Ballad, 0.26),
            (Self::Four, 0.15),
            (Self::Bossa, 0.12),
            (Self::Shaker, 0.13),
        ])
    }
}
