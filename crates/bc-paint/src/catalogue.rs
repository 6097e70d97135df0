//! Reads the works of all sources of `[paint]` and assigns them to splits.
//!
//! **In**: the sources and the lists of works that `[paint]` names. **Out**: every work with its split and weight, and
//! fingerprints of what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bc_formats::config::PaintConfig;
use bc_formats::fingerprint::{self, Fingerprint};
use bc_formats::index::Split;

use crate::read;
use crate::work::Work;

/// The works of all sources, source after source.
pub struct Catalogue {
    /// All works, source after source.
    pub works: Vec<Entry>,
    /// Fingerprints of the notes of each source (keys `source 0`, `source 1` ...) and of the lists (key `splits`).
    pub inputs: BTreeMap<String, String>,
}

/// A work, its split and its weight.
pub struct Entry {
    /// The notes of the work.
    pub work: Work,
    /// The number of the work's source in `[paint] sources`.
    pub source: usize,
    /// Split of the work: `train`, `val`, or `none` if it is in no list.
    pub split: Split,
    /// Weight of the work's source.
    pub weight: f64,
}

/// The lists of works as they are read from JSON: `{"train": [...], "val": [...], "test": [...], "merge": {...}}`. The keys of
/// `merge` are songs with the same melody as another song, which is the value. Other keys are ignored.
#[derive(Default, serde::Deserialize)]
struct Lists {
    #[serde(default)]
    train: BTreeSet<String>,
    #[serde(default)]
    val: BTreeSet<String>,
    #[serde(default)]
    test: BTreeSet<String>,
    #[serde(default)]
    merge: BTreeMap<String, String>,
}

impl Lists {
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the lists {}; correct [paint] splits or --splits", path.display())
        })?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{} holds no lists of works: {{\"train\": [...], \"val\": [...]}} is needed",
                path.display()
            )
        })
    }

    fn names(&self, id: &str) -> bool {
        self.train.contains(id) || self.val.contains(id) || self.test.contains(id)
    }

    fn split(&self, id: &str) -> Split {
        match id {
            _ if self.merge.contains_key(id) || self.test.contains(id) => Split::None,
            _ if self.val.contains(id) => Split::Val,
            _ if self.train.contains(id) => Split::Train,
            _ => Split::None,
        }
    }
}

impl Catalogue {
    /// Reads the sources and lists of `config`.
    ///
    /// # Errors
    /// No source is given, one cannot be read or holds nothing to paint, two have a work with the same id, or a list of
    /// works is malformed.
    pub fn read(config: &PaintConfig) -> Result<Self> {
        ensure!(
            !config.sources.is_empty(),
            "there is nothing to paint from; give [paint] sources or --source (MIDI files or tunes)"
        );
        let mut inputs = BTreeMap::new();
        let lists = if config.splits.as_os_str().is_empty() {
            Lists::default()
        } else {
            inputs.insert("splits".to_owned(), fingerprint::of_file(&config.splits)?);
            Lists::read(&config.splits)?
        };
        let mut works: Vec<Entry> = Vec::new();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (number, source) in config.sources.iter().enumerate() {
            let read = read::source(source)?;
            let weight = config.weights.get(number).copied().unwrap_or(1.0);
            let listed = read.iter().any(|work| lists.names(&work.id));
            inputs.insert(format!("source {number}"), of_works(&read));
            for work in read {
                if let Some(other) = seen.insert(work.id.clone(), number) {
                    bail!(
                        "{} and {} both have a work {}; leave one out",
                        config.sources[other].display(),
                        source.display(),
                        work.id
                    );
                }
                let split = if listed { lists.split(&work.id) } else { by_hash(&work.id, config) };
                works.push(Entry { work, source: number, split, weight });
            }
        }
        Ok(Self { works, inputs })
    }
}

/// Returns the split of a work of a source without lists: a hash of the work's id decides whether it is held out.
fn by_hash(id: &str, config: &PaintConfig) -> Split {
    let hash = u64::from_str_radix(&Fingerprint::of("held out").add(id).finish(), 16).unwrap_or(0);
    if (hash as f64 / u64::MAX as f64) < config.held_out { Split::Val } else { Split::Train }
}

/// Computes the fingerprint of a source from all notes of its works.
fn of_works(works: &[Work]) -> String {
    let mut fingerprint = Fingerprint::of("works");
    for work in works {
        fingerprint.add(&work.id).add(format!("{:?}", work.settings));
    }
    fingerprint.finish()
}
