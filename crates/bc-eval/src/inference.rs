//! Embeds NumPy arrays of the network's input, without pooling or scaling.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bc_cli::progress;
use bc_formats::array::{self, Matrix};
use bc_formats::config::Config;

use bc_embed::embedder::Embedder;
use bc_embed::lengths::ByLength;
use bc_embed::origin;

/// Embeds `input` into `out` (tracks x dimensions): an array of tracks x rows x frames, or a folder of arrays of rows x frames
/// each, of any lengths, in order of their names. The values are 32-bit floats and the network's input: nothing is pooled
/// or scaled here. Returns the shape.
///
/// # Errors
/// An array of another type or shape, with another number of rows than the network's input, or with values that are not finite
/// numbers; a vector with such values.
pub fn run(config: &Config, input: &Path, out: &Path) -> Result<(usize, usize)> {
    let embedder = origin::embedder(config)?;
    let vectors =
        if input.is_dir() { embed_folder(&embedder, input)? } else { embed_array(&embedder, input)? };
    let (tracks, values) = (vectors.len(), vectors.concat());
    array::write(out, &Matrix { columns: embedder.dim(), values })?;
    Ok((tracks, embedder.dim()))
}

fn embed_array(embedder: &Embedder, input: &Path) -> Result<Vec<Vec<f32>>> {
    let array = array::read_cube(input)?;
    let [tracks, rows, frames] = array.shape;
    let expected = embedder.network().settings().bins();
    ensure!(
        rows == expected && frames > 0 && tracks > 0,
        "{} has the shape {:?}; the network takes tracks x {expected} rows x frames",
        input.display(),
        array.shape
    );
    let name = |track: usize| format!("track {track} of {} (from 0)", input.display());
    let inputs = array.values.chunks_exact(rows * frames).map(|values| Ok((values.to_vec(), frames)));
    embed(embedder, inputs, tracks, &name)
}

fn embed_folder(embedder: &Embedder, folder: &Path) -> Result<Vec<Vec<f32>>> {
    let message = || format!("cannot read {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(message)?.collect::<Result<Vec<_>, _>>();
    let mut paths: Vec<PathBuf> =
        entries.with_context(message)?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "npy"));
    paths.sort_unstable();
    ensure!(!paths.is_empty(), "{} holds no .npy", folder.display());
    let expected = embedder.network().settings().bins();
    let inputs = paths.iter().map(|path| {
        let Matrix { columns, values } = array::read(path)?;
        let rows = values.len().checked_div(columns).unwrap_or(0);
        ensure!(
            rows == expected,
            "{} has {rows} rows of {columns}; the network takes {expected} rows x frames",
            path.display()
        );
        Ok((values, columns))
    });
    embed(embedder, inputs, paths.len(), &|track: usize| paths[track].display().to_string())
}

/// Embeds inputs, each with its number of columns; returns the vectors in the same order. `name` names an input in errors.
fn embed(
    embedder: &Embedder,
    inputs: impl Iterator<Item = Result<(Vec<f32>, usize)>>,
    count: usize,
    name: &dyn Fn(usize) -> String,
) -> Result<Vec<Vec<f32>>> {
    let bar = progress::bar(count as u64, "embedding", "tracks");
    let mut groups = ByLength::new(embedder);
    let mut vectors = vec![Vec::new(); count];
    let mut store = |finished: Vec<(usize, Vec<f32>)>| {
        bar.inc(finished.len() as u64);
        finished.into_iter().for_each(|(number, vector)| vectors[number] = vector);
    };
    for (number, input) in inputs.enumerate() {
        let (values, columns) = input?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            bail!(
                "{} holds {} in row {} and column {}; the network takes finite numbers",
                name(number),
                values[at],
                at / columns,
                at % columns
            );
        }
        store(groups.add(number, values, columns)?);
    }
    store(groups.finish()?);
    bar.finish_and_clear();
    for (number, vector) in vectors.iter().enumerate() {
        ensure!(
            vector.iter().all(|value| value.is_finite()),
            "the embedding of {} holds a value that is not a finite number; scale the input as for training ([model] scale)",
            name(number)
        );
    }
    Ok(vectors)
}
