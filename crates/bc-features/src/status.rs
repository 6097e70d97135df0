//! Reports which versions of an index have features.

use anyhow::Result;
use bc_cli::StatusArgs;
use bc_formats::config::FeaturesConfig;
use comfy_table::Table;
use serde::Serialize;

use crate::plan::{self, RedoOptions, Rows, Survey, VersionState, Versions};

/// Maximum number of parts that are listed one by one; more are only counted.
const MAX_LISTED: usize = 20;

/// Counts of a shard.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    /// Number of the shard, from 1.
    shard: usize,
    /// Number of usable versions.
    versions: usize,
    /// Number of these that have features of the audio that the index lists.
    #[serde(rename = "there")]
    already_present: usize,
    /// Number of these that failed permanently.
    failed: usize,
    /// Number of these that `extract` would process.
    pending: usize,
    /// Hours of audio of the pending versions.
    pending_hours: f64,
}

/// Prints one row per shard with the number of versions that have valid features, failed, or are missing, and then how many
/// rows of each part are current, out of date, or replaced by newer ones. With `args.json`, prints one JSON object instead.
/// `missing_share` is that of `[verify]`.
///
/// # Errors
/// No index, no usable version in it, features of other settings in the folder.
pub fn run(config: &FeaturesConfig, missing_share: f64, args: StatusArgs) -> Result<()> {
    let shards = args.shards.into();
    let versions = Versions::read(&config.index)?;
    let settings = plan::failure_settings(config, missing_share);
    let redo = RedoOptions { settings: &settings, ..RedoOptions::default() };
    let survey = plan::survey(&versions, &config.output, &config.cqt(), redo)?;
    let counts = counts(&versions, &survey, shards);
    if args.json {
        return print_json(config, &versions, &survey, &counts);
    }
    let mut table = Table::new();
    table.set_header(["shard", "versions", "there", "failed", "missing", "hours missing"]);
    for count in &counts {
        table.add_row([
            format!("{}/{shards}", count.shard),
            count.versions.to_string(),
            count.already_present.to_string(),
            count.failed.to_string(),
            count.pending.to_string(),
            format!("{:.2}", count.pending_hours),
        ]);
    }
    bc_cli::println!("{}", config.output.display());
    bc_cli::println!("{table}");
    if let Some(rows) = &survey.rows {
        print_parts(rows, &stale(&survey, rows));
    }
    Ok(())
}

/// Counts the versions of each shard by their state.
fn counts(versions: &Versions, survey: &Survey, shards: usize) -> Vec<Counts> {
    let mut counts: Vec<Counts> =
        (0..shards).map(|index| Counts { shard: index + 1, ..Counts::default() }).collect();
    for (version, state) in versions.usable.iter().zip(&survey.states) {
        let count = &mut counts[plan::shard_of(&version.version_id, shards)];
        count.versions += 1;
        match state {
            VersionState::Valid => count.already_present += 1,
            VersionState::Failed(_) => count.failed += 1,
            VersionState::Pending => {
                count.pending += 1;
                count.pending_hours += version.seconds / 3600.0;
            }
        }
    }
    counts
}

/// Returns how many rows of each part are out of date.
fn stale(survey: &Survey, rows: &Rows) -> Vec<usize> {
    let mut stale_rows = vec![0; rows.parts.parts.len()];
    survey.stale.iter().for_each(|stale| stale_rows[stale.part] += 1);
    stale_rows
}

/// Prints one JSON object, in which each shard has a line of its own for programs that do not parse JSON.
fn print_json(
    config: &FeaturesConfig,
    versions: &Versions,
    survey: &Survey,
    counts: &[Counts],
) -> Result<()> {
    let text = |value: &str| serde_json::to_string(value);
    let (parts, rows, superseded, content) = survey.rows.as_ref().map_or((0, 0, 0, ""), |rows| {
        (rows.parts.parts.len(), rows.count(), rows.superseded.iter().sum(), rows.content.as_str())
    });
    bc_cli::println!("{{");
    bc_cli::println!("\"folder\": {},", text(&config.output.to_string_lossy())?);
    bc_cli::println!("\"index\": {},", text(&versions.index)?);
    bc_cli::println!("\"content\": {},", text(content)?);
    bc_cli::println!("\"versions\": {},", versions.usable.len());
    bc_cli::println!("\"parts\": {parts},");
    bc_cli::println!("\"rows\": {rows},");
    bc_cli::println!("\"superseded\": {superseded},");
    bc_cli::println!("\"stale\": {},", survey.stale.len());
    bc_cli::println!("\"shards\": {}\n}}", bc_cli::json_lines(counts)?);
    Ok(())
}

/// Prints the parts and extractors of the folder; `stale` are the numbers of rows of each part that are out of date.
fn print_parts(rows: &Rows, stale: &[usize]) {
    let parts = &rows.parts.parts;
    if parts.len() > MAX_LISTED {
        let with = |counts: &[usize]| counts.iter().filter(|count| **count > 0).count();
        bc_cli::println!(
            "{} parts hold {} versions; {} have rows that are out of date, {} rows that newer parts replace",
            parts.len(),
            rows.count(),
            with(stale),
            with(&rows.superseded)
        );
    } else {
        for (number, part) in parts.iter().enumerate() {
            let mut text = format!("{}: {} versions", part.path.display(), rows.current[number]);
            if stale[number] > 0 {
                text += &format!(", {} out of date (`extract` recomputes and drops them)", stale[number]);
            }
            let replaced = rows.superseded[number];
            if replaced > 0 {
                text += &format!(", {replaced} more that newer parts replace (`extract` drops them)");
            }
            bc_cli::println!("{text}");
        }
    }
    let extractors = rows.extractors();
    if extractors.len() > 1 {
        bc_cli::println!(
            "rows are of several extractors, which later stages refuse; `extract --renew` recomputes the old ones:"
        );
        for (extractor, rows) in extractors {
            bc_cli::println!("  {rows} rows by {extractor}");
        }
    }
}
