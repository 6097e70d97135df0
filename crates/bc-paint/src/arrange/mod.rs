//! Arranges a version as a band would play it.
//!
//! **In**: a setting of a work, the random streams of one version, the ranges of `[paint]`.
//! **Out**: [`Performance`]: instrument parts with notes in seconds, each with a role by which its sound is chosen.
//! The choices for a whole version are made in [`plan`], the order of bars in [`form`], and the notes in the other modules.

mod backing;
mod form;
mod melody;
mod plan;
mod rhythm;
mod scene;
mod style;

use crate::harmony;
use crate::performance::{InstrumentPart, Performance};
use crate::random_stream::RandomStream;
use crate::version_seed::{VariationRange, VersionSeed};
use crate::work::{Setting, Work};

pub use form::Span;
pub use plan::{Backing, Plan};
use scene::{Clock, Scene};

/// A version with fewer notes is arranged again with all parts of the source.
const MIN_TONES: usize = 24;

/// Arranges one version of `seconds` length.
pub fn perform(work: &Work, range: &VariationRange, version: VersionSeed, seconds: f32) -> Performance {
    let position = [version.epoch, version.version];
    let random = |purpose: &str| RandomStream::new(version.seed, purpose, &work.id, &position);
    let setting = &work.settings[random("setting").integer(0, work.settings.len() as i32 - 1) as usize];
    let plan = Plan::draw(setting, range, &random);
    let beats = (seconds * plan.rate / setting.metre.beat_s * 1.15).ceil() + 1.0;
    let mut shared = RandomStream::new(version.seed, "begin", &work.id, &[version.epoch]);
    let mut spans = form::spans(setting, range, &plan, beats, &mut shared, &mut random("form"));
    let played = play(setting, &plan, &spans, beats, &random);
    let audible = |part: &InstrumentPart| {
        part.tones.iter().filter(|tone| tone.start < seconds && tone.end > 0.0).count()
    };
    if played.parts.iter().map(audible).sum::<usize>() >= MIN_TONES {
        return played;
    }
    spans.iter_mut().for_each(|span| span.melody = true);
    play(setting, &plan.full(setting), &spans, beats, &random)
}

fn play(
    setting: &Setting,
    plan: &Plan,
    spans: &[Span],
    beats: f32,
    random: &dyn Fn(&str) -> RandomStream,
) -> Performance {
    let clock = Clock::new(plan, setting.metre.beat_s, beats as usize, &mut random("drift"));
    let scene = Scene { setting, plan, spans, clock, random };
    let mut parts = melody::parts(&scene);
    let known = setting.chords.iter().filter(|chord| chord.is_some()).count() * 2 > setting.chords.len();
    let chords = if known {
        setting.chords.clone()
    } else {
        harmony::harmonise(&setting.melody_chroma, &mut scene.random("harmony"))
    };
    let windows = backing::coloured(&scene, scene.windows(&chords));
    parts.extend(backing::parts(&scene, &windows));
    parts.extend(rhythm::bass(&scene, &windows));
    parts.retain(|part| !part.tones.is_empty());
    let hits = rhythm::drums(&scene, &windows);
    Performance { parts, hits, tuning: plan.tuning }
}
