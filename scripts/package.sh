#!/usr/bin/env bash
# Makes target/package/bytecover-<version>-<target>.tar.gz: programs, man pages, shell completions, configurations,
# the network, licences. Layout and name are those that `cargo binstall` looks for.
#
#   scripts/package.sh                                    # for this machine
#   scripts/package.sh x86_64-unknown-linux-musl          # linked statically: for any Linux on x86-64
#   scripts/package.sh aarch64-unknown-linux-musl         # the same on 64-bit ARM
#
# The static ones need `rustup target add TARGET` and cargo-zigbuild (`pip install cargo-zigbuild`), whose compiler has musl.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
out=${CARGO_TARGET_DIR:-target}
if [ "$target" = "$host" ]; then
    cargo build --release --workspace --bins
    bin=$out/release
else
    case $target in
        # Position-independent C, which the static programs need.
        *-musl) build=(zigbuild) && export CFLAGS=-fPIC ;;
        *) build=(build) ;;
    esac
    # bc-pipeline-tests and bc-testing have no program that a user runs.
    cargo "${build[@]}" --release --workspace --bins --target "$target"
    bin=$out/$target/release
fi

name=bytecover-$version-$target
stage=$out/package/$name
rm -rf "$stage"
mkdir -p "$stage/bin"
# The host's strip knows the host's machine only.
strip_symbols() {
    local tool
    for tool in strip "${target%%-*}-linux-gnu-strip" llvm-strip; do
        "$tool" "$1" 2>/dev/null && return
    done
    echo "note: $(basename "$1") keeps its debug information, since no strip here can remove it" >&2
}
for program in "$bin"/bc-*; do
    [ -f "$program" ] && [ -x "$program" ] || continue
    name_of_program=$(basename "$program")
    cp "$program" "$stage/bin/"
    strip_symbols "$stage/bin/$name_of_program"
    # A program of another machine may not run here; then this machine's prints the same documents, if it was built.
    "$program" documents "$stage" 2>/dev/null || "$out/release/$name_of_program" documents "$stage" 2>/dev/null ||
        echo "note: no man page and completions of $name_of_program; \`cargo build --release --workspace --bins\` first" >&2
done
# The reference pages are in docs; `help` needs no page.
rm -f "$stage"/bc-*.md "$stage"/man/*-help*.1
cp -r configs "$stage/"
cp README.md CHANGELOG.md CITATION.cff LICENSE LICENSE-MIT LICENSE-APACHE "$stage/"
cp crates/bc-opus/libopus/COPYING "$stage/LICENSE-libopus"
# Names and times that do not depend on the user or the date.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
    -C "$out/package" -czf "$out/package/$name.tar.gz" "$name"
echo "$out/package/$name.tar.gz"
