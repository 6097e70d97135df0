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
    /// Files that hold more audio than they declare.
    pub longer: Vec<String>,
    /// Files of which some frames do not decode, but too few to matter.
    pub damaged: Vec<String>,
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
        if let Some((declared, duration)) = lengths(facts)
            && duration * (1.0 - config.missing_share) > declared
        {
            remarks.longer.push(format!(
                "{} ({path}) declares {declared:.1} s and holds {duration:.1} s, which are all used",
                version.version_id
            ));
        }
        let [good, bad] = facts.packets;
        if bad > 0 {
            remarks.damaged.push(format!(
                "{} ({path}): {bad} of {} frames do not decode",
                version.version_id,
                u64::from(good) + u64::from(bad)
            ));
        }
        let Some(hash) = &facts.hash else { continue };
        let Some(&same) = first.get(hash.as_str()) else {
            first.insert(hash, at);
            continue;
        };
        mark_duplicate(version, &earlier[same], &mut remarks);
    }
    remarks
}

/// Marks a version whose file has the same bytes as an earlier one's.
fn mark_duplicate(version: &mut Version, same: &Version, remarks: &mut Remarks) {
    version.status = Status::Duplicate;
    version.reason = Some(format!("the same bytes as {}", same.version_id));
    if same.clique_id != version.clique_id || same.split != version.split {
        remarks.crossing.push(format!(
            "{} (clique {}, {}) has the same bytes as {} (clique {}, {})",
            version.version_id, version.clique_id, version.split, same.version_id, same.clique_id, same.split
        ));
    }
}

/// What makes a file unusable.
fn fault(facts: &Facts, config: &VerifyConfig) -> Option<String> {
    if let Some(error) = &facts.error {
        return Some(error.clone());
    }
    let [good, bad] = facts.packets.map(f64::from);
    if bad / (good + bad).max(1.0) > config.bad_packets {
        return Some(format!("does not decode: {bad} of {} frames are invalid", good + bad));
    }
    if let Some((declared, duration)) = lengths(facts)
        && duration < declared * (1.0 - config.missing_share)
    {
        return Some(format!("is cut off: {duration:.1} s of {declared:.1} s"));
    }
    let threshold = 10f64.powf(config.silence_db / 20.0);
    facts.peak.filter(|&peak| f64::from(peak) < threshold).map(|_| "holds only silence".to_owned())
}

/// The seconds that a file declares and those that it decodes to, where both are known.
fn lengths(facts: &Facts) -> Option<(f64, f64)> {
    if facts.fast { None } else { facts.declared_s.zip(facts.duration_s) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(facts: Facts) -> (Version, Remarks) {
        let mut version = Version::new("v", "c");
        version.audio_path = Some("v.mp3".into());
        let mut versions = [version];
        let remarks = judge(&mut versions, &[Some(Arc::new(facts))], &VerifyConfig::default());
        let [version] = versions;
        (version, remarks)
    }

    fn facts(declared_s: f64, duration_s: f64) -> Facts {
        Facts {
            codec: Some("mp3".into()),
            declared_s: Some(declared_s),
            duration_s: Some(duration_s),
            packets: [1_000, 0],
            peak: Some(0.5),
            ..Facts::default()
        }
    }

    #[test]
    fn a_file_shorter_than_declared_is_cut_off_and_a_longer_one_is_remarked() {
        let (short, remarks) = judged(facts(100.1, 83.8));
        assert_eq!(short.reason.as_deref(), Some("is cut off: 83.8 s of 100.1 s"));
        assert!(remarks.longer.is_empty());
        let (long, remarks) = judged(facts(83.8, 100.1));
        assert_eq!((long.status, long.duration_s), (Status::Ok, Some(100.1)));
        assert_eq!(remarks.longer, ["v (v.mp3) declares 83.8 s and holds 100.1 s, which are all used"]);
        for duration in [100.0, 101.0, 99.0] {
            let (right, remarks) = judged(facts(100.0, duration));
            assert_eq!((right.status, remarks), (Status::Ok, Remarks::default()));
        }
        // Of a look at the headers alone both are the declared one.
        let (_, remarks) = judged(Facts { fast: true, ..facts(83.8, 100.1) });
        assert_eq!(remarks, Remarks::default());
    }

    #[test]
    fn frames_that_do_not_decode_are_remarked_up_to_the_share_allowed() {
        let with = |packets| judged(Facts { packets, ..facts(10.0, 10.0) });
        let (version, remarks) = with([995, 5]);
        assert_eq!(version.status, Status::Ok);
        assert_eq!(remarks.damaged, ["v (v.mp3): 5 of 1000 frames do not decode"]);
        let (version, remarks) = with([980, 20]);
        assert_eq!(version.reason.as_deref(), Some("does not decode: 20 of 1000 frames are invalid"));
        assert!(remarks.damaged.is_empty());
    }
}
