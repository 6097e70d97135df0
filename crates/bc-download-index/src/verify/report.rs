//! What people read after a verification: a table on the terminal, `coverage.md`, a histogram.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use bc_formats::index::{Status, Version};
use bc_plot::plotters::prelude::*;

use super::judge::Remarks;
use crate::coverage::Coverage;

/// Lines of a kind that the terminal shows; `coverage.md` has all.
const SHOWN: usize = 20;

/// Prints counts, faults and remarks.
pub fn print(versions: &[Version], remarks: &Remarks) {
    print!("{}{}", counts(versions), Coverage::of(versions));
    for (title, lines) in sections(versions, remarks) {
        if lines.is_empty() {
            continue;
        }
        println!("\n{title}: {}", lines.len());
        lines.iter().take(SHOWN).for_each(|line| println!("  {line}"));
        if lines.len() > SHOWN {
            println!("  ... and {} more, in coverage.md", lines.len() - SHOWN);
        }
    }
}

/// Writes `coverage.md` and `clique_sizes.png` beside the index.
pub fn write(index: &Path, versions: &[Version], remarks: &Remarks) -> Result<()> {
    let mut text = format!("# Coverage of {}\n\n```text\n{}```\n", index.display(), counts(versions));
    let before = Coverage::where_usable(versions, |version| version.audio_path.is_some());
    for (title, coverage) in [("Before", before), ("After", Coverage::of(versions))] {
        write!(text, "\n## {title} verification\n\n```text\n{coverage}```\n")?;
    }
    text.push_str("\n## Clique sizes\n\n![Usable versions per clique](clique_sizes.png)\n");
    for (title, lines) in sections(versions, remarks) {
        write!(text, "\n## {title}: {}\n\n", lines.len())?;
        lines.iter().try_for_each(|line| writeln!(text, "- {line}"))?;
    }
    bc_formats::atomic::write(&index.with_file_name("coverage.md"), text)?;
    draw(&index.with_file_name("clique_sizes.png"), versions)
}

/// How many versions have a file that is not usable, or could not be read.
pub fn unusable_files(versions: &[Version]) -> u64 {
    let bad =
        |version: &&Version| version.audio_path.is_some() && (!version.usable() || version.reason.is_some());
    versions.iter().filter(bad).count() as u64
}

fn counts(versions: &[Version]) -> String {
    let count = |status| versions.iter().filter(|version| version.status == status).count();
    Status::ALL.iter().map(|&status| format!("{status:<10} {:>9}\n", count(status))).collect()
}

fn sections(versions: &[Version], remarks: &Remarks) -> [(&'static str, Vec<String>); 6] {
    let faults = versions
        .iter()
        .filter(|version| version.status != Status::Ok && version.audio_path.is_some())
        .map(|version| {
            let (path, reason) = (version.audio_path.as_deref(), version.reason.as_deref());
            format!(
                "{} ({}): {}: {}",
                version.version_id,
                path.unwrap_or_default(),
                version.status,
                reason.unwrap_or_default()
            )
        });
    [
        ("Unusable files", faults.collect()),
        ("Files that could not be read, and stay usable", remarks.unread.clone()),
        ("Equal bytes across cliques or splits", remarks.crossing.clone()),
        ("Extensions that do not fit the codec", remarks.extensions.clone()),
        ("Files longer than they declare", remarks.longer.clone()),
        ("Files of which some frames do not decode", remarks.damaged.clone()),
    ]
}

/// Cliques (upwards) by how many usable versions they have.
fn draw(path: &Path, versions: &[Version]) -> Result<()> {
    let mut sizes: HashMap<&str, u32> = HashMap::new();
    for version in versions {
        *sizes.entry(&version.clique_id).or_default() += u32::from(version.usable());
    }
    let mut bars: BTreeMap<u32, u32> = BTreeMap::new();
    for size in sizes.into_values() {
        *bars.entry(size).or_default() += 1;
    }
    let widest = bars.keys().copied().max().unwrap_or(1).max(1);
    let highest = bars.values().copied().max().unwrap_or(1);
    bc_plot::png(path, (900, 500), |root| {
        let mut chart = ChartBuilder::on(root)
            .caption("Usable versions per clique", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d((0..widest).into_segmented(), 0..highest + highest / 10 + 1)?;
        chart.configure_mesh().disable_x_mesh().x_desc("versions").y_desc("cliques").draw()?;
        let style = Palette99::pick(0).mix(0.8).filled();
        chart.draw_series(
            Histogram::vertical(&chart).style(style).margin(1).data(bars.iter().map(|(&x, &y)| (x, y))),
        )?;
        Ok(())
    })
}
