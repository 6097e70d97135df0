#!/usr/bin/env python3
"""bc-search beside faiss-cpu, on the same made-up vectors, in one run.

    scripts/bench_search.py [ROWS=1000000] [DIMS=512] [HNSW_ROWS=100000]

Makes an index of ROWS vectors as 16-bit floats and one as 8-bit integers, searches both, exports the first and lets faiss search the
same vectors: flat (exact, 32-bit floats), and HNSW (32 links, efSearch 64) on the first HNSW_ROWS of them, because building
it takes long. Prints one JSON object per way. Needs numpy and faiss-cpu; threads are those of $RAYON_NUM_THREADS or all. $BYTECOVER_SEARCH is the
binary; files go to a temporary folder ($TMPDIR), about ROWS x DIMS x 7 bytes.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

project = Path(__file__).resolve().parent.parent
binary = os.environ.get("BYTECOVER_SEARCH", str(project / "target/release/bc-search"))
rows, dims, few = (int(word) for word in (sys.argv[1:] + ["1000000", "512", "100000"][len(sys.argv) - 1 :])[:3])
threads = int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count()))
K, BATCH, ROUNDS = 10, 64, 11


def timed(what):
    started = time.perf_counter()
    found = what()
    return time.perf_counter() - started, found


def measure(name, index, queries, truth, more):
    singles = [timed(lambda: index.search(queries[i : i + 1], K))[0] for i in range(ROUNDS)]
    batches = [timed(lambda: index.search(queries, K)) for _ in range(3)]
    seconds, (_, found) = min(batches, key=lambda batch: batch[0])
    line = {"way": name, "threads": threads, **more, "single_s": statistics.median(singles), "best_single_s": min(singles)}
    line |= {"batch": len(queries), "batch_s": seconds, "batch_per_s": len(queries) / seconds}
    if truth is not None:
        shared = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
        line["recall_at_10"] = shared / truth.size
    print(json.dumps(line), flush=True)
    return found


with tempfile.TemporaryDirectory() as folder:
    size = ["--rows", str(rows), "--dims", str(dims), "--batch", str(BATCH), "--threads", str(threads)]
    run = subprocess.run([binary, "bench", *size, "--folder", folder], check=True, stdout=subprocess.PIPE, text=True)
    for line in run.stdout.splitlines():
        print(json.dumps({"way": "bc-search", **json.loads(line)}), flush=True)
    try:
        import faiss
        import numpy as np
    except ImportError as error:
        print(f"skipped: faiss beside it ({error}; pip install faiss-cpu numpy)")
        sys.exit(0)
    faiss.omp_set_num_threads(threads)
    export = [binary, "export", "--index", f"{folder}/f16", "--to", "faiss", "--out", f"{folder}/out"]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    vectors = np.load(f"{folder}/out/vectors.npy", mmap_mode="r")
    noise = np.random.default_rng(7).random((BATCH, dims), dtype=np.float32) - 0.5
    queries = np.ascontiguousarray(vectors[:: max(1, few // BATCH)][:BATCH]) + 0.05 * noise
    faiss.normalize_L2(queries)
    flat = faiss.IndexFlatIP(dims)
    seconds, _ = timed(lambda: [flat.add(np.ascontiguousarray(vectors[i : i + 65536])) for i in range(0, rows, 65536)])
    measure("faiss flat", flat, queries, None, {"rows": rows, "dim": dims, "add_s": seconds, "bytes_per_row": 4 * dims})
    del flat
    some = np.ascontiguousarray(vectors[:few])
    exact = faiss.IndexFlatIP(dims)
    exact.add(some)
    truth = exact.search(queries, K)[1]
    hnsw = faiss.IndexHNSWFlat(dims, 32, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction, hnsw.hnsw.efSearch = 80, 64
    seconds, _ = timed(lambda: hnsw.add(some))
    more = {"rows": len(some), "dim": dims, "add_s": seconds, "bytes_per_row": 4 * dims + 4 * 2 * 32}
    measure("faiss HNSW", hnsw, queries, truth, more)
    measure("faiss flat, the same rows", exact, queries, truth, {"rows": len(some), "dim": dims})
