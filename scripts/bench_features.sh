#!/usr/bin/env bash
# Times the extraction of features (2 threads), the usual Python (librosa, 2 processes) and decoding alone (2 threads; at
# the full rate, as a player does, and at the rate that features need), in turn on the same files. Prints wall seconds, and
# CPU seconds in brackets.
# Usage: PYTHON=… scripts/bench_features.sh path/to/python_features.py FOLDER_OF_AUDIO [rounds] [extension]
# The folder's files are linked together `COPIES` times (default 3) for a run of some length.
set -euo pipefail
script=$(realpath "$1") audio=$(realpath "$2") rounds=${3:-3} extension=${4:-mp3}
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} copies=${COPIES:-3}
cargo build --quiet --release --workspace --example measure
cargo build --quiet --release --workspace --bins
bin=$PWD/target/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/audio/clique"
for copy in $(seq "$copies"); do
    for file in "$audio"/*."$extension"; do
        ln -s "$file" "$work/audio/clique/$copy-$(basename "$file")"
    done
done
cd "$work"
"$bin/bc-download-index" build --set index.source=folder --set index.dataset_path=audio \
    --set index.meta=audio --set index.output=index.parquet >/dev/null
# `timed NAME COMMAND…` prints the name, wall and CPU seconds.
timed() {
    local name=$1 start end
    shift
    start=$(date +%s.%N)
    /usr/bin/time -o cpu -f "%U %S" "$@" >"out-$name" 2>"err-$name"
    end=$(date +%s.%N)
    awk -v n="$name" -v a="$start" -v b="$end" '{ printf "%s %.3f (%.2f)\n", n, b - a, $1 + $2 }' cpu
}
extract() {
    rm -rf "features-$1"
    timed "$1" "$bin/bc-features" extract --threads "$1" --set features.index=index.parquet \
        --set "features.output=features-$1"
}
echo "load $(cut -d' ' -f1-3 /proc/loadavg), $(ls audio/clique | wc -l) files"
for _ in $(seq "$rounds"); do
    timed decode "$bin/examples/measure" decode 2 audio/clique/*
    extract 2
    timed needed "$bin/examples/measure" needed 2 audio/clique/*
    extract 1
    timed python "$python" "$script" --jobs 2 --pool 20 --out py "$audio"/*."$extension"
    echo "python: $(cat out-python)"
    tail -1 out-2
done
