//! Makes a planned batch: crops, augmentation, pooling, scaling.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bc_formats::config::{AugmentConfig, ShortTracks, StretchScope};
use bc_formats::run::NetworkInput;
use rand::{Rng, RngExt};

use super::crop::{self, Fill, Window};
use super::{DataSet, Patch, TrackView};
use crate::augment;
use crate::randomness::generator;
use crate::sampler::{BatchPlan, RankSplit, Shares};

/// A batch for the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Epoch it belongs to.
    pub epoch: u64,
    /// Its index in the epoch.
    pub index: usize,
    /// Length of its crops in seconds, before the whole batch is stretched.
    pub length_s: f64,
    /// Positions among the training items (see [`DataSet`]), of all ranks.
    pub items: Vec<u32>,
    /// Label of every item.
    pub labels: Vec<u32>,
    /// Which rank computes which items.
    pub shares: Shares,
    /// Rows of an item.
    pub bins: usize,
    /// Columns of an item.
    pub frames: usize,
    /// Items x bins x frames, row-major, of the items that this rank computes.
    pub values: Vec<f32>,
}

/// Turns plans into batches; shared by all worker threads.
pub struct Assembler {
    data: Arc<DataSet>,
    augment: AugmentConfig,
    input: NetworkInput,
    /// Stored columns that are averaged into one column of the network's input.
    group: usize,
    /// What fills a crop that is longer than its track.
    short: Fill,
    seed: u64,
    split: RankSplit,
}

/// The part of a recording that a crop takes, and by how much its tempo changes.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Stored columns read per stored column of the crop: above 1 the music gets faster.
    rate: f64,
    /// Length of the crop in stored columns, before pooling.
    columns: usize,
}

impl Assembler {
    /// Creates an assembler of this rank's share of each batch, which `split` determines.
    ///
    /// # Errors
    /// The input's pool does not fit the features', or a crop is shorter than one column.
    pub fn new(
        data: Arc<DataSet>,
        augment: AugmentConfig,
        input: NetworkInput,
        short: ShortTracks,
        seed: u64,
        lengths_s: &[f64],
        split: RankSplit,
    ) -> Result<Self> {
        let group = input.group()?;
        let short = match short {
            ShortTracks::Zeros => Fill::Zeros,
            ShortTracks::Repeat => Fill::Repeat,
        };
        let assembler = Self { data, augment, input, group, short, seed, split };
        for &length_s in lengths_s {
            ensure!(
                assembler.columns(length_s) >= group,
                "[train] lengths_s: a crop of {length_s} s is shorter than one column of the network's input \
                 ([model] pool = {}): use longer crops or a smaller pool",
                assembler.input.pool
            );
        }
        Ok(assembler)
    }

    /// Returns the length of a crop in stored columns, before it is stretched.
    fn columns(&self, length_s: f64) -> usize {
        (length_s / self.input.cqt.column_seconds()).round() as usize
    }

    /// Columns the network sees of a crop that is not stretched.
    pub fn frames(&self, length_s: f64) -> usize {
        self.columns(length_s) / self.group
    }

    /// Returns the maximum number of columns that the network sees of a crop, including batches that are stretched
    /// as a whole.
    pub fn max_frames(&self, length_s: f64) -> usize {
        let settings = &self.augment;
        let stretched = settings.stretch_scope == StretchScope::Batch && settings.stretch_probability > 0.0;
        let slowest = if stretched { settings.stretch[0].min(1.0) } else { 1.0 };
        (self.columns(length_s) as f64 / slowest).ceil() as usize / self.group
    }

    /// Makes one batch; a function of the seed, the plan and the position alone.
    pub fn assemble(&self, epoch: u64, index: usize, plan: &BatchPlan) -> Batch {
        let stored = self.columns(plan.length_s);
        let mut rng = generator(self.seed, "batch", &[epoch, index as u64]);
        let batch_rate = self.rate(StretchScope::Batch, &mut rng);
        let columns = ((stored as f64 / batch_rate).ceil() as usize).max(self.group);
        let (bins, frames) = (self.input.rows(), columns / self.group);
        let shares = self.split.shares(plan.items.len());
        let mut values = Vec::with_capacity(shares.own().len() * bins * frames);
        for slot in shares.own().iter().map(|&slot| slot as usize) {
            let item = plan.items[slot];
            let mut rng = generator(self.seed, "item", &[epoch, index as u64, slot as u64]);
            let rate = batch_rate * self.rate(StretchScope::Crop, &mut rng);
            let number = (index * plan.items.len() + slot) as u64;
            let patch = self.item_crop(item, epoch, number, Stretch { rate, columns }, &mut rng);
            let patch = self.augmented(patch, &mut rng);
            values.extend_from_slice(&patch.data);
        }
        let labels = plan.items.iter().map(|&i| self.data.labels[i as usize]).collect();
        Batch {
            epoch,
            index,
            length_s: plan.length_s,
            items: plan.items.clone(),
            labels,
            shares,
            bins,
            frames,
            values,
        }
    }

    /// Returns a crop of an item, pooled to the network's columns: a random part of a stored track, or a version that is
    /// painted for item `number` of `epoch`.
    fn item_crop(&self, item: u32, epoch: u64, number: u64, stretch: Stretch, rng: &mut impl Rng) -> Patch {
        let item = item as usize;
        match &self.data.painted {
            Some(painted) if item >= self.data.training_tracks => {
                // A version is painted at the network's pooling, with only as many columns as are read.
                let Stretch { rate, columns } = stretch;
                let frames = columns / self.group;
                let needed = (frames as f64 * rate).ceil() as usize + 1;
                let values = painted.paint(item - self.data.training_tracks, epoch, number, needed);
                let track = TrackView { bins: self.data.store.bins(), frames: needed, values: &values };
                crop::read(track, Window { start: 0, rate, columns: frames, short: self.short }, 1)
            }
            _ => self.track_crop(item, stretch, rng),
        }
    }

    /// Returns a crop of a stored track that begins at a random column.
    fn track_crop(&self, item: usize, stretch: Stretch, rng: &mut impl Rng) -> Patch {
        let Stretch { rate, columns } = stretch;
        let track = self.data.store.view(item);
        let needed = (columns as f64 * rate).ceil() as usize;
        let start = if needed < track.frames {
            rng.random_range(0..=track.frames - needed)
        } else if self.short == Fill::Repeat {
            rng.random_range(0..track.frames)
        } else {
            0
        };
        crop::read(track, Window { start, rate, columns, short: self.short }, self.group)
    }

    /// Augments a crop and scales it as the network takes it.
    fn augmented(&self, mut patch: Patch, rng: &mut impl Rng) -> Patch {
        let settings = &self.augment;
        if rng.random_bool(settings.transpose_probability) {
            let [lowest, highest] = settings.transpose_bins;
            augment::transpose(&mut patch, rng.random_range(lowest..=highest));
        }
        if rng.random_bool(settings.tilt_probability) {
            let db = between(settings.tilt_db_per_octave, rng);
            augment::tilt(&mut patch, db, self.input.cqt.bins_per_octave);
        }
        // Augmentations that are off draw no numbers, so that a run from before they existed draws the same ones.
        if settings.octaves_probability > 0.0 && rng.random_bool(settings.octaves_probability) {
            augment::octaves(&mut patch, settings.octaves_db, self.input.cqt.bins_per_octave, rng);
        }
        if settings.power_probability > 0.0 && rng.random_bool(settings.power_probability) {
            augment::power(&mut patch, between(settings.power, rng));
        }
        if rng.random_bool(settings.noise_probability) {
            let db = between(settings.noise_db, rng);
            augment::noise(&mut patch, db, rng);
        }
        // If zero magnitude stays zero after scaling, the masks come last, as in the recipes. Otherwise they come before
        // scaling, so that they look like a pause or a missing band in a recording.
        let masks_last = self.input.scale.keeps_zero();
        if !masks_last {
            self.mask(&mut patch, rng);
        }
        patch.data = self.input.scaled(patch.data, patch.frames);
        patch.bins = self.input.rows();
        if rng.random_bool(settings.gain_probability) {
            let db = between(settings.gain_db, rng);
            augment::gain(&mut patch, db);
        }
        if masks_last {
            self.mask(&mut patch, rng);
        }
        patch
    }

    /// Masks a band of bins and a range of frames (SpecAugment), with the configured probability.
    fn mask(&self, patch: &mut Patch, rng: &mut impl Rng) {
        let settings = &self.augment;
        if rng.random_bool(settings.specaugment_probability) {
            let bins = between(settings.specaugment_bins, rng);
            let frames = between(settings.specaugment_frames, rng);
            augment::mask_bins(patch, bins, rng);
            augment::mask_frames(patch, frames, rng);
        }
    }

    /// Draws the stretch rate of `scope`: 1 unless stretches have that scope.
    fn rate(&self, scope: StretchScope, rng: &mut impl Rng) -> f64 {
        let settings = &self.augment;
        if settings.stretch_scope != scope || !rng.random_bool(settings.stretch_probability) {
            return 1.0;
        }
        let rate = between(settings.stretch, rng);
        if (rate - 1.0).abs() <= settings.stretch_dead_zone { 1.0 } else { rate }
    }
}

/// Draws a number from `low` to `high`, uniformly distributed.
fn between([low, high]: [f64; 2], rng: &mut impl Rng) -> f64 {
    rng.random_range(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Composition;
    use bc_formats::config::Config;
    use bc_formats::run::Scale;

    /// A split with a single rank.
    fn whole() -> RankSplit {
        RankSplit::new(Composition::Pk { cliques: 1, versions: 1 }, 0, 1)
    }

    fn assembler(augment: AugmentConfig, pool: u32) -> Assembler {
        let mut config = Config::default();
        config.train.debug = true;
        let data = Arc::new(crate::data::open(&config, &bc_ranks::Ranks::alone()).unwrap());
        let input = NetworkInput { cqt: data.cqt, pool, scale: Scale::Max };
        Assembler::new(data, augment, input, ShortTracks::Zeros, 5, &[50.0], whole()).unwrap()
    }

    fn plan() -> BatchPlan {
        BatchPlan { length_s: 50.0, items: vec![0, 1, 4, 5] }
    }

    #[test]
    fn batch_depends_only_on_seed_plan_and_position() {
        let everything = AugmentConfig {
            stretch_probability: 0.5,
            transpose_probability: 0.5,
            tilt_probability: 0.5,
            noise_probability: 0.5,
            gain_probability: 0.5,
            specaugment_probability: 0.5,
            ..AugmentConfig::default()
        };
        let a = assembler(everything, 20);
        let first = a.assemble(3, 7, &plan());
        assert_eq!(first, a.assemble(3, 7, &plan()));
        assert_ne!(first.values, a.assemble(3, 8, &plan()).values);
        assert_eq!(first.values.len(), 4 * first.bins * first.frames);
        assert_eq!(first.labels, [0, 0, 1, 1]);
        assert!(first.values.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn masked_bins_and_frames_are_silent_in_every_scale() {
        let masks = AugmentConfig {
            specaugment_probability: 1.0,
            specaugment_bins: [0.25, 0.25],
            specaugment_frames: [0.1, 0.1],
            ..AugmentConfig::default()
        };
        for scale in [Scale::None, Scale::Max, Scale::Sqrt, Scale::Log, Scale::LogCentred] {
            let mut a = assembler(masks.clone(), 20);
            (a.input.scale, a.short) = (scale, Fill::Repeat);
            let batch = a.assemble(0, 0, &plan());
            for item in batch.values.chunks_exact(batch.bins * batch.frames) {
                // A silent clip of the same mean: what the scale makes of zero magnitude.
                let min = item.iter().copied().fold(f32::INFINITY, f32::min);
                let silent = |row: &[f32]| row.iter().all(|value| *value == min);
                let rows = item.chunks_exact(batch.frames).filter(|row| silent(row)).count();
                assert_eq!(rows, batch.bins / 4, "{scale}");
                let is_silent =
                    |column: usize| item.iter().skip(column).step_by(batch.frames).all(|v| *v == min);
                let columns = (0..batch.frames).filter(|column| is_silent(*column)).count();
                assert_eq!(columns, (batch.frames as f64 * 0.1).round() as usize, "{scale}");
                let mean = item.iter().map(|v| f64::from(*v)).sum::<f64>() / item.len() as f64;
                if scale.keeps_zero() {
                    assert_eq!(min, 0.0, "{scale}");
                } else {
                    assert!(mean.abs() < 1e-6 && min < -0.05, "{mean} {min}");
                }
            }
        }
    }

    #[test]
    fn chroma_batches_have_twelve_rows_with_any_augmentation() {
        let octaves = AugmentConfig {
            octaves_probability: 1.0,
            power_probability: 1.0,
            specaugment_probability: 1.0,
            ..AugmentConfig::default()
        };
        let mut a = assembler(octaves, 20);
        (a.input.scale, a.short) = (Scale::Chroma, Fill::Repeat);
        let batch = a.assemble(0, 0, &plan());
        assert_eq!((batch.bins, batch.values.len()), (12, 4 * 12 * batch.frames));
        for item in batch.values.chunks_exact(12 * batch.frames) {
            let (min, max) =
                item.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, m), v| (l.min(*v), m.max(*v)));
            // Columns reach from about 0 to 1, less the mean.
            assert!((max - min - 1.0).abs() < 0.05, "{min} {max}");
            assert!(item.iter().sum::<f32>().abs() < 1e-2);
        }
        a.augment.octaves_probability = 0.0;
        assert_ne!(batch.values, a.assemble(0, 0, &plan()).values);
    }

    #[test]
    fn crop_lengths_equal_the_public_recipe() {
        // 100, 150, 200 s at 22,050 Hz, hop 512, mean over 20 frames.
        let a = assembler(AugmentConfig::default(), 20);
        assert_eq!([100.0, 150.0, 200.0].map(|s| a.frames(s)), [215, 323, 430]);
    }

    #[test]
    fn stretching_a_batch_changes_its_length_and_stretching_crops_does_not() {
        let twice = |scope| AugmentConfig {
            stretch_probability: 1.0,
            stretch: [2.0, 2.0],
            stretch_scope: scope,
            ..AugmentConfig::default()
        };
        let plain = assembler(AugmentConfig::default(), 5).assemble(0, 0, &plan()).frames;
        let crop = assembler(twice(StretchScope::Crop), 5).assemble(0, 0, &plan()).frames;
        let batch = assembler(twice(StretchScope::Batch), 5).assemble(0, 0, &plan()).frames;
        assert_eq!(crop, plain);
        assert_eq!(batch, plain.div_ceil(2));
    }

    #[test]
    fn no_batch_has_more_columns_than_max_frames() {
        let stretched = |scope| {
            let a = AugmentConfig {
                stretch_probability: 1.0,
                stretch: [0.5, 1.5],
                stretch_scope: scope,
                ..AugmentConfig::default()
            };
            assembler(a, 5)
        };
        let plan = plan();
        for scope in [StretchScope::Batch, StretchScope::Crop] {
            let assembler = stretched(scope);
            let max = assembler.max_frames(plan.length_s);
            let found: Vec<usize> = (0..40).map(|index| assembler.assemble(0, index, &plan).frames).collect();
            assert!(found.iter().all(|frames| *frames <= max), "{found:?}, at most {max}");
            assert!(found.iter().any(|frames| 10 * frames >= 8 * max), "{found:?}, at most {max}");
        }
    }

    #[test]
    fn rates_in_the_dead_zone_do_not_stretch() {
        let a = AugmentConfig {
            stretch_probability: 1.0,
            stretch: [0.95, 1.05],
            stretch_dead_zone: 0.07,
            stretch_scope: StretchScope::Batch,
            ..AugmentConfig::default()
        };
        let plain = assembler(AugmentConfig::default(), 5).assemble(0, 0, &plan()).frames;
        for index in 0..10 {
            assert_eq!(assembler(a.clone(), 5).assemble(0, index, &plan()).frames, plain);
        }
    }

    #[test]
    fn crops_too_short_for_a_column_are_refused() {
        let mut config = Config::default();
        config.train.debug = true;
        let data = Arc::new(crate::data::open(&config, &bc_ranks::Ranks::alone()).unwrap());
        let input = NetworkInput { cqt: data.cqt, pool: 1000, scale: Scale::None };
        let refused =
            Assembler::new(data, AugmentConfig::default(), input, ShortTracks::Zeros, 5, &[5.0], whole());
        assert!(refused.err().unwrap().to_string().contains("shorter than one column"));
    }
}
