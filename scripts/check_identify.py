#!/usr/bin/env python3
"""An hour of joined minutes of other renderings, identified by bc-search: works found, times, memory.

    scripts/check_identify.py SONGS [NETWORK=configs/networks/default] [ARGUMENTS of identify ...]

SONGS is a folder with meta/list (SHS100K's form, tab-separated: clique, version, title, performer, path, status) and the audio that
it names. The first version of each clique is indexed; the others, shuffled, are joined to one file of an hour. Needs ffmpeg. $BYTECOVER_SEARCH is the binary;
$KEEP a folder to keep index and mix in.
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
HOUR, WITHIN = 3600, 5.0


def versions(songs):
    found = {}
    for line in (songs / "meta/list").read_text().splitlines():
        clique, version, _, _, audio, *_ = line.split("\t")
        found.setdefault(clique, []).append((int(version), audio))
    return {clique: [audio for _, audio in sorted(all_)] for clique, all_ in sorted(found.items())}


def locate(songs, audio):
    path = Path(audio)
    name = next((c for c in (path, songs / path, songs / "audio" / path.name, songs.parent / path) if c.is_file()), None)
    if name is None:
        sys.exit(f"there is no audio {audio} of {songs}")
    return name.resolve()


def run(*args):
    return subprocess.run([str(a) for a in args], check=True, stdout=subprocess.PIPE, text=True).stdout


def mixed(songs, works, mix):
    """Joins the excerpts; returns (begin, end, work) of each."""
    rest = [(work, locate(songs, audio)) for work, all_ in works.items() for audio in all_[1:]]
    random.Random(3).shuffle(rest)
    # No work twice in succession: there would be no edge to find.
    for i in range(1, len(rest)):
        if rest[i][0] == rest[i - 1][0]:
            j = next((j for j in range(i + 1, len(rest)) if rest[j][0] != rest[i][0]), None)
            if j:
                rest[i], rest[j] = rest[j], rest[i]
    truth, raw, at = [], mix.with_suffix(".raw"), 0.0
    with open(raw, "wb") as out:
        for work, audio in rest:
            if at >= HOUR:
                break
            pcm = subprocess.run(["ffmpeg", "-v", "error", "-i", str(audio), "-ac", "1", "-ar", "22050", "-f", "s16le", "-"], check=True, stdout=subprocess.PIPE).stdout
            out.write(pcm)
            truth.append((at, at + len(pcm) / 44100, work))
            at = truth[-1][1]
    run("ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ac", "1", "-ar", "22050", "-i", raw, "-b:a", "128k", mix)
    raw.unlink()
    return truth


def judge(truth, stretches):
    """An excerpt is found if most of a stretch of its work lies in it, or it lies in the stretch."""
    found, edges, wrong = set(), [], 0
    for one in stretches:
        overlap = [(min(one["end_s"], end) - max(one["start_s"], start), place) for place, (start, end, work) in enumerate(truth) if work == one["row"]["work"]]
        most, place = max(overlap, default=(0, None))
        if most < 0.5 * (one["end_s"] - one["start_s"]):
            wrong += 1
            continue
        found.add(place)
        edges += [abs(one["start_s"] - truth[place][0]), abs(one["end_s"] - truth[place][1])]
    edges.sort()
    named = {truth[place][2] for place in found}
    return {
        "excerpts": len(truth), "excerpts_found": len(found), "works": len({work for *_, work in truth}), "works_found": len(named),
        "stretches": len(stretches), "wrong": wrong, "edges": len(edges), "edges_within_5_s": sum(e <= WITHIN for e in edges),
        "median_edge_s": round(edges[len(edges) // 2], 2) if edges else None,
    }


def main(songs, network, more):
    works = versions(songs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("KEEP", scratch))
        folder.mkdir(parents=True, exist_ok=True)
        mix, truth_file, index = folder / "mix.mp3", folder / "truth.json", folder / "index"
        if not truth_file.exists():
            truth_file.write_text(json.dumps(mixed(songs, works, mix)))
        truth = json.loads(truth_file.read_text())
        with open(folder / "list.csv", "w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["path", "work"])
            writer.writerows([locate(songs, all_[0]), work] for work, all_ in works.items())
        run(binary, "add", folder / "list.csv", "--index", index, "--network", network)
        started = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        out = run(binary, "identify", mix, "--index", index, "--network", network, "--format", "jsonl", *more)
        spent = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        stretches = [json.loads(line) for line in out.splitlines()]
        figures = judge(truth, stretches) | {"hours": round(truth[-1][1] / HOUR, 2), "seconds": round(spent, 1)}
        # The largest of all children; adding holds several files at once and may be larger.
        print(json.dumps(figures | {"peak_mb_at_most": max(peak, before) // 1024}))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else project / "configs/networks/default", sys.argv[3:])
