//! Arranges the melody with its ornaments and doublings.

use crate::performance::{InstrumentPart, Role};
use crate::random_stream::RandomStream;

use super::scene::{Played, Scene};

/// Returns the melody and its doubling, if the plan has them.
pub(super) fn parts(scene: &Scene<'_>) -> Vec<InstrumentPart> {
    let plan = scene.plan;
    let source =
        if plan.melody { scene.played(&scene.setting.parts.melody, |span| span.melody) } else { Vec::new() };
    if source.is_empty() {
        return Vec::new();
    }
    let mut random = scene.random("melody");
    let notes = ornamented(scene, &source, &mut random);
    let tones = scene.tones(&notes, plan.octaves[0], &mut random);
    let mut parts = vec![InstrumentPart { role: Role::Melody, tones, gain: 1.0 }];
    if let Some(interval) = plan.doubling_interval {
        let gain = 10f32.powf(random.uniform(-12.0, -2.0) / 20.0);
        let doubled: Vec<Played> = if interval == 3 { thirds_below(&notes) } else { notes };
        let octave = plan.octaves[0] + if interval == 3 { 0 } else { interval };
        parts.push(InstrumentPart {
            role: Role::Melody,
            tones: scene.tones(&doubled, octave, &mut random),
            gain,
        });
    }
    parts
}

/// Returns for each pitch class whether it makes up at least 3 % of a melody's notes.
fn scale(notes: &[Played]) -> [bool; 12] {
    let mut counts = [0usize; 12];
    for note in notes {
        counts[note.pitch.rem_euclid(12) as usize] += 1;
    }
    counts.map(|count| count as f32 >= 0.03 * notes.len() as f32 && count > 0)
}

/// Returns the melody a third lower, within its scale.
fn thirds_below(notes: &[Played]) -> Vec<Played> {
    let scale = scale(notes);
    notes
        .iter()
        .map(|note| {
            let down = if scale[(note.pitch - 3).rem_euclid(12) as usize] { 3 } else { 4 };
            Played { pitch: note.pitch - down, ..*note }
        })
        .collect()
}

fn ornamented(scene: &Scene<'_>, source: &[Played], random: &mut RandomStream) -> Vec<Played> {
    let plan = scene.plan;
    let scale = scale(source);
    let mut played = Vec::with_capacity(source.len() + source.len() / 4);
    let mut lag = 0.0f32;
    for (index, note) in source.iter().enumerate() {
        let next = source.get(index + 1);
        let gap = next.map_or(2.0, |next| (next.start - note.start).clamp(0.05, 4.0));
        lag = 0.6 * lag + random.normal(plan.rubato);
        let start = (note.start + lag.clamp(-0.2, 0.3)).max(0.0);
        let mut length = (note.end - note.start) * plan.legato;
        if gap < 0.8 && plan.legato > 0.9 {
            length = length.max(gap);
        }
        let plain = Played { start, end: start + length.max(0.1), ..*note };
        if random.chance(plan.ornament) {
            let target = next.map_or(note.pitch, |next| next.pitch);
            ornament(plain, gap, target, &scale, random, &mut played);
        } else {
            played.push(plain);
        }
    }
    played
}

/// Adds one note with a random ornament to `played`: left out, or with a grace note, a passing note, a repetition or a turn.
fn ornament(
    note: Played,
    gap: f32,
    next: i32,
    scale: &[bool; 12],
    random: &mut RandomStream,
    played: &mut Vec<Played>,
) {
    let near = [-2, -1, 1, 2].into_iter().filter(|step| scale[(note.pitch + step).rem_euclid(12) as usize]);
    let near: Vec<i32> = near.collect();
    let step = if near.is_empty() { 2 } else { random.pick(&near) };
    let (start, soft) = (note.start, 0.85 * note.loudness);
    let mut put = |from: f32, to: f32, pitch: i32, loudness: f32| {
        played.push(Played { start: start + from, end: start + to, pitch, loudness });
    };
    let duration = note.end - start;
    match random.integer(0, 4) {
        0 if gap < 0.6 => {}
        1 => {
            put(0.0, 0.1, note.pitch + step, soft);
            put(0.1, duration.max(0.2), note.pitch, note.loudness);
        }
        2 if gap >= 0.5 => {
            put(0.0, gap / 2.0, note.pitch, note.loudness);
            put(gap / 2.0, gap, (note.pitch + next) / 2, soft);
        }
        3 if gap >= 0.5 => {
            put(0.0, 0.45 * gap, note.pitch, note.loudness);
            put(gap / 2.0, gap, note.pitch, soft);
        }
        4 if gap >= 0.9 => {
            put(0.0, 0.5 * gap, note.pitch, note.loudness);
            put(0.5 * gap, 0.75 * gap, note.pitch + step, soft);
            put(0.75 * gap, gap, note.pitch, soft);
        }
        _ => put(0.0, duration, note.pitch, note.loudness),
    }
}
