#!/usr/bin/env python3
"""Asks cuDNN, without a GPU, which algorithms it has for the convolutions of the network on an H100.

    scripts/cuda-toolkit.sh ~/cuda --run && LD_LIBRARY_PATH=~/cuda/lib scripts/cudnn_algorithms.py

For each convolution of ResNet-50-IBN (batch 32 x 215 frames and 128 x 430), each of its three passes, in bf16 and in 32 bits
without tensor cores: is there an algorithm that gives the same bits each time, in a workspace of at most 1 GiB? cuDNN 9 makes
plans for a GPU that is described to it (`PROPERTIES`) and not there. It is asked by its graph interface; crates/bc-cuda calls
its old functions, which are above that and may know fewer. Prints what is missing; exits with 1 if anything is.
"""
import ctypes
import json
import sys

# What cuDNN asks of a GPU, for an H100.
PROPERTIES = {
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "cudaDeviceId": 0, "deviceVer": 900,
    "driverVer": 13000, "isTccDriver": 0, "l2CacheSize": 52428800, "maxCtasPerSM": 32, "maxRegistersPerSM": 65536,
    "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048, "memClockRateKHz": 2619000, "multiProcessorCount": 132, "pciDeviceId": 8967,
    "regsPerBlock": 65536, "reservedSharedMemoryPerBlock": 1024, "smClockRateKHz": 1980000, "supportCoopLaunch": 1,
    "totalGlobalMem": 84929347584, "warpSize": 32, "deviceName": "NVIDIA H100 80GB HBM3",
}
WORKSPACE = 1 << 30
# Of cudnn_graph.h: kinds of descriptors and of attributes, data types, ways to ask.
CONVOLUTION, ENGINE, CONFIG, HEURISTICS, PLAN, GRAPH, TENSOR, DEVICE = 1, 2, 3, 4, 5, 15, 17, 38
DATA_TYPE, INT64, FLOAT, MODE, HEURISTIC, NOTE, DESCRIPTOR, CHAR = 1, 3, 4, 7, 8, 11, 15, 24
OF_C = {INT64: ctypes.c_int64, FLOAT: ctypes.c_float, DESCRIPTOR: ctypes.c_void_p, CHAR: ctypes.c_char}
F32, BF16 = 0, 9
# For each pass: kind of descriptor, attribute of the first scaling factor (then the second one, the convolution, w, x, y).
PASSES = {"forward": (10, 700), "backward data": (12, 706), "backward filter": (11, 712)}
ASK = {"heuristics": 3, "fallback": 2}
TENSOR_CORE, NOT_DETERMINISTIC = 0, 4

cudnn = ctypes.CDLL("libcudnn.so.9")


class Refused(Exception):
    pass


def check(status):
    if status:
        text = ctypes.create_string_buffer(2048)
        cudnn.cudnnGetLastErrorString(text, len(text))
        raise Refused(text.value.decode())


def descriptor(kind, *attributes):
    made = ctypes.c_void_p()
    check(cudnn.cudnnBackendCreateDescriptor(kind, ctypes.byref(made)))
    for name, of, values in attributes:
        array = (OF_C.get(of, ctypes.c_int) * len(values))(*values)
        check(cudnn.cudnnBackendSetAttribute(made, name, of, ctypes.c_int64(len(values)), array))
    if attributes:
        check(cudnn.cudnnBackendFinalize(made))
    return made.value


def attribute(of_descriptor, name, of, most, kind=None):
    values = [descriptor(kind) for _ in range(most)] if kind else [0] * most
    array, count = (OF_C.get(of, ctypes.c_int) * most)(*values), ctypes.c_int64()
    check(cudnn.cudnnBackendGetAttribute(
        ctypes.c_void_p(of_descriptor), name, of, ctypes.c_int64(most), ctypes.byref(count), array))
    return list(array)[:min(count.value, most)]


def graph(name, element, batch, inputs, height, width, outputs, kernel, stride, padding, beta):
    """The graph of one pass of a convolution; all arrays have channels last and begin at 16 bytes."""
    def tensor(number, n, c, h, w):
        return descriptor(TENSOR, (906, INT64, [number]), (901, DATA_TYPE, [element]), (902, INT64, [n, c, h, w]),
                          (903, INT64, [h * w * c, 1, w * c, c]), (900, INT64, [16]))

    out = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
    arrays = [tensor(1, outputs, inputs, kernel, kernel), tensor(2, batch, inputs, height, width), tensor(3, batch, outputs, *out)]
    convolution = descriptor(CONVOLUTION, (100, DATA_TYPE, [F32]), (101, MODE, [1]), (106, INT64, [2]), (102, INT64, [1, 1]),
                             (105, INT64, [padding] * 2), (104, INT64, [padding] * 2), (103, INT64, [stride] * 2))
    kind, first = PASSES[name]
    operation = descriptor(
        kind, *((first + 3 + place, DESCRIPTOR, [array]) for place, array in enumerate(arrays)),
        (first + 2, DESCRIPTOR, [convolution]), (first, FLOAT, [1.0]), (first + 1, FLOAT, [beta]))
    return descriptor(GRAPH, (801, DESCRIPTOR, [operation]))


def algorithms(of_graph, device, exact):
    """How many there are (at most 3 are counted) that may be used."""
    count = 0
    for mode in ASK.values():
        heuristics = descriptor(HEURISTICS, (201, DESCRIPTOR, [of_graph]), (200, HEURISTIC, [mode]), (204, DESCRIPTOR, [device]))
        for config in attribute(heuristics, 202, DESCRIPTOR, 64, CONFIG):
            notes = attribute(attribute(config, 300, DESCRIPTOR, 1, ENGINE)[0], 1303, NOTE, 16)
            if NOT_DETERMINISTIC in notes or (exact and TENSOR_CORE in notes):
                continue
            try:
                plan = descriptor(PLAN, (401, DESCRIPTOR, [config]), (407, DESCRIPTOR, [device]))
            except Refused:
                continue
            count += attribute(plan, 402, INT64, 1)[0] <= WORKSPACE
            if count == 3:
                return count
    return count


def convolutions(batch, frames):
    """(batch, inputs, height, width, outputs, kernel, stride, padding), and whether the gradient of x is added to another's."""
    yield (batch, 1, 84, frames, 64, 7, 2, 3), False
    (height, width), inputs = [((size - 1) // 2) // 2 + 1 for size in (84, frames)], 64
    for planes, blocks, of_stage in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
        for number in range(min(blocks, 2)):
            stride = 1 if number else of_stage
            out = [(size - 1) // stride + 1 for size in (height, width)]
            yield (batch, inputs, height, width, planes, 1, 1, 0), True
            yield (batch, planes, height, width, planes, 3, stride, 1), False
            yield (batch, planes, *out, 4 * planes, 1, 1, 0), False
            if number == 0:
                yield (batch, inputs, height, width, 4 * planes, 1, stride, 0), False
            (height, width), inputs = out, 4 * planes


def main():
    text = json.dumps(PROPERTIES | {"cudnnVersion": cudnn.cudnnGetVersion()}).encode() + b"\0"
    device = descriptor(DEVICE, (2702, CHAR, [bytes([byte]) for byte in text]))
    asked, missing = 0, 0
    for batch, frames in ((32, 215), (128, 430)):
        for sizes, added in convolutions(batch, frames):
            for name in PASSES:
                beta = 1.0 if added and name == "backward data" else 0.0
                for element, called in ((BF16, "bf16"), (F32, "f32")):
                    found = algorithms(graph(name, element, *sizes, beta), device, element == F32)
                    asked, missing = asked + 1, missing + (found == 0)
                    if found == 0:
                        print(f"none: {name} in {called} of {sizes}, beta {beta}")
    print(f"cuDNN {cudnn.cudnnGetVersion()}: {asked} passes asked of, {missing} without an algorithm")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
