#!/usr/bin/env bash
# Several processes beside one: the same losses, a rank that is killed, a run of two ranks that one continues.
# Needs an MPI with mpirun and its headers, and libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev).
#   scripts/check_ranks.sh [STEPS]      (20 unless it is given)
# Exit code 0 if all losses agree within 1e-5, the killed rank is named within 30 s, and the resume continues.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-20}
if ! command -v mpirun >/dev/null || ! command -v mpicc >/dev/null; then
    echo "skipped: no MPI here (Debian: apt-get install libopenmpi-dev openmpi-bin libclang-dev)"
    exit 0
fi
cargo build --release -p bc-train --features mpi
program=${CARGO_TARGET_DIR:-target}/release/bc-train
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A signal to mpirun leaves its processes a minute to save instead of a second.
start() {
    local ranks=$1 run=$2
    shift 2
    mpirun --oversubscribe --allow-run-as-root --mca odls_base_sigkill_timeout 60 -n "$ranks" "$program" train \
        --threads 1 --set train.debug=true --set "train.run=$work/$run" --set train.cliques_per_batch=8 \
        --set train.versions_per_clique=2 --set 'train.lengths_s=[10,20]' "$@"
}
bytecover=(--set model.width=8 --set 'model.blocks=[1,1,1,1]' --set model.variant=plain)
ring=(--set model.kind=ring --set model.scale=log-centred --set model.width=8 --set model.projection=32)

for network in "bytecover" "ring supervised-contrastive" "ring clews" "ring cosine-softmax"; do
    read -r kind loss <<<"$network"
    name=${network/ /-}
    declare -n sizes=$kind
    for ranks in 1 2 4; do
        start "$ranks" "$name-$ranks" "${sizes[@]}" --set "train.loss=${loss:-bytecover}" --set "train.max_steps=$steps" \
            >"$work/$name-$ranks.log" 2>&1 || { cat "$work/$name-$ranks.log"; exit 1; }
    done
done
# The same again: a repetition has the same bytes.
start 4 again "${bytecover[@]}" --set "train.max_steps=$steps" >/dev/null 2>&1

python3 - "$work" <<'PYTHON'
import json
import sys
from pathlib import Path

work = Path(sys.argv[1])


def steps(run):
    lines = [json.loads(line) for line in (work / run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "step"]


worst = 0
print(f"{'run':28} {'ranks':>5} {'steps':>5} {'loss, first':>12} {'last':>9} {'largest difference from 1 rank':>31}")
for name in ["bytecover", "ring-supervised-contrastive", "ring-clews", "ring-cosine-softmax"]:
    one = steps(f"{name}-1")
    for ranks in (1, 2, 4):
        other = steps(f"{name}-{ranks}")
        assert len(one) == len(other) > 0
        difference = max(abs(a["loss"] - b["loss"]) / max(1, abs(a["loss"])) for a, b in zip(one, other))
        worst = max(worst, difference)
        print(f"{name:28} {ranks:5} {len(one):5} {other[0]['loss']:12.6f} {other[-1]['loss']:9.6f} {difference:31.1e}")
print(f"largest: {worst:.1e} (allowed: 1e-5)")
keys = ("loss", "classification", "triplet", "gradient_norm")
same = [[line[key] for key in keys] for line in steps("bytecover-4")] == [[line[key] for key in keys] for line in steps("again")]
print("4 ranks again:", "the same to the last digit" if same else "DIFFERENT")
sys.exit(0 if worst <= 1e-5 and same else 1)
PYTHON
grep -h "gradients summed" "$work"/*.log

steps_of() { grep -c '"kind":"step"' "$work/$1/metrics.jsonl" 2>/dev/null || true; }
wait_for_steps() { until [ "$(steps_of "$1")" -ge "$2" ]; do sleep 0.05; done; }
# The process of a rank: mpirun's child with this number in its environment.
process_of() {
    local process
    for process in $(pgrep -P "$1"); do
        tr '\0' '\n' <"/proc/$process/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$2" && echo "$process"
    done
}

echo "--- rank 1 of 2 is killed (SIGKILL)"
start 2 killed "${bytecover[@]}" --set train.epochs=1000 >"$work/killed.log" 2>&1 &
launcher=$!
wait_for_steps killed 3
mpirun_process=$(pgrep -P "$launcher" -x mpirun || echo "$launcher")
kill -KILL "$(process_of "$mpirun_process" 1)"
began=$(date +%s.%N)
wait "$launcher" && { echo "it went on"; exit 1; }
took=$(python3 -c "import time; print(f'{time.time() - $began:.1f}')")
grep -m1 "rank 1" "$work/killed.log"
echo "all have ended after $took s"
python3 -c "exit(0 if $took < 30 else 1)"

echo "--- rank 1 of 2 gets SIGTERM"
start 2 resumed "${bytecover[@]}" --set train.epochs=1000 >"$work/resumed.log" 2>&1 &
launcher=$!
wait_for_steps resumed 3
mpirun_process=$(pgrep -P "$launcher" -x mpirun || echo "$launcher")
kill -TERM "$(process_of "$mpirun_process" 1)"
code=0
wait "$launcher" || code=$?
grep -m1 "interrupted" "$work/resumed.log"
echo "exit code $code"
[ "$code" = 130 ]

echo "--- one process continues the run of two"
saved=$(steps_of resumed)
start 1 resumed "${bytecover[@]}" --set train.epochs=1000 --set "train.max_steps=$((saved + 3))" --resume 2>&1 | grep -E "resuming|ranks"
[ "$(steps_of resumed)" = "$((saved + 3))" ]
echo "all checks passed"
