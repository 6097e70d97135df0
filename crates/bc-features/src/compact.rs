//! Merges small parts, which runs of many shards or a small [`part_versions`](FeaturesConfig::part_versions) leave, into
//! fewer and larger ones; their failure tables are merged too.
//!
//! A new part has a number above all others. A kill after it is written and before the parts that it was made from are
//! removed leaves rows twice, and readers take those of the part with the highest number.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, bail};
use bc_cli::{Interrupted, Shard, interrupt, progress};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::{PartWriter, Parts, failures};

use crate::folder::{self, Folder};
use crate::tidy;

/// Merges parts of fewer than half of `part_versions` rows and half of `part_hours` into parts of at most as many.
///
/// # Errors
/// No features, another run at work in the folder, a disk that is full, an interrupt.
pub fn run(config: &FeaturesConfig) -> Result<()> {
    let folder = Folder::open(&config.output, Shard::WHOLE)?;
    let dropped = tidy::parts(&folder, &HashSet::new())?;
    if dropped > 0 {
        bc_cli::println!("{}: dropped {dropped} rows that newer parts replace", config.output.display());
    }
    let Some((parts, sizes)) = part_sizes(config)? else {
        bail!("there are no features in {}; nothing to merge", config.output.display());
    };
    interrupt::install("finishing the part in work; run the same command again to continue")?;
    let groups = groups_to_merge(config, &parts, &sizes);
    let before = parts.parts.len();
    let bar = progress::bar(groups.iter().map(|group| group.len() as u64).sum(), "compact", "parts");
    let (mut number, mut merged, mut new_parts) = (parts.next_number(), 0, 0);
    for group in &groups {
        if interrupt::requested() {
            let done = format!("{merged} parts are merged; run the same command again to continue");
            return Err(Interrupted(done).into());
        }
        merge(&folder, &parts, group, number)?;
        bar.inc(group.len() as u64);
        (number, merged, new_parts) = (number + 1, merged + group.len(), new_parts + 1);
    }
    bar.finish_and_clear();
    merge_failures(&folder)?;
    bc_cli::println!(
        "{}: {before} parts before, {} now",
        config.output.display(),
        before - merged + new_parts
    );
    Ok(())
}

/// Merges the failure tables of the folder into one, if there are several.
fn merge_failures(folder: &Folder) -> Result<()> {
    let tables = failures::tables(folder.path())?;
    let [_, .., newest] = &tables[..] else { return Ok(()) };
    let provenance = failures::provenance_of(newest)?;
    tidy::failures(folder, &tidy::last_failures(folder)?, &provenance)?;
    bc_cli::println!("{}: {} failure tables merged into one", folder.path().display(), tables.len());
    Ok(())
}

/// The size of a part.
#[derive(Clone, Copy, Default)]
struct PartSize {
    rows: usize,
    /// Seconds of audio.
    seconds: f64,
}

/// Measures all parts of the folder; `None` if it has none.
fn part_sizes(config: &FeaturesConfig) -> Result<Option<(Parts, Vec<PartSize>)>> {
    let column_s = config.cqt().column_seconds();
    let scanned = Parts::scan(&config.output, Vec::new, |sizes: &mut Vec<PartSize>, part, row| {
        if sizes.len() <= part {
            sizes.resize(part + 1, PartSize::default());
        }
        sizes[part].rows += 1;
        sizes[part].seconds += f64::from(row.frames) * column_s;
        Ok(())
    })?;
    let Some((parts, mut sizes)) = scanned else { return Ok(None) };
    parts.require_settings(&config.output, &config.cqt())?;
    sizes.resize(parts.parts.len(), PartSize::default());
    Ok(Some((parts, sizes)))
}

/// Parts that are merged into one.
#[derive(Default)]
struct Group {
    size: PartSize,
    /// Indices of the parts.
    parts: Vec<usize>,
}

/// Returns the groups of parts that are merged, as indices in ascending order. Large parts, and small ones without another
/// to merge with, are in none.
fn groups_to_merge(config: &FeaturesConfig, parts: &Parts, sizes: &[PartSize]) -> Vec<Vec<usize>> {
    let (max_rows, max_s) = (config.part_versions as usize, config.part_hours * 3600.0);
    let mut groups = Vec::new();
    // The group being filled, by extractor: rows of different extractors stay in separate parts.
    let mut open: BTreeMap<&str, Group> = BTreeMap::new();
    for (position, part) in parts.parts.iter().enumerate() {
        let PartSize { rows, seconds } = sizes[position];
        if 2 * rows >= max_rows || 2.0 * seconds >= max_s {
            continue;
        }
        let group = open.entry(&part.extractor).or_default();
        if group.size.rows + rows > max_rows || group.size.seconds + seconds > max_s {
            groups.push(std::mem::take(group).parts);
        }
        group.size.rows += rows;
        group.size.seconds += seconds;
        group.parts.push(position);
    }
    groups.extend(open.into_values().map(|group| group.parts));
    groups.retain(|group| group.len() > 1);
    groups
}

/// Merges the parts of a group into one with this number.
fn merge(folder: &Folder, parts: &Parts, group: &[usize], number: u64) -> Result<()> {
    let first = &parts.parts[group[0]];
    let mut writer =
        PartWriter::create(&folder.unfinished("part"), parts.settings)?.made_by(&first.extractor);
    for &position in group {
        parts.each_row_of(position, |row| writer.push(row))?;
    }
    writer.commit_as(first.provenance.clone(), |content| folder.part(number, content))?;
    group.iter().try_for_each(|&position| folder::remove(&parts.parts[position].path))
}
