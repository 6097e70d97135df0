//! Reads tunes from JSON lines: one object for each setting of a work.
//!
//! `{"work": "...", "setting": "...", "title": "...", "meter": "6/8" or null, "tempo_hint": quarter notes a minute
//! or null, "notes": [[onset, duration, midi pitch, voice], ...], "chords": [[onset, duration, "Dm"], ...]}`; onsets
//! and durations in quarter notes, voice 0 is the melody. Other keys are not read.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::harmony::Chord;
use crate::work::{Metre, Note, Parts, Setting, Work};

/// Minimum number of melody notes of a setting; settings with fewer are skipped.
const MIN_NOTES: usize = 16;
/// Maximum onset in quarter notes, ten hours at 120 a minute; later ones are regarded as mistakes.
const MAX_QUARTERS: f32 = 72_000.0;
/// Default tempo of a setting, in quarter notes a minute.
const DEFAULT_TEMPO: f32 = 110.0;

#[derive(Deserialize)]
struct Line {
    work: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    meter: Option<String>,
    #[serde(default)]
    tempo_hint: Option<f32>,
    notes: Vec<(f32, f32, u8, u32)>,
    #[serde(default)]
    chords: Vec<(f32, f32, String)>,
}

/// Reads the works of a file; settings of one work are merged.
pub(super) fn works(path: &Path, content: impl Read) -> Result<Vec<Work>> {
    let mut works: BTreeMap<String, Work> = BTreeMap::new();
    for (number, line) in BufReader::new(content).lines().enumerate() {
        let file_and_line = || format!("{}:{}", path.display(), number + 1);
        let line = line.with_context(file_and_line)?;
        if line.trim().is_empty() {
            continue;
        }
        let Some((id, title, setting)) = parse(&line).with_context(file_and_line)? else { continue };
        let new = || Work { id: id.clone(), title, settings: Vec::new() };
        works.entry(id.clone()).or_insert_with(new).settings.push(setting);
    }
    Ok(works.into_values().collect())
}

/// Parses one line; returns the work's id and title, and the setting; `None` if it has fewer than [`MIN_NOTES`] melody notes.
///
/// # Errors
/// The line is not JSON of that form, or a number is out of range.
pub fn parse(line: &str) -> Result<Option<(String, String, Setting)>> {
    let line: Line = serde_json::from_str(line).context("is not a tune")?;
    ensure!(!line.work.is_empty(), "is not a tune: `work` is empty");
    let in_range = |value: f32| (0.0..=MAX_QUARTERS).contains(&value);
    for (onset, duration, pitch, _) in &line.notes {
        ensure!(
            in_range(*onset) && in_range(*duration) && *pitch < 128,
            "is not a tune: the note [{onset}, {duration}, {pitch}, ...] is out of range (onset and duration from 0 to {MAX_QUARTERS} quarter notes, pitch below 128)"
        );
    }
    for (onset, duration, symbol) in &line.chords {
        ensure!(
            in_range(*onset) && in_range(*duration),
            "is not a tune: the chord [{onset}, {duration}, {symbol}] is out of range"
        );
    }
    let (quarters, compound) = meter(line.meter.as_deref());
    // A beat of a jig is three eighths.
    let beat = if compound { 1.5 } else { 1.0 };
    let tempo = line.tempo_hint.filter(|tempo| tempo.is_finite()).unwrap_or(DEFAULT_TEMPO).clamp(60.0, 170.0);
    let mut parts = Parts::default();
    for (onset, duration, pitch, voice) in line.notes {
        let (part, loudness) =
            if voice == 0 { (&mut parts.melody, 0.63) } else { (&mut parts.backing, 0.55) };
        let start = onset / beat;
        part.push(Note { start, end: start + duration.max(0.1) / beat, pitch, loudness });
    }
    if parts.melody.len() < MIN_NOTES {
        return Ok(None);
    }
    let chords = line
        .chords
        .iter()
        .filter_map(|(onset, duration, symbol)| {
            Some((onset / beat, (onset + duration) / beat, Chord::parse(symbol)?))
        })
        .collect();
    let metre = Metre { beat_s: beat * 60.0 / tempo, bar: quarters / beat, compound };
    let setting = Setting::new(parts, metre, chords);
    Ok(setting.map(|setting| (line.work, line.title.unwrap_or_default(), setting)))
}

/// Parses a metre; returns the number of quarter notes of a bar, and whether beats have three parts. Text that is not a metre
/// counts as 4/4.
fn meter(text: Option<&str>) -> (f32, bool) {
    let parsed = text.and_then(|text| {
        let (count, unit) = text.split_once('/')?;
        Some((count.trim().parse::<u32>().ok()?, unit.trim().parse::<u32>().ok()?))
    });
    match parsed {
        Some((count @ 1..=24, unit @ (1 | 2 | 4 | 8 | 16))) => {
            let quarters = 4.0 * count as f32 / unit as f32;
            let compound = unit == 8 && count % 3 == 0 && count > 3;
            // Bars shorter than a beat are useless for an accompaniment.
            (if quarters < 1.5 { 2.0 * quarters.max(1.0) } else { quarters }, compound)
        }
        _ => (4.0, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(notes: usize, meter: &str) -> String {
        let notes: Vec<String> =
            (0..notes).map(|n| format!("[{},0.5,{},0]", n as f32 / 2.0, 60 + n % 8)).collect();
        format!(
            r#"{{"work":"a:1","setting":"x","title":"A","meter":{meter},"tempo_hint":null,"notes":[{}],"chords":[[0,2,"Dm"]]}}"#,
            notes.join(",")
        )
    }

    #[test]
    fn beats_of_a_jig_are_dotted_quarters() {
        let (id, title, setting) = parse(&line(48, "\"6/8\"")).unwrap().unwrap();
        assert_eq!((id.as_str(), title.as_str()), ("a:1", "A"));
        assert_eq!((setting.metre.bar, setting.metre.compound), (2.0, true));
        assert!((setting.metre.beat_s - 90.0 / 110.0).abs() < 1e-6);
        let step = setting.parts.melody[1].start - setting.parts.melody[0].start;
        assert!((step - 1.0 / 3.0).abs() < 1e-5);
    }

    #[test]
    fn settings_of_one_work_are_merged_and_errors_name_the_line() {
        let text = format!("{}\n\n{}\n", line(40, "\"4/4\""), line(30, "null"));
        let works = works(Path::new("x.jsonl"), text.as_bytes()).unwrap();
        assert_eq!((works.len(), works[0].settings.len()), (1, 2));
        for wrong in
            ["{", "[]", r#"{"work":"a","notes":[[0,1,300,0]]}"#, r#"{"work":"a","notes":[[-1,1,60,0]]}"#]
        {
            let text = format!("{}\n{wrong}\n", line(40, "\"4/4\""));
            let error = format!("{:#}", super::works(Path::new("x.jsonl"), text.as_bytes()).unwrap_err());
            assert!(error.starts_with("x.jsonl:2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn damaged_lines_never_panic(
            changes in proptest::collection::vec((0usize..2000, any::<u8>()), 1..8),
        ) {
            let mut content = line(60, "\"3/4\"").into_bytes();
            for (index, value) in changes {
                let length = content.len();
                content[index % length] = value;
            }
            if let Ok(text) = String::from_utf8(content) {
                let _ = parse(&text);
            }
        }

        #[test]
        fn any_metre_and_notes_in_range_are_accepted(
            notes in proptest::collection::vec((0.0f32..500.0, 0.0f32..20.0, 0u8..128, 0u32..3), 0..80),
            meter in "[0-9]{1,3}/[0-9]{1,2}", tempo in proptest::option::of(-10.0f32..1e6),
        ) {
            let line = serde_json::json!({"work": "w", "meter": meter, "tempo_hint": tempo, "notes": notes});
            if let Some((_, _, setting)) = parse(&line.to_string()).unwrap() {
                prop_assert!(setting.beats.is_finite() && setting.beats > 0.0);
                prop_assert_eq!(setting.chords.len(), setting.melody_chroma.len());
            }
        }
    }
}
