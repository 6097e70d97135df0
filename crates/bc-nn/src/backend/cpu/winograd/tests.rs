use super::super::gradient_check::values;
use super::*;

/// Channels, outputs, batch, height, width.
type Shape = [usize; 5];

fn sizes([inputs, outputs, batch, height, width]: Shape, ring: bool) -> Sizes {
    let (kernel, stride, padding) = ([3, 3], [1, 1], [1, 1]);
    Sizes { batch, inputs, height, width, outputs, kernel, stride, padding, ring }
}

fn computed(x: &[f32], weight: &[f32], sizes: &Sizes, threads: usize) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        vec_filled_by(sizes.outputs * sizes.columns(), |out| convolve_into(out, x, weight, sizes, None))
    })
}

/// Computes the sums of all products, in 64 bits.
fn summed(x: &[f32], weight: &[f32], sizes: &Sizes) -> Vec<f64> {
    let Sizes { batch, inputs, height, width, outputs, .. } = *sizes;
    let mut out = Vec::new();
    for place in 0..outputs * batch * height * width {
        let (column, y) = (place % width, place / width % height);
        let (sample, output) = (place / width / height % batch, place / width / height / batch);
        let mut sum = 0.0;
        for tap in 0..9 {
            let Some(row) = sizes.row(y, tap / 3) else { continue };
            let Some(column) = (column + tap % 3).checked_sub(1).filter(|column| *column < width) else {
                continue;
            };
            for input in 0..inputs {
                let value = x[((input * batch + sample) * height + row) * width + column];
                sum += f64::from(value) * f64::from(weight[(output * inputs + input) * 9 + tap]);
            }
        }
        out.push(sum);
    }
    out
}

const SHAPES: [Shape; 10] = [
    [1, 1, 1, 1, 1],
    [3, 5, 2, 1, 9],
    [17, 13, 1, 2, 2],
    [5, 70, 3, 2, 41],
    [7, 4, 2, 5, 8],
    [40, 65, 2, 6, 14],
    [64, 3, 1, 7, 75],
    [130, 20, 2, 3, 7],
    [300, 31, 1, 4, 5],
    [513, 14, 1, 3, 6],
];

#[test]
fn outputs_are_the_sums_of_products_to_a_millionth() {
    /// Of the largest output.
    const TOLERANCE: f64 = 2e-6;
    for (number, shape) in SHAPES.into_iter().enumerate() {
        let sizes = sizes(shape, number % 2 == 1);
        let x = values(sizes.inputs * sizes.batch * sizes.plane(), 1);
        let weight = values(sizes.outputs * sizes.depth(), 2);
        let expected = summed(&x, &weight, &sizes);
        let largest = expected.iter().fold(0f64, |most, value| most.max(value.abs()));
        let found = computed(&x, &weight, &sizes, 2);
        let apart = found.iter().zip(&expected).map(|(found, sum)| (f64::from(*found) - sum).abs());
        let apart = apart.fold(0f64, f64::max) / largest;
        assert!(apart < TOLERANCE, "{shape:?}: {apart:.1e} of the largest");
    }
}

#[test]
fn neither_threads_nor_neighbours_in_the_batch_change_a_bit() {
    for shape in [[40, 130, 5, 5, 9], [33, 64, 3, 7, 41], [300, 200, 2, 2, 6]] {
        let whole = sizes(shape, false);
        let x = values(whole.inputs * whole.batch * whole.plane(), 1);
        let weight = values(whole.outputs * whole.depth(), 2);
        let one = computed(&x, &weight, &whole, 1);
        for threads in [2, 3, 8] {
            assert!(one == computed(&x, &weight, &whole, threads), "{shape:?} with {threads} threads");
        }
        let plane = whole.plane();
        for sample in 0..whole.batch {
            let of = |values: &[f32]| -> Vec<f32> {
                values.chunks(plane).skip(sample).step_by(whole.batch).flatten().copied().collect()
            };
            let alone = Sizes { batch: 1, ..whole };
            assert!(of(&one) == computed(&of(&x), &weight, &alone, 2), "{shape:?}, sample {sample}");
        }
    }
}

#[test]
fn results_are_added_and_finished_once() {
    for shape in [[40, 70, 3, 5, 9], [33, 8, 2, 4, 70]] {
        let sizes = sizes(shape, false);
        let x = values(sizes.inputs * sizes.batch * sizes.plane(), 1);
        let weight = values(sizes.outputs * sizes.depth(), 2);
        let once = computed(&x, &weight, &sizes, 2);
        let mut added = vec![0.5; once.len()];
        convolve_add(&mut added, &x, &weight, &sizes, None);
        assert!(added.iter().zip(&once).all(|(added, once)| *added == 0.5 + once));
        let columns = sizes.columns();
        let place = |row: usize, first: usize, values: &mut [f32]| {
            for (value, column) in values.iter_mut().zip(first..) {
                *value = 2.0 * *value + (row * columns + column) as f32;
            }
        };
        let finished = vec_filled_by(once.len(), |out| convolve_into(out, &x, &weight, &sizes, Some(&place)));
        let expected = once.iter().enumerate().map(|(place, value)| 2.0 * value + place as f32);
        assert!(expected.zip(&finished).all(|(expected, found)| expected == *found), "{shape:?}");
    }
}

#[test]
fn nan_affects_only_its_windows() {
    let sizes = sizes([32, 8, 2, 6, 20], false);
    let weight = values(sizes.outputs * sizes.depth(), 2);
    let mut x = values(sizes.inputs * sizes.batch * sizes.plane(), 1);
    x[3 * 20 + 9] = f32::NAN;
    let found = computed(&x, &weight, &sizes, 2);
    for (place, value) in found.iter().enumerate() {
        let (column, row, sample) = (place % 20, place / 20 % 6, place / 120 % 2);
        // Exactly the outputs whose windows of 3x3 have it.
        let met = sample == 0 && (2..5).contains(&row) && (8..11).contains(&column);
        assert_eq!(value.is_nan(), met, "{sample}, {row}, {column}: {value}");
    }
}

#[test]
fn a_plan_covers_everything_for_any_number_of_threads() {
    for threads in [1, 2, 3, 16, 64] {
        for shape in [[64, 64, 8, 21, 54], [512, 512, 8, 6, 14], [256, 256, 1, 6, 14], [32, 40, 1, 2, 2]] {
            let sizes = sizes(shape, false);
            let tiles = Tiles::new(&sizes).count;
            let Plan { blocks, parts } = Plan::best(&sizes, tiles, threads);
            assert!(blocks >= 1 && blocks <= tiles.div_ceil(LANES), "{shape:?}: {blocks} blocks");
            assert!(parts >= 1 && parts <= sizes.outputs.div_ceil(GROUP), "{shape:?}: {parts} parts");
        }
    }
}

#[test]
fn few_channels_and_other_windows_are_summed_directly() {
    let of = |shape| sizes(shape, false);
    assert!(direct() || is_faster(&of([64, 64, 8, 21, 54])) && is_faster(&of([512, 512, 1, 6, 14])));
    assert!(!is_faster(&of([15, 64, 8, 21, 54])) && !is_faster(&of([64, 15, 8, 21, 54])));
    // Half of every tile would hang over the edge; the weights would be transformed for few tiles.
    assert!(!is_faster(&of([64, 64, 8, 1, 54])) && !is_faster(&of([64, 64, 8, 4, 6])));
    assert!(!is_faster(&Sizes { stride: [2, 2], ..of([64, 64, 8, 21, 54]) }));
    assert!(!is_faster(&Sizes { padding: [0, 1], ..of([64, 64, 8, 21, 54]) }));
    assert!(!is_faster(&Sizes { kernel: [5, 3], ..of([64, 64, 8, 21, 54]) }));
}
