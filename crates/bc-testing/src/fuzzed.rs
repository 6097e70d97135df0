//! What a fuzzer begins with and what it found, for the tests of the crates whose parsers it feeds (`fuzz/README.md`).

use std::path::Path;

/// Gives `check` every file of `fuzz/corpus/<target>` and `fuzz/regressions/<target>`.
///
/// # Panics
/// Where `check` does, after the file's name was printed; where there is nothing to begin with.
pub fn replay(target: &str, check: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        let entries = std::fs::read_dir(fuzz.join(folder).join(target)).into_iter().flatten();
        for path in entries.map(|entry| entry.expect("a listed file").path()).filter(|path| path.is_file()) {
            println!("{}", path.display());
            check(&std::fs::read(&path).expect("a file that can be read"));
            count += usize::from(folder == "corpus");
        }
    }
    assert!(count > 0, "fuzz/corpus/{target} is empty");
}

/// Writes what a fuzzer is to begin with: `fuzz/corpus/<target>/<name>`.
pub fn write_seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(name), bytes).expect("a written file");
}

/// Runs `read` on a file of that name and content, in a folder of its own that is in memory where the system has one.
pub fn in_file<T>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a scratch folder");
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a written file");
    read(&path)
}

/// What every reader owes to people: an error that names the file.
///
/// # Panics
/// Where it does not.
pub fn names_file<T, E: std::fmt::Debug>(path: &Path, result: Result<T, E>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let (text, name) = (format!("{error:?}"), path.file_name().unwrap_or_default().to_string_lossy());
            assert!(text.contains(name.as_ref()), "the error does not name {name}: {text}");
            None
        }
    }
}
