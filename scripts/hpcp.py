#!/usr/bin/env python3
"""Converts published HPCP features to arrays for `bc-eval embed --npy FOLDER` and cliques for `bc-eval metrics --cliques`.

    scripts/hpcp.py BENCHMARK/data/custom_audio_features BENCHMARK/data/greek_audio_features --out data/hpcp/dev
    bc-eval embed --npy data/hpcp/dev/arrays --out data/hpcp/dev/vectors.npy --checkpoint runs/chroma/best.safetensors
    bc-eval metrics --npy data/hpcp/dev/vectors.npy --cliques data/hpcp/dev/cliques.txt

BENCHMARK is a copy of github.com/petros94/Multimodal-CSI-benchmark: one folder per work with .mat files (key XHPCP), or
`<work>_<version>.npy`; one column of 12 pitch classes every 20,480 / 44,100 s, which is 0.464 s, like a column of a network
at pool 20. Every column is divided by its maximum and the mean of the recording is subtracted, as `[model] scale = "chroma"`
does. A recording shorter than 64 columns is repeated, and one longer than 900 columns is truncated.

Needs numpy and scipy.
"""
import argparse
import pathlib
import sys

import numpy as np

MIN_COLUMNS, MAX_COLUMNS = 64, 900


def frames_by_class(path):
    """columns x 12, and the work of the recording."""
    if path.suffix == ".npy":
        return np.load(path), path.name.rsplit("_", 1)[0]
    import scipy.io

    return scipy.io.loadmat(path)["XHPCP"], f"{path.parent.parent.name}/{path.parent.name}"


def chroma(values):
    """12 x columns as input of the network."""
    values = np.asarray(values, np.float32)
    values = values if values.shape[1] == 12 else values.T
    if len(values) < MIN_COLUMNS:
        values = np.resize(values, (MIN_COLUMNS, 12))
    values = np.nan_to_num(values[:MAX_COLUMNS].T)
    maxima = values.max(0, keepdims=True)
    values = values / np.where(maxima > 0, maxima, 1)
    return np.ascontiguousarray(values - values.mean(), np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    paths = sorted(path for folder in arguments.folder for path in folder.rglob("*") if path.suffix in (".mat", ".npy"))
    if not paths:
        sys.exit("no .mat and no .npy in " + ", ".join(map(str, arguments.folder)))
    arrays = arguments.out / "arrays"
    arrays.mkdir(parents=True, exist_ok=True)
    works = []
    for number, path in enumerate(paths):
        values, work = frames_by_class(path)
        np.save(arrays / f"{number:06}.npy", chroma(values))
        works.append(work)
    (arguments.out / "cliques.txt").write_text("".join(work + "\n" for work in works))
    print(f"{len(works)} recordings of {len(set(works))} works are in {arguments.out}")


if __name__ == "__main__":
    main()
