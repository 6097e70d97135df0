#!/usr/bin/env python3
"""Times only the matrix products of all vectors with all in NumPy: the minimum work of any exact evaluation.

    scripts/bench_eval.sh scripts/products.py 100000 512 2     compares them with bc-eval metrics
"""
import argparse
import time

import numpy as np

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--npy", required=True)
arguments.add_argument("--cliques", help="ignored")
vectors = np.load(arguments.parse_args().npy)
block = np.empty((256, len(vectors)), np.float32)
start = time.perf_counter()
for row in range(0, len(vectors), len(block)):
    part = vectors[row : row + len(block)]
    np.matmul(part, vectors.T, out=block[: len(part)])
print(f"products alone {time.perf_counter() - start:.2f} s")
