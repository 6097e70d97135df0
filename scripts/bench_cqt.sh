#!/usr/bin/env bash
# Times our CQT beside librosa.cqt, alone, one thread, 240 s of noise at 22,050 Hz, alternating.
# Each round prints the best of five passes of either side, after a pass that warms up.
# Usage: PYTHON=… scripts/bench_cqt.sh [rounds]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} python=${PYTHON:-python3}
cargo build --quiet --release -p bc-audio --example measure
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "ours_s librosa_s ratio"
for _ in $(seq "$rounds"); do
    ours=$(target/release/examples/measure cqt 5)
    theirs=$("$python" - <<'PY'
import time, warnings
warnings.filterwarnings("ignore")
import numpy as np, librosa
signal = np.random.default_rng(0).uniform(-1, 1, 240 * 22050).astype(np.float32)
def run():
    begun = time.perf_counter()
    np.abs(librosa.cqt(signal, sr=22050, hop_length=512, n_bins=84, bins_per_octave=12))
    return time.perf_counter() - begun
run()
print(f"{min(run() for _ in range(5)):.4f}")
PY
)
    awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%s %s %.2f\n", a, b, b / a }'
done | tee "$figures"
sort -n -k3 "$figures" | awk '{ r[NR] = $3 } END { print "median ratio", r[int((NR + 1) / 2)] }'
