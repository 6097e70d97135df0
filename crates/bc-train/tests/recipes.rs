//! The presets against the table of recipes (`design/recipes.md` of the shared folder), row
//! by row: the expected text of a cell is made from the resolved configuration and looked for in the cell.
//!
//! The table is not part of the project; without it this test is skipped.

use std::collections::BTreeMap;
use std::path::Path;

use bc_formats::config::{
    Batches, Bottleneck, Classes, Classified, Config, Distance, Figure, Layer, Mining, Optimizer, Schedule,
    ShortTracks, StretchScope, load,
};
use bc_formats::run::Scale;

/// Rows of the table by name: the paper's cell, Orfium's, CLEWS'.
struct Recipes(BTreeMap<String, [String; 3]>);

const PAPER: usize = 0;
const ORFIUM: usize = 1;
const CLEWS: usize = 2;

impl Recipes {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string(bc_testing::shared("design/recipes.md")?).unwrap();
        let rows = text.lines().filter(|line| line.starts_with('|')).skip(2).map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let &[name, paper, orfium, clews] = cells.as_slice() else { panic!("four cells: {line}") };
            // "same" means the content of the cell to the left.
            let after = |cell: &str, left: &str| {
                if cell.starts_with("same") { format!("{left}; {cell}") } else { cell.to_owned() }
            };
            let orfium = after(orfium, paper);
            (name.to_owned(), [paper.to_owned(), orfium.clone(), after(clews, &orfium)])
        });
        Some(Self(rows.collect()))
    }

    /// Takes a row out of the table and looks for phrases in one of its cells.
    fn expect(&mut self, row: &str, column: usize, phrases: &[String]) {
        let cells =
            self.0.remove(row).unwrap_or_else(|| panic!("the table has no row `{row}`, or had it twice"));
        for phrase in phrases {
            assert!(
                cells[column].contains(phrase.as_str()),
                "{row}: `{phrase}` is not in `{}`",
                cells[column]
            );
        }
        println!("{row}: {}", phrases.join(" / "));
    }
}

fn preset(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name);
    load(Some(&path), &[]).unwrap_or_else(|error| panic!("{error:#}"))
}

/// 22050 as 22,050.
fn thousands(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

fn share(range: [f64; 2]) -> String {
    assert_eq!(range[0], range[1]);
    format!("{} %", 100.0 * range[0])
}

fn sum_of_losses(c: &Config) {
    assert_eq!((c.train.classification_weight, c.train.triplet_weight), (1.0, 1.0));
}

/// What both presets share with the paper.
fn transform_and_network(table: &mut Recipes, c: &Config, column: usize) {
    let (cqt, model) = (c.features.cqt(), &c.model);
    table.expect("audio", column, &[format!("{} Hz mono", thousands(cqt.sample_rate.into()))]);
    let bins = format!("{} bins from C1 ({:.3} Hz)", cqt.bins, cqt.fmin_hz);
    let hop = format!("{} per octave, Hann, hop {}", cqt.bins_per_octave, cqt.hop_length);
    table.expect("CQT", column, &[bins, hop]);
    table.expect("stem", column, &[format!("7x7 stride 2, {}", model.width)]);
    table.expect("IBN", column, &["stages 1-3".into()]);
    assert_eq!(model.projection, 0);
    table.expect("pooling", column, &["p".into()]);
    table.expect("BNNeck", column, &["f_t before".into()]);
    assert_eq!(c.eval.layer, Layer::Fc);
    sum_of_losses(c);
}

#[test]
fn orfium_preset_matches_its_column_of_the_table() {
    let Some(mut table) = Recipes::read() else { return };
    let c = preset("orfium.toml");
    let (t, a) = (&c.train, &c.augment);
    transform_and_network(&mut table, &c, ORFIUM);
    table.expect("mean over time", ORFIUM, &[format!("{} frames, floor", c.model.pool)]);
    assert_eq!(c.model.scale, Scale::None);
    table.expect("feature scale", ORFIUM, &["none".into()]);

    let lengths: Vec<String> = t.lengths_s.iter().map(f64::to_string).collect();
    assert_eq!((lengths.len(), t.short_tracks), (3, ShortTracks::Zeros));
    let crops = format!("crops of {} s", lengths.join(", "));
    table.expect("crop", ORFIUM, &["three passes".into(), crops, "zeros behind a shorter track".into()]);
    table.expect("whole-track length at test", ORFIUM, &["whole track, one at a time".into()]);

    assert_eq!((t.batches, t.mining, t.separate_forwards), (Batches::RandomTriplets, Mining::Random, true));
    table.expect("batch", ORFIUM, &[format!("{} triplets: anchor + one random", t.triplets_per_batch)]);
    table.expect("triplets", ORFIUM, &["random, as drawn".into()]);
    table.expect("triplet loss", ORFIUM, &[format!("Euclidean on f_t, margin {}, mean", t.margin)]);
    assert_eq!(t.classified, Classified::Anchors);
    let smoothing = format!("label smoothing {}", t.label_smoothing);
    table.expect("classification loss", ORFIUM, &["on the anchors' logits".into(), smoothing]);
    let Classes::Count(classes) = t.classes else { panic!("classes are a number") };
    table.expect("classes", ORFIUM, &[thousands(classes.into())]);

    assert_eq!((t.optimizer, t.schedule, t.warmup_steps), (Optimizer::Adam, Schedule::Constant, 0));
    table.expect("optimiser", ORFIUM, &[format!("Adam {:e}, constant", t.learning_rate)]);
    // Mixed precision has no counterpart on the CPU.
    table.expect("precision", ORFIUM, &["fp16 autocast on GPU".into()]);
    assert_eq!((t.validate_every_passes, t.figure), (1, Figure::Loss));
    let stops = format!("stops after {} passes without a lower validation triplet loss", t.early_stopping);
    let passes = "validation after every pass".into();
    table.expect("epochs", ORFIUM, &[format!("{} (README)", t.epochs), passes, stops]);

    assert_eq!((a.stretch_probability, a.stretch_scope), (1.0, StretchScope::Batch));
    let rate = format!("uniform in {}-{}", a.stretch[0], a.stretch[1]);
    let dead = format!("none if within {} of 1", a.stretch_dead_zone);
    table.expect("augmentation", ORFIUM, &["one rate a batch".into(), rate, dead]);
    let others = [a.transpose_probability, a.tilt_probability, a.noise_probability, a.gain_probability];
    assert_eq!((others, a.specaugment_probability), ([0.0; 4], 0.0));

    let blocks = c.model.blocks.map(|b| b.to_string()).join("-");
    assert_eq!((blocks.as_str(), c.model.variant), ("3-4-6-3", Bottleneck::Orfium));
    table.expect("blocks", ORFIUM, &["have a bias".into(), "a ReLU after the third norm".into()]);
    assert_eq!((t.distance, c.eval.policy.as_str()), (Distance::Euclidean, "orfium"));
    table.expect("embedding, distance", ORFIUM, &["f_c, Euclidean, not normalised".into()]);
    let map = format!("{} x {} x T/16", 32 * c.model.width, c.features.cqt().bins.div_ceil(16));
    table.expect("feature map", ORFIUM, &[map]);
    assert!(table.0.is_empty(), "rows that no key was compared with: {:?}", table.0.keys());
}

#[test]
fn bytecover_preset_matches_the_paper_or_clews_where_the_paper_says_nothing() {
    let Some(mut table) = Recipes::read() else { return };
    let c = preset("bytecover.toml");
    let (t, a) = (&c.train, &c.augment);
    transform_and_network(&mut table, &c, PAPER);
    // Not the paper's 100 nor CLEWS' 5 (the file says why), but the public re-implementation's.
    table.expect("mean over time", ORFIUM, &[format!("{} frames", c.model.pool)]);
    assert_eq!(c.model.scale, Scale::Max);
    table.expect("feature scale", CLEWS, &["divided by its maximum".into()]);

    assert_eq!((t.lengths_s.len(), t.short_tracks), (1, ShortTracks::Repeat));
    let length = format!("{} s, random place", t.lengths_s[0]);
    table.expect("crop", CLEWS, &[length, "a shorter track repeated".into()]);
    // Whole tracks, as the public re-implementation; windows are an option of the search.
    table.expect("whole-track length at test", ORFIUM, &["whole track".into()]);

    assert_eq!((t.batches, t.mining, t.separate_forwards), (Batches::Pk, Mining::BatchHard, false));
    let batch = format!("{} cliques x {} versions", t.cliques_per_batch, t.versions_per_clique);
    table.expect("batch", CLEWS, &[batch]);
    table.expect("triplets", CLEWS, &["hardest positive, hardest negative inside the batch".into()]);
    table.expect("triplet loss", CLEWS, &[format!("Euclidean on f_t, margin {}, mean", t.margin)]);
    assert_eq!(t.classified, Classified::All);
    let smoothing = format!("smoothing {}", t.label_smoothing);
    table.expect("classification loss", CLEWS, &["on every item".into(), smoothing]);
    // CLEWS' slots beyond the number of cliques learn nothing but to be unlikely.
    assert_eq!(t.classes, Classes::Auto);
    table.expect("classes", CLEWS, &["slots".into()]);

    assert_eq!((t.optimizer, t.schedule, t.warmup_steps), (Optimizer::Adam, Schedule::Plateau, 0));
    assert_eq!((t.figure, t.validate_every_passes), (Figure::Map, 1));
    let plateau = format!(
        "x{} when validation mAP has not risen for {} epochs; floor {:e}",
        t.factor, t.plateau_patience, t.floor
    );
    table.expect("optimiser", CLEWS, &[format!("Adam {:e}", t.learning_rate), plateau]);
    table.expect("precision", CLEWS, &["fp32".into()]);
    assert_eq!(t.early_stopping, 0);
    table.expect("epochs", CLEWS, &[format!("up to {}; best by validation mAP", thousands(t.epochs))]);

    let mask = format!(
        "SpecAugment p {} (one band of {} of the bins, one of {} of the frames)",
        a.specaugment_probability,
        share(a.specaugment_bins),
        share(a.specaugment_frames)
    );
    let stretch = format!("stretch {:.1}-{:.1} p {}", a.stretch[0], a.stretch[1], a.stretch_probability);
    let [down, up] = a.transpose_bins;
    let transposition = format!("transposition by {down}..{up} bins p {}", a.transpose_probability);
    table.expect("augmentation", CLEWS, &[mask, stretch, transposition]);
    assert_eq!((a.stretch_dead_zone, a.stretch_scope), (0.0, StretchScope::Crop));
    assert_eq!([a.tilt_probability, a.noise_probability, a.gain_probability], [0.0; 3]);

    assert_eq!(c.model.variant, Bottleneck::Plain);
    let blocks = format!("ResNet-50 bottlenecks {}", c.model.blocks.map(|b| b.to_string()).join("-"));
    table.expect("blocks", PAPER, &[blocks]);
    assert_eq!((t.distance, c.eval.policy.as_str()), (Distance::Cosine, "default"));
    table.expect("embedding, distance", CLEWS, &["f_c, cosine".into()]);
    let map = format!("{} x {} x T/", 32 * c.model.width, c.features.cqt().bins.div_ceil(16));
    table.expect("feature map", PAPER, &[map]);
    assert!(table.0.is_empty(), "rows that no key was compared with: {:?}", table.0.keys());
}
