//! Whether a training step fits into the memory of where it runs, and if not, what would.
//!
//! The estimate ([`bc_nn::NetworkSettings::memory`]) counts arrays and is rather too small than too large, so that nothing
//! is refused that fits. What is recommended instead has [`MARGIN`] more room.

use anyhow::{Result, bail};
use bc_formats::config::{Batches, Config};
use bc_nn::backend::Precision;
use bc_nn::{Backend, Holding, Memory, NetworkSettings};
use bc_ranks::Ranks;

use crate::sampler::RankSplit;
use crate::setup::Setup;

/// Room beyond the estimate that a recommended batch has: a device gives memory in blocks that are larger than what is asked
/// for (1.01 to 1.24 times the estimate were seen in tests), and libraries work in some.
const MARGIN: f64 = 1.3;

/// What batches are counted in, as the configuration names it.
#[derive(Debug, Clone, Copy)]
struct Unit {
    key: &'static str,
    /// Items of one.
    items: usize,
    /// In the smallest batch.
    least: usize,
}

/// The memory of a training step with the longest crops, with activations kept and recomputed.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    device: String,
    on_cpu: bool,
    precision: Precision,
    recompute: bool,
    kept: Memory,
    recomputed: Memory,
    /// Weights in all copies, over those of [`Memory::fixed`].
    copies: f64,
    /// Items of this rank's share of a batch.
    items: usize,
    unit: Unit,
    ranks: usize,
    /// Rows and columns of an item.
    size: [usize; 2],
    /// Bytes that were free when the network had its memory and the first step had not.
    free: Option<usize>,
}

impl Room {
    /// Of a run whose network has its memory already.
    ///
    /// # Errors
    /// Of the device.
    pub fn of(config: &Config, setup: &Setup, network: &bc_nn::Network, ranks: &Ranks) -> Result<Self> {
        let train = &config.train;
        let lengths = train.lengths_s.iter().map(|&length_s| setup.assembler.most_frames(length_s));
        let size = [setup.input.rows(), lengths.max().unwrap_or(0)];
        let (backend, precision) = (network.backend(), Precision::named(&train.precision)?);
        let unit = match train.batches {
            Batches::Pk => Unit { key: "cliques_per_batch", items: train.versions_per_clique, least: 2 },
            Batches::RandomTriplets => Unit { key: "triplets_per_batch", items: 3, least: 1 },
        };
        let composition = setup.sampler.composition();
        let shares = RankSplit::new(composition, ranks.rank(), ranks.size()).shares(composition.items());
        let [kept, recomputed] = both(network.settings(), size, backend, precision);
        Ok(Self {
            device: if backend.is_cpu() { "the processor".to_owned() } else { backend.describe() },
            on_cpu: backend.is_cpu(),
            precision,
            recompute: train.recompute_activations,
            kept,
            recomputed,
            // The moving average is a fifth copy of the weights.
            copies: if train.ema > 0.0 { 1.25 } else { 1.0 },
            items: shares.own().len(),
            unit,
            ranks: ranks.size(),
            size,
            free: backend.free_memory()?,
        })
    }

    fn sample(&self, recompute: bool) -> usize {
        if recompute { self.recomputed.sample } else { self.kept.sample }
    }

    /// Bytes of a step beside those that the network has already.
    fn step(&self, recompute: bool) -> usize {
        self.items * self.sample(recompute)
    }

    /// Bytes of weights, gradients and moments.
    fn fixed(&self) -> usize {
        (self.kept.fixed as f64 * self.copies) as usize
    }

    /// Refuses a step that does not fit on a GPU; warns of one that the machine's memory is short for.
    ///
    /// # Errors
    /// A step that does not fit.
    pub fn check(&self) -> Result<()> {
        match self.free {
            Some(free) if self.step(self.recompute) > free => {
                let text =
                    format!("[train] {}, and {} are free: {}", self.need(), gib(free), self.advice(free));
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

    /// Says of a device that ran out of memory what a step needs, and what would fit.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if Backend::is_out_of_memory(&error) { error.context(self.ran_out()) } else { error }
    }

    fn ran_out(&self) -> String {
        // More than the estimate was needed, or another program has taken some since.
        let before = self.free.map_or_else(String::new, |free| {
            format!(", and {} were free before the first: {}", gib(free), self.advice(free))
        });
        format!("[train] {}{before}", self.need())
    }

    fn need(&self) -> String {
        let ([bins, frames], items) = (self.size, self.items);
        format!(
            "a step on {items} items of {bins} x {frames} needs about {} on {} beside the network{}",
            gib(self.step(self.recompute)),
            self.device,
            if self.recompute { ", recomputing activations" } else { "" }
        )
    }

    /// What would fit into `free` bytes.
    fn advice(&self, free: usize) -> String {
        let mut ways = Vec::new();
        let batch = |recompute: bool| {
            // A batch as large as this one did not fit, whatever the estimate says.
            let now = self.ranks * self.items / self.unit.items;
            let most = if recompute == self.recompute { now.saturating_sub(1) } else { usize::MAX };
            let fits = self.units_that_fit(free, recompute).min(most);
            (fits >= self.unit.least.max(self.ranks)).then(|| format!("{} = {fits}", self.unit.key))
        };
        if !self.recompute {
            let need = gib(self.step(true));
            let way = format!("recompute_activations = true (about {need}, a third more time)");
            if self.step(true) as f64 * MARGIN <= free as f64 {
                ways.push(way);
            } else if let Some(batch) = batch(true) {
                ways.push(format!("recompute_activations = true with {batch} at most"));
            }
        }
        ways.extend(batch(self.recompute).map(|batch| format!("{batch} at most")));
        let bf16 = !self.on_cpu && self.precision != Precision::Bf16;
        ways.extend(bf16.then(|| "precision = \"bf16\" (half as much)".to_owned()));
        ways.push("shorter lengths_s".to_owned());
        format!("use {}", ways.join(", or "))
    }

    /// Cliques or triplets of the largest batch of all ranks that fits.
    fn units_that_fit(&self, free: usize, recompute: bool) -> usize {
        let unit = (self.sample(recompute) * self.unit.items) as f64 * MARGIN;
        self.ranks * (free as f64 / unit) as usize
    }

    /// Prints it, with `features` bytes in the machine's memory.
    pub fn print(&self, features: usize) {
        let ([bins, frames], items) = (self.size, self.items);
        let step = self.step(self.recompute);
        let free = self.free.map_or_else(String::new, |free| format!("; {} more are free", gib(free)));
        println!(
            "memory    about {} on {}: {} for weights, gradients and moments, {} for a step on {items} items of \
             {bins} x {frames}{free}",
            gib(self.fixed() + step),
            self.device,
            gib(self.fixed()),
            gib(step),
        );
        println!(
            "          a step with recompute_activations = {}: {}; features: {}",
            !self.recompute,
            gib(self.step(!self.recompute)),
            gib(features)
        );
    }
}

/// With activations kept, and recomputed.
fn both(
    network: &NetworkSettings,
    [bins, frames]: [usize; 2],
    backend: &Backend,
    precision: Precision,
) -> [Memory; 2] {
    [false, true].map(|recompute| {
        let holding = match backend.is_cpu() {
            true => Holding::on_cpu(recompute),
            false => Holding::on_gpu(precision, recompute),
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
    fn room(free: usize) -> Room {
        Room {
            device: "cuda:0".to_owned(),
            on_cpu: false,
            precision: Precision::F32,
            recompute: false,
            kept: Memory { fixed: 500 * MIB, sample: 100 * MIB },
            recomputed: Memory { fixed: 500 * MIB, sample: 40 * MIB },
            copies: 1.0,
            items: 64,
            unit: Unit { key: "cliques_per_batch", items: 4, least: 2 },
            ranks: 1,
            size: [84, 860],
            free: Some(free),
        }
    }

    fn refused(room: &Room) -> String {
        room.check().unwrap_err().to_string()
    }

    #[test]
    fn a_run_is_measured_by_its_longest_crops_and_this_ranks_share() {
        let mut config = Config::default();
        (config.train.debug, config.train.device) = (true, "cpu".to_owned());
        (config.model.width, config.model.blocks) = (2, [1; 4]);
        (config.train.cliques_per_batch, config.train.versions_per_clique) = (5, 2);
        config.train.lengths_s = vec![20.0, 40.0, 10.0];
        let ranks = bc_ranks::threads(2);
        let rooms = ranks.iter().map(|ranks| {
            let setup = Setup::new(&config, ranks).unwrap();
            let network = NetworkSettings::from_config(&config.model, setup.input.rows(), setup.classes);
            let network = bc_nn::Network::new(&network, 1, &Backend::cpu()).unwrap();
            let frames = setup.assembler.frames(40.0);
            let room = Room::of(&config, &setup, &network, ranks).unwrap();
            assert_eq!(room.size, [setup.input.rows(), frames]);
            assert!(room.recomputed.sample < room.kept.sample && room.kept.fixed == room.recomputed.fixed);
            // What is free changes, and is there.
            assert!(room.on_cpu && (!cfg!(target_os = "linux") || room.free.is_some_and(|free| free > 0)));
            room
        });
        let rooms: Vec<Room> = rooms.collect();
        assert_eq!([rooms[0].items, rooms[1].items], [4, 6]);
        let refused = Room { on_cpu: false, free: Some(rooms[1].step(false) - 1), ..rooms[1].clone() };
        let text = refused.check().unwrap_err().to_string();
        assert!(text.contains("a step on 6 items"), "{text}");
    }

    #[test]
    fn what_fits_is_not_refused() {
        room(6_400 * MIB).check().unwrap();
        Room { free: None, ..room(0) }.check().unwrap();
        // The processor's memory is the system's to give.
        Room { on_cpu: true, ..room(10 * MIB) }.check().unwrap();
    }

    #[test]
    fn a_refusal_says_what_is_needed_what_is_free_and_what_would_fit() {
        // 5000 / (4 * 100 * 1.3) = 9.6 cliques; 64 * 40 * 1.3 = 3328 MiB.
        let text = refused(&room(5_000 * MIB));
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
        let text = refused(&room(2_000 * MIB));
        assert!(text.contains("recompute_activations = true with cliques_per_batch = 9 at most"), "{text}");
        assert!(text.contains("or cliques_per_batch = 3 at most"), "{text}");
        // Not two cliques either way.
        let text = refused(&room(300 * MIB));
        assert!(
            !text.contains("at most") && !text.contains("recompute") && text.contains("lengths_s"),
            "{text}"
        );
    }

    #[test]
    fn a_batch_that_fits_is_of_all_ranks_and_of_what_is_recomputed_already() {
        // A share of 32 items: 2500 / (4 * 100 * 1.3) = 4.8 cliques on each of two.
        let two = Room { ranks: 2, items: 32, ..room(2_500 * MIB) };
        let text = refused(&two);
        assert!(text.contains("or cliques_per_batch = 8 at most"), "{text}");
        let recomputed = Room { recompute: true, precision: Precision::Bf16, ..room(2_000 * MIB) };
        let text = refused(&recomputed);
        assert!(text.contains("recomputing activations, and") && !text.contains("bf16"), "{text}");
        assert!(text.contains("use cliques_per_batch = 9 at most, or shorter lengths_s"), "{text}");
    }

    #[test]
    fn a_step_that_ran_out_of_memory_names_a_smaller_batch() {
        // It was foretold to fit.
        let text = room(6_500 * MIB).ran_out();
        for part in ["needs about 6.25 GiB on cuda:0", "6.35 GiB were free", "cliques_per_batch = 12 at most"]
        {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(text.contains("recompute_activations = true (about 2.50 GiB"), "{text}");
    }

    #[test]
    fn other_errors_are_left_as_they_are() {
        let error = room(5_000 * MIB).explain(anyhow::anyhow!("the disk is full"));
        assert_eq!(format!("{error:#}"), "the disk is full");
    }
}
