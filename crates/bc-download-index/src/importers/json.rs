//! Reads JSON objects as lists of members. A key that is listed twice is an error; a map would lose one of the members.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// The members of an object, in order, with distinct keys.
pub(super) struct Members<V>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Distinct(PhantomData))
    }
}

/// Reads an object and refuses keys that are listed twice.
struct Distinct<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Distinct<V> {
    type Value = Members<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("`{key}` is listed twice")));
            }
            members.push((key, map.next_value()?));
        }
        Ok(Members(members))
    }
}

/// Returns the line of the last member named `key` in `text`, for error messages.
pub(super) fn line_of_key(text: &str, key: &str) -> u64 {
    line_of(text, key, |_, after| after.trim_start().starts_with(':'))
}

/// Returns the line of the last member named `key` with the value `value` in `text`.
pub(super) fn line_of_member(text: &str, key: &str, value: &str) -> u64 {
    let key = quoted(key);
    line_of(text, value, |before, _| {
        before.trim_end().strip_suffix(':').is_some_and(|before| before.trim_end().ends_with(&key))
    })
}

/// Returns the line of the last occurrence of `string` (in quotes) for which `is_at(before, after)` is true.
fn line_of(text: &str, string: &str, is_at: impl Fn(&str, &str) -> bool) -> u64 {
    let string = quoted(string);
    let mut offsets = text.rmatch_indices(&string).map(|(offset, _)| offset);
    let offset = offsets.find(|&offset| is_at(&text[..offset], &text[offset + string.len()..])).unwrap_or(0);
    text[..offset].bytes().filter(|&byte| byte == b'\n').count() as u64 + 1
}

/// Returns `string` as JSON.
fn quoted(string: &str) -> String {
    serde_json::to_string(string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bc_formats::index::Split;

    use crate::importers::mutate::never_panics_on_mutations;
    use crate::importers::{coverhunter, da_tacos, discogs_vi};

    #[test]
    fn mutated_json_lists_never_panic() {
        type Parse = fn(&Path, &str) -> bool;
        let kinds: [(&str, Parse); 4] = [
            (
                "{\"utt\": \"u\", \"wav\": \"a.wav\", \"dur_s\": 3.7, \"song\": \"下雨\", \"version\": \"v\"}\n",
                |path, text| coverhunter::versions(path, text).is_ok(),
            ),
            (
                "{\"W_1\": {\"P_1\": {\"perf_title\": \"T\", \"work_id\": \"W_1\"},\n\"P_2\": {}}}",
                |path, text| da_tacos::versions(path, text, Split::Test).is_ok(),
            ),
            (
                "{\"C\": [{\"version_id\": \"V\", \"youtube_id\": \"kv-jdTn_F3Q\"},\n{\"version_id\": \"é\"}]}",
                |path, text| discogs_vi::light(path, text, Split::Test).is_ok(),
            ),
            (
                "{\"clique_id\": \"c\", \"versions\": [{\"version_id\": \"v\", \"youtube_video\": [{\"url\": \"?v=é\"}]}]}\n",
                |path, text| discogs_vi::full(path, text, Split::None).is_ok(),
            ),
        ];
        for (seed, parse) in kinds {
            assert!(parse(Path::new("list"), seed), "{seed}");
            never_panics_on_mutations(100_000, seed.as_bytes(), |bytes| {
                if let Ok(text) = std::str::from_utf8(bytes) {
                    parse(Path::new("list"), text);
                }
            });
        }
    }
}
