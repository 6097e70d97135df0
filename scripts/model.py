"""The networks in PyTorch. Loads checkpoints of bc-train, both of ByteCover and of the ring network.

    from model import load
    network, header = load("configs/networks/default/network.safetensors")
    f_t, f_c, logits = network(scale(x, header))

x is (B, bins, frames): CQT magnitudes of hop 512, averaged over header["input"]["pool"] frames. `scale` applies
`[model] scale` to each clip. f_t is taken before the BNNeck, f_c after it; recordings are compared by the cosine of their f_c.
logits is None if there is no classifier. Networks are in evaluation mode. Needs torch and safetensors.
"""
import json
import math
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


class Bottleneck(nn.Module):
    """The block of ByteCover; that of the public re-implementation ("orfium") has biases and a ReLU before the sum as well."""

    def __init__(self, inputs, planes, stride, first, ibn, orfium):
        super().__init__()
        self.orfium = orfium
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=orfium)
        self.ibn = IBN(planes) if ibn else nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=orfium)
        self.batch_norm2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=orfium)
        self.batch_norm3 = nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if first:
            shortcut = nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        y = functional.relu(self.ibn(self.conv1(x)))
        y = functional.relu(self.batch_norm2(self.conv2(y)))
        y = self.batch_norm3(self.conv3(y))
        if self.orfium:
            y = functional.relu(y)
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ByteCover(nn.Module):
    """ResNet-IBN with GeM pooling and a BNNeck (Du et al. 2021, section 3)."""

    def __init__(self, width=64, blocks=(3, 4, 6, 3), projection=0, classes=0, variant="orfium", bins=84):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 7, 2, 3, bias=False)
        self.batch_norm1 = nn.BatchNorm2d(width)
        self.max_pool1 = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, (count, stride) in enumerate(zip(blocks, (1, 2, 2, 1))):
            planes, layers = width << stage, []
            for number in range(count):
                first = number == 0
                layers.append(Bottleneck(inputs, planes, stride if first else 1, first, stage < 3, variant == "orfium"))
                inputs = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.gem_pool = GeM()
        self.projection = nn.Linear(inputs, projection, bias=False) if projection else None
        self.bn_fc = nn.BatchNorm1d(projection or inputs)
        self.fc = nn.Linear(projection or inputs, classes, bias=False) if classes else None

    def forward(self, x):
        x = self.max_pool1(functional.relu(self.batch_norm1(self.conv1(x[:, None]))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = self.gem_pool(x.flatten(2)[:, :, None])[:, :, 0]
        f_t = pooled if self.projection is None else self.projection(pooled)
        f_c = self.bn_fc(f_t)
        return f_t, f_c, None if self.fc is None else self.fc(f_c)


class RingConv(nn.Conv2d):
    """A convolution with circular padding of the rows and zero padding of the columns."""

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


def scale(x, header):
    """Applies `[model] scale` to each clip of a batch."""
    kind = header["input"]["scale"]
    if kind == "none":
        return x
    if kind == "chroma":
        classes = x.unflatten(1, (-1, 12)).sum(1)
        maxima = classes.amax(1, keepdim=True)
        classes = classes / torch.where(maxima > 0, maxima, 1)
        return classes - classes.mean((1, 2), keepdim=True)
    share = x / (x.amax((1, 2), keepdim=True) + 1e-6)
    if kind == "max":
        return share
    share = share.clamp(min=0)
    if kind == "sqrt":
        return share.sqrt()
    steepness = {"log": 100.0, "log-centred": 1000.0}[kind]
    y = torch.log1p(steepness * share) / math.log1p(steepness)
    return y - y.mean((1, 2), keepdim=True) if kind == "log-centred" else y


def load(path):
    """A network in evaluation mode, and the metadata of its file: `network` (sizes) and `input` (how audio becomes its input)."""
    from safetensors.torch import load_file

    with open(path, "rb") as file:
        metadata = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]
    header = {"network": json.loads(metadata["network"]), "input": json.loads(metadata["bytecover.input"])}
    settings = dict(header["network"])
    kind = {"ring": Ring}.get(settings.pop("kind", None), ByteCover)
    network = kind(**settings)
    network.load_state_dict(load_file(path))
    return network.eval(), header
