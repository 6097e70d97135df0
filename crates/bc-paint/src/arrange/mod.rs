//! A version as a band would play it.
//!
//! **In**: a setting of a work, the streams of random numbers of one version, the taste (`[paint]`).
//! **Out**: [`Performance`]: parts of notes in seconds, each with the role that its sound is drawn for.
//! What is drawn is in [`plan`], the order of bars in [`form`], and who plays what in the other modules.

mod backing;
mod form;
mod melody;
mod plan;
mod rhythm;

use crate::dice::Dice;
use crate::harmony::{self, Chord};
use crate::painter::{Draw, Taste};
use crate::work::{Note, Setting, Work};

pub use form::Span;
pub use plan::{Backing, Plan};
pub use rhythm::{Drum, Hit};

/// A note in seconds from the beginning of the version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// Where it begins; below 0 where the version begins in the middle of it.
    pub start: f32,
    /// Where it ends.
    pub end: f32,
    /// MIDI pitch, transposed; may lie outside what the transform sees.
    pub pitch: i32,
    /// From 0 to about 1.
    pub loudness: f32,
}

/// What a part is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The tune, and what doubles it.
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
pub struct Part {
    /// What it is for.
    pub role: Role,
    /// Sorted by nothing in particular.
    pub tones: Vec<Tone>,
    /// Loudness beside the other parts of the lead or of the rest, as a factor of the amplitude.
    pub gain: f32,
}

/// What is played.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    /// Pitched parts.
    pub parts: Vec<Part>,
    /// Drums.
    pub hits: Vec<Hit>,
    /// Semitones that the whole is out of tune.
    pub tuning: f32,
}

/// What arranging a version needs: all plain values, shared by the modules of the parts.
pub(crate) struct Scene<'a> {
    setting: &'a Setting,
    plan: &'a Plan,
    spans: &'a [Span],
    clock: Clock,
    /// The streams of this version by purpose.
    dice: &'a dyn Fn(&str) -> Dice,
}

impl Scene<'_> {
    fn dice(&self, purpose: &str) -> Dice {
        (self.dice)(purpose)
    }

    /// A part's notes on the played beats, in the spans that `plays` says.
    fn played(&self, notes: &[Note], plays: impl Fn(&Span) -> bool) -> Vec<Played> {
        let mut made = Vec::new();
        for span in self.spans.iter().filter(|span| plays(span)) {
            let first = notes.partition_point(|note| note.start < span.from - 1e-3);
            for note in notes[first..].iter().take_while(|note| note.start < span.to - 1e-3) {
                let start = note.start - span.from + span.at;
                let end = (note.end - span.from).min(span.to - span.from + 1.0) + span.at;
                made.push(Played { start, end, pitch: note.pitch.into(), loudness: note.loudness });
            }
        }
        made
    }

    /// The harmonic windows on the played beats: beginning, length, chord, whether a span begins there.
    fn windows(&self, chords: &[Option<Chord>]) -> Vec<(f32, f32, Option<Chord>, bool)> {
        let length = self.setting.window;
        let mut made = Vec::new();
        for span in self.spans {
            let mut at = span.from;
            while at < span.to - 1e-3 {
                let place = ((at + 1e-3) / length) as usize;
                let end = ((place + 1) as f32 * length).min(span.to);
                let chord = chords.get(place).copied().flatten();
                made.push((at - span.from + span.at, end - at, chord, at == span.from));
                at = end;
            }
        }
        made
    }

    /// The tones of played notes, at their times and in the version's key.
    fn tones(&self, notes: &[Played], octave: i32, dice: &mut Dice) -> Vec<Tone> {
        let jitter = self.plan.jitter_s;
        let in_reach = |pitch: i32| {
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
                let late = dice.normal(jitter).clamp(-2.5 * jitter, 2.5 * jitter);
                let start = self.clock.seconds(note.start) + late;
                let end = (self.clock.seconds(note.end) + late).max(start + 0.04);
                let loudness = (note.loudness * (1.0 + dice.normal(0.07))).clamp(0.1, 1.2);
                Tone { start, end, pitch: in_reach(note.pitch), loudness }
            })
            .collect()
    }
}

/// A note on the played beats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Played {
    start: f32,
    end: f32,
    pitch: i32,
    loudness: f32,
}

/// When played beats sound.
pub(crate) struct Clock {
    /// The second of every whole beat from 0.
    beats: Vec<f32>,
    /// Where the middle of a beat falls: 0.5 is even.
    swing: f32,
}

impl Clock {
    fn new(plan: &Plan, beat_s: f32, beats: usize, dice: &mut Dice) -> Self {
        let (mut now, mut level, mut made) = (plan.lead_in_s, 0.0f32, Vec::with_capacity(beats + 2));
        for _ in 0..beats + 2 {
            made.push(now);
            level = 0.98 * level + dice.normal(plan.drift);
            now += beat_s / plan.rate * level.clamp(-0.12, 0.12).exp();
        }
        Self { beats: made, swing: plan.swing }
    }

    fn seconds(&self, beat: f32) -> f32 {
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

/// Versions of fewer notes are arranged again with all that the source has.
const FEWEST_TONES: usize = 24;

/// Arranges one version of `seconds` length.
pub fn perform(work: &Work, taste: &Taste, draw: Draw, seconds: f32) -> Performance {
    let position = [draw.epoch, draw.version];
    let dice = |purpose: &str| Dice::new(draw.seed, purpose, &work.id, &position);
    let setting = &work.settings[dice("setting").integer(0, work.settings.len() as i32 - 1) as usize];
    let plan = Plan::draw(setting, taste, &dice);
    let beats = (seconds * plan.rate / setting.metre.beat_s * 1.15).ceil() + 1.0;
    let mut together = Dice::new(draw.seed, "begin", &work.id, &[draw.epoch]);
    let mut spans = form::spans(setting, taste, &plan, beats, &mut together, &mut dice("form"));
    let played = play(setting, &plan, &spans, beats, &dice);
    let heard = |part: &Part| part.tones.iter().filter(|tone| tone.start < seconds && tone.end > 0.0).count();
    if played.parts.iter().map(heard).sum::<usize>() >= FEWEST_TONES {
        return played;
    }
    spans.iter_mut().for_each(|span| span.melody = true);
    play(setting, &plan.full(setting), &spans, beats, &dice)
}

fn play(
    setting: &Setting,
    plan: &Plan,
    spans: &[Span],
    beats: f32,
    dice: &dyn Fn(&str) -> Dice,
) -> Performance {
    let clock = Clock::new(plan, setting.metre.beat_s, beats as usize, &mut dice("drift"));
    let scene = Scene { setting, plan, spans, clock, dice };
    let mut parts = melody::parts(&scene);
    let known = setting.chords.iter().filter(|chord| chord.is_some()).count() * 2 > setting.chords.len();
    let chords = if known {
        setting.chords.clone()
    } else {
        harmony::harmonise(&setting.melody_chroma, &mut scene.dice("harmony"))
    };
    let windows = backing::coloured(&scene, scene.windows(&chords));
    parts.extend(backing::parts(&scene, &windows));
    parts.extend(rhythm::bass(&scene, &windows));
    parts.retain(|part| !part.tones.is_empty());
    let hits = rhythm::drums(&scene, &windows);
    Performance { parts, hits, tuning: plan.tuning }
}
