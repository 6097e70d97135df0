//! The settings that the result of a run depends on, and their comparison with those of a saved run.

use anyhow::Result;
use bc_formats::config::{AugmentConfig, Config, ModelConfig, TrainConfig};
use bc_formats::features::CqtSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::data::DataSet;

/// Keys of `[train]` that may differ when a run is resumed: they do not change its steps, or only say how long it continues.
/// (A cosine schedule depends on that length; a resume warns of it.)
const RESUMABLE_KEYS: &[&str] = &[
    "run",
    "device",
    "precision",
    "recompute_activations",
    "threads",
    "workers",
    "map_features",
    "epochs",
    "max_steps",
    "max_minutes",
    "early_stopping",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
    "keep_checkpoints",
    "keep_best",
    "save_last",
];

/// Returns all settings that the result of training depends on.
pub(crate) fn of(config: &Config, data: &DataSet) -> Result<Value> {
    let mut train = serde_json::to_value(&config.train)?;
    if let Some(keys) = train.as_object_mut() {
        keys.retain(|key, _| !RESUMABLE_KEYS.contains(&key.as_str()));
    }
    let mut settings = json!({
        "model": config.model,
        "train": train,
        "augment": config.augment,
        "features": { "cqt": data.cqt, "fingerprint": data.fingerprint, "splits": data.splits_fingerprint },
    });
    if let Some(painted) = &data.painted {
        settings["paint"] = painted.settings.clone();
    }
    Ok(settings)
}

/// Returns the differences between the settings of a saved run and those requested, such as
/// `train.margin: 0.3 against 0.5`. A key that is absent from the saved run has its default, which is how the program
/// behaved before the key existed. A key that the program does not know counts as a difference, because its effect is
/// unknown.
pub(crate) fn differences(saved: &Value, requested: &Value) -> Vec<String> {
    let mut saved = saved.clone();
    if let Some(sections) = saved.as_object_mut() {
        fill_defaults::<ModelConfig>(sections.entry("model").or_insert_with(|| json!({})));
        fill_defaults::<AugmentConfig>(sections.entry("augment").or_insert_with(|| json!({})));
        let train = sections.entry("train").or_insert_with(|| json!({}));
        fill_defaults::<TrainConfig>(train);
        if let Some(keys) = train.as_object_mut() {
            keys.retain(|key, _| !RESUMABLE_KEYS.contains(&key.as_str()));
        }
        if let Some(cqt) = sections.get_mut("features").and_then(|features| features.get_mut("cqt")) {
            fill_defaults::<CqtSettings>(cqt);
        }
    }
    let mut found = Vec::new();
    compare("", &saved, requested, &mut found);
    found
}

/// Adds the defaults of keys that `section` lacks, and rewrites its values as this program writes them (so that 1 and 1.0
/// are the same learning rate).
fn fill_defaults<S: Default + Serialize + DeserializeOwned>(section: &mut Value) {
    let (Some(saved), Ok(Value::Object(defaults))) =
        (section.as_object_mut(), serde_json::to_value(S::default()))
    else {
        return;
    };
    let mut known = Map::new();
    for (key, default) in defaults {
        known.insert(key.clone(), saved.remove(&key).unwrap_or(default));
    }
    let known = Value::Object(known);
    let rewritten = serde_json::from_value::<S>(known.clone()).and_then(|read| serde_json::to_value(&read));
    if let Value::Object(known) = rewritten.unwrap_or(known) {
        // The keys that are still in `saved` are unknown to this program, and stay.
        saved.extend(known);
    }
}

/// Adds the differences between two values to `found`; `path` names the values, such as `train.margin`.
fn compare(path: &str, saved: &Value, requested: &Value, found: &mut Vec<String>) {
    match (saved, requested) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (a.get(key), b.get(key)) {
                    (Some(a), None) => found.push(format!(
                        "{path}: {a} in a run of another version of bc-train, and unknown to this one"
                    )),
                    (a, b) => {
                        compare(&path, a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null), found);
                    }
                }
            }
        }
        _ if saved != requested => found.push(format!("{path}: {saved} against {requested}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &Config) -> Value {
        let mut config = config.clone();
        config.train.debug = true;
        let data = crate::data::open(&config, &bc_ranks::Ranks::alone()).unwrap();
        of(&config, &data).unwrap()
    }

    #[test]
    fn differences_name_both_values() {
        let saved = settings(&Config::default());
        let mut requested = Config::default();
        requested.train.margin = 0.5;
        requested.model.width = 8;
        assert_eq!(
            differences(&saved, &settings(&requested)),
            ["model.width: 64 against 8", "train.margin: 0.3 against 0.5"]
        );
    }

    #[test]
    fn keys_absent_from_a_saved_run_have_their_defaults() {
        let mut saved = settings(&Config::default());
        let now = saved.clone();
        let train = saved["train"].as_object_mut().unwrap();
        assert!(train.remove("validate_at_start").is_some() && train.remove("init_other_input").is_some());
        // Part of a run's settings in version 0.1.
        train.insert("threads".into(), json!(7));
        train.insert("label_smoothing".into(), json!(0.1));
        train.insert("weight_decay".into(), json!(0));
        assert_eq!(differences(&saved, &now), [""; 0]);

        let mut requested = Config::default();
        requested.train.validate_at_start = true;
        assert_eq!(
            differences(&saved, &settings(&requested)),
            ["train.validate_at_start: false against true"]
        );
    }

    #[test]
    fn unknown_key_of_a_saved_run_is_named() {
        let mut saved = settings(&Config::default());
        let now = saved.clone();
        saved["train"]["momentum"] = json!(0.9);
        let found = differences(&saved, &now);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("train.momentum: 0.9 in a run of another version"), "{found:?}");
    }
}
