#!/usr/bin/env bash
# Times the network beside PyTorch (figures in docs/PERFORMANCE.md): a training
# step and a forward pass, alternating, with the same arguments.
#
#   scripts/bench_network.sh [rounds=5] [batch=8] [frames=215] [threads=2]
#
# BYTECOVER_PYTHON is a Python with PyTorch (default python3); BYTECOVER_SHARED the folder
# with bench/torch_step.py (default ../shared); BYTECOVER_TRAIN the binary. Prints every
# round, then medians, ratios (ours over PyTorch's samples a second) and peak memory, and
# fails if a ratio is below 1.3 (training) or 1.2 (forward), or ours needs more memory.
set -euo pipefail
cd "$(dirname "$0")/.."
export ROUNDS=${1:-5} BATCH=${2:-8} FRAMES=${3:-215} THREADS=${4:-2}
export SHARED=${BYTECOVER_SHARED:-../shared} BYTECOVER_TRAIN=${BYTECOVER_TRAIN:-target/release/bc-train}
export PYTHON=${BYTECOVER_PYTHON:-python3}
if [ ! -f "$SHARED/bench/torch_step.py" ]; then
    echo "skipped: no bench/torch_step.py in $SHARED (BYTECOVER_SHARED)"
    exit 0
fi
exec "$PYTHON" - <<'PY'
import json
import os
import statistics
import subprocess
import sys

env = os.environ
arguments = ["--device", "cpu", "--threads", env["THREADS"], "--batch", env["BATCH"], "--frames", env["FRAMES"]]
commands = {
    "ours": ([os.path.abspath(env["BYTECOVER_TRAIN"]), "bench", *arguments, "--json"], "."),
    "PyTorch": ([env["PYTHON"], "torch_step.py", *arguments], os.path.join(env["SHARED"], "bench")),
}
figures = {name: [] for name in commands}


def run(command, folder):
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed")
    found = json.loads(output.strip().splitlines()[-1])
    return found | {"peak_GiB": usage.ru_maxrss / 2**20}


for number in range(1, int(env["ROUNDS"]) + 1):
    for name, (command, folder) in commands.items():
        found = run(command, folder)
        figures[name].append(found)
        print(
            f"round {number} {name:8} train {found['train_s']:.3f} s  forward {found['infer_s']:.4f} s"
            f"  peak {found['peak_GiB']:.2f} GiB",
            flush=True,
        )

middle = lambda name, key: statistics.median(found[key] for found in figures[name])
peak = lambda name: max(found["peak_GiB"] for found in figures[name])
failed = False
for key, label, least in (("train_s", "training", 1.3), ("infer_s", "forward", 1.2)):
    ours, theirs = middle("ours", key), middle("PyTorch", key)
    failed |= theirs / ours < least
    best = [min(found[key] for found in figures[name]) for name in commands]
    print(
        f"{label}: median {ours:.4f} s against {theirs:.4f} s, {theirs / ours:.2f} times PyTorch (at least {least});"
        f" best {best[0]:.4f} s against {best[1]:.4f} s, {best[1] / best[0]:.2f} times"
    )
failed |= peak("ours") > peak("PyTorch")
print(f"peak memory: {peak('ours'):.2f} GiB against {peak('PyTorch'):.2f} GiB")
sys.exit(failed)
PY
