#!/usr/bin/env python3
"""Does a search find a recording by a changed copy of it?

    scripts/check_search.py configs/covers-mini.toml [every=3]

Makes copies of every third version of the configuration's index with ffmpeg (MP3 at 64 kbit/s; 2 semitones up, 4
down; tempo times 0.85 and 1.2, the pitch kept, by rubberband), searches each as a user does (all splits are
searched) and prints, one line per kind, how many find their original first. Fails below nine of ten of any kind. Needs pyarrow and an ffmpeg with rubberband. $BYTECOVER_EVAL is bc-eval, which hands on to bc-search beside it.
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
    shown = run("config", *settings)
    index = next(
        json.loads(line.split("=", 1)[1]) for line in shown.splitlines() if line.startswith("index =")
    )
    rows = [row for row in pq.read_table(index).to_pylist() if row["status"] == "ok" and row["audio_path"]]
    paths = {row["version_id"]: row["audio_path"] for row in rows}
    indexed = list(paths)
    jobs = {}
    for number, version in enumerate(indexed[::every]):
        for place, kind in enumerate(KINDS):
            jobs[f"{folder}/{number}-{place}.mp3"] = (version, kind)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, [(paths[version], kind, target) for target, (version, kind) in jobs.items()]))
    first = dict.fromkeys(KINDS, 0)
    for line in run("search", *jobs, *settings, "-k", "1", "--json").splitlines():
        answer = json.loads(line)
        version, kind = jobs[answer["query"]]
        first[kind] += answer["hits"][0]["path"] == version
copies = len(jobs) // len(KINDS)
for kind, count in first.items():
    print(f"{kind:18} {count} of {copies} copies find their original first among {len(indexed)}")
if min(first.values()) < 0.9 * copies:
    sys.exit("fewer than nine of ten of a kind")
