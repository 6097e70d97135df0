//! Styles of bass lines and drums.

use crate::random_stream::RandomStream;

/// The style of a bass line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BassStyle {
    /// One long note for each chord.
    Long,
    /// The root, then the fifth of each chord.
    Fifth,
    /// The root repeated on half beats.
    Pulse,
    /// A walking bass: chord tones, and a step into the next root.
    Walk,
    /// A long note, then a short one before the next chord.
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

/// The style of a drum part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrumStyle {
    /// Kick on one and three, snare on two and four, eighths on the hat.
    Rock,
    /// Like `Rock`, but softer and sparser.
    Ballad,
    /// A kick on each beat (four on the floor).
    Four,
    /// Syncopated rim clicks.
    Bossa,
    /// A shaker in sixteenths.
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
