//! Processes that share a batch on devices, connected or by way of the host: losses of one process within 1e-5, and the same
//! bits among themselves; batches that travel early.

use std::ops::Range;
use std::sync::Arc;

use bc_cuda::{Buffer, Gpu};
use bc_formats::config::{ModelConfig, NetworkKind};
use bc_nn::backend::Clipping;
use bc_nn::optim::Adam;
use bc_nn::{Backend, Gradients, HeadOutputs, Network, NetworkSettings};
use bc_ranks::{Ranks, Values};

use super::{ADAM, BATCH, gpus, values};

/// What carries values of norms between processes, for backends that are not connected.
struct Host {
    ranks: Ranks,
    silent: bool,
}

impl bc_nn::Peers for Host {
    fn gather(&self, own: &[f64]) -> anyhow::Result<Vec<f64>> {
        let own = if self.silent { vec![0.0; own.len()] } else { own.to_vec() };
        self.ranks.gather(&own, &vec![own.len(); self.ranks.size()])
    }

    fn sum(&self, values: &mut [f64]) -> anyhow::Result<()> {
        if self.silent {
            values.fill(0.0);
        }
        self.ranks.sum(Values::F64(values))
    }

    fn is_idle(&self) -> bool {
        self.silent
    }
}

/// In the place of NCCL: devices that exchange values by themselves, as a backend sees it.
struct Connected(Ranks);

impl bc_cuda::Peers for Connected {
    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> bc_cuda::Result<Buffer<f32>> {
        let own = gpu.read(own, 0, own.len())?;
        let all = self.0.gather(&own, &vec![own.len(); self.0.size()]);
        gpu.upload(&all.map_err(|error| bc_cuda::Error::Peers(error.into()))?)
    }

    fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> bc_cuda::Result<()> {
        let (all, places) = (self.gather(gpu, values)?, 0..values.len());
        gpu.sum_in_order(&all, values, places)
    }
}

type Link = Box<dyn bc_cuda::Peers + Send + Sync>;

/// One process among those that train a network on one batch: its samples, none if it is silent.
struct Process {
    backend: Backend,
    ranks: Ranks,
    samples: Range<usize>,
}

impl Process {
    /// Losses of some steps, of the whole batch, and the weights afterwards.
    fn train(&self, settings: &NetworkSettings) -> (Vec<f64>, Vec<Vec<f32>>) {
        let Self { backend, ranks, samples } = self;
        let silent = samples.is_empty();
        // A silent one computes something, for the norms of the others need it.
        let own = if silent { 0..1 } else { samples.clone() };
        let host = Host { ranks: ranks.channel(true).unwrap(), silent };
        let peers = (!ranks.is_alone()).then(|| Arc::new(host) as Arc<dyn bc_nn::Peers>);
        let mut network = Network::with_peers(settings, 3, backend, peers).unwrap();
        let mut adam = Adam::new(network.parameters(), ADAM).unwrap();
        let mut gradients = Gradients::new(network.parameters()).unwrap();
        let mut losses = Vec::new();
        let sample = settings.bins() * 41;
        for step in 0..3 {
            let all = values(BATCH * sample, 10 + step);
            let size = [own.len(), settings.bins(), 41];
            let x = network.images(&all[own.start * sample..own.end * sample], size).unwrap();
            let pass = network.forward_train_images(&x).unwrap();
            let labels: Vec<u32> = own.clone().map(|sample| sample as u32 % 5).collect();
            let share = samples.len() as f64 / BATCH as f64;
            let logits = pass.outputs().logits.clone().unwrap();
            let (loss, of) = backend.cross_entropy(&logits, &labels, 0.1, share).unwrap();
            let mut nothing = Gradients::new(network.parameters()).unwrap();
            gradients.clear().unwrap();
            let to = if silent { &mut nothing } else { &mut gradients };
            pass.backward(&network, HeadOutputs { f_t: None, f_c: None, logits: Some(of) }, to).unwrap();
            let mut sum = [share * f64::from(backend.rows(&loss).unwrap()[0])];
            ranks.sum(Values::F64(&mut sum)).unwrap();
            losses.push(sum[0]);
            self.sum(&mut gradients);
            let clipping = Clipping { gradient_scale: 1.0, max_norm: 1.0 };
            adam.step(network.parameters_mut(), &gradients, clipping, 1e-3).unwrap();
        }
        let weights = network.tensors().unwrap().into_iter();
        (losses, weights.map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect())
    }

    fn sum(&self, gradients: &mut Gradients) {
        let written = self.ranks.any([gradients.written().contains(&true)]).unwrap();
        let (all, len) = (vec![written[0]; gradients.written().len()], gradients.flat().0.len());
        gradients
            .sum(&all, |backend, flat| {
                if !backend.sum_over_devices(flat)? {
                    let mut values = backend.read(flat, 0..len)?;
                    self.ranks.sum(Values::F32(&mut values))?;
                    backend.write(flat, 0, &values, false)?;
                }
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn processes_that_share_a_batch_train_the_same_network_as_one() {
    let sizes = ModelConfig { width: 8, blocks: [1, 1, 1, 1], projection: 24, ..ModelConfig::default() };
    let ring = ModelConfig { kind: NetworkKind::Ring, ..sizes.clone() };
    for (name, model, bins) in [("plain", &sizes, 20), ("ring", &ring, 12)] {
        let settings = NetworkSettings::from_config(model, bins, 5);
        for gpus in gpus("f32", 4) {
            let (ours, gpus) = gpus.split_first().unwrap();
            let backend = Backend::on_device(ours.clone(), None);
            let (one, _) = Process { backend, ranks: Ranks::alone(), samples: 0..BATCH }.train(&settings);
            // Uneven shares; then with a third process that has none; each by way of the host, and connected.
            let mut before: Option<Vec<Vec<f32>>> = None;
            for (samples, connected) in [
                (vec![0..4, 4..BATCH], false),
                (vec![0..4, 4..BATCH], true),
                (vec![0..4, 4..BATCH, 0..0], false),
                (vec![0..4, 4..BATCH, 0..0], true),
            ] {
                let processes = bc_ranks::threads(samples.len()).into_iter().zip(samples).zip(gpus);
                let processes = processes.map(|((ranks, samples), gpu)| {
                    let link = connected.then(|| Box::new(Connected(ranks.channel(true).unwrap())) as Link);
                    Process { backend: Backend::on_device(gpu.clone(), link), ranks, samples }
                });
                let processes: Vec<Process> = processes.collect();
                let trained: Vec<_> = std::thread::scope(|scope| {
                    let settings = &settings;
                    let started: Vec<_> = processes
                        .into_iter()
                        .map(|process| scope.spawn(move || process.train(settings)))
                        .collect();
                    started.into_iter().map(|process| process.join().unwrap()).collect()
                });
                for (losses, weights) in &trained {
                    for (loss, of_one) in losses.iter().zip(&one) {
                        let apart = (loss - of_one).abs() / of_one;
                        assert!(apart < 1e-5, "{name}: {losses:?} and not {one:?}");
                    }
                    // The same bits in every process, and however values travel.
                    let before = before.get_or_insert_with(|| weights.clone());
                    assert!(before == weights, "{name}: the weights of {} processes differ", trained.len());
                }
                let worst = trained[0].0.iter().zip(&one).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
                println!("{name}: {} processes, connected: {connected}: {worst:.1e} from one", trained.len());
            }
        }
    }
}

#[test]
fn a_process_that_ends_is_named_by_the_others() {
    let model =
        ModelConfig { kind: NetworkKind::Ring, width: 8, blocks: [1, 1, 1, 1], ..ModelConfig::default() };
    let settings = NetworkSettings::from_config(&model, 12, 5);
    for gpu in gpus("f32", 1).into_iter().flatten() {
        let mut ranks = bc_ranks::threads(2);
        let ended = ranks.pop();
        let host = Arc::new(Host { ranks: ranks.remove(0), silent: false });
        let backend = Backend::on_device(gpu, None);
        let mut network = Network::with_peers(&settings, 3, &backend, Some(host)).unwrap();
        let images = network.images(&values(BATCH * 12 * 41, 1), [BATCH, 12, 41]).unwrap();
        drop(ended);
        let error = network.forward_train_images(&images).err().expect("there is nobody to exchange with");
        assert!(format!("{error:#}").contains("rank 1 of 2 has ended"), "{error:#}");
    }
}

/// A batch that was sent before a step began is the one that arrives, and in parts.
#[test]
fn a_batch_that_travels_early_is_the_same() {
    let model =
        ModelConfig { kind: NetworkKind::Ring, width: 8, blocks: [1, 1, 1, 1], ..ModelConfig::default() };
    let settings = NetworkSettings::from_config(&model, 12, 5);
    let on_devices = gpus("bf16", 1).into_iter().flatten().map(|gpu| Backend::on_device(gpu, None));
    for backend in on_devices.chain([Backend::cpu()]) {
        let mut network = Network::new(&settings, 3, &backend).unwrap();
        let (size, count) = ([BATCH, 12, 41], BATCH * 12 * 41);
        let mut outputs = |images: &bc_nn::Images| {
            backend.rows(&network.forward_train_images(images).unwrap().outputs().f_c).unwrap()
        };
        let straight: Vec<Vec<f32>> = {
            let network = Network::new(&settings, 3, &backend).unwrap();
            (0..4).map(|step| outputs(&network.images(&values(count, step), size).unwrap())).collect()
        };
        let sender = Network::new(&settings, 3, &backend).unwrap();
        let mut next = sender.send(&values(count, 0), size).unwrap();
        for (step, straight) in (0..).zip(&straight) {
            let later = sender.send(&values(count, step + 1), size).unwrap();
            let images = sender.receive(std::mem::replace(&mut next, later), 1).unwrap();
            assert!(outputs(&images[0]) == *straight, "step {step}");
        }
        let parts = sender.receive(sender.send(&values(count, 0), size).unwrap(), 3).unwrap();
        let third = count / 3;
        for (number, part) in parts.iter().enumerate() {
            let straight = &values(count, 0)[number * third..][..third];
            let straight = outputs(&sender.images(straight, [BATCH / 3, 12, 41]).unwrap());
            assert!(outputs(part) == straight, "part {number}");
        }
    }
}
