#!/usr/bin/env bash
# Measures the cost of bookkeeping for large sets, on synthetic rows without audio: sizes, seconds and peak memory of `build`,
# `verify`, `status` of both stages, and `compact`.
#
#   scripts/bench_rows.sh 100000 1000000 10000000
#
# Prints a table. Needs the programs (`cargo build --release`), a Python with pyarrow (BYTECOVER_PYTHON) for the synthetic features, and
# some 6 GB of disk for ten million rows (BENCH_FOLDER; a temporary folder if not given).
# shellcheck disable=SC2016  # the quotes of Markdown
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${BC_BIN:-${CARGO_TARGET_DIR:-target}/release}")
synthetic_rows=$PWD/scripts/synthetic_rows.py
python=${BYTECOVER_PYTHON:-python3}
folder=${BENCH_FOLDER:-$(mktemp -d)}
mkdir -p "$folder"

# Runs a command; prints name, seconds on the clock, CPU seconds and peak memory.
measure() {
    local name=$1
    shift
    python3 - "$name" "$@" <<'PYTHON'
import resource, subprocess, sys, time
begun = time.time()
run = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"| {sys.argv[1]} | {time.time() - begun:.1f} | {used.ru_utime + used.ru_stime:.1f} | {used.ru_maxrss / 1024:.0f} |")
if run.returncode not in (0, 3):
    sys.exit(run.stdout[-2000:])
PYTHON
}

for rows in "${@:-100000}"; do
    work=$folder/$rows
    rm -rf "$work"
    mkdir -p "$work/audio"
    cd "$work"
    # Three versions per work; ids, titles and paths as long as those of real lists.
    awk -v rows="$rows" 'BEGIN {
        print "id,clique,title,performer,path,url"
        for (n = 0; n < rows; n++)
            printf "v%08d,w%07d,A Song of Some Length %d,The Performers %d,%02x/v%08d.mp3,https://example.org/watch?v=%08d\n", n, n / 3, n / 3, n % 9999, n % 256, n, n
    }' >list.csv
    settings=(--set index.source=csv --set index.meta=list.csv --set index.dataset_path=audio
        --set index.output=listed.parquet --set features.index=index.parquet --set features.output=features
        --set features.part_versions=10000 --set features.part_hours=100000)
    printf '\n%s rows (the list: %s MB)\n\n| what | seconds | CPU seconds | MiB |\n|---|---|---|---|\n' "$rows" "$(($(stat -c %s list.csv) / 1000000))"
    measure '`bc-download-index build`' "$bin/bc-download-index" build "${settings[@]}"
    measure 'the same again, nothing to do' "$bin/bc-download-index" build "${settings[@]}"
    measure '`bc-download-index verify`, no file' "$bin/bc-download-index" verify "${settings[@]}"
    measure '`bc-download-index status --shards 1000`' "$bin/bc-download-index" status --shards 1000 "${settings[@]}"
    "$python" "$synthetic_rows" listed.parquet index.parquet features 0.9 2000
    measure '`bc-features status --shards 1000`, nine tenths present' "$bin/bc-features" status --shards 1000 "${settings[@]}"
    measure '`bc-features compact`, parts of 2,000 to 10,000' "$bin/bc-features" compact "${settings[@]}"
    measure '`bc-features status --shards 1000` after it' "$bin/bc-features" status --shards 1000 --json "${settings[@]}"
    printf '\nindex %s MB; features %s files, %s MB\n' "$(($(stat -c %s index.parquet) / 1000000))" \
        "$(find features -name 'part-*' | wc -l)" "$(du -sm features | cut -f 1)"
    cd - >/dev/null
    if [ -z "${BENCH_KEEP:-}" ]; then rm -rf "$work"; fi
done
