//! The provenance in every output: its format, its settings, and its inputs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The provenance of a file. It is stored in the key-value metadata of a Parquet schema, in a safetensors header, or as the object
/// `provenance` of a JSON file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Kind and schema version of the file, such as `features/1`.
    pub format: String,
    /// Program and version that wrote it, such as `bc-features 0.1.0`.
    pub tool: String,
    /// All settings that the content depends on.
    pub settings: Value,
    /// Fingerprint of the content.
    pub fingerprint: String,
    /// Fingerprints of the inputs, by name (`index`, `features`, `checkpoint`).
    pub inputs: BTreeMap<String, String>,
}

const FORMAT: &str = "bytecover.format";
const TOOL: &str = "bytecover.tool";
const SETTINGS: &str = "bytecover.settings";
const FINGERPRINT: &str = "bytecover.fingerprint";
const INPUTS: &str = "bytecover.inputs";

impl Provenance {
    /// Returns the key-value pairs for a Parquet schema or a safetensors header.
    pub fn to_key_values(&self) -> Vec<(String, String)> {
        vec![
            (FORMAT.into(), self.format.clone()),
            (TOOL.into(), self.tool.clone()),
            (SETTINGS.into(), self.settings.to_string()),
            (FINGERPRINT.into(), self.fingerprint.clone()),
            (INPUTS.into(), serde_json::to_string(&self.inputs).expect("a map of strings is JSON")),
        ]
    }

    /// Reads what [`Provenance::to_key_values`] wrote; `path` is for the error.
    pub fn from_key_values<'a>(path: &Path, mut get: impl FnMut(&str) -> Option<&'a str>) -> Result<Self> {
        let missing = |key: &str| {
            anyhow::anyhow!(
                "{}: the key {key} is missing: not an output of bytecover, or of a version before 0.1",
                path.display()
            )
        };
        let format = get(FORMAT).ok_or_else(|| missing(FORMAT))?.to_owned();
        let settings = get(SETTINGS).ok_or_else(|| missing(SETTINGS))?;
        let inputs = get(INPUTS).ok_or_else(|| missing(INPUTS))?;
        Ok(Self {
            format,
            tool: get(TOOL).unwrap_or_default().to_owned(),
            settings: serde_json::from_str(settings)
                .map_err(|error| anyhow::anyhow!("{}: {SETTINGS} is not JSON: {error}", path.display()))?,
            fingerprint: get(FINGERPRINT).ok_or_else(|| missing(FINGERPRINT))?.to_owned(),
            inputs: serde_json::from_str(inputs)
                .map_err(|error| anyhow::anyhow!("{}: {INPUTS} is not JSON: {error}", path.display()))?,
        })
    }

    /// Refuses a file whose format is not one of `formats`, the newest first.
    pub fn require_one_of(&self, path: &Path, formats: &[&str]) -> Result<()> {
        match formats {
            [newest, ..] if !formats.contains(&self.format.as_str()) => self.require_format(path, newest),
            _ => Ok(()),
        }
    }

    /// Reads a provenance like [`Self::from_key_values`]; `None` for a file of another program, which has none of these keys.
    pub fn from_header<'a>(
        path: &Path,
        mut get: impl FnMut(&str) -> Option<&'a str>,
    ) -> Result<Option<Self>> {
        match get(FORMAT) {
            Some(_) => Self::from_key_values(path, get).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses a file of another kind or schema version.
    pub fn require_format(&self, path: &Path, expected: &str) -> Result<()> {
        if self.format == expected {
            return Ok(());
        }
        let parts = |format: &str| -> (String, u32) {
            let (kind, version) = format.split_once('/').unwrap_or((format, ""));
            (kind.to_owned(), version.parse().unwrap_or(0))
        };
        let ((found, of_file), (required, of_program)) = (parts(&self.format), parts(expected));
        if found == required {
            let remedy = if of_file > of_program {
                format!("{} wrote it and can read it, so use that version", self.tool)
            } else {
                let tool = self.tool.split(' ').next().unwrap_or_default();
                format!("make it again with this version of {tool}")
            };
            bail!("{}: schema {}, but this program reads {expected}; {remedy}", path.display(), self.format);
        }
        bail!("{}: holds {}, but {expected} is needed here", path.display(), self.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_values_round_trip_and_formats_are_distinguished() {
        let provenance = Provenance {
            format: "features/1".into(),
            tool: "bc-features 0.1.0".into(),
            settings: serde_json::json!({"hop_length": 512}),
            fingerprint: "0123".into(),
            inputs: [("index".to_owned(), "4567".to_owned())].into(),
        };
        let pairs = provenance.to_key_values();
        let get = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let read = Provenance::from_key_values(Path::new("x"), get).unwrap();
        assert_eq!(read, provenance);
        read.require_format(Path::new("x"), "features/1").unwrap();
        let older = read.require_format(Path::new("x"), "features/2").unwrap_err().to_string();
        assert!(older.contains("features/1") && older.contains("version of bc-features"), "{older}");
        let newer = read.require_format(Path::new("x"), "features/0").unwrap_err().to_string();
        assert!(newer.contains("bc-features 0.1.0 wrote it"), "{newer}");
        let other = read.require_format(Path::new("x"), "index/1").unwrap_err().to_string();
        assert!(other.contains("index/1 is needed"), "{other}");
    }
}
