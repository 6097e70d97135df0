//! Writes transforms as NumPy arrays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_audio::{Extractor, Limits};
use bc_formats::array::{self, Matrix};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::CqtSettings;

/// Writes bins x frames of every file: to `out`, or to `out/<name>.npy` if there are several.
///
/// # Errors
/// Two files whose arrays would be one, a file that does not decode, an array that cannot be written.
pub fn run(config: &FeaturesConfig, audio: &[PathBuf], out: &Path, pool: u32) -> Result<()> {
    let settings = CqtSettings { pool, ..config.cqt() };
    let extractor = Extractor::new(settings, Limits::of(config));
    for (path, out) in outputs(audio, out)? {
        let features =
            extractor.file_exact(path).with_context(|| format!("cannot transform {}", path.display()))?;
        array::write(&out, &Matrix { columns: features.frames, values: features.magnitude })?;
        bc_cli::println!(
            "{}: {} bins x {} frames, a frame every {:.2} ms, from {} ({:.1} s)",
            out.display(),
            settings.bins,
            features.frames,
            1e3 * settings.column_seconds(),
            path.display(),
            features.duration_s
        );
    }
    Ok(())
}

/// Returns the file that each array is written to.
fn outputs<'a>(audio: &'a [PathBuf], out: &Path) -> Result<Vec<(&'a Path, PathBuf)>> {
    if let [path] = audio {
        if out.extension().is_none_or(|extension| extension != "npy") {
            bail!("--out {} must be a NumPy array; give it the ending .npy", out.display());
        }
        return Ok(vec![(path, out.to_owned())]);
    }
    let mut used: HashMap<PathBuf, &Path> = HashMap::new();
    let mut outputs = Vec::new();
    for path in audio {
        let mut name = path
            .file_stem()
            .with_context(|| format!("{} is not the name of a file", path.display()))?
            .to_owned();
        name.push(".npy");
        let array = out.join(name);
        if let Some(other) = used.insert(array.clone(), path) {
            bail!(
                "{} and {} would both become {}; transform them one by one, each with its --out",
                other.display(),
                path.display(),
                array.display()
            );
        }
        outputs.push((path.as_path(), array));
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_several_files_get_distinct_full_names() {
        let audio = ["a/01. One.mp3", "a/01. Two.mp3"].map(PathBuf::from);
        let arrays: Vec<_> =
            outputs(&audio, Path::new("out")).unwrap().into_iter().map(|(_, out)| out).collect();
        assert_eq!(arrays, ["out/01. One.npy", "out/01. Two.npy"].map(PathBuf::from));
        let error = outputs(&["a/x.mp3", "b/x.ogg"].map(PathBuf::from), Path::new("out")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a/x.mp3 and b/x.ogg would both become out/x.npy; transform them one by one, each with its --out"
        );
    }
}
