//! The curves of a training run, from its `metrics.jsonl`.

use std::path::Path;

use serde_json::Value;

/// Approximate maximum number of points of a curve.
const MAX_POINTS: usize = 400;

/// Loss and validation mAP of a run, by step.
#[derive(Debug, Default)]
pub struct Curves {
    pub loss: Vec<(f64, f64)>,
    pub map: Vec<(f64, f64)>,
    pub steps: u64,
}

impl Curves {
    /// Reads the curves of a run; `None` if its folder has no `metrics.jsonl`.
    pub fn read(run: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).ok()?;
        let mut curves = Self::default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let number = |key: &str| line[key].as_f64();
            let Some(step) = number("step") else { continue };
            curves.steps = curves.steps.max(step as u64);
            curves.loss.extend(number("loss").map(|loss| (step, loss)));
            curves.map.extend(number("map").map(|map| (step, map)));
        }
        curves.loss = thinned(&curves.loss);
        Some(curves)
    }
}

/// Replaces groups of neighbouring points by their means.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let means = points.chunks(group).map(|group| {
        let count = group.len() as f64;
        (group.iter().map(|p| p.0).sum::<f64>() / count, group.iter().map(|p| p.1).sum::<f64>() / count)
    });
    means.collect()
}
