//! When the file of a recording was moved, and when it only seems so because its disk is not mounted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bc_embed::files;

use crate::aligned::audio_of;
use crate::index::Row;

/// Whether the audio of an indexed recording is not at its path any more. The ids of imported embeddings are no paths, and objects of a
/// store are not looked for.
pub(crate) fn is_moved(row: &Row) -> bool {
    let path = Path::new(&row.path);
    if !path.is_absolute() || audio_of(row).is_ok() {
        return false;
    }
    // A file that cannot be read now may still be there: only one that is absent, or holds other audio, has moved.
    match std::fs::symlink_metadata(path) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(_) => files::content_hash(path).is_ok_and(|hash| hash != row.content_hash),
    }
}

/// The folders that are absent, or empty as the mount point of a disk that is not mounted is. Each folder is looked up once.
#[derive(Debug, Default)]
pub(crate) struct AbsentFolders {
    looked_up: HashMap<PathBuf, Option<PathBuf>>,
}

impl AbsentFolders {
    /// The topmost absent or empty folder that the file is below; `None` if its own folder is there and holds something.
    pub fn above(&mut self, file: &Path) -> Option<PathBuf> {
        let folder = file.parent()?;
        if let Some(known) = self.looked_up.get(folder) {
            return known.clone();
        }
        let topmost = file.ancestors().skip(1).take_while(|folder| is_absent_or_empty(folder)).last();
        let topmost = topmost.map(Path::to_owned);
        self.looked_up.insert(folder.to_owned(), topmost.clone());
        topmost
    }
}

fn is_absent_or_empty(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_folders_are_found_from_the_top() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("disk")).unwrap();
        std::fs::create_dir_all(root.join("music/song")).unwrap();
        std::fs::write(root.join("music/song/a.mp3"), "a").unwrap();
        let mut folders = AbsentFolders::default();
        let mut above = |name: &str| folders.above(&root.join(name));
        assert_eq!(above("disk/music/song/a.mp3"), Some(root.join("disk")));
        assert_eq!(above("disk/a.mp3"), Some(root.join("disk")));
        assert_eq!(above("gone/song/a.mp3"), Some(root.join("gone")));
        assert_eq!(above("music/other/a.mp3"), Some(root.join("music/other")));
        assert_eq!(above("music/song/b.mp3"), None);
    }
}
