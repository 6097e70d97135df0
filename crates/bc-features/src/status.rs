//! What of an index has features.

use anyhow::Result;
use bc_cli::Shard;
use bc_formats::config::FeaturesConfig;
use bc_formats::features::FeatureSet;
use bc_formats::index::Index;
use comfy_table::Table;

use crate::plan::{self, Plan};

/// Prints, a row a shard, how many versions have valid features, failed, or are missing; then
/// the parts with rows that are out of date.
///
/// # Errors
/// No index, no usable version in it, features of other settings in the folder.
pub fn run(config: &FeaturesConfig, shards: usize) -> Result<()> {
    let index = Index::read(&config.index)?;
    let set = FeatureSet::open_if_any(&config.output)?;
    if let Some(set) = &set {
        set.expect_settings(&config.output, &config.cqt())?;
    }
    let mut table = Table::new();
    table.set_header(["shard", "versions", "there", "failed", "missing", "hours missing"]);
    let mut stale = Vec::new();
    for index_of_shard in 0..shards {
        let shard = Shard { index: index_of_shard, count: shards };
        let Plan { in_shard, pending, stale: found, failures, .. } =
            plan::plan(&index, &config.output, set.as_ref(), shard, false)?;
        let hours = pending.iter().map(plan::cost).fold(0.0, |sum, seconds| sum + seconds) / 3600.0;
        table.add_row([
            shard.to_string(),
            in_shard.to_string(),
            (in_shard - pending.len() - failures.len()).to_string(),
            failures.len().to_string(),
            pending.len().to_string(),
            format!("{hours:.2}"),
        ]);
        stale = found;
    }
    println!("{}", config.output.display());
    println!("{table}");
    if let Some(set) = &set {
        for (part, (path, _)) in set.parts.iter().enumerate() {
            let rows = set.rows.iter().filter(|row| row.part == part).count();
            let old = stale.iter().find(|(number, _)| *number == part).map_or(0, |(_, ids)| ids.len());
            let note = if old > 0 {
                format!(", {old} out of date (`extract` drops and makes them anew)")
            } else {
                String::new()
            };
            println!("{}: {rows} versions{note}", path.display());
        }
    }
    Ok(())
}
