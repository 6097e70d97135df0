#!/usr/bin/env python3
"""Compares bc-search with faiss-cpu on the same synthetic vectors, with alternating queries in one run.

    scripts/bench_search.py [ROWS=1000000] [DIMS=512] [HNSW_ROWS=ROWS] [--no-ann] [--no-compact] [--part=ROWS] [--batch=64] [--rounds=9]

`bc-search bench` builds indexes of ROWS vectors as 16-bit floats and as 8-bit integers, with graphs for approximate search unless --no-ann is given
(they need a binary with `--features ann`). faiss gets the same vectors, read from the first index: flat (exact, 32-bit floats), and HNSW (16 links
as in bc-search, efConstruction 128, efSearch 128) over the first HNSW_ROWS of them; 0 omits HNSW. --no-compact keeps the segments that adding creates,
because merging them into one needs twice the disk space of the larger index. If 32-bit floats of all rows do not fit into memory, --part makes
faiss flat search that many rows at a time; its times are then sums over the parts.

Each round queries all variants one after another, so that other load on the machine affects all of them equally: ratios are computed within a round,
and their median is printed with the best and the median times. faiss searches single queries on one thread (it cannot use more for one query),
bc-search on one thread and on all. Prints one JSON object per line. Needs numpy and faiss-cpu; the number of threads is $RAYON_NUM_THREADS or all.
$BYTECOVER_SEARCH is the binary; files go to a temporary folder ($TMPDIR): about ROWS x (DIMS x 3 + 350) bytes, and half as much again while segments
are merged.
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
flags = [word for word in sys.argv[1:] if word.startswith("--")]
numbers = [int(word) for word in sys.argv[1:] if not word.startswith("--")]
rows, dims = (numbers + [1_000_000, 512][len(numbers) :])[:2]
hnsw_rows = numbers[2] if len(numbers) > 2 else rows
option = lambda name, default: next((int(flag.split("=")[1]) for flag in flags if flag.startswith(f"--{name}=")), default)
part_rows = option("part", rows)
threads = int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count()))
K, BATCH, ROUNDS = 10, option("batch", 64), option("rounds", 9)


def timed(function):
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def print_json(**line):
    print(json.dumps(line), flush=True)


class BcSearch:
    """A bc-search process that answers queries line by line."""

    def __init__(self, folder):
        arguments = ["--rows", rows, "--dims", dims, "--batch", BATCH, "--threads", threads, "--folder", folder, "--in-turn", "--rounds", ROUNDS]
        command = [binary, "bench", *map(str, arguments), *([] if "--no-ann" in flags else ["--ann"])]
        command += [flag for flag in flags if flag == "--no-compact"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.variants = []
        for line in self.process.stdout:
            line = json.loads(line)
            if "ready" in line:
                self.variants = line["ready"]
                break
            print_json(of="bc-search", **line)
        if not self.variants:
            sys.exit(f"{binary} bench failed with exit code ({self.process.wait()}); if it was built without --features ann, add --no-ann")

    def query_time(self, variant, first, end, thread_count=None):
        self.process.stdin.write(f"{variant} {first} {end} {thread_count or ''}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def row_reader(folder, np):
    """Maps the index of 16-bit floats: each segment has a header of 64 bytes, and rows padded to a multiple of 64 numbers (docs/FORMATS.md).
    Returns a function that reads the rows of a range as 32-bit floats."""
    names = [segment["name"] for segment in json.loads(Path(folder, "f16/manifest.json").read_text())["segments"]]
    files = [Path(folder, "f16/segments", f"{name}.vectors") for name in names]
    parts = [np.memmap(file, np.float16, "r", 64).reshape(-1, (dims + 63) // 64 * 64)[:, :dims] for file in files]

    def rows_of(first, end):
        found = []
        for part in parts:
            if first < len(part) and end > 0:
                found.append(part[max(first, 0) : end])
            first, end = first - len(part), end - len(part)
        return np.concatenate(found).astype(np.float32)

    return rows_of


def alternate(bc_search, name, single, batch, faiss_only=False):
    """Times rounds of single queries and batches, of faiss and of all variants of bc-search."""
    variants = [] if faiss_only else [(variant, count) for variant in bc_search.variants for count in (1, threads)]
    singles = {variant: [] for variant in [name, *variants]}
    batches = {variant: [] for variant in [name, *bc_search.variants]}
    for number in range(ROUNDS):
        singles[name].append(timed(lambda: single(number))[0])
        for variant, count in variants:
            singles[variant, count].append(bc_search.query_time(variant, number, number + 1, count))
    for _ in range(3):
        batches[name].append(timed(batch)[0])
        for variant in [] if faiss_only else bc_search.variants:
            batches[variant].append(bc_search.query_time(variant, 0, BATCH))
    return singles, batches


def report(name, singles, batches, **figures):
    best = lambda times: {"best_s": round(min(times), 6), "median_s": round(statistics.median(times), 6)}
    times_as_fast = lambda faiss_times, times: round(statistics.median(a / b for a, b in zip(faiss_times, times)), 3)
    load = round(os.getloadavg()[0], 1)
    print_json(of=name, **figures, single=best(singles[name]), batch=best(batches[name]), queries_of_batch=BATCH, load=load)
    for variant, times in singles.items():
        if variant != name:
            print_json(of=f"{variant[0]}, {variant[1]} threads", queries="single", **best(times), times_as_fast_as={name: times_as_fast(singles[name], times)})
    for variant, times in batches.items():
        if variant != name:
            print_json(of=variant, queries=f"batch of {BATCH}", **best(times), times_as_fast_as={name: times_as_fast(batches[name], times)})


def recall(found, truth):
    return round(sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist())) / truth.size, 4)


def flat(bc_search, faiss, np, vectors, queries, truth):
    totals, add_s, answers = None, 0.0, []
    for first in range(0, rows, part_rows):
        index = faiss.IndexFlatIP(dims)
        for start in range(first, min(first + part_rows, rows), 65536):
            added = vectors(start, min(start + 65536, first + part_rows, rows))
            add_s += timed(lambda: index.add(added))[0]
        single, batch = (lambda n: index.search(queries[n : n + 1], K)), (lambda: index.search(queries, K))
        times = alternate(bc_search, "faiss flat", single, batch, faiss_only=totals is not None)
        scores, found = index.search(queries, K)
        answers.append((scores, found + first))
        if totals is None:
            totals = times
        else:
            # The times of bc-search are of all rows, and were measured with the first part.
            for total, new in zip(totals, times):
                total["faiss flat"] = [a + b for a, b in zip(total["faiss flat"], new["faiss flat"])]
        del index
    scores, found = (np.concatenate(parts, axis=1) for parts in zip(*answers))
    best = np.take_along_axis(found, np.argsort(-scores, axis=1)[:, :K], axis=1)
    report("faiss flat", *totals, rows=rows, dim=dims, parts=-(-rows // part_rows), add_per_s=round(rows / add_s), bytes_per_row=4 * dims, recall_at_10=recall(best, truth))


def hnsw(bc_search, faiss, np, vectors, queries, truth):
    index = faiss.IndexHNSWFlat(dims, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 128, 128
    build_s = 0.0
    for start in range(0, hnsw_rows, 65536):
        added = vectors(start, min(start + 65536, hnsw_rows))
        build_s += timed(lambda: index.add(added))[0]
    if hnsw_rows < rows:
        exact = faiss.IndexFlatIP(dims)
        exact.add(vectors(0, hnsw_rows))
        truth = exact.search(queries, K)[1]
    times = alternate(bc_search, "faiss HNSW", lambda n: index.search(queries[n : n + 1], K), lambda: index.search(queries, K))
    found = index.search(queries, K)[1]
    report("faiss HNSW", *times, rows=hnsw_rows, dim=dims, build_s=round(build_s, 1), bytes_per_row=4 * dims + 4 * 2 * 16, recall_at_10=recall(found, truth))


def main():
    with tempfile.TemporaryDirectory() as folder:
        bc_search = BcSearch(folder)
        try:
            import faiss
            import numpy as np
        except ImportError as error:
            bc_search.close()
            print(f"skipped: the comparison with faiss ({error}; pip install faiss-cpu numpy)")
            return
        faiss.omp_set_num_threads(threads)
        vectors = row_reader(folder, np)
        queries = np.fromfile(f"{folder}/queries.f32", np.float32).reshape(-1, dims)[:BATCH]
        truth = np.fromfile(f"{folder}/truth.u64", np.uint64).astype(np.int64).reshape(-1, K)[:BATCH]
        flat(bc_search, faiss, np, vectors, queries, truth)
        if hnsw_rows:
            hnsw(bc_search, faiss, np, vectors, queries, truth)
        bc_search.close()


if __name__ == "__main__":
    main()
