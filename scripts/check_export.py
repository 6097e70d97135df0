#!/usr/bin/env python3
"""Checks that databases load what `bc-search export` writes, and find what bc-search finds.

    scripts/check_export.py INDEX [faiss|duckdb|lance|qdrant ...]

Exports the index, loads it into the given databases (all by default), and searches each for the neighbours of some recordings of the index.
All databases must agree, and `bc-search rerank` of their candidates must find what a search of the whole index finds. A database whose
package is missing is skipped with a message. $BYTECOVER_SEARCH is the binary, $BYTECOVER_NETWORK the network of the index (the
network of the repository by default). The exit code is 1 if results differ.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

project = Path(__file__).resolve().parent.parent
binary = os.environ.get("BYTECOVER_SEARCH", str(project / "target/release/bc-search"))
network = os.environ.get("BYTECOVER_NETWORK", str(project / "configs/networks/default"))
K, QUERIES = 5, 8


def run(*arguments):
    return subprocess.run([binary, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def export(target, folder):
    out = Path(folder) / target
    print(run("export", "--index", index, "--to", target, "--out", out).strip())
    return out


def arrays(out):
    import numpy as np

    return np.load(out / "vectors.npy"), [json.loads(line) for line in open(out / "rows.jsonl")]


def faiss_neighbours(folder):
    import faiss

    vectors, rows = arrays(export("faiss", folder))
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    found = flat.search(vectors[:QUERIES], K)[1]
    return {rows[i]["path"]: [rows[j]["path"] for j in found[i]] for i in range(min(QUERIES, len(rows)))}


def qdrant_neighbours(folder):
    from qdrant_client import QdrantClient, models

    vectors, rows = arrays(export("qdrant", folder))
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("songs", vectors_config=size)
    client.upload_collection("songs", vectors=vectors, payload=rows, ids=[row["id"] for row in rows])
    found = {}
    for i in range(min(QUERIES, len(rows))):
        points = client.query_points("songs", query=vectors[i].tolist(), limit=K).points
        found[rows[i]["path"]] = [point.payload["path"] for point in points]
    return found


def duckdb_neighbours(folder):
    import duckdb

    file = export("duckdb", folder) / "vectors.parquet"
    base = duckdb.connect()
    dim = base.execute(f"SELECT len(vector) FROM '{file}' LIMIT 1").fetchone()[0]
    base.execute(f"CREATE TABLE songs AS SELECT * REPLACE (vector::FLOAT[{dim}] AS vector) FROM '{file}'")
    found = {}
    for number, path in base.execute(f"SELECT id, path FROM songs ORDER BY id LIMIT {QUERIES}").fetchall():
        neighbours = base.execute(
            "SELECT b.path FROM songs a, songs b WHERE a.id = ? "
            f"ORDER BY array_inner_product(a.vector, b.vector) DESC, b.id LIMIT {K}",
            [number],
        )
        found[path] = [row[0] for row in neighbours.fetchall()]
    return found


def lance_neighbours(folder):
    import lance
    import pyarrow.parquet as pq

    table = pq.read_table(export("lance", folder) / "vectors.parquet")
    data = lance.write_dataset(table, Path(folder) / "songs.lance")
    found = {}
    for row in table.slice(0, QUERIES).to_pylist():
        neighbours = data.to_table(nearest={"column": "vector", "q": row["vector"], "k": K, "metric": "dot"}, columns=["path"])
        found[row["path"]] = neighbours["path"].to_pylist()
    return found


index, *names = sys.argv[1:]
databases = {"faiss": faiss_neighbours, "duckdb": duckdb_neighbours, "lance": lance_neighbours, "qdrant": qdrant_neighbours}
results = {}
with tempfile.TemporaryDirectory() as folder:
    for name in names or databases:
        try:
            results[name] = databases[name](folder)
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    failures = 0
    first = None
    for name, found in results.items():
        for path, neighbours in found.items():
            if neighbours[0] != path:
                print(f"{name}: the nearest to {path} is {neighbours[0]}")
                failures += 1
        if first is None:
            first = (name, found)
        else:
            for path, neighbours in found.items():
                if set(neighbours) != set(first[1][path]):
                    print(f"{name} and {first[0]} differ for {path}: {neighbours} and {first[1][path]}")
                    failures += 1
        candidates = Path(folder) / f"{name}.csv"
        with open(candidates, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["query", "path"])
            writer.writerows([path, other] for path, neighbours in found.items() for other in neighbours)
        answers = [json.loads(line) for line in run("rerank", candidates, "--index", index, "--network", network, "--json").splitlines()]
        for answer in answers:
            searched = json.loads(run("search", answer["query"], "--index", index, "--network", network, "--json"))
            best = [max(answer["hits"], key=lambda hit: hit["score"]) for answer in (answer, searched)]
            if best[0]["path"] != best[1]["path"]:
                print(f"{name}: {answer['query']} reranked {best[0]['path']}, searched {best[1]['path']}")
                failures += 1
        print(f"{name}: {len(found)} queries, their neighbours and {len(answers)} reranked answers agree" if not failures else name)
sys.exit(1 if failures else 0)
