//! Checks the presets key by key, so that a changed default cannot change a
//! recipe unnoticed. `recipes.rs` compares them with the table of recipes itself.

use std::path::PathBuf;

use bc_formats::config::{
    Batches, Bottleneck, Classes, Classified, Config, Distance, Figure, Loss, Mining, NetworkKind, Optimizer,
    PassOrder, Schedule, ShortTracks, StretchScope, load,
};
use bc_formats::run::Scale;

fn preset(name: &str) -> Config {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name);
    load(Some(&path), &[]).unwrap_or_else(|error| panic!("{error:#}"))
}

fn has_the_papers_transform_and_network(c: &Config) {
    let cqt = c.features.cqt();
    assert_eq!((cqt.sample_rate, cqt.hop_length, cqt.bins, cqt.bins_per_octave), (22_050, 512, 84, 12));
    assert!((cqt.fmin_hz - 32.703).abs() < 1e-3);
    assert_eq!((c.model.width, c.model.blocks, c.model.projection), (64, [3, 4, 6, 3], 0));
    assert_eq!((c.train.margin, c.train.label_smoothing), (0.3, 0.1));
    assert_eq!((c.train.classification_weight, c.train.triplet_weight), (1.0, 1.0));
    assert_eq!((c.train.optimizer, c.train.betas, c.train.epsilon), (Optimizer::Adam, [0.9, 0.999], 1e-8));
    assert_eq!((c.train.weight_decay, c.train.clip_norm, c.train.ema), (0.0, 0.0, 0.0));
    assert_eq!((c.train.accumulate, c.train.warmup_steps, c.train.max_steps), (1, 0, 0));
    assert!(!c.train.debug);
}

#[test]
fn orfium_preset_is_the_public_reimplementation() {
    let c = preset("orfium.toml");
    has_the_papers_transform_and_network(&c);
    assert_eq!((c.model.pool, c.model.scale, c.model.variant), (20, Scale::None, Bottleneck::Orfium));
    let t = &c.train;
    assert_eq!((t.lengths_s.as_slice(), t.order), (&[100.0, 150.0, 200.0][..], PassOrder::PerEpochPasses));
    assert_eq!(t.short_tracks, ShortTracks::Zeros);
    assert_eq!((t.batches, t.triplets_per_batch), (Batches::RandomTriplets, 8));
    assert_eq!((t.mining, t.separate_forwards), (Mining::Random, true));
    assert_eq!((t.classified, t.classes), (Classified::Anchors, Classes::Count(8858)));
    assert_eq!((t.learning_rate, t.schedule), (1e-4, Schedule::Constant));
    assert_eq!((t.epochs, t.validate_every_passes), (100, 1));
    assert_eq!((t.figure, t.early_stopping), (Figure::Loss, 4));
    assert_eq!(t.distance, Distance::Euclidean);
    let a = &c.augment;
    assert_eq!((a.stretch_probability, a.stretch, a.stretch_dead_zone), (1.0, [0.7, 1.3], 0.07));
    assert_eq!(a.stretch_scope, StretchScope::Batch);
    let others = [
        a.transpose_probability,
        a.tilt_probability,
        a.noise_probability,
        a.gain_probability,
        a.specaugment_probability,
    ];
    assert_eq!(others, [0.0; 5]);
}

#[test]
fn bytecover_preset_is_the_paper_completed_by_a_working_reproduction() {
    let c = preset("bytecover.toml");
    has_the_papers_transform_and_network(&c);
    assert_eq!((c.model.pool, c.model.scale, c.model.variant), (20, Scale::Max, Bottleneck::Plain));
    let t = &c.train;
    assert_eq!((t.lengths_s.as_slice(), t.short_tracks), (&[150.0][..], ShortTracks::Repeat));
    assert_eq!((t.batches, t.cliques_per_batch, t.versions_per_clique), (Batches::Pk, 25, 4));
    assert_eq!((t.mining, t.separate_forwards), (Mining::BatchHard, false));
    assert_eq!((t.classified, t.classes), (Classified::All, Classes::Auto));
    assert_eq!((t.learning_rate, t.schedule), (3e-4, Schedule::Plateau));
    assert_eq!((t.factor, t.plateau_patience, t.floor), (0.2, 10, 1e-6));
    assert_eq!((t.epochs, t.validate_every_passes), (1000, 1));
    assert_eq!((t.figure, t.early_stopping), (Figure::Map, 0));
    assert_eq!(t.distance, Distance::Cosine);
    let a = &c.augment;
    assert_eq!((a.stretch_probability, a.stretch, a.stretch_dead_zone), (0.3, [0.6, 1.8], 0.0));
    assert_eq!(a.stretch_scope, StretchScope::Crop);
    assert_eq!((a.transpose_probability, a.transpose_bins), (0.5, [-12, 12]));
    assert_eq!(
        (a.specaugment_probability, a.specaugment_bins, a.specaugment_frames),
        (0.4, [0.15, 0.15], [0.15, 0.15])
    );
    assert_eq!([a.tilt_probability, a.noise_probability, a.gain_probability], [0.0; 3]);
}

#[test]
fn default_preset_is_the_key_invariant_network_with_a_loss_over_pairs() {
    let c = preset("default.toml");
    let m = &c.model;
    assert_eq!((m.kind, m.scale), (NetworkKind::Ring, Scale::LogCentred));
    assert_eq!((m.pool, m.width, m.blocks, m.projection), (20, 16, [1, 2, 2, 1], 256));
    let t = &c.train;
    assert_eq!((t.loss, t.temperature), (Loss::SupervisedContrastive, 0.1));
    assert_eq!((t.batches, t.cliques_per_batch, t.versions_per_clique), (Batches::Pk, 24, 4));
    assert_eq!((t.lengths_s.as_slice(), t.short_tracks), (&[40.0][..], ShortTracks::Repeat));
    assert_eq!((t.optimizer, t.learning_rate, t.weight_decay), (Optimizer::Adamw, 2e-3, 0.02));
    assert_eq!((t.clip_norm, t.warmup_steps, t.floor), (5.0, 100, 1e-5));
    assert_eq!((t.schedule, t.distance), (Schedule::Cosine, Distance::Cosine));
    assert_eq!((t.epochs, t.max_steps, t.accumulate, t.ema), (40, 0, 1, 0.0));
    let a = &c.augment;
    assert_eq!((a.stretch_probability, a.stretch, a.stretch_scope), (1.0, [0.85, 1.18], StretchScope::Crop));
    assert_eq!((a.transpose_probability, a.transpose_bins), (1.0, [-3, 3]));
    assert_eq!((a.tilt_probability, a.tilt_db_per_octave), (0.5, [-4.0, 4.0]));
    assert_eq!(
        (a.specaugment_probability, a.specaugment_bins, a.specaugment_frames),
        (0.5, [0.02, 0.15], [0.03, 0.12])
    );
    assert_eq!([a.noise_probability, a.gain_probability], [0.0; 2]);
    // The network takes the octaves that the features have.
    assert_eq!((c.features.bins, c.features.bins_per_octave), (84, 12));
}

#[test]
fn all_configurations_of_the_project_load() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".toml") {
            preset(&name);
            loaded += 1;
        }
    }
    assert!(loaded >= 7, "{loaded}");
}
