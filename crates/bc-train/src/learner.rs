//! The network with its losses and optimiser: batches become gradients, and gradients become steps.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::{Config, Loss, Optimizer as OptimizerKind, TrainConfig};
use bc_formats::fingerprint::Fingerprint;
use bc_formats::provenance::Provenance;
use bc_formats::run::{CHECKPOINT_FORMAT, CLIQUES_KEY, INPUT_KEY, NetworkInput};
use bc_nn::backend::{Array, Clipping, Upload};
use bc_nn::optim::{Adam, AdamSettings};
use bc_nn::{
    Backend, Gradients, HeadOutputs, Network, NetworkSettings, OutputGradients, Pass, Snapshot, weights,
};
use bc_ranks::Ranks;
use candle_core::{Device, Tensor};

use crate::checkpoint;
use crate::data::Batch;
use crate::objective::{BatchLosses, Objective};
use crate::ranks::{RankSync, ReductionCost, device};

/// Losses of one batch, or their sum over several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// The total loss, which is minimised.
    pub sum: f32,
    /// Cross entropy, without its weight.
    pub classification: f32,
    /// Triplet loss, without its weight.
    pub triplet: f32,
    /// Norm of the gradient, once a step was made.
    pub gradient_norm: f32,
}

impl Losses {
    /// Adds the losses of another batch.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.classification += other.classification;
        self.triplet += other.triplet;
    }
}

/// Embeddings of several inputs, row after row.
pub struct Embedded {
    /// Before the BNNeck.
    pub f_t: Vec<f32>,
    /// After the BNNeck.
    pub f_c: Vec<f32>,
    /// Length of a row.
    pub dim: usize,
}

/// Fingerprints of the data that a network is trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFingerprints {
    /// Fingerprints of the features and of the painted works, by the name of their kind.
    pub inputs: BTreeMap<String, String>,
    /// Fingerprint of the clique ids, in the order of the classifier's outputs.
    pub cliques: String,
}

/// A batch that is being copied to the device.
struct SentBatch {
    epoch: u64,
    index: usize,
    upload: Upload,
}

/// A network being trained.
pub struct Learner {
    /// The next batch, if it is already being copied to the device.
    sent: Option<SentBatch>,
    network: Network,
    optimizer: Adam,
    /// Moving average of the weights, with `[train] ema`.
    average: Option<Snapshot>,
    /// Gradients, summed since the last step.
    gradients: Gradients,
    train: TrainConfig,
    input: NetworkInput,
    /// The settings that are written into the network's files.
    settings: serde_json::Value,
    data_fingerprints: DataFingerprints,
    rank_sync: RankSync,
}

impl Learner {
    /// Creates a network with fresh weights, drawn from the seed, that is trained together with the other `ranks`,
    /// on the device of the configuration.
    ///
    /// # Errors
    /// The device of the configuration cannot be opened (see [`device::open`]).
    pub fn new(
        config: &Config,
        classes: usize,
        input: &NetworkInput,
        data_fingerprints: &DataFingerprints,
        ranks: &Ranks,
    ) -> Result<Self> {
        let backend = device::open(ranks, &config.train).context("[train]")?;
        Self::on_backend(&backend, config, classes, input, data_fingerprints, ranks)
    }

    /// Creates a network like that of [`Learner::new`], on a device that is already open.
    ///
    /// # Errors
    /// A device without memory for the network; a rank that has ended.
    pub fn on_backend(
        backend: &Backend,
        config: &Config,
        classes: usize,
        input: &NetworkInput,
        data_fingerprints: &DataFingerprints,
        ranks: &Ranks,
    ) -> Result<Self> {
        let network_settings = network_settings(config, classes, input);
        let rank_sync = RankSync::new(ranks, &config.train, backend)?;
        let mut network =
            Network::with_peers(&network_settings, config.train.seed, backend, rank_sync.peers())?;
        network.recompute_activations(config.train.recompute_activations);
        let settings = AdamSettings {
            betas: config.train.betas,
            epsilon: config.train.epsilon,
            weight_decay: config.train.weight_decay,
            decoupled: config.train.optimizer == OptimizerKind::Adamw,
            decay_vectors: config.train.decay_norms_and_biases,
        };
        let optimizer = Adam::new(network.parameters(), settings)?;
        let gradients = Gradients::new(network.parameters())?;
        let mut learner = Self {
            sent: None,
            network,
            optimizer,
            average: None,
            gradients,
            train: config.train.clone(),
            input: input.clone(),
            settings: serde_json::json!({
                "network": serde_json::to_value(&network_settings)?,
                "input": serde_json::to_value(input)?,
                "train": serde_json::to_value(&config.train)?,
                "augment": serde_json::to_value(&config.augment)?,
            }),
            data_fingerprints: data_fingerprints.clone(),
            rank_sync,
        };
        if config.train.ema > 0.0 {
            learner.average = Some(learner.network.snapshot()?);
        }
        Ok(learner)
    }

    /// Loads the weights of `[train] init`, if it names a file, and returns a note on what was loaded. A
    /// resumed run does not need them.
    ///
    /// # Errors
    /// A file that cannot be read, holds another network, or one that was trained on other input.
    pub fn load_init(&mut self) -> Result<Option<String>> {
        if self.train.init.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = &self.train.init;
        let metadata = weights::metadata(path).context("[train] init")?;
        self.refuse_other_input(metadata.get(INPUT_KEY).map(String::as_str))?;
        let cliques = metadata.get(CLIQUES_KEY);
        let same = cliques == Some(&self.data_fingerprints.cliques);
        let taken = self.network.init_from(path, same).context("[train] init")?;
        let classifier = match (taken, cliques) {
            (true, _) => "its classifier too, which is of the same cliques",
            (false, Some(_)) => "its classifier is of other cliques and is initialised instead",
            (false, None) => "it does not record the cliques of its classifier, which is initialised instead",
        };
        let mut note = format!("begins with the network {}", path.display());
        if self.network.settings().classes() > 0 {
            note += &format!("; {classifier}");
        }
        if self.average.is_some() {
            self.average = Some(self.network.snapshot()?);
        }
        Ok(Some(note))
    }

    /// Refuses a network that was trained on other input; `input` is the entry in the header of `[train] init`.
    fn refuse_other_input(&self, input: Option<&str>) -> Result<()> {
        let path = self.train.init.display();
        let Some(input) = input else {
            tracing::warn!(
                "[train] init: {path} does not say what input it was trained on; it is taken to be that of the \
                 configuration"
            );
            return Ok(());
        };
        let input = NetworkInput::from_key_value(input).with_context(|| format!("[train] init: {path}"))?;
        let differences = input.differences(&self.input);
        if differences.is_empty() {
            return Ok(());
        }
        if self.train.init_other_input {
            tracing::warn!("[train] init: {path} was trained on other input: {}", differences.join("; "));
            return Ok(());
        }
        bail!(
            "[train] init: {path} was trained on other input: {}\n  (first the file's value, then that of [model] \
             and the features); correct these, or say train.init_other_input = true if it is meant to learn the \
             other input",
            differences.join("; ")
        )
    }

    /// Returns the network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs the forward and the backward pass on this rank's share of one batch, adds the gradients to those since the
    /// last [`Learner::step`], and returns the losses of the whole batch. `last` says that this is the last batch before
    /// the next step. The `next` batch, if it is ready, is copied to the device meanwhile.
    pub fn accumulate(&mut self, batch: &Batch, last: bool, next: Option<&Batch>) -> Result<Losses> {
        self.rank_sync.begin_batch(&batch.shares);
        let passes = self.forward(batch)?;
        // After the forward pass is queued, so that the device has work while the host copies. On the CPU nothing has to
        // be copied.
        let next = next.filter(|_| !self.network.backend().is_cpu());
        self.sent = next.map(|next| self.send(next)).transpose()?;
        let objective =
            Objective { train: &self.train, network: &self.network, rank_sync: &self.rank_sync, batch };
        let BatchLosses { classification, triplet, sum, outputs, classifier } =
            objective.losses_of(&concatenate_outputs(self.network.backend(), &passes)?)?;
        self.backward(passes, &outputs, classifier.as_deref(), batch, last)?;
        // The losses are read only after the backward pass is queued: reading them waits for the device.
        let [classification, triplet, sum] =
            [classification, triplet, sum].map(|value| value.read(self.network.backend()));
        let losses = Losses { classification: classification?, triplet: triplet?, ..Losses::default() };
        self.whole_batch_losses(losses, sum?)
    }

    /// Starts to copy a batch to the device.
    fn send(&self, batch: &Batch) -> Result<SentBatch> {
        let size = [batch.shares.own().len(), batch.bins, batch.frames];
        let upload = self.network.send(&batch.values, size)?;
        Ok(SentBatch { epoch: batch.epoch, index: batch.index, upload })
    }

    /// Runs the forward pass: one pass, or three (anchors, positives, negatives) with `[train] separate_forwards`.
    fn forward(&mut self, batch: &Batch) -> Result<Vec<Pass>> {
        let sent = self.sent.take().filter(|sent| (sent.epoch, sent.index) == (batch.epoch, batch.index));
        let SentBatch { upload, .. } = sent.map_or_else(|| self.send(batch), Ok)?;
        let parts = if self.train.separate_forwards { 3 } else { 1 };
        let images = self.network.receive(upload, parts)?;
        images.iter().map(|images| self.network.forward_train_images(images)).collect()
    }

    /// Runs the backward passes. `gradients` are those of the outputs of all passes, `classifier` that of the classifier's
    /// weights if the loss reads them itself.
    fn backward(
        &mut self,
        passes: Vec<Pass>,
        gradients: &OutputGradients,
        classifier: Option<&[f32]>,
        batch: &Batch,
        last: bool,
    ) -> Result<()> {
        // An idle rank runs the pass only because batch norms need all ranks; its gradients do not count.
        let mut ignored = match batch.shares.is_idle() {
            true => Some(Gradients::new(self.network.parameters())?),
            false => None,
        };
        let count = passes.len();
        let samples = batch.shares.own().len() / count;
        // The last pass first, so that its saved tensors are freed early.
        for (number, pass) in passes.into_iter().enumerate().rev() {
            if last && number == 0 && ignored.is_none() {
                self.rank_sync.send_when_complete(&mut self.gradients)?;
            }
            let part = select_samples(self.network.backend(), gradients, number * samples, samples)?;
            pass.backward(&self.network, part, ignored.as_mut().unwrap_or(&mut self.gradients))?;
        }
        match (self.network.classifier(), classifier, ignored) {
            (Some(parameter), Some(gradient), None) => self.gradients.add(parameter, gradient),
            _ => Ok(()),
        }
    }

    /// Combines the losses of all ranks. `own` are this rank's losses, in which the cross entropy is its share of the mean,
    /// and `sum` is its total loss.
    fn whole_batch_losses(&self, own: Losses, sum: f32) -> Result<Losses> {
        let classification = self.rank_sync.sum(own.classification)?;
        let weight = if self.train.loss == Loss::Bytecover { self.train.classification_weight } else { 1.0 };
        let of_others = f64::from(classification) - f64::from(own.classification);
        // With a single rank and an infinite loss, the difference would be NaN.
        let sum = if classification == own.classification { sum } else { sum + (weight * of_others) as f32 };
        Ok(Losses { sum, classification, ..own })
    }

    /// Makes one optimiser step at learning rate `rate` with the mean of the gradients of `batches` batches, and returns
    /// their norm before clipping. Nothing is changed if the norm is not finite.
    pub fn step(&mut self, rate: f64, batches: usize) -> Result<f32> {
        self.rank_sync.sum_gradients(&mut self.gradients)?;
        let clipping = Clipping { gradient_scale: 1.0 / batches as f64, max_norm: self.train.clip_norm };
        let norm = self.optimizer.step(self.network.parameters_mut(), &self.gradients, clipping, rate)?;
        if norm.is_finite() {
            self.rank_sync.broadcast_running_statistics(self.network.running_mut())?;
            if let Some(average) = &mut self.average {
                self.network.average(average, self.train.ema)?;
            }
        }
        self.gradients.clear()?;
        Ok(norm as f32)
    }

    /// Refuses to continue if the ranks' networks differ.
    ///
    /// # Errors
    /// The networks differ, or a rank has ended.
    pub fn check_ranks(&self) -> Result<()> {
        self.rank_sync.require_same_network(|| self.fingerprint())
    }

    /// Returns the cost of summing gradients over ranks so far; `None` with one rank.
    pub fn reduction_cost(&self) -> Option<ReductionCost> {
        self.rank_sync.reduction_cost()
    }

    /// Calls `work` with the moving average in place of the weights, if there is one.
    pub fn with_average<T>(&mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let Some(mut average) = self.average.take() else { return work(self) };
        self.network.swap(&mut average)?;
        let result = work(self);
        self.network.swap(&mut average)?;
        self.average = Some(average);
        result
    }

    /// Embeds `items` inputs of `bins x columns`, using the running statistics.
    pub fn embed(&self, values: Vec<f32>, items: usize, bins: usize, columns: usize) -> Result<Embedded> {
        let x = Tensor::from_vec(values, (items, bins, columns), &Device::Cpu)?;
        let (f_t, f_c) = self.network.embed(&x)?;
        let rows = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let dim = f_c.dim(1)?;
        Ok(Embedded { f_t: rows(&f_t)?, f_c: rows(&f_c)?, dim })
    }

    /// Writes weights, their average and the optimiser into the folder of a checkpoint.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_network(&folder.join(checkpoint::NETWORK))?;
        if let Some(average) = &self.average {
            self.network.save_snapshot(average, &folder.join(checkpoint::AVERAGE))?;
        }
        self.optimizer.save(&folder.join(checkpoint::OPTIMIZER))?;
        Ok(())
    }

    /// Reads what [`Learner::save`] wrote.
    ///
    /// # Errors
    /// A damaged checkpoint, one of another schema or of another network.
    pub fn load(&mut self, folder: &Path) -> Result<()> {
        self.load_parts(folder).map_err(|error| checkpoint::with_remedy(error, folder))
    }

    fn load_parts(&mut self, folder: &Path) -> Result<()> {
        self.network.restore(&folder.join(checkpoint::NETWORK))?;
        if let Some(average) = &mut self.average {
            *average = self.network.load_snapshot(&folder.join(checkpoint::AVERAGE))?;
        }
        self.optimizer.load(&folder.join(checkpoint::OPTIMIZER))
    }

    /// Writes the network alone (its moving average if there is one), atomically.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn export(&mut self, path: &Path) -> Result<()> {
        self.with_average(|learner| learner.save_network(path))
    }

    /// Returns the fingerprint of all weights and running statistics.
    fn fingerprint(&self) -> Result<String> {
        let mut fingerprint = Fingerprint::of("network");
        for (_, tensor) in self.network.tensors()? {
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            fingerprint.add(bytemuck::cast_slice::<f32, u8>(&values));
        }
        Ok(fingerprint.finish())
    }

    fn save_network(&self, path: &Path) -> Result<()> {
        let provenance = Provenance {
            format: CHECKPOINT_FORMAT.to_owned(),
            tool: bc_cli::tool!().to_owned(),
            settings: self.settings.clone(),
            fingerprint: self.fingerprint()?,
            inputs: self.data_fingerprints.inputs.clone(),
        };
        let mut metadata: HashMap<String, String> = provenance.to_key_values().into_iter().collect();
        metadata.extend([self.input.to_key_value()]);
        metadata.insert(CLIQUES_KEY.to_owned(), self.data_fingerprints.cliques.clone());
        self.network.save(path, metadata).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Returns the network of a configuration, for this input and number of classes.
pub(crate) fn network_settings(config: &Config, classes: usize, input: &NetworkInput) -> NetworkSettings {
    // Losses over pairs need no classifier.
    let classes = if config.train.loss.classifies() { classes } else { 0 };
    NetworkSettings::from_config(&config.model, input.rows(), classes)
}

/// Concatenates the outputs of several passes.
fn concatenate_outputs(backend: &Backend, passes: &[Pass]) -> Result<HeadOutputs<Array>> {
    let all = |get: fn(&HeadOutputs<Array>) -> &Array| {
        backend.join(&passes.iter().map(|pass| get(pass.outputs())).collect::<Vec<_>>())
    };
    let logits: Option<Vec<&Array>> = passes.iter().map(|pass| pass.outputs().logits.as_ref()).collect();
    let logits = logits.map(|parts| backend.join(&parts)).transpose()?;
    Ok(HeadOutputs { f_t: all(|outputs| &outputs.f_t)?, f_c: all(|outputs| &outputs.f_c)?, logits })
}

/// Returns the gradients of `count` samples from `first` on.
fn select_samples(
    backend: &Backend,
    gradients: &OutputGradients,
    first: usize,
    count: usize,
) -> Result<OutputGradients> {
    let part = |x: &Option<Array>| x.as_ref().map(|x| backend.part(x, first, count)).transpose();
    Ok(HeadOutputs {
        f_t: part(&gradients.f_t)?,
        f_c: part(&gradients.f_c)?,
        logits: part(&gradients.logits)?,
    })
}

/// Maximum number of threads of the network's operators, that of `[train] threads`.
pub(crate) const MAX_THREADS: i64 = 1_024;

/// Sets the number of threads of the network's operators on the CPU (0: one per core). Call it once, before anything is
/// computed.
pub fn use_threads(threads: usize) -> Result<()> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if threads > 0 {
        pool = pool.num_threads(threads);
    }
    pool.build_global().context("cannot start the worker threads")
}
