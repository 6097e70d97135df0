// What all kernels share: element types, packs of values, sums over a block.
//
// Plain CUDA C++ that nvrtc compiles without any header, nvcc too, and g++ through HIP-CPU (BC_HIP_CPU): sums go through
// shared memory in a fixed order, there are no warp shuffles, no atomics and no PTX. Every kernel has blocks of BC_BLOCK
// threads. No thread returns before a barrier that others reach.
#ifndef BC_COMMON
#define BC_COMMON

#if defined(BC_HIP_CPU)
#include "emulated.hpp"
#else
// In HIP-CPU this registers a kernel under its name; a CUDA module finds it by itself.
#define BC_ENTRY(name)
#endif

#define BC_BLOCK 256
#define BC_KERNEL extern "C" __global__ void __launch_bounds__(BC_BLOCK)

// The upper 16 bits of a float.
struct bf16 {
    unsigned short bits;
};

union FloatBits {
    float number;
    unsigned int bits;
};

__device__ inline float infinity() {
    FloatBits all;
    all.bits = 0x7f800000u;
    return all.number;
}

__device__ inline float to_float(float x) { return x; }

__device__ inline float to_float(bf16 x) {
    FloatBits all;
    all.bits = (unsigned int)x.bits << 16;
    return all.number;
}

template <typename T>
__device__ inline T from_float(float x);

template <>
__device__ inline float from_float<float>(float x) {
    return x;
}

// Rounds to nearest even; NaN stays NaN.
template <>
__device__ inline bf16 from_float<bf16>(float x) {
    FloatBits all;
    all.number = x;
    bf16 out;
    if ((all.bits & 0x7fffffffu) > 0x7f800000u) {
        out.bits = (unsigned short)((all.bits >> 16) | 0x40u);
    } else {
        out.bits = (unsigned short)((all.bits + 0x7fffu + ((all.bits >> 16) & 1u)) >> 16);
    }
    return out;
}

__device__ inline bool is_number(float x) { return x == x; }

// V values that are read and written at once: 16 bytes, or a single one.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

template <typename T, int V>
__device__ inline void load(float (&values)[V], const T* from) {
    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
    for (int i = 0; i < V; i++) values[i] = to_float(pack.at[i]);
}

template <typename T, int V>
__device__ inline void store(T* to, const float (&values)[V]) {
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; i++) pack.at[i] = from_float<T>(values[i]);
    *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// A block's part of an image (batch, positions, channels): `lanes` packs of channels side by side, BC_BLOCK / lanes
// positions below each other. The grid is (tiles of channels, chunks of positions, batch).
struct Tile {
    int lane, row, rows;
    int channel;      // the first of this thread's pack
    int first, last;  // this thread's positions: first, first + rows, ... below last
    bool inside;      // whether there are such channels
};

template <int V>
__device__ inline Tile tile(int channels, int positions, int lanes) {
    Tile t;
    t.lane = (int)threadIdx.x % lanes;
    t.row = (int)threadIdx.x / lanes;
    t.rows = BC_BLOCK / lanes;
    t.channel = ((int)blockIdx.x * lanes + t.lane) * V;
    const int chunk = (positions + (int)gridDim.y - 1) / (int)gridDim.y;
    const int begin = (int)blockIdx.y * chunk;
    t.first = begin + t.row;
    t.last = begin + chunk < positions ? begin + chunk : positions;
    t.inside = t.channel < channels;
    return t;
}

// Where position p of this block's item begins.
__device__ inline long long at(const Tile& t, int p, int channels, int positions) {
    return ((long long)blockIdx.z * positions + p) * channels + t.channel;
}

// How values of a block are joined.
struct Sum {
    template <typename T>
    static __device__ inline T of(T a, T b) {
        return a + b;
    }
};

struct Most {
    template <typename T>
    static __device__ inline T of(T a, T b) {
        return b > a ? b : a;
    }
};

// The values of a block joined by `Join`, to every thread, in a fixed order.
template <typename Join, typename T>
__device__ inline T block_join(T value) {
    __shared__ T joined[BC_BLOCK];
    const int i = (int)threadIdx.x;
    __syncthreads();
    joined[i] = value;
    __syncthreads();
    for (int step = BC_BLOCK / 2; step > 0; step /= 2) {
        if (i < step) joined[i] = Join::of(joined[i], joined[i + step]);
        __syncthreads();
    }
    return joined[0];
}

template <typename T>
__device__ inline T block_sum(T value) {
    return block_join<Sum>(value);
}

// The sum over the rows of a block of `lanes` x rows threads, to the threads of row 0 (others get parts of it).
template <typename T>
__device__ inline T rows_sum(T value, int lanes) {
    __shared__ T sums[BC_BLOCK];
    const int i = (int)threadIdx.x;
    __syncthreads();
    sums[i] = value;
    __syncthreads();
    for (int step = BC_BLOCK / 2; step >= lanes; step /= 2) {
        if (i < step) sums[i] += sums[i + step];
        __syncthreads();
    }
    return sums[i];
}

// The same for V values of each thread.
template <int V>
__device__ inline void rows_sums(float (&values)[V], int lanes) {
    __shared__ float sums[BC_BLOCK * V];
    const int i = (int)threadIdx.x;
    __syncthreads();
#pragma unroll
    for (int v = 0; v < V; v++) sums[v * BC_BLOCK + i] = values[v];
    __syncthreads();
    for (int step = BC_BLOCK / 2; step >= lanes; step /= 2) {
        if (i < step) {
#pragma unroll
            for (int v = 0; v < V; v++) sums[v * BC_BLOCK + i] += sums[v * BC_BLOCK + i + step];
        }
        __syncthreads();
    }
#pragma unroll
    for (int v = 0; v < V; v++) values[v] = sums[v * BC_BLOCK + i];
}

// For kernels over images: every element type, packs of 16 bytes and single values.
#define BC_FOR_IMAGES(M) M(f32, float, 1) M(f32, float, 4) M(bf16, bf16, 1) M(bf16, bf16, 8)
#define BC_FOR_ELEMENTS(M) M(f32, float) M(bf16, bf16)

#endif
