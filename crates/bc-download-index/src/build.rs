//! Builds an index file from lists.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bc_formats::config::{Config, IndexConfig};
use bc_formats::index::{Conflict, Index, Split, Version, duplicate_id};
use bc_formats::provenance::Provenance;

use crate::assemble::{Assembly, Lookup};
use crate::importers::{self, Source};
use crate::shared_files::{FirstShared, SharedFiles};
use crate::splits::{Drawn, Splits};
use crate::{locate, lock};

/// Imports, looks for audio, draws splits where the source has none, writes the index
/// and prints its counts. A clique that is in the existing index of the same data set keeps its split. What `download` and `verify` noted of unchanged files is kept. An index that
/// would not change is left as it is. The source is read twice, the first time to check what must hold for it as a whole.
///
/// # Errors
/// A list that is absent or malformed (file and line), a version id that is listed twice, a
/// clique in two splits, no version at all, audio outside `audio_root`, an `output` that is another kind of file.
pub fn run(all: &Config) -> Result<()> {
    let config = &all.index;
    let source = importers::open(config)?;
    source.notes().iter().for_each(|note| bc_cli::println!("{note}"));
    let mut splits = checked(&source, all)?;
    // Checked before the lock makes the index's folder.
    locate::audio_folder(config)?;
    // Held until the index is written: updates by `verify` or `download` wait meanwhile, and are not lost.
    let _lock = lock::index(&config.output)?;
    require_index_or_nothing(&config.output)?;
    draw(&mut splits, config)?;
    let provenance = Provenance {
        format: String::new(),
        tool: bc_cli::tool!().to_owned(),
        settings: serde_json::json!({ "index": config }),
        fingerprint: String::new(),
        inputs: Default::default(),
    };
    let mut assembly = Assembly::open(all, &provenance.settings, Lookup::FromList)?;
    source.each(|_, mut version| {
        version.split = splits.split_of(&version);
        assembly.add(version)
    })?;
    let assembled = assembly.finish()?;
    if let Some(first_missing) = &assembled.first_missing {
        bc_cli::println!("Some versions have no file, the first: {first_missing}");
    }
    warn_of_shared_files(&assembled.shared_files, &source)?;
    bc_cli::print!("{}", assembled.figures.coverage);
    let files = assembled.figures.files;
    if assembled.verified < files {
        bc_cli::println!(
            "{} of {files} files were not verified yet; run `verify`.",
            files - assembled.verified
        );
    }
    assembled.publish(all, provenance)
}

/// Warns of versions that have the file of another version.
fn warn_of_shared_files(shared: &SharedFiles, source: &Source) -> Result<()> {
    let Some(FirstShared { path, rows }) = shared.first() else { return Ok(()) };
    let mut versions = Vec::new();
    for at in *rows {
        let version = nth(source, at)?.context("the list changed while it was read; run `build` again")?;
        versions.push(format!("{} (clique {})", version.version_id, version.clique_id));
    }
    bc_cli::println!(
        "Warning: {} versions have the file of an earlier version, the first: {path} is that of {}. If the recordings differ, their files \
         need different names, or paths that the list names.",
        shared.versions(),
        versions.join(" and of ")
    );
    Ok(())
}

/// Refuses to replace a file that is no index.
fn require_index_or_nothing(output: &Path) -> Result<()> {
    if output.exists() {
        Index::read_provenance(output).with_context(|| {
            format!(
                "{} cannot be read as an index, and nothing else is overwritten; name another file as [index] output, or remove this \
                 one (splits that were drawn are then drawn anew)",
                output.display()
            )
        })?;
    }
    Ok(())
}

/// The ids, cliques and splits of a source, checked as a whole.
fn checked(source: &Source, all: &Config) -> Result<Splits> {
    let config = &all.index;
    let list = importers::path(config).display();
    let mut splits = Splits::default();
    source.each(|position, version| match splits.add(position, &version) {
        Ok(()) => Ok(()),
        Err(Conflict::Twice) => Err(match source.line(position) {
            Some(line) => duplicate_id(&line, &version.version_id),
            None => duplicate_id(&list, &version.version_id),
        }),
        Err(Conflict::Crossing(split, first)) => {
            let first_id = nth(source, first.at)?.map(|version| version.version_id).unwrap_or_default();
            let line_of = |position| source.describe(position).map(|line| format!(", {line}")).unwrap_or_default();
            bail!(
                "clique {} is in the splits {split} (version {first_id}{}) and {} (version {}{}); a clique must not \
                 cross splits, or the figures are of songs that were trained on",
                version.clique_id,
                line_of(first),
                version.split,
                version.version_id,
                line_of(position)
            )
        }
    })?;
    if splits.versions() == 0 {
        bail!("the source `{}` in {list} holds no version", config.source);
    }
    Ok(splits)
}

/// Draws splits where the source has none, and says what was kept and what is missing.
fn draw(splits: &mut Splits, config: &IndexConfig) -> Result<()> {
    if splits.given() {
        return Ok(());
    }
    let earlier = earlier_splits(config, splits)?;
    let drawn = splits.draw_unless_given(config.seed, config.shares, &earlier);
    let Drawn { kept, new, .. } = drawn;
    if kept > 0 {
        bc_cli::println!(
            "{new} new cliques; {kept} keep their splits of {} (remove the index, or change [index] seed, to draw all anew).",
            config.output.display()
        );
    }
    warn_of_empty(drawn, config);
    Ok(())
}

/// Warns of a split that has a share but no clique.
fn warn_of_empty(drawn: Drawn, config: &IndexConfig) {
    let train = drawn.kept + drawn.new - drawn.val - drawn.test;
    for (split, share, cliques) in [
        (Split::Train, config.shares[0], train),
        (Split::Val, config.shares[1], drawn.val),
        (Split::Test, config.shares[2], drawn.test),
    ] {
        if share == 0.0 || cliques > 0 {
            continue;
        }
        let remedy = if drawn.kept > 0 {
            format!(
                "remove {}, or change [index] seed, to draw all splits anew; networks that were trained on this train split must then be \
                 trained again",
                config.output.display()
            )
        } else {
            "add songs, or raise its share".to_owned()
        };
        bc_cli::println!(
            "Warning: the {split} split is empty, although its share is {share} ([index] shares): {remedy}."
        );
    }
}

/// The splits of the existing index's cliques, if they were drawn from the same data set with the same seed and shares.
fn earlier_splits(config: &IndexConfig, source: &Splits) -> Result<HashMap<String, Split>> {
    let path = &config.output;
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let remedy = || {
        format!(
            "{} is needed for its splits, since songs stay in theirs; remove it to draw them anew",
            path.display()
        )
    };
    let drawn_by =
        |settings: &serde_json::Value| ["source", "seed", "shares"].map(|key| settings[key].clone());
    let earlier = Index::read_provenance(path).with_context(remedy)?.settings["index"].clone();
    if drawn_by(&earlier) != drawn_by(&serde_json::json!(config)) {
        bc_cli::println!("The splits are drawn anew: {} had another source, seed or shares.", path.display());
        return Ok(HashMap::new());
    }
    let mut splits = HashMap::new();
    let (mut found, mut all) = (0, 0);
    let take = |version: Version| {
        all += 1;
        found += usize::from(source.has(&version));
        splits.entry(version.clique_id).or_insert(version.split);
        Ok(())
    };
    Index::read_each(path, take).with_context(remedy)?;
    let (before, now) = (list_of(&earlier), importers::path(config));
    // A data set that was moved, or a part of it, has most of its versions in common with the whole.
    if !is_same_place(&before, now) && 2 * found < all.min(source.versions()) {
        bc_cli::println!(
            "The splits are drawn anew: {} was made from {}, which is another data set than {} ({found} versions are in both).",
            path.display(),
            before.display(),
            now.display()
        );
        return Ok(HashMap::new());
    }
    splits.retain(|_, split| *split != Split::None);
    Ok(splits)
}

/// The file or folder that an index was made from, by its settings.
fn list_of(settings: &serde_json::Value) -> PathBuf {
    let is_folder = settings["source"].as_str().is_some_and(importers::reads_audio_folder);
    settings[if is_folder { "dataset_path" } else { "meta" }].as_str().unwrap_or_default().into()
}

/// Whether two paths are the same, or lead to the same place.
fn is_same_place(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The version in row `at` of the source (from 0), for a message.
fn nth(source: &Source, at: usize) -> Result<Option<Version>> {
    let mut found = None;
    source.each(|position, version| {
        if position.at == at {
            found = Some(version);
        }
        Ok(())
    })?;
    Ok(found)
}
