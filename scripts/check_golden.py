#!/usr/bin/env python3
"""How near to the true gradients of the golden training step are ours, and PyTorch's own?

    scripts/check_golden.py

The reference of the network (`reference/model` of the shared folder) holds gradients of one
training step that PyTorch computed in 32 bits. Its made-up weights make them
ill-conditioned, so that 32 bits cannot tell them to 1e-3. This script shows by how much: it
repeats the step in PyTorch in 64 bits, and prints for every class of tensors how far from
that are, as relative Euclidean distances of gradients and of their norms,

  ours      this project
  PyTorch   here in 32 bits, with oneDNN
  native    here in 32 bits, without oneDNN (PyTorch's own convolutions)
  stored    what the reference holds (norms of all gradients, seven gradients)

and fails if ours is farther from 64 bits than 1e-3 and than 1.5 times the farthest of
PyTorch's three. Needs torch, numpy and safetensors; BYTECOVER_SHARED is the shared folder
(default ../shared), without which nothing is checked.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

project = Path(__file__).resolve().parent.parent
shared = Path(os.environ.get("BYTECOVER_SHARED", project.parent / "shared"))
reference = shared / "reference/model"
if not (reference / "model_golden.npz").exists() or not (shared / "bench/torch_model.py").exists():
    print(f"skipped: no reference/model or bench/torch_model.py in {shared} (BYTECOVER_SHARED)")
    sys.exit(0)
sys.path.insert(0, str(shared / "bench"))

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch_model import ResNetIbn50

LEAST, TIMES = 1e-3, 1.5

golden = np.load(reference / "model_golden.npz")
stored_norms = json.loads((reference / "train_grad_norms.json").read_text())
weights = torch.load(reference / "orfium_like.pt", map_location="cpu", weights_only=True)
batch = {name: torch.from_numpy(golden[f"train_{name}"]) for name in ("anchor", "positive", "negative", "labels")}


def step(dtype):
    """The loss, and the gradients by name, of the public code's training step."""
    model = ResNetIbn50(weights["fc.weight"].shape[0])
    missing, _ = model.load_state_dict(weights, strict=False)
    assert not missing, missing
    model = model.to(dtype).train()
    outputs = [model(batch[name].to(dtype)) for name in ("anchor", "positive", "negative")]
    loss = nn.TripletMarginLoss(margin=0.3)(*(f_t for f_t, _, _ in outputs))
    loss = loss + nn.CrossEntropyLoss(label_smoothing=0.1)(outputs[0][2], batch["labels"])
    loss.backward()
    return loss.item(), {name: parameter.grad.double() for name, parameter in model.named_parameters()}


def ours():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save_file({name: tensor.contiguous() for name, tensor in batch.items()}, folder / "batch.safetensors")
        example = ["cargo", "run", "--release", "--quiet", "-p", "bc-nn", "--example", "golden_gradients", "--"]
        paths = [reference / "orfium_like.pt", folder / "batch.safetensors", folder / "out.safetensors"]
        subprocess.run([*example, *map(str, paths)], cwd=project, check=True)
        found = load_file(folder / "out.safetensors")
    return found.pop("loss").item(), {name: gradient.double() for name, gradient in found.items()}


truth_loss, truth = step(torch.float64)
sides = {"ours": ours(), "PyTorch": step(torch.float32)}
with torch.backends.mkldnn.flags(enabled=False):
    sides["native"] = step(torch.float32)
for name, (loss, _) in sides.items():
    print(f"loss, {name}: {loss:.7f}, relative to 64 bits {abs(loss / truth_loss - 1):.1e}")


def kind(name):
    """The class of a tensor: its layer and its kind."""
    place = name.split(".")[0]
    what = "downsample" if "downsample" in name else "convolution" if "conv" in name else "norm"
    return f"{place}, {what}s" if place.startswith("layer") else name


columns = ["ours", "PyTorch", "native", "stored"]
distance, norms = {}, {}
for name, true in truth.items():
    if true.norm() < 1e-8:
        continue  # In front of a normalisation: no gradient but rounding.
    found = {side: gradients[name] for side, (_, gradients) in sides.items()}
    far = {side: float((gradient - true).norm() / true.norm()) for side, gradient in found.items()}
    if (key := f"grad_{name}") in golden:
        stored = torch.from_numpy(golden[key]).double().flatten()
        part = true.flatten()[: stored.numel()]
        far["stored"] = float((stored - part).norm() / part.norm())
    distance.setdefault(kind(name), []).append(far)
    lengths = {side: float(gradient.norm()) for side, gradient in found.items()} | {"stored": stored_norms[name]}
    norms.setdefault(kind(name), []).append({s: abs(n / float(true.norm()) - 1) for s, n in lengths.items()})

failed = False
for title, table in (("gradients", distance), ("norms of gradients", norms)):
    print(f"\n{title}: largest relative distance from 64 bits\n{'':28}" + "".join(f"{c:>10}" for c in columns))
    table["all"] = [row for rows in table.values() for row in rows]
    for key, rows in table.items():
        worst = {c: max((row[c] for row in rows if c in row), default=None) for c in columns}
        print(f"{key:28}" + "".join(f"{'' if v is None else f'{v:.1e}':>10}" for v in worst.values()))
    for statistic, of in (("median of all", np.median), ("mean of all", np.mean)):
        found = {c: [row[c] for row in table["all"] if c in row] for c in columns}
        print(f"{statistic:28}" + "".join(f"{of(found[c]):10.1e}" for c in columns))
    most = {c: max(row[c] for row in table["all"] if c in row) for c in columns}
    limit = max(LEAST, TIMES * max(most["PyTorch"], most["native"], most["stored"]))
    failed |= not most["ours"] <= limit
    print(f"{'ok    ' if most['ours'] <= limit else 'FAILED'} ours at most {most['ours']:.1e} (limit {limit:.1e})")
sys.exit(failed)
