//! A version as a band would play it.
//!
//! **In**: a setting of a work, the streams of random numbers of one version, the taste (`[paint]`).
//! **Out**: [`Performance`]: parts of notes in seconds, each with the role that its sound is drawn for.
//! Random choices are in [`plan`], the order of bars in [`form`], and the parts in the other modules.

mod backing;
mod form;
mod melody;
mod plan;
mod rhythm;
mod scene;
mod style;

use crate::dice::Dice;
use crate::draw::{Draw, Taste};
use crate::harmony;
use crate::performance::{Part, Performance};
use crate::work::{Setting, Work};

pub use form::Span;
pub use plan::{Backing, Plan};
use scene::{Clock, Scene};

/// Versions of fewer notes are arranged again with all that the source has.
const FEWEST_TONES: usize = 24;

/// Arranges one version of `seconds` length.
pub fn perform(work: &Work, taste: &Taste, draw: Draw, seconds: f32) -> Performance {
    let position = [draw.epoch, draw.version];
    let dice = |purpose: &str| Dice::new(draw.seed, purpose, &work.id, &position);
    let setting = &work.settings[dice("setting").integer(0, work.settings.len() as i32 - 1) as usize];
    let plan = Plan::draw(setting, taste, &dice);
    let beats = (seconds * plan.rate / setting.metre.beat_s * 1.15).ceil() + 1.0;
    let mut together = Dice::new(draw.seed, "begin", &work.id, &[draw.epoch]);
    let mut spans = form::spans(setting, taste, &plan, beats, &mut together, &mut dice("form"));
    let played = play(setting, &plan, &spans, beats, &dice);
    let heard = |part: &Part| part.tones.iter().filter(|tone| tone.start < seconds && tone.end > 0.0).count();
    if played.parts.iter().map(heard).sum::<usize>() >= FEWEST_TONES {
        return played;
    }
    spans.iter_mut().for_each(|span| span.melody = true);
    play(setting, &plan.full(setting), &spans, beats, &dice)
}

fn play(
    setting: &Setting,
    plan: &Plan,
    spans: &[Span],
    beats: f32,
    dice: &dyn Fn(&str) -> Dice,
) -> Performance {
    let clock = Clock::new(plan, setting.metre.beat_s, beats as usize, &mut dice("drift"));
    let scene = Scene { setting, plan, spans, clock, dice };
    let mut parts = melody::parts(&scene);
    let known = setting.chords.iter().filter(|chord| chord.is_some()).count() * 2 > setting.chords.len();
    let chords = if known {
        setting.chords.clone()
    } else {
        harmony::harmonise(&setting.melody_chroma, &mut scene.dice("harmony"))
    };
    let windows = backing::coloured(&scene, scene.windows(&chords));
    parts.extend(backing::parts(&scene, &windows));
    parts.extend(rhythm::bass(&scene, &windows));
    parts.retain(|part| !part.tones.is_empty());
    let hits = rhythm::drums(&scene, &windows);
    Performance { parts, hits, tuning: plan.tuning }
}
