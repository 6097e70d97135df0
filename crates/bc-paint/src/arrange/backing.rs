//! Arranges accompaniments: the source's own notes, some of its notes, or new figures over its chords; and sustained chords.

use crate::harmony::Chord;
use crate::performance::{InstrumentPart, Role};
use crate::random_stream::RandomStream;

use super::plan::Backing;
use super::scene::{Played, Scene, Window};

/// Replaces chords as the plan says: a random share by substitutes, and the others by seventh chords if the plan has sevenths.
pub(super) fn coloured(scene: &Scene<'_>, windows: Vec<Window>) -> Vec<Window> {
    let mut random = scene.random("colour");
    let mut colour = |chord: Chord| {
        if random.chance(scene.plan.substitution_share) {
            chord.substitute()
        } else if scene.plan.sevenths {
            chord.with_seventh()
        } else {
            chord
        }
    };
    windows.into_iter().map(|window| Window { chord: window.chord.map(&mut colour), ..window }).collect()
}

/// Arranges the backing, the second voices of the source, and the sustained chords, as far as the plan has them.
pub(super) fn parts(scene: &Scene<'_>, windows: &[Window]) -> Vec<InstrumentPart> {
    let plan = scene.plan;
    let mut parts = Vec::new();
    let mut random = scene.random("backing");
    let octave = plan.octaves[1];
    let notes = match plan.backing {
        Backing::None => Vec::new(),
        Backing::Source => scene.played(&scene.setting.parts.backing, |_| true),
        Backing::Thinned => {
            let mut notes = scene.played(&scene.setting.parts.backing, |_| true);
            notes.retain(|note| {
                let on_beat = (note.start - note.start.round()).abs() < 0.1;
                !random.chance(if on_beat && note.pitch < 55 {
                    0.25 * plan.drop_share
                } else {
                    plan.drop_share
                })
            });
            notes
        }
        Backing::Chords => figures(scene, windows, &mut random),
    };
    if !notes.is_empty() {
        let gain = 10f32.powf(random.uniform(-4.0, 2.0) / 20.0);
        parts.push(InstrumentPart {
            role: Role::Backing,
            tones: scene.tones(&notes, octave, &mut random),
            gain,
        });
    }
    if plan.second_voice {
        let notes = scene.played(&scene.setting.parts.second_voice, |_| true);
        let gain = 10f32.powf(random.uniform(-9.0, -1.0) / 20.0);
        parts.push(InstrumentPart { role: Role::Backing, tones: scene.tones(&notes, 0, &mut random), gain });
    }
    if plan.pad {
        let mut random = scene.random("pad");
        let centre = 60 + random.integer(-4, 8);
        let mut notes = Vec::new();
        for window in windows {
            let Some(chord) = window.chord else { continue };
            let end = window.start + window.length;
            let hold = |pitch| Played { start: window.start, end, pitch, loudness: 0.5 };
            notes.extend(voicing(chord, centre, 3).into_iter().map(hold));
        }
        let gain = 10f32.powf(random.uniform(-12.0, -3.0) / 20.0);
        parts.push(InstrumentPart { role: Role::Pad, tones: scene.tones(&notes, 0, &mut random), gain });
    }
    parts
}

/// Returns the `size` chord tones nearest to the pitch `centre`, low to high.
fn voicing(chord: Chord, centre: i32, size: usize) -> Vec<i32> {
    let mut pitches: Vec<i32> =
        (centre - 14..=centre + 14).filter(|pitch| chord.holds(pitch.rem_euclid(12) as u8)).collect();
    pitches.sort_by_key(|pitch| ((pitch - centre).abs(), *pitch));
    pitches.truncate(size);
    pitches.sort_unstable();
    pitches
}

/// An accompaniment figure: how the tones of a chord are distributed over its harmonic window.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// The whole chord at each of these beats of the window, for this many beats.
    Blocks(&'static [f32], f32),
    /// The whole chord repeatedly: period, offset and length in beats.
    Pulse(f32, f32, f32),
    /// The lowest tone and the other tones in turn.
    Oompah,
    /// One tone after the other: period in beats, and whether tones ring until the end of the window.
    Arpeggio(f32, bool),
    /// Alberti bass: low, high, middle, high.
    Alberti,
    /// The whole chord once, sustained.
    Hold,
}

const FIGURES: [(Figure, f32); 11] = [
    (Figure::Hold, 0.14),
    (Figure::Pulse(1.0, 0.0, 0.9), 0.1),
    (Figure::Pulse(0.5, 0.0, 0.45), 0.08),
    (Figure::Pulse(1.0, 0.5, 0.4), 0.07),
    (Figure::Oompah, 0.09),
    (Figure::Blocks(&[0.0, 1.0, 1.5], 0.9), 0.14),
    (Figure::Blocks(&[0.0, 1.5], 0.6), 0.08),
    (Figure::Blocks(&[0.0, 0.5, 1.5], 0.5), 0.07),
    (Figure::Arpeggio(0.5, true), 0.13),
    (Figure::Arpeggio(0.25, false), 0.05),
    (Figure::Alberti, 0.05),
];

fn figures(scene: &Scene<'_>, windows: &[Window], random: &mut RandomStream) -> Vec<Played> {
    let centre = 60 + random.integer(-8, 8);
    let size = random.pick(&[3, 4, 4, 5]);
    let first = random.weighted(&FIGURES);
    let second = if random.chance(0.5) { random.weighted(&FIGURES) } else { first };
    let spread = if random.chance(0.3) { random.uniform(0.01, 0.08) } else { 0.0 };
    let third = scene.setting.metre.compound;
    let mut notes = Vec::new();
    let mut section = 0;
    for window in windows {
        section += usize::from(window.head);
        let Some(chord) = window.chord else { continue };
        let figure = if section % 2 == 1 { first } else { second };
        let loudness = 0.6 + random.normal(0.05);
        let from = notes.len();
        play(figure, window.length, &voicing(chord, centre, size), third, &mut notes);
        for note in &mut notes[from..] {
            note.start += window.start;
            note.end = (note.end + window.start).min(window.start + window.length + 0.05);
            note.loudness *= loudness;
        }
        if spread > 0.0 {
            notes[from..]
                .iter_mut()
                .enumerate()
                .for_each(|(k, note)| note.start += spread * (k % size) as f32);
        }
        let mut index = from;
        while index < notes.len() {
            if random.chance(0.03) {
                notes.remove(index);
            }
            index += 1;
        }
    }
    notes
}

/// Adds the notes of one chord in one figure to `notes`, beginning at beat 0.
fn play(figure: Figure, length: f32, pitches: &[i32], third: bool, notes: &mut Vec<Played>) {
    let Some((&low, upper)) = pitches.split_first() else { return };
    let mut put = |start: f32, duration: f32, pitch: i32, loudness: f32| {
        if start < length - 1e-3 {
            notes.push(Played { start, end: start + duration, pitch, loudness });
        }
    };
    // Notes on half a beat are on two thirds of a compound one.
    let swung = |at: f32| if third && at.fract() > 0.01 { at.floor() + 2.0 / 3.0 } else { at };
    match figure {
        Figure::Hold => pitches.iter().for_each(|&pitch| put(0.0, length, pitch, 1.0)),
        Figure::Blocks(beats, duration) => {
            for &beat in beats {
                pitches
                    .iter()
                    .for_each(|&p| put(swung(beat), duration, p, if beat == 0.0 { 1.1 } else { 0.95 }));
            }
            if length > 2.5 {
                pitches.iter().for_each(|&p| put(2.0, duration, p, 0.95));
            }
        }
        Figure::Pulse(step, offset, duration) => {
            for n in 0..(length / step).round() as usize {
                let at = swung(n as f32 * step + offset);
                pitches.iter().for_each(|&p| put(at, duration, p, if n == 0 { 1.1 } else { 0.92 }));
            }
        }
        Figure::Oompah => {
            put(0.0, 0.9, low - 12, 1.1);
            put(0.0, 0.9, low, 1.0);
            for n in 1..length.round() as usize {
                upper.iter().for_each(|&p| put(n as f32, 0.6, p, 0.9));
            }
        }
        Figure::Arpeggio(step, rings) => {
            let step = if third { 1.0 / 3.0 } else { step };
            let round: Vec<i32> = pitches.iter().chain(pitches[1..].iter().rev().skip(1)).copied().collect();
            for n in 0..(length / step).round() as usize {
                let at = n as f32 * step;
                let duration = if rings { length - at } else { 1.2 * step };
                put(at, duration, round[n % round.len()], if n == 0 { 1.1 } else { 0.92 });
            }
        }
        Figure::Alberti => {
            let step = if third { 1.0 / 3.0 } else { 0.5 };
            let high = upper.last().copied().unwrap_or(low);
            let middle = upper.first().copied().unwrap_or(low);
            let round = if third { [low, middle, high, low] } else { [low, high, middle, high] };
            let count = if third { 3 } else { 4 };
            for n in 0..(length / step).round() as usize {
                put(n as f32 * step, 1.1 * step, round[n % count], if n == 0 { 1.1 } else { 0.92 });
            }
        }
    }
}
