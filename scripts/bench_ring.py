#!/usr/bin/env python3
"""Times the key-invariant network of configs/default.toml and the same in PyTorch: a training step and a forward pass, in turn.

    scripts/bench_ring.py [rounds=3] [batch=96] [frames=86] [threads=1]

Needs torch. BYTECOVER_TRAIN is the binary (default target/release/bc-train). CPU seconds are compared, because
other work on a machine changes them less than the time on the wall; a ratio is PyTorch's over ours.
"""
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from model import Ring  # noqa: E402

STEPS = 3


def medians(work):
    """Median wall-clock and CPU seconds of a call, after two untimed calls."""
    times = []
    for _ in range(STEPS + 2):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return [statistics.median(column) for column in zip(*times[2:])]


def pytorch(batch, frames):
    network = Ring()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    x = torch.rand(batch, 84, frames)
    labels = torch.arange(batch) // 2
    positive = (labels[:, None] == labels[None]) & ~torch.eye(batch, dtype=torch.bool)

    def train():
        optimizer.zero_grad(set_to_none=True)
        z = functional.normalize(network(x)[1], dim=1)
        s = (z @ z.T / 0.1).masked_fill(torch.eye(batch, dtype=torch.bool), -1e4)
        (torch.logsumexp(s, 1) - (s * positive).sum(1) / positive.sum(1)).mean().backward()
        optimizer.step()

    def infer():
        with torch.no_grad():
            network(x)

    trained = medians(train)
    network.eval()
    inferred = medians(infer)
    return {"train_s": trained[0], "train_cpu_s": trained[1], "infer_s": inferred[0], "infer_cpu_s": inferred[1]}


def ours(batch, frames, threads):
    binary = os.environ.get("BYTECOVER_TRAIN", "target/release/bc-train")
    sizes = ["--batch", batch, "--frames", frames, "--threads", threads, "--steps", STEPS]
    command = [binary, "bench", "--network", "ring", "--json", *map(str, sizes)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    defaults = [3, 96, 86, 1]
    given = [int(argument) for argument in sys.argv[1:]]
    rounds, batch, frames, threads = given + defaults[len(given):]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    figures = {"ours": [], "PyTorch": []}
    for _ in range(rounds):
        figures["ours"].append(ours(batch, frames, threads))
        figures["PyTorch"].append(pytorch(batch, frames))
        for name, runs in figures.items():
            print(name, {key: round(runs[-1][key], 3) for key in ["train_s", "train_cpu_s", "infer_s", "infer_cpu_s"]})
    for key, what in [("train_cpu_s", "training step"), ("infer_cpu_s", "forward pass")]:
        a, b = (statistics.median(run[key] for run in figures[name]) for name in ["ours", "PyTorch"])
        print(f"{what}: {a:.3f} against {b:.3f} CPU seconds, ratio {b / a:.2f}")


main()
