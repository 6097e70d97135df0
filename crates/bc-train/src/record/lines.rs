//! The lines of `metrics.jsonl`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// An optimiser step.
    Step(StepLine),
    /// A validation.
    Validation(ValidationLine),
}

/// An optimiser step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Steps done, this one included.
    pub step: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Length of the last batch's crops in seconds.
    pub length_s: f64,
    /// Weighted sum of the losses, mean over the step's batches.
    pub loss: f32,
    /// Cross entropy.
    pub classification: f32,
    /// Triplet loss.
    pub triplet: f32,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f32,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Items a second, over this step.
    pub samples_per_s: f64,
    /// Share of the step's time spent waiting for data.
    pub waiting_share: f64,
    /// Seconds since 1970.
    pub time: f64,
}

/// A validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationLine {
    /// Steps done before it.
    pub step: u64,
    /// Epoch of the last step, from 0.
    pub epoch: u64,
    /// Mean average precision over the validation split.
    pub map: f64,
    /// Mean rank of the first match.
    pub mr1: f64,
    /// Share of queries whose nearest neighbour is a match.
    pub hit_at_1: f64,
    /// Triplet loss of random triplets of the split.
    pub triplet: f64,
    /// Whether it is the best so far.
    pub best: bool,
    /// Seconds it took.
    pub seconds: f64,
    /// Seconds since 1970.
    pub time: f64,
}

impl Line {
    pub(super) fn step(&self) -> u64 {
        match self {
            Line::Step(line) => line.step,
            Line::Validation(line) => line.step,
        }
    }

    pub(super) fn time(&self) -> f64 {
        match self {
            Line::Step(line) => line.time,
            Line::Validation(line) => line.time,
        }
    }

    /// What TensorBoard shows of it.
    pub(super) fn scalars(&self) -> Vec<(&'static str, f64)> {
        match self {
            Line::Step(line) => vec![
                ("train/loss", line.loss.into()),
                ("train/classification", line.classification.into()),
                ("train/triplet", line.triplet.into()),
                ("train/gradient_norm", line.gradient_norm.into()),
                ("train/learning_rate", line.learning_rate),
                ("train/length_s", line.length_s),
                ("speed/samples_per_s", line.samples_per_s),
                ("speed/waiting_share", line.waiting_share),
            ],
            Line::Validation(line) => vec![
                ("validation/map", line.map),
                ("validation/mr1", line.mr1),
                ("validation/hit_at_1", line.hit_at_1),
                ("validation/triplet", line.triplet),
            ],
        }
    }
}

/// The lines of `path` that tell of steps up to `kept_steps`, each with its text. A last
/// line cut off by a kill is dropped.
pub(super) fn read(path: &Path, kept_steps: u64) -> Result<Vec<(String, Line)>> {
    if kept_steps == 0 || !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines =
        text.lines().map_while(|line| Some((format!("{line}\n"), serde_json::from_str::<Line>(line).ok()?)));
    Ok(lines.filter(|(_, line)| line.step() <= kept_steps).collect())
}

pub(super) fn push(text: &mut Vec<u8>, line: &Line) -> Result<()> {
    serde_json::to_writer(&mut *text, line).context("a line of metrics cannot be written as JSON")?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Line {
        Line::Step(StepLine {
            step,
            epoch: 0,
            length_s: 100.0,
            loss: 0.1 + step as f32,
            classification: 0.3,
            triplet: 1.0 / 3.0,
            gradient_norm: 2.0,
            learning_rate: 1e-4,
            samples_per_s: 10.0,
            waiting_share: 0.0,
            time: 1.5,
        })
    }

    #[test]
    fn lines_up_to_a_step_come_back_and_a_torn_one_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut text = Vec::new();
        for n in 1..=3 {
            push(&mut text, &step(n)).unwrap();
        }
        text.extend_from_slice(b"{\"kind\":\"step\",\"st");
        std::fs::write(&path, &text).unwrap();
        let kept = read(&path, 2).unwrap();
        assert_eq!(kept.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>(), [step(1), step(2)]);
        assert!(text.starts_with(kept.iter().map(|(text, _)| text.as_str()).collect::<String>().as_bytes()));
        assert_eq!(read(&path, 9).unwrap().len(), 3);
        assert!(read(&path, 0).unwrap().is_empty());
    }
}
