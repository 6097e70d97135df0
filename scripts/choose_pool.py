#!/usr/bin/env python3
"""Measures how much accuracy the time-stretch of training loses if pooled frames are stored.

scripts/choose_pool.py X.npy...      arrays of `bc-features cqt --pool 1`

For each pool: megabytes per hour (16-bit), and the relative L2 error of stretching pooled frames
and then pooling to 20, compared with stretching hop-512 frames and then pooling to 20.
"""
import sys

import numpy as np


def pooled(frames, pool):
    count = frames.shape[1] // pool * pool
    return frames[:, :count].reshape(frames.shape[0], -1, pool).mean(2)


def stretched(frames, factor):
    count = int(frames.shape[1] / factor)
    positions = np.clip((np.arange(count) + 0.5) * factor - 0.5, 0, frames.shape[1] - 1)
    left = np.minimum(positions.astype(int), frames.shape[1] - 2)
    fraction = (positions - left).astype(np.float32)
    return frames[:, left] * (1 - fraction) + frames[:, left + 1] * fraction


arrays = [np.load(path) for path in sys.argv[1:]]
factors = (0.7, 0.9, 1.1, 1.4)
print("| pool | MB per hour | " + " | ".join(f"stretch {factor}" for factor in factors) + " |")
print("|---" * (2 + len(factors)) + "|")
for pool in (1, 2, 4, 5, 10, 20):
    size = 3600 * 22050 / 512 / pool * 84 * 2 / 1e6
    errors = []
    for factor in factors:
        squared_error = squared_norm = 0.0
        for array in arrays:
            fine = pooled(stretched(array, factor), 20)
            coarse = pooled(stretched(pooled(array, pool), factor), 20 // pool)
            count = min(fine.shape[1], coarse.shape[1])
            squared_error += ((fine[:, :count] - coarse[:, :count]) ** 2).sum()
            squared_norm += (fine[:, :count] ** 2).sum()
        errors.append(f"{100 * (squared_error / squared_norm) ** 0.5:.2f} %")
    print(f"| {pool} | {size:.1f} | " + " | ".join(errors) + " |")
