//! What of an index has features.

use anyhow::Result;
use bc_formats::config::FeaturesConfig;
use bc_formats::features::FeatureSet;
use comfy_table::Table;

use crate::plan::{self, Policy, Standing, Versions};

/// Counts of a shard.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    versions: usize,
    valid: usize,
    failed: usize,
    pending: usize,
    pending_s: f64,
}

/// Prints, one row per shard, how many versions have valid features, failed, or are missing; then
/// the parts, and how many of their rows are out of date or replaced by newer ones.
///
/// # Errors
/// No index, no usable version in it, features of other settings in the folder.
pub fn run(config: &FeaturesConfig, shards: usize) -> Result<()> {
    let versions = Versions::read(&config.index)?;
    let set = FeatureSet::open_if_any(&config.output)?;
    if let Some(set) = &set {
        set.expect_settings(&config.output, &config.cqt())?;
    }
    let survey = plan::survey(&versions, &config.output, set.as_ref(), Policy::default())?;
    let mut counts = vec![Counts::default(); shards];
    for (version, standing) in versions.usable.iter().zip(&survey.standings) {
        let of = &mut counts[plan::shard_of(&version.version_id, shards)];
        of.versions += 1;
        match standing {
            Standing::Valid => of.valid += 1,
            Standing::Failed(_) => of.failed += 1,
            Standing::Pending => {
                of.pending += 1;
                of.pending_s += plan::cost(version);
            }
        }
    }
    let mut table = Table::new();
    table.set_header(["shard", "versions", "there", "failed", "missing", "hours missing"]);
    for (index, of) in counts.iter().enumerate() {
        table.add_row([
            format!("{}/{shards}", index + 1),
            of.versions.to_string(),
            of.valid.to_string(),
            of.failed.to_string(),
            of.pending.to_string(),
            format!("{:.2}", of.pending_s / 3600.0),
        ]);
    }
    println!("{}", config.output.display());
    println!("{table}");
    if let Some(set) = &set {
        print_parts(set, &survey.stale);
    }
    Ok(())
}

fn print_parts(set: &FeatureSet, stale: &[usize]) {
    let (mut rows, mut old) = (vec![0; set.parts.len()], vec![0; set.parts.len()]);
    for row in &set.rows {
        rows[row.part] += 1;
    }
    for &row in stale {
        old[set.rows[row].part] += 1;
    }
    let mut replaced = vec![0; set.parts.len()];
    for (part, _) in &set.superseded {
        replaced[*part] += 1;
    }
    for (number, part) in set.parts.iter().enumerate() {
        let mut text = format!("{}: {} versions", part.path.display(), rows[number]);
        if old[number] > 0 {
            text += &format!(", {} out of date (`extract` makes them anew and drops them)", old[number]);
        }
        if replaced[number] > 0 {
            text += &format!(", {} more that newer parts replace (`extract` drops them)", replaced[number]);
        }
        println!("{text}");
    }
    let extractors = set.extractors();
    if extractors.len() > 1 {
        println!(
            "rows are of several extractors, which later stages refuse; `extract --renew` makes the old ones anew:"
        );
        for (extractor, rows) in extractors {
            println!("  {rows} rows by {extractor}");
        }
    }
}
