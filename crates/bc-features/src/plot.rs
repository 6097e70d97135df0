//! Draws a transform as a PNG: notes on the vertical axis, seconds on the horizontal one, loudness as colour.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_audio::{Extractor, Limits};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::{CqtSettings, FeatureSet};
use bc_plot::plotters::prelude::*;

const SIZE: (u32, u32) = (1200, 620);
/// Range of levels that is shown: values this many decibels below the loudest one, or more, are black.
const RANGE_DB: f32 = 60.0;
const NOTES: [&str; 12] = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];

/// Draws the audio file or the version `what` into the PNG `out`.
///
/// # Errors
/// Neither a file nor a version with features, a file that does not decode, a picture that
/// cannot be written.
pub fn run(config: &FeaturesConfig, what: &str, out: &Path) -> Result<()> {
    if out.extension().is_none_or(|extension| extension != "png") {
        bail!("--out {} is to be a picture; give it the ending .png", out.display());
    }
    let path = Path::new(what);
    let (settings, magnitudes, frames) = if path.is_file() {
        let settings = CqtSettings { pool: 1, ..config.cqt() };
        let features = Extractor::new(settings, Limits::of(config))
            .file_exact(path)
            .with_context(|| format!("cannot transform {what}"))?;
        (settings, features.magnitude, features.frames)
    } else {
        stored(config, what)?
    };
    let seconds = frames as f64 * settings.column_seconds();
    let title = path.file_name().map_or_else(|| what.to_owned(), |name| name.to_string_lossy().into_owned());
    draw(out, &title, &settings, &magnitudes, frames)?;
    bc_cli::println!("{}: {title}, {} bins x {frames} frames, {seconds:.1} s", out.display(), settings.bins);
    Ok(())
}

/// Reads the stored features of a version: settings, magnitudes (bins x frames) and number of frames.
fn stored(config: &FeaturesConfig, id: &str) -> Result<(CqtSettings, Vec<f32>, usize)> {
    let Some(set) = FeatureSet::open_if_any(&config.output)? else {
        bail!("{id} is not a file, and there are no features in {}", config.output.display());
    };
    let Some(row) = set.row(id)? else {
        bail!("{id} is neither a file nor a version with features in {}", config.output.display());
    };
    let magnitudes = row.magnitude.iter().map(|value| value.to_f32()).collect();
    Ok((set.settings, magnitudes, row.frames as usize))
}

/// Returns the note of a bin, with its octave, if the bins fall on the tempered scale.
fn note(settings: &CqtSettings, bin: u32) -> String {
    let midi = 69.0 + 12.0 * (settings.frequency(bin) / 440.0).log2();
    let nearest = midi.round() as i64;
    format!("{}{}", NOTES[nearest.rem_euclid(12) as usize], nearest.div_euclid(12) - 1)
}

/// Draws magnitudes (bins x frames, row-major) with axes and a title.
fn draw(path: &Path, title: &str, settings: &CqtSettings, magnitudes: &[f32], frames: usize) -> Result<()> {
    let bins = settings.bins as usize;
    let loudest = magnitudes.iter().fold(1e-9f32, |max, value| max.max(*value));
    let seconds = frames as f64 * settings.column_seconds();
    // Octaves above the lowest bin, so that ticks fall on its note.
    let per_octave = f64::from(settings.bins_per_octave.max(1));
    bc_plot::png(path, SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(printable(title), ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..seconds.max(1e-3), 0.0..bins as f64 / per_octave)?;
        let plot = chart.plotting_area();
        let (width, height) = plot.dim_in_pixel();
        let (left, top) = plot.get_base_pixel();
        for x in 0..width {
            // The loudest of the frames that fall on one pixel.
            let first = (u64::from(x) * frames as u64 / u64::from(width)) as usize;
            let last = ((u64::from(x) + 1) * frames as u64 / u64::from(width)) as usize;
            let frames_here = first..last.clamp(first + 1, frames.max(first + 1));
            for y in 0..height {
                let bin = ((u64::from(height - 1 - y)) * bins as u64 / u64::from(height)) as usize;
                let row = &magnitudes[bin * frames..(bin + 1) * frames];
                let value = row[frames_here.clone()].iter().fold(0f32, |max, value| max.max(*value));
                let db = 20.0 * (value / loudest).max(1e-9).log10();
                area.draw_pixel(
                    (left - area_left(area) + x as i32, top - area_top(area) + y as i32),
                    &shade(1.0 + db / RANGE_DB),
                )?;
            }
        }
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("seconds")
            .y_desc("note")
            .y_labels(bins.div_ceil(per_octave as usize) + 1)
            .y_label_formatter(&|octave| note(settings, (octave * per_octave).round() as u32))
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .draw()?;
        Ok(())
    })
}

fn area_left(area: &bc_plot::Area<'_>) -> i32 {
    area.get_base_pixel().0
}

fn area_top(area: &bc_plot::Area<'_>) -> i32 {
    area.get_base_pixel().1
}

/// Replaces characters that the built-in font, which has only ASCII, cannot show.
fn printable(title: &str) -> String {
    title.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect()
}

/// Returns a colour for a value from 0 to 1: from black over purple and orange to pale yellow, in even steps of lightness.
fn shade(share: f32) -> RGBColor {
    const STOPS: [(f32, [f32; 3]); 5] = [
        (0.0, [0.0, 0.0, 4.0]),
        (0.3, [66.0, 10.0, 104.0]),
        (0.55, [165.0, 44.0, 96.0]),
        (0.8, [245.0, 125.0, 21.0]),
        (1.0, [252.0, 255.0, 164.0]),
    ];
    let share = share.clamp(0.0, 1.0);
    let segment = STOPS.windows(2).find(|pair| share <= pair[1].0);
    let [(from, low), (to, high)] = segment.map_or([STOPS[3], STOPS[4]], |pair| [pair[0], pair[1]]);
    let part = (share - from) / (to - from);
    let channel = |c: usize| (low[c] + part * (high[c] - low[c])) as u8;
    RGBColor(channel(0), channel(1), channel(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_labelled_with_their_notes() {
        let settings = CqtSettings::default();
        assert_eq!(note(&settings, 0), "C1");
        assert_eq!(note(&settings, 9 + 36), "A4");
        assert_eq!(note(&settings, 83), "B7");
    }

    #[test]
    fn louder_magnitudes_are_drawn_lighter() {
        let light = |share: f32| {
            let RGBColor(r, g, b) = shade(share);
            0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
        };
        let steps: Vec<f32> = (0..=20).map(|step| light(step as f32 / 20.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[1] > pair[0]), "{steps:?}");
    }
}
