//! How an index spells the path of a file, and when two spellings are of one file.
//!
//! A row stores a path that is absolute and has no `.`, no `..` and no doubled slash; links in it stay as they were given. Two paths are of
//! one file if they are equal after all links are resolved. Paths of objects (`s3://...`) are taken as they are.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use bc_embed::files;

/// The path of a file in the index.
#[must_use]
pub fn stored_path(path: &Path) -> String {
    without_parents(&files::absolute(path)).to_string_lossy().into_owned()
}

/// An absolute path without `..`.
fn without_parents(path: &Path) -> PathBuf {
    if !path.is_absolute() || !path.components().any(|part| part == Component::ParentDir) {
        return path.to_owned();
    }
    let mut short = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                short.pop();
            }
            part => short.push(part),
        }
    }
    // After a link, `..` is the folder above the link's target, not the one above the link.
    let folder = |path: &Path| path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder(path), folder(&short), path.file_name()) {
        (Some(real), other, Some(name)) if other.as_ref() != Some(&real) => real.join(name),
        _ => short,
    }
}

/// Resolves the links of paths; each folder is looked up once.
#[derive(Debug, Default)]
pub struct LinkResolver {
    folders: HashMap<PathBuf, PathBuf>,
}

impl LinkResolver {
    /// The path of the file without links; of a file that is absent, as far as its folder exists.
    pub fn resolve(&mut self, path: &Path) -> PathBuf {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
        if !path.is_absolute() {
            return path.to_owned();
        }
        if path.symlink_metadata().is_ok_and(|about| about.is_symlink())
            && let Ok(target) = path.canonicalize()
        {
            return target;
        }
        if let Some(folder) = self.folders.get(folder) {
            return folder.join(name);
        }
        let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        self.folders.insert(folder.to_owned(), real.clone());
        real.join(name)
    }

    /// Whether two paths are of one file.
    pub fn is_same_file(&mut self, a: &str, b: &str) -> bool {
        a == b || self.resolve(Path::new(a)) == self.resolve(Path::new(b))
    }
}

/// Paths that a user names, to find rows by any spelling of theirs.
#[derive(Debug, Default)]
pub struct PathSelectors {
    /// The given paths by their spellings in an index: as given, and as an index stores them.
    by_stored: HashMap<String, Vec<String>>,
    /// The given paths by their spelling without links.
    by_real: HashMap<String, Vec<String>>,
    /// The given paths that a row has: they select no other row whose path leads to the same file.
    exact: HashSet<String>,
    names: HashSet<OsString>,
    links: RefCell<LinkResolver>,
}

impl PathSelectors {
    /// The selectors for these paths: as an index shows them, or relative to the working directory.
    #[must_use]
    pub fn new(paths: &[String]) -> Self {
        let mut selectors = Self::default();
        for path in paths {
            let stored = stored_path(Path::new(path));
            let real = selectors.without_links(&stored);
            selectors.names.extend(Path::new(&stored).file_name().map(ToOwned::to_owned));
            selectors.by_real.entry(real).or_default().push(path.clone());
            for spelling in HashSet::from([path.clone(), stored]) {
                selectors.by_stored.entry(spelling).or_default().push(path.clone());
            }
        }
        selectors
    }

    /// Whether nothing is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_stored.is_empty()
    }

    /// Takes note of the path of a row that exists; call it for all rows before [`Self::of`].
    pub fn see(&mut self, row_path: &str) {
        self.exact.extend(self.by_stored.get(row_path).into_iter().flatten().cloned());
    }

    /// The given paths that select the row with this path. A path that a row has exactly selects that row alone; another one selects
    /// the rows whose paths lead to its file by links.
    #[must_use]
    pub fn of(&self, row_path: &str) -> Vec<&String> {
        let mut selecting: Vec<&String> = self.by_stored.get(row_path).into_iter().flatten().collect();
        // Links are resolved only for files of the same name, because that takes time.
        let has_name = Path::new(row_path).file_name().is_some_and(|name| self.names.contains(name));
        let real = if has_name { self.without_links(row_path) } else { row_path.to_owned() };
        let by_file = self.by_real.get(&real).into_iter().flatten();
        selecting.extend(by_file.filter(|given| !self.exact.contains(*given)));
        selecting
    }

    /// A path without links, as far as its folder exists.
    fn without_links(&self, path: &str) -> String {
        self.links.borrow_mut().resolve(Path::new(path)).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_stored_alike() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("music/live")).unwrap();
        let root = folder.path().to_string_lossy().into_owned();
        let expected = format!("{root}/music/a.mp3");
        for spelling in
            ["music/a.mp3", "./music/a.mp3", "music//a.mp3", "music/live/../a.mp3", "x/../music/./a.mp3"]
        {
            assert_eq!(stored_path(Path::new(&format!("{root}/{spelling}"))), expected, "{spelling}");
        }
        assert_eq!(stored_path(Path::new("a/../b.mp3")), stored_path(Path::new("b.mp3")));
        assert_eq!(stored_path(Path::new("/../a.mp3")), "/a.mp3");
        assert_eq!(stored_path(Path::new("s3://music/x/../a.mp3")), "s3://music/x/../a.mp3");
    }

    #[cfg(unix)]
    #[test]
    fn parent_of_a_link_is_the_parent_of_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("disk/music")).unwrap();
        std::os::unix::fs::symlink(real.join("disk/music"), real.join("link")).unwrap();
        std::fs::write(real.join("disk/a.mp3"), "a").unwrap();
        let stored = |name: &str| stored_path(&real.join(name));
        assert_eq!(stored("link/../a.mp3"), stored("disk/a.mp3"));
        assert_eq!(stored("link/b.mp3"), real.join("link/b.mp3").to_string_lossy(), "links stay");
        let mut links = LinkResolver::default();
        assert!(links.is_same_file(&stored("link/b.mp3"), &stored("disk/music/b.mp3")));
        assert!(!links.is_same_file(&stored("link/b.mp3"), &stored("disk/b.mp3")));
        std::os::unix::fs::symlink(real.join("disk/a.mp3"), real.join("file.mp3")).unwrap();
        assert!(links.is_same_file(&stored("file.mp3"), &stored("disk/a.mp3")));
    }
    #[cfg(unix)]
    #[test]
    fn path_of_a_row_selects_that_row_and_not_the_target_of_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("disk")).unwrap();
        std::fs::write(real.join("disk/a.mp3"), "a").unwrap();
        std::os::unix::fs::symlink(real.join("disk/a.mp3"), real.join("a.mp3")).unwrap();
        std::os::unix::fs::symlink(real.join("disk"), real.join("link")).unwrap();
        let path = |name: &str| real.join(name).to_string_lossy().into_owned();
        let (alias, target, linked) = (path("a.mp3"), path("disk/a.mp3"), path("link/a.mp3"));
        let selected = |given: &str, rows: &[&String]| -> Vec<String> {
            let mut selectors = PathSelectors::new(&[given.to_owned()]);
            rows.iter().for_each(|row| selectors.see(row));
            rows.iter().filter(|row| !selectors.of(row).is_empty()).map(|row| (*row).clone()).collect()
        };
        assert_eq!(selected(&alias, &[&alias, &target]), vec![alias.clone()]);
        assert_eq!(selected(&target, &[&alias, &target]), vec![target.clone()]);
        assert_eq!(
            selected(&linked, &[&alias, &target]),
            vec![alias.clone(), target.clone()],
            "no row has this path"
        );
        assert_eq!(selected(&linked, &[&path("disk/b.mp3")]), <[String; 0]>::default());
    }
}
