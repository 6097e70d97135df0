//! The random choices of a version that are made before any notes are arranged.

use crate::random_stream::RandomStream;
use crate::version_seed::VariationRange;
use crate::work::Setting;

use super::style::{BassStyle, DrumStyle};

/// The kind of accompaniment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// No accompaniment.
    None,
    /// The source's own notes.
    Source,
    /// A random selection of the source's notes.
    Thinned,
    /// New figures over the source's chords.
    Chords,
}

/// The choices of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Transposition in semitones.
    pub transpose: i32,
    /// Factor on the tempo: above 1 the version is faster than its source.
    pub rate: f32,
    /// Standard deviation of the logarithm of a beat's length relative to the last one's.
    pub drift: f32,
    /// Position of the middle of a beat: 0.5 is even.
    pub swing: f32,
    /// Standard deviation of the time at which a note begins, in seconds.
    pub jitter_s: f32,
    /// Number of semitones by which the version is out of tune.
    pub tuning: f32,
    /// Seconds of silence before the music.
    pub lead_in_s: f32,
    /// Whether the melody is played.
    pub melody: bool,
    /// The accompaniment of the version.
    pub backing: Backing,
    /// Whether second voices and fills of the source are played.
    pub second_voice: bool,
    /// Whether sustained chords are added.
    pub pad: bool,
    /// The bass line.
    pub bass: Option<BassStyle>,
    /// The drums.
    pub drums: Option<DrumStyle>,
    /// Interval in semitones at which a second instrument doubles the melody; 3 stands for a third of the key.
    pub doubling_interval: Option<i32>,
    /// Octave shifts of the melody and of the backing, in semitones.
    pub octaves: [i32; 2],
    /// Share of the melody's notes that get an ornament.
    pub ornament: f32,
    /// Standard deviation of how far the melody is behind or ahead of the beat, in beats.
    pub rubato: f32,
    /// Factor on the durations of the melody's notes.
    pub legato: f32,
    /// Share of notes that a thinned backing leaves out.
    pub drop_share: f32,
    /// Share of chords that are substituted by others.
    pub substitution_share: f32,
    /// Whether chords get sevenths.
    pub sevenths: bool,
}

/// The choices of which parts a version has.
struct LineUp {
    melody: bool,
    backing: Backing,
    second_voice: bool,
    pad: bool,
    bass: Option<BassStyle>,
    drums: Option<DrumStyle>,
}

impl LineUp {
    fn draw(setting: &Setting, random: &mut RandomStream) -> Self {
        let [melody, has_backing] =
            [&setting.parts.melody, &setting.parts.backing].map(|part| !part.is_empty());
        let number = random.uniform(0.0, 1.0);
        let melody = melody && !(number < 0.1 && has_backing);
        let backing = match number {
            _ if !melody && random.chance(0.65) => Backing::Source,
            _ if !melody => Backing::Thinned,
            _ if number > 0.9 => Backing::None,
            _ if !has_backing => Backing::Chords,
            _ => {
                random.weighted(&[(Backing::Source, 0.25), (Backing::Thinned, 0.15), (Backing::Chords, 0.6)])
            }
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
            second_voice: random.chance(chance(0.6, 0.45, 0.3, 0.1)),
            pad: random.chance(chance(0.12, 0.2, 0.3, 0.0)),
            bass: random.chance(chance(0.3, 0.5, 0.7, 0.2)).then(|| BassStyle::draw(random)),
            drums: random.chance(0.45).then(|| DrumStyle::draw(random)),
        }
    }
}

impl Plan {
    /// Returns this plan with all parts that the source has, for works of which the drawn parts have almost no notes.
    pub(super) fn full(self, setting: &Setting) -> Self {
        let has = |part: &[crate::work::Note]| !part.is_empty();
        Self {
            melody: has(&setting.parts.melody),
            second_voice: has(&setting.parts.second_voice),
            backing: if has(&setting.parts.backing) { Backing::Source } else { Backing::Chords },
            ..self
        }
    }

    pub(super) fn draw(
        setting: &Setting,
        range: &VariationRange,
        random: &impl Fn(&str) -> RandomStream,
    ) -> Self {
        let mut d = random("key");
        let transpose = d.integer(range.transpose[0], range.transpose[1]);
        let tuning = if d.chance(0.7) { d.normal(0.14).clamp(-0.5, 0.5) } else { 0.0 };
        let rate = random("tempo").log_uniform(range.tempo[0], range.tempo[1]);
        let mut d = random("groove");
        let drift = if d.chance(0.5) { d.uniform(0.002, 0.012) } else { 0.0 };
        let straight = if setting.metre.compound { 0.667 } else { 0.5 };
        let swing = if d.chance(0.2) && !setting.metre.compound { d.uniform(0.55, 0.67) } else { straight };
        let jitter_s = d.uniform(0.0, 0.03);
        let lead_in_s = if d.chance(0.4) { d.uniform(0.1, 1.5) } else { 0.0 };
        let LineUp { melody, backing, second_voice, pad, bass, drums } =
            LineUp::draw(setting, &mut random("cast"));
        let mut d = random("line");
        let doubling_interval = d.weighted(&[
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
        let mut d = random("chords");
        let drop_share = d.uniform(0.2, 0.6);
        let substitution_share = if d.chance(0.4) { d.uniform(0.05, 0.3) } else { 0.0 };
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
            second_voice,
            pad,
            bass,
            drums,
            doubling_interval,
            octaves,
            ornament,
            rubato,
            legato,
            drop_share,
            substitution_share,
            sevenths,
        }
    }
}
