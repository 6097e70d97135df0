//! Compiles the decoder of libopus in the folder `libopus/`, with a C compiler and nothing else.

use std::path::Path;

fn main() {
    let root = Path::new("libopus");
    let mut build = cc::Build::new();
    for folder in ["src", "celt", "silk"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("libopus is next to this file");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "c"));
        files.sort();
        build.files(files);
    }
    let variable_arrays = if build.get_compiler().is_like_msvc() { "USE_ALLOCA" } else { "VAR_ARRAYS" };
    // As libopus's own builds: 32-bit floats, and assertions on what the decoder reads from a packet.
    for definition in
        ["OPUS_BUILD", variable_arrays, "ENABLE_HARDENING", "HAVE_LRINT", "HAVE_LRINTF", "HAVE_STDINT_H"]
    {
        build.define(definition, None);
    }
    for folder in ["include", "celt", "silk", ""] {
        build.include(root.join(folder));
    }
    build.warnings(false).compile("bytecover_opus");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=libopus");
}
