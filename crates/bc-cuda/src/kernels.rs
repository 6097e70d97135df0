//! The sources of the kernels, as text that nvrtc compiles.

/// A source file of kernels.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Name of the file.
    pub file: &'static str,
    text: &'static str,
}

const COMMON: &str = include_str!("../kernels/common.cuh");
const INCLUDE: &str = "#include \"common.cuh\"\n";

/// All source files of kernels; each is compiled to a separate module.
pub const SOURCES: [Source; 5] = [
    Source { file: "norm.cu", text: include_str!("../kernels/norm.cu") },
    Source { file: "pool.cu", text: include_str!("../kernels/pool.cu") },
    Source { file: "elements.cu", text: include_str!("../kernels/elements.cu") },
    Source { file: "loss.cu", text: include_str!("../kernels/loss.cu") },
    Source { file: "optim.cu", text: include_str!("../kernels/optim.cu") },
];

/// The options with which [`Source::text`] is compiled.
pub const OPTIONS: [&str; 1] = ["--std=c++17"];

/// Architectures that `just cuda-check` compiles for: A100, H100, RTX 50.
pub const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_120"];

impl Source {
    /// Returns the source text, in which `#include "common.cuh"` is replaced by the header.
    pub fn text(&self) -> String {
        self.text.replacen(INCLUDE, COMMON, 1)
    }

    /// Returns the unchanged text of the file.
    #[cfg(feature = "emulated")]
    pub(crate) fn original(&self) -> &'static str {
        self.text
    }
}

/// Names and texts of the headers that g++ needs for the kernels on CPU threads.
#[cfg(feature = "emulated")]
pub(crate) const HEADERS: [(&str, &str); 2] =
    [("common.cuh", COMMON), ("emulated.hpp", include_str!("../kernels/emulated.hpp"))];

/// Name and text of the file through which kernels are called on CPU threads.
#[cfg(feature = "emulated")]
pub(crate) const MAIN: (&str, &str) = ("emulated.cpp", include_str!("../kernels/emulated.cpp"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_its_header_once_and_no_cuda_header() {
        for source in SOURCES {
            assert!(source.text.contains(INCLUDE), "{}", source.file);
            let text = source.text();
            assert_eq!(text.matches("#define BC_COMMON\n").count(), 1, "{}", source.file);
            let includes: Vec<&str> = text.lines().filter(|line| line.starts_with("#include")).collect();
            assert_eq!(includes, ["#include \"emulated.hpp\""], "{}", source.file);
        }
    }
}
