//! Chords, derived from notes or invented for a melody.

use crate::notes::{Note, Parts};
use crate::random_stream::RandomStream;

/// A kind of chord: its name, its intervals above the root with their weights in the matching score, and a bonus that is added to
/// the score.
type Kind = (&'static str, &'static [(u8, f32)], f32);

/// Kinds of chords that are recognised. Rare kinds have a negative bonus, so they need more evidence.
const KINDS: [Kind; 7] = [
    ("", &[(0, 1.2), (4, 1.0), (7, 0.9)], 0.03),
    ("m", &[(0, 1.2), (3, 1.0), (7, 0.9)], 0.03),
    ("7", &[(0, 1.2), (4, 1.0), (7, 0.8), (10, 0.6)], -0.02),
    ("m7", &[(0, 1.2), (3, 1.0), (7, 0.8), (10, 0.6)], -0.02),
    ("maj7", &[(0, 1.2), (4, 1.0), (7, 0.8), (11, 0.6)], -0.02),
    ("sus4", &[(0, 1.1), (5, 0.9), (7, 0.8)], -0.04),
    ("dim", &[(0, 1.1), (3, 0.9), (6, 0.9)], -0.05),
];

/// A chord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chord {
    /// Pitch class of the root: 0 is C.
    pub root: u8,
    /// Index of the chord's kind in `KINDS`.
    kind: u8,
}

/// A chord that a source gives: beginning and end in beats, and the chord.
pub type GivenChord = (f32, f32, Chord);

impl Chord {
    /// Returns all chords that are recognised.
    fn all() -> impl Iterator<Item = Self> {
        (0..12).flat_map(|root| (0..KINDS.len() as u8).map(move |kind| Self { root, kind }))
    }

    /// Returns the major and minor triads.
    fn triads() -> impl Iterator<Item = Self> {
        Self::all().filter(|chord| chord.kind < 2)
    }

    /// Returns the intervals of the chord's tones above the root, in semitones.
    pub fn intervals(self) -> impl Iterator<Item = u8> {
        KINDS[self.kind as usize].1.iter().map(|(interval, _)| *interval)
    }

    /// Returns whether the pitch class belongs to the chord.
    pub fn holds(self, class: u8) -> bool {
        self.intervals().any(|interval| (self.root + interval) % 12 == class % 12)
    }

    /// Returns a substitute for this chord: the relative of a triad, the tritone substitute of a dominant seventh chord, or another
    /// chord that shares most tones with it.
    pub fn substitute(self) -> Self {
        let (up, kind) = match self.kind {
            0 => (9, 1),
            1 => (3, 0),
            2 => (6, 2),
            3 => (3, 4),
            4 => (4, 1),
            5 => (0, 0),
            _ => (8, 2),
        };
        Self { root: (self.root + up) % 12, kind }
    }

    /// Returns the chord with a seventh.
    pub fn with_seventh(self) -> Self {
        let kind = match self.kind {
            0 => 4,
            1 => 3,
            5 => 2,
            kind => kind,
        };
        Self { kind, ..self }
    }

    /// Parses a symbol such as `C`, `F#m`, `Bbmaj7`, `Dm/F`. An unknown kind is read as the triad it begins with; `None` if the
    /// symbol does not begin with a root.
    pub fn parse(symbol: &str) -> Option<Self> {
        let mut letters = symbol.chars();
        let natural: i32 = match letters.next()? {
            'C' => 0,
            'D' => 2,
            'E' => 4,
            'F' => 5,
            'G' => 7,
            'A' => 9,
            'B' => 11,
            _ => return None,
        };
        let suffix = letters.as_str();
        let signs = suffix.chars().take_while(|sign| matches!(sign, '#' | 'b' | '-' | '♯' | '♭')).count();
        let shift: i32 =
            suffix.chars().take(signs).map(|sign| if matches!(sign, '#' | '♯') { 1 } else { -1 }).sum();
        let kind: String = suffix.chars().skip(signs).take_while(|letter| *letter != '/').collect();
        let kind = match kind.as_str() {
            "maj7" | "M7" | "maj9" | "6" => 4,
            "m7" | "min7" | "m9" | "m6" => 3,
            kind if kind.starts_with("dim") || kind.starts_with('o') || kind.starts_with("m7b5") => 6,
            kind if kind.starts_with("sus") || kind.starts_with("7sus") => 5,
            kind if kind.starts_with("maj") => 0,
            kind if kind.starts_with('m') => 1,
            kind if kind.starts_with(['7', '9', '1']) => 2,
            _ => 0,
        };
        Some(Self { root: (natural + shift).rem_euclid(12) as u8, kind })
    }
}

/// Computes how long each pitch class sounds in every window, weighted by the part's factor and the note's loudness.
pub fn chroma(parts: &[(&[Note], f32)], window: f32, windows: usize) -> Vec<[f32; 12]> {
    let mut chroma = vec![[0.0; 12]; windows];
    for (notes, weight) in parts {
        for note in *notes {
            let first = (note.start / window) as usize;
            let last = (note.end / window).ceil() as usize;
            for (number, classes) in chroma.iter_mut().enumerate().take(last).skip(first) {
                let begin = note.start.max(number as f32 * window);
                let end = note.end.min((number + 1) as f32 * window);
                classes[note.pitch as usize % 12] += weight * note.loudness * (end - begin).max(0.0);
            }
        }
    }
    chroma
}

/// Returns the chord of every window: the given one if the source gives chords, else one derived from the notes. All are `None`
/// if the setting is a melody alone.
pub fn of_setting(parts: &Parts, given: &[GivenChord], window: f32, windows: usize) -> Vec<Option<Chord>> {
    if !given.is_empty() {
        return (0..windows)
            .map(|index| {
                let middle = (index as f32 + 0.5) * window;
                given.iter().rev().find(|(start, ..)| *start <= middle).map(|(.., chord)| *chord)
            })
            .collect();
    }
    if parts.backing.len() + parts.second_voice.len() < windows / 4 + 1 {
        return vec![None; windows];
    }
    let weighted: [(&[Note], f32); 3] =
        [(&parts.backing, 1.0), (&parts.second_voice, 0.5), (&parts.melody, 0.35)];
    let sounding = chroma(&weighted, window, windows);
    let low: Vec<Note> = parts.backing.iter().filter(|note| note.pitch < 52).copied().collect();
    let bass = chroma(&[(&low, 1.0)], window, windows);
    let mut previous = None;
    sounding
        .iter()
        .zip(&bass)
        .map(|(sounding, bass)| {
            previous = best(sounding, bass, previous).or(previous);
            previous
        })
        .collect()
}

/// Returns the chord that fits the sounding notes best; `None` if no notes sound.
fn best(sounding: &[f32; 12], bass: &[f32; 12], previous: Option<Chord>) -> Option<Chord> {
    let norm = sounding.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm < 0.05 {
        return None;
    }
    let low: f32 = bass.iter().sum::<f32>().max(1e-6);
    let fit = |chord: Chord| {
        let (_, tones, bonus) = KINDS[chord.kind as usize];
        let length = tones.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
        let matched: f32 = tones
            .iter()
            .map(|(interval, weight)| weight * sounding[(chord.root + interval) as usize % 12])
            .sum();
        let stays = if previous == Some(chord) { 0.03 } else { 0.0 };
        matched / length / norm + bonus + 0.18 * bass[chord.root as usize] / low + stays
    };
    Chord::all().max_by(|a, b| fit(*a).total_cmp(&fit(*b)))
}

/// Invents chords for a melody: triads that contain the sounding notes, mostly of the melody's key, with some randomness.
pub fn harmonise(melody: &[[f32; 12]], random: &mut RandomStream) -> Vec<Option<Chord>> {
    let mut key = [1e-6f32; 12];
    for window in melody {
        key.iter_mut().zip(window).for_each(|(sum, value)| *sum += value);
    }
    let total: f32 = key.iter().sum();
    let (bold, steady) = (random.uniform(0.2, 0.8), random.uniform(0.0, 0.8));
    let mut previous = None;
    melody
        .iter()
        .map(|sounding| {
            let here = sounding.iter().sum::<f32>().max(1e-6);
            let mut score = |chord: Chord| {
                let classes = chord.intervals().map(|interval| ((chord.root + interval) % 12) as usize);
                let (now, always) = classes.fold((0.0, 0.0), |(now, always), class| {
                    (now + sounding[class] / here, always + key[class] / total)
                });
                let stays = if previous == Some(chord) { steady } else { 0.0 };
                3.0 * now + 2.0 * always + sounding[chord.root as usize] / here + stays + random.normal(bold)
            };
            let scored: Vec<(f32, Chord)> = Chord::triads().map(|chord| (score(chord), chord)).collect();
            previous = scored.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, chord)| chord);
            previous
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chord_symbols_are_parsed() {
        let read = |symbol| Chord::parse(symbol).map(|c| (c.root, KINDS[c.kind as usize].0));
        assert_eq!(read("C"), Some((0, "")));
        assert_eq!(read("F#m"), Some((6, "m")));
        assert_eq!(read("Bbmaj7"), Some((10, "maj7")));
        assert_eq!(read("Dm/F"), Some((2, "m")));
        assert_eq!(read("G7"), Some((7, "7")));
        assert_eq!(read("B-dim"), Some((10, "dim")));
        assert_eq!(read("N.C."), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn chords_are_derived_from_notes() {
        let note = |start: f32, pitch| Note { start, end: start + 2.0, pitch, loudness: 0.8 };
        let backing = vec![
            note(0.0, 48),
            note(0.0, 64),
            note(0.0, 67),
            note(2.0, 45),
            note(2.0, 60),
            note(2.0, 64),
            note(4.0, 43),
            note(4.0, 59),
            note(4.0, 62),
            note(4.0, 65),
        ];
        let parts = Parts { backing, ..Parts::default() };
        let found = of_setting(&parts, &[], 2.0, 4);
        let names = ["C", "Am", "G7", "G7"].map(Chord::parse);
        assert_eq!(found, names);
    }

    #[test]
    fn tune_in_c_gets_chords_of_c() {
        let scale = [60, 64, 67, 65, 69, 72, 67, 71, 74, 60, 64, 67];
        let melody: Vec<Note> = scale
            .iter()
            .enumerate()
            .map(|(n, pitch)| Note { start: n as f32, end: n as f32 + 1.0, pitch: *pitch, loudness: 0.8 })
            .collect();
        let windows = chroma(&[(&melody, 1.0)], 3.0, 4);
        let mut fitting = 0;
        for seed in 0..50 {
            let chords = harmonise(&windows, &mut RandomStream::new(seed, "test", "", &[]));
            let expected = ["C", "F", "G", "C"].map(Chord::parse);
            fitting += chords.iter().zip(&expected).filter(|(a, b)| a == b).count();
        }
        assert!(fitting > 140, "{fitting} of 200");
    }
}
