//! A made-up data set of any size, without audio, to measure the bookkeeping on (`scripts/bench_rows.sh`):
//!
//! ```sh
//! cargo run --release -p bc-features --example made_up -- LISTED.parquet INDEX.parquet FEATURES SHARE PART_ROWS
//! ```
//!
//! Writes INDEX: the versions of LISTED, all usable, with made-up files and content hashes; and to the folder FEATURES
//! rows of one column (84 values) for SHARE of them (0 to 1), PART_ROWS in a file.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::features::{CqtSettings, FeatureRow, PartName, PartWriter, Source};
use bc_formats::fingerprint::digest;
use bc_formats::index::{Index, IndexWriter, Status, Version};
use bc_formats::provenance::Provenance;
use half::f16;

const CHUNK: usize = 1 << 16;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listed, index, features, share, part_rows] = arguments.as_slice() else {
        bail!("usage: made_up LISTED.parquet INDEX.parquet FEATURES SHARE PART_ROWS");
    };
    let share: f64 = share.parse().context("SHARE")?;
    let mut made = MadeUp::new(Path::new(index), Path::new(features), part_rows.parse().context("PART_ROWS")?)?;
    Index::read_each(Path::new(listed), |version| made.add(version, share))?;
    made.finish()
}

struct MadeUp<'a> {
    index: IndexWriter,
    waiting: Vec<Version>,
    rows: usize,
    features: &'a Path,
    part: Option<PartWriter>,
    part_rows: usize,
    in_part: usize,
    parts: u64,
    with_features: f64,
}

impl<'a> MadeUp<'a> {
    fn new(index: &Path, features: &'a Path, part_rows: usize) -> Result<Self> {
        let index = IndexWriter::create(index, &serde_json::json!({}))?;
        let waiting = Vec::with_capacity(CHUNK);
        Ok(Self { index, waiting, rows: 0, features, part: None, part_rows, in_part: 0, parts: 0, with_features: 0.0 })
    }

    fn add(&mut self, mut version: Version, share: f64) -> Result<()> {
        self.rows += 1;
        let hash: String = digest(&version.version_id).iter().map(|byte| format!("{byte:02x}")).collect();
        version.audio_path = Some(format!("audio/{}/{}.mp3", &hash[..2], version.version_id));
        (version.status, version.reason) = (Status::Ok, None);
        (version.duration_s, version.bytes) = (Some(200.0), Some(3_200_000));
        (version.sample_rate, version.channels, version.codec) = (Some(44_100), Some(2), Some("mp3".into()));
        version.content_hash = Some(hash.clone());
        self.with_features += share;
        if self.with_features >= 1.0 {
            self.with_features -= 1.0;
            self.row(&version.version_id, hash)?;
        }
        self.waiting.push(version);
        if self.waiting.len() == CHUNK {
            self.index.add(std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK)))?;
        }
        Ok(())
    }

    fn row(&mut self, id: &str, source_hash: String) -> Result<()> {
        let writer = match self.part.take() {
            Some(part) => part,
            None => PartWriter::create(&self.features.join("part-new.parquet"), CqtSettings::default())?
                .made_by(bc_audio::EXTRACTOR),
        };
        let part = self.part.insert(writer);
        part.push(FeatureRow {
            version_id: id.to_owned(),
            frames: 1,
            source_hash,
            source: Source { bytes: Some(3_200_000), modified_ns: Some(1) },
            error_share: Some(0.0),
            magnitude: vec![f16::ONE; 84],
        })?;
        self.in_part += 1;
        if self.in_part == self.part_rows { self.end_part() } else { Ok(()) }
    }

    fn end_part(&mut self) -> Result<()> {
        self.in_part = 0;
        let Some(part) = self.part.take() else { return Ok(()) };
        let (folder, number) = (self.features, self.parts);
        self.parts += 1;
        part.commit_as(provenance(), |content| folder.join(PartName::new(number, content).to_string()))?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.end_part()?;
        self.index.add(std::mem::take(&mut self.waiting))?;
        self.index.commit(&mut provenance())?;
        println!("{} versions, {} parts", self.rows, self.parts);
        Ok(())
    }
}

fn provenance() -> Provenance {
    Provenance {
        format: String::new(),
        tool: "made_up".into(),
        settings: serde_json::json!({}),
        fingerprint: String::new(),
        inputs: Default::default(),
    }
}
