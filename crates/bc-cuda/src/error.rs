//! What can go wrong on a device.

/// What can go wrong on a device; messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shared library is not there.
    #[error(
        "cannot load {library} ({purpose}); looked in LD_LIBRARY_PATH=\"{path}\" and in the system's folders. {remedy}"
    )]
    Library {
        /// Its name.
        library: &'static str,
        /// What it is for.
        purpose: &'static str,
        /// `LD_LIBRARY_PATH`.
        path: String,
        /// What to install.
        remedy: &'static str,
    },
    /// A name that is not that of a device.
    #[error("device = \"{0}\" names no device; use \"cuda:0\", \"cuda:1\", ...")]
    Name(String),
    /// A device that is not there.
    #[error(
        "there is no device cuda:{ordinal}: the driver sees {count} (CUDA_VISIBLE_DEVICES may hide some)"
    )]
    NoDevice {
        /// The number that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A device that is too old.
    #[error(
        "{name} has compute capability {}.{}; bytecover needs 8.0 or higher (Ampere: A100, RTX 30; or newer). Use device = \"cpu\"",
        capability.0, capability.1
    )]
    TooOld {
        /// Its name.
        name: String,
        /// Its capability.
        capability: (i32, i32),
    },
    /// Not enough memory.
    #[error(
        "the device has no room for {} more: {} of {} are free, and this process holds {}. Use a smaller batch or shorter segments, precision = \"bf16\", or end other programs that use the device",
        Size(*asked), Size(*free), Size(*total), Size(*held)
    )]
    OutOfMemory {
        /// Bytes that were asked for.
        asked: usize,
        /// Bytes that are free.
        free: usize,
        /// Bytes of the device.
        total: usize,
        /// Bytes that this process has taken.
        held: usize,
    },
    /// A kernel that does not compile.
    #[error("the kernels of {file} do not compile for {arch}: {log}")]
    Compile {
        /// The source.
        file: String,
        /// The architecture.
        arch: String,
        /// The compiler's output.
        log: String,
    },
    /// No algorithm for a convolution that gives the same bits each time.
    #[error("cuDNN has no deterministic algorithm for the convolution {0}")]
    NoAlgorithm(String),
    /// A call that the driver or a library refused.
    #[error("{call}: {message}")]
    Call {
        /// The function.
        call: &'static str,
        /// The library's message.
        message: String,
    },
    /// What carries values between processes.
    #[error(transparent)]
    Peers(Box<dyn std::error::Error + Send + Sync>),
    /// Arguments that do not fit each other.
    #[error("{0}")]
    Shape(String),
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What failed.
        source: std::io::Error,
    },
}

/// The result of most functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Refuses arguments that do not fit.
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
