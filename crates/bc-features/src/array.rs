//! Transforms as NumPy arrays.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_audio::{Extractor, Limits};
use bc_formats::array::{self, Matrix};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::CqtSettings;

/// Writes bins x frames of every file: to `out`, or to `out/<name>.npy` if there are several.
///
/// # Errors
/// A file that does not decode, two of one name, an array that cannot be written.
pub fn run(config: &FeaturesConfig, audio: &[PathBuf], out: &Path, pool: u32) -> Result<()> {
    let settings = CqtSettings { pool, ..config.cqt() };
    let extractor = Extractor::new(settings, Limits::of(config));
    for path in audio {
        let name = path.file_stem().context("an audio file has a name")?;
        let out = if audio.len() > 1 { out.join(name).with_extension("npy") } else { out.to_owned() };
        let made =
            extractor.file_exact(path).with_context(|| format!("cannot transform {}", path.display()))?;
        array::write(&out, &Matrix { columns: made.frames, values: made.magnitude })?;
        println!(
            "{}: {} bins x {} frames, a frame every {:.2} ms, from {} ({:.1} s)",
            out.display(),
            settings.bins,
            made.frames,
            1e3 * settings.column_seconds(),
            path.display(),
            made.duration_s
        );
    }
    Ok(())
}
