//! How two recordings of one work correspond: key shift, tempo ratio and matched sections, or why these are not available.
//!
//! Two recordings are aligned by their magnitudes ([`bc_align`]), because the network's vectors have no times. The magnitudes of an
//! indexed recording are not in the index: they are recomputed from its audio, or read from stored features.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use bc_align::align::{Section, Settings};
use bc_align::{Chroma, Folding};
use bc_audio::Features;
use bc_embed::recording::AudioEmbedder;
use bc_formats::features::{CqtSettings, FeatureSet, Source};
use bc_formats::fingerprint;
use half::f16;
use serde::Serialize;

use crate::index::Row;

/// Alignments below this score are called weak. Of 54 recordings of 20 pop songs (60 s each, rendered), pairs of one song had scores
/// of 6.3 to 8.8, and 30 pairs of two songs at most 5.07; this is the middle between them.
const WEAK_SCORE: f64 = 5.7;

/// The alignment of a query with an indexed recording, or of the two recordings of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Aligned {
    /// The recordings were aligned. The first recording is the query.
    Sections {
        /// Semitones that the second recording sounds above the first, -5 to 6.
        key_shift: i32,
        /// Tempo of the second recording over that of the first.
        tempo_ratio: f64,
        /// Higher the longer they match; not a probability ([`bc_align::Alignment::score`]).
        alignment_score: f64,
        /// Matched sections in order of the first recording, in seconds; empty where nothing matches.
        sections: Vec<Section>,
    },
    /// The recordings could not be aligned.
    Unavailable {
        /// Why the recordings could not be aligned.
        unavailable: String,
    },
}

impl Aligned {
    /// Makes the answer from the result of an alignment.
    #[must_use]
    pub fn from_result(alignment: Result<bc_align::Alignment>) -> Self {
        match alignment {
            Ok(alignment) => Self::Sections {
                key_shift: alignment.key_shift,
                tempo_ratio: alignment.tempo_ratio,
                alignment_score: alignment.score,
                sections: alignment.sections,
            },
            Err(error) => Self::Unavailable { unavailable: bc_cli::describe(&error) },
        }
    }

    /// Key shift, tempo ratio and sections as the cells of a table row; the last one holds the reason if there is no alignment.
    #[must_use]
    pub fn cells(&self) -> [String; 3] {
        match self {
            Self::Unavailable { unavailable } => [String::new(), String::new(), unavailable.clone()],
            Self::Sections { key_shift, tempo_ratio, sections, .. } => {
                let pair = |section: &Section| {
                    format!(
                        "{:.1}-{:.1} = {:.1}-{:.1}",
                        section.start_a, section.end_a, section.start_b, section.end_b
                    )
                };
                let sections: Vec<String> = sections.iter().map(pair).collect();
                [key_shift.to_string(), format!("{tempo_ratio:.3}"), sections.join("; ")]
            }
        }
    }

    /// One sentence, in which `first` and `second` say which recording a section is of: `2 semitones higher, 1.05 times as fast, alignment
    /// score 7.4; 0:10-1:02 of the query matches 0:12-1:01 of the version`.
    #[must_use]
    pub fn describe(&self, first: &str, second: &str) -> String {
        let (key_shift, tempo_ratio, score, sections) = match self {
            Self::Unavailable { unavailable } => return format!("not aligned: {unavailable}"),
            Self::Sections { sections, .. } if sections.is_empty() => return "no section matches".to_owned(),
            Self::Sections { key_shift, tempo_ratio, alignment_score, sections } => {
                (*key_shift, *tempo_ratio, *alignment_score, sections)
            }
        };
        let key = match key_shift {
            0 => "same key".to_owned(),
            shift => {
                let plural = if shift.abs() == 1 { "" } else { "s" };
                let direction = if shift > 0 { "higher" } else { "lower" };
                format!("{} semitone{plural} {direction}", shift.abs())
            }
        };
        let weak = if score < WEAK_SCORE { " (weak: such a score is common between two works)" } else { "" };
        let matches = sections.iter().map(|section| {
            let [start_a, end_a, start_b, end_b] =
                [section.start_a, section.end_a, section.start_b, section.end_b].map(clock);
            format!("{start_a}-{end_a} {first} matches {start_b}-{end_b} {second}")
        });
        let matches: Vec<String> = matches.collect();
        format!(
            "{key}, {tempo_ratio:.2} times as fast, alignment score {score:.1}{weak}; {}",
            matches.join(", ")
        )
    }
}

/// A time as minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    format!("{}:{:02}", whole / 60, whole % 60)
}

/// The chroma of features that were made with `cqt`.
///
/// # Errors
/// A transform without semitones.
pub fn chroma(magnitude: &[f16], frames: usize, cqt: &CqtSettings) -> Result<Chroma> {
    let magnitudes: Vec<f32> = magnitude.iter().map(|value| value.to_f32()).collect();
    Ok(Chroma::fold(&magnitudes, frames, cqt, &Folding::default())?)
}

/// Aligns `b` to `a`.
///
/// # Errors
/// Recordings that are too short, or longer than half an hour.
pub fn align(a: &Chroma, b: &Chroma) -> Result<bc_align::Alignment> {
    align_within(a, b, Settings::default().longest_s)
}

/// As [`align`], for recordings of at most `longest_s` seconds: memory grows with the product of both lengths.
///
/// # Errors
/// Recordings that are too short or too long.
pub fn align_within(a: &Chroma, b: &Chroma, longest_s: f64) -> Result<bc_align::Alignment> {
    Ok(bc_align::align(a, b, &Settings { longest_s, ..Settings::default() })?)
}

/// The audio file of an indexed recording, if it still holds the audio that was indexed: its content hash equals that in the index
/// or, if the index has none, the file exists.
///
/// # Errors
/// The file is missing, cannot be read, or holds other audio now.
pub fn audio_of(row: &Row) -> Result<PathBuf> {
    audio_with_hash(row, |path, _| fingerprint::of_file(path))
}

/// As [`audio_of`]; `hash` returns the content hash of a file from its path, size and modification time.
///
/// # Errors
/// As [`audio_of`].
pub fn audio_with_hash(row: &Row, hash: impl Fn(&Path, &Source) -> Result<String>) -> Result<PathBuf> {
    let path = PathBuf::from(&row.path);
    // The path of imported embeddings is an id, which may happen to name something in the working directory.
    ensure!(
        path.is_absolute() && path.is_file(),
        "the audio of the indexed recording {} no longer exists",
        row.path
    );
    let now = Source::of(&path).with_context(|| format!("cannot read {}", row.path))?;
    let same_size = now.bytes == Some(row.bytes);
    let untouched = same_size && now.modified_ns == Some(row.modified_ns);
    let same = row.content_hash.is_empty()
        || untouched
        || ((row.bytes == 0 || same_size) && hash(&path, &now)? == row.content_hash);
    ensure!(same, "{} holds other audio than when it was indexed", row.path);
    Ok(path)
}

/// The chroma of features that were computed by the network's transform.
///
/// # Errors
/// A transform without semitones.
pub fn chroma_of_features(audio: &AudioEmbedder, features: &Features) -> Result<Chroma> {
    chroma(&features.magnitude, features.frames, &audio.embedder.input.cqt)
}

/// The sources of recordings' magnitudes: audio files and stored features.
pub struct ChromaSources<'a> {
    audio: &'a AudioEmbedder,
    features: PathBuf,
    stored: OnceLock<Option<FeatureSet>>,
}

impl<'a> ChromaSources<'a> {
    /// Sources with the network's transform of audio, and the folder of stored features (`[features] output`), which need not exist.
    #[must_use]
    pub fn new(audio: &'a AudioEmbedder, features: &Path) -> Self {
        Self { audio, features: features.to_owned(), stored: OnceLock::new() }
    }

    /// The chroma of an audio file.
    ///
    /// # Errors
    /// A file that does not decode, or is silent.
    pub fn of_file(&self, path: &Path) -> Result<Chroma> {
        chroma_of_features(self.audio, &self.audio.features(path)?)
    }

    /// The chroma of an indexed recording, from its audio or else from its stored features.
    ///
    /// # Errors
    /// Neither is available as it was indexed.
    pub fn of_row(&self, row: &Row) -> Result<Chroma> {
        let audio_error = match audio_of(row) {
            Ok(path) => return self.of_file(&path),
            Err(error) => error,
        };
        match self.stored(row) {
            Ok(Some(chroma)) => Ok(chroma),
            Ok(None) => Err(audio_error),
            Err(error) => Err(error.context(format!("{audio_error:#}, and its features cannot be used"))),
        }
    }

    /// The chroma from the stored features of a recording whose path is a version id, as in imported embeddings.
    fn stored(&self, row: &Row) -> Result<Option<Chroma>> {
        let set = match self.stored.get() {
            Some(set) => set,
            None => {
                let set = FeatureSet::open_if_any(&self.features)?;
                self.stored.get_or_init(|| set)
            }
        };
        let Some(set) = set else { return Ok(None) };
        let Some(stored) = set.row(&row.path)? else { return Ok(None) };
        if !row.content_hash.is_empty() && stored.source_hash != row.content_hash {
            bail!("those in {} are of other audio", self.features.display());
        }
        chroma(&stored.magnitude, stored.frames as usize, &set.settings).map(Some)
    }
}

/// Aligns two audio files whose features are already computed.
#[must_use]
pub fn align_features(audio: &AudioEmbedder, a: &Features, b: &Features) -> Aligned {
    let both = chroma_of_features(audio, a).and_then(|a| Ok((a, chroma_of_features(audio, b)?)));
    Aligned::from_result(both.and_then(|(a, b)| align(&a, &b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_is_displayed_as_one_sentence() {
        let section = Section { start_a: 10.2, end_a: 61.6, start_b: 12.0, end_b: 60.9 };
        let mut aligned = Aligned::Sections {
            key_shift: -1,
            tempo_ratio: 1.0512,
            alignment_score: 20.0,
            sections: vec![section],
        };
        let describe = |aligned: &Aligned| aligned.describe("of the query", "of the version");
        assert_eq!(
            describe(&aligned),
            "1 semitone lower, 1.05 times as fast, alignment score 20.0; \
             0:10-1:02 of the query matches 0:12-1:01 of the version"
        );
        if let Aligned::Sections { alignment_score, .. } = &mut aligned {
            *alignment_score = 5.07;
        }
        assert!(describe(&aligned).contains("alignment score 5.1 (weak: "), "{}", describe(&aligned));
        assert_eq!(aligned.cells(), ["-1", "1.051", "10.2-61.6 = 12.0-60.9"]);
        if let Aligned::Sections { key_shift, sections, .. } = &mut aligned {
            (*key_shift, *sections) = (3, Vec::new());
        }
        assert_eq!(describe(&aligned), "no section matches");
        let aligned = Aligned::Unavailable { unavailable: "x is gone".into() };
        assert_eq!(describe(&aligned), "not aligned: x is gone");
        assert_eq!(serde_json::to_string(&aligned).unwrap(), r#"{"unavailable":"x is gone"}"#);
    }

    #[test]
    fn audio_that_changed_since_indexing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        std::fs::write(&path, "audio").unwrap();
        let mut row = Row {
            path: path.to_string_lossy().into_owned(),
            content_hash: fingerprint::of_file(&path).unwrap(),
            bytes: 5,
            ..Row::default()
        };
        assert_eq!(audio_of(&row).unwrap(), path, "another modification time, the same content");
        std::fs::write(&path, "other").unwrap();
        assert!(audio_of(&row).unwrap_err().to_string().contains("other audio"));
        std::fs::remove_file(&path).unwrap();
        assert!(audio_of(&row).unwrap_err().to_string().contains("no longer exists"));
        row.path = "Cargo.toml".into();
        assert!(audio_of(&row).is_err(), "an id is no path below the working directory");
    }
}
