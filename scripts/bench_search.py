#!/usr/bin/env python3
"""bc-search beside faiss-cpu, on the same made-up vectors, in one run, asked in turn.

    scripts/bench_search.py [ROWS=1000000] [DIMS=512] [HNSW_ROWS=ROWS] [--no-ann] [--no-compact] [--part=ROWS] [--batch=64] [--rounds=9]

`bc-search bench` makes indexes of ROWS vectors as 16-bit floats and as 8-bit integers, with graphs for approximate search where it was built with
`--features ann` (and not --no-ann). faiss gets the same vectors, read from the first index: flat (exact, 32-bit floats), and HNSW (16 links as ours, efConstruction
128, efSearch 128) over the first HNSW_ROWS of them; 0 leaves it out. --no-compact leaves the segments as adding makes them: making one of them takes the place of the larger index twice. Where 32-bit floats of all rows do not fit the memory, --part lets faiss flat search that many at
a time; its times are then sums over the parts.

Each round asks everybody one after another, so that other work on the machine meets all alike: ratios are of the same round, and their median is printed beside
the best and the median times. Single queries are asked by faiss on one thread (it has no other way for one), by bc-search on one and on all.
Prints one JSON object per line. Needs numpy and faiss-cpu; threads are those of $RAYON_NUM_THREADS or all. $BYTECOVER_SEARCH is the binary; files go to a temporary
folder ($TMPDIR): about ROWS x (DIMS x 3 + 350) bytes, half as much again while a segment is made of all.
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
option = lambda name, otherwise: next((int(flag.split("=")[1]) for flag in flags if flag.startswith(f"--{name}=")), otherwise)
part = option("part", rows)
threads = int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count()))
K, BATCH, ROUNDS = 10, option("batch", 64), option("rounds", 9)


def timed(what):
    started = time.perf_counter()
    found = what()
    return time.perf_counter() - started, found


def say(**line):
    print(json.dumps(line), flush=True)


class Ours:
    """A bc-search process that answers queries line by line."""

    def __init__(self, folder):
        size = ["--rows", rows, "--dims", dims, "--batch", BATCH, "--threads", threads, "--folder", folder, "--in-turn", "--rounds", ROUNDS]
        command = [binary, "bench", *map(str, size), *([] if "--no-ann" in flags else ["--ann"])]
        command += [flag for flag in flags if flag == "--no-compact"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ways = []
        for line in self.process.stdout:
            line = json.loads(line)
            if "ready" in line:
                self.ways = line["ready"]
                break
            say(of="bc-search", **line)
        if not self.ways:
            sys.exit(f"{binary} bench broke off ({self.process.wait()}); without --features ann give --no-ann")

    def ask(self, way, first, end, on=None):
        self.process.stdin.write(f"{way} {first} {end} {on or ''}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def stored(folder, np):
    """The rows of the index of 16-bit floats, segment after segment, mapped: a header of 64 bytes, rows padded to a multiple of 64 numbers
    (docs/FORMATS.md). Gives 32-bit floats of the rows between two numbers."""
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


def in_turn(ours, name, single, batch, only=False):
    """Rounds of single queries and batches; prints times, and those of faiss as multiples of ours."""
    ways = [] if only else [(way, on) for way in ours.ways for on in (1, threads)]
    singles = {way: [] for way in [name, *ways]}
    batches = {way: [] for way in [name, *ours.ways]}
    for number in range(ROUNDS):
        singles[name].append(timed(lambda: single(number))[0])
        for way, on in ways:
            singles[way, on].append(ours.ask(way, number, number + 1, on))
    for _ in range(3):
        batches[name].append(timed(batch)[0])
        for way in [] if only else ours.ways:
            batches[way].append(ours.ask(way, 0, BATCH))
    return singles, batches


def report(name, singles, batches, **more):
    best = lambda times: {"best_s": round(min(times), 6), "median_s": round(statistics.median(times), 6)}
    times_as_fast = lambda theirs, ours: round(statistics.median(a / b for a, b in zip(theirs, ours)), 3)
    load = round(os.getloadavg()[0], 1)
    say(of=name, **more, single=best(singles[name]), batch=best(batches[name]), queries_of_batch=BATCH, load=load)
    for way, times in singles.items():
        if way != name:
            say(of=f"{way[0]}, {way[1]} threads", asked="single", **best(times), times_as_fast_as={name: times_as_fast(singles[name], times)})
    for way, times in batches.items():
        if way != name:
            say(of=way, asked=f"batch of {BATCH}", **best(times), times_as_fast_as={name: times_as_fast(batches[name], times)})


def recall(found, truth):
    return round(sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist())) / truth.size, 4)


def flat(ours, faiss, np, vectors, queries, truth):
    totals, add_s, answers = None, 0.0, []
    for first in range(0, rows, part):
        index = faiss.IndexFlatIP(dims)
        for at in range(first, min(first + part, rows), 65536):
            some = vectors(at, min(at + 65536, first + part, rows))
            add_s += timed(lambda: index.add(some))[0]
        single, batch = (lambda n: index.search(queries[n : n + 1], K)), (lambda: index.search(queries, K))
        asked = in_turn(ours, "faiss flat", single, batch, only=totals is not None)
        scores, found = index.search(queries, K)
        answers.append((scores, found + first))
        if totals is None:
            totals = asked
        else:
            # Ours were asked for all rows with the first part.
            for ends, new in zip(totals, asked):
                ends["faiss flat"] = [a + b for a, b in zip(ends["faiss flat"], new["faiss flat"])]
        del index
    scores, found = (np.concatenate(parts, axis=1) for parts in zip(*answers))
    best = np.take_along_axis(found, np.argsort(-scores, axis=1)[:, :K], axis=1)
    report("faiss flat", *totals, rows=rows, dim=dims, parts=-(-rows // part), add_per_s=round(rows / add_s), bytes_per_row=4 * dims, recall_at_10=recall(best, truth))


def hnsw(ours, faiss, np, vectors, queries, truth):
    index = faiss.IndexHNSWFlat(dims, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 128, 128
    spent = 0.0
    for at in range(0, hnsw_rows, 65536):
        some = vectors(at, min(at + 65536, hnsw_rows))
        spent += timed(lambda: index.add(some))[0]
    if hnsw_rows < rows:
        exact = faiss.IndexFlatIP(dims)
        exact.add(vectors(0, hnsw_rows))
        truth = exact.search(queries, K)[1]
    asked = in_turn(ours, "faiss HNSW", lambda n: index.search(queries[n : n + 1], K), lambda: index.search(queries, K))
    found = index.search(queries, K)[1]
    report("faiss HNSW", *asked, rows=hnsw_rows, dim=dims, build_s=round(spent, 1), bytes_per_row=4 * dims + 4 * 2 * 16, recall_at_10=recall(found, truth))


def main():
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(folder)
        try:
            import faiss
            import numpy as np
        except ImportError as error:
            ours.end()
            print(f"skipped: faiss beside it ({error}; pip install faiss-cpu numpy)")
            return
        faiss.omp_set_num_threads(threads)
        vectors = stored(folder, np)
        queries = np.fromfile(f"{folder}/queries.f32", np.float32).reshape(-1, dims)[:BATCH]
        truth = np.fromfile(f"{folder}/truth.u64", np.uint64).astype(np.int64).reshape(-1, K)[:BATCH]
        flat(ours, faiss, np, vectors, queries, truth)
        if hnsw_rows:
            hnsw(ours, faiss, np, vectors, queries, truth)
        ours.end()


if __name__ == "__main__":
    main()
