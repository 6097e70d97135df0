#!/usr/bin/env python3
"""Measures hit@1 and mAP of bc-search, with short windows and with whole recordings only.

    scripts/measure_search.py LIST [NETWORK=configs/networks/default] [ROUNDS=3]
    scripts/measure_search.py LIST NETWORK each

LIST is a CSV with `path` and `work`, or an index.parquet of bc-download-index. All recordings are indexed without their works. In round r the
r-th recording of each work is removed from the index and used as a query; all other recordings of its work should be found. With `each`,
every recording that has another version is used as a query and ignored in its own answer, as bc-eval measures. The script also compares
the predicted probabilities (prior 0.5) with the share of queries whose most probable work is correct. $BYTECOVER_SEARCH is the binary; $KEEP is a
folder to keep the index in.
"""
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

project = Path(__file__).resolve().parent.parent
binary = os.environ.get("BYTECOVER_SEARCH", str(project / "target/release/bc-search"))


def read(path):
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path, columns=["audio_path", "clique_id"]).to_pylist()
        return [(row["audio_path"], row["clique_id"]) for row in rows]
    with open(path, newline="") as file:
        return [(row["path"], row["work"]) for row in csv.DictReader(file)]


def run(*args):
    return subprocess.run([str(a) for a in args], check=True, stdout=subprocess.PIPE, text=True).stdout


def evaluate(answers, work_of, remaining):
    """Average precisions, number of correct first hits, and predicted probability and correctness of the most probable work."""
    precisions, first_hits, predicted, correct = [], 0, [], []
    for answer in answers:
        work = work_of[answer["query"]]
        order = [path for hit in answer["hits"] for path in [hit["path"], *hit["other_versions"]] if path != answer["query"]]
        ranks = [rank for rank, path in enumerate(order, 1) if work_of[path] == work]
        total = sum(other == work for path, other in work_of.items() if path in remaining and path != answer["query"])
        if not total:
            continue
        precisions.append(sum(n / rank for n, rank in enumerate(ranks, 1)) / total)
        first_hits += work_of[order[0]] == work
        if remaining != set(work_of) and answer["hits"][0].get("probability") is not None:
            best = max(answer["hits"], key=lambda hit: hit["probability"])
            predicted.append(best["probability"])
            correct.append(work_of[best["path"]] == work)
    return precisions, first_hits, predicted, correct


def main(path, network, rounds):
    recordings = read(path)
    work_of = {str(Path(audio).absolute()): work for audio, work in recordings}
    by_work = {}
    for audio, work in work_of.items():
        by_work.setdefault(work, []).append(audio)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("KEEP", scratch))
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "list.csv", "w", newline="") as out:
            csv.writer(out).writerows([["path"], *[[audio] for audio in work_of]])
        started = time.perf_counter()
        run(binary, "add", folder / "list.csv", "--index", folder / "index", "--network", network)
        print(f"added in {time.perf_counter() - started:.1f} s", file=sys.stderr)
        for options in ([], ["--whole"]):
            totals = [[], 0, [], []]
            seconds = 0
            for number in range(rounds or 1):
                index, removed = folder / "index", []
                queries = [audio for audios in by_work.values() if len(audios) > 1 for audio in audios]
                if rounds:
                    queries = removed = [audios[number] for audios in by_work.values() if len(audios) > number]
                    index = folder / "round"
                    shutil.rmtree(index, ignore_errors=True)
                    shutil.copytree(folder / "index", index)
                    run(binary, "remove", "--index", index, "--path", *queries)
                started = time.perf_counter()
                out = run(binary, "search", *queries, "--index", index, "--network", network, "--json", "-k", len(work_of), "--prior", 0.5, *options)
                seconds += time.perf_counter() - started
                figures = evaluate([json.loads(line) for line in out.splitlines()], work_of, set(work_of) - set(removed))
                totals = [a + b for a, b in zip(totals, figures)]
            precisions, first_hits, predicted, correct = totals
            n = len(precisions)
            line = {"compared": "whole recordings" if options else "windows", "mode": "in rounds" if rounds else "each", "recordings": len(work_of), "queries": n, "mAP": round(sum(precisions) / n, 4), "hit@1": round(first_hits / n, 4)}
            if predicted:
                confident = [is_correct for p, is_correct in zip(predicted, correct) if p >= 0.9]
                line |= {"predicted": round(sum(predicted) / len(predicted), 3), "correct": round(sum(correct) / len(correct), 3), "from_90_percent": len(confident), "of_these_correct": sum(confident)}
            print(json.dumps(line | {"seconds_per_query": round(seconds / n, 3)}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else project / "configs/networks/default", (0 if sys.argv[3] == "each" else int(sys.argv[3])) if len(sys.argv) > 3 else 3)
