#!/usr/bin/env python3
"""Writes crates/bc-align/tests/fixtures: two made-up chromas, and their results by an independent program.

    scripts/make_align_fixture.py

The chromas (12 x columns of 1024 samples at 22,050 Hz) are smoothed noise; the second one holds a part of the first,
transposed, slower and with noise of its own. The numbers come from $BYTECOVER_SHARED/covers/baseline_2dfm.py (default
../shared): the 2-D Fourier magnitude of both, and Qmax both ways. Needs numpy, numba and librosa.
"""
import json
import os
import sys
from pathlib import Path

import numpy as np

project = Path(__file__).resolve().parent.parent
shared = Path(os.environ.get("BYTECOVER_SHARED", project.parent / "shared"))
sys.path.insert(0, str(shared / "covers"))
sys.dont_write_bytecode = True
import numba

compiled = numba.njit
numba.njit = lambda **options: compiled(**{**options, "cache": False})  # which would be written beside the source
import baseline_2dfm as baseline
numba.njit = compiled

folder = project / "crates/bc-align/tests/fixtures"
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(7)


def music(columns):
    """Pitch classes that come and go over about a second."""
    noise = rng.random((12, columns + 40)) ** 3
    kernel = np.hanning(40)
    return np.stack([np.convolve(row, kernel / kernel.sum(), "valid")[:columns] for row in noise]) ** 4


a = music(900)
slower = np.stack([np.interp(np.arange(0, 500, 0.87), np.arange(500), row[200:700]) for row in a])
b = np.roll(np.concatenate([music(120), slower, music(60)], axis=1), 5, axis=0)
b += 0.02 * rng.random(b.shape) * b.max()
a, b = (np.ascontiguousarray(x, np.float32) for x in (a, b))
halves = [baseline.pool(x, 0.5) for x in (a, b)]
for name, x in (("a", a), ("b", b)):
    np.save(folder / f"{name}.npy", x)
    np.save(folder / f"two_dfm_{name}.npy", baseline.two_dfm(x, 0.3).astype(np.float32)[None])
scores = {"qmax_ab": float(baseline.qmax_score(*halves)), "qmax_ba": float(baseline.qmax_score(*halves[::-1]))}
(folder / "qmax.json").write_text(json.dumps(scores, indent=1) + "\n")
print(a.shape, b.shape, scores)
