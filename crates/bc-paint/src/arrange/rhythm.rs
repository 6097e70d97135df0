//! Arranges bass lines and drums.

use crate::performance::{Drum, Hit, InstrumentPart, Role};
use crate::random_stream::RandomStream;

use super::scene::{Played, Scene, Window};
use super::style::{BassStyle, DrumStyle};

/// Arranges the bass part, if the plan has one.
pub(super) fn bass(scene: &Scene<'_>, windows: &[Window]) -> Option<InstrumentPart> {
    let style = scene.plan.bass?;
    let mut random = scene.random("bass");
    let lowest = 28 + random.integer(-2, 5);
    let pitch_of = |class: u8| lowest + (i32::from(class) - lowest).rem_euclid(12);
    let mut notes = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        let Some(chord) = window.chord else { continue };
        let root = pitch_of(chord.root);
        let loudness = 0.7 + random.normal(0.05);
        let mut put = |at: f32, duration: f32, pitch: i32| {
            if at < window.length - 1e-3 {
                let start = window.start + at;
                notes.push(Played { start, end: start + 0.95 * duration, pitch, loudness });
            }
        };
        let beats = window.length.round().max(1.0) as usize;
        match style {
            BassStyle::Long => put(0.0, window.length, root),
            BassStyle::Fifth => {
                put(0.0, 1.0, root);
                (1..beats).for_each(|beat| put(beat as f32, 1.0, root + 7));
            }
            BassStyle::Pulse => (0..2 * beats).for_each(|n| put(n as f32 / 2.0, 0.45, root)),
            BassStyle::Late => {
                put(0.0, 1.4, root);
                put(1.5, 0.5, root);
            }
            BassStyle::Walk => {
                put(0.0, 0.95, root);
                let tones: Vec<i32> = chord.intervals().map(i32::from).collect();
                for beat in 1..beats {
                    let next = windows.get(index + 1).and_then(|next| next.chord);
                    let pitch = match next {
                        Some(next) if beat + 1 == beats => pitch_of(next.root) + random.pick(&[-1, 1, 2]),
                        _ => root + tones[beat % tones.len()],
                    };
                    put(beat as f32, 0.95, pitch);
                }
            }
        }
    }
    let gain = 10f32.powf(random.uniform(-6.0, 1.0) / 20.0);
    Some(InstrumentPart { role: Role::Bass, tones: scene.tones(&notes, 0, &mut random), gain })
}

/// Returns the drum hits; empty if the plan has no drums.
pub(super) fn drums(scene: &Scene<'_>, windows: &[Window]) -> Vec<Hit> {
    let Some(style) = scene.plan.drums else { return Vec::new() };
    let mut random = scene.random("drums");
    let mut hits = Vec::new();
    let bar = scene.setting.metre.bar.round().max(1.0) as usize;
    let mut beat = 0;
    for window in windows {
        if window.head {
            if beat > 0 && style != DrumStyle::Shaker {
                hits.push((window.start, Drum::Cymbal, 0.65));
            }
            beat = 0;
        }
        for n in 0..window.length.round() as usize {
            let at = window.start + n as f32;
            beat_of(style, beat % bar, bar, &mut random, |offset, drum, loudness| {
                hits.push((at + offset, drum, loudness));
            });
            beat += 1;
        }
    }
    hits.into_iter()
        .map(|(at, drum, loudness)| Hit {
            at: scene.clock.seconds(at) + random.normal(0.4 * scene.plan.jitter_s),
            drum,
            loudness: (loudness * (1.0 + random.normal(0.08))).clamp(0.1, 1.0),
        })
        .collect()
}

/// Calls `hit(offset in beats, drum, loudness)` for the drum hits of one beat of a bar.
fn beat_of(
    style: DrumStyle,
    beat: usize,
    bar: usize,
    random: &mut RandomStream,
    mut hit: impl FnMut(f32, Drum, f32),
) {
    let downbeat = beat == 0;
    let backbeat = beat % 2 == 1 && bar != 3;
    match style {
        DrumStyle::Rock => {
            hit(0.0, Drum::Hat, 0.55);
            hit(0.5, Drum::Hat, 0.4);
            if downbeat || (beat == 2 && bar != 3) {
                hit(0.0, Drum::Kick, 0.8);
            } else {
                hit(0.0, Drum::Snare, 0.72);
            }
            if beat == 2 && random.chance(0.4) {
                hit(0.5, Drum::Kick, 0.68);
            }
        }
        DrumStyle::Ballad => {
            hit(0.0, Drum::Hat, 0.45);
            if downbeat {
                hit(0.0, Drum::Kick, 0.7);
            } else if beat == 2 {
                hit(0.0, Drum::Snare, 0.6);
            }
        }
        DrumStyle::Four => {
            hit(0.0, Drum::Kick, 0.82);
            hit(0.5, Drum::Hat, 0.5);
            if backbeat {
                hit(0.0, Drum::Snare, 0.66);
            }
        }
        DrumStyle::Bossa => {
            hit(0.0, Drum::Kick, 0.6);
            hit(0.0, Drum::Hat, 0.44);
            hit(0.5, Drum::Hat, 0.38);
            if downbeat {
                hit(0.0, Drum::Snare, 0.5);
            } else if beat == 1 {
                hit(0.5, Drum::Snare, 0.5);
            }
        }
        DrumStyle::Shaker => {
            (0..4).for_each(|n| hit(n as f32 / 4.0, Drum::Hat, if n == 0 { 0.47 } else { 0.36 }));
            if downbeat {
                hit(0.0, Drum::Kick, 0.6);
            }
        }
    }
}
