//! From what was found in the files to statuses: a pure function of the index's order and the facts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bc_formats::config::VerifyConfig;
use bc_formats::index::{Status, Version};

use super::state::Facts;

/// Something to report that makes no file unusable, or that crosses a border.
#[derive(Debug, Default, PartialEq)]
pub struct Remarks {
    /// Files whose codec is not what the extension says.
    pub extensions: Vec<String>,
    /// Equal bytes in two cliques or two splits.
    pub crossing: Vec<String>,
    /// Files that could not be read. They stay usable: a later stage may be able to, and nothing is known against them.
    pub unread: Vec<String>,
}

/// Sets status, reason and what is known of each file; versions without `facts` stay as they are. Of equal files the
/// first in the index stays usable.
pub fn judge(versions: &mut [Version], facts: &[Option<Arc<Facts>>], config: &VerifyConfig) -> Remarks {
    let mut remarks = Remarks::default();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for at in 0..versions.len() {
        let (earlier, rest) = versions.split_at_mut(at);
        let version = &mut rest[0];
        let Some(path) = version.audio_path.clone() else { continue };
        let Some(facts) = &facts[at] else { continue };
        if facts.unread {
            let why = facts.error.as_deref().unwrap_or_default();
            version.reason = Some(format!("was not checked: {why}"));
            remarks.unread.push(format!("{} ({path}): {why}", version.version_id));
            continue;
        }
        version.duration_s = facts.duration_s;
        version.sample_rate = facts.rate;
        version.channels = facts.channels;
        version.codec.clone_from(&facts.codec);
        version.content_hash.clone_from(&facts.hash);
        version.reason = fault(facts, config);
        version.status = if version.reason.is_some() { Status::Corrupt } else { Status::Ok };
        if version.reason.is_some() {
            continue;
        }
        if let Some(codec) = facts.codec.as_deref().filter(|codec| !fits(&path, codec)) {
            remarks.extensions.push(format!("{} ({path}) is {codec}", version.version_id));
        }
        let Some(hash) = &facts.hash else { continue };
        let Some(&same) = first.get(hash.as_str()) else {
            first.insert(hash, at);
            continue;
        };
        let same = &earlier[same];
        version.status = Status::Duplicate;
        version.reason = Some(format!("the same bytes as {}", same.version_id));
        if same.clique_id != version.clique_id || same.split != version.split {
            remarks.crossing.push(format!(
                "{} (clique {}, {}) has the same bytes as {} (clique {}, {})",
                version.version_id,
                version.clique_id,
                version.split,
                same.version_id,
                same.clique_id,
                same.split
            ));
        }
    }
    remarks
}

/// What makes a file unusable.
fn fault(facts: &Facts, config: &VerifyConfig) -> Option<String> {
    if let Some(error) = &facts.error {
        return Some(error.clone());
    }
    let [good, bad] = facts.packets.map(f64::from);
    if bad / (good + bad).max(1.0) > config.bad_packets {
        return Some(format!("does not decode: {bad} of {} packets are invalid", good + bad));
    }
    if let (false, Some(declared), Some(duration)) = (facts.fast, facts.declared_s, facts.duration_s)
        && duration < declared * (1.0 - config.missing_share)
    {
        return Some(format!("is cut off: {duration:.1} s of {declared:.1} s"));
    }
    let threshold = 10f64.powf(config.silence_db / 20.0);
    facts.peak.filter(|&peak| f64::from(peak) < threshold).map(|_| "holds only silence".to_owned())
}

/// Whether files of this extension hold this codec; extensions that may hold anything always fit.
fn fits(path: &str, codec: &str) -> bool {
    let Some(extension) = crate::locate::extension(Path::new(path)) else { return true };
    match extension.as_str() {
        "mp3" => codec == "mp3",
        "flac" => codec == "flac",
        "wav" | "aif" | "aiff" => codec.contains("pcm") || codec.contains("adpcm"),
        "opus" => codec == "opus",
        "ogg" | "oga" => ["vorbis", "opus", "flac"].contains(&codec),
        "m4a" | "aac" => codec.contains("aac") || codec == "alac",
        "webm" | "weba" => ["vorbis", "opus"].contains(&codec),
        _ => true,
    }
}
