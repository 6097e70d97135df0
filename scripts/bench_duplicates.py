#!/usr/bin/env python3
"""Measures the time and the recall of `bc-search duplicates` on synthetic catalogues with planted duplicates.

    scripts/bench_duplicates.py [ROWS=40000] [DIMS=128] [ARGUMENTS of duplicates ...]

Every hundredth recording gets two planted duplicates: a near copy, and one at a larger distance, like a cover. Needs numpy and pyarrow.
$BYTECOVER_SEARCH and $BYTECOVER_EVAL are the binaries; files go to a temporary folder ($TMPDIR), about ROWS x DIMS x 7 bytes.
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
import pyarrow as pa
import pyarrow.parquet as pq

project = Path(__file__).resolve().parent.parent
search = os.environ.get("BYTECOVER_SEARCH", str(project / "target/release/bc-search"))
evaluate = os.environ.get("BYTECOVER_EVAL", str(project / "target/release/bc-eval"))
rows, dims = (int(word) for word in (sys.argv[1:] + ["40000", "128"][len(sys.argv) - 1 :])[:2])
arguments = sys.argv[3:]
NEAR, FAR = 0.1, 0.6


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def write(path, names, cliques, splits, vectors):
    count, width = vectors.shape
    text = pa.array([""] * count)
    flat = pa.array(vectors.reshape(-1))
    schema = {
        "version_id": pa.array(names), "clique_id": pa.array(cliques), "title": text, "performer": text, "split": pa.array(splits),
        "duration_s": pa.array(np.full(count, 60, np.float32)), "start_s": pa.array(np.zeros(count, np.float32)), "source_hash": text,
        "vector": pa.FixedSizeListArray.from_arrays(flat, width),
    }
    meta = {
        "bytecover.format": "embeddings/4", "bytecover.tool": "bench", "bytecover.fingerprint": "0" * 16,
        "bytecover.settings": json.dumps({"layer": "f_c"}), "bytecover.inputs": json.dumps({"checkpoint": "synthetic"}),
    }
    pq.write_table(pa.table(schema).replace_schema_metadata(meta), path)


def run(*args):
    return subprocess.run([str(a) for a in args], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    rng = np.random.default_rng(1)
    works = normal(rng, 200, dims)
    calibration_vectors = (np.repeat(works, 3, axis=0) + FAR * normal(rng, 600, dims)).astype(np.float32)
    names = [f"{i // 3}-{i % 3}" for i in range(600)]
    write(folder / "calibrate.parquet", names, [str(i // 3) for i in range(600)], ["val" if i // 3 % 2 else "test" for i in range(600)], calibration_vectors)
    run(evaluate, "calibrate", "--embeddings", folder / "calibrate.parquet", "--out", folder / "calibration.json")
    vectors = normal(rng, rows, dims)
    kind = np.arange(rows) % 100
    vectors[kind == 1] = vectors[kind == 0][: (kind == 1).sum()] + NEAR * normal(rng, (kind == 1).sum(), dims)
    vectors[kind == 2] = vectors[kind == 0][: (kind == 2).sum()] + FAR * normal(rng, (kind == 2).sum(), dims)
    ids = [str(i) for i in range(rows)]
    write(folder / "e.parquet", ids, ids, ["none"] * rows, vectors)
    del vectors
    run(search, "import", folder / "e.parquet", "--index", folder / "index")
    started = time.perf_counter()
    output = run(search, "duplicates", "--index", folder / "index", "--calibration", folder / "calibration.json", "--format", "jsonl", *arguments)
    seconds = time.perf_counter() - started
    pairs = {tuple(sorted((int(pair["a"]["path"]), int(pair["b"]["path"])))) for pair in map(json.loads, output.stdout.splitlines())}
    planted = {name: {(i, i + offset) for i in range(0, rows - 2, 100)} for name, offset in (("near", 1), ("far", 2))}
    false = sum(a // 100 != b // 100 or b % 100 > 2 for a, b in pairs)
    print(json.dumps({
        "rows": rows, "dims": dims, "arguments": arguments, "seconds": round(seconds, 1), "pairs": len(pairs), "false": false,
        **{f"{name}_planted": len(expected) for name, expected in planted.items()}, **{f"{name}_found": len(expected & pairs) for name, expected in planted.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, "stderr": output.stderr.strip()[-300:],
    }))
