//! JSON objects as lists of members: a key that stands twice is an error, where a map would lose one.

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
                return Err(A::Error::custom(format!("`{key}` stands twice")));
            }
            members.push((key, map.next_value()?));
        }
        Ok(Members(members))
    }
}

/// The line on which `id` stands for the `nth` time as a whole string, for errors about what was read.
pub(super) fn line_of(text: &str, id: &str, nth: usize) -> u64 {
    let quoted = serde_json::to_string(id).unwrap_or_default();
    let place = text.match_indices(&quoted).nth(nth).map_or(0, |(place, _)| place);
    text[..place].bytes().filter(|&byte| byte == b'\n').count() as u64 + 1
}
