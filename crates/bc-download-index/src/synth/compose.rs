//! Composes a song, which all its versions share: chords, a melody of recurring phrases, a form.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Beats of a bar.
pub const BEATS: usize = 4;

/// A note of the melody.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// Start in beats from the start of the section.
    pub start: f64,
    /// Length in beats.
    pub length: f64,
    /// Semitones above the song's tonic.
    pub pitch: i32,
}

/// A chord, held for half a bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Chord {
    /// Semitones above the tonic, root first.
    pub tones: Vec<i32>,
}

/// A part of the form.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Two chords per bar.
    pub chords: Vec<Chord>,
    pub melody: Vec<Note>,
}

impl Section {
    /// Returns the length of the section in beats.
    pub fn beats(&self) -> f64 {
        (self.chords.len() * BEATS / 2) as f64
    }
}

/// A composed song.
#[derive(Debug, Clone, PartialEq)]
pub struct Song {
    pub sections: Vec<Section>,
    /// Indices into `sections`, in the order in which they are played.
    pub form: Vec<usize>,
    /// Tempo in beats per minute.
    pub tempo: f64,
    /// MIDI number of the tonic, in the octave of the middle C.
    pub tonic: i32,
}

/// Semitones of the chords that a song's palette is drawn from, root first.
const SHAPES: [&[i32]; 8] =
    [&[0, 4, 7], &[0, 4, 7], &[0, 3, 7], &[0, 3, 7], &[0, 5, 7], &[0, 3, 6], &[0, 4, 8], &[0, 4, 7, 10]];

/// Rhythms of a bar of melody: lengths in beats, negative for rests.
const RHYTHMS: [&[f64]; 14] = [
    &[1.0, 1.0, 1.0, 1.0],
    &[2.0, 1.0, 1.0],
    &[1.5, 0.5, 1.0, 1.0],
    &[0.5, 0.5, 1.0, 1.0, 1.0],
    &[1.0, 0.5, 0.5, 2.0],
    &[3.0, 1.0],
    &[0.5, 0.5, 0.5, 0.5, 1.0, 1.0],
    &[1.5, 1.5, 1.0],
    &[-1.0, 1.0, 1.0, 1.0],
    &[-0.5, 0.5, 0.5, 0.5, 2.0],
    &[1.0, 2.0, 1.0],
    &[0.75, 0.75, 0.5, 1.0, 1.0],
    &[2.0, -1.0, 0.5, 0.5],
    &[4.0],
];

/// Composes a song of about `seconds`.
pub fn song(rng: &mut ChaCha8Rng, seconds: f64) -> Song {
    let palette = palette(rng);
    let scale = scale(&palette);
    let tempo = rng.random_range(84.0..138.0);
    let bars = (seconds * tempo / 60.0 / BEATS as f64).max(1.0);
    // Short songs have short sections, so that a form fits in.
    let section_bars = if bars < 8.0 { 2 } else { 4 };
    let kinds = if bars < 4.0 { 1 } else { rng.random_range(2..=3) };
    let sections: Vec<Section> = (0..kinds).map(|_| section(rng, &palette, &scale, section_bars)).collect();
    let count = ((bars / section_bars as f64).round() as usize).max(1);
    let orders: [&[usize]; 5] = [&[0, 0, 1, 0], &[0, 1, 0, 1], &[0, 1, 2, 1], &[0, 0, 1, 1], &[0, 1, 0, 2]];
    let order = orders.choose(rng).copied().unwrap_or(&[0]);
    let form = (0..count).map(|position| order[position % order.len()] % kinds).collect();
    Song { sections, form, tempo, tonic: 60 + rng.random_range(-6..6) }
}

/// Composes a section of `bars` bars.
fn section(rng: &mut ChaCha8Rng, palette: &[Chord], scale: &[i32], bars: usize) -> Section {
    let chords = chords(rng, palette, bars);
    // Two phrases; the second answers the first, or repeats it with another end.
    let half = bars / 2;
    let first = phrase(rng, scale, &chords[..half * 2]);
    let mut melody = first.clone();
    let shift = (half * BEATS) as f64;
    if rng.random_bool(0.5) {
        let mut again: Vec<Note> =
            first.iter().map(|note| Note { start: note.start + shift, ..*note }).collect();
        let other = phrase(rng, scale, &chords[half * 2..]);
        let cut = shift + shift / 2.0;
        again.retain(|note| note.start < cut);
        again.extend(other.iter().map(|n| Note { start: n.start + shift, ..*n }).filter(|n| n.start >= cut));
        melody.extend(again);
    } else {
        let other = phrase(rng, scale, &chords[half * 2..]);
        melody.extend(other.iter().map(|note| Note { start: note.start + shift, ..*note }));
    }
    Section { chords, melody }
}

/// Returns the few chords that a song is made of: the tonic's and some on other roots, in keys near
/// and far, so that songs differ in harmony as well as in melody.
fn palette(rng: &mut ChaCha8Rng) -> Vec<Chord> {
    let mut roots: Vec<i32> = (1..12).collect();
    let mut palette = Vec::new();
    for number in 0..rng.random_range(3..=5) {
        let root = if number == 0 { 0 } else { roots.swap_remove(rng.random_range(0..roots.len())) };
        let shape = if number == 0 {
            SHAPES[2 * rng.random_range(0..2usize)]
        } else {
            SHAPES[rng.random_range(0..SHAPES.len())]
        };
        palette.push(Chord { tones: shape.iter().map(|tone| root + tone).collect() });
    }
    palette
}

/// Returns the pitch classes of the palette's chords, ascending.
fn scale(palette: &[Chord]) -> Vec<i32> {
    let mut classes: Vec<i32> =
        palette.iter().flat_map(|chord| &chord.tones).map(|tone| tone.rem_euclid(12)).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// Returns a walk over the palette; most chords last a bar, some half of one.
fn chords(rng: &mut ChaCha8Rng, palette: &[Chord], bars: usize) -> Vec<Chord> {
    let mut chord_number = rng.random_range(0..palette.len());
    let mut chords = Vec::new();
    for _ in 0..bars {
        for half in 0..2 {
            if half == 0 || rng.random_bool(0.25) {
                chord_number = (chord_number + rng.random_range(1..palette.len())) % palette.len();
            }
            chords.push(palette[chord_number].clone());
        }
    }
    chords
}

/// Returns a melody that moves mostly by steps and rests on chord tones.
fn phrase(rng: &mut ChaCha8Rng, scale: &[i32], chords: &[Chord]) -> Vec<Note> {
    let rhythms: Vec<&[f64]> = (0..2).map(|_| *RHYTHMS.choose(rng).unwrap_or(&RHYTHMS[0])).collect();
    let mut notes = Vec::new();
    let mut degree: i32 = rng.random_range(0..10);
    for bar in 0..chords.len() / 2 {
        let mut beat = 0.0;
        for &length in rhythms[bar % 2] {
            let start = (bar * BEATS) as f64 + beat;
            beat += length.abs();
            if length < 0.0 {
                continue;
            }
            let steps = *[-3, -2, -1, -1, -1, 0, 1, 1, 1, 2, 3, 4].choose(rng).unwrap_or(&1);
            degree = (degree + steps).clamp(-3, 12);
            let mut pitch = pitch_of_degree(scale, degree);
            let chord = &chords[(start / (BEATS as f64 / 2.0)) as usize];
            if start.fract() == 0.0 && rng.random_bool(0.7) {
                pitch = nearest_tone(chord, pitch);
            }
            notes.push(Note { start, length, pitch });
        }
    }
    notes
}

/// Returns the pitch of a degree of the scale; degrees continue into the octaves below and above.
fn pitch_of_degree(scale: &[i32], degree: i32) -> i32 {
    let size = scale.len() as i32;
    scale[degree.rem_euclid(size) as usize] + 12 * degree.div_euclid(size)
}

/// Returns the chord tone nearest to `pitch`.
fn nearest_tone(chord: &Chord, pitch: i32) -> i32 {
    let near = |tone: i32| {
        let up = (tone - pitch).rem_euclid(12);
        if up > 6 { up - 12 } else { up }
    };
    pitch + chord.tones.iter().map(|tone| near(*tone)).min_by_key(|step| step.abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn song_has_its_length_and_notes_are_within_their_sections() {
        for seed in 0..50 {
            let song = song(&mut ChaCha8Rng::seed_from_u64(seed), 30.0);
            let beats: f64 = song.form.iter().map(|number| song.sections[*number].beats()).sum();
            let seconds = beats * 60.0 / song.tempo;
            assert!((20.0..40.0).contains(&seconds), "{seconds} s");
            for section in &song.sections {
                assert!(!section.melody.is_empty());
                assert!(
                    section.melody.iter().all(|n| n.start >= 0.0 && n.start + n.length <= section.beats())
                );
            }
        }
    }
}
