//! The events of an arrangement.

/// A sound at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// Start in seconds.
    pub start: f64,
    /// Length in seconds.
    pub length: f64,
    pub sound: Sound,
    /// Loudness from 0 to 1.
    pub loudness: f32,
}

/// The sound of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sound {
    /// A voice at a frequency in Hz.
    Tone(Voice, f64),
    Kick,
    Snare,
    Hat,
}

/// Instruments, by their method of synthesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Additive: drawbars.
    Organ,
    /// Additive: stretched partials that die away, the high ones first.
    Piano,
    /// Frequency modulation, two operators.
    Bell,
    /// Karplus-Strong: a delayed and damped noise burst.
    Pluck,
    /// Subtractive: a saw through a low-pass that closes.
    Strings,
    /// Subtractive: a square with vibrato.
    Reed,
    /// Formants over a pulse, with vibrato.
    Choir,
}

impl Voice {
    /// All voices.
    pub const ALL: [Self; 7] =
        [Self::Organ, Self::Piano, Self::Bell, Self::Pluck, Self::Strings, Self::Reed, Self::Choir];

    /// Returns the name of the instrument, for the performer's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Organ => "Organ",
            Self::Piano => "Piano",
            Self::Bell => "Bells",
            Self::Pluck => "Guitar",
            Self::Strings => "Strings",
            Self::Reed => "Reed",
            Self::Choir => "Choir",
        }
    }
}
