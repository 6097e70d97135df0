#!/usr/bin/env python3
"""Shows that a checkpoint of ours loads in PyTorch and means the same there.

    scripts/check_pytorch.py

Lets the example `export_for_pytorch` write a network and what it computes, loads the
checkpoint into the plain PyTorch model with load_state_dict(strict=True), and compares
embeddings and logits in evaluation (relative 1e-5), the loss of a training pass (1e-5) and
the gradient of every parameter against PyTorch in 64 bits: relative 1e-3, or twice what
PyTorch itself in 32 bits is off by, for the usual depth and for one bottleneck a stage.
(Rounding that carries a value across a ReLU's zero changes a gradient by more than 1e-3, in
PyTorch as here.) Prints a line a check; exits with 1 if one fails. Needs torch and
safetensors; the model is found in $BYTECOVER_SHARED/bench/torch_model.py (default
../shared), or nothing is checked.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

project = Path(__file__).resolve().parent.parent
shared = Path(os.environ.get("BYTECOVER_SHARED", project.parent / "shared"))
if not (shared / "bench/torch_model.py").exists():
    print(f"skipped: no bench/torch_model.py in {shared} (BYTECOVER_SHARED)")
    sys.exit(0)
sys.path.insert(0, str(shared / "bench"))

import torch
from safetensors.torch import load_file
from torch import nn
from torch_model import ResNetIbn50

# Largest relative differences (Euclidean norms of tensors).
EMBEDDINGS, LOSS, GRADIENTS = 1e-5, 1e-5, 1e-3
# A bias before a normalisation has no gradient; PyTorch shows rounding there.
NOTHING = 1e-8

failed = False


def report(name, found, most):
    global failed
    failed |= not found <= most
    print(f"{'ok    ' if found <= most else 'FAILED'} {name}: {found:.1e} (at most {most:.0e})")


def relative(ours, theirs):
    theirs = theirs.double()
    return float((ours.double() - theirs).norm() / theirs.norm())


def train(model, x, labels):
    """The loss, and the gradients by name."""
    f_t, _, logits = model(x)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels)
    loss = loss + nn.TripletMarginLoss(margin=0.3)(*f_t.chunk(3))
    model.zero_grad()
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def check(depth, folder):
    weights, computed = (load_file(folder / f"{name}.safetensors") for name in ("network", "computed"))
    model = ResNetIbn50(weights["fc.weight"].shape[0])
    for stage in range(1, 5):
        layer = getattr(model, f"layer{stage}")
        blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith(f"layer{stage}."))
        setattr(model, f"layer{stage}", layer[:blocks])
    print(f"ok     {depth}: load_state_dict(strict=True): {model.load_state_dict(weights, strict=True)}")

    model.eval()
    with torch.no_grad():
        for name, theirs in zip(("f_t", "f_c", "logits"), model(computed["x"])):
            report(f"{depth}: {name} in evaluation", relative(computed[name], theirs), EMBEDDINGS)

    labels = computed["labels"].long()
    _, in_32_bits = train(model.train(), computed["x"], labels)
    loss, in_64_bits = train(model.double(), computed["x"].double(), labels)
    report(f"{depth}: loss in training", abs(float(computed["loss"]) / loss - 1), LOSS)
    worst = {}
    for name, theirs in in_64_bits.items():
        ours, also = computed[f"gradient.{name}"], in_32_bits[name]
        if theirs.norm() < NOTHING:
            key, found = "gradients that are none (their size)", (float(ours.norm()), float(also.norm()))
        else:
            key, found = f"gradients of {name.split('.')[0]}", (relative(ours, theirs), relative(also, theirs))
        worst[key] = tuple(map(max, worst.get(key, (0.0, 0.0)), found))
    for key, (ours, theirs) in worst.items():
        report(f"{depth}: {key} (PyTorch's 32 bits: {theirs:.1e})", ours, max(GRADIENTS, 2 * theirs))


with tempfile.TemporaryDirectory() as folder:
    example = ["cargo", "run", "--release", "--quiet", "-p", "bc-nn", "--example", "export_for_pytorch", "--", folder]
    subprocess.run(example, cwd=project, check=True)
    for depth in ("deep", "shallow"):
        check(depth, Path(folder) / depth)
sys.exit(failed)
