//! The backend for NVIDIA GPUs. Operators call bc-cuda, whose images are (batch, height, width, channels) in the run's
//! precision. Matrices of the head (pooled, f_t, f_c, logits) have 32 bits. Several processes exchange gradients and the
//! statistics of norms between their devices if these are connected ([`Link`]), and otherwise through the host's memory.
//!
//! Only operators that return numbers wait for the device. Small or rare operations, which bc-cuda does not have, are computed
//! on the host; a comment at the operator says so.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use bc_cuda::{
    Adam, AdamSettings, Buffer, Convolution, Element, Gpu, Image, Linear, MaxMeanSaved, MaxPoolSaved,
    NormSaved, Padding, Runs, State, Step, Uploader, WeightCopies,
};

use super::{
    Activation, AdamRange, AdamState, AdamUpdate, Array, BackwardPass, Conv, Epilogue, Flat, Norm, Operators,
    Saved, Shape, TrainPass, Upload, Weights,
};
use crate::loss::Triplets;
use crate::parameters::{Entry, Parameter, Parameters};
use crate::peers::Peers;

/// A connection to the devices of other processes that does not pass through the host's memory.
pub(super) type Link = Box<dyn bc_cuda::Peers + Send + Sync>;

/// A GPU, or the emulated device, as a backend.
pub(super) struct Cuda {
    // Dropped first: queued operations may wait for processes that have ended, and memory is freed after them.
    link: Option<Link>,
    uploader: Uploader,
    gpu: Gpu,
    /// The optimiser's tables, which its first step creates.
    optimizer: Mutex<Option<Optimizer>>,
}

struct Optimizer {
    settings: AdamSettings,
    sizes: Vec<(usize, bool)>,
    adam: Adam,
    state: State,
}

/// Flat memory, and copies of the weights in it in the layout of the convolutions.
struct Memory {
    values: Buffer<f32>,
    copies: Option<(Runs, WeightCopies)>,
}

fn on_device(shape: Shape) -> bc_cuda::Shape {
    let [channels, batch, height, width] = shape;
    bc_cuda::Shape::new(channels, batch, height, width)
}

fn array(image: Image) -> Array {
    let bc_cuda::Shape { batch, height, width, channels } = image.shape();
    Array::new([channels, batch, height, width], image)
}

fn image(x: &Array) -> Result<Image> {
    Ok(x.data::<Image>()?.reshape(on_device(x.shape())))
}

/// Returns the image of an array that is no longer needed: it may be overwritten if it is not shared.
fn owned(x: Array) -> Result<Image> {
    let shape = on_device(x.shape());
    let found = x.into_data::<Image>()?;
    Ok(found.reshape(shape))
}

fn memory(flat: &Flat) -> Result<&Memory> {
    flat.data()
}

fn buffer(parameters: &Parameters) -> Result<&Buffer<f32>> {
    Ok(&memory(parameters.flat())?.values)
}

fn copies(parameters: &Parameters) -> Result<&WeightCopies> {
    let copies = memory(parameters.flat())?.copies.as_ref();
    copies.map(|(_, copies)| copies).context("weights without copies")
}

/// Returns the offset of a parameter in flat memory.
fn start(parameters: &Parameters, parameter: Parameter) -> usize {
    parameters.entry(parameter).range.start
}

/// A weight of a convolution or of a linear layer, as bc-cuda describes it.
enum Kind {
    Conv(Convolution),
    Linear(Linear),
}

fn kind(parameters: &Parameters, conv: &Conv) -> Result<Kind> {
    let entry = parameters.entry(conv.weight);
    Ok(match entry.shape[..] {
        [outputs, inputs] => Kind::Linear(Linear { inputs, outputs, weight: entry.range.start }),
        [outputs, inputs, height, width] => {
            let [rows, columns] = conv.geometry.padding;
            let padding = Padding { ring: conv.geometry.ring, ..Padding::symmetric(rows, columns) };
            let (kernel, stride) = ([height, width], conv.geometry.stride);
            Kind::Conv(Convolution { inputs, outputs, kernel, stride, padding })
        }
        _ => bail!("{:?} is not the shape of a convolution's weights", entry.shape),
    })
}

/// Returns offset and convolution of a weight that has a copy, which matrices and kernels have; `None` for others.
fn convolution(entry: &Entry) -> Option<(usize, Convolution)> {
    let (outputs, inputs, kernel) = match entry.shape[..] {
        [outputs, inputs] => (outputs, inputs, [1, 1]),
        [outputs, inputs, height, width] => (outputs, inputs, [height, width]),
        _ => return None,
    };
    let padding = Padding::default();
    Some((entry.range.start, Convolution { inputs, outputs, kernel, stride: [1, 1], padding }))
}

fn norm_of(parameters: &Parameters, running: &Parameters, norm: &Norm) -> bc_cuda::Norm {
    let rest = parameters.entry(norm.batch_affine[0]).range.len();
    let at = |pair: [Parameter; 2]| pair.map(|parameter| start(parameters, parameter));
    bc_cuda::Norm {
        channels: norm.instance + rest,
        instance: norm.instance,
        instance_at: norm.instance_affine.map_or([0; 2], at),
        batch_at: at(norm.batch_affine),
        bias_at: norm.bias.map(|bias| start(parameters, bias)),
        running_at: norm.running.map(|parameter| start(running, parameter)),
    }
}

fn activation(epilogue: Epilogue<'_>) -> bc_cuda::Activation {
    match epilogue.activation {
        Activation::Identity => bc_cuda::Activation::Identity,
        Activation::Relu => bc_cuda::Activation::Relu,
    }
}

/// Exchanges the statistics of norms through the host's memory, for devices that are not connected.
struct HostExchange<'a>(&'a dyn Peers);

fn of_peers(error: anyhow::Error) -> bc_cuda::Error {
    bc_cuda::Error::Peers(error.into())
}

impl HostExchange<'_> {
    fn read(gpu: &Gpu, values: &Buffer<f32>) -> bc_cuda::Result<Vec<f64>> {
        Ok(gpu.read(values, 0, values.len())?.into_iter().map(f64::from).collect())
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

impl bc_cuda::Peers for HostExchange<'_> {
    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> bc_cuda::Result<Buffer<f32>> {
        let all = self.0.gather(&Self::read(gpu, own)?).map_err(of_peers)?;
        gpu.upload(&narrow(&all))
    }

    fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> bc_cuda::Result<()> {
        let mut sums = Self::read(gpu, values)?;
        self.0.sum(&mut sums).map_err(of_peers)?;
        gpu.write(values, 0, &narrow(&sums))
    }
}

/// The exchange of a process without a share of the batch, whose values must not count.
struct IdleExchange<'a>(&'a Link);

impl bc_cuda::Peers for IdleExchange<'_> {
    fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> bc_cuda::Result<Buffer<f32>> {
        self.0.gather(gpu, &gpu.zeros(own.len())?)
    }

    fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> bc_cuda::Result<()> {
        gpu.clear(values)?;
        self.0.sum(gpu, values)
    }
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the sizes of all parameters and of the gaps between them (which have no gradient) for bc-cuda's table, each with
/// whether weight decay applies, and which of them have a gradient.
fn sizes(ranges: &[AdamRange], len: usize) -> (Vec<(usize, bool)>, Vec<bool>) {
    let (mut sizes, mut active, mut end) = (Vec::new(), Vec::new(), 0);
    for AdamRange { range, decayed, written } in ranges {
        sizes.extend([(range.start - end, false), (range.len(), *decayed)]);
        active.extend([false, *written]);
        end = range.end;
    }
    sizes.push((len - end, false));
    active.push(false);
    (sizes, active)
}

impl Cuda {
    /// Creates the backend of a device; `link` connects it with the devices of other processes.
    pub fn new(gpu: Gpu, link: Option<Link>) -> Self {
        Self { link, uploader: Uploader::new(&gpu), gpu, optimizer: Mutex::default() }
    }

    /// Calls `work` with the exchange by which norms share the statistics of a batch, if there are peers.
    fn with_peers<T>(
        &self,
        peers: Option<&dyn Peers>,
        work: impl FnOnce(Option<&dyn bc_cuda::Peers>) -> bc_cuda::Result<T>,
    ) -> Result<T> {
        Ok(match (peers, &self.link) {
            (None, _) => work(None),
            (Some(peers), None) => work(Some(&HostExchange(peers))),
            (Some(peers), Some(link)) if peers.is_idle() => work(Some(&IdleExchange(link))),
            (Some(_), Some(link)) => work(Some(&**link)),
        }?)
    }

    /// Calls `write` with the memory of all gradients and the offset of this parameter's. Every pass adds to the values,
    /// because gradients are set to zero when they are cleared.
    fn add_gradient<T>(
        &self,
        pass: &mut BackwardPass<'_>,
        parameter: Parameter,
        write: impl FnOnce(&mut Buffer<f32>, usize) -> Result<T>,
    ) -> Result<T> {
        pass.gradients
            .write(parameter, |flat, places, _| write(&mut flat.data_mut::<Memory>()?.values, places.start))
    }
}

impl Operators for Cuda {
    fn describe(&self) -> String {
        self.gpu.name()
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        let ([free, _], usage) = (self.gpu.memory()?, self.gpu.usage());
        Ok(Some(free + usage.held - usage.used))
    }

    fn send(&self, values: &[f32], [batch, height, width]: [usize; 3]) -> Result<Upload> {
        let shape = bc_cuda::Shape::new(1, batch, height, width);
        Ok(Upload::new(self.uploader.send(values, shape)?))
    }

    fn receive(&self, upload: Upload, parts: usize) -> Result<Vec<Array>> {
        let images = self.uploader.receive(upload.into_data()?, parts, self.gpu.element())?;
        Ok(images.into_iter().map(array).collect())
    }

    fn matrix(&self, rows: &[f32], channels: usize) -> Result<Array> {
        ensure!(channels > 0 && rows.len().is_multiple_of(channels), "{} values in rows", rows.len());
        let shape = bc_cuda::Shape::matrix(rows.len() / channels, channels);
        Ok(array(self.gpu.upload_image(rows, shape, Element::F32)?))
    }

    fn rows(&self, x: &Array) -> Result<Vec<f32>> {
        Ok(self.gpu.read_image(&image(x)?)?)
    }

    fn join(&self, parts: &[&Array]) -> Result<Array> {
        if let [one] = parts {
            return Ok((*one).clone());
        }
        let images = parts.iter().map(|part| image(part)).collect::<Result<Vec<_>>>()?;
        Ok(array(self.gpu.join(&images.iter().collect::<Vec<_>>())?))
    }

    fn part(&self, x: &Array, first: usize, count: usize) -> Result<Array> {
        if (first, count) == (0, x.shape()[1]) {
            return Ok(x.clone());
        }
        Ok(array(self.gpu.part(&image(x)?, first, count)?))
    }

    fn flat(&self, values: Vec<f32>) -> Result<Flat> {
        Ok(Flat::new(Memory { values: self.gpu.upload(&values)?, copies: None }))
    }

    fn read(&self, flat: &Flat, places: Range<usize>) -> Result<Vec<f32>> {
        Ok(self.gpu.read(&memory(flat)?.values, places.start, places.len())?)
    }

    fn write(&self, flat: &mut Flat, from: usize, values: &[f32], add: bool) -> Result<()> {
        let to = &mut flat.data_mut::<Memory>()?.values;
        let written =
            if add { self.gpu.add_values(to, from, values) } else { self.gpu.write(to, from, values) };
        Ok(written?)
    }

    fn discard_gradients(&self, gradients: &mut Flat) -> Result<()> {
        Ok(self.gpu.clear(&mut gradients.data_mut::<Memory>()?.values)?)
    }

    fn host<'a>(&self, _flat: &'a Flat) -> Option<&'a [f32]> {
        None
    }

    fn refresh(&self, weights: &mut Parameters) -> Result<()> {
        let layout = weights.layout().clone();
        let Memory { values, copies } = weights.flat_mut().data_mut()?;
        if copies.is_none() {
            let table: Vec<_> = layout.entries().iter().filter_map(convolution).collect();
            if table.is_empty() {
                return Ok(());
            }
            *copies = Some((self.gpu.runs(&table)?, self.gpu.weight_copies(layout.len())?));
        }
        if let Some((runs, copies)) = copies {
            self.gpu.refresh_weights(runs, values, copies)?;
        }
        Ok(())
    }

    fn sum_over_devices(&self, flat: &mut Flat) -> Result<bool> {
        let Some(link) = &self.link else { return Ok(false) };
        link.sum(&self.gpu, &mut flat.data_mut::<Memory>()?.values)?;
        Ok(true)
    }

    fn conv(&self, x: &Array, parameters: &Parameters, conv: &Conv) -> Result<Array> {
        let (x, copies) = (image(x)?, copies(parameters)?);
        Ok(array(match kind(parameters, conv)? {
            Kind::Linear(layer) => self.gpu.linear(&x, copies, &layer, Element::F32)?,
            Kind::Conv(sizes) => self.gpu.conv(&x, copies, start(parameters, conv.weight), &sizes)?,
        }))
    }

    fn conv_input_gradient(
        &self,
        dy: &Array,
        parameters: &Parameters,
        conv: &Conv,
        x: Shape,
        add_to: Option<Array>,
    ) -> Result<Array> {
        let (dy, copies, add_to) = (image(dy)?, copies(parameters)?, add_to.map(owned).transpose()?);
        Ok(array(match kind(parameters, conv)? {
            Kind::Linear(layer) => {
                self.gpu.linear_input_gradient(&dy, copies, &layer, Element::F32, add_to)?
            }
            Kind::Conv(sizes) => {
                let weight = start(parameters, conv.weight);
                self.gpu.conv_input_gradient(&dy, copies, weight, &sizes, on_device(x), add_to)?
            }
        }))
    }

    fn conv_weight_gradient(
        &self,
        x: &Array,
        dy: &Array,
        conv: &Conv,
        pass: &mut BackwardPass<'_>,
    ) -> Result<()> {
        let (x, dy, kind) = (image(x)?, image(dy)?, kind(pass.parameters, conv)?);
        self.add_gradient(pass, conv.weight, |gradients, at| {
            match kind {
                Kind::Linear(layer) => self.gpu.linear_weight_gradient(&x, &dy, &layer, gradients)?,
                Kind::Conv(sizes) => self.gpu.conv_weight_gradient(&x, &dy, &sizes, gradients, at)?,
            }
            Ok(())
        })
    }

    fn conv_norm(
        &self,
        x: &Array,
        weights: Weights<'_>,
        conv: &Conv,
        norm: &Norm,
        epilogue: Epilogue<'_>,
    ) -> Result<Array> {
        self.norm(&self.conv(x, weights.parameters, conv)?, weights, norm, epilogue)
    }

    fn norm(&self, x: &Array, weights: Weights<'_>, norm: &Norm, epilogue: Epilogue<'_>) -> Result<Array> {
        let shortcut = epilogue.shortcut.map(image).transpose()?;
        let epilogue = bc_cuda::Epilogue { activation: activation(epilogue), shortcut: shortcut.as_ref() };
        let norm = norm_of(weights.parameters, weights.running, norm);
        let (parameters, running) = (buffer(weights.parameters)?, buffer(weights.running)?);
        Ok(array(self.gpu.norm_eval(&norm, &image(x)?, parameters, running, epilogue)?))
    }

    fn norm_train(
        &self,
        x: &Array,
        pass: &mut TrainPass<'_>,
        norm: &Norm,
        epilogue: Epilogue<'_>,
    ) -> Result<(Array, Saved)> {
        let shortcut = epilogue.shortcut.map(image).transpose()?;
        let epilogue = bc_cuda::Epilogue { activation: activation(epilogue), shortcut: shortcut.as_ref() };
        let norm = norm_of(pass.parameters, pass.running, norm);
        let running = &mut pass.running.flat_mut().data_mut::<Memory>()?.values;
        let (x, parameters) = (image(x)?, buffer(pass.parameters)?);
        let (y, saved) = self.with_peers(pass.peers, |peers| {
            self.gpu.norm_train(&norm, &x, parameters, running, epilogue, peers)
        })?;
        Ok((array(y), Saved::new(saved)))
    }

    fn norm_backward(
        &self,
        saved: &Saved,
        x: &Array,
        dy: Array,
        y: Option<&Array>,
        norm: &Norm,
        pass: &mut BackwardPass<'_>,
    ) -> Result<(Array, Option<Array>)> {
        let (x, y, dy) = (image(x)?, y.map(image).transpose()?, owned(dy)?);
        let (saved, peers) = (saved.get::<NormSaved>()?, pass.peers);
        let found = self.add_gradient(pass, norm.batch_affine[0], |gradients, _| {
            self.with_peers(peers, |peers| {
                self.gpu.norm_backward(saved, &x, dy, y.as_ref(), gradients, peers)
            })
        })?;
        // The same call wrote these; a bias has no gradient, because normalisation cancels a constant.
        let others =
            norm.instance_affine.into_iter().flatten().chain([norm.batch_affine[1]]).chain(norm.bias);
        for parameter in others {
            self.add_gradient(pass, parameter, |_, _| Ok(()))?;
        }
        Ok((array(found.dx), found.shortcut.map(array)))
    }

    fn max_pool(&self, x: &Array) -> Result<(Array, Saved)> {
        let (y, saved) = self.gpu.max_pool(&image(x)?)?;
        Ok((array(y), Saved::new(saved)))
    }

    fn max_pool_backward(&self, dy: &Array, saved: &Saved) -> Result<Array> {
        Ok(array(self.gpu.max_pool_gradient(&image(dy)?, saved.get::<MaxPoolSaved>()?)?))
    }

    fn gem(&self, x: &Array, parameters: &Parameters, p: Parameter) -> Result<Array> {
        Ok(array(self.gpu.gem(&image(x)?, buffer(parameters)?, start(parameters, p))?))
    }

    fn gem_backward(
        &self,
        x: &Array,
        y: &Array,
        dy: &Array,
        p: Parameter,
        pass: &mut BackwardPass<'_>,
    ) -> Result<Array> {
        let (x, y, dy) = (image(x)?, image(y)?, image(dy)?);
        let parameters = pass.parameters;
        let dx = self.add_gradient(pass, p, |gradients, at| {
            Ok(self.gpu.gem_gradient(&x, [&y, &dy], buffer(parameters)?, at, gradients)?)
        })?;
        Ok(array(dx))
    }

    fn max_mean(&self, x: &Array, groups: usize) -> Result<(Array, Saved)> {
        let (y, saved) = self.gpu.max_mean(&image(x)?, groups)?;
        Ok((array(y), Saved::new(saved)))
    }

    fn max_mean_backward(&self, dy: &Array, saved: &Saved) -> Result<Array> {
        Ok(array(self.gpu.max_mean_gradient(&image(dy)?, saved.get::<MaxMeanSaved>()?)?))
    }

    fn time_mean(&self, x: &Array, stride: usize) -> Result<Array> {
        Ok(array(self.gpu.time_mean(&image(x)?, stride)?))
    }

    fn time_mean_backward(&self, dy: &Array, x: Shape, stride: usize) -> Result<Array> {
        Ok(array(self.gpu.time_mean_gradient(&image(dy)?, on_device(x), stride)?))
    }

    fn add(&self, a: Array, b: &Array) -> Result<Array> {
        Ok(array(self.gpu.add(owned(a)?, &image(b)?)?))
    }

    fn cross_entropy(
        &self,
        logits: &Array,
        labels: &[u32],
        smoothing: f64,
        weight: f64,
    ) -> Result<(Array, Array)> {
        let (classes, counted) = (logits.shape()[0], labels.len());
        ensure!(
            counted > 0 && labels.iter().all(|label| (*label as usize) < classes),
            "{counted} labels of {classes} classes"
        );
        let labels: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
        let labels = self.gpu.upload(&labels)?;
        let (loss, gradient) =
            self.gpu.cross_entropy(&image(logits)?, &labels, smoothing as f32, weight as f32)?;
        Ok((array(loss), array(gradient)))
    }

    fn triplet_margin(
        &self,
        x: &Array,
        triplets: Triplets<'_>,
        margin: f64,
        weight: f64,
    ) -> Result<(Array, Array)> {
        let (x, batch) = (image(x)?, x.shape()[1]);
        let Triplets { anchors, positives, negatives } = triplets;
        ensure!(
            !anchors.is_empty() && positives.len() == anchors.len() && negatives.len() == anchors.len(),
            "lists of triplets of different lengths, or none"
        );
        let chosen: Vec<[u32; 3]> =
            (0..anchors.len()).map(|i| [anchors[i], positives[i], negatives[i]]).collect();
        let triplets = self.gpu.triplets(batch, &chosen)?;
        let [_, apart] = self.gpu.distances(&x)?;
        let (loss, gradient) =
            self.gpu.triplet_margin(&x, &apart, &triplets, margin as f32, weight as f32)?;
        Ok((array(loss), array(gradient)))
    }

    /// Copies x to the host, and computes the distances there.
    fn squared_distances(&self, x: &Array) -> Result<Vec<f32>> {
        let [squared, _] = self.gpu.distances(&image(x)?)?;
        Ok(self.gpu.read(&squared, 0, squared.len())?)
    }

    /// Computes the norm on the host. (Training takes the norm that [`Operators::adam`] returns.)
    fn euclidean_norm(&self, flat: &Flat, places: &[Range<usize>]) -> Result<f64> {
        let values = self.read(flat, 0..memory(flat)?.values.len())?;
        let squares = places.iter().flat_map(|places| &values[places.clone()]).map(|x| f64::from(*x).powi(2));
        Ok(squares.sum::<f64>().sqrt())
    }

    fn adam(&self, state: AdamState<'_>, ranges: &[AdamRange], update: &AdamUpdate) -> Result<f64> {
        let AdamState { weights, moments: [first, second], gradients } = state;
        let weights = &mut weights.data_mut::<Memory>()?.values;
        let (sizes, active) = sizes(ranges, weights.len());
        let crate::optim::AdamSettings { betas, epsilon, weight_decay, decoupled, .. } = update.settings;
        let settings = AdamSettings { betas, epsilon, weight_decay, decoupled };
        let mut kept = lock(&self.optimizer);
        let mut optimizer = match kept.take() {
            Some(optimizer) if optimizer.sizes == sizes && optimizer.settings == settings => optimizer,
            _ => {
                let adam = self.gpu.adam(settings, &sizes)?;
                Optimizer { settings, sizes, state: self.gpu.adam_state()?, adam }
            }
        };
        let Optimizer { adam, state, .. } = &mut optimizer;
        self.gpu.set_active(adam, &active)?;
        self.gpu.write(&mut state.steps, 0, &[(update.number - 1) as f64])?;
        let (first, second) = (first.data_mut::<Memory>()?, second.data_mut::<Memory>()?);
        let moments = [&mut first.values, &mut second.values];
        let (mean, most) = (update.clipping.gradient_scale as f32, update.clipping.max_norm as f32);
        let step = Step { mean, most, rate: update.rate };
        self.gpu.adam_step(adam, state, moments, weights, &memory(gradients)?.values, &step)?;
        let norm = self.gpu.read(state.norm(), 0, 1)?;
        *kept = Some(optimizer);
        Ok(norm.first().map_or(f64::NAN, |norm| f64::from(*norm)))
    }

    fn average(&self, average: &mut Flat, values: &Flat, decay: f64) -> Result<()> {
        let kept = lock(&self.optimizer);
        let state = &kept.as_ref().context("an average before the first step")?.state;
        let average = &mut average.data_mut::<Memory>()?.values;
        Ok(self.gpu.average(average, &memory(values)?.values, state, decay as f32)?)
    }
}
