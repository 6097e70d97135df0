//! Checks whether a training step fits into the device's memory, and suggests settings that would fit if it does not.
//!
//! The estimate ([`bc_nn::NetworkSettings::memory`]) counts arrays only and is rather too small than too large, so that no
//! step that fits is refused. Suggested batches take [`MARGIN`] times the estimate into account.

use anyhow::{Result, bail, ensure};
use bc_formats::config::{Batches, Config, TrainConfig};
use bc_nn::backend::{Precision, names_gpu};
use bc_nn::{Backend, Memory, MemoryOptions, NetworkSettings};
use bc_ranks::Ranks;

use crate::learner::network_settings;
use crate::sampler::RankSplit;
use crate::setup::Setup;

/// Factor on the estimate for suggested batches: a device allocates memory in blocks that are larger than requested (1.01 to
/// 1.24 times the estimate were seen in tests), and libraries need some memory of their own.
const MARGIN: f64 = 1.3;

/// The unit in which the configuration counts the size of a batch: cliques or triplets.
#[derive(Debug, Clone, Copy)]
struct Unit {
    key: &'static str,
    /// Items per unit.
    items: usize,
    /// Units in the smallest batch that can be trained on.
    min: usize,
}

/// Estimates of the memory that a training step with the longest crops needs.
#[derive(Debug, Clone)]
pub(crate) struct MemoryCheck {
    device: String,
    on_cpu: bool,
    precision: Precision,
    recompute: bool,
    with_stored_activations: Memory,
    with_recomputed_activations: Memory,
    /// Number of copies of the weights, relative to those that [`Memory::fixed`] counts.
    copies: f64,
    /// Items of this rank's share of a batch.
    items: usize,
    unit: Unit,
    ranks: usize,
    /// Rows and columns of an item.
    size: [usize; 2],
    /// Bytes that were free after the network was allocated and before the first step.
    free: Option<usize>,
}

impl MemoryCheck {
    /// Estimates the memory of a run whose network is already allocated.
    ///
    /// # Errors
    /// The device does not report its free memory.
    pub fn new(config: &Config, setup: &Setup, network: &bc_nn::Network, ranks: &Ranks) -> Result<Self> {
        let train = &config.train;
        let lengths = train.lengths_s.iter().map(|&length_s| setup.assembler.max_frames(length_s));
        let size = [setup.input.rows(), lengths.max().unwrap_or(0)];
        let (backend, precision) = (network.backend(), Precision::named(&train.precision)?);
        let unit = match train.batches {
            Batches::Pk => Unit { key: "cliques_per_batch", items: train.versions_per_clique, min: 2 },
            Batches::RandomTriplets => Unit { key: "triplets_per_batch", items: 3, min: 1 },
        };
        let composition = setup.sampler.composition();
        let shares = RankSplit::new(composition, ranks.rank(), ranks.size()).shares(composition.items());
        let [with_stored_activations, with_recomputed_activations] =
            estimates(network.settings(), size, backend, precision);
        Ok(Self {
            device: if backend.is_cpu() { "the CPU".to_owned() } else { backend.describe() },
            on_cpu: backend.is_cpu(),
            precision,
            recompute: train.recompute_activations,
            with_stored_activations,
            with_recomputed_activations,
            copies: copies(train),
            items: shares.own().len(),
            unit,
            ranks: ranks.size(),
            size,
            free: backend.free_memory()?,
        })
    }

    /// Returns the estimated bytes of one item, with stored or recomputed activations.
    fn bytes_per_sample(&self, recompute: bool) -> usize {
        if recompute { self.with_recomputed_activations.sample } else { self.with_stored_activations.sample }
    }

    /// Returns the estimated bytes of a step, in addition to those of the network.
    fn step_bytes(&self, recompute: bool) -> usize {
        self.items * self.bytes_per_sample(recompute)
    }

    /// Returns the bytes of weights, gradients, moments and the moving average.
    fn fixed_bytes(&self) -> usize {
        (self.with_stored_activations.fixed as f64 * self.copies) as usize
    }

    /// Refuses a step that does not fit on a GPU, and warns if the CPU's memory may not suffice.
    ///
    /// # Errors
    /// A step that does not fit.
    pub fn check(&self) -> Result<()> {
        match self.free {
            Some(free) if self.step_bytes(self.recompute) > free => {
                let text = format!(
                    "[train] {}, and {} are free: {}",
                    self.requirement(),
                    gib(free),
                    self.advice(free)
                );
                if !self.on_cpu {
                    bail!("{text}");
                }
                let shared = if self.ranks > 1 { "; ranks of one machine share its memory" } else { "" };
                tracing::warn!("{text}{shared}; otherwise the system may end this process");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds to an out-of-memory error what a step needs, and what would fit.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if Backend::is_out_of_memory(&error) { error.context(self.out_of_memory_message()) } else { error }
    }

    /// Returns the message for a device that ran out of memory although the estimate fitted: more than the estimate was
    /// needed, or another program has taken memory since.
    fn out_of_memory_message(&self) -> String {
        let before = self.free.map_or_else(String::new, |free| {
            format!(", and {} were free before the first: {}", gib(free), self.advice(free))
        });
        format!("[train] {}{before}", self.requirement())
    }

    /// Describes a step and the memory that it needs.
    fn requirement(&self) -> String {
        let ([bins, frames], items) = (self.size, self.items);
        format!(
            "a step on {items} items of {bins} x {frames} needs about {} on {} besides the network{}",
            gib(self.step_bytes(self.recompute)),
            self.device,
            if self.recompute { ", recomputing activations" } else { "" }
        )
    }

    /// Suggests settings with which a step fits into `free` bytes.
    fn advice(&self, free: usize) -> String {
        let mut suggestions = Vec::new();
        let batch = |recompute: bool| {
            // A batch as large as this one did not fit, whatever the estimate says.
            let now = self.ranks * self.items / self.unit.items;
            let max = if recompute == self.recompute { now.saturating_sub(1) } else { usize::MAX };
            let fits = self.units_that_fit(free, recompute).min(max);
            (fits >= self.unit.min.max(self.ranks)).then(|| format!("{} = {fits}", self.unit.key))
        };
        if !self.recompute {
            let requirement = gib(self.step_bytes(true));
            let suggestion = format!("recompute_activations = true (about {requirement}, a third more time)");
            if self.step_bytes(true) as f64 * MARGIN <= free as f64 {
                suggestions.push(suggestion);
            } else if let Some(batch) = batch(true) {
                suggestions.push(format!("recompute_activations = true with {batch} at most"));
            }
        }
        suggestions.extend(batch(self.recompute).map(|batch| format!("{batch} at most")));
        let bf16 = !self.on_cpu && self.precision != Precision::Bf16;
        suggestions.extend(bf16.then(|| "precision = \"bf16\" (half as much)".to_owned()));
        suggestions.push("shorter lengths_s".to_owned());
        format!("use {}", suggestions.join(", or "))
    }

    /// Returns the number of cliques or triplets in the largest batch of all ranks that fits into `free` bytes.
    fn units_that_fit(&self, free: usize, recompute: bool) -> usize {
        let unit = (self.bytes_per_sample(recompute) * self.unit.items) as f64 * MARGIN;
        self.ranks * (free as f64 / unit) as usize
    }

    /// Prints the estimates, and the size of the features in bytes (`features`).
    pub fn print(&self, features: usize) {
        let ([bins, frames], items) = (self.size, self.items);
        let step = self.step_bytes(self.recompute);
        let free = self.free.map_or_else(String::new, |free| format!("; {} more are free", gib(free)));
        bc_cli::println!(
            "memory    about {} on {}: {} for weights, gradients and moments, {} for a step on {items} items of \
             {bins} x {frames}{free}",
            gib(self.fixed_bytes() + step),
            self.device,
            gib(self.fixed_bytes()),
            gib(step),
        );
        bc_cli::println!(
            "          a step with recompute_activations = {}: {}; features: {}",
            !self.recompute,
            gib(self.step_bytes(!self.recompute)),
            gib(features)
        );
    }
}

/// Refuses a network that does not fit into the memory of the CPU, before it is allocated: the system would end this process,
/// or swap at every step. (A GPU gives an error of its own.)
///
/// # Errors
/// Weights, gradients and moments need more memory than is free.
pub(crate) fn require_memory_for_network(config: &Config, setup: &Setup) -> Result<()> {
    let free = bc_nn::memory::available().filter(|_| !names_gpu(&config.train.device));
    free.map_or(Ok(()), |free| require_network_fits(config, setup, free))
}

/// Refuses a network that needs more than `free` bytes.
fn require_network_fits(config: &Config, setup: &Setup, free: usize) -> Result<()> {
    let network = network_settings(config, setup.classes, &setup.input);
    let memory = network.memory(setup.input.rows(), 1, MemoryOptions::on_cpu(false));
    let fixed = (memory.fixed as f64 * copies(&config.train)) as usize;
    ensure!(
        fixed <= free,
        "[model] {}: the weights, gradients and moments of {:.2} M parameters need about {}, and {} are free; use a smaller \
         network (width, blocks)",
        network.in_words(),
        network.parameters() as f64 / 1e6,
        gib(fixed),
        gib(free)
    );
    Ok(())
}

/// Returns the number of copies of the weights, relative to those that [`Memory::fixed`] counts: the moving average is a
/// fifth one.
fn copies(train: &TrainConfig) -> f64 {
    if train.ema > 0.0 { 1.25 } else { 1.0 }
}

/// Estimates the memory with stored activations, and with recomputed ones.
fn estimates(
    network: &NetworkSettings,
    [bins, frames]: [usize; 2],
    backend: &Backend,
    precision: Precision,
) -> [Memory; 2] {
    [false, true].map(|recompute| {
        let holding = match backend.is_cpu() {
            true => MemoryOptions::on_cpu(recompute),
            false => MemoryOptions::on_gpu(precision, recompute),
        };
        network.memory(bins, frames, holding)
    })
}

fn gib(bytes: usize) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// 16 cliques of 4 items of 100 MiB each, or 40 MiB recomputed.
    fn memory_check(free: usize) -> MemoryCheck {
        MemoryCheck {
            device: "cuda:0".to_owned(),
            on_cpu: false,
            precision: Precision::F32,
            recompute: false,
            with_stored_activations: Memory { fixed: 500 * MIB, sample: 100 * MIB },
            with_recomputed_activations: Memory { fixed: 500 * MIB, sample: 40 * MIB },
            copies: 1.0,
            items: 64,
            unit: Unit { key: "cliques_per_batch", items: 4, min: 2 },
            ranks: 1,
            size: [84, 860],
            free: Some(free),
        }
    }

    fn refused(memory_check: &MemoryCheck) -> String {
        memory_check.check().unwrap_err().to_string()
    }

    #[test]
    fn estimate_uses_the_longest_crops_and_the_share_of_this_rank() {
        let mut config = Config::default();
        (config.train.debug, config.train.device) = (true, "cpu".to_owned());
        (config.model.width, config.model.blocks) = (2, [1; 4]);
        (config.train.cliques_per_batch, config.train.versions_per_clique) = (5, 2);
        config.train.lengths_s = vec![20.0, 40.0, 10.0];
        let ranks = bc_ranks::threads(2);
        let checks = ranks.iter().map(|ranks| {
            let setup = Setup::new(&config, ranks).unwrap();
            let network = NetworkSettings::from_config(&config.model, setup.input.rows(), setup.classes);
            let network = bc_nn::Network::new(&network, 1, &Backend::cpu()).unwrap();
            let frames = setup.assembler.frames(40.0);
            let memory_check = MemoryCheck::new(&config, &setup, &network, ranks).unwrap();
            assert_eq!(memory_check.size, [setup.input.rows(), frames]);
            assert!(
                memory_check.with_recomputed_activations.sample < memory_check.with_stored_activations.sample
                    && memory_check.with_stored_activations.fixed
                        == memory_check.with_recomputed_activations.fixed
            );
            // How much is free changes, but it is known.
            assert!(
                memory_check.on_cpu
                    && (!cfg!(target_os = "linux") || memory_check.free.is_some_and(|free| free > 0))
            );
            memory_check
        });
        let checks: Vec<MemoryCheck> = checks.collect();
        assert_eq!([checks[0].items, checks[1].items], [4, 6]);
        let refused =
            MemoryCheck { on_cpu: false, free: Some(checks[1].step_bytes(false) - 1), ..checks[1].clone() };
        let text = refused.check().unwrap_err().to_string();
        assert!(text.contains("a step on 6 items"), "{text}");
    }

    #[test]
    fn network_that_does_not_fit_is_refused_before_it_is_allocated() {
        let mut config = Config::default();
        (config.train.debug, config.model.width) = (true, 2);
        (config.train.cliques_per_batch, config.train.versions_per_clique) = (5, 2);
        let setup = Setup::new(&config, &Ranks::alone()).unwrap();
        require_network_fits(&config, &setup, 1 << 30).unwrap();
        (config.model.width, config.model.blocks) = (1_024, [100; 4]);
        let error = require_network_fits(&config, &setup, 1 << 30).unwrap_err().to_string();
        for part in ["[model]", "M parameters", "1.00 GiB are free", "smaller network"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn steps_that_fit_are_not_refused() {
        memory_check(6_400 * MIB).check().unwrap();
        MemoryCheck { free: None, ..memory_check(0) }.check().unwrap();
        // On the CPU the system decides about memory: this is only a warning.
        MemoryCheck { on_cpu: true, ..memory_check(10 * MIB) }.check().unwrap();
    }

    #[test]
    fn refusal_names_needed_and_free_memory_and_settings_that_fit() {
        // 5000 / (4 * 100 * 1.3) = 9.6 cliques; 64 * 40 * 1.3 = 3328 MiB.
        let text = refused(&memory_check(5_000 * MIB));
        for part in [
            "64 items of 84 x 860 needs about 6.25 GiB on cuda:0",
            "4.88 GiB are free",
            "recompute_activations = true (about 2.50 GiB",
            "or cliques_per_batch = 9 at most",
            "precision = \"bf16\"",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        // 2000 / (4 * 40 * 1.3) = 9.6 and 2000 / (4 * 100 * 1.3) = 3.8.
        let text = refused(&memory_check(2_000 * MIB));
        assert!(text.contains("recompute_activations = true with cliques_per_batch = 9 at most"), "{text}");
        assert!(text.contains("or cliques_per_batch = 3 at most"), "{text}");
        // Less than two cliques fit, with recomputed activations too.
        let text = refused(&memory_check(300 * MIB));
        assert!(
            !text.contains("at most") && !text.contains("recompute") && text.contains("lengths_s"),
            "{text}"
        );
    }

    #[test]
    fn suggested_batch_counts_all_ranks_and_recomputed_activations() {
        // A share of 32 items: 2500 / (4 * 100 * 1.3) = 4.8 cliques on each of two.
        let two_ranks = MemoryCheck { ranks: 2, items: 32, ..memory_check(2_500 * MIB) };
        let text = refused(&two_ranks);
        assert!(text.contains("or cliques_per_batch = 8 at most"), "{text}");
        let recomputed =
            MemoryCheck { recompute: true, precision: Precision::Bf16, ..memory_check(2_000 * MIB) };
        let text = refused(&recomputed);
        assert!(text.contains("recomputing activations, and") && !text.contains("bf16"), "{text}");
        assert!(text.contains("use cliques_per_batch = 9 at most, or shorter lengths_s"), "{text}");
    }

    #[test]
    fn out_of_memory_message_suggests_a_smaller_batch() {
        // The estimate said that it fits.
        let text = memory_check(6_500 * MIB).out_of_memory_message();
        for part in ["needs about 6.25 GiB on cuda:0", "6.35 GiB were free", "cliques_per_batch = 12 at most"]
        {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(text.contains("recompute_activations = true (about 2.50 GiB"), "{text}");
    }

    #[test]
    fn explain_keeps_other_errors_unchanged() {
        let error = memory_check(5_000 * MIB).explain(anyhow::anyhow!("the disk is full"));
        assert_eq!(format!("{error:#}"), "the disk is full");
    }
}
