#!/usr/bin/env python3
"""hit@1 and mAP of bc-search, by short windows and by whole recordings alone.

    scripts/measure_search.py LIST [NETWORK=configs/networks/default] [ROUNDS=3]
    scripts/measure_search.py LIST NETWORK each

LIST is a CSV with `path` and `work`, or an index.parquet of bc-download-index. All recordings are indexed without their works. In round r the r-th recording of each
work asks and is not in the index, nor are those that ask with it; every other recording of its work is to be found. With `each`, every
recording asks and is passed over in its own answer, as bc-eval measures; what has no other version does not ask. Also printed: what the probabilities say
(prior 0.5), against how often the first line is right. $BYTECOVER_SEARCH is the binary; $KEEP a folder to keep the index in.
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


def judge(answers, work_of, left):
    precisions, first, said, right, times = [], 0, [], [], 0
    for answer in answers:
        own = work_of[answer["query"]]
        order = [path for hit in answer["hits"] for path in [hit["path"], *hit["other_versions"]] if path != answer["query"]]
        places = [place for place, path in enumerate(order, 1) if work_of[path] == own]
        total = sum(work == own for path, work in work_of.items() if path in left and path != answer["query"])
        if not total:
            continue
        precisions.append(sum(n / place for n, place in enumerate(places, 1)) / total)
        first += work_of[order[0]] == own
        if left != set(work_of) and answer["hits"][0].get("probability") is not None:
            best = max(answer["hits"], key=lambda hit: hit["probability"])
            said.append(best["probability"])
            right.append(work_of[best["path"]] == own)
    return precisions, first, said, right


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
        for more in ([], ["--whole"]):
            all_ = [[], 0, [], []]
            spent = 0
            for number in range(rounds or 1):
                index, gone = folder / "index", []
                queries = [audio for audios in by_work.values() if len(audios) > 1 for audio in audios]
                if rounds:
                    queries = gone = [audios[number] for audios in by_work.values() if len(audios) > number]
                    index = folder / "round"
                    shutil.rmtree(index, ignore_errors=True)
                    shutil.copytree(folder / "index", index)
                    run(binary, "remove", "--index", index, "--path", *queries)
                started = time.perf_counter()
                out = run(binary, "search", *queries, "--index", index, "--network", network, "--json", "-k", len(work_of), "--prior", 0.5, *more)
                spent += time.perf_counter() - started
                found = judge([json.loads(line) for line in out.splitlines()], work_of, set(work_of) - set(gone))
                all_ = [a + b for a, b in zip(all_, found)]
            precisions, first, said, right = all_
            n = len(precisions)
            line = {"compared": "whole recordings" if more else "windows", "asks": "in rounds" if rounds else "each", "recordings": len(work_of), "queries": n, "mAP": round(sum(precisions) / n, 4), "hit@1": round(first / n, 4)}
            if said:
                sure = [ok for p, ok in zip(said, right) if p >= 0.9]
                line |= {"said": round(sum(said) / len(said), 3), "right": round(sum(right) / len(right), 3), "from_90_percent": len(sure), "of_these_right": sum(sure)}
            print(json.dumps(line | {"seconds_per_query": round(spent / n, 3)}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else project / "configs/networks/default", (0 if sys.argv[3] == "each" else int(sys.argv[3])) if len(sys.argv) > 3 else 3)
