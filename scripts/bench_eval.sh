#!/usr/bin/env bash
# Compares the time of `bc-eval metrics` with scikit-learn, or with the matrix products alone, in alternation on the same vectors.
# Usage: PYTHON=… scripts/bench_eval.sh path/to/python_eval.py|scripts/products.py [rows=10547] [dimensions=2048] [rounds=3]
set -euo pipefail
script=$1 rows=${2:-10547} dim=${3:-2048} rounds=${4:-3}
python=${PYTHON:-python3}
eval=${BC_EVAL:-target/release/bc-eval}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" - "$folder" "$rows" "$dim" <<'PY'
import sys
import numpy as np
folder, rows, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
cliques = rng.integers(0, rows // 6, rows)
centre = rng.standard_normal((rows // 6 + 1, dim), dtype=np.float32)
vectors = centre[cliques]
for start in range(0, rows, 4096):
    part = vectors[start:start + 4096]
    part += 6 * rng.standard_normal(part.shape, dtype=np.float32)
np.save(f"{folder}/e.npy", vectors)
open(f"{folder}/c.txt", "w").writelines(f"{c}\n" for c in cliques)
PY
for round in $(seq "$rounds"); do
    "$python" "$script" --npy "$folder/e.npy" --cliques "$folder/c.txt"
    /usr/bin/time -f "bc-eval %e s, %M KiB (whole process, reading included)" \
        "$eval" metrics --npy "$folder/e.npy" --cliques "$folder/c.txt" --json "$folder/m.json" >/dev/null
    grep -E '"(mAP|MR1|hit@1|P@10)": [0-9.]+,?$' "$folder/m.json" | head -4 | tr -s ' \n' ' '
    echo
done
