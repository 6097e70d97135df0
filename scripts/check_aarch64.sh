#!/usr/bin/env bash
# The network's crate on 64-bit ARM: compiled by a cross compiler, its unit and golden tests under qemu, and the tile of
# its products looked at for NEON's fused multiply-add.
#
#     scripts/check_aarch64.sh [TEST...=--lib --test bits --test golden --test ring_golden --test losses]
#
# Needs the target (rustup target add aarch64-unknown-linux-gnu), gcc for it and qemu (Debian: gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross, qemu-user-static). What is missing is said, with exit code 2.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
missing=()
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=("aarch64-linux-gnu-gcc (gcc-aarch64-linux-gnu)")
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || missing+=("qemu-aarch64 (qemu-user-static)")
[ -d /usr/aarch64-linux-gnu/lib ] || missing+=("/usr/aarch64-linux-gnu (libc6-dev-arm64-cross)")
rustc --print target-libdir --target $target 2>/dev/null | xargs -r test -d || missing+=("rustup target add $target")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'scripts/check_aarch64.sh: not checked, missing: %s\n' "${missing[@]}" >&2
    exit 2
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L /usr/aarch64-linux-gnu"
export BYTECOVER_EMULATED=1
folder=${CARGO_TARGET_DIR:-target}/aarch64
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(--lib --test bits --test golden --test ring_golden --test losses)
cargo test --release -p bc-nn --target $target --target-dir "$folder" "${tests[@]}" -- --nocapture

# The tile's inner loop is six rows of four registers: 24 fused multiply-adds of four numbers each.
binary=$(ls -t "$folder/$target/release/deps"/bc_nn-* | grep -v '\.d$' | head -1)
count=$(aarch64-linux-gnu-objdump -d --no-show-raw-insn "$binary" |
    awk '/^[0-9a-f]+ <.*bc_nn.*tile.*>:/ { inside = 1 } /^$/ { inside = 0 } inside && /fmla.*v[0-9]+\.4s/ { n++ } END { print n + 0 }')
echo "fmla of four numbers in the tiles: $count"
[ "$count" -ge 24 ]
