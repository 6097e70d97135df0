//! Everything that is drawn of a version before notes are touched.

use crate::dice::Dice;
use crate::draw::Taste;
use crate::work::Setting;

use super::style::{BassStyle, DrumStyle};

/// The kind of accompaniment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Nothing.
    None,
    /// The source's own notes.
    Source,
    /// Some of them.
    Thinned,
    /// New figures over the chords.
    Chords,
}

/// The choices of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Semitones.
    pub transpose: i32,
    /// Above 1 the version is faster than its source.
    pub rate: f32,
    /// Deviation of a beat's length from the last one's, as a logarithm.
    pub drift: f32,
    /// Where the middle of a beat falls.
    pub swing: f32,
    /// Deviation of a note's beginning in seconds.
    pub jitter_s: f32,
    /// Semitones out of tune.
    pub tuning: f32,
    /// Silence before the music.
    pub lead_in_s: f32,
    /// Whether the tune is played.
    pub melody: bool,
    /// The accompaniment of the version.
    pub backing: Backing,
    /// Whether second voices and fills of the source are played.
    pub bridge: bool,
    /// Whether chords are held besides.
    pub pad: bool,
    /// The bass line.
    pub bass: Option<BassStyle>,
    /// The drums.
    pub drums: Option<DrumStyle>,
    /// Semitones at which a second instrument doubles the tune; 3 stands for the third of the key.
    pub double: Option<i32>,
    /// Octaves of the tune and of the backing, in semitones.
    pub octaves: [i32; 2],
    /// Share of the tune's notes that get an ornament.
    pub ornament: f32,
    /// How far the tune lags or hurries, in beats.
    pub rubato: f32,
    /// How long its notes are held, as a factor.
    pub legato: f32,
    /// Share of notes that a thinned backing leaves out.
    pub thin: f32,
    /// Share of chords that are substituted by others.
    pub reharm: f32,
    /// Whether chords get sevenths.
    pub sevenths: bool,
}

/// The line-up of a version.
struct Players {
    melody: bool,
    backing: Backing,
    bridge: bool,
    pad: bool,
    bass: Option<BassStyle>,
    drums: Option<DrumStyle>,
}

impl Players {
    fn draw(setting: &Setting, dice: &mut Dice) -> Self {
        let [melody, has_backing] =
            [&setting.parts.melody, &setting.parts.backing].map(|part| !part.is_empty());
        let number = dice.uniform(0.0, 1.0);
        let melody = melody && !(number < 0.1 && has_backing);
        let backing = match number {
            _ if !melody && dice.chance(0.65) => Backing::Source,
            _ if !melody => Backing::Thinned,
            _ if number > 0.9 => Backing::None,
            _ if !has_backing => Backing::Chords,
            _ => dice.weighted(&[(Backing::Source, 0.25), (Backing::Thinned, 0.15), (Backing::Chords, 0.6)]),
        };
        let chance = |source: f32, thinned: f32, chords: f32, none: f32| match backing {
            Backing::Source => source,
            Backing::Thinned => thinned,
            Backing::Chords => chords,
            Backing::None => none,
        };
        Self {
            melody,
            backing,
            bridge: dice.chance(chance(0.6, 0.45, 0.3, 0.1)),
            pad: dice.chance(chance(0.12, 0.2, 0.3, 0.0)),
            bass: dice.chance(chance(0.3, 0.5, 0.7, 0.2)).then(|| BassStyle::draw(dice)),
            drums: dice.chance(0.45).then(|| DrumStyle::draw(dice)),
        }
    }
}

impl Plan {
    /// This plan with all parts that the source has: for works of which a drawn line-up left next to nothing.
    pub(super) fn full(self, setting: &Setting) -> Self {
        let has = |part: &[crate::work::Note]| !part.is_empty();
        Self {
            melody: has(&setting.parts.melody),
            bridge: has(&setting.parts.bridge),
            backing: if has(&setting.parts.backing) { Backing::Source } else { Backing::Chords },
            ..self
        }
    }

    pub(super) fn draw(setting: &Setting, taste: &Taste, dice: &impl Fn(&str) -> Dice) -> Self {
        let mut d = dice("key");
        let transpose = d.integer(taste.transpose[0], taste.transpose[1]);
        let tuning = if d.chance(0.7) { d.normal(0.14).clamp(-0.5, 0.5) } else { 0.0 };
        let rate = dice("tempo").log_uniform(taste.tempo[0], taste.tempo[1]);
        let mut d = dice("groove");
        let drift = if d.chance(0.5) { d.uniform(0.002, 0.012) } else { 0.0 };
        let straight = if setting.metre.compound { 0.667 } else { 0.5 };
        let swing = if d.chance(0.2) && !setting.metre.compound { d.uniform(0.55, 0.67) } else { straight };
        let jitter_s = d.uniform(0.0, 0.03);
        let lead_in_s = if d.chance(0.4) { d.uniform(0.1, 1.5) } else { 0.0 };
        let Players { melody, backing, bridge, pad, bass, drums } = Players::draw(setting, &mut dice("cast"));
        let mut d = dice("line");
        let double = d.weighted(&[
            (None, 0.76),
            (Some(12), 0.07),
            (Some(-12), 0.05),
            (Some(0), 0.06),
            (Some(3), 0.06),
        ]);
        let octaves = [
            d.weighted(&[(0, 0.7), (12, 0.17), (-12, 0.13)]),
            d.weighted(&[(0, 0.76), (12, 0.14), (-12, 0.1)]),
        ];
        let ornament = if d.chance(0.65) { d.uniform(0.03, 0.2) } else { 0.0 };
        let rubato = if d.chance(0.55) { d.uniform(0.02, 0.16) } else { 0.0 };
        let legato = d.uniform(0.5, 1.15);
        let mut d = dice("chords");
        let thin = d.uniform(0.2, 0.6);
        let reharm = if d.chance(0.4) { d.uniform(0.05, 0.3) } else { 0.0 };
        let sevenths = d.chance(0.2);
        Self {
            transpose,
            rate,
            drift,
            swing,
            jitter_s,
            tuning,
            lead_in_s,
            melody,
            backing,
            bridge,
            pad,
            bass,
            drums,
            double,
            octaves,
            ornament,
            rubato,
            legato,
            thin,
            reharm,
            sevenths,
        }
    }
}
