//! The errors of this crate.

/// An error of a device; the message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shared library is missing.
    #[error(
        "cannot load {library} ({purpose}); looked in LD_LIBRARY_PATH=\"{path}\" and in the system's folders. {remedy}"
    )]
    Library {
        /// Name of the library.
        library: &'static str,
        /// What the library is needed for.
        purpose: &'static str,
        /// The value of `LD_LIBRARY_PATH`.
        path: String,
        /// What to install.
        remedy: &'static str,
    },
    /// A name that does not have the form of a device's name.
    #[error("device = \"{0}\" names no device; use \"cuda:0\", \"cuda:1\", ...")]
    Name(String),
    /// A device that does not exist.
    #[error(
        "there is no device cuda:{ordinal}: the driver sees {count} (CUDA_VISIBLE_DEVICES may hide some)"
    )]
    NoDevice {
        /// The requested device number.
        ordinal: usize,
        /// The number of devices.
        count: usize,
    },
    /// A device that is too old.
    #[error(
        "{name} has compute capability {}.{}; bytecover needs 8.0 or higher (Ampere: A100, RTX 30; or newer). Use device = \"cpu\"",
        capability.0, capability.1
    )]
    TooOld {
        /// Name of the device.
        name: String,
        /// Compute capability of the device.
        capability: (i32, i32),
    },
    /// Not enough memory.
    #[error(
        "the device has no room for {} more: {} of {} are free, and this process holds {}. Use a smaller batch or shorter segments, precision = \"bf16\", or end other programs that use the device",
        Size(*asked), Size(*free), Size(*total), Size(*held)
    )]
    OutOfMemory {
        /// Number of requested bytes.
        asked: usize,
        /// Number of free bytes of the device.
        free: usize,
        /// Number of bytes of the device.
        total: usize,
        /// Number of bytes that this process has allocated.
        held: usize,
    },
    /// A kernel that does not compile.
    #[error("the kernels of {file} do not compile for {arch}: {log}")]
    Compile {
        /// Name of the source file.
        file: String,
        /// The architecture for which it was compiled.
        arch: String,
        /// The compiler's output.
        log: String,
    },
    /// A convolution for which cuDNN has no deterministic algorithm.
    #[error("cuDNN has no deterministic algorithm for the convolution {0}")]
    NoAlgorithm(String),
    /// A failed call of the driver or a library.
    #[error("{call}: {message}")]
    Call {
        /// Name of the function.
        call: &'static str,
        /// The library's message.
        message: String,
    },
    /// An error of the exchange between processes.
    #[error(transparent)]
    Peers(Box<dyn std::error::Error + Send + Sync>),
    /// Arguments whose sizes do not match.
    #[error("{0}")]
    Shape(String),
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// The result of most functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Returns [`Error::Shape`] with the message unless `holds`.
pub(crate) fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Shape(message())) }
}

/// A number of bytes, formatted for messages.
pub(crate) struct Size(pub usize);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..0x10_0000 => write!(f, "{:.0} KiB", bytes / 1024.0),
            0x10_0000..0x4000_0000 => write!(f, "{:.0} MiB", bytes / 1_048_576.0),
            _ => write!(f, "{:.1} GiB", bytes / 1_073_741_824.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_teach() {
        let memory = Error::OutOfMemory { asked: 3 << 30, free: 512 << 20, total: 24 << 30, held: 20 << 30 };
        let text = memory.to_string();
        assert!(text.contains("3.0 GiB more: 512 MiB of 24.0 GiB are free"), "{text}");
        assert!(text.contains("smaller batch"), "{text}");
        let old = Error::TooOld { name: "Tesla V100".to_owned(), capability: (7, 0) }.to_string();
        assert!(old.starts_with("Tesla V100 has compute capability 7.0; bytecover needs 8.0"), "{old}");
        let none = Error::NoDevice { ordinal: 3, count: 2 }.to_string();
        assert!(none.contains("cuda:3") && none.contains("sees 2"), "{none}");
    }
}
