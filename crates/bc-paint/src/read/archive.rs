//! Reads the MIDI files of a folder or a tar archive.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Maximum size of a MIDI file in bytes; POP909's largest has 90 kB.
const MAX_BYTES: u64 = 16 << 20;

/// A MIDI file.
pub struct File {
    /// Path of the file in error messages.
    pub name_in_errors: String,
    /// Name of the file without its extension, which is the id of the work.
    pub name: String,
    /// Content of the file.
    pub content: Vec<u8>,
}

/// Returns whether a path is that of a song's main arrangement, `NNN/NNN.mid`; POP909 has further drafts in `NNN/versions`.
fn is_base(path: &Path) -> bool {
    let parent = path.parent().and_then(Path::file_name);
    path.extension().is_some_and(|extension| extension == "mid")
        && parent.is_some()
        && path.file_stem() == parent
}

/// Reads the main arrangements below a folder.
pub fn folder(path: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let path = entry.path();
            // A link to a folder above would be walked for ever.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if is_base(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    files.into_iter().map(|path| read_file(&path)).collect()
}

fn read_file(path: &Path) -> Result<File> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(File { name_in_errors: path.display().to_string(), name: stem(path), content })
}

/// Reads the main arrangements in a tar archive.
pub fn tar(path: &Path, content: impl Read) -> Result<Vec<File>> {
    let damaged = || format!("{} is not a complete tar archive; fetch it again", path.display());
    let mut files = Vec::new();
    let mut archive = tar::Archive::new(content);
    for entry in archive.entries().with_context(damaged)? {
        let entry = entry.with_context(damaged)?;
        let inside: PathBuf = entry.path().with_context(damaged)?.into_owned();
        if !entry.header().entry_type().is_file() || !is_base(&inside) {
            continue;
        }
        let mut content = Vec::new();
        entry.take(MAX_BYTES).read_to_end(&mut content).with_context(damaged)?;
        let name_in_errors = format!("{} in {}", inside.display(), path.display());
        files.push(File { name_in_errors, name: stem(&inside), content });
    }
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
