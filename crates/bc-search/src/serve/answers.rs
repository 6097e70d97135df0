//! The server's answers as JSON: the same content as that of the command line, without paths of this machine.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bc_calibration::Kind;
use serde::Serialize;
use utoipa::ToSchema;

use super::feature_cache::file_name;
use super::state::State;
use crate::answer::Hit;
use crate::index::Row;
use crate::index::keys::short_hash;

/// A recording of the index.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct IndexedRecording {
    /// Its name in this server's paths: 16 hex digits.
    #[schema(example = "5fd924625f6ab16a")]
    pub id: String,
    /// Name of its file, without the folder.
    pub file: String,
    /// Title, empty where unknown.
    pub title: String,
    /// Performer, empty where unknown.
    pub performer: String,
    /// The work that it is a version of, empty where unknown.
    pub work: String,
    /// International Standard Recording Code, empty where unknown.
    pub isrc: String,
    /// International Standard Musical Work Code, empty where unknown.
    pub iswc: String,
    /// Length in seconds.
    pub duration_s: f32,
    /// Where its audio is on this server; absent where it is not there any more, or is not handed out.
    pub audio: Option<String>,
}

/// The name of a recording in this server's paths.
pub fn id_of(path: &str) -> String {
    format!("{:016x}", short_hash(path))
}

impl IndexedRecording {
    /// Of a row.
    pub fn of(state: &State, row: &Row) -> Self {
        let id = id_of(&row.path);
        let there = state.options.audio && state.hashes.audio_of(row).is_ok();
        Self {
            audio: there.then(|| format!("/recordings/{id}/audio")),
            id,
            file: file_name(&row.path).to_owned(),
            title: row.title.clone(),
            performer: row.performer.clone(),
            work: row.work.clone(),
            isrc: row.isrc.clone(),
            iswc: row.iswc.clone(),
            duration_s: row.duration_s,
        }
    }
}

/// A work that the query may be a version of.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WorkAnswer {
    /// Rank, from 1: by probability, or by score without a calibration.
    pub rank: usize,
    /// Cosine similarity of the best version, from -1 to 1.
    pub score: f32,
    /// The probability that the query is a version of this work; absent without a calibration.
    pub probability: Option<f64>,
    /// `same-audio`, `same-work`, `unsure` or `other`: what the query and the best version are; absent without a calibration.
    pub kind: Option<String>,
    /// The best version.
    pub recording: IndexedRecording,
    /// Versions of this work in the index, the best one included.
    pub versions: usize,
    /// The alignment of the query with the best version, where `align` asked for it.
    pub alignment: Option<AlignmentAnswer>,
    /// Why there is none, where `align` asked for it.
    pub alignment_unavailable: Option<String>,
}

impl WorkAnswer {
    /// Of a hit, not aligned yet.
    pub fn of(state: &State, hit: &Hit) -> Self {
        Self {
            rank: hit.rank,
            score: hit.score,
            probability: hit.probability,
            kind: hit.kind.map(word_of),
            recording: IndexedRecording::of(state, &hit.row),
            versions: hit.versions,
            alignment: None,
            alignment_unavailable: None,
        }
    }
}

/// A kind as JSON has it everywhere: `same-audio`.
pub fn word_of(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A file that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SentFile {
    /// Its sender's name for it.
    pub name: String,
    /// Length in seconds, as decoded.
    pub duration_s: f64,
    /// 32 hex digits of BLAKE3.
    pub content_hash: String,
}

/// Which works a recording may be a version of.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct IdentifyAnswer {
    /// What was sent.
    pub query: SentFile,
    /// The works, likeliest first.
    pub works: Vec<WorkAnswer>,
    /// The probability that the index holds no version of the query's work; absent without a calibration.
    pub probability_of_none: Option<f64>,
}

/// A part of one recording beside the part of the other that it matches, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct MatchedSection {
    /// Where it begins in the first recording.
    pub start_a: f64,
    /// Where it ends there.
    pub end_a: f64,
    /// Where it begins in the second recording.
    pub start_b: f64,
    /// Where it ends there.
    pub end_b: f64,
}

/// The alignment of two recordings.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AlignmentAnswer {
    /// Semitones that the second recording sounds above the first, -5 to 6.
    pub key_shift: i32,
    /// Tempo of the second recording over that of the first.
    pub tempo_ratio: f64,
    /// Higher the longer they match; not a probability.
    pub score: f64,
    /// Matched sections in order of the first recording; empty where nothing matches.
    pub sections: Vec<MatchedSection>,
    /// The alignment within them: pairs of times (first, second) in seconds, in order of the first.
    #[schema(value_type = Vec<Vec<f64>>)]
    pub path: Vec<(f64, f64)>,
}

impl From<bc_align::Alignment> for AlignmentAnswer {
    fn from(found: bc_align::Alignment) -> Self {
        let section = |section: &bc_align::Section| MatchedSection {
            start_a: section.start_a,
            end_a: section.end_a,
            start_b: section.start_b,
            end_b: section.end_b,
        };
        Self {
            key_shift: found.key_shift,
            tempo_ratio: found.tempo_ratio,
            score: found.score,
            sections: found.sections.iter().map(section).collect(),
            path: found.path,
        }
    }
}

/// One of two recordings that were compared.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ComparedRecording {
    /// Its name.
    pub name: String,
    /// Length in seconds, as decoded.
    pub duration_s: f64,
    /// Its magnitudes as a PNG in a data URL, where `pictures` asked for it: one grey row per semitone, the highest on top, a decibel
    /// scale of 60 dB up to white.
    pub picture: Option<String>,
}

/// A picture as a page takes it.
pub fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

/// Whether two recordings are versions of one work, and where they match.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompareAnswer {
    /// Similarity, from -1 to 1: by short windows if the index has them, otherwise the cosine of one vector each.
    pub score: f32,
    /// The probability that they are versions of one work, where half of all pairs are; absent without a calibration.
    pub probability: Option<f64>,
    /// `same-audio`, `same-work`, `unsure` or `other`; absent without a calibration.
    pub kind: Option<String>,
    /// The first.
    pub a: ComparedRecording,
    /// The second.
    pub b: ComparedRecording,
    /// The second as the index has it, if it is of the index.
    pub recording: Option<IndexedRecording>,
    /// Their alignment.
    pub alignment: Option<AlignmentAnswer>,
    /// Why that is not known.
    pub alignment_unavailable: Option<String>,
}

/// What became of a recording that was to be added.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AddAnswer {
    /// `added`, or `there` where the index held the same audio.
    pub status: String,
    /// The recording as it was sent; of audio that was there, its row is the old one.
    pub id: Option<String>,
    /// Recordings of the index now.
    pub recordings: usize,
}

/// A work of the index.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ListedWork {
    /// Its name; the title of its recording if it has none.
    pub name: String,
    /// Versions of it.
    pub versions: usize,
    /// The first of them.
    pub recordings: Vec<IndexedRecording>,
}

/// A page of the works of the index.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WorksAnswer {
    /// Works that fit the question.
    pub total: usize,
    /// Place of the first one here.
    pub offset: usize,
    /// The works.
    pub works: Vec<ListedWork>,
}

/// What a server is and allows.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthAnswer {
    /// `ok`.
    pub status: String,
    /// Program and version.
    pub tool: String,
    /// Recordings of the index.
    pub recordings: usize,
    /// Works of the index.
    pub works: usize,
    /// Raised with every change of the index.
    pub generation: u64,
    /// Whether answers are probabilities.
    pub calibrated: bool,
    /// Whether whoever has the token may add recordings.
    pub adds: bool,
    /// Bytes of a file, at most.
    pub most_bytes: u64,
    /// Seconds of audio, at most.
    pub longest_s: f64,
}
