//! A version of a song: its key, tempo, form, instruments and accompaniment.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::compose::{BEATS, Chord, Song};
use super::event::{Event, Sound, Voice};

/// How chords are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The chord is held.
    Pad,
    /// The chord sounds on every beat.
    Block,
    /// The chord's tones sound one after the other.
    Arpeggio,
    /// The chord sounds between the beats.
    Offbeat,
}

/// An arranged version: its parameters and its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrangement {
    pub events: Vec<Event>,
    /// Length in seconds.
    pub seconds: f64,
    /// Semitones to the song's own key.
    pub transposition: i32,
    /// Tempo of the version over the song's own.
    pub tempo_factor: f64,
    /// Melody and chord instrument, for the performer's name.
    pub instruments: [Voice; 2],
    /// Level as a share of full scale.
    pub level: f32,
    /// Amplitude of the noise relative to `level`.
    pub noise: f32,
    /// Share of reverberation in the sound.
    pub room: f32,
    /// Share of the treble that is removed.
    pub dullness: f32,
}

/// How much versions may differ from their song.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranges {
    /// Maximum transposition in semitones, up or down.
    pub transposition: i32,
    /// Maximum factor of the tempo, faster or slower.
    pub tempo_factor: f64,
}

/// Arranges a song.
// Long: the demo set depends on the order of the random draws, which is easier to see in one function.
pub fn version(song: &Song, ranges: Ranges, rng: &mut ChaCha8Rng) -> Arrangement {
    let transposition = rng.random_range(-ranges.transposition..=ranges.transposition);
    let tempo_factor = ranges.tempo_factor.powf(rng.random_range(-1.0..=1.0));
    let beat_s = 60.0 / (song.tempo * tempo_factor);
    let pick = |rng: &mut ChaCha8Rng| *Voice::ALL.choose(rng).unwrap_or(&Voice::Organ);
    let (lead, comping, bass) = (pick(rng), pick(rng), pick(rng));
    let styles = [Style::Pad, Style::Block, Style::Arpeggio, Style::Offbeat];
    let style = *styles.choose(rng).unwrap_or(&Style::Pad);
    let has_melody = rng.random_bool(0.95);
    let has_bass = rng.random_bool(0.85);
    let drums = rng.random_bool(0.4);
    let octave = *[-12, 0, 0, 0, 12].choose(rng).unwrap_or(&0);
    let swing = if rng.random_bool(0.25) { rng.random_range(0.05..0.16) } else { 0.0 };
    let ornaments = if rng.random_bool(0.4) { rng.random_range(0.1..0.4) } else { 0.0 };
    let loudness = [rng.random_range(0.5..1.0), rng.random_range(0.5..1.0), rng.random_range(0.4..0.9)];

    let frequency = |pitch: i32| 440.0 * 2f64.powf(f64::from(song.tonic + transposition + pitch - 69) / 12.0);
    let mut events = Vec::new();
    let mut from = 0.0;
    for number in form(song, rng) {
        let section = &song.sections[number];
        let mut at = |beat: f64, beats: f64, sound: Sound, loudness: f32| {
            let late = if (beat * 2.0).round() as i64 % 2 == 1 { swing } else { 0.0 };
            events.push(Event {
                start: from + (beat + late) * beat_s,
                length: beats * beat_s,
                sound,
                loudness,
            });
        };
        if has_melody {
            for note in &section.melody {
                let human = rng.random_range(0.8..1.0f32);
                let tone = |pitch: i32| Sound::Tone(lead, frequency(pitch + octave));
                if note.length >= 1.0 && rng.random_bool(ornaments) {
                    // A turn from the note above.
                    at(note.start, 0.25, tone(note.pitch + 2), loudness[0] * human);
                    at(note.start + 0.25, note.length - 0.25, tone(note.pitch), loudness[0] * human);
                } else {
                    at(
                        note.start,
                        note.length * rng.random_range(0.75..1.0),
                        tone(note.pitch),
                        loudness[0] * human,
                    );
                }
            }
        }
        for (half, chord) in section.chords.iter().enumerate() {
            let beat = (half * BEATS / 2) as f64;
            for (start, beats, pitch) in comped(chord, style) {
                at(beat + start, beats, Sound::Tone(comping, frequency(pitch - 12)), loudness[1] * 0.6);
            }
            if has_bass {
                let root = chord.tones.first().copied().unwrap_or(0).rem_euclid(12) - 24;
                at(beat, 1.5, Sound::Tone(bass, frequency(root)), loudness[2]);
            }
        }
        if drums {
            for beat in 0..section.beats() as usize {
                let beat_f = beat as f64;
                at(beat_f, 0.2, if beat % 2 == 0 { Sound::Kick } else { Sound::Snare }, 0.35);
                at(beat_f, 0.1, Sound::Hat, 0.15);
                at(beat_f + 0.5, 0.1, Sound::Hat, 0.1);
            }
        }
        from += section.beats() * beat_s;
    }
    Arrangement {
        events,
        seconds: from + 0.6,
        transposition,
        tempo_factor,
        instruments: [lead, comping],
        level: 10f32.powf(rng.random_range(-14.0..-2.0f32) / 20.0),
        noise: 10f32.powf(rng.random_range(-60.0..-36.0f32) / 20.0),
        room: rng.random_range(0.0..0.3),
        dullness: rng.random_range(0.0..0.5),
    }
}

/// Returns the form with a section cut, repeated or moved.
fn form(song: &Song, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut form = song.form.clone();
    if form.len() > 2 {
        match rng.random_range(0..4) {
            0 => drop(form.remove(rng.random_range(0..form.len()))),
            1 => {
                let position = rng.random_range(0..form.len());
                form.insert(position, form[position]);
            }
            2 => form.rotate_left(1),
            _ => {}
        }
    }
    form
}

/// Returns the tones of a chord over half a bar, each as start and length in beats, and pitch.
fn comped(chord: &Chord, style: Style) -> Vec<(f64, f64, i32)> {
    let tones = &chord.tones;
    let together = |start: f64, length: f64| tones.iter().map(move |tone| (start, length, *tone));
    match style {
        Style::Pad => together(0.0, 2.0).collect(),
        Style::Block => together(0.0, 0.9).chain(together(1.0, 0.9)).collect(),
        Style::Offbeat => together(0.5, 0.4).chain(together(1.5, 0.4)).collect(),
        Style::Arpeggio => (0..4).map(|n| (n as f64 * 0.5, 0.6, tones[n % tones.len()])).collect(),
    }
}
