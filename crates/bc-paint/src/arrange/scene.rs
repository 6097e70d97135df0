//! The inputs from which the parts of a version are arranged, on the beats of the version.

use crate::harmony::Chord;
use crate::performance::Tone;
use crate::random_stream::RandomStream;
use crate::work::{Note, Setting};

use super::form::Span;
use super::plan::Plan;

/// The inputs that the modules of the parts share.
pub(super) struct Scene<'a> {
    pub setting: &'a Setting,
    pub plan: &'a Plan,
    pub spans: &'a [Span],
    pub clock: Clock,
    /// Returns the random stream of this version for a purpose.
    pub random: &'a dyn Fn(&str) -> RandomStream,
}

impl Scene<'_> {
    pub fn random(&self, purpose: &str) -> RandomStream {
        (self.random)(purpose)
    }

    /// Returns a part's notes on the beats of the version, in those spans for which `plays` is true.
    pub fn played(&self, notes: &[Note], plays: impl Fn(&Span) -> bool) -> Vec<Played> {
        let mut played = Vec::new();
        for span in self.spans.iter().filter(|span| plays(span)) {
            let first = notes.partition_point(|note| note.start < span.from - 1e-3);
            for note in notes[first..].iter().take_while(|note| note.start < span.to - 1e-3) {
                let start = note.start - span.from + span.at;
                let end = (note.end - span.from).min(span.to - span.from + 1.0) + span.at;
                played.push(Played { start, end, pitch: note.pitch.into(), loudness: note.loudness });
            }
        }
        played
    }

    /// Returns the harmonic windows on the beats of the version.
    pub fn windows(&self, chords: &[Option<Chord>]) -> Vec<Window> {
        let length = self.setting.window;
        let mut windows = Vec::new();
        for span in self.spans {
            let mut at = span.from;
            while at < span.to - 1e-3 {
                let window = ((at + 1e-3) / length) as usize;
                let end = ((window + 1) as f32 * length).min(span.to);
                let chord = chords.get(window).copied().flatten();
                windows.push(Window {
                    start: at - span.from + span.at,
                    length: end - at,
                    chord,
                    head: at == span.from,
                });
                at = end;
            }
        }
        windows
    }

    /// Converts notes to tones: beats to seconds, and pitches to the version's key.
    pub fn tones(&self, notes: &[Played], octave: i32, random: &mut RandomStream) -> Vec<Tone> {
        let jitter = self.plan.jitter_s;
        let in_range = |pitch: i32| {
            let mut pitch = pitch + octave + self.plan.transpose;
            while pitch > 103 {
                pitch -= 12;
            }
            while pitch < 24 {
                pitch += 12;
            }
            pitch
        };
        notes
            .iter()
            .map(|note| {
                let late = random.normal(jitter).clamp(-2.5 * jitter, 2.5 * jitter);
                let start = self.clock.seconds(note.start) + late;
                let end = (self.clock.seconds(note.end) + late).max(start + 0.04);
                let loudness = (note.loudness * (1.0 + random.normal(0.07))).clamp(0.1, 1.2);
                Tone { start, end, pitch: in_range(note.pitch), loudness }
            })
            .collect()
    }
}

/// A note on the beats of the version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Played {
    pub start: f32,
    pub end: f32,
    pub pitch: i32,
    pub loudness: f32,
}

/// Maps beats of the version to seconds.
pub(super) struct Clock {
    /// Time of every whole beat in seconds, from beat 0 on.
    beats: Vec<f32>,
    /// Position of the middle of a beat: 0.5 is even.
    swing: f32,
}

impl Clock {
    pub fn new(plan: &Plan, beat_s: f32, beats: usize, random: &mut RandomStream) -> Self {
        let (mut now, mut level, mut seconds) = (plan.lead_in_s, 0.0f32, Vec::with_capacity(beats + 2));
        for _ in 0..beats + 2 {
            seconds.push(now);
            level = 0.98 * level + random.normal(plan.drift);
            now += beat_s / plan.rate * level.clamp(-0.12, 0.12).exp();
        }
        Self { beats: seconds, swing: plan.swing }
    }

    pub fn seconds(&self, beat: f32) -> f32 {
        let whole = (beat.max(0.0) as usize).min(self.beats.len() - 2);
        let share = beat - whole as f32;
        let swung = if (0.0..1.0).contains(&share) && self.swing != 0.5 {
            if share < 0.5 {
                share * self.swing * 2.0
            } else {
                self.swing + (share - 0.5) * 2.0 * (1.0 - self.swing)
            }
        } else {
            share
        };
        self.beats[whole] + swung * (self.beats[whole + 1] - self.beats[whole])
    }
}

/// A harmonic window on the beats of the version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub start: f32,
    pub length: f32,
    pub chord: Option<Chord>,
    /// Whether a span begins with this window.
    pub head: bool,
}
