//! The map of the embeddings: one point per version, near to those with a similar vector.

use bc_calibration::versions::Versions;
use bc_formats::embeddings::Embeddings;
use bc_formats::index::Split;

use super::tsne;
use crate::analysis::VersionName;

/// A version on the map.
#[derive(Debug)]
pub struct Point {
    pub x: f32,
    pub y: f32,
    /// Number of its clique, which gives its colour.
    pub clique: usize,
    pub version: VersionName,
}

/// The positions of the versions of a split, or of a sample of its cliques where there are many.
pub fn points(embeddings: &Embeddings, split: Split) -> Vec<Point> {
    let versions = Versions::of_split(embeddings, split).sample();
    let units: Vec<Vec<f32>> = (0..versions.len()).map(|row| unit(versions.vector(row))).collect();
    let vectors: Vec<&[f32]> = units.iter().map(Vec::as_slice).collect();
    let positions = tsne::map(&vectors).into_iter().zip(&versions.cliques).zip(&versions.labels);
    let points = positions.map(|(([x, y], clique), label)| Point {
        x,
        y,
        clique: *clique as usize,
        version: VersionName::from(*label),
    });
    points.collect()
}

/// The vector scaled to length 1.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter().map(|value| value / length).collect()
}
