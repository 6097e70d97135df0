//! The server's answers as JSON: the content of the command line's answers, without paths of the server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bc_calibration::PairKind;
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
    /// Its id in this server's URLs: 16 hex digits.
    #[schema(example = "5fd924625f6ab16a")]
    pub id: String,
    /// Name of its file, without the folder.
    pub file: String,
    /// Title, empty if unknown.
    pub title: String,
    /// Performer, empty if unknown.
    pub performer: String,
    /// The work that it is a version of, empty if unknown.
    pub work: String,
    /// International Standard Recording Code, empty if unknown.
    pub isrc: String,
    /// International Standard Musical Work Code, empty if unknown.
    pub iswc: String,
    /// Length in seconds.
    pub duration_s: f32,
    /// URL path of its audio; absent if the audio is missing or the server does not serve audio.
    pub audio: Option<String>,
}

/// The id of a recording in this server's URLs.
pub fn id_of(path: &str) -> String {
    format!("{:016x}", short_hash(path))
}

impl IndexedRecording {
    /// The answer for a row of the index.
    pub fn from_row(state: &State, row: &Row) -> Self {
        let id = id_of(&row.path);
        let has_audio = state.options.audio && state.hashes.audio_of(row).is_ok();
        Self {
            audio: has_audio.then(|| format!("/recordings/{id}/audio")),
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
    /// `same-audio` (the same file), `near-identical`, `same-work`, `unsure` or `other`: the kind of the pair of query and best version;
    /// without a calibration, only `same-audio`.
    pub kind: Option<String>,
    /// The best version.
    pub recording: IndexedRecording,
    /// Versions of this work in the index, the best one included.
    pub versions: usize,
    /// The alignment of the query with the best version, if requested with `align`.
    pub alignment: Option<AlignmentAnswer>,
    /// Why there is no alignment, if requested with `align`.
    pub alignment_unavailable: Option<String>,
}

impl WorkAnswer {
    /// The answer for a hit, without an alignment.
    pub fn from_hit(state: &State, hit: &Hit) -> Self {
        Self {
            rank: hit.rank,
            score: hit.score,
            probability: hit.probability,
            kind: hit.kind.map(kind_name),
            recording: IndexedRecording::from_row(state, &hit.row),
            versions: hit.versions,
            alignment: None,
            alignment_unavailable: None,
        }
    }
}

/// The name of a kind in JSON: `same-audio`.
pub fn kind_name(kind: PairKind) -> String {
    serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SentFile {
    /// Its name, as given by the client.
    pub name: String,
    /// Length in seconds, as decoded.
    pub duration_s: f64,
    /// 32 hex digits of BLAKE3.
    pub content_hash: String,
}

/// The works that a recording may be a version of.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct IdentifyAnswer {
    /// The uploaded file.
    pub query: SentFile,
    /// The works, likeliest first.
    pub works: Vec<WorkAnswer>,
    /// The probability that the index holds no version of the query's work; absent without a calibration.
    pub probability_of_none: Option<f64>,
    /// What makes this answer less reliable: a recording that is very short, very long, or cut off.
    pub warnings: Vec<String>,
}

/// A part of one recording and the part of the other that it matches, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct MatchedSection {
    /// Where the section begins in the first recording.
    pub start_a: f64,
    /// Where it ends there.
    pub end_a: f64,
    /// Where the section begins in the second recording.
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
    /// Matched sections in order of the first recording; empty if nothing matches.
    pub sections: Vec<MatchedSection>,
    /// The alignment within them: pairs of times (first, second) in seconds, in order of the first.
    #[schema(value_type = Vec<Vec<f64>>)]
    pub path: Vec<(f64, f64)>,
}

impl From<bc_align::Alignment> for AlignmentAnswer {
    fn from(alignment: bc_align::Alignment) -> Self {
        let section = |section: &bc_align::Section| MatchedSection {
            start_a: section.start_a,
            end_a: section.end_a,
            start_b: section.start_b,
            end_b: section.end_b,
        };
        Self {
            key_shift: alignment.key_shift,
            tempo_ratio: alignment.tempo_ratio,
            score: alignment.score,
            sections: alignment.sections.iter().map(section).collect(),
            path: alignment.path,
        }
    }
}

/// One of two compared recordings.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ComparedRecording {
    /// Its name.
    pub name: String,
    /// Length in seconds, as decoded.
    pub duration_s: f64,
    /// Its magnitudes as a PNG in a data URL, if requested with `pictures`: one grey row per semitone, the highest on top, a decibel
    /// scale of 60 dB up to white.
    pub picture: Option<String>,
}

/// A PNG as a data URL.
pub fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

/// Whether two recordings are versions of one work, and which parts match.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompareAnswer {
    /// Similarity, from -1 to 1: by short windows if the index has them, otherwise the cosine of one vector each.
    pub score: f32,
    /// The probability that they are versions of one work, with a prior of 0.5; absent without a calibration.
    pub probability: Option<f64>,
    /// `same-audio` (the bytes of both files are equal), `near-identical`, `same-work`, `unsure` or `other`; without a calibration, only
    /// `same-audio`.
    pub kind: Option<String>,
    /// The first recording.
    pub a: ComparedRecording,
    /// The second recording.
    pub b: ComparedRecording,
    /// The index entry of the second recording, if it is from the index.
    pub recording: Option<IndexedRecording>,
    /// Their alignment.
    pub alignment: Option<AlignmentAnswer>,
    /// Why there is no alignment.
    pub alignment_unavailable: Option<String>,
}

/// The result of adding a recording.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AddAnswer {
    /// `added`, or `there` if the index already held the same audio.
    pub status: String,
    /// Id of the recording; of audio that was already present, that of the recording in the index.
    pub id: Option<String>,
    /// Whether the recording was already present and got other metadata.
    pub updated: bool,
    /// Number of recordings in the index now.
    pub recordings: usize,
}

/// A work of the index.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ListedWork {
    /// Its name; the title of its first recording if it has none.
    pub name: String,
    /// Number of its versions.
    pub versions: usize,
    /// Its first versions.
    pub recordings: Vec<IndexedRecording>,
}

/// A page of the works of the index.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WorksAnswer {
    /// Number of works that match the query.
    pub total: usize,
    /// Offset of the first work on this page.
    pub offset: usize,
    /// The works.
    pub works: Vec<ListedWork>,
}

/// The state and the limits of a server.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthAnswer {
    /// `ok`.
    pub status: String,
    /// Program and version.
    pub tool: String,
    /// Number of recordings in the index.
    pub recordings: usize,
    /// Number of works in the index.
    pub works: usize,
    /// Number of the index's generation, which increases with every change.
    pub generation: u64,
    /// Whether answers have probabilities.
    pub calibrated: bool,
    /// Whether recordings can be added with the token.
    pub adds: bool,
    /// Maximum size of a file in bytes.
    #[serde(rename = "most_bytes")]
    pub max_file_bytes: u64,
    /// Maximum length of a recording in seconds.
    pub longest_s: f64,
}
