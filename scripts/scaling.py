#!/usr/bin/env python3
"""Computes what data-parallel training would cost on GPUs: the tables of docs/PERFORMANCE.md, "Several ranks".

    python3 scripts/scaling.py

Nothing here is measured: bytes are counted from the networks, bandwidths and peaks are published, and the rest is assumed.

- H100 SXM, dense: 67 TFLOP/s in 32 bits, 495 in TF32, 989 in bf16; NVLink 900 GB/s, so 450 in each direction (NVIDIA, "H100
  Tensor Core GPU Datasheet"). All-reduce over eight of them is reported at a bus bandwidth of 460-480 GB/s by nccl-tests, which
  uses the switch's own sums; 80 % of 450 is assumed here.
- A sum over n ranks in a ring moves 2 (n - 1) / n times its bytes through each link (nccl-tests, doc/PERFORMANCE.md).
  Over nodes of eight, NVLink first brings each GPU the node's sum of its eighth, so that the node's link carries the bytes once.
- Small messages wait for each other: the latency of each is assumed (MACHINES).
"""

TERA = 1e12
# Name: operations in a second, share of them that a step reaches, bytes of a gradient's value.
KINDS = {
    # As much of the peak as here on the CPU (floor 0.27 s, measured 0.402 s).
    "32 bits": (67 * TERA, 0.67, 4),
    "TF32": (495 * TERA, 0.3, 4),
    "bf16": (989 * TERA, 0.3, 2),
}
NVLINK, NODE_LINK = 0.8 * 450e9, 0.9 * 25e9
# Ranks, nodes, seconds for a small message.
MACHINES = {
    "1 H100": (1, 1, 0.0), "2 H100, NVLink": (2, 1, 10e-6), "8 H100, NVLink": (8, 1, 15e-6), "2 x 8 over 200 Gb/s": (16, 2, 30e-6),
}
# Parameters, norms, their channels, operations of a step for a crop, crops for each GPU, values of f_t.
NETWORKS = {
    "ByteCover, 8,858 classes, 100 crops of 150 s for each GPU": (41.6e6, 54, 27_488, 15e9, 100, 2048),
    "the compact network (width 16), 96 crops for each GPU": (0.47e6, 18, 931, 0.555e9, 96, 256),
}
# The backward pass as a share of a step: the time in which gradients can be summed at no cost.
BACKWARD = 2 / 3


def ring_allreduce_s(size, ranks, bandwidth):
    return 2 * (ranks - 1) / ranks * size / bandwidth


def all_reduce(size, ranks, nodes):
    within = ring_allreduce_s(size, ranks // nodes, NVLINK)
    return within + (ring_allreduce_s(size, nodes, NODE_LINK) if nodes > 1 else 0.0)


def milliseconds(seconds):
    value = 1e3 * seconds
    return "0" if value == 0 else f"{value:.0f} ms" if value >= 20 else f"{value:.1f} ms" if value >= 0.1 else f"{value:.2f} ms"


def main():
    for name, (parameters, norms, channels, operations, crops, embedding) in NETWORKS.items():
        print(f"\n{name}: in a step {4 * parameters / 1e6:.1f} MB of gradients in 32 bits, {2 * parameters / 1e6:.1f} in bf16; "
              f"moments of {norms} norms, there and back, 2 x {4 * 4 * channels / 1e6:.2f} MB; f_t {4 * crops * embedding / 1e6:.1f} MB\n")
        print("| | compute | sum of gradients | of which not hidden | norms | step | efficiency |")
        print("|---|---|---|---|---|---|---|")
        for kind, (peak, share, width) in KINDS.items():
            compute = crops * operations / (share * peak)
            for machine, (ranks, nodes, latency) in MACHINES.items():
                if ranks == 1:
                    print(f"| {kind}, {machine} | {milliseconds(compute)} | | | | {milliseconds(compute)} | |")
                    continue
                gradients = all_reduce(parameters * width, ranks, nodes)
                exposed = max(0.0, gradients - BACKWARD * compute)
                # Two exchanges for each norm: moments forward, sums of gradients backward.
                waits = 2 * norms * latency
                step = compute + exposed + waits
                cells = [compute, gradients, exposed, waits, step]
                print(f"| {machine} | " + " | ".join(map(milliseconds, cells)) + f" | {100 * compute / step:.0f} % |")


if __name__ == "__main__":
    main()
