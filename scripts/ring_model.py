"""The key-invariant network ("ring") in PyTorch: loads what bc-train writes, `load("best.safetensors")`.

Input: (B, bins, T) magnitudes of a CQT of 12 bins per octave, scaled by `scale` (bins = 84 by default), or
chromagrams of 12 bins. Output: f_t (before the BNNeck), f_c (behind it, what is compared), logits or None.
"""
import json
import struct

import torch
from torch import nn
from torch.nn import functional


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the others (Pan et al. 2018)."""

    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x):
        return torch.cat([self.IN(x[:, : self.half]), self.BN(x[:, self.half :])], 1)


class RingConv(nn.Conv2d):
    """A convolution that goes round the rows; zeros before and behind the columns."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__(inputs, outputs, kernel, stride=(1, stride), bias=False)

    def forward(self, x):
        rows, columns = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        x = functional.pad(x, (0, 0, rows, rows), mode="circular")
        return super().forward(functional.pad(x, (columns, columns)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.norm1 = RingConv(inputs, outputs, (3, 3), stride), IBN(outputs)
        self.conv2, self.norm2 = RingConv(outputs, outputs, (3, 3)), nn.BatchNorm2d(outputs)
        self.pool, self.downsample = None, None
        if inputs != outputs or stride != 1:
            self.pool = nn.AvgPool2d((1, stride), ceil_mode=True)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(self.pool(x))
        return functional.relu(self.norm2(self.conv2(y)) + shortcut)


class GeM(nn.Module):
    """Generalised mean over time with a learned exponent (Radenovic et al. 2018)."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x):
        return x.clamp(min=1e-6).pow(self.p).mean(3).pow(1 / self.p)


class Ring(nn.Module):
    def __init__(self, width=16, blocks=(1, 2, 2, 1), projection=256, classes=0, bins=84):
        super().__init__()
        self.octaves = (bins - 36) // 12 if bins != 12 else 0
        if self.octaves:
            self.stem = nn.Conv2d(1, width, (37, 3), padding=(0, 1), bias=False)
        else:
            self.stem = RingConv(1, width, (11, 3))
        self.stem_norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(2 * width if self.octaves else width, width, 1, bias=False)
        self.mix_norm = nn.BatchNorm2d(width)
        inputs, self.stages = width, []
        for stage, count in enumerate(blocks):
            layers = []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(Block(inputs, width << stage, stride))
                inputs = width << stage
            self.stages.append(f"layer{stage + 1}")
            setattr(self, self.stages[-1], nn.Sequential(*layers))
        self.gem_pool = GeM()
        embedding = projection or 16 * width
        self.projection = nn.Linear(16 * width, projection, bias=False) if projection else None
        self.bn_fc = nn.BatchNorm1d(embedding)
        self.fc = nn.Linear(embedding, classes, bias=False) if classes else None

    def forward(self, x):
        y = functional.relu(self.stem_norm(self.stem(x[:, None])))
        if self.octaves:
            batch, channels, _, frames = y.shape
            y = y.view(batch, channels, self.octaves, 12, frames)
            y = torch.cat([y.amax(2), y.mean(2)], 1)
        y = functional.relu(self.mix_norm(self.mix(y)))
        for stage in self.stages:
            y = getattr(self, stage)(y)
        y = self.gem_pool(y)
        y = torch.cat([y.amax(2), y.mean(2)], 1)
        f_t = y if self.projection is None else self.projection(y)
        f_c = self.bn_fc(f_t)
        return f_t, f_c, None if self.fc is None else self.fc(f_c)


def scale(x):
    """`[model] scale = "log-centred"` of a batch of clips."""
    x = torch.log1p(1000 * x / (x.amax((1, 2), keepdim=True) + 1e-6)) / torch.log(torch.tensor(1001.0))
    return x - x.mean((1, 2), keepdim=True)


def load(path):
    """A network from a checkpoint of bc-train, in evaluation mode."""
    from safetensors.torch import load_file

    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    settings = json.loads(header["__metadata__"]["network"])
    if settings.get("kind") != "ring":
        raise ValueError(f"{path} holds another kind of network")
    sizes = {key: settings[key] for key in ["width", "blocks", "projection", "classes", "bins"]}
    network = Ring(**sizes)
    network.load_state_dict(load_file(path))
    return network.eval()
