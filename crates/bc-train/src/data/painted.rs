//! Versions that are painted during training, instead of stored ones.
//!
//! **In**: the works of `[paint]` (bc-paint) and a position in training. **Out**: features of a version that
//! never occurred before, at the network's pooling and of the crop's length.
//!
//! A version is a function of the run's seed, the epoch, its number in the epoch and the work; so a resumed run sees the
//! same versions as one that was never interrupted, whatever the number of worker threads.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::Config;
use bc_formats::features::CqtSettings;
use bc_formats::fingerprint::Fingerprint;
use bc_formats::index::Split;
use bc_paint::{Catalogue, Painter, VariationRange, VersionSeed, Work};
use half::f16;
use serde_json::{Value, json};

/// Works of which versions are painted.
pub struct Painted {
    painter: Painter,
    works: Vec<Work>,
    sources: Vec<Source>,
    seed: u64,
    /// What the versions depend on besides the run's seed: keys of `[paint]`, the sources' notes and shares.
    pub settings: Value,
    /// Fingerprint of `settings`.
    pub fingerprint: String,
}

/// A source of works.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Path that it was read from.
    pub path: PathBuf,
    /// The range of its works.
    pub works: Range<usize>,
    /// Its share of the painted cliques.
    pub share: f64,
}

impl Painted {
    /// Reads the training works of `[paint]`. Works whose id is in `held_out` (the cliques that the index holds out for
    /// validation and test) are left out with a warning.
    ///
    /// # Errors
    /// The errors of [`Catalogue::read`]; shares that are not one for each source; a source with a share and nothing to
    /// train on.
    pub fn open(config: &Config, held_out: &BTreeSet<&str>) -> Result<Self> {
        let paint = &config.paint;
        let shares = &config.train.source_shares;
        ensure!(
            shares.is_empty() || shares.len() == paint.sources.len(),
            "[train] source_shares are {}, but [paint] has {} sources: one share each, or none",
            shares.len(),
            paint.sources.len()
        );
        let cqt = CqtSettings { pool: config.model.pool, ..config.features.cqt() };
        let painter = Painter::new(&cqt, VariationRange::from_config(paint))?;
        let Catalogue { works: entries, inputs } =
            Catalogue::read(paint).context("[train] data = \"painted\"")?;
        let mut painted = Self {
            painter,
            works: Vec::new(),
            sources: Vec::new(),
            seed: config.train.seed,
            settings: Value::Null,
            fingerprint: String::new(),
        };
        let mut left_out = 0;
        let mut entries = entries.into_iter().filter(|entry| entry.split == Split::Train).peekable();
        for (number, path) in paint.sources.iter().enumerate() {
            let first = painted.works.len();
            while let Some(entry) = entries.next_if(|entry| entry.source == number) {
                if held_out.contains(entry.work.id.as_str()) {
                    left_out += 1;
                } else {
                    painted.works.push(entry.work);
                }
            }
            let works = first..painted.works.len();
            let weight = paint.weights.get(number).copied().unwrap_or(1.0);
            let share = shares.get(number).copied().unwrap_or(weight * works.len() as f64);
            painted.sources.push(Source { path: path.clone(), works, share });
        }
        if left_out > 0 {
            tracing::warn!(
                "{left_out} works of [paint] are validation or test cliques of {} and are not trained on",
                config.features.index.display()
            );
        }
        painted.normalise_shares()?;
        painted.settings = settings(config, &painted, &inputs);
        painted.fingerprint = Fingerprint::of("painted").add_json(&painted.settings).finish();
        Ok(painted)
    }

    /// Checks the shares and scales them so that they add up to 1.
    fn normalise_shares(&mut self) -> Result<()> {
        for source in &self.sources {
            if source.share > 0.0 && source.works.is_empty() {
                bail!(
                    "{}: no work of it is left to train on; correct [paint] splits or held_out, or give it no share \
                     ([train] source_shares)",
                    source.path.display()
                );
            }
        }
        let total: f64 = self.sources.iter().map(|source| source.share).sum();
        ensure!(
            total > 0.0,
            "no work of [paint] is left to train on; correct its splits, held_out or weights"
        );
        self.sources.iter_mut().for_each(|source| source.share /= total);
        Ok(())
    }

    /// Returns the sources with their works.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Returns the id of every work, which is its clique.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.works.iter().map(|work| work.id.as_str())
    }

    /// Returns the number of works.
    pub fn len(&self) -> usize {
        self.works.len()
    }

    /// Returns whether there are no works, which [`Painted::open`] does not allow.
    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// Returns the id of one work.
    pub fn id(&self, work: usize) -> &str {
        &self.works[work].id
    }

    /// Paints `columns` columns (of the network's pooling) of version `number` of an epoch: bins x columns, rounded
    /// as stored features are. Versions of a work in one epoch begin near a common position.
    pub fn paint(&self, work: usize, epoch: u64, number: u64, columns: usize) -> Vec<f16> {
        let version = VersionSeed { seed: self.seed, epoch, version: number };
        let picture = self.painter.paint(&self.works[work], version, columns);
        picture.values.into_iter().map(f16::from_f32).collect()
    }
}

/// Returns everything that painting depends on, besides the run's own settings.
fn settings(
    config: &Config,
    painted: &Painted,
    inputs: &std::collections::BTreeMap<String, String>,
) -> Value {
    let paint = &config.paint;
    let mut works = Fingerprint::of("painted works");
    painted.ids().for_each(|id| {
        works.add(id);
    });
    let shares: Vec<f64> = painted.sources.iter().map(|source| source.share).collect();
    json!({
        "painter": bc_paint::PAINTER,
        "transpose": paint.transpose,
        "tempo": paint.tempo,
        "begin_s": paint.begin_s,
        "spread_s": paint.spread_s,
        "edits": paint.edits,
        "shares": shares,
        "inputs": inputs,
        "works": works.finish(),
    })
}
