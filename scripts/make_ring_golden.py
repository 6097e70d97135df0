#!/usr/bin/env python3
"""Writes what PyTorch computes with the key-invariant network and with the losses over pairs, for bc-nn's tests.

    scripts/make_ring_golden.py crates/bc-nn/tests/fixtures

Needs torch and safetensors. In 64 bits, stored in 32: what differs from it is the other side's rounding.
"""
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from model import Ring, scale  # noqa: E402


def supervised_contrastive(x, labels, temperature=0.1):
    z = functional.normalize(x, dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool)
    s = (z @ z.T / temperature).masked_fill(itself, -math.inf)
    positive = (labels[:, None] == labels[None]) & ~itself
    log = (s - torch.logsumexp(s, 1, keepdim=True)).masked_fill(~positive, 0.0)
    count = positive.sum(1)
    return -(log.sum(1)[count > 0] / count[count > 0]).mean()


def alignment_uniformity(x, labels):
    d = ((x[:, None] - x[None]) ** 2).mean(2)
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool)
    return d[positive].mean() + torch.exp(-5 * d[~same]).mean().log()


def cosine_softmax(x, weight, labels, scale=30):
    cosines = functional.normalize(x, dim=1) @ functional.normalize(weight, dim=1).T
    return functional.cross_entropy(scale * cosines, labels, label_smoothing=0.1)


def random_weights(network):
    for name, value in network.named_parameters():
        if value.dim() == 1 and name.endswith("weight"):
            value.data.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            value.data.uniform_(-0.3, 0.3)
        elif name == "gem_pool.p":
            value.data.fill_(2.7)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)


def network_case(sizes, frames):
    network = Ring(**sizes).double()
    random_weights(network)
    out = {f"weights.{name}": value.clone() for name, value in network.state_dict().items() if value.dim() > 0}
    batch = 6
    labels = torch.arange(batch) // 2
    x = scale(torch.rand(batch, sizes["bins"], frames).double() ** 4, {"input": {"scale": "log-centred"}})
    network.eval()
    with torch.no_grad():
        for name, value in zip(["f_t", "f_c", "logits"], network(x)):
            out[f"evaluated.{name}"] = value
    network.train()
    f_t, f_c, logits = network(x)
    loss = supervised_contrastive(f_c, labels) + functional.cross_entropy(logits, labels, label_smoothing=0.1)
    loss = loss + functional.triplet_margin_loss(f_t[:2], f_t[2:4], f_t[4:], margin=0.3)
    loss.backward()
    out |= {"x": x, "trained.f_t": f_t, "trained.f_c": f_c, "trained.logits": logits, "loss": loss}
    for name, value in network.named_parameters():
        out[f"gradient.{name}"] = value.grad
    for name, value in network.named_buffers():
        if value.dim() > 0:
            out[f"after.{name}"] = value
    return out


def losses():
    x = torch.randn(9, 5).double()
    # One work has a single version.
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0])
    out = {"x": x, "labels": labels.double()}
    for name, loss in [("contrastive", supervised_contrastive), ("alignment", alignment_uniformity)]:
        leaf = x.clone().requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        out |= {name: value, f"gradient.{name}": leaf.grad}
    # A class that no row has, and weights far from unit length.
    weight = 3 * torch.randn(5, 5).double()
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    value = cosine_softmax(*leaves, labels)
    value.backward()
    of_x, of_weight = (leaf.grad for leaf in leaves)
    out |= {"weight": weight, "cosine": value, "gradient.cosine": of_x, "gradient.cosine.weight": of_weight}
    return out


def main():
    folder = Path(sys.argv[1])
    torch.manual_seed(5)
    cases = {
        "ring": network_case({"width": 4, "blocks": [1, 2, 1, 1], "projection": 10, "classes": 3, "bins": 84}, 23),
        "ring_chroma": network_case({"width": 2, "blocks": [1, 1, 1, 1], "projection": 0, "classes": 3, "bins": 12}, 21),
        "pair_losses": losses(),
    }
    for name, tensors in cases.items():
        stored = {key: value.detach().float().contiguous() for key, value in tensors.items()}
        save_file(stored, folder / f"{name}.safetensors")


main()
