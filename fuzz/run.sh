#!/usr/bin/env bash
# Fuzzes every target, one after the other: fuzz/run.sh SECONDS_PER_TARGET [TARGET...]
#
# Any recent stable compiler does: what cargo-fuzz would pass to it stands below, without the address sanitizer, which
# Rust without `unsafe` needs little. One line per target (runs, seconds, coverage, findings) goes to standard output and
# to fuzz/artifacts/log.tsv; a finding is a file in fuzz/artifacts/<target>/. Inputs that reached something new stay in
# fuzz/grown/<target>/ for the next time.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?usage: fuzz/run.sh SECONDS_PER_TARGET [TARGET...]}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# Named, so that build scripts and macros are not instrumented.
cargo build --quiet --release --target "$host" --bins
programs=target/$host/release
# Most targets write what they read into a file first, some durably: in memory where there is such a folder.
[ ! -w /dev/shm ] || export TMPDIR=${TMPDIR:-/dev/shm}
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z0-9_]*\)"$/\1/p' Cargo.toml)
mkdir -p artifacts
for target in "$@"; do
    mkdir -p "grown/$target" "artifacts/$target"
    corpora=("grown/$target" "corpus/$target")
    [ ! -d "regressions/$target" ] || corpora+=("regressions/$target")
    dictionary=()
    [ ! -f "dictionaries/$target" ] || dictionary=("-dict=dictionaries/$target")
    log="artifacts/$target.log"
    begun=$SECONDS
    # -fork: a finding is kept and the next one looked for.
    "$programs/$target" "${corpora[@]}" "${dictionary[@]}" "-max_total_time=$seconds" -max_len=16384 -timeout=20 \
        -rss_limit_mb=2048 -fork=1 -ignore_crashes=1 -ignore_ooms=1 -ignore_timeouts=1 -print_final_stats=1 \
        "-artifact_prefix=artifacts/$target/" >"$log" 2>&1 || true
    last=$(grep -E '^#[0-9]+: cov:' "$log" | tail -n 1 || true)
    runs=$(sed -n 's/^#\([0-9]*\):.*/\1/p' <<<"$last")
    coverage=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' <<<"$last")
    findings=$(find "artifacts/$target" -type f | wc -l)
    printf '%s\truns %s\tseconds %s\tcoverage %s\tfindings %s\n' \
        "$target" "${runs:-0}" "$((SECONDS - begun))" "${coverage:-0}" "$findings" | tee -a artifacts/log.tsv
done
