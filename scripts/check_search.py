#!/usr/bin/env python3
"""Checks that a search finds a recording by a changed copy of it.

    scripts/check_search.py configs/covers-mini.toml [every=3]

Makes copies of every third version of the configuration's index with ffmpeg (MP3 at 64 kbit/s; 2 semitones up, 4 down; 0.85 and 1.2
times the tempo at the same pitch, by rubberband), searches all splits for each copy, and prints for each kind how many have
their original as the first hit. Fails if fewer than 90 % of any kind do. Needs pyarrow and an ffmpeg with rubberband.
$BYTECOVER_EVAL is bc-eval, which starts the bc-search next to it.
"""
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq

KINDS = {
    "64 kbit/s": ["-b:a", "64k"],
    "2 semitones up": ["-af", "rubberband=pitch=1.122462"],
    "4 semitones down": ["-af", "rubberband=pitch=0.793701"],
    "tempo 0.85": ["-af", "rubberband=tempo=0.85"],
    "tempo 1.2": ["-af", "rubberband=tempo=1.2"],
}
project = Path(__file__).resolve().parent.parent
binary = os.environ.get("BYTECOVER_EVAL", str(project / "target/release/bc-eval"))
config, every = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3


def run(*arguments):
    return subprocess.run([binary, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def copy(job):
    source, kind, target = job
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", source, *KINDS[kind], target]
    subprocess.run(command, check=True)


with tempfile.TemporaryDirectory() as folder:
    settings = ["--config", config, "--set", f"eval.output={folder}/eval"]
    resolved = run("config", *settings)
    index = next(
        json.loads(line.split("=", 1)[1]) for line in resolved.splitlines() if line.startswith("index =")
    )
    rows = [row for row in pq.read_table(index).to_pylist() if row["status"] == "ok" and row["audio_path"]]
    paths = {row["version_id"]: row["audio_path"] for row in rows}
    indexed = list(paths)
    jobs = {}
    for number, version in enumerate(indexed[::every]):
        for kind_number, kind in enumerate(KINDS):
            jobs[f"{folder}/{number}-{kind_number}.mp3"] = (version, kind)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, [(paths[version], kind, target) for target, (version, kind) in jobs.items()]))
    first_hits = dict.fromkeys(KINDS, 0)
    for line in run("search", *jobs, *settings, "-k", "1", "--json").splitlines():
        answer = json.loads(line)
        version, kind = jobs[answer["query"]]
        first_hits[kind] += answer["hits"][0]["path"] == version
copies = len(jobs) // len(KINDS)
for kind, count in first_hits.items():
    print(f"{kind:18} {count} of {copies} copies have their original as the first hit among {len(indexed)}")
if min(first_hits.values()) < 0.9 * copies:
    sys.exit("fewer than 90 % of one kind")
