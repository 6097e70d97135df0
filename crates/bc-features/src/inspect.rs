//! Prints what a folder of features holds.

use anyhow::{Result, bail};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::{FeatureSet, RowInfo};

/// Maximum number of files with undecoded frames that are named.
const MAX_NAMED: usize = 10;

/// Prints settings, counts, hours, sizes and value ranges.
pub fn run(config: &FeaturesConfig) -> Result<()> {
    // `open` would refuse features of several extractors, which can be inspected too.
    let Some(set) = FeatureSet::open_if_any(&config.output)? else {
        bail!(
            "there are no features (part-*.parquet) in {}; make them with `bc-features extract`",
            config.output.display()
        );
    };
    let settings = &set.settings;
    let bytes: u64 =
        set.parts.iter().filter_map(|part| part.path.metadata().ok()).map(|file| file.len()).sum();
    let frames: u64 = set.rows.iter().map(|row| u64::from(row.frames)).sum();
    let (mut min, mut max, mut sum, mut count) = (f32::MAX, 0f32, 0f64, 0u64);
    set.for_each(|row| {
        for value in &row.magnitude {
            let value = value.to_f32();
            min = min.min(value);
            max = max.max(value);
            sum += f64::from(value);
        }
        count += row.magnitude.len() as u64;
        Ok(())
    })?;
    bc_cli::println!("{}", config.output.display());
    bc_cli::println!(
        "  transform    {} bins from {:.3} Hz, {} per octave, {} Hz, hop {}, pooled by {} ({:.1} ms per column)",
        settings.bins,
        settings.fmin_hz,
        settings.bins_per_octave,
        settings.sample_rate,
        settings.hop_length,
        settings.pool,
        1e3 * settings.column_seconds()
    );
    for (extractor, rows) in set.extractors() {
        bc_cli::println!("  extractor    {extractor} ({rows} rows)");
    }
    bc_cli::println!("  versions     {}", set.rows.len());
    bc_cli::println!("  part files   {}", set.parts.len());
    bc_cli::println!("  audio        {:.2} h", frames as f64 * settings.column_seconds() / 3600.0);
    bc_cli::println!("  size         {:.1} MB", bytes as f64 / 1e6);
    bc_cli::println!("  values       {min:.4} to {max:.4}, mean {:.4}", sum / count.max(1) as f64);
    bc_cli::println!("  fingerprint  {}", set.fingerprint());
    bc_cli::print!("{}", undecodable_frames(&set.rows, config.max_error_share));
    Ok(())
}

/// Reports how many files have frames (packets) that did not decode, and lists the files with the largest shares.
fn undecodable_frames(rows: &[RowInfo], limit: f64) -> String {
    let known = rows.iter().filter(|row| row.error_share.is_some()).count();
    let mut damaged: Vec<(f32, &str)> =
        rows.iter().filter_map(|row| Some((row.error_share?, row.version_id.as_str()))).collect();
    damaged.retain(|(share, _)| *share > 0.0);
    damaged.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let mut text = format!(
        "  undecoded    {} of {known} files have frames that do not decode (max_error_share is {} %)\n",
        damaged.len(),
        100.0 * limit
    );
    for (share, version) in damaged.iter().take(MAX_NAMED) {
        text.push_str(&format!("    {:>8.4} %  {version}\n", 100.0 * share));
    }
    if damaged.len() > MAX_NAMED {
        text.push_str(&format!("    and {} more\n", damaged.len() - MAX_NAMED));
    }
    if known < rows.len() {
        text.push_str(&format!("    of {} files it was not recorded\n", rows.len() - known));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use bc_formats::features::Source;

    #[test]
    fn files_are_listed_by_error_share_and_unknown_shares_are_counted() {
        let row = |number: usize, error_share| RowInfo {
            version_id: format!("v{number:02}"),
            frames: 1,
            source_hash: String::new(),
            source: Source::default(),
            error_share,
            content: None,
            part: 0,
        };
        let mut rows: Vec<RowInfo> =
            (0..12).map(|number| row(number, Some(number as f32 / 4096.0))).collect();
        rows.push(row(12, None));
        let text = undecodable_frames(&rows, 0.01);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines[0],
            "undecoded    11 of 12 files have frames that do not decode (max_error_share is 1 %)"
        );
        assert_eq!(lines[1], "0.2686 %  v11");
        assert_eq!(lines[11..], ["and 1 more", "of 1 files it was not recorded"]);
    }
}
