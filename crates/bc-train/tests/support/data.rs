//! Writes an index and features like those of the earlier stages.

use std::path::Path;

use bc_formats::features::{CqtSettings, FeatureRow, PartWriter, Source};
use bc_formats::index::{Index, Split, Status, Version};
use bc_formats::provenance::Provenance;
use half::f16;

const FRAMES: u32 = 200;

/// The provenance of a file that no stage wrote.
pub fn provenance() -> Provenance {
    Provenance {
        format: String::new(),
        tool: "test".into(),
        settings: serde_json::Value::Null,
        fingerprint: String::new(),
        inputs: Default::default(),
    }
}

/// A usable version.
pub fn version(id: &str, clique: &str, split: Split) -> Version {
    let mut version = Version::new(id, clique);
    version.split = split;
    version.status = Status::Ok;
    version.audio_path = Some(format!("{id}.wav"));
    version
}

/// Six training cliques of `per_clique` versions and two validation cliques of two.
pub fn versions(per_clique: usize) -> Vec<Version> {
    let of = |split: Split, cliques: usize, per_clique: usize| {
        (0..cliques).flat_map(move |c| {
            (0..per_clique).map(move |v| version(&format!("{split}-{c}-{v}"), &format!("{split}-{c}"), split))
        })
    };
    of(Split::Train, 6, per_clique).chain(of(Split::Val, 2, 2)).collect()
}

/// Index and features in `folder`; those of the version `broken` are infinite.
pub fn write(folder: &Path, versions: Vec<Version>, cqt: CqtSettings, broken: Option<&str>) {
    let infinite = versions.iter().position(|version| Some(version.version_id.as_str()) == broken);
    write_values(folder, versions, cqt, |_| FRAMES, infinite);
}

/// The same, with `frames(i)` columns for version `i`.
pub fn write_of_lengths(
    folder: &Path,
    versions: Vec<Version>,
    cqt: CqtSettings,
    frames: impl Fn(usize) -> u32,
) {
    write_values(folder, versions, cqt, frames, None);
}

fn write_values(
    folder: &Path,
    versions: Vec<Version>,
    cqt: CqtSettings,
    frames: impl Fn(usize) -> u32,
    infinite: Option<usize>,
) {
    let mut part = PartWriter::create(&folder.join("features/part-0.parquet"), cqt).unwrap();
    for (n, version) in versions.iter().enumerate() {
        let frames = frames(n);
        let mut magnitude: Vec<f16> =
            (0..cqt.bins * frames).map(|i| f16::from_f32(((i as usize * (n + 3)) % 17) as f32)).collect();
        if infinite == Some(n) {
            magnitude.fill(f16::INFINITY);
        }
        let row = FeatureRow {
            version_id: version.version_id.clone(),
            frames,
            source_hash: n.to_string(),
            source: Source::default(),
            error_share: None,
            magnitude,
        };
        part.push(row).unwrap();
    }
    part.commit(provenance()).unwrap();
    write_index(folder, versions);
}

/// Writes an index and features whose versions differ much (slow waves over bins and time, different for each clique and
/// version), so that a small network can distinguish them and rounding errors stay small: random features all look alike
/// once they are averaged, and norms of embeddings then amplify rounding a thousandfold.
pub fn write_waves(folder: &Path, versions: Vec<Version>, cqt: CqtSettings) {
    let mut part = PartWriter::create(&folder.join("features/part-0.parquet"), cqt).unwrap();
    for (n, version) in versions.iter().enumerate() {
        let (clique, own) = ((n / 4) as f32, (n % 4) as f32);
        let wave = |index: usize| {
            let (bin, column) = ((index / FRAMES as usize) as f32, (index % FRAMES as usize) as f32);
            let tune = (0.11 * (clique + 2.0) * bin + 0.7 * clique).sin();
            f16::from_f32((8.0 + 6.0 * tune + 2.0 * (0.03 * (own + 1.0) * column + 0.2 * bin).sin()).abs())
        };
        let row = FeatureRow {
            version_id: version.version_id.clone(),
            frames: FRAMES,
            source_hash: n.to_string(),
            source: Source::default(),
            error_share: None,
            magnitude: (0..cqt.bins as usize * FRAMES as usize).map(wave).collect(),
        };
        part.push(row).unwrap();
    }
    part.commit(provenance()).unwrap();
    write_index(folder, versions);
}

/// `index.parquet` in `folder`.
pub fn write_index(folder: &Path, versions: Vec<Version>) {
    Index { versions, provenance: provenance() }.write(&folder.join("index.parquet")).unwrap();
}
