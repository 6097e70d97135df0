#!/usr/bin/env python3
"""Times Qmax on one thread: `bc-eval baselines --method qmax` and a Python program (NumPy and numba) alternate on the same pairs.

    scripts/bench_align.py CONFIG [SPLIT] [ROUNDS]

Prints CPU seconds: those of bc-eval include the start of the process, reading, chroma and cells; those of Python are of the pairs
alone, compiled beforehand. Also prints both mAPs, which are computed from the same cells. The Python program is
$BYTECOVER_SHARED/covers/baseline_2dfm.py (default ../shared). Needs numpy, numba, librosa, pyarrow.
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

project = Path(__file__).resolve().parent.parent
shared = Path(os.environ.get("BYTECOVER_SHARED", project.parent / "shared"))
sys.path.insert(0, str(shared / "covers"))
sys.dont_write_bytecode = True
import numba

compiled = numba.njit
numba.njit = lambda **options: compiled(**{**options, "cache": False})
import baseline_2dfm as baseline

numba.njit = compiled
config, split, rounds = sys.argv[1], (sys.argv[2:] or ["val"])[0], int((sys.argv[3:] or ["3"])[0])
bc_eval = project / "target/release/bc-eval"
resolved = subprocess.run([bc_eval, "config", "--config", config], check=True, capture_output=True, text=True).stdout
section, settings = None, {}
for line in resolved.splitlines():
    if line.startswith("["):
        section = line.strip("[]")
    elif section == "features" and " = " in line:
        key, value = line.split(" = ", 1)
        settings[key] = value.strip().strip('"')

rows = {}
for part in sorted(Path(settings["output"]).glob("part-*.parquet")):
    for row in pq.read_table(part).to_pylist():
        rows[row["version_id"]] = np.frombuffer(row["magnitude"], "<f2").reshape(84, -1).astype(np.float32)
index = [v for v in pq.read_table(settings["index"]).to_pylist() if v["split"] == split and v["version_id"] in rows]
cliques = np.unique([v["clique_id"] for v in index], return_inverse=True)[1]
size = round(0.5 / (512 * int(settings["pool"]) / 22050))


def cells(x):
    padded = np.pad(x, ((1, 1), (0, 0)))
    x = np.maximum(0, x - 0.5 * (padded[:-2] + padded[2:])).reshape(7, 12, -1).sum(0)
    count = x.shape[1] // size
    x = np.median(x[:, : count * size].reshape(12, count, size), axis=2)
    return (x / np.maximum(np.linalg.norm(x, axis=0), 1e-6)).astype(np.float32)


prepared = [cells(rows[v["version_id"]]) for v in index]
baseline.qmax_score(prepared[0], prepared[1])
pairs = len(prepared) * (len(prepared) - 1) // 2
for _ in range(rounds):
    scores = np.zeros((len(prepared),) * 2)
    started = time.process_time()
    for i in range(len(prepared)):
        for j in range(i):
            scores[i, j] = scores[j, i] = baseline.qmax_score(prepared[i], prepared[j])
    python = time.process_time() - started
    with tempfile.TemporaryDirectory() as out:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [bc_eval, "baselines", "--config", config, "--method", "qmax", "--threads", "1", "--set", f"eval.output={out}",
             "--set", f'eval.splits=["{split}"]'], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = json.loads((Path(out) / "baselines.json").read_text())
    ours = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{pairs} pairs: Python {python:.3f} s (mAP {baseline.evaluate(scores, cliques)['mAP']:.4f}), "
          f"bc-eval {ours:.3f} s (mAP {found['splits'][split]['qmax']['mAP']:.4f}), {python / ours:.1f} times")
