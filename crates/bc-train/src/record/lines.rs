//! The lines of `metrics.jsonl`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::machine::Machine;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// A process starts or continues the run.
    Start(StartLine),
    /// An optimiser step.
    Step(StepLine),
    /// A validation.
    Validation(ValidationLine),
}

/// The line that a process writes when it starts or continues the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartLine {
    /// Steps done before it.
    pub step: u64,
    /// The program and the machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// Seconds since 1970.
    pub time: f64,
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
    /// Items per second, over this step.
    pub samples_per_s: f64,
    /// Share of the step's time spent waiting for data.
    pub waiting_share: f64,
    /// Seconds since 1970.
    pub time: f64,
}

/// A validation. Figures that are not finite are `null` in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationLine {
    /// Steps done before it.
    pub step: u64,
    /// Epoch of the last step, from 0.
    pub epoch: u64,
    /// Mean average precision over the validation split.
    #[serde(deserialize_with = "number_or_null")]
    pub map: f64,
    /// Mean rank of the first match.
    #[serde(deserialize_with = "number_or_null")]
    pub mr1: f64,
    /// Share of queries whose nearest neighbour is a match.
    #[serde(deserialize_with = "number_or_null")]
    pub hit_at_1: f64,
    /// Triplet loss of random triplets of the split.
    #[serde(deserialize_with = "number_or_null")]
    pub triplet: f64,
    /// Whether this validation is the best so far.
    pub best: bool,
    /// False for a validation at the end of a run that is not in the plan of validations. A run that is extended
    /// does not count it.
    #[serde(default = "default_true", skip_serializing_if = "is_true")]
    pub scheduled: bool,
    /// Duration in seconds.
    pub seconds: f64,
    /// Seconds since 1970.
    pub time: f64,
}

fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn default_true() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Line {
    pub(super) fn step(&self) -> u64 {
        match self {
            Line::Start(line) => line.step,
            Line::Step(line) => line.step,
            Line::Validation(line) => line.step,
        }
    }

    pub(super) fn time(&self) -> f64 {
        match self {
            Line::Start(line) => line.time,
            Line::Step(line) => line.time,
            Line::Validation(line) => line.time,
        }
    }

    /// Returns the scalars of this line for TensorBoard.
    pub(super) fn scalars(&self) -> Vec<(&'static str, f64)> {
        match self {
            Line::Start(_) => Vec::new(),
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

/// The point up to which the record of a run is kept when the run is started or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// The run begins: nothing is kept.
    Never,
    /// After `step` steps.
    After {
        /// Steps done.
        step: u64,
        /// Whether the validation of that step, if one is due, is done.
        validated: bool,
    },
}

impl Resumed {
    fn keeps(self, step: u64, is_validation: bool) -> bool {
        match self {
            Resumed::Never => false,
            Resumed::After { step: last, validated } => {
                step < last || (step == last && (validated || !is_validation))
            }
        }
    }
}

/// The bytes of a line, and its content if this program can read it.
pub(super) type ReadLine = (Vec<u8>, Option<Line>);

/// Reads the lines of `path` that are kept when the run continues from `resumed`, each with its bytes. A line that this
/// program cannot read is kept (another version may have written it), unless it names a later step. A last line
/// cut off by a kill is dropped.
pub(super) fn read(path: &Path, resumed: Resumed) -> Result<Vec<ReadLine>> {
    if resumed == Resumed::Never {
        return Ok(Vec::new());
    }
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let (mut kept, mut unknown, mut in_range) = (Vec::new(), 0, true);
    for text in bytes.split_inclusive(|&byte| byte == b'\n') {
        let value = serde_json::from_slice::<Value>(text).ok();
        if value.is_none() && !text.ends_with(b"\n") {
            break;
        }
        // A line without a step belongs to the step of the line before it.
        if let Some(step) = value.as_ref().and_then(|value| value["step"].as_u64()) {
            let is_validation = value.as_ref().is_some_and(|value| value["kind"] == "validation");
            in_range = resumed.keeps(step, is_validation);
        }
        if in_range {
            let line = value.and_then(|value| serde_json::from_value(value).ok());
            unknown += usize::from(line.is_none());
            let newline: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
            kept.push(([text, newline].concat(), line));
        }
    }
    if unknown > 0 {
        tracing::warn!(
            "{}: {unknown} lines cannot be read by this version; they stay in it, and are not in the curves",
            path.display()
        );
    }
    Ok(kept)
}

/// Appends a line to `text` as JSON.
pub(super) fn append(text: &mut Vec<u8>, line: &Line) -> Result<()> {
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
    fn lines_up_to_a_step_are_read_and_a_truncated_one_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut text = Vec::new();
        for n in 1..=3 {
            append(&mut text, &step(n)).unwrap();
        }
        text.extend_from_slice(b"{\"kind\":\"step\",\"st");
        std::fs::write(&path, &text).unwrap();
        let after = |step| Resumed::After { step, validated: true };
        let kept = read(&path, after(2)).unwrap();
        assert_eq!(
            kept.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>(),
            [Some(step(1)), Some(step(2))]
        );
        assert!(text.starts_with(&kept.into_iter().flat_map(|(text, _)| text).collect::<Vec<u8>>()));
        assert_eq!(read(&path, after(9)).unwrap().len(), 3);
        assert!(read(&path, Resumed::Never).unwrap().is_empty());
    }

    #[test]
    fn unreadable_lines_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            r#"{"kind":"validation","step":1,"epoch":0,"map":null,"mr1":null,"hit_at_1":null,"triplet":null,"best":false,"seconds":1.0,"time":1.0}"#,
            r#"{"kind":"of a later version","step":1}"#,
            "\u{0}\u{0} not JSON",
            r#"{"kind":"of a later version","step":7}"#,
            "not JSON either",
        ];
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let after = Resumed::After { step: 3, validated: true };
        let kept = read(&path, after).unwrap();
        let text: Vec<u8> = kept.iter().flat_map(|(text, _)| text.clone()).collect();
        assert_eq!(String::from_utf8(text).unwrap(), lines[..3].join("\n") + "\n");
        let Some(Line::Validation(line)) = &kept[0].1 else { panic!("{:?}", kept[0].1) };
        assert!(line.map.is_nan() && line.triplet.is_nan() && line.scheduled);
        assert!(kept[1].1.is_none() && kept[2].1.is_none());
    }

    #[test]
    fn repeated_validation_is_not_recorded_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut text = Vec::new();
        append(&mut text, &step(2)).unwrap();
        let validation = ValidationLine {
            step: 2,
            epoch: 0,
            map: 0.5,
            mr1: 1.0,
            hit_at_1: 1.0,
            triplet: f64::INFINITY,
            best: true,
            scheduled: false,
            seconds: 1.0,
            time: 1.0,
        };
        append(&mut text, &Line::Validation(validation)).unwrap();
        std::fs::write(&path, text).unwrap();
        let lines = |validated| read(&path, Resumed::After { step: 2, validated }).unwrap();
        assert_eq!((lines(false).len(), lines(true).len()), (1, 2));
        let Some(Line::Validation(read)) = &lines(true)[1].1 else { panic!() };
        assert!(read.triplet.is_nan() && !read.scheduled);
    }
}
