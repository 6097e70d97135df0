//! Chooses which beats of the source are played, and in which order.

use crate::random_stream::RandomStream;
use crate::version_seed::VariationRange;
use crate::work::Setting;

use super::plan::{Backing, Plan};

/// Consecutive beats of the source that are played without interruption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// First beat of the source.
    pub from: f32,
    /// The beat of the source after the last one.
    pub to: f32,
    /// The beat of the version on which the span begins.
    pub at: f32,
    /// Whether the melody is played in this span.
    pub melody: bool,
}

/// Number of bars of a section.
const SECTION_BARS: f32 = 8.0;

/// Chooses the spans of a version of `beats` beats. `shared` is a random stream that all versions of the work in an epoch have in
/// common, so that they begin near a common point (`range` says how near); `own` is the random stream of this version.
pub(super) fn spans(
    setting: &Setting,
    range: &VariationRange,
    plan: &Plan,
    beats: f32,
    shared: &mut RandomStream,
    own: &mut RandomStream,
) -> Vec<Span> {
    let bar = setting.metre.bar;
    let mut begin = beginning(setting, range, beats / plan.rate * setting.metre.beat_s, shared, own);
    // At most a fifth of a version is introduction.
    let (enters, alone) = if plan.melody {
        (setting.entry, plan.backing == Backing::None)
    } else {
        (setting.parts.backing.first().map_or(0.0, |note| note.start), true)
    };
    let introduction = if alone { 0.0 } else { (0.2 * beats / bar).floor() * bar };
    if begin < enters {
        begin = begin.max(((enters - introduction) / bar).floor() * bar);
    }
    let order = order(setting, begin, introduction, range.edits, own);
    let without_melody = if own.chance(0.15 * range.edits) { own.integer(1, 3) as usize } else { usize::MAX };
    let mut spans = Vec::new();
    let mut at = 0.0;
    if own.chance(0.25 * range.edits) {
        // An introduction: the chords of the first bars without the tune.
        let to = (begin + bar * own.integer(1, 4) as f32).min(order[0].1);
        spans.push(Span { from: begin, to, at, melody: false });
        at += to - begin;
    }
    for (number, (from, to)) in order.into_iter().cycle().enumerate() {
        if at >= beats {
            break;
        }
        if to - from > 1e-3 {
            spans.push(Span { from, to, at, melody: number != without_melody });
            at += to - from;
        }
    }
    spans
}

/// Chooses the beat of the source on which a version of `length_s` seconds, at the source's tempo, begins.
fn beginning(
    setting: &Setting,
    range: &VariationRange,
    length_s: f32,
    shared: &mut RandomStream,
    own: &mut RandomStream,
) -> f32 {
    let (bar, beat_s) = (setting.metre.bar, setting.metre.beat_s);
    let latest_s = (setting.beats * beat_s - length_s).clamp(0.0, range.begin_s);
    let base = shared.uniform(0.0, latest_s.max(1e-3)) + own.uniform(-range.spread_s, range.spread_s);
    let mut begin = (base / beat_s).rem_euclid(setting.beats);
    if base < 0.0 && setting.beats * beat_s > length_s {
        begin = 0.0;
    }
    if own.chance(0.7) { (begin / bar).floor() * bar } else { begin }
}

/// Returns the parts of the source (first beat and end) in the order in which they are played, from beat `begin` on and edited.
fn order(
    setting: &Setting,
    begin: f32,
    introduction: f32,
    edits: f32,
    random: &mut RandomStream,
) -> Vec<(f32, f32)> {
    let mut sections = sections(setting);
    if setting.entry > introduction && begin >= setting.entry && sections.len() > 1 {
        sections.remove(0);
    }
    let first = sections.iter().rposition(|section| section.0 <= begin + 1e-3).unwrap_or(0);
    let mut order = vec![(begin, sections[first].1)];
    let count = sections.len();
    // All sections twice are enough to edit; what is missing is repeated from the beginning.
    order.extend((1..=2 * count).map(|step| sections[(first + step) % count]));
    if count > 1 {
        edit(&mut order, edits, random);
    }
    order
}

/// Divides the source into sections of eight bars, from the bar on which the melody begins.
fn sections(setting: &Setting) -> Vec<(f32, f32)> {
    let length = SECTION_BARS * setting.metre.bar;
    let mut sections = Vec::new();
    if setting.entry > 0.0 {
        sections.push((0.0, setting.entry));
    }
    let mut at = setting.entry;
    while at < setting.beats - 1e-3 {
        // A remainder of less than half a section belongs to the last one.
        let to = if setting.beats - at < 1.5 * length { setting.beats } else { at + length };
        sections.push((at, to));
        at = to;
    }
    sections
}

/// Leaves out, repeats or moves random sections; `strength` is a factor on the probabilities.
fn edit(order: &mut Vec<(f32, f32)>, strength: f32, random: &mut RandomStream) {
    let draw_section =
        |random: &mut RandomStream, count: usize| random.integer(1, 4.min(count as i32 - 1)) as usize;
    if random.chance(0.35 * strength) && order.len() > 2 {
        let removed = draw_section(random, order.len());
        order.remove(removed);
    }
    if random.chance(0.25 * strength) {
        let repeated = random.integer(0, 2.min(order.len() as i32 - 1)) as usize;
        order.insert(repeated, order[repeated]);
    }
    if random.chance(0.12 * strength) && order.len() > 2 {
        let moved = draw_section(random, order.len());
        order.insert(0, order[moved]);
    }
    if random.chance(0.1 * strength) && order.len() > 2 {
        let swapped = draw_section(random, order.len());
        order.swap(0, swapped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{Metre, Note, Parts};

    /// 400 s of melody over chords; the tune enters with the third bar.
    fn setting() -> Setting {
        let note = |start: f32, pitch| Note { start, end: start + 1.0, pitch, loudness: 0.8 };
        let melody = (8..800).map(|n| note(n as f32, 60 + (n * 7 % 12) as u8)).collect();
        let backing = (0..200).map(|n| note(4.0 * n as f32, 40)).collect();
        let metre = Metre { beat_s: 0.5, bar: 4.0, compound: false };
        Setting::new(Parts { melody, second_voice: Vec::new(), backing }, metre, Vec::new()).unwrap()
    }

    fn drawn(spread_s: f32, edits: f32, version: u64) -> Vec<Span> {
        let range = VariationRange { transpose: [0, 0], tempo: [1.0, 1.0], begin_s: 100.0, spread_s, edits };
        let setting = setting();
        let random = |purpose: &str| RandomStream::new(5, purpose, "w", &[version]);
        let plan = Plan::draw(&setting, &range, &random).full(&setting);
        spans(
            &setting,
            &range,
            &plan,
            120.0,
            &mut RandomStream::new(5, "begin", "w", &[0]),
            &mut random("form"),
        )
    }

    #[test]
    fn spread_determines_how_far_versions_begin_from_each_other() {
        let begins = |spread_s| -> (f32, f32) {
            let all = (0..200).map(|version| drawn(spread_s, 0.0, version)[0].from);
            all.fold((f32::MAX, 0.0), |(low, high), begin| (low.min(begin), high.max(begin)))
        };
        let (low, high) = begins(0.0);
        // Some begin on the bar line before the common point.
        assert!(high - low <= 4.0, "{low} {high}");
        let (low, high) = begins(6.0);
        assert!((20.0..=28.0).contains(&(high - low)), "{low} {high}");
        let (low, high) = begins(1000.0);
        assert!(low < 20.0 && high > 780.0, "{low} {high}");
    }

    #[test]
    fn spans_are_consecutive_and_within_the_source() {
        let mut edited = 0;
        for version in 0..200 {
            let spans = drawn(50.0, 1.0, version);
            let mut at = 0.0;
            for span in &spans {
                assert!((span.at - at).abs() < 1e-3 && span.from < span.to, "{spans:?}");
                assert!(span.from >= 0.0 && span.to <= setting().beats + 1e-3);
                at += span.to - span.from;
            }
            assert!(at >= 120.0);
            edited +=
                usize::from(spans.windows(2).any(|pair| pair[0].to != pair[1].from && pair[1].from > 8.0));
        }
        assert!((60..180).contains(&edited), "{edited} of 200");
        for version in 0..50 {
            let spans = drawn(5.0, 0.0, version);
            assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from), "{spans:?}");
        }
    }
}
