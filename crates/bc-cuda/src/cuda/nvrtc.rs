//! Compiles kernels at run time with nvrtc, once for each compute capability, and caches them on disk.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use cudarc::nvrtc::result::{
    NvrtcError, compile_program, create_program, destroy_program, get_program_log, get_ptx,
};
use cudarc::nvrtc::sys;

use super::{call, libraries};
use crate::error::{Error, Result};
use crate::kernels::{OPTIONS, Source};

/// An nvrtc program, which is destroyed when it is dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was created, and is destroyed here alone. Nothing can be done about a failure.
        let _ = unsafe { destroy_program(self.0) };
    }
}

/// Compiles a source for an architecture: `sm_90` gives machine code (cubin), `compute_80` text that a driver compiles (PTX).
/// No device is needed.
///
/// # Errors
/// nvrtc is missing or does not know the architecture, or the source has errors; the message has nvrtc's log.
pub fn compile(source: &Source, arch: &str) -> Result<Vec<u8>> {
    libraries::NVRTC.require()?;
    let failed = |log: String| Error::Compile { file: source.file.to_owned(), arch: arch.to_owned(), log };
    let text = CString::new(source.text()).map_err(|error| failed(error.to_string()))?;
    let name = CString::new(source.file).map_err(|error| failed(error.to_string()))?;
    let program = create_program(&text, Some(&name)).map_err(|error| failed(format!("{error:?}")))?;
    // Declared after text and name, so that it is dropped before them.
    let program = Program(program);
    let mut options: Vec<String> = OPTIONS.iter().map(ToString::to_string).collect();
    options.push(format!("--gpu-architecture={arch}"));
    // SAFETY: the program lives until the end of this function.
    unsafe { compile_program(program.0, &options) }.map_err(|error| failed(log(&program, error)))?;
    if arch.starts_with("compute_") {
        // SAFETY: as above, and it was compiled.
        let text = unsafe { get_ptx(program.0) }.map_err(|error| failed(format!("{error:?}")))?;
        return Ok(text.into_iter().map(|c| c.cast_unsigned()).collect());
    }
    let mut size = 0usize;
    // SAFETY: the program lives and was compiled; the second call writes as many bytes as the first one says.
    unsafe {
        sys::nvrtcGetCUBINSize(program.0, &mut size)
            .result()
            .map_err(|error| failed(format!("{error:?}")))?;
        let mut code = vec![0u8; size];
        sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast())
            .result()
            .map_err(|error| failed(format!("{error:?}")))?;
        Ok(code)
    }
}

fn log(program: &Program, error: NvrtcError) -> String {
    // SAFETY: the program lives.
    let Ok(mut log) = (unsafe { get_program_log(program.0) }) else { return format!("{error:?}") };
    log.push(0);
    // SAFETY: the line above ends it.
    let text = unsafe { CStr::from_ptr(log.as_ptr()) };
    format!("{error:?}\n{}", text.to_string_lossy())
}

/// Returns the folder in which compiled kernels are cached: `bytecover/kernels` in the user's cache folder, if there is one.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")))?;
    Some(base.join("bytecover").join("kernels"))
}

/// Returns the code of a source for a device of this compute capability, from `cache` if it was compiled before.
pub(super) fn cached(source: &Source, (major, minor): (i32, i32), cache: Option<&Path>) -> Result<Vec<u8>> {
    let arch = format!("sm_{major}{minor}");
    let path = cache.map(|folder| file_in(folder, source, &arch));
    if let Some(Ok(code)) = path.as_ref().map(std::fs::read)
        && !code.is_empty()
    {
        return Ok(code);
    }
    let code = match compile(source, &arch) {
        // A device newer than the compiler: the driver compiles for it.
        Err(Error::Compile { log, .. }) if log.contains("INVALID_OPTION") => compile(source, "compute_80")?,
        other => other?,
    };
    if let Some(path) = path {
        // A cache that cannot be written costs some seconds at the next start, and nothing else.
        let _ = keep(&path, &code);
    }
    Ok(code)
}

/// Returns the path of the cache file, whose name contains a hash of everything that the code depends on.
fn file_in(folder: &Path, source: &Source, arch: &str) -> PathBuf {
    let mut hash = blake3::Hasher::new();
    hash.update(source.text().as_bytes());
    OPTIONS.iter().for_each(|option| {
        hash.update(option.as_bytes());
    });
    folder.join(format!("{}-{}-{arch}.bin", source.file, &hash.finalize().to_hex()[..24]))
}

/// Writes code to a cache file, under a temporary name first: another process may write it too, or this one may be killed.
fn keep(path: &Path, code: &[u8]) -> Result<()> {
    let io = |source| Error::Io { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let beside = path.with_extension(format!("{}", std::process::id()));
    std::fs::write(&beside, code).map_err(io)?;
    std::fs::rename(&beside, path).map_err(io)
}

/// Removes a cached file that failed to load.
pub(super) fn forget(source: &Source, (major, minor): (i32, i32), cache: &Path) -> Result<()> {
    let path = file_in(cache, source, &format!("sm_{major}{minor}"));
    std::fs::remove_file(&path).map_err(call("remove a cached kernel"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::SOURCES;

    #[test]
    fn kept_code_is_read_again_and_named_for_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("deep").join("down");
        let path = file_in(&cache, &SOURCES[0], "sm_90");
        keep(&path, b"code").unwrap();
        assert_eq!(cached(&SOURCES[0], (9, 0), Some(&cache)).unwrap(), b"code");
        assert_ne!(path, file_in(&cache, &SOURCES[1], "sm_90"));
        assert_ne!(path, file_in(&cache, &SOURCES[0], "sm_80"));
        forget(&SOURCES[0], (9, 0), &cache).unwrap();
        assert!(!path.exists());
    }
}
