//! `[train]`: optimisation, batches, schedule, checkpoints.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::section::{Check, SectionProblems, section};

/// Declares an enum whose values are words in the TOML file.
macro_rules! choice {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $vdoc:literal])* $variant:ident,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[doc = $vdoc])* $variant,)* }
    };
}

choice! {
    /// What is trained on.
    TrainingData {
        /// The training split of `[features]`.
        Features,
        /// Versions of the works of `[paint]`, painted while training.
        Painted,
    }
}

choice! {
    /// What a batch is made of.
    Batches {
        /// Anchor, positive, negative, drawn at random.
        RandomTriplets,
        /// P cliques x K versions.
        Pk,
    }
}

choice! {
    /// Order of the passes (a pass a crop length) of an epoch.
    PassOrder {
        /// One length after the other.
        PerEpochPasses,
        /// Batches of all lengths shuffled.
        Mixed,
    }
}

choice! {
    /// What follows a track that is shorter than its crop.
    ShortTracks {
        /// Silence.
        Zeros,
        /// The track again.
        Repeat,
    }
}

choice! {
    /// What is minimised.
    Loss {
        /// Cross entropy on the BNNeck's logits and a triplet loss on f_t (Du et al. 2021).
        Bytecover,
        /// Supervised contrastive loss on f_c (Khosla et al. 2020).
        SupervisedContrastive,
        /// Alignment and uniformity of f_c (Serrà et al. 2025).
        Clews,
        /// Cross entropy on the cosines of f_c with the classifier's weights (Wang et al. 2017, NormFace).
        CosineSoftmax,
    }
}

impl Loss {
    /// Returns whether the loss needs a classifier, with one output for each training clique.
    pub fn classifies(self) -> bool {
        matches!(self, Self::Bytecover | Self::CosineSoftmax)
    }
}

choice! {
    /// Which items the classifier learns from.
    Classified {
        /// Anchors alone.
        Anchors,
        /// Every item.
        All,
    }
}

choice! {
    /// How triplets are chosen.
    Mining {
        /// At random.
        Random,
        /// Farthest positive, nearest negative of the batch.
        BatchHard,
        /// Nearest negative beyond the positive.
        SemiHard,
    }
}

choice! {
    /// The optimiser.
    Optimizer {
        /// Kingma and Ba 2015.
        Adam,
        /// With decoupled weight decay (Loshchilov and Hutter 2019).
        Adamw,
    }
}

choice! {
    /// The learning rate over time.
    Schedule {
        /// Stays.
        Constant,
        /// Falls along half a cosine.
        Cosine,
        /// Falls every few epochs.
        Step,
        /// Falls when validation stops improving.
        Plateau,
    }
}

choice! {
    /// The validation figure that chooses a checkpoint.
    Figure {
        /// Mean average precision, higher is better.
        Map,
        /// Triplet loss of random validation triplets, lower is better.
        Loss,
    }
}

choice! {
    /// Distance of two embeddings.
    Distance {
        /// 1 - cosine of the angle.
        Cosine,
        /// Length of the difference.
        Euclidean,
    }
}

/// Outputs of the classifier: `"auto"` (one per training clique) or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// As many as the training split has cliques.
    Auto,
    /// This number, which is not below the training split's number of cliques.
    Count(u32),
}

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Classes::Auto => serializer.serialize_str("auto"),
            Classes::Count(count) => serializer.serialize_u32(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(u32),
            Word(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Count(count)) => Ok(Classes::Count(count)),
            Ok(Written::Word(word)) if word == "auto" => Ok(Classes::Auto),
            _ => Err(serde::de::Error::custom("must be \"auto\" or a whole number")),
        }
    }
}

section! {
    /// Training.
    TrainConfig as "train" {
        /// Folder of the run: checkpoints, metrics, curves.
        run: PathBuf = "runs/demo".into();
        /// Seed of everything that is drawn.
        seed: u64 = 1;
        /// Weights to begin with: a checkpoint of ours or the public PyTorch one, of this network; a
        /// classifier of other cliques is initialised. "" initialises all weights randomly.
        init: PathBuf = PathBuf::new();
        /// Let `init` be a network that was trained on other input: another pool, scale or CQT.
        init_other_input: bool = false;
        /// Where the network runs: "cpu", "auto" (the CPU), "cuda:N" (GPU N), or "cuda": the first GPU; of several ranks
        /// on a machine each takes the GPU of its number there.
        device: String = "auto".into();
        /// How a GPU stores and multiplies: "f32" (as the CPU), "tf32" (multiplied by tensor cores, 10 bits after the
        /// point) or "bf16" (activations in 16 bits too; weights, statistics, losses and moments have 32 bits). The CPU
        /// computes in "f32".
        precision: String = "f32".into();
        /// Keep only the input of each residual block between the forward and the backward pass, which then runs the block
        /// forward again: less memory (`bc-train --dry-run` says how much), about a third more time, the same result.
        /// For batches that do not fit otherwise.
        recompute_activations: bool = false;
        /// Threads of the network's operators on the CPU; 0: one per core. Results do not depend on it.
        threads: usize = 0;
        /// Threads that cut, augment and assemble batches ahead of the network.
        workers: usize = 2;
        /// Keep features in a memory-mapped file in the run's folder instead of in memory. Several ranks always do, and
        /// share it.
        map_features: bool = false;
        /// With several ranks (processes that train together, see docs/how-to/several-devices.md): batch norm is over the
        /// batch of all of them, as in one process; false: over each rank's share, which saves time and gives
        /// another result.
        sync_norms: bool = true;
        /// With several ranks: sums over ranks are added in the order of the ranks, so that a repeated run has the same
        /// bytes; false: in the order that suits MPI or NCCL best, which is faster.
        deterministic: bool = true;
        /// Draw random features of random lengths instead of reading any, to try a set-up without data.
        debug: bool = false;

        /// What is trained on: "features" (the training split of [features]) or "painted" (versions of the works of
        /// [paint], painted while training, new ones in every epoch; see docs/notes-train.md). Validation is on the
        /// validation split of [features] either way.
        data: TrainingData = TrainingData::Features;
        /// "painted": share of the cliques of a batch that come from each source of [paint], relative to each other.
        /// Empty: as the numbers of their training works times their weights.
        source_shares: Vec<f64> = Vec::new();
        /// "painted": share of the cliques of a batch that are cliques of the training split of [features], with K of
        /// their stored versions; the others are painted.
        features_share: f64 = 0.0;
        /// "painted": batches of a pass; 0: until every source has been used once.
        batches_per_pass: usize = 0;

        /// What a batch is made of: "pk" (P cliques x K versions) or "random-triplets".
        batches: Batches = Batches::Pk;
        /// P of "pk".
        cliques_per_batch: usize = 16;
        /// K of "pk".
        versions_per_clique: usize = 4;
        /// Triplets a batch of "random-triplets".
        triplets_per_batch: usize = 8;
        /// Lengths of the crops in seconds; an epoch is a pass over the training split for each.
        lengths_s: Vec<f64> = vec![100.0, 150.0, 200.0];
        /// Order of the passes: "per-epoch-passes" (a length after the other) or "mixed".
        order: PassOrder = PassOrder::PerEpochPasses;
        /// After a track shorter than its crop: "zeros" or "repeat" (the track again).
        short_tracks: ShortTracks = ShortTracks::Zeros;
        /// Outputs of the classifier: "auto" (one per training clique) or a number at least as large.
        classes: Classes = Classes::Auto;

        /// "bytecover" (the cross entropy and the triplet loss below), "supervised-contrastive" (all pairs of a
        /// batch by their cosines), "clews" (mean distance of positives, uniformity of negatives) or
        /// "cosine-softmax" (cross entropy on the cosines of f_c with the classifier's weights).
        loss: Loss = Loss::Bytecover;
        /// Temperature of "supervised-contrastive".
        temperature: f64 = 0.1;
        /// Factor of the cosines of "cosine-softmax".
        cosine_scale: f64 = 30.0;
        /// Weight of the cross entropy on the BNNeck's logits; 0: off.
        classification_weight: f64 = 1.0;
        /// Label smoothing of the cross entropy, that of "cosine-softmax" too.
        label_smoothing: f64 = 0.1;
        /// Which items the cross entropy sees: "all" or "anchors".
        classified: Classified = Classified::All;
        /// Weight of the triplet loss on f_t; 0: off.
        triplet_weight: f64 = 1.0;
        /// Margin of the triplet loss (Euclidean distance).
        margin: f64 = 0.3;
        /// Triplets: "random", "batch-hard" or "semi-hard".
        mining: Mining = Mining::BatchHard;
        /// Anchors, positives and negatives of "random-triplets" pass the network one after the other,
        /// each with its own batch statistics, as the public re-implementation does.
        separate_forwards: bool = false;

        /// "adam" or "adamw" (weight decay not added to the gradient).
        optimizer: Optimizer = Optimizer::Adam;
        /// The full learning rate.
        learning_rate: f64 = 1e-4;
        /// Decay of the first and the second moment.
        betas: [f64; 2] = [0.9, 0.999];
        /// Added to the root of the second moment.
        epsilon: f64 = 1e-8;
        /// Weight decay.
        weight_decay: f64 = 0.0;
        /// Weight decay of the scales and shifts of norms, of biases and of GeM's exponent too; false: only of the
        /// weights of convolutions and linear layers.
        decay_norms_and_biases: bool = true;
        /// Gradients are scaled down to this norm; 0: never.
        clip_norm: f64 = 0.0;
        /// Batches whose gradients are averaged for one step.
        accumulate: usize = 1;
        /// Decay of the exponential moving average of the weights, which is then validated and kept
        /// as the best; 0: off.
        ema: f64 = 0.0;

        /// The learning rate: "constant", "cosine", "step" or "plateau".
        schedule: Schedule = Schedule::Constant;
        /// Steps over which the learning rate rises to its full value.
        warmup_steps: u64 = 0;
        /// The learning rate never falls below this.
        floor: f64 = 0.0;
        /// Epochs between two reductions of "step".
        step_epochs: u64 = 30;
        /// Factor of a reduction of "step" and "plateau".
        factor: f64 = 0.1;
        /// Validations without a better figure before "plateau" reduces.
        plateau_patience: u64 = 10;

        /// Epochs.
        epochs: u64 = 100;
        /// Optimiser steps after which training ends, whatever the epoch; 0: no limit.
        max_steps: u64 = 0;
        /// Minutes after which this call saves and ends, to be resumed by the next one (a time limit on a cluster);
        /// 0: no limit.
        max_minutes: f64 = 0.0;
        /// Validate before the first step too: what the network of `init` is worth as it is.
        validate_at_start: bool = false;
        /// Passes between two validations; 0: only at the end.
        validate_every_passes: u64 = 1;
        /// The validation figure that chooses the best checkpoint: "map" or "loss".
        figure: Figure = Figure::Map;
        /// Distance of embeddings in validation: "cosine" or "euclidean".
        distance: Distance = Distance::Cosine;
        /// Validations without a better figure before training stops; 0: never.
        early_stopping: u64 = 0;
        /// Steps between two checkpoints, besides the one before every validation.
        checkpoint_every_steps: u64 = 500;
        /// Minutes between two checkpoints at most; 0: no limit.
        checkpoint_every_minutes: f64 = 0.0;
        /// Latest checkpoints kept; the best network is kept besides.
        keep_checkpoints: usize = 2;
        /// Best networks kept: the best as best.safetensors, and with more than 1 each as best/step-….safetensors.
        keep_best: usize = 1;
        /// Write the last network too, as last.safetensors, when training is complete.
        save_last: bool = false;
    }
}

/// Checks the name of a device, and that it supports the precision.
pub(super) fn check_device(problems: &mut SectionProblems<'_>, device: &str, precision: &str) {
    let numbered = device.strip_prefix("cuda:").is_some_and(|n| n.parse::<usize>().is_ok());
    let cuda = numbered || device == "cuda";
    problems.require(
        device == "cpu" || device == "auto" || cuda,
        "device",
        format!(
            "is `{device}`, but must be \"cpu\", \"cuda\", \"cuda:N\" (N: number of the GPU) or \"auto\""
        ),
    );
    let known = ["f32", "tf32", "bf16"].contains(&precision);
    problems.require(
        known,
        "precision",
        format!("is `{precision}`, but must be \"f32\", \"tf32\" or \"bf16\""),
    );
    problems.require(
        !known || cuda || precision == "f32",
        "precision",
        format!("is `{precision}`, which is for a GPU: with device = \"{device}\" it must be \"f32\""),
    );
}

impl Check for TrainConfig {
    fn check(&self, problems: &mut SectionProblems<'_>) {
        problems.not_empty("run", &self.run);
        check_device(problems, &self.device, &self.precision);
        problems.within("threads", self.threads, 0..=1_024, "");
        problems.within("workers", self.workers, 1..=256, "");
        self.check_data(problems);
        problems.within("cliques_per_batch", self.cliques_per_batch, 2..=100_000, "cliques");
        problems.within("versions_per_clique", self.versions_per_clique, 2..=1_000, "versions");
        problems.within("triplets_per_batch", self.triplets_per_batch, 1..=100_000, "triplets");
        problems.require(
            !self.lengths_s.is_empty() && self.lengths_s.iter().all(|s| (1.0..=7_200.0).contains(s)),
            "lengths_s",
            format!("is {:?}, but must be one or more lengths from 1 to 7200 seconds", self.lengths_s),
        );
        self.check_losses(problems);
        self.check_optimizer(problems);
        problems.within("floor", self.floor, 0.0..=10.0, "");
        problems.within("step_epochs", self.step_epochs, 1..=1_000_000, "epochs");
        problems.within("factor", self.factor, 0.0..=1.0, "");
        problems.within("epochs", self.epochs, 1..=10_000_000, "epochs");
        problems.within("max_minutes", self.max_minutes, 0.0..=1e9, "minutes");
        problems.within("checkpoint_every_minutes", self.checkpoint_every_minutes, 0.0..=1e9, "minutes");
        problems.within("checkpoint_every_steps", self.checkpoint_every_steps, 1..=u64::MAX, "steps");
        problems.within("keep_checkpoints", self.keep_checkpoints, 1..=10_000, "");
        problems.within("keep_best", self.keep_best, 1..=10_000, "");
    }
}

impl TrainConfig {
    fn check_losses(&self, problems: &mut SectionProblems<'_>) {
        if let Classes::Count(count) = self.classes {
            problems.within("classes", count, 2..=10_000_000, "");
        }
        problems.within("classification_weight", self.classification_weight, 0.0..=1e6, "");
        problems.within("triplet_weight", self.triplet_weight, 0.0..=1e6, "");
        problems.require(
            self.loss != Loss::Bytecover || self.classification_weight > 0.0 || self.triplet_weight > 0.0,
            "triplet_weight",
            "and classification_weight are both 0: there is nothing to learn from",
        );
        problems.within("temperature", self.temperature, 1e-3..=10.0, "");
        problems.within("cosine_scale", self.cosine_scale, 1.0..=1_000.0, "");
        problems.within("label_smoothing", self.label_smoothing, 0.0..=0.99, "");
        problems.within("margin", self.margin, 0.0..=1e6, "");
        let triplets = self.batches == Batches::RandomTriplets;
        problems.require(
            triplets || !self.separate_forwards,
            "separate_forwards",
            "needs batches = \"random-triplets\"",
        );
        problems.require(
            !(triplets && self.separate_forwards) || self.triplets_per_batch >= 2,
            "triplets_per_batch",
            "is 1, and separate_forwards passes anchors, positives and negatives through the network separately, each a \
             batch of one, which batch norm cannot be trained on: set it to 2 or more, or separate_forwards = false",
        );
        problems.require(
            triplets || self.classified == Classified::All,
            "classified",
            "= \"anchors\" needs batches = \"random-triplets\"",
        );
    }

    fn check_optimizer(&self, problems: &mut SectionProblems<'_>) {
        problems.within("learning_rate", self.learning_rate, 0.0..=10.0, "");
        let decays = |b: &f64| (0.0..1.0).contains(b);
        problems.require(
            self.betas.iter().all(decays),
            "betas",
            format!("is {:?}, but both must be at least 0 and below 1", self.betas),
        );
        problems.require(
            self.epsilon > 0.0 && self.epsilon.is_finite(),
            "epsilon",
            format!("is {}, but must be a finite number above 0", self.epsilon),
        );
        problems.within("weight_decay", self.weight_decay, 0.0..=1.0, "");
        problems.within("clip_norm", self.clip_norm, 0.0..=1e9, "");
        problems.within("accumulate", self.accumulate, 1..=100_000, "batches");
        problems.require(
            decays(&self.ema),
            "ema",
            format!("is {}, but must be at least 0 and below 1", self.ema),
        );
    }

    fn check_data(&self, problems: &mut SectionProblems<'_>) {
        let painted = self.data == TrainingData::Painted;
        problems.require(
            !(painted && self.debug),
            "debug",
            "draws features, and data = \"painted\" paints them: choose one",
        );
        problems.require(
            !painted || self.batches == Batches::Pk,
            "data",
            "= \"painted\" needs batches = \"pk\"",
        );
        problems.require(
            self.source_shares.iter().all(|share| (0.0..=1e6).contains(share))
                && (self.source_shares.is_empty() || self.source_shares.iter().sum::<f64>() > 0.0),
            "source_shares",
            format!(
                "is {:?}, but must be shares from 0 to 1e6, one of them above 0, or empty",
                self.source_shares
            ),
        );
        problems.within("features_share", self.features_share, 0.0..=0.99, "");
        problems.within("batches_per_pass", self.batches_per_pass, 0..=1_000_000_000, "batches");
        for (key, set) in [
            ("source_shares", !self.source_shares.is_empty()),
            ("features_share", self.features_share > 0.0),
            ("batches_per_pass", self.batches_per_pass > 0),
        ] {
            problems.require(painted || !set, key, "needs data = \"painted\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_auto_or_a_number() {
        let read = |text: &str| toml::from_str::<TrainConfig>(text).map(|c| c.classes);
        assert_eq!(read("classes = \"auto\"").unwrap(), Classes::Auto);
        assert_eq!(read("classes = 8858").unwrap(), Classes::Count(8858));
        let error = read("classes = \"many\"").unwrap_err().to_string();
        assert!(error.contains("\"auto\" or a whole number"), "{error}");
    }

    #[test]
    fn batch_of_one_triplet_is_refused_with_separate_forwards() {
        let load = |separate: &str| {
            let set = ["train.batches=random-triplets", "train.triplets_per_batch=1", separate];
            crate::config::load(None, &set.map(str::to_owned))
        };
        load("train.separate_forwards=false").unwrap();
        let error = load("train.separate_forwards=true").unwrap_err().to_string();
        assert!(error.contains("`triplets_per_batch`") && error.contains("2 or more"), "{error}");
    }

    #[test]
    fn epsilon_is_a_finite_number_above_zero() {
        let load = |value: &str| crate::config::load(None, &[format!("train.epsilon={value}")]);
        load("1e-6").unwrap();
        for value in ["0.0", "-1e-8", "inf", "nan"] {
            let error = load(value).unwrap_err().to_string();
            assert!(error.contains("`epsilon`") && error.contains("finite number above 0"), "{error}");
        }
    }

    #[test]
    fn painting_keys_need_painted_data_and_painting_needs_pk() {
        let load = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
            crate::config::load(None, &set).map_err(|error| error.to_string())
        };
        let painted = "train.data=painted";
        load(&[painted, "train.source_shares=[1,3]", "train.features_share=0.5"]).unwrap();
        for (set, part) in [
            (&["train.features_share=0.5"][..], "needs data = \"painted\""),
            (&[painted, "train.batches=random-triplets"], "needs batches = \"pk\""),
            (&[painted, "train.debug=true"], "choose one"),
            (&[painted, "train.source_shares=[0,0]"], "one of them above 0"),
            (&[painted, "train.features_share=1"], "0 to 0.99"),
        ] {
            let error = load(set).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn enum_values_match_the_documentation() {
        let text = "batches = \"random-triplets\"\norder = \"per-epoch-passes\"\nmining = \"semi-hard\"\n";
        let config: TrainConfig = toml::from_str(text).unwrap();
        assert_eq!(config.batches, Batches::RandomTriplets);
        assert_eq!(config.order, PassOrder::PerEpochPasses);
        assert_eq!(config.mining, Mining::SemiHard);
    }
}
