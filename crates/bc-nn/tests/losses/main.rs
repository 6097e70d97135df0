//! The closed forms of losses and gradients against candle's graph of the same losses, and against central differences.
//!
//! Both round in 32 bits: they may be 2e-6 of the value and 2e-5 of the gradient's norm apart. Differences of the value
//! are over steps of 1e-2, of which the rounding of the value alone is 1e-4 or so.

mod graph;

use bc_nn::loss::{
    Loss, Rows, Triplets, alignment_uniformity, cosine_cross_entropy, cross_entropy_smoothed,
    supervised_contrastive, triplet_margin,
};
use bc_testing::signed_values as values;
use candle_core::{Device, Tensor, Var};

const ROWS: usize = 9;
const LABELS: [u32; ROWS] = [0, 0, 1, 1, 2, 2, 2, 3, 4];

fn var(values: &[f32], dim: usize) -> Var {
    Var::from_vec(values.to_vec(), (values.len() / dim, dim), &Device::Cpu).unwrap()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn compare(name: &str, ours: &Loss, graph: &Tensor, leaf: &Var) {
    let value = graph.to_scalar::<f32>().unwrap();
    assert!(
        (ours.value - value).abs() < 2e-6 * value.abs().max(1.0),
        "{name}: {} against {value}",
        ours.value
    );
    let theirs = graph.backward().unwrap();
    let theirs = theirs.get(leaf).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    compare_gradients(name, &ours.gradient, &theirs);
}

fn compare_gradients(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let apart: Vec<f32> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    let apart = norm(&apart) / norm(theirs);
    println!("{name}: gradients {apart:.1e} apart");
    assert!(norm(theirs) > 1e-3 && apart < 2e-5, "{name}: gradients {apart:.1e} apart");
}

/// Some values of the gradient against differences of the loss.
fn differences(name: &str, x: &[f32], dim: usize, loss: impl Fn(Rows<'_>) -> Loss) {
    let found = loss(Rows::new(x, dim));
    let scale = found.gradient.iter().fold(0f32, |most, slope| most.max(slope.abs()));
    for place in (0..x.len()).step_by(7) {
        let at = |step: f32| {
            let mut moved = x.to_vec();
            moved[place] += step;
            loss(Rows::new(&moved, dim)).value
        };
        let central = (at(1e-2) - at(-1e-2)) / 2e-2;
        let apart = (central - found.gradient[place]).abs() / scale;
        assert!(apart < 2e-2, "{name}, value {place}: {} and not {central}", found.gradient[place]);
    }
}

#[test]
fn cross_entropies_are_those_of_the_graph() {
    for (classes, smoothing) in [(5, 0.1), (33, 0.0), (700, 0.3)] {
        let logits: Vec<f32> = values(ROWS * classes, 1).iter().map(|x| 8.0 * x).collect();
        let leaf = var(&logits, classes);
        let loss = |rows: Rows<'_>| cross_entropy_smoothed(rows, &LABELS, smoothing).unwrap();
        let graph = graph::cross_entropy_smoothed(&leaf, &LABELS, smoothing).unwrap();
        compare("cross entropy", &loss(Rows::new(&logits, classes)), &graph, &leaf);
        differences("cross entropy", &logits[..ROWS * 5], 5, loss);
    }
}

#[test]
fn triplets_are_those_of_the_graph_also_where_rows_come_more_than_once() {
    let x = values(ROWS * 17, 2);
    let leaf = var(&x, 17);
    let (anchors, positives, negatives) = ([0, 1, 2, 4, 5, 0], [1, 0, 3, 5, 6, 1], [2, 7, 8, 0, 3, 8]);
    let triplets = Triplets { anchors: &anchors, positives: &positives, negatives: &negatives };
    let rows = |rows: &[u32]| leaf.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
    for margin in [0.0, 0.3, 5.0] {
        let loss = |rows: Rows<'_>| triplet_margin(rows, triplets, margin).unwrap();
        let graph = graph::triplet_margin(&rows(&anchors), &rows(&positives), &rows(&negatives), margin);
        compare("triplets", &loss(Rows::new(&x, 17)), &graph.unwrap(), &leaf);
        differences("triplets", &x, 17, loss);
    }
}

#[test]
fn losses_over_pairs_are_those_of_the_graph() {
    let x = values(ROWS * 24, 3);
    let leaf = var(&x, 24);
    let rows = Rows::new(&x, 24);
    for temperature in [0.05, 0.1, 1.0] {
        let loss = |rows: Rows<'_>| supervised_contrastive(rows, &LABELS, temperature).unwrap();
        let graph = graph::supervised_contrastive(&leaf, &LABELS, temperature).unwrap();
        compare("contrastive", &loss(rows), &graph, &leaf);
        differences("contrastive", &x, 24, loss);
    }
    let loss = |rows: Rows<'_>| alignment_uniformity(rows, &LABELS).unwrap();
    let graph = graph::alignment_uniformity(&leaf, &LABELS).unwrap();
    compare("alignment", &loss(rows), &graph, &leaf);
    differences("alignment", &x, 24, loss);
    for labels in [[0; ROWS], [0, 1, 2, 3, 4, 5, 6, 7, 8]] {
        assert!(alignment_uniformity(rows, &labels).is_err());
    }
    assert!(supervised_contrastive(rows, &[0, 1, 2, 3, 4, 5, 6, 7, 8], 0.1).is_err());
}

#[test]
fn cosines_are_those_of_the_graph_and_so_are_the_classifiers_gradients() {
    let (x, weights) = (values(ROWS * 24, 4), values(11 * 24, 5));
    let (x_leaf, w_leaf) = (var(&x, 24), var(&weights, 24));
    let weights = Rows::new(&weights, 24);
    let loss = |rows: Rows<'_>| cosine_cross_entropy(rows, weights, &LABELS, 30.0, 0.1).unwrap();
    let logits = graph::cosine_logits(&x_leaf, &w_leaf, 30.0).unwrap();
    let graph = graph::cross_entropy_smoothed(&logits, &LABELS, 0.1).unwrap();
    let found = loss(Rows::new(&x, 24));
    compare("cosines", &found.loss, &graph, &x_leaf);
    let theirs = graph.backward().unwrap();
    let theirs = theirs.get(&w_leaf).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    compare_gradients("weights", &found.weights, &theirs);
    differences("cosines", &x, 24, |rows| loss(rows).loss);
}
