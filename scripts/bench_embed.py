#!/usr/bin/env python3
"""Times `bc-eval embed` and PyTorch's forward pass, on the whole ResNet-IBN-50.

    scripts/bench_embed.py [rounds=5] [tracks=288] [frames=215] [threads=2]

Both get the same weights (drawn here, saved as .pt, which bc-eval reads) and the same tracks
(tracks x 84 x frames). Ours is the whole process: start, weights, array, embeddings, file.
PyTorch's is the forward pass alone, without a graph, in batches of 8. Prints every round,
medians, the ratio, and the relative error of the embeddings; fails below 1.2 or above 1e-4.
Needs torch and numpy; the model is found in $BYTECOVER_SHARED/bench/torch_model.py (default
../shared), or nothing is timed. $BYTECOVER_EVAL is the binary.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

project = Path(__file__).resolve().parent.parent
shared = Path(os.environ.get("BYTECOVER_SHARED", project.parent / "shared"))
if not (shared / "bench/torch_model.py").exists():
    print(f"skipped: no bench/torch_model.py in {shared} (BYTECOVER_SHARED)")
    sys.exit(0)
sys.path.insert(0, str(shared / "bench"))

import numpy as np
import torch
from torch_model import ResNetIbn50

rounds, tracks, frames, threads = [*map(int, sys.argv[1:]), *(5, 288, 215, 2)[len(sys.argv) - 1 :]]
binary = os.environ.get("BYTECOVER_EVAL", str(project / "target/release/bc-eval"))
torch.set_num_threads(threads)
torch.manual_seed(0)
model = ResNetIbn50(100).eval()
x = torch.rand(tracks, 84, frames)


def pytorch():
    with torch.no_grad():
        return torch.cat([model(part)[1] for part in x.split(8)])


with tempfile.TemporaryDirectory() as folder:
    weights, array, out = (os.path.join(folder, name) for name in ("network.pt", "x.npy", "y.npy"))
    torch.save(model.state_dict(), weights)
    np.save(array, x.numpy())
    command = [binary, "embed", "--checkpoint", weights, "--npy", array, "--out", out, "--threads", str(threads)]
    pytorch()
    ours, theirs = [], []
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        reference = pytorch()
        theirs.append(time.perf_counter() - start)
        print(f"round {number}: bc-eval embed {ours[-1]:.2f} s, PyTorch's forward {theirs[-1]:.2f} s", flush=True)
    relative_error = float((torch.from_numpy(np.load(out)) - reference).norm() / reference.norm())

ratio = statistics.median(theirs) / statistics.median(ours)
print(
    f"{tracks} tracks of {frames} columns: {tracks / statistics.median(ours):.1f} tracks/s against"
    f" {tracks / statistics.median(theirs):.1f}, {ratio:.2f} times PyTorch (at least 1.2); embeddings differ by {relative_error:.1e}"
)
sys.exit(ratio < 1.2 or not relative_error <= 1e-4)
