//! Training curves as one PNG: losses, validation, learning rate.

use std::path::Path;

use anyhow::Result;
use bc_plot::Area;
use bc_plot::plotters::prelude::*;

use super::Line;

const SIZE: (u32, u32) = (1100, 1000);
/// Maximum number of points of a curve: more than pixels would not be visible.
const MAX_POINTS: usize = 1100;

/// The label of a curve, and its points (step, value).
type Curve = (&'static str, Vec<(f64, f64)>);

/// Draws `lines` into the PNG `path`.
pub(super) fn draw(path: &Path, lines: &[Line]) -> Result<()> {
    let panels: [(&str, Vec<Curve>); 3] = [
        (
            "Training loss",
            vec![
                ("sum", steps(lines, |l| l.loss.into())),
                ("cross entropy", steps(lines, |l| l.classification.into())),
                ("triplet", steps(lines, |l| l.triplet.into())),
            ],
        ),
        (
            "Validation",
            vec![
                ("mAP", validations(lines, |l| l.map)),
                ("hit@1", validations(lines, |l| l.hit_at_1)),
                ("triplet loss", validations(lines, |l| l.triplet)),
            ],
        ),
        ("Learning rate", vec![("learning rate", steps(lines, |l| l.learning_rate))]),
    ];
    bc_plot::png(path, SIZE, |root| {
        for (area, (title, curves)) in root.split_evenly((3, 1)).iter().zip(&panels) {
            panel(area, title, curves)?;
        }
        Ok(())
    })
}

/// Draws one chart with its curves and a legend.
fn panel(area: &Area<'_>, title: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let last = points().map(|p| p.0).fold(1.0, f64::max);
    let top = points().map(|p| p.1).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..last, 0.0..top)?;
    let number = |v: &f64| if *v != 0.0 && v.abs() < 0.01 { format!("{v:.1e}") } else { format!("{v:.2}") };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&number)
        .x_desc("step")
        .draw()?;
    for (i, (name, points)) in curves.iter().enumerate() {
        let colour = Palette99::pick(i).mix(0.9);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// Returns the curve of a value of the optimiser steps.
fn steps(lines: &[Line], value: impl Fn(&super::StepLine) -> f64) -> Vec<(f64, f64)> {
    downsample(lines.iter().filter_map(|line| match line {
        Line::Step(line) => Some((line.step as f64, value(line))),
        Line::Start(_) | Line::Validation(_) => None,
    }))
}

/// Returns the curve of a value of the validations.
fn validations(lines: &[Line], value: impl Fn(&super::ValidationLine) -> f64) -> Vec<(f64, f64)> {
    downsample(lines.iter().filter_map(|line| match line {
        Line::Validation(line) => Some((line.step as f64, value(line))),
        Line::Start(_) | Line::Step(_) => None,
    }))
}

/// Reduces a curve to at most [`MAX_POINTS`] points by averaging groups of neighbours. Points that are not finite are left
/// out.
fn downsample(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.filter(|(_, y)| y.is_finite()).collect();
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{StepLine, ValidationLine};

    #[test]
    fn curves_are_drawn_as_a_png() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.png");
        let mut lines = Vec::new();
        for step in 1..=2_500u64 {
            lines.push(Line::Step(StepLine {
                step,
                epoch: step / 100,
                length_s: 100.0,
                loss: 5.0 / step as f32,
                classification: 4.0 / step as f32,
                triplet: 1.0 / step as f32,
                gradient_norm: 1.0,
                learning_rate: 1e-3,
                samples_per_s: 1.0,
                waiting_share: 0.0,
                time: 0.0,
            }));
        }
        lines.push(Line::Validation(ValidationLine {
            step: 2_500,
            epoch: 25,
            map: 0.5,
            mr1: 3.0,
            hit_at_1: 0.4,
            triplet: f64::NAN,
            best: true,
            scheduled: true,
            seconds: 1.0,
            time: 0.0,
        }));
        draw(&path, &lines).unwrap();
        let empty = folder.path().join("empty.png");
        draw(&empty, &[]).unwrap();
        let (drawn, empty) = (std::fs::read(&path).unwrap(), std::fs::read(&empty).unwrap());
        assert_eq!(&drawn[..8], b"\x89PNG\r\n\x1a\n");
        assert!(drawn.len() > empty.len());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn downsampling_keeps_the_mean() {
        let points = downsample((0..10_000).map(|i| (i as f64, 1.0)));
        assert!(points.len() <= MAX_POINTS);
        assert!(points.iter().all(|p| p.1 == 1.0));
    }
}
