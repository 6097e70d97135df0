#!/usr/bin/env python3
"""Checks that exported networks compute the same in onnxruntime and in PyTorch (scripts/model.py) as in bc-eval.

    scripts/check_onnx.py [CHECKPOINT ...]

Checks the networks of the repository (configs/networks) by default. `bc-eval export --onnx` exports each network, and `bc-eval embed --npy`
embeds random input of several lengths: even, odd and short. The f_c of all three are compared: the norm of the difference relative to the
norm of bc-eval's vector is at most 1e-5, for a batch and for each clip alone. Prints one line per check and exits with 1 if a check
fails. Needs numpy, onnxruntime, torch and safetensors, and bc-eval ($BYTECOVER_EVAL, or
target/release/bc-eval).
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

project = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(project / "scripts"))
from model import load

MAX_ERROR = 1e-5
FRAMES = (16, 17, 86, 129, 215)
bc_eval = Path(os.environ.get("BYTECOVER_EVAL", project / "target/release/bc-eval"))
networks = [Path(path) for path in sys.argv[1:]] or sorted((project / "configs/networks").glob("*/network.safetensors"))
failed = False


def report(name, ours, theirs):
    global failed
    error = float((np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(ours, axis=1)).max())
    failed |= not error <= MAX_ERROR
    print(f"{'ok    ' if error <= MAX_ERROR else 'FAILED'} {name}: {error:.1e} (at most {MAX_ERROR:.0e})")


def run(*arguments):
    subprocess.run([bc_eval, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "BYTECOVER_LOG": "error"})


rng = np.random.default_rng(1)
for path in networks:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run("export", "--onnx", "--checkpoint", path, "--out", folder, "--set", f"eval.output={folder / 'none'}")
        session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
        network, header = load(path)
        with_exported, _ = load(folder / "network.safetensors")
        bins = header["network"]["bins"]
        for frames in FRAMES:
            x = rng.random((3, bins, frames), np.float32) ** 4
            np.save(folder / "x.npy", x)
            run("embed", "--checkpoint", path, "--npy", folder / "x.npy", "--out", folder / "y.npy")
            ours = np.load(folder / "y.npy")
            name = f"{path.parent.name}/{path.name}, {frames} frames"
            report(f"{name}: onnxruntime", ours, session.run(["f_c"], {"magnitude": x})[0])
            alone = [session.run(["f_c"], {"magnitude": clip[None]})[0][0] for clip in x]
            report(f"{name}: onnxruntime, clip by clip", ours, np.stack(alone))
            with torch.no_grad():
                report(f"{name}: PyTorch", ours, network(torch.from_numpy(x))[1].numpy())
                report(f"{name}: PyTorch, exported", ours, with_exported(torch.from_numpy(x))[1].numpy())
sys.exit(failed)
