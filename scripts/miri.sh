#!/usr/bin/env bash
# Runs the unit tests of modules with `unsafe` under Miri, which finds reads of memory that is not written, aliasing and
# accesses out of bounds. Needs: rustup component add miri rust-src --toolchain nightly. Up to half an hour of one core; not a
# part of CI.
#
#   scripts/miri.sh             # all
#   scripts/miri.sh bc-mp3      # one crate
#
# Miri has the processor's base instructions only, so the plain variant of each `unsafe` call runs there. What it cannot
# run: foreign functions (bc-opus/libopus.rs, bc-ranks/mpi.rs, bc-nn/memory.rs, yt_dlp.rs), memory maps
# (bc-search/index, bc-train/data/store.rs) and instructions of AVX2 and AVX-512, which tests compare with the plain variant.
set -euo pipefail
cd "$(dirname "$0")/.."

# Tree borrows, since rayon and crossbeam break the older rules; rayon's threads outlive the tests.
export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-disable-isolation ${MIRIFLAGS:-}"
export RAYON_NUM_THREADS=1 PROPTEST_CASES=2

only=${1:-}
miri() { # crate, names of tests
    local crate=$1
    shift
    [ -z "$only" ] || [ "$only" = "$crate" ] || return 0
    echo "== $crate: $*"
    cargo +nightly miri test -p "$crate" --lib -- "$@"
}

# Decoding by `decoder/simd.rs`, and what it is made of.
miri bc-mp3 bits:: gapless:: header:: reservoir:: scalefactors:: stereo:: tags::
miri bc-mp3 decoder::simd::
# Memory that is written before it is read, tiles and transposes by pointers.
miri bc-nn backend::cpu::tests:: backend::cpu::transpose:: backend::cpu::tile:: backend::cpu::im2col:: \
    backend::cpu::max_pool:: backend::cpu::time_mean::
