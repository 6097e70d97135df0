//! The output folder: names of parts, what killed runs left in it, one run at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bc_cli::Shard;
use bc_formats::lock::{self, Kind};

/// The folder as one shard's run sees it. While it lives, no second run of the shard begins, and
/// beside a run of all versions none of any shard.
pub struct Folder {
    path: PathBuf,
    prefix: String,
    number: usize,
    _locks: Vec<File>,
}

impl Folder {
    /// Makes the folder if it is absent, locks the shard and removes the temporary files that
    /// killed runs of it left.
    ///
    /// # Errors
    /// Another run of the shard is at work; a folder that cannot be written.
    pub fn open(path: &Path, shard: Shard) -> Result<Self> {
        let prefix =
            if shard.count == 1 { String::new() } else { format!("{}of{}-", shard.index + 1, shard.count) };
        let held = || {
            format!(
                "another bc-features extract is writing {}; wait for it (runs beside each other need a shard each: --shard i/n)",
                path.display()
            )
        };
        let all = if shard.count > 1 { Kind::Shared } else { Kind::Alone };
        let mut locks = vec![lock::hold(path, ".extract.lock", all, held)?];
        if shard.count > 1 {
            locks.push(lock::hold(path, &format!(".{prefix}extract.lock"), Kind::Alone, held)?);
        }
        let folder = Self { path: path.to_owned(), prefix, number: 0, _locks: locks };
        folder.remove_leftovers()?;
        Ok(folder)
    }

    /// A free name: `part-00000.parquet`, or `part-2of7-00000.parquet` in a shard.
    pub fn next_part(&mut self) -> PathBuf {
        loop {
            let path = self.path.join(format!("part-{}{:05}.parquet", self.prefix, self.number));
            self.number += 1;
            if !path.exists() {
                return path;
            }
        }
    }

    fn remove_leftovers(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)
            .with_context(|| format!("cannot list {}", self.path.display()))?
            .flatten()
        {
            let name = entry.file_name();
            if is_leftover(&name.to_string_lossy(), &self.prefix) {
                std::fs::remove_file(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Whether a file of this name was being written by a run of the shard with `prefix`.
fn is_leftover(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_suffix(".tmp").and_then(|name| name.strip_prefix(".part-")) else {
        return false;
    };
    let Some((number, _)) = rest.strip_prefix(prefix).and_then(|rest| rest.split_once(".parquet.")) else {
        return false;
    };
    number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_removes_its_own_leftovers_only() {
        assert!(is_leftover(".part-00003.parquet.Ab3.tmp", ""));
        assert!(!is_leftover(".part-2of7-00003.parquet.Ab3.tmp", ""));
        assert!(is_leftover(".part-2of7-00003.parquet.Ab3.tmp", "2of7-"));
        assert!(!is_leftover(".part-12of70-00003.parquet.Ab3.tmp", "2of7-"));
        assert!(!is_leftover("part-00003.parquet", ""));
    }

    #[test]
    fn a_second_run_of_the_same_shard_or_of_all_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Shard { index: 0, count: 2 }, Shard { index: 1, count: 2 });
        let first = Folder::open(folder.path(), one).unwrap();
        let error = Folder::open(folder.path(), one).err().unwrap().to_string();
        assert!(error.contains("another bc-features extract"), "{error}");
        Folder::open(folder.path(), two).unwrap();
        let all = Shard { index: 0, count: 1 };
        Folder::open(folder.path(), all).err().unwrap();
        drop(first);
        let of_all = Folder::open(folder.path(), all).unwrap();
        Folder::open(folder.path(), one).err().unwrap();
        drop(of_all);
        Folder::open(folder.path(), one).unwrap();
    }
}
