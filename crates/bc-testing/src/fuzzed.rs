//! Replays a fuzzer's corpus and findings in the tests of the crates whose parsers it feeds (`fuzz/README.md`).

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::kills::RandomTimes;

/// Calls `check` with every file of `fuzz/corpus/<target>` and `fuzz/regressions/<target>`, and damaged copies of each:
/// `BYTECOVER_MUTATIONS` of them, a hundred where it is not set. One target at a time, since memory is counted
/// for the whole process.
///
/// # Panics
/// `check` panics, after the path of a file with the bytes was printed; there is no corpus.
pub fn replay(target: &str, check: impl Fn(&[u8])) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mutations = std::env::var("BYTECOVER_MUTATIONS");
    let mutations = mutations.map_or(100, |text| text.parse().expect("BYTECOVER_MUTATIONS is a number"));
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        let entries = std::fs::read_dir(fuzz.join(folder).join(target)).into_iter().flatten();
        for path in entries.map(|entry| entry.expect("a listed file").path()).filter(|path| path.is_file()) {
            println!("{}", path.display());
            let bytes = std::fs::read(&path).expect("a file that can be read");
            check(&bytes);
            let mut random = RandomTimes::new(1);
            for number in 0..mutations {
                check_mutated(target, number, &mutated(&bytes, &mut random), &check);
            }
            count += usize::from(folder == "corpus");
        }
    }
    assert!(count > 0, "fuzz/corpus/{target} is empty");
}

/// Calls `check`, and saves the bytes if it panics.
fn check_mutated(target: &str, number: u32, bytes: &[u8], check: &impl Fn(&[u8])) {
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(bytes)));
    if let Err(panic) = checked {
        let path = std::env::temp_dir().join(format!("{target}-{number}"));
        std::fs::write(&path, bytes).expect("a written file");
        println!("the bytes are in {}; see fuzz/README.md", path.display());
        std::panic::resume_unwind(panic);
    }
}

/// Returns a copy with one to four mutations: a byte changed, or a piece removed, repeated, or set to one value.
fn mutated(bytes: &[u8], random: &mut RandomTimes) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut below = |end: usize| (random.next_share() * end as f64) as usize;
    for _ in 0..=below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = below(bytes.len());
        let end = (at + 1 + below(8)).min(bytes.len());
        match below(6) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes[at..end].fill([0, 0xff, 0x7f, 0x80, b'9', b'"'][below(6)]),
            _ if below(8) == 0 => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes
}

/// Writes a file of a fuzzer's corpus, `fuzz/corpus/<target>/<name>`.
pub fn write_seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(name), bytes).expect("a written file");
}

/// Runs `read` on a file of that name and content, in a temporary folder that is in memory if the system has one.
pub fn in_file<T>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a scratch folder");
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a written file");
    read(&path)
}

/// Checks that a reader's error names the file.
///
/// # Panics
/// The error does not name it.
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
