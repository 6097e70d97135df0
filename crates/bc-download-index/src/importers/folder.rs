//! One folder per clique: `<dataset_path>/<clique>/<version>.<extension>`.

use anyhow::{Result, bail};
use bc_audio::is_audio;
use bc_formats::config::IndexConfig;
use bc_formats::index::Version;

use super::list::{Imported, Importer};
use crate::locate::listing;

pub(super) struct Folder;

impl Importer for Folder {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let root = &config.dataset_path;
        let mut versions = Vec::new();
        for clique in listing(root)?.into_iter().filter(|path| path.is_dir()) {
            let clique_id = clique.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in listing(&clique)?.into_iter().filter(|file| is_audio(file)) {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut version = Version::new(format!("{clique_id}/{name}"), &clique_id);
                version.title = clique_id.clone();
                version.performer = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                version.audio_path = Some(format!("{clique_id}/{name}"));
                versions.push(version);
            }
        }
        if versions.is_empty() {
            bail!(
                "{} holds no audio; source = \"folder\" expects one folder per clique: {}/<song>/<recording>.mp3",
                root.display(),
                root.display()
            );
        }
        Ok(versions.into())
    }
}
