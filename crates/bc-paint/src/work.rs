//! Works, as notes with metre and harmony.

use crate::harmony::{self, Chord, GivenChord};
pub use crate::notes::{Note, Parts};

/// Tempo and metre of a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metre {
    /// Duration of a beat in seconds.
    pub beat_s: f32,
    /// Number of beats of a bar.
    pub bar: f32,
    /// Whether a beat is divided into three, as in a jig.
    pub compound: bool,
}

/// One notation of a work. Beat 0 is a bar line; every note begins at or after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The notes; each part is sorted by beginning.
    pub parts: Parts,
    /// Tempo and metre.
    pub metre: Metre,
    /// Length in beats: the bar line at or after the end of the last note.
    pub beats: f32,
    /// Beat of the bar line at or before the melody's first note (or the first note of any part if there is no melody).
    pub entry: f32,
    /// Length of a harmonic window in beats.
    pub window: f32,
    /// Chord of every harmonic window; `None` if the setting is a melody alone.
    pub chords: Vec<Option<Chord>>,
    /// How long each pitch class sounds in the melody, for every harmonic window.
    pub melody_chroma: Vec<[f32; 12]>,
}

/// A work of which versions can be painted.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Id of the work, unique in its source.
    pub id: String,
    /// Title of the work; empty if the source has none.
    pub title: String,
    /// The work's notations, at least one.
    pub settings: Vec<Setting>,
}

/// Maximum duration of a beat; longer beats are halved, because music notated at 60 beats a minute is felt at 120.
const SLOWEST_BEAT_S: f32 = 0.8;

impl Setting {
    /// Creates a setting from notes: finds bar lines and harmony. `None` if there are no notes or they have almost no length.
    pub fn new(mut parts: Parts, mut metre: Metre, mut given: Vec<GivenChord>) -> Option<Self> {
        if metre.beat_s > SLOWEST_BEAT_S && !metre.compound {
            for_each_note(&mut parts, |note| (note.start, note.end) = (2.0 * note.start, 2.0 * note.end));
            given.iter_mut().for_each(|chord| (chord.0, chord.1) = (2.0 * chord.0, 2.0 * chord.1));
            metre.beat_s /= 2.0;
            metre.bar = if metre.bar < 4.0 { 2.0 * metre.bar } else { metre.bar };
        }
        let first = notes_of(&parts).map(|note| note.start).reduce(f32::min)?;
        let phase = bar_phase(&parts, metre.bar);
        let shift = phase + ((first - phase) / metre.bar + 1e-4).floor() * metre.bar;
        for_each_note(&mut parts, |note| (note.start, note.end) = (note.start - shift, note.end - shift));
        given.iter_mut().for_each(|chord| (chord.0, chord.1) = (chord.0 - shift, chord.1 - shift));
        for part in [&mut parts.melody, &mut parts.second_voice, &mut parts.backing] {
            part.iter_mut().for_each(|note| note.start = note.start.max(0.0));
            part.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.pitch.cmp(&b.pitch)));
        }
        let last = notes_of(&parts).map(|note| note.end).reduce(f32::max)?;
        let beats = (last / metre.bar - 0.1).ceil().max(1.0) * metre.bar;
        if beats * metre.beat_s < 4.0 {
            return None;
        }
        let lead = parts.melody.first().or(parts.backing.first()).or(parts.second_voice.first())?;
        let entry = (lead.start / metre.bar).floor() * metre.bar;
        let window = if metre.bar >= 4.0 { metre.bar / 2.0 } else { metre.bar };
        let windows = (beats / window).ceil() as usize;
        let melody_chroma = harmony::chroma(&[(&parts.melody, 1.0)], window, windows);
        let chords = harmony::of_setting(&parts, &given, window, windows);
        Some(Self { parts, metre, beats, entry, window, chords, melody_chroma })
    }
}

fn for_each_note(parts: &mut Parts, mut change: impl FnMut(&mut Note)) {
    for part in [&mut parts.melody, &mut parts.second_voice, &mut parts.backing] {
        part.iter_mut().for_each(&mut change);
    }
}

fn notes_of(parts: &Parts) -> impl Iterator<Item = &Note> {
    parts.melody.iter().chain(&parts.second_voice).chain(&parts.backing)
}

/// Estimates where bars begin, as an offset in beats from 0 to `bar`: of the grid of quarter beats on which most notes begin, the
/// position at which long and low notes begin.
fn bar_phase(parts: &Parts, bar: f32) -> f32 {
    let (mut cosine, mut sine) = (0.0f64, 0.0f64);
    for note in notes_of(parts) {
        let angle = f64::from(note.start) * 4.0 * std::f64::consts::TAU;
        cosine += angle.cos();
        sine += angle.sin();
    }
    let grid = (sine.atan2(cosine) / (4.0 * std::f64::consts::TAU)) as f32;
    let steps = (4.0 * bar).round().max(1.0) as usize;
    let mut weights = vec![0.0f32; steps];
    for note in notes_of(parts) {
        let step = (4.0 * (note.start - grid)).round().rem_euclid(steps as f32) as usize % steps;
        let low = if note.pitch < 52 { 2.0 } else { 1.0 };
        weights[step] += low * (note.end - note.start).clamp(0.0, 2.0);
    }
    let score = |at: usize| {
        let beat = |beat: usize| weights[(at + 4 * beat) % steps];
        let middle = if bar >= 4.0 { 0.6 * beat(2) } else { 0.0 };
        let beats: f32 = (1..bar.max(1.0) as usize).map(|n| 0.3 * beat(n)).sum();
        beat(0) + middle + beats
    };
    let best = (0..steps).max_by(|a, b| score(*a).total_cmp(&score(*b)).then(b.cmp(a))).unwrap_or(0);
    grid + best as f32 / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(starts: impl Iterator<Item = f32>) -> Vec<Note> {
        starts.map(|start| Note { start, end: start + 1.0, pitch: 60, loudness: 0.8 }).collect()
    }

    #[test]
    fn bar_lines_are_where_long_low_notes_begin() {
        let melody = line((0..64).map(|n| 0.37 + 0.5 * n as f32));
        let mut backing = line((0..8).map(|n| 1.37 + 4.0 * n as f32));
        backing.iter_mut().for_each(|note| (note.pitch, note.end) = (36, note.start + 4.0));
        let metre = Metre { beat_s: 0.5, bar: 4.0, compound: false };
        let setting =
            Setting::new(Parts { melody, second_voice: Vec::new(), backing }, metre, Vec::new()).unwrap();
        // The first note lies a beat before the bar, so beat 0 is the bar line three beats earlier.
        assert!((setting.parts.backing[0].start - 4.0).abs() < 1e-3, "{:?}", setting.parts.backing[0]);
        assert!((setting.parts.melody[0].start - 3.0).abs() < 1e-3);
        assert_eq!(setting.beats % 4.0, 0.0);
        assert_eq!(setting.entry, 0.0);
    }

    #[test]
    fn slow_beats_are_halved() {
        let parts = Parts { melody: line((0..32).map(|n| n as f32)), ..Parts::default() };
        let metre = Metre { beat_s: 1.0, bar: 4.0, compound: false };
        let setting = Setting::new(parts, metre, Vec::new()).unwrap();
        assert_eq!((setting.metre.beat_s, setting.metre.bar), (0.5, 4.0));
        assert_eq!(setting.parts.melody[1].start - setting.parts.melody[0].start, 2.0);
    }

    #[test]
    fn a_setting_without_notes_is_refused() {
        let metre = Metre { beat_s: 0.5, bar: 4.0, compound: false };
        assert_eq!(Setting::new(Parts::default(), metre, Vec::new()), None);
    }
}
