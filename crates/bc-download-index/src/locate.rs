//! Finds the audio file of each version.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use bc_audio::{EXTENSIONS, is_audio};
use bc_formats::audio_root::AudioRoot;
use bc_formats::config::IndexConfig;
use bc_formats::index::{Status, Version};
use bc_store::About;
use rayon::prelude::*;

use crate::disappeared::Disappeared;
use crate::retry;

/// Further extensions of files from video sites, in addition to [`EXTENSIONS`]: `download` keeps such a file, and `verify` checks
/// whether it decodes.
const CONTAINERS: [&str; 6] = ["ts", "flv", "3gp", "mov", "m4v", "m4b"];

/// The audio of a data set.
pub struct Audio<'a> {
    config: &'a IndexConfig,
    /// The folder of the audio, as paths of the index name it.
    folder: PathBuf,
    /// The audio directly in the folder, by names without extensions.
    by_stem: HashMap<String, PathBuf>,
    /// The names in other folders that were looked into.
    listed: ListedFolders,
    /// Metadata of a store's objects, by path: the store is queried once for all of them.
    objects: Option<HashMap<PathBuf, About>>,
}

impl<'a> Audio<'a> {
    /// Lists `dataset_path`.
    ///
    /// # Errors
    /// `dataset_path` is no folder, or not below `audio_root`.
    pub fn open(config: &'a IndexConfig) -> Result<Self> {
        let folder = audio_folder(config)?;
        if !bc_store::is_remote(&folder) {
            let (by_stem, listed) = (files_by_stem(config)?, ListedFolders::default());
            return Ok(Self { config, folder, by_stem, listed, objects: None });
        }
        let objects: HashMap<PathBuf, About> =
            objects(config)?.into_iter().map(|(name, about)| (folder.join(name), about)).collect();
        let mut in_folder: Vec<PathBuf> =
            objects.keys().filter(|path| path.parent() == Some(&folder)).cloned().collect();
        in_folder.sort();
        let by_stem = by_stem(in_folder, config);
        Ok(Self { config, folder, by_stem, listed: ListedFolders::default(), objects: Some(objects) })
    }

    /// Returns the size and modification time of a file as it is now, or of an object as it was listed; `None` if absent.
    ///
    /// # Errors
    /// The metadata of the file cannot be read.
    pub fn about(&self, path: &Path) -> io::Result<Option<About>> {
        match &self.objects {
            Some(objects) if bc_store::is_remote(path) => Ok(objects.get(path).copied()),
            _ => about_now(path),
        }
    }

    /// Returns whether a file or an object exists.
    fn exists(&self, path: &Path) -> bool {
        self.objects.as_ref().map_or_else(|| file_exists(path), |objects| objects.contains_key(path))
    }

    /// Sets path, size and status of a version whose file exists and is not inspected yet.
    fn set_file(&self, version: &mut Version, path: &Path) {
        version.reason = None;
        version.bytes = match &self.objects {
            Some(objects) => objects.get(path).map(|about| about.bytes),
            None => retry::io(|| std::fs::metadata(path)).map(|file| file.len()).ok(),
        };
        version.audio_path = Some(path.to_string_lossy().into_owned());
        version.status = Status::Ok;
    }

    /// Returns `path` if it exists; if it has no extension of audio, the existing file of that name with one.
    fn existing(&self, path: PathBuf) -> Option<PathBuf> {
        if self.exists(&path) {
            return Some(path);
        }
        if is_audio(&path) {
            return None;
        }
        let only = self.config.file_extension.trim_start_matches('.');
        let extensions = if only.is_empty() { &EXTENSIONS[..] } else { &[only][..] };
        let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let names = self.objects.is_none().then(|| self.listed.names(folder));
        extensions
            .iter()
            .map(|extension| format!("{name}.{extension}"))
            .filter(|name| {
                names.as_ref().is_none_or(|names| names.contains(OsString::from(name).as_os_str()))
            })
            .map(|name| path.with_file_name(name))
            .find(|path| self.exists(path))
    }

    /// Finds the file of every version, and sets path, size and status. A file is looked for in this order: the path that
    /// the source names (in `audio_path`, with or without its extension) below `dataset_path`;
    /// `<dataset_path>/<id>.<extension>`; the name of that path directly in `dataset_path`. Returns a text that says where
    /// the first missing file was looked for.
    pub fn locate(&self, versions: &mut [Version]) -> Option<String> {
        let locate_one = |version: &mut Version| {
            let named = version.audio_path.take();
            let existing = named
                .as_deref()
                .and_then(|path| self.existing(self.folder.join(path)))
                .or_else(|| self.by_stem.get(version.version_id.as_str()).cloned())
                .or_else(|| self.by_stem.get(named.as_deref().map(stem)?).cloned());
            match existing {
                Some(path) => {
                    self.set_file(version, &path);
                    None
                }
                None => {
                    mark_missing(version, self.config);
                    Some(named)
                }
            }
        };
        let first_missing = versions
            .par_iter_mut()
            .enumerate()
            .filter_map(|(index, version)| locate_one(version).map(|named| (index, named)))
            .min_by_key(|(index, _)| *index);
        first_missing.map(|(index, named)| {
            let also =
                named.map(|path| format!(", nor {}", self.folder.join(path).display())).unwrap_or_default();
            format!("{}: {}{also}", versions[index].version_id, missing_reason(&versions[index], self.config))
        })
    }

    /// Updates path, size and status of versions of an existing index, whose files may have been changed, removed, or added
    /// at `<dataset_path>/<id>.<extension>` since it was written. The results of inspections are cleared; `verify`'s notes
    /// fill them in again. Returns how many files disappeared.
    pub fn refresh(&self, versions: &mut [Version]) -> Disappeared {
        let refresh_one = |version: &mut Version| {
            let had_file = version.audio_path.is_some();
            let existing = version.audio_path.as_ref().map(PathBuf::from).filter(|path| self.exists(path));
            clear_inspection(version);
            match existing.or_else(|| self.by_stem.get(version.version_id.as_str()).cloned()) {
                Some(path) => self.set_file(version, &path),
                None => mark_missing(version, self.config),
            }
            let is_gone = had_file && version.audio_path.is_none();
            Disappeared { had: had_file.into(), gone: is_gone.into() }
        };
        versions.par_iter_mut().map(refresh_one).reduce(Disappeared::default, Disappeared::plus)
    }
}

/// Returns `dataset_path` as paths of the index name it: below `audio_root`, if there is one.
///
/// # Errors
/// `dataset_path` is no folder, or not below `audio_root`.
pub fn audio_folder(config: &IndexConfig) -> Result<PathBuf> {
    let folder = &config.dataset_path;
    if bc_store::is_remote(folder) {
        if !config.audio_root.is_empty() {
            bail!(
                "[index] audio_root must be empty where dataset_path is an object store: paths in the index are whole"
            );
        }
        return Ok(folder.clone());
    }
    if !folder.is_dir() {
        bail!(
            "[index] dataset_path = \"{}\" is no folder; it is relative to the working directory; make it if the \
             audio is still to be downloaded",
            folder.display()
        );
    }
    match AudioRoot::named(&config.output, &config.audio_root) {
        Some(root) => root.reach(folder),
        None => Ok(folder.clone()),
    }
}

/// Returns the size and modification time of a file or an object as it is now; `None` if absent.
///
/// # Errors
/// The file system or store cannot be asked about the file.
pub fn about_now(path: &Path) -> io::Result<Option<About>> {
    match retry::io(|| bc_store::about(path)) {
        Ok(about) => Ok(Some(about)),
        Err(error) if retry::is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether a file exists. If its metadata cannot be read, it counts as existing: a temporary error of a
/// network file system must not make files missing.
pub fn file_exists(path: &Path) -> bool {
    match retry::io(|| std::fs::metadata(path)) {
        Ok(about) => about.is_file(),
        Err(error) => !retry::is_absent(&error),
    }
}

/// Marks a version as missing.
fn mark_missing(version: &mut Version, config: &IndexConfig) {
    version.audio_path = None;
    version.status = Status::Missing;
    version.reason = Some(missing_reason(version, config));
}

/// Returns the reason of a missing version. All commands give the same text, so that the index does not depend on which one
/// ran last; it leaves out the path that a list names, which only `build` knows.
fn missing_reason(version: &Version, config: &IndexConfig) -> String {
    format!("no file {}.* in {}", version.version_id, config.dataset_path.display())
}

/// Clears the results of an earlier inspection. A length that was not measured comes from the list, and is kept.
fn clear_inspection(version: &mut Version) {
    if version.content_hash.is_some() || version.codec.is_some() {
        version.duration_s = None;
    }
    (version.sample_rate, version.channels) = (None, None);
    version.codec = None;
    version.bytes = None;
    version.content_hash = None;
}

/// Returns the files of `dataset_path` by their names without extensions. The folder is listed once: querying the file
/// system for each of 100,000 ids and 16 extensions is slow.
///
/// # Errors
/// The folder cannot be listed.
pub fn files_by_stem(config: &IndexConfig) -> Result<HashMap<String, PathBuf>> {
    Ok(by_stem(listing(&audio_folder(config)?)?, config))
}

/// Returns the objects of a store below `dataset_path`, in order of their names.
///
/// # Errors
/// The store does not list them.
pub fn objects(config: &IndexConfig) -> Result<Vec<(String, About)>> {
    retry::io(|| bc_store::list(&config.dataset_path)).context("[index] dataset_path")
}

/// Maps the names of audio files without extensions to their paths; the first path of a name counts.
fn by_stem(paths: Vec<PathBuf>, config: &IndexConfig) -> HashMap<String, PathBuf> {
    let mut by_stem: HashMap<String, PathBuf> = HashMap::new();
    for path in paths.into_iter().filter(|path| has_extension(path, config, is_kept)) {
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            by_stem.entry(stem.to_owned()).or_insert(path);
        }
    }
    by_stem
}

/// Returns whether a file has the extension that `[index] file_extension` demands; if it demands none, whether `otherwise` holds.
pub fn has_extension(path: &Path, config: &IndexConfig, otherwise: fn(&Path) -> bool) -> bool {
    let only = config.file_extension.trim_start_matches('.').to_lowercase();
    if only.is_empty() { otherwise(path) } else { extension(path).is_some_and(|found| found == only) }
}

/// Returns whether a file of this name counts as the audio of a version, whether or not it will decode.
pub fn is_kept(path: &Path) -> bool {
    is_audio(path) || extension(path).is_some_and(|found| CONTAINERS.contains(&found.as_str()))
}

/// Returns the extensions for which [`is_kept`] holds.
pub fn kept_extensions() -> impl Iterator<Item = &'static str> {
    EXTENSIONS.into_iter().chain(CONTAINERS)
}

/// Lists the paths in a folder of audio, sorted.
///
/// # Errors
/// The folder cannot be listed.
pub fn listing(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || {
        std::fs::read_dir(folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()
        })
    };
    let mut paths: Vec<PathBuf> = retry::io(read)
        .with_context(|| format!("cannot list {} ([index] dataset_path)", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// The names in folders, each listed once.
#[derive(Default)]
struct ListedFolders(Mutex<HashMap<PathBuf, Arc<HashSet<OsString>>>>);

impl ListedFolders {
    /// Lists the names in a folder; none if it cannot be listed.
    fn names(&self, folder: &Path) -> Arc<HashSet<OsString>> {
        if let Some(names) = self.0.lock().expect("no holder panics").get(folder) {
            return Arc::clone(names);
        }
        // Two threads may list the same folder at the same time, which costs less than waiting for each other.
        let entries = retry::io(|| std::fs::read_dir(folder));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names = Arc::new(names.collect());
        self.0.lock().expect("no holder panics").insert(folder.to_owned(), Arc::clone(&names));
        names
    }
}

/// Returns a file's name without folders and without an extension of audio.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if is_audio(Path::new(name)) => stem,
        _ => name,
    }
}

/// Returns the extension in lower case.
pub fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}
