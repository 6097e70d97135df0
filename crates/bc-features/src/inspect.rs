//! What a folder of features holds.

use anyhow::{Result, bail};
use bc_formats::config::FeaturesConfig;
use bc_formats::features::FeatureSet;

/// Prints settings, counts, hours, sizes and value ranges.
pub fn run(config: &FeaturesConfig) -> Result<()> {
    // Not `open`, which refuses what is to be looked at here.
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
    let (mut least, mut most, mut sum, mut count) = (f32::MAX, 0f32, 0f64, 0u64);
    set.for_each(|row| {
        for value in &row.magnitude {
            let value = value.to_f32();
            least = least.min(value);
            most = most.max(value);
            sum += f64::from(value);
        }
        count += row.magnitude.len() as u64;
        Ok(())
    })?;
    println!("{}", config.output.display());
    println!(
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
        println!("  extractor    {extractor} ({rows} rows)");
    }
    println!("  versions     {} in {} parts", set.rows.len(), set.parts.len());
    println!("  audio        {:.2} h", frames as f64 * settings.column_seconds() / 3600.0);
    println!("  size         {:.1} MB", bytes as f64 / 1e6);
    println!("  values       {least:.4} to {most:.4}, mean {:.4}", sum / count.max(1) as f64);
    println!("  fingerprint  {}", set.fingerprint());
    Ok(())
}
