//! Derives statuses from the inspections of the files. They depend only on the order of the index and on the inspections.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use bc_audio::{CutOff, DecodeError};
use bc_formats::config::VerifyConfig;
use bc_formats::fingerprint::{Digest, digest};
use bc_formats::index::{Split, Status, Version};

use super::state::Inspection;

/// Findings that are reported although they make no file unusable, or that concern two cliques or splits.
#[derive(Debug, Default, PartialEq)]
pub struct Remarks {
    /// Files whose codec is not what the extension says.
    pub extensions: Vec<String>,
    /// Files that hold more audio than they declare.
    pub longer: Vec<String>,
    /// Files that lack the mark of their end: they are cut off, or were recorded from a live stream.
    pub without_end: Vec<String>,
    /// Files of which some frames do not decode, but too few to matter.
    pub damaged: Vec<String>,
    /// Files with equal bytes in two cliques or two splits.
    pub crossing: Vec<String>,
    /// Files that could not be read. They stay usable: a later stage may be able to read them, and no fault is known.
    pub unread: Vec<String>,
}

/// Judges the versions of an index, in chunks, in its order.
#[derive(Debug)]
pub struct Judge<'a> {
    config: &'a VerifyConfig,
    /// The remarks so far.
    pub remarks: Remarks,
    /// The first usable version with each content, by the digest of the content hash.
    first_copies: HashMap<Digest, FirstCopy>,
    /// Ids and cliques of the first copies, one after the other.
    texts: String,
}

/// A version that others may duplicate. Its id and its clique are stored in [`Judge::texts`] together with those of all
/// others, because two strings for each of ten million versions would take a gigabyte.
#[derive(Debug, Clone, Copy)]
struct FirstCopy {
    /// Offset of the id in `texts`; the clique follows it.
    offset: usize,
    id_length: u32,
    clique_length: u32,
    split: Split,
}

impl<'a> Judge<'a> {
    /// Creates a judge without versions.
    pub fn new(config: &'a VerifyConfig) -> Self {
        Self { config, remarks: Remarks::default(), first_copies: HashMap::new(), texts: String::new() }
    }

    /// Sets status, reason and the properties of each version's file. Versions without an inspection are not changed. If
    /// several files are equal, the first one in the index stays usable.
    pub fn judge(&mut self, versions: &mut [Version], inspections: &[Option<Inspection>]) {
        for (version, inspection) in versions.iter_mut().zip(inspections) {
            let Some(path) = version.audio_path.clone() else { continue };
            let Some(inspection) = inspection else { continue };
            if inspection.unread {
                let reason = inspection.error.as_deref().unwrap_or_default();
                version.reason = Some(format!("was not checked: {reason}"));
                self.remarks.unread.push(format!("{} ({path}): {reason}", version.version_id));
                continue;
            }
            let inspection = &*within_longest(inspection, self.config);
            version.duration_s = inspection.duration_s;
            version.sample_rate = inspection.rate;
            version.channels = inspection.channels;
            version.codec.clone_from(&inspection.codec);
            version.content_hash.clone_from(&inspection.hash);
            version.reason = fault(inspection, self.config);
            version.status = if version.reason.is_some() { Status::Corrupt } else { Status::Ok };
            if version.reason.is_none() {
                self.remark(version, &path, inspection);
                self.mark_if_duplicate(version, inspection);
            }
        }
    }

    /// Adds remarks about a usable file.
    fn remark(&mut self, version: &Version, path: &str, inspection: &Inspection) {
        let remarks = &mut self.remarks;
        if let Some(codec) = inspection.codec.as_deref().filter(|codec| !fits(path, codec)) {
            remarks.extensions.push(format!("{} ({path}) is {codec}", version.version_id));
        }
        if let Some((declared, duration)) = lengths(inspection)
            && duration * (1.0 - self.config.missing_share) > declared
        {
            remarks.longer.push(format!(
                "{} ({path}) declares {declared:.1} s and holds {duration:.1} s, which are all used",
                version.version_id
            ));
        }
        if inspection.unused_share > self.config.missing_share {
            remarks.longer.push(format!(
                "{} ({path}): its audio ends after {:.1} s by its own account, and the {:.0} % of the file behind that are not used \
                 (joined files, or an outdated header)",
                version.version_id,
                inspection.duration_s.unwrap_or_default(),
                100.0 * inspection.unused_share
            ));
        }
        if inspection.end_is_missing {
            remarks.without_end.push(format!(
                "{} ({path}) ends after {:.1} s without the mark of the end",
                version.version_id,
                inspection.duration_s.unwrap_or_default()
            ));
        }
        let [good, bad] = inspection.packets;
        if bad > 0 {
            remarks.damaged.push(format!(
                "{} ({path}): {bad} of {} frames do not decode",
                version.version_id,
                u64::from(good) + u64::from(bad)
            ));
        }
    }

    /// Marks a version whose file has the same bytes as an earlier one's.
    fn mark_if_duplicate(&mut self, version: &mut Version, inspection: &Inspection) {
        let Some(hash) = &inspection.hash else { return };
        let (id, clique) = (&version.version_id, &version.clique_id);
        let hash = digest(hash);
        let Some(earlier) = self.first_copies.get(&hash) else {
            let (Ok(id_length), Ok(clique_length)) = (id.len().try_into(), clique.len().try_into()) else {
                return;
            };
            let offset = self.texts.len();
            self.texts.push_str(id);
            self.texts.push_str(clique);
            let first = FirstCopy { offset, id_length, clique_length, split: version.split };
            self.first_copies.insert(hash, first);
            return;
        };
        let (earlier_id, after_id) = self.texts[earlier.offset..].split_at(earlier.id_length as usize);
        let earlier_clique = &after_id[..earlier.clique_length as usize];
        if earlier_clique != clique || earlier.split != version.split {
            self.remarks.crossing.push(format!(
                "{id} (clique {clique}, {}) has the same bytes as {earlier_id} (clique {earlier_clique}, {})",
                version.split, earlier.split
            ));
        }
        version.status = Status::Duplicate;
        version.reason = Some(format!("the same bytes as {earlier_id}"));
    }
}

/// Returns the inspection as it would be if the file were inspected now, with this limit of its length: whether a file is too long
/// must not depend on the limit of an earlier run.
fn within_longest<'a>(inspection: &'a Inspection, config: &VerifyConfig) -> Cow<'a, Inspection> {
    let limit_s = config.longest_s;
    if inspection.fast || inspection.error.is_some() || inspection.duration_s.is_none_or(|s| s <= limit_s) {
        return Cow::Borrowed(inspection);
    }
    Cow::Owned(Inspection {
        error: Some(DecodeError::TooLong { limit_s }.to_string()),
        hash: inspection.hash.clone(),
        ..Inspection::default()
    })
}

/// Returns the reason why a file is unusable, if it is.
fn fault(inspection: &Inspection, config: &VerifyConfig) -> Option<String> {
    if let Some(error) = &inspection.error {
        return Some(error.clone());
    }
    let [good, bad] = inspection.packets.map(f64::from);
    if bad / (good + bad).max(1.0) > config.bad_packets {
        return Some(format!("does not decode: {bad} of {} frames are invalid", good + bad));
    }
    if let Some((declared, duration)) = lengths(inspection)
        && let Some(cut_off) = CutOff::check(duration, Some(declared), config.missing_share)
    {
        return Some(cut_off.to_string());
    }
    let threshold = 10f64.powf(config.silence_db / 20.0);
    inspection.peak.filter(|&peak| f64::from(peak) < threshold).map(|_| "holds only silence".to_owned())
}

/// Returns the seconds that a file declares and those that it decodes to, where both are known.
fn lengths(inspection: &Inspection) -> Option<(f64, f64)> {
    if inspection.fast { None } else { inspection.declared_s.zip(inspection.duration_s) }
}

/// Returns whether files of this extension hold this codec; extensions that may hold anything always fit.
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

    fn judged(inspection: Inspection) -> (Version, Remarks) {
        let mut version = Version::new("v", "c");
        version.audio_path = Some("v.mp3".into());
        let mut versions = [version];
        let config = VerifyConfig::default();
        let mut judge = Judge::new(&config);
        judge.judge(&mut versions, &[Some(inspection)]);
        let [version] = versions;
        (version, judge.remarks)
    }

    fn inspection(declared_s: f64, duration_s: f64) -> Inspection {
        Inspection {
            codec: Some("mp3".into()),
            declared_s: Some(declared_s),
            duration_s: Some(duration_s),
            packets: [1_000, 0],
            peak: Some(0.5),
            ..Inspection::default()
        }
    }

    #[test]
    fn shorter_file_than_declared_is_cut_off_and_longer_one_gets_a_remark() {
        let (short, remarks) = judged(inspection(100.1, 83.8));
        assert_eq!(short.reason.as_deref(), Some("is cut off: 83.8 s of 100.1 s"));
        assert!(remarks.longer.is_empty());
        let (long, remarks) = judged(inspection(83.8, 100.1));
        assert_eq!((long.status, long.duration_s), (Status::Ok, Some(100.1)));
        assert_eq!(remarks.longer, ["v (v.mp3) declares 83.8 s and holds 100.1 s, which are all used"]);
        for duration in [100.0, 101.0, 99.0] {
            let (right, remarks) = judged(inspection(100.0, duration));
            assert_eq!((right.status, remarks), (Status::Ok, Remarks::default()));
        }
        // If only the headers were read, both lengths are the declared one.
        let (_, remarks) = judged(Inspection { fast: true, ..inspection(83.8, 100.1) });
        assert_eq!(remarks, Remarks::default());
    }

    #[test]
    fn bytes_behind_the_audio_and_a_missing_end_get_remarks() {
        let (version, remarks) = judged(Inspection { unused_share: 0.7, ..inspection(3.0, 3.0) });
        assert_eq!(version.status, Status::Ok);
        assert!(
            remarks.longer[0].contains("after 3.0 s") && remarks.longer[0].contains("70 %"),
            "{remarks:?}"
        );
        let (version, remarks) = judged(Inspection { end_is_missing: true, ..inspection(14.1, 14.1) });
        assert_eq!(version.status, Status::Ok);
        assert_eq!(remarks.without_end, ["v (v.mp3) ends after 14.1 s without the mark of the end"]);
        let (_, remarks) = judged(Inspection { unused_share: 0.01, ..inspection(3.0, 3.0) });
        assert_eq!(remarks, Remarks::default());
    }

    #[test]
    fn too_long_file_is_judged_by_the_limit_of_this_run() {
        let limit_s = VerifyConfig::default().longest_s;
        let (version, _) = judged(inspection(limit_s + 1.0, limit_s + 1.0));
        assert_eq!((version.status, version.duration_s, version.codec), (Status::Corrupt, None, None));
        assert_eq!(version.reason, Some(DecodeError::TooLong { limit_s }.to_string()));
        let (version, _) = judged(inspection(limit_s, limit_s));
        assert_eq!((version.status, version.duration_s), (Status::Ok, Some(limit_s)));
    }

    #[test]
    fn undecodable_frames_get_a_remark_up_to_the_allowed_share() {
        let with = |packets| judged(Inspection { packets, ..inspection(10.0, 10.0) });
        let (version, remarks) = with([995, 5]);
        assert_eq!(version.status, Status::Ok);
        assert_eq!(remarks.damaged, ["v (v.mp3): 5 of 1000 frames do not decode"]);
        let (version, remarks) = with([980, 20]);
        assert_eq!(version.reason.as_deref(), Some("does not decode: 20 of 1000 frames are invalid"));
        assert!(remarks.damaged.is_empty());
    }
}
