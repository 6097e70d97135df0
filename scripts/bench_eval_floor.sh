#!/usr/bin/env bash
# Times `bc-eval metrics` on random vectors, all against all, beside NumPy's matrix products alone: what any
# exact evaluation has to do at least. Alternating; whole process for bc-eval, reading and intervals included.
# Usage: PYTHON=… scripts/bench_eval_floor.sh [rows] [dimensions] [rounds]
set -euo pipefail
rows=${1:-100000} dim=${2:-512} rounds=${3:-2}
python=${PYTHON:-python3}
eval=${BC_EVAL:-target/release/bc-eval}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" - "$folder" "$rows" "$dim" <<'PY'
import sys
import numpy as np
folder, rows, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
np.save(f"{folder}/e.npy", rng.standard_normal((rows, dim), dtype=np.float32))
open(f"{folder}/c.txt", "w").writelines(f"{c}\n" for c in rng.integers(0, rows // 6, rows))
PY
for _ in $(seq "$rounds"); do
    "$python" - "$folder/e.npy" <<'PY'
import sys, time
import numpy as np
vectors = np.load(sys.argv[1])
block = np.empty((256, len(vectors)), np.float32)
start = time.perf_counter()
for row in range(0, len(vectors), 256):
    part = vectors[row:row + 256]
    np.matmul(part, vectors.T, out=block[:len(part)])
print(f"products alone {time.perf_counter() - start:.2f} s")
PY
    /usr/bin/time -f "bc-eval %e s, %M KiB" \
        "$eval" metrics --npy "$folder/e.npy" --cliques "$folder/c.txt" >/dev/null
done
