// Value by value: conversions, sums, and weights between PyTorch's order and that of the convolutions.
#include "common.cuh"

__device__ inline int flat(void) { return (int)blockIdx.x * BC_BLOCK + (int)threadIdx.x; }
__device__ inline int stride(void) { return (int)gridDim.x * BC_BLOCK; }

#define CONVERT(E, T)                                                              \
    BC_KERNEL to_##E(const float* x, T* y, int count) {                            \
        for (long long i = flat(); i < count; i += stride()) y[i] = from_float<T>(x[i]);  \
    }                                                                              \
    BC_ENTRY(to_##E)                                                               \
    BC_KERNEL from_##E(const T* x, float* y, int count) {                          \
        for (long long i = flat(); i < count; i += stride()) y[i] = to_float(x[i]);       \
    }                                                                              \
    BC_ENTRY(from_##E)                                                             \
    BC_KERNEL add_##E(T* to, const T* x, int count) {                              \
        for (long long i = flat(); i < count; i += stride()) {                     \
            to[i] = from_float<T>(to_float(to[i]) + to_float(x[i]));               \
        }                                                                          \
    }                                                                              \
    BC_ENTRY(add_##E)
BC_FOR_ELEMENTS(CONVERT)

// to[i] = parts[i] + parts[count + i] + ..., `number` of them in this order, by way of 64 bits.
BC_KERNEL sum_in_order(const float* parts, float* to, int count, int number) {
    for (long long i = flat(); i < count; i += stride()) {
        double sum = (double)parts[i];
        for (int part = 1; part < number; part++) sum += (double)parts[(long long)part * count + i];
        to[i] = (float)sum;
    }
}
BC_ENTRY(sum_in_order)

// A range of one weight's values: whole outputs of inputs * taps values each, from `start` of the flat buffer on.
struct Run {
    int start, count, inputs, taps;
};

// Weights from PyTorch's (outputs, inputs, taps) to (outputs, taps, inputs), a run to a block. Both orders begin at the
// same place of their buffers.
#define WEIGHTS(E, T)                                                                                     \
    BC_KERNEL weights_to_##E(const float* masters, T* copies, const int* runs) {                          \
        const Run run = reinterpret_cast<const Run*>(runs)[blockIdx.x];                                   \
        const int row = run.inputs * run.taps;                                                            \
        for (int i = (int)threadIdx.x; i < run.count; i += BC_BLOCK) {                                    \
            const int output = i / row, tap = i % row / run.inputs, input = i % run.inputs;               \
            const long long from = (long long)run.start + output * row + input * run.taps + tap;          \
            copies[(long long)run.start + i] = from_float<T>(masters[from]);                              \
        }                                                                                                 \
    }                                                                                                     \
    BC_ENTRY(weights_to_##E)                                                                              \
    /* The way back, of one weight's gradient, added to what is there. */                                 \
    BC_KERNEL weights_from_##E(const T* gradient, float* flat_gradient, int inputs, int taps, int count) { \
        for (long long i = flat(); i < count; i += stride()) {                                            \
            const int row = inputs * taps, output = (int)(i / row), rest = (int)(i % row);                \
            const int input = rest / taps, tap = rest % taps;                                             \
            flat_gradient[i] += to_float(gradient[(long long)output * row + tap * inputs + input]);       \
        }                                                                                                 \
    }                                                                                                     \
    BC_ENTRY(weights_from_##E)
BC_FOR_ELEMENTS(WEIGHTS)
