//! Operators on a device against bc-nn's on the CPU; the same checks serve the kernels on CPU threads and a GPU.
//!
//! Tolerances are relative to the largest value of the expected result. In 32 bits 1e-5: sums of some thousand values in
//! another order. In bf16 inputs are rounded to it first, so that both sides get the same, and results are rounded once:
//! half a unit of 8 bits is 2^-9 = 2e-3 of the value itself; what adds up such values is given 4e-3 or 1e-2.
#![allow(dead_code)]

use bc_cuda::{
    Activation, Adam, AdamSettings, Buffer, Convolution, Element, Epilogue, Gpu, Image, Linear, Norm,
    Padding, Precision, Shape, Step, Uploader, channels_first, channels_last,
};
use bc_nn::backend::cpu::norm::{Source, Statistics, norm, norm_gradient};
use bc_nn::backend::cpu::{conv2d, gem, max_mean, max_pool, time_mean};
use bc_nn::backend::geometry::Geometry;
use bc_nn::backend::{self, Array};
use bc_nn::loss::{Loss, Rows, cross_entropy_smoothed, triplet_margin};
use candle_core::{Device, Tensor};

/// Values between -1 and 1 without ties, the same at every call.
pub fn values(count: usize, seed: u32) -> Vec<f32> {
    let mix = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8;
    (0..count as u32).map(|n| mix(n ^ seed << 24) as f32 / 8_388_608.0 - 1.0).collect()
}

fn rounded(values: Vec<f32>, element: Element) -> Vec<f32> {
    match element {
        Element::F32 => values,
        Element::Bf16 => values.into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect(),
    }
}

/// An array of the CPU (channels first) and the same on the device.
fn both(gpu: &Gpu, values: Vec<f32>, shape: Shape, element: Element) -> (Array, Image) {
    let values = rounded(values, element);
    let image = gpu.upload_image(&channels_last(&values, shape), shape, element).unwrap();
    let Shape { batch, height, width, channels } = shape;
    (Array::new([channels, batch, height, width], values), image)
}

fn drawn(gpu: &Gpu, shape: Shape, element: Element, seed: u32) -> (Array, Image) {
    both(gpu, values(shape.count(), seed), shape, element)
}

fn flat(x: &Array) -> Vec<f32> {
    x.data::<Vec<f32>>().unwrap().clone()
}

/// The values of a matrix of candle.
fn of_matrix(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The values of an image, channels first.
fn read(gpu: &Gpu, image: &Image) -> Vec<f32> {
    channels_first(&gpu.read_image(image).unwrap(), image.shape())
}

fn all(gpu: &Gpu, buffer: &Buffer<f32>) -> Vec<f32> {
    gpu.read(buffer, 0, buffer.len()).unwrap()
}

#[track_caller]
pub fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}, value {index}: {found} and not {expected} ({error:.1e} of {scale})"
        );
    }
}

fn tolerance(element: Element) -> f32 {
    if element == Element::F32 { 1e-5 } else { 4e-3 }
}

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

/// Shapes of the networks (at a small batch), odd lengths, channels that are no multiple of a pack or a block.
const SHAPES: [Shape; 6] = [
    Shape::new(64, 3, 42, 27),
    Shape::new(256, 2, 11, 14),
    Shape::new(2048, 2, 3, 7),
    Shape::new(12, 4, 12, 33),
    Shape::new(37, 3, 5, 13),
    // The head's; with two values a channel the gradient of a norm would be what rounding leaves of zero, on either side.
    Shape::new(520, 6, 1, 1),
];

pub fn conversions(gpu: &Gpu) {
    // Ties to even, overflow to infinity, what is not a number, the smallest numbers.
    let mut hard: Vec<f32> =
        [0x3f80_8000u32, 0x3f81_8000, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 0x7f80_0001, 0x0000_8000]
            .map(f32::from_bits)
            .to_vec();
    hard.extend(values(5000, 1).iter().map(|x| x * 1e3));
    let shape = Shape::matrix(1, hard.len());
    let image = gpu.upload_image(&hard, shape, Element::F32).unwrap();
    let narrow = gpu.convert(&image, Element::Bf16).unwrap();
    let found = gpu.read_image(&narrow).unwrap();
    for (found, x) in found.iter().zip(&hard) {
        let expected = half::bf16::from_f32(*x).to_f32();
        assert!(
            *found == expected || found.is_nan() && expected.is_nan(),
            "{found} and not {expected} for {x}"
        );
    }
    let wide = gpu.read_image(&gpu.convert(&narrow, Element::F32).unwrap()).unwrap();
    assert!(wide.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan()));
    for element in ELEMENTS {
        let shape = Shape::matrix(7, 1003);
        let (a, b) = (rounded(values(shape.count(), 2), element), rounded(values(shape.count(), 3), element));
        let on = |values: &[f32]| gpu.upload_image(values, shape, element).unwrap();
        let first = on(&a);
        let sum = gpu.add(first.clone(), &on(&b)).unwrap();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        close("sum", &gpu.read_image(&sum).unwrap(), &expected, tolerance(element));
        assert_eq!(gpu.read_image(&first).unwrap(), a, "what others have is not overwritten");
    }
    let shape = Shape::new(3, 5, 2, 2);
    let x = gpu.upload_image(&values(shape.count(), 1), shape, Element::Bf16).unwrap();
    let parts = [gpu.part(&x, 0, 2).unwrap(), gpu.part(&x, 2, 3).unwrap()];
    let joined = gpu.join(&[&parts[0], &parts[1]]).unwrap();
    assert_eq!((gpu.read_image(&joined).unwrap(), joined.shape()), (gpu.read_image(&x).unwrap(), shape));
    assert!(gpu.part(&x, 3, 3).is_err() && gpu.join(&[]).is_err());
    let mut sums = gpu.upload(&[1f32, 2.0, 3.0, 4.0]).unwrap();
    gpu.add_values(&mut sums, 1, &[10.0, 20.0]).unwrap();
    assert_eq!(all(gpu, &sums), [1.0, 12.0, 23.0, 4.0]);
    in_order(gpu);
}

/// Sums over processes have the bits of those on the host: in order, by way of 64 bits.
fn in_order(gpu: &Gpu) {
    let (count, at) = (5000, 7);
    let parts: Vec<Vec<f32>> = (0..3)
        .map(|part| values(count, part).iter().map(|x| x * 10f32.powi(4 - 4 * part as i32)).collect())
        .collect();
    let mut to = gpu.upload(&vec![1f32; at + count + 1]).unwrap();
    gpu.sum_in_order(&gpu.upload(&parts.concat()).unwrap(), &mut to, at..at + count).unwrap();
    let found = all(gpu, &to);
    let sum = |i: usize| parts.iter().map(|part| f64::from(part[i])).sum::<f64>() as f32;
    assert!((0..count).all(|i| found[at + i].to_bits() == sum(i).to_bits()));
    assert_eq!([found[at - 1], found[at + count]], [1.0; 2], "others stay");
    let short = gpu.upload(&parts[0][1..]).unwrap();
    assert!(gpu.sum_in_order(&short, &mut to, 0..count).is_err());
    assert!(gpu.sum_in_order(&short, &mut to, 100..count + 99).is_err());
}

/// A normalisation of the whole table (scale, shift, bias) at scattered places of flat buffers.
struct Flat {
    norm: Norm,
    parameters: Vec<f32>,
    running: Vec<f32>,
    /// Rows of scale, shift, bias: instance norm's channels first.
    table: Vec<f32>,
}

fn layer(channels: usize, instance: usize, bias: bool) -> Flat {
    let rest = channels - instance;
    // In PyTorch's order: bias of the convolution, IN.weight, IN.bias, BN.weight, BN.bias, with something in front.
    let at = |index: usize| 3 + index;
    let norm = Norm {
        channels,
        instance,
        instance_at: [at(channels), at(channels + instance)],
        batch_at: [at(channels + 2 * instance), at(channels + 2 * instance + rest)],
        bias_at: bias.then_some(at(0)),
        running_at: [5, 5 + rest + 2],
    };
    let parameters: Vec<f32> = values(3 + 3 * channels, 7).iter().map(|x| x * 0.5 + 1.0).collect();
    let mut table = Vec::new();
    for row in 0..2 {
        table.extend(&parameters[norm.instance_at[row]..][..instance]);
        table.extend(&parameters[norm.batch_at[row]..][..rest]);
    }
    if bias {
        table.extend(&parameters[at(0)..][..channels]);
    }
    let running: Vec<f32> = values(5 + 2 * rest + 2, 8).iter().map(|x| x * 0.5 + 1.0).collect();
    Flat { norm, parameters, running, table }
}

pub fn norms(gpu: &Gpu) {
    for element in ELEMENTS {
        for shape in SHAPES {
            for (number, instance) in [0, shape.channels / 2, shape.channels].into_iter().enumerate() {
                if shape.positions() == 1 && instance > 0 {
                    continue;
                }
                for (activation, shortcut) in [
                    (Activation::Relu, false),
                    (Activation::Identity, true),
                    (Activation::Relu, true),
                    (Activation::Identity, false),
                ] {
                    // All endings on the first shapes, the common ones on the others.
                    if number == 0 || activation == Activation::Relu || shape.count() < 100_000 {
                        one_norm(gpu, shape, element, instance, activation, shortcut);
                    }
                }
            }
        }
    }
}

fn one_norm(
    gpu: &Gpu,
    shape: Shape,
    element: Element,
    instance: usize,
    activation: Activation,
    shortcut: bool,
) {
    let what =
        format!("norm of {shape}, {element:?}, {instance} instance, {activation:?}, shortcut {shortcut}");
    let relu = if activation == Activation::Relu {
        backend::Activation::Relu
    } else {
        backend::Activation::Identity
    };
    let Flat { norm: layer, parameters, running, table } = layer(shape.channels, instance, shortcut);
    // Means far from zero: what cancels would show.
    let x: Vec<f32> = values(shape.count(), 1).iter().map(|x| x * 0.5 + 8.0).collect();
    let (cpu_x, x) = both(gpu, x, shape, element);
    let (cpu_s, s) = drawn(gpu, shape, element, 2);
    let (s, cpu_s) = if shortcut { (Some(&s), Some(&cpu_s)) } else { (None, None) };
    let end_of_cpu = backend::Epilogue { activation: relu, shortcut: cpu_s };
    let weights = gpu.upload(&parameters).unwrap();
    let mut moved = gpu.upload(&running).unwrap();
    let ending = Epilogue { activation, shortcut: s };
    let (y, saved) = gpu.norm_train(&layer, &x, &weights, &mut moved, ending, None).unwrap();
    let (cpu_y, cpu_saved, statistics) =
        norm(&cpu_x, table.clone(), instance, Source::Batch, end_of_cpu).unwrap();
    close(&what, &read(gpu, &y), &flat(&cpu_y), tolerance(element));

    let mut expected = running.clone();
    let unbiased = statistics.count as f32 / (statistics.count as f32 - 1.0);
    for (index, (mean, variance)) in statistics.mean.iter().zip(&statistics.variance).enumerate() {
        let [m, v] = layer.running_at.map(|at| at + index);
        expected[m] = 0.9 * running[m] + 0.1 * mean;
        expected[v] = 0.9 * running[v] + 0.1 * variance * unbiased;
    }
    close(&format!("{what}: running"), &all(gpu, &moved), &expected, 1e-5);

    let (cpu_dy, dy) = drawn(gpu, shape, element, 3);
    let mut gradients = gpu.upload(&vec![0.25f32; parameters.len()]).unwrap();
    // The mask of y: what bf16 rounds to zero is zero on both sides.
    let (cpu_y, y) = both(gpu, flat(&cpu_y), shape, element);
    let end = shortcut.then_some(&y);
    let ours = gpu.norm_backward(&saved, &x, dy, end, &mut gradients, None).unwrap();
    let theirs = norm_gradient(&cpu_saved, &cpu_x, cpu_dy, shortcut.then_some(&cpu_y), None).unwrap();
    close(&format!("{what}: dx"), &read(gpu, &ours.dx), &flat(&theirs.dx), tolerance(element));
    assert_eq!(ours.shortcut.is_some(), theirs.shortcut.is_some());
    if let (Some(ours), Some(theirs)) = (ours.shortcut, theirs.shortcut) {
        close(&format!("{what}: shortcut"), &read(gpu, &ours), &flat(&theirs), tolerance(element));
    }
    let mut expected = vec![0.25f32; parameters.len()];
    for (row, values) in theirs.rows.chunks(shape.channels).enumerate() {
        for (channel, value) in values.iter().enumerate() {
            let at = if channel < instance {
                layer.instance_at[row] + channel
            } else {
                layer.batch_at[row] + channel - instance
            };
            expected[at] += value;
        }
    }
    // x - mean cancels in 32 bits where means are far from zero, on either side.
    close(&format!("{what}: rows"), &all(gpu, &gradients), &expected, 3e-5);

    let still = gpu.upload(&running).unwrap();
    let y = gpu.norm_eval(&layer, &x, &weights, &still, ending).unwrap();
    let rest = shape.channels - instance;
    let [mean, variance] = layer.running_at.map(|at| running[at..at + rest].to_vec());
    let fixed = Statistics { mean, variance, count: 0 };
    let (cpu_y, ..) = norm(&cpu_x, table, instance, Source::Running(&fixed), end_of_cpu).unwrap();
    close(&format!("{what}: evaluation"), &read(gpu, &y), &flat(&cpu_y), tolerance(element));
    assert_eq!(all(gpu, &still), running, "evaluation moves nothing");
}

/// Two halves of a batch with an exchange give what the whole batch gives.
pub fn norms_with_peers(gpu: &Gpu) {
    use std::cell::RefCell;
    /// The other half's values, which were computed before.
    struct Half(RefCell<Vec<Vec<f32>>>, RefCell<Vec<Vec<f32>>>);
    impl bc_cuda::Peers for Half {
        fn gather(&self, gpu: &Gpu, own: &Buffer<f32>) -> bc_cuda::Result<Buffer<f32>> {
            let own = all(gpu, own);
            self.1.borrow_mut().push(own.clone());
            let other = self.0.borrow_mut().pop().unwrap_or_else(|| own.clone());
            gpu.upload(&[own, other].concat())
        }
        fn sum(&self, gpu: &Gpu, values: &mut Buffer<f32>) -> bc_cuda::Result<()> {
            let own = all(gpu, values);
            self.1.borrow_mut().push(own.clone());
            let other = self.0.borrow_mut().pop().unwrap_or_else(|| vec![0.0; own.len()]);
            let sum: Vec<f32> = own.iter().zip(other).map(|(a, b)| a + b).collect();
            gpu.write(values, 0, &sum)
        }
    }
    let whole = Shape::new(24, 5, 4, 9);
    let parts = [Shape { batch: 2, ..whole }, Shape { batch: 3, ..whole }];
    let Flat { norm: layer, parameters, running, .. } = layer(24, 8, true);
    let last = |seed| channels_last(&values(whole.count(), seed), whole);
    let (x, dy) = (last(1), last(2));
    let image = |values: &[f32], shape| gpu.upload_image(values, shape, Element::F32).unwrap();
    let weights = gpu.upload(&parameters).unwrap();
    let run = |x: &[f32], dy: &[f32], shape, peers: Option<&dyn bc_cuda::Peers>| {
        let (x, dy) = (image(x, shape), image(dy, shape));
        let mut running = gpu.upload(&running).unwrap();
        let mut gradients = gpu.zeros(parameters.len()).unwrap();
        let ending = Epilogue { activation: Activation::Relu, shortcut: None };
        let (y, saved) = gpu.norm_train(&layer, &x, &weights, &mut running, ending, peers).unwrap();
        let back = gpu.norm_backward(&saved, &x, dy, None, &mut gradients, peers).unwrap();
        [
            gpu.read_image(&y).unwrap(),
            gpu.read_image(&back.dx).unwrap(),
            all(gpu, &running),
            all(gpu, &gradients),
        ]
    };
    let expected = run(&x, &dy, whole, None);
    let cut = parts[0].count();
    // Moments first (exchanged against themselves), then both with the moments of the other, then with its sums too.
    let moments: Vec<Vec<f32>> = [(&x[..cut], &dy[..cut], parts[0]), (&x[cut..], &dy[cut..], parts[1])]
        .map(|(x, dy, shape)| {
            let peers = Half(RefCell::new(Vec::new()), RefCell::default());
            run(x, dy, shape, Some(&peers));
            peers.1.into_inner().remove(0)
        })
        .to_vec();
    let sums: Vec<Vec<f32>> = [(&x[..cut], &dy[..cut], parts[0], 1), (&x[cut..], &dy[cut..], parts[1], 0)]
        .map(|(x, dy, shape, other)| {
            let peers = Half(RefCell::new(vec![moments[other].clone()]), RefCell::default());
            run(x, dy, shape, Some(&peers));
            peers.1.into_inner().remove(1)
        })
        .to_vec();
    let halves = [(&x[..cut], &dy[..cut], parts[0], 1), (&x[cut..], &dy[cut..], parts[1], 0)].map(
        |(x, dy, shape, other)| {
            let peers =
                Half(RefCell::new(vec![sums[other].clone(), moments[other].clone()]), RefCell::default());
            run(x, dy, shape, Some(&peers))
        },
    );
    for (number, name) in ["y", "dx"].into_iter().enumerate() {
        let joined = [halves[0][number].clone(), halves[1][number].clone()].concat();
        close(&format!("peers: {name}"), &joined, &expected[number], 1e-5);
    }
    close("peers: running", &halves[0][2], &expected[2], 1e-5);
    let sum: Vec<f32> = halves[0][3].iter().zip(&halves[1][3]).map(|(a, b)| a + b).collect();
    close("peers: gradients", &sum, &expected[3], 1e-5);
}

pub fn pools(gpu: &Gpu) {
    for element in ELEMENTS {
        for shape in SHAPES {
            max_pools(gpu, shape, element);
            gems(gpu, shape, element);
            let groups =
                [7, 6, 5, 3, 1].into_iter().find(|groups| shape.height.is_multiple_of(*groups)).unwrap();
            max_means(gpu, shape, element, groups);
            for stride in [1, 2, 3] {
                time_means(gpu, shape, element, stride);
            }
        }
    }
    // What is not a number stays visible.
    let shape = Shape::new(1, 1, 5, 6);
    let mut x = vec![1f32; 30];
    x[7] = f32::NAN;
    let image = gpu.upload_image(&x, shape, Element::F32).unwrap();
    let (y, _) = gpu.max_pool(&image).unwrap();
    assert_eq!(gpu.read_image(&y).unwrap().iter().filter(|y| y.is_nan()).count(), 4);
    let (y, _) = gpu.max_mean(&image, 5).unwrap();
    assert_eq!(gpu.read_image(&y).unwrap().iter().filter(|y| y.is_nan()).count(), 2);
    let p = gpu.upload(&[3f32]).unwrap();
    assert!(gpu.read_image(&gpu.gem(&image, &p, 0).unwrap()).unwrap()[0].is_nan());
}

fn max_pools(gpu: &Gpu, shape: Shape, element: Element) {
    let what = format!("max pool of {shape}, {element:?}");
    let (cpu_x, x) = drawn(gpu, shape, element, 1);
    let (y, saved) = gpu.max_pool(&x).unwrap();
    let (cpu_y, argmax) = max_pool::max_pool(&cpu_x).unwrap();
    assert_eq!(read(gpu, &y), flat(&cpu_y), "{what}");
    let (cpu_dy, dy) = drawn(gpu, y.shape(), element, 2);
    let dx = gpu.max_pool_gradient(&dy, &saved).unwrap();
    let cpu_dx = max_pool::max_pool_gradient(&cpu_dy, &argmax).unwrap();
    close(&what, &read(gpu, &dx), &flat(&cpu_dx), tolerance(element));
}

fn gems(gpu: &Gpu, shape: Shape, element: Element) {
    for p in [3.0f32, 2.43] {
        let what = format!("GeM of {shape}, {element:?}, p {p}");
        let (cpu_x, x) = drawn(gpu, shape, element, 1);
        let parameters = gpu.upload(&[0.0, p]).unwrap();
        let y = gpu.gem(&x, &parameters, 1).unwrap();
        let cpu_y = gem::gem(&cpu_x, p).unwrap();
        // Powers of single values in 32 bits.
        close(&what, &read(gpu, &y), &flat(&cpu_y), 1e-5);
        let narrow = Shape::matrix(shape.batch, shape.channels);
        let (cpu_y, y) = both(gpu, flat(&cpu_y), narrow, Element::F32);
        let (cpu_dy, dy) = drawn(gpu, narrow, Element::F32, 2);
        let mut gradients = gpu.upload(&[0.5f32, 0.5]).unwrap();
        let dx = gpu.gem_gradient(&x, [&y, &dy], &parameters, 1, &mut gradients).unwrap();
        let (cpu_dx, dp) = gem::gem_gradient(&cpu_x, p, &cpu_y, &cpu_dy).unwrap();
        close(&format!("{what}: dx"), &read(gpu, &dx), &flat(&cpu_dx), tolerance(element));
        close(&format!("{what}: dp"), &all(gpu, &gradients), &[0.5, 0.5 + dp], 1e-4);
    }
}

fn max_means(gpu: &Gpu, shape: Shape, element: Element, groups: usize) {
    let what = format!("max and mean of {shape}, {element:?}, {groups} groups");
    let (cpu_x, x) = drawn(gpu, shape, element, 1);
    let (y, saved) = gpu.max_mean(&x, groups).unwrap();
    let (cpu_y, argmax) = max_mean::max_mean(&cpu_x, groups).unwrap();
    close(&what, &read(gpu, &y), &flat(&cpu_y), tolerance(element));
    let (cpu_dy, dy) = drawn(gpu, y.shape(), element, 2);
    let dx = gpu.max_mean_gradient(&dy, &saved).unwrap();
    let cpu_dx = max_mean::max_mean_gradient(&cpu_dy, &argmax).unwrap();
    close(&what, &read(gpu, &dx), &flat(&cpu_dx), tolerance(element));
}

fn time_means(gpu: &Gpu, shape: Shape, element: Element, stride: usize) {
    let what = format!("mean over time of {shape}, {element:?}, stride {stride}");
    let (cpu_x, x) = drawn(gpu, shape, element, 1);
    let y = gpu.time_mean(&x, stride).unwrap();
    close(&what, &read(gpu, &y), &flat(&time_mean::time_mean(&cpu_x, stride).unwrap()), tolerance(element));
    let (cpu_dy, dy) = drawn(gpu, y.shape(), element, 2);
    let dx = gpu.time_mean_gradient(&dy, shape, stride).unwrap();
    let cpu_dx = time_mean::time_mean_gradient(&cpu_dy, cpu_x.shape(), stride).unwrap();
    close(&what, &read(gpu, &dx), &flat(&cpu_dx), tolerance(element));
}

/// Convolutions with the copies of weights: forward, both gradients, added to what is there.
pub fn convolutions(gpu: &Gpu) {
    let element = gpu.element();
    let ring = Padding { ring: true, ..Padding::symmetric(1, 1) };
    // Weights begin at multiples of 64 values, as those of a network do: cuDNN reads 16 bytes at a time.
    let start = 64;
    let cases = [
        (Shape::new(16, 2, 6, 9), 24, [3, 3], [2, 2], Padding::symmetric(1, 1)),
        (Shape::new(16, 2, 6, 9), 24, [1, 1], [2, 2], Padding::default()),
        (Shape::new(8, 2, 12, 9), 16, [3, 3], [1, 2], ring),
        (Shape::new(1, 2, 12, 19), 16, [7, 7], [2, 2], Padding::symmetric(3, 3)),
        // Behind the first layer, networks of the usual widths have no such numbers of channels.
        (Shape::new(16, 2, 6, 9), 5, [3, 3], [1, 1], Padding::symmetric(1, 1)),
        (Shape::new(3, 3, 12, 7), 8, [3, 3], [1, 1], ring),
    ];
    for (shape, outputs, kernel, stride, padding) in cases {
        let sizes = Convolution { inputs: shape.channels, outputs, kernel, stride, padding };
        let what = format!("{sizes} of {shape}, {:?}", gpu.precision());
        let geometry = Geometry { stride, padding: [padding.top, padding.left], ring: padding.ring };
        let weights = rounded(values(start + sizes.weights(), 4), element);
        let masters = gpu.upload(&weights).unwrap();
        let mut copies = gpu.weight_copies(masters.len()).unwrap();
        let runs = gpu.runs(&[(start, sizes)]).unwrap();
        gpu.refresh_weights(&runs, &masters, &mut copies).unwrap();
        let w = [outputs, shape.channels, kernel[0], kernel[1]];
        let w = conv2d::Kernel { values: &weights[start..], shape: w };
        let (cpu_x, x) = drawn(gpu, shape, element, 1);
        let y = gpu.conv(&x, &copies, start, &sizes).unwrap();
        let cpu_y = conv2d::conv2d(&cpu_x, w, geometry).unwrap();
        close(&what, &read(gpu, &y), &flat(&cpu_y), by_library(gpu));
        let (cpu_dy, dy) = drawn(gpu, y.shape(), element, 2);
        let dx = gpu.conv_input_gradient(&dy, &copies, start, &sizes, shape, None).unwrap();
        let cpu_dx = conv2d::conv2d_input_gradient(&cpu_dy, w, cpu_x.shape(), geometry, None).unwrap();
        close(&format!("{what}: dx"), &read(gpu, &dx), &flat(&cpu_dx), by_library(gpu));
        let (cpu_other, other) = drawn(gpu, shape, element, 3);
        let sum = gpu.conv_input_gradient(&dy, &copies, start, &sizes, shape, Some(other)).unwrap();
        let expected: Vec<f32> = flat(&cpu_dx).iter().zip(flat(&cpu_other)).map(|(a, b)| a + b).collect();
        close(&format!("{what}: added"), &read(gpu, &sum), &expected, by_library(gpu));
        let mut gradients = gpu.upload(&vec![0.125f32; weights.len()]).unwrap();
        gpu.conv_weight_gradient(&x, &dy, &sizes, &mut gradients, start).unwrap();
        let mut dw = vec![0.0; w.values.len()];
        conv2d::conv2d_weight_gradient(&mut dw, w.shape, &cpu_x, &cpu_dy, geometry, false).unwrap();
        let expected: Vec<f32> = vec![0f32; start].into_iter().chain(dw).map(|x| x + 0.125).collect();
        close(&format!("{what}: dw"), &all(gpu, &gradients), &expected, by_library(gpu));
    }
}

/// Of sums by a library in this precision.
fn by_library(gpu: &Gpu) -> f32 {
    match gpu.precision() {
        Precision::F32 => 1e-5,
        Precision::Tf32 => 2e-3,
        Precision::Bf16 => 1e-2,
    }
}

pub fn linears(gpu: &Gpu) {
    for (batch, inputs, outputs) in [(6, 40, 27), (128, 64, 96), (3, 7, 5)] {
        let what = format!("linear {batch} x {inputs} to {outputs}, {:?}", gpu.precision());
        let layer = Linear { inputs, outputs, weight: 2 };
        let sizes =
            Convolution { inputs, outputs, kernel: [1, 1], stride: [1, 1], padding: Padding::default() };
        let weights = rounded(values(2 + inputs * outputs, 4), gpu.element());
        let masters = gpu.upload(&weights).unwrap();
        let mut copies = gpu.weight_copies(masters.len()).unwrap();
        gpu.refresh_weights(&gpu.runs(&[(2, sizes)]).unwrap(), &masters, &mut copies).unwrap();
        let [x, dy] = [(inputs, 1), (outputs, 2)]
            .map(|(columns, seed)| rounded(values(batch * columns, seed), gpu.element()));
        let on = |values: &[f32], columns| {
            gpu.upload_image(values, Shape::matrix(batch, columns), Element::F32).unwrap()
        };
        let matrix = |values: &[f32], rows: usize, columns: usize| {
            Tensor::from_slice(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let (cpu_x, cpu_dy) = (matrix(&x, batch, inputs), matrix(&dy, batch, outputs));
        let w = matrix(&weights[2..], outputs, inputs);
        let (x, dy) = (on(&x, inputs), on(&dy, outputs));
        let y = gpu.linear(&x, &copies, &layer, Element::F32).unwrap();
        let expected = cpu_x.matmul(&w.t().unwrap().contiguous().unwrap()).unwrap();
        close(&what, &gpu.read_image(&y).unwrap(), &of_matrix(&expected), by_library(gpu));
        let dx = gpu.linear_input_gradient(&dy, &copies, &layer, Element::F32, None).unwrap();
        let expected = cpu_dy.matmul(&w).unwrap();
        close(&format!("{what}: dx"), &gpu.read_image(&dx).unwrap(), &of_matrix(&expected), by_library(gpu));
        let sum = gpu.linear_input_gradient(&dy, &copies, &layer, Element::F32, Some(dx)).unwrap();
        let twice = (expected * 2.0).unwrap();
        close(&format!("{what}: added"), &gpu.read_image(&sum).unwrap(), &of_matrix(&twice), by_library(gpu));
        let mut gradients = gpu.upload(&vec![0.5f32; weights.len()]).unwrap();
        gpu.linear_weight_gradient(&x, &dy, &layer, &mut gradients).unwrap();
        let dw = cpu_dy.t().unwrap().contiguous().unwrap().matmul(&cpu_x).unwrap();
        let expected: Vec<f32> = [0f32; 2].into_iter().chain(of_matrix(&dw)).map(|x| x + 0.5).collect();
        close(&format!("{what}: dw"), &all(gpu, &gradients), &expected, by_library(gpu));
    }
}

pub fn cross_entropies(gpu: &Gpu) {
    let (rows, classes, counted) = (5, 1003, 4);
    let labels: Vec<u32> = vec![0, 1002, 17, 500];
    let logits: Vec<f32> = values(rows * classes, 1).iter().map(|x| x * 6.0 + 40.0).collect();
    let device_labels = gpu.upload(&labels.iter().map(|l| *l as i32).collect::<Vec<_>>()).unwrap();
    let image = gpu.upload_image(&logits, Shape::matrix(rows, classes), Element::F32).unwrap();
    let x = Rows::new(&logits[..counted * classes], classes);
    let Loss { value, gradient: expected } = cross_entropy_smoothed(x, &labels, 0.1).unwrap();
    // A process without a share of the batch has the weight 0, and its loss is a number still.
    for weight in [0.7, 0.0] {
        let (loss, gradient) = gpu.cross_entropy(&image, &device_labels, 0.1, weight).unwrap();
        close("cross entropy", &gpu.read_image(&loss).unwrap(), &[value], 1e-5);
        let expected: Vec<f32> = expected.iter().map(|slope| weight * slope).collect();
        let found = gpu.read_image(&gradient).unwrap();
        close("cross entropy: gradient", &found[..counted * classes], &expected, 1e-5);
        assert!(found[counted * classes..].iter().all(|x| *x == 0.0));
    }
    let none = gpu.upload::<i32>(&[]).unwrap();
    assert!(gpu.cross_entropy(&image, &none, 0.1, 1.0).is_err());
}

/// Rows of which some are twins, so that distances tie.
fn embeddings(rows: usize, dimensions: usize) -> (Vec<f32>, Vec<u32>) {
    let mut x = values(rows * dimensions, 5);
    let copy: Vec<f32> = x[..dimensions].to_vec();
    x[3 * dimensions..4 * dimensions].copy_from_slice(&copy);
    x[7 * dimensions..8 * dimensions].copy_from_slice(&copy);
    (x, (0..rows as u32).map(|row| row % 5).collect())
}

pub fn triplets(gpu: &Gpu) {
    for (rows, dimensions) in [(12, 33), (37, 130)] {
        let (x, labels) = embeddings(rows, dimensions);
        let image = gpu.upload_image(&x, Shape::matrix(rows, dimensions), Element::F32).unwrap();
        let [squared, apart] = gpu.distances(&image).unwrap();
        let at = |i: usize| &x[i * dimensions..(i + 1) * dimensions];
        let between = |moved: f32| -> Vec<f32> {
            let pairs = (0..rows).flat_map(|i| (0..rows).map(move |j| (i, j)));
            let square =
                |(i, j): (usize, usize)| at(i).iter().zip(at(j)).map(|(a, b)| (a - b + moved).powi(2)).sum();
            pairs.map(square).collect()
        };
        let expected = between(0.0);
        close("squared distances", &all(gpu, &squared), &expected, 1e-6);
        let roots: Vec<f32> = between(1e-6).iter().map(|x: &f32| x.sqrt()).collect();
        close("distances", &all(gpu, &apart), &roots, 1e-6);
        let third = rows as u32 / 3;
        let thirds: Vec<[u32; 3]> = (0..third).map(|n| [n, n + third, n + 2 * third]).collect();
        check_margin(gpu, &image, &apart, &semi_hard(&all(gpu, &squared), &labels), "semi-hard");
        check_margin(gpu, &image, &apart, &thirds, "thirds");
        let none = gpu.triplets(rows, &[]).unwrap();
        let (loss, gradient) = gpu.triplet_margin(&image, &apart, &none, 0.3, 1.0).unwrap();
        assert_eq!(gpu.read_image(&loss).unwrap(), [0.0]);
        assert!(gpu.read_image(&gradient).unwrap().iter().all(|x| *x == 0.0));
    }
}

fn check_margin(gpu: &Gpu, image: &Image, apart: &Buffer<f32>, chosen: &[[u32; 3]], what: &str) {
    let Shape { batch: rows, channels: dimensions, .. } = image.shape();
    let what = format!("{what} of {rows}");
    let triplets = gpu.triplets(rows, chosen).unwrap();
    let (loss, gradient) = gpu.triplet_margin(image, apart, &triplets, 0.3, 0.6).unwrap();
    let x = gpu.read_image(image).unwrap();
    let [anchors, positives, negatives] =
        [0, 1, 2].map(|which| chosen.iter().map(|triplet| triplet[which]).collect::<Vec<u32>>());
    let lists = bc_nn::loss::Triplets { anchors: &anchors, positives: &positives, negatives: &negatives };
    let cpu = triplet_margin(Rows::new(&x, dimensions), lists, 0.3).unwrap();
    let expected: Vec<f32> = cpu.gradient.iter().map(|slope| 0.6 * slope).collect();
    close(&what, &gpu.read_image(&loss).unwrap(), &[cpu.value], 1e-5);
    // Twins are 1e-6 apart: their direction is lost in 32 bits, on either side.
    close(&format!("{what}: gradient"), &gpu.read_image(&gradient).unwrap(), &expected, 1e-4);
}

/// Several triplets of an anchor: each positive with the nearest negative that is farther, else with the farthest.
fn semi_hard(squared: &[f32], labels: &[u32]) -> Vec<[u32; 3]> {
    let rows = labels.len();
    let mut found = Vec::new();
    for a in 0..rows {
        let of = &squared[a * rows..][..rows];
        let by = |i: &usize, j: &usize| of[*i].total_cmp(&of[*j]);
        let negatives = || (0..rows).filter(|&i| labels[i] != labels[a]);
        for p in (0..rows).filter(|&i| i != a && labels[i] == labels[a]) {
            let beyond = negatives().filter(|&n| of[n] > of[p]).min_by(by);
            found.extend(beyond.or_else(|| negatives().max_by(by)).map(|n| [a, p, n].map(|row| row as u32)));
        }
    }
    found
}

/// Where torch.optim.Adam and AdamW of PyTorch 2.11 end, as bc-nn's own test has it; clipping, skipped steps, averages.
pub fn optimisers(gpu: &Gpu) {
    for (decoupled, expected) in
        [(false, [0.9768336f32, -1.994978, 2.980785]), (true, [0.9768935, -1.991595, 2.987516])]
    {
        let settings = AdamSettings { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.1, decoupled };
        let adam = gpu.adam(settings, &[(3, true)]).unwrap();
        let mut state = gpu.adam_state().unwrap();
        let [mut first, mut second] = [0, 1].map(|_| gpu.zeros(3).unwrap());
        let mut weights = gpu.upload(&[1f32, -2.0, 3.0]).unwrap();
        let by = Step { mean: 0.5, most: 0.0, rate: 0.01 };
        for gradient in [[1f32, -2.0, 0.5], [0.2, 4.0, -1.0], [-0.6, 0.8, 0.0]] {
            let gradient = gpu.upload(&gradient).unwrap();
            gpu.adam_step(&adam, &mut state, [&mut first, &mut second], &mut weights, &gradient, &by)
                .unwrap();
        }
        close("Adam", &all(gpu, &weights), &expected, 1e-6);
        assert_eq!(gpu.read(&state.steps, 0, 1).unwrap(), [3.0]);
        let norm = gpu.read(state.norm(), 0, 1).unwrap()[0];
        assert!((norm - 0.5).abs() < 1e-6, "{norm}: half of the last gradient's");

        // A gradient that is not finite changes nothing.
        let before = all(gpu, &weights);
        let broken = gpu.upload(&[0f32, f32::NAN, 0.0]).unwrap();
        gpu.adam_step(&adam, &mut state, [&mut first, &mut second], &mut weights, &broken, &by).unwrap();
        let mut average = gpu.upload(&[7f32; 3]).unwrap();
        gpu.average(&mut average, &weights, &state, 0.5).unwrap();
        assert_eq!((all(gpu, &weights), all(gpu, &average)), (before.clone(), vec![7.0; 3]));
        assert_eq!(gpu.read(&state.steps, 0, 1).unwrap(), [3.0]);
        assert!(gpu.read(state.norm(), 0, 1).unwrap()[0].is_nan());
    }
    clipping_and_kinds(gpu);
}

fn clipping_and_kinds(gpu: &Gpu) {
    let sizes = [(10_001, true), (3, false), (4096, true)];
    let settings = AdamSettings { betas: [0.9, 0.99], epsilon: 1e-8, weight_decay: 0.1, decoupled: true };
    let mut adam: Adam = gpu.adam(settings, &sizes).unwrap();
    gpu.set_active(&mut adam, &[true, true, false]).unwrap();
    let mut state = gpu.adam_state().unwrap();
    let len = sizes.iter().map(|(size, _)| size).sum();
    let [mut first, mut second] = [0, 1].map(|_| gpu.zeros(len).unwrap());
    let (start, gradient) = (values(len, 1), values(len, 2));
    let mut weights = gpu.upload(&start).unwrap();
    let on_device = gpu.upload(&gradient).unwrap();
    let by = Step { mean: 1.0, most: 2.0, rate: 0.01 };
    gpu.adam_step(&adam, &mut state, [&mut first, &mut second], &mut weights, &on_device, &by).unwrap();
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let found = gpu.read(state.norm(), 0, 1).unwrap()[0];
    assert!((f64::from(found) / norm - 1.0).abs() < 1e-6, "{found} and not {norm}");
    // The first step is the rate times the sign, for gradients far above epsilon; moments show the clipping.
    let clipped: Vec<f32> = gradient.iter().map(|g| 0.1 * g * (2.0 / (norm + 1e-6)) as f32).collect();
    let moments = all(gpu, &first);
    close("first moments", &moments[..10_004], &clipped[..10_004], 1e-6);
    assert!(moments[10_004..].iter().all(|m| *m == 0.0));
    let found = all(gpu, &weights);
    assert_eq!(found[10_004..], start[10_004..], "without a gradient nothing changes");
    let expected = |index: usize, keep: f32| start[index] * keep - 0.01 * gradient[index].signum();
    for index in [0, 1, 5000, 10_000].into_iter().filter(|index| gradient[*index].abs() > 1e-2) {
        assert!((found[index] - expected(index, 0.999)).abs() < 1e-5, "{index}");
    }
    assert!((found[10_002] - expected(10_002, 1.0)).abs() < 1e-5, "a vector does not decay");
    let mut average = gpu.upload(&start).unwrap();
    gpu.average(&mut average, &weights, &state, 0.9).unwrap();
    let expected: Vec<f32> = start.iter().zip(&found).map(|(a, x)| 0.9 * a + 0.1 * x).collect();
    close("average", &all(gpu, &average), &expected, 1e-6);
}

/// Batches under way, received in any order; slots are used again and grow.
pub fn uploads(gpu: &Gpu) {
    let shape = Shape::new(1, 4, 4, 5);
    let uploader = Uploader::new(gpu);
    let batch = |seed| values(shape.count(), seed);
    let send = |seed| uploader.send(&batch(seed), shape).unwrap();
    let mut on_the_way = send(0);
    let mut images = Vec::new();
    for seed in 0..5 {
        let next = send(seed + 1);
        let received = std::mem::replace(&mut on_the_way, next);
        images.push(uploader.receive(received, 1, Element::F32).unwrap().remove(0));
    }
    for (seed, image) in (0..).zip(&images) {
        assert_eq!(gpu.read_image(image).unwrap(), batch(seed), "batch {seed} is not written over");
    }
    // One that is dropped leaves its place to a larger one; in parts, in any order, in 16 bits.
    drop(on_the_way);
    let (one, large) = (send(7), Shape { batch: 6, ..shape });
    let other = uploader.send(&values(large.count(), 8), large).unwrap();
    let parts = uploader.receive(other, 3, Element::Bf16).unwrap();
    let found: Vec<f32> = parts.iter().flat_map(|part| gpu.read_image(part).unwrap()).collect();
    assert_eq!((found, parts[0].shape().batch), (rounded(values(large.count(), 8), Element::Bf16), 2));
    let one = uploader.receive(one, 1, Element::F32).unwrap();
    assert_eq!(gpu.read_image(&one[0]).unwrap(), batch(7));
    assert!(uploader.receive(send(9), 3, Element::F32).is_err(), "four items in three parts");
    assert!(uploader.send(&batch(1)[1..], shape).is_err());
}

/// Memory is used again, and what cannot fit is refused.
pub fn memory(gpu: &Gpu) {
    let before = gpu.usage();
    let buffer = gpu.buffer::<f32>(100_000).unwrap();
    let held = gpu.usage().held;
    assert!(gpu.usage().used >= before.used + 400_000);
    drop(buffer);
    let again = gpu.buffer::<f32>(100_001).unwrap();
    assert_eq!(gpu.usage().held, held, "a block is used again");
    drop(again);
    gpu.trim();
    assert!(gpu.usage().held < held && gpu.usage().peak >= 400_000);
    let most = gpu.buffer::<u8>(3 << 30).unwrap_err().to_string();
    assert!(most.contains("smaller batch"), "{most}");
}
