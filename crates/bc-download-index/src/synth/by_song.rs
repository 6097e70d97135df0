//! Copies of the demo set as people keep their music: one folder per song, with its recordings inside.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_formats::atomic;
use bc_formats::config::SynthConfig;

/// Copies the rendered files of the set to `<folder>/<song>/<performer>.wav`. Where two songs or two performers of a song
/// have one name, the later ones end with their ids. Files that are there with the same bytes stay.
///
/// # Errors
/// A file that cannot be read or written.
pub fn copy(config: &SynthConfig, folder: &Path) -> Result<()> {
    let mut clique_of_name: HashMap<String, u32> = HashMap::new();
    let mut version_of_path: HashMap<PathBuf, u32> = HashMap::new();
    for planned in super::planned_versions(config) {
        let (arrangement, mut rng) = super::arranged(config, &planned);
        let mut song = super::title(config, planned.clique);
        if *clique_of_name.entry(song.clone()).or_insert(planned.clique) != planned.clique {
            song = format!("{song} (s{:04})", planned.clique);
        }
        let performer = super::performer(&arrangement, &mut rng);
        let mut target = folder.join(&song).join(format!("{performer}.wav"));
        if *version_of_path.entry(target.clone()).or_insert(planned.version) != planned.version {
            target.set_file_name(format!("{performer} ({}).wav", planned.id));
        }
        copy_file(&config.output.join(&planned.file), &target)?;
    }
    Ok(())
}

fn copy_file(source: &Path, target: &Path) -> Result<()> {
    let bytes = std::fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    // Files of other settings may have the same size.
    if std::fs::read(target).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    atomic::write(target, bytes)
}
