//! Reads notes from MIDI files with POP909's tracks: MELODY, BRIDGE, PIANO (Wang et al., ISMIR 2020).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use midly::{MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};

use super::archive::File;
use crate::work::{Metre, Note, Parts, Setting, Work};

/// Minimum number of notes of a work; files with fewer are skipped as fragments.
const MIN_NOTES: usize = 24;
/// Maximum length in beats, ten hours at 120 beats a minute; longer files are regarded as damaged.
const MAX_BEATS: f64 = 72_000.0;

/// Reads one work from each file; files without POP909's tracks or with fewer than [`MIN_NOTES`] notes are skipped.
pub(super) fn works(files: Vec<File>) -> Result<Vec<Work>> {
    let mut works = BTreeMap::new();
    for file in files {
        let setting = setting(&file.content).with_context(|| file.name_in_errors.clone())?;
        let Some(setting) = setting else { continue };
        let work = Work { id: file.name.clone(), title: file.name.clone(), settings: vec![setting] };
        if works.insert(file.name.clone(), work).is_some() {
            bail!("{}: a second song of that name; rename one folder and its file", file.name_in_errors);
        }
    }
    Ok(works.into_values().collect())
}

/// Reads the notes of a MIDI file; `None` if it has none of POP909's tracks or fewer than [`MIN_NOTES`] notes.
///
/// # Errors
/// The content is not a MIDI file, is damaged, or counts time in SMPTE frames.
pub fn setting(content: &[u8]) -> Result<Option<Setting>> {
    let midi = Smf::parse(content).context("is not a complete MIDI file")?;
    let Timing::Metrical(ticks) = midi.header.timing else {
        bail!("counts time in film frames (SMPTE), not in beats: export it with beats");
    };
    let ticks = f64::from(ticks.as_int());
    ensure!(ticks > 0.0, "has no ticks in a beat");
    let mut parts = Parts::default();
    let mut tempi = Vec::new();
    let mut last = 0;
    for track in &midi.tracks {
        let TrackNotes { name, notes, tempi: track_tempi, end } = read_track(track, ticks);
        tempi.extend(track_tempi);
        last = end.max(last);
        let name = name.to_uppercase();
        let part =
            [("MEL", &mut parts.melody), ("BRIDGE", &mut parts.second_voice), ("PIAN", &mut parts.backing)]
                .into_iter()
                .find(|(word, _)| name.contains(word));
        if let Some((_, part)) = part
            && part.is_empty()
        {
            *part = notes;
        }
    }
    if parts.melody.len() + parts.second_voice.len() + parts.backing.len() < MIN_NOTES {
        return Ok(None);
    }
    ensure!(
        last as f64 <= MAX_BEATS * ticks,
        "lasts more than {MAX_BEATS} beats, which is too long for a song"
    );
    let beat_s = mean_beat(tempi, last).clamp(0.2, 3.0) as f32;
    Ok(Setting::new(parts, Metre { beat_s, bar: 4.0, compound: false }, Vec::new()))
}

/// The content of a track.
struct TrackNotes {
    name: String,
    notes: Vec<Note>,
    /// Tempo changes: tick, and seconds per beat from there on.
    tempi: Vec<(u64, f64)>,
    /// The last tick.
    end: u64,
}

fn read_track(track: &[midly::TrackEvent<'_>], ticks: f64) -> TrackNotes {
    let mut read = TrackNotes { name: String::new(), notes: Vec::new(), tempi: Vec::new(), end: 0 };
    let mut sounding: BTreeMap<u8, (u64, u8)> = BTreeMap::new();
    for event in track {
        read.end += u64::from(event.delta.as_int());
        let now = read.end;
        match event.kind {
            TrackEventKind::Meta(MetaMessage::TrackName(name)) => {
                read.name = String::from_utf8_lossy(name).into_owned();
            }
            TrackEventKind::Meta(MetaMessage::Tempo(tempo)) => {
                read.tempi.push((now, f64::from(tempo.as_int()) / 1e6));
            }
            TrackEventKind::Midi { message, .. } => {
                let (key, velocity) = match message {
                    MidiMessage::NoteOn { key, vel } => (key.as_int(), vel.as_int()),
                    MidiMessage::NoteOff { key, .. } => (key.as_int(), 0),
                    _ => continue,
                };
                if let Some((start, loud)) = sounding.remove(&key) {
                    read.notes.push(Note {
                        start: (start as f64 / ticks) as f32,
                        end: (now as f64 / ticks) as f32,
                        pitch: key,
                        loudness: f32::from(loud) / 127.0,
                    });
                }
                if velocity > 0 {
                    sounding.insert(key, (now, velocity));
                }
            }
            _ => {}
        }
    }
    read
}

/// Computes the average duration of a beat in seconds. Before the first tempo change there are 120 beats a minute, MIDI's default.
fn mean_beat(mut tempi: Vec<(u64, f64)>, last: u64) -> f64 {
    tempi.sort_by_key(|tempo| tempo.0);
    tempi.retain(|tempo| tempo.0 < last || tempo.0 == 0);
    let (mut sum, mut from, mut beat) = (0.0, 0, 0.5);
    for (tick, new) in tempi {
        sum += (tick - from) as f64 * beat;
        (from, beat) = (tick, new);
    }
    sum += last.saturating_sub(from) as f64 * beat;
    if last == 0 { beat } else { sum / last as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A MIDI file with one track of `count` notes, a beat each.
    fn file(name: &str, count: u8) -> Vec<u8> {
        let mut track = vec![0, 0xFF, 3, name.len() as u8];
        track.extend(name.as_bytes());
        track.extend([0, 0xFF, 0x51, 3, 0x06, 0x1A, 0x80]); // 0.4 s a beat
        for n in 0..count {
            track.extend([0, 0x90, 60 + n % 12, 100, 0x60, 0x80, 60 + n % 12, 0]);
        }
        track.extend([0, 0xFF, 0x2F, 0]);
        let mut content = b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk".to_vec();
        content.extend((track.len() as u32).to_be_bytes());
        content.extend(track);
        content
    }

    #[test]
    fn notes_are_in_beats_and_the_tempo_is_read() {
        let setting = super::setting(&file("MELODY", 40)).unwrap().unwrap();
        assert_eq!(setting.parts.melody.len(), 40);
        assert!((setting.metre.beat_s - 0.4).abs() < 1e-6);
        assert_eq!(setting.parts.melody[3].start - setting.parts.melody[2].start, 1.0);
        assert_eq!(setting.parts.melody[3].pitch, 63);
    }

    #[test]
    fn files_without_notes_give_no_setting_and_other_formats_are_errors() {
        assert_eq!(setting(&file("DRUMS", 40)).unwrap(), None);
        assert_eq!(setting(&file("MELODY", 5)).unwrap(), None);
        let error = setting(b"RIFF....").unwrap_err().to_string();
        assert!(error.contains("not a complete MIDI file"), "{error}");
    }

    #[test]
    fn tempi_are_averaged_over_the_beats() {
        assert_eq!(mean_beat(vec![], 100), 0.5);
        assert!((mean_beat(vec![(0, 0.4), (50, 0.8)], 100) - 0.6).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn damaged_midi_files_never_panic(
            changes in proptest::collection::vec((0usize..500, any::<u8>()), 1..12), cut in 0usize..600,
        ) {
            let mut content = file("PIANO", 50);
            for (index, value) in changes {
                let length = content.len();
                content[index % length] = value;
            }
            content.truncate(cut.max(1));
            if let Ok(Some(setting)) = super::setting(&content) {
                prop_assert!(setting.parts.backing.iter().all(|note| note.start.is_finite() && note.pitch < 128));
            }
        }
    }
}
