#!/usr/bin/env python3
"""Identifies the works in an hour of joined excerpts with bc-search: works found, accuracy of the edges, time and memory.

    scripts/check_identify.py SONGS [NETWORK=configs/networks/default] [ARGUMENTS of identify ...]

SONGS is a folder with meta/list (in the format of SHS100K, tab-separated: clique, version, title, performer, path, status) and the audio
that it lists. The first version of each clique is indexed; the others are shuffled and joined to one file of an hour. Needs ffmpeg.
$BYTECOVER_SEARCH is the binary; $KEEP is a folder to keep the index and the mix in.
"""
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

project = Path(__file__).resolve().parent.parent
binary = os.environ.get("BYTECOVER_SEARCH", str(project / "target/release/bc-search"))
HOUR_S, TOLERANCE_S = 3600, 5.0


def versions(songs):
    found = {}
    for line in (songs / "meta/list").read_text().splitlines():
        clique, version, _, _, audio, *_ = line.split("\t")
        found.setdefault(clique, []).append((int(version), audio))
    return {clique: [audio for _, audio in sorted(numbered)] for clique, numbered in sorted(found.items())}


def locate(songs, audio):
    path = Path(audio)
    found = next((c for c in (path, songs / path, songs / "audio" / path.name, songs.parent / path) if c.is_file()), None)
    if found is None:
        sys.exit(f"{audio} of {songs} does not exist")
    return found.resolve()


def run(*args):
    return subprocess.run([str(a) for a in args], check=True, stdout=subprocess.PIPE, text=True).stdout


def write_mix(songs, works, mix):
    """Joins the excerpts to one file; returns (start, end, work) of each."""
    rest = [(work, locate(songs, audio)) for work, audios in works.items() for audio in audios[1:]]
    random.Random(3).shuffle(rest)
    # Adjacent excerpts are of different works, because there would be no edge between two of one work.
    for i in range(1, len(rest)):
        if rest[i][0] == rest[i - 1][0]:
            j = next((j for j in range(i + 1, len(rest)) if rest[j][0] != rest[i][0]), None)
            if j:
                rest[i], rest[j] = rest[j], rest[i]
    truth, raw, position_s = [], mix.with_suffix(".raw"), 0.0
    with open(raw, "wb") as out:
        for work, audio in rest:
            if position_s >= HOUR_S:
                break
            pcm = subprocess.run(["ffmpeg", "-v", "error", "-i", str(audio), "-ac", "1", "-ar", "22050", "-f", "s16le", "-"], check=True, stdout=subprocess.PIPE).stdout
            out.write(pcm)
            truth.append((position_s, position_s + len(pcm) / 44100, work))
            position_s = truth[-1][1]
    run("ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ac", "1", "-ar", "22050", "-i", raw, "-b:a", "128k", mix)
    raw.unlink()
    return truth


def evaluate(truth, stretches):
    """An excerpt is found if it contains at least half of a reported stretch of its work."""
    found, edges, wrong = set(), [], 0
    for stretch in stretches:
        overlap = [(min(stretch["end_s"], end) - max(stretch["start_s"], start), number) for number, (start, end, work) in enumerate(truth) if work == stretch["row"]["work"]]
        longest, number = max(overlap, default=(0, None))
        if longest < 0.5 * (stretch["end_s"] - stretch["start_s"]):
            wrong += 1
            continue
        found.add(number)
        edges += [abs(stretch["start_s"] - truth[number][0]), abs(stretch["end_s"] - truth[number][1])]
    edges.sort()
    works_found = {truth[number][2] for number in found}
    return {
        "excerpts": len(truth), "excerpts_found": len(found), "works": len({work for *_, work in truth}), "works_found": len(works_found),
        "stretches": len(stretches), "wrong": wrong, "edges": len(edges), "edges_within_5_s": sum(e <= TOLERANCE_S for e in edges),
        "median_edge_s": round(edges[len(edges) // 2], 2) if edges else None,
    }


def main(songs, network, arguments):
    works = versions(songs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("KEEP", scratch))
        folder.mkdir(parents=True, exist_ok=True)
        mix, truth_file, index = folder / "mix.mp3", folder / "truth.json", folder / "index"
        if not truth_file.exists():
            truth_file.write_text(json.dumps(write_mix(songs, works, mix)))
        truth = json.loads(truth_file.read_text())
        with open(folder / "list.csv", "w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["path", "work"])
            writer.writerows([locate(songs, audios[0]), work] for work, audios in works.items())
        run(binary, "add", folder / "list.csv", "--index", index, "--network", network)
        started = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        out = run(binary, "identify", mix, "--index", index, "--network", network, "--format", "jsonl", *arguments)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        stretches = [json.loads(line) for line in out.splitlines()]
        figures = evaluate(truth, stretches) | {"hours": round(truth[-1][1] / HOUR_S, 2), "seconds": round(seconds, 1)}
        # The peak is over all child processes; adding holds several files at once and may need more than identifying.
        print(json.dumps(figures | {"peak_mb_at_most": max(peak, before) // 1024}))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else project / "configs/networks/default", sys.argv[3:])
