// Pooling: 3x3 maxima, the generalised mean (Radenović et al. 2018), maxima and means over groups of rows, means over time.
// Also padding, for convolutions whose padding cuDNN does not know.
#include "common.cuh"

// A thread's pack of channels at one position of an image of packs: (batch, height, width, packs).
struct PackPosition {
    int item, row, column, channel;
    bool inside;
};

template <int V>
__device__ inline PackPosition place(int batch, int height, int width, int channels) {
    // The host allows no tensor of 2^31 values, so 32-bit divisions suffice, which are several times cheaper.
    const unsigned int number = (unsigned int)blockIdx.x * BC_BLOCK + (unsigned int)threadIdx.x;
    const unsigned int packs = (unsigned int)(channels / V), columns = (unsigned int)width, rows = (unsigned int)height;
    const unsigned int position = number / packs, line = position / columns;
    PackPosition at;
    at.inside = number < (unsigned int)batch * rows * columns * packs;
    at.channel = (int)(number % packs) * V;
    at.column = (int)(position % columns);
    at.row = (int)(line % rows);
    at.item = (int)(line / rows);
    return at;
}

__device__ inline long long index_of(int item, int row, int column, int height, int width, int channels) {
    return (((long long)item * height + row) * width + column) * channels;
}

// Kernel 3, stride 2, padding 1. taps says which of the nine was greatest: of equal ones the first, of several NaN the
// last.
template <typename T, int V>
__device__ void max_pool(const T* x, T* y, unsigned char* taps, int batch, int height, int width, int channels) {
    const int out_height = (height - 1) / 2 + 1, out_width = (width - 1) / 2 + 1;
    const PackPosition at = place<V>(batch, out_height, out_width, channels);
    if (!at.inside) return;
    float best[V];
    Pack<unsigned char, V> tap;
#pragma unroll
    for (int v = 0; v < V; v++) best[v] = -infinity(), tap.at[v] = 4;
    for (int k = 0; k < 9; k++) {
        const int row = 2 * at.row + k / 3 - 1, column = 2 * at.column + k % 3 - 1;
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        float value[V];
        load<T, V>(value, x + index_of(at.item, row, column, height, width, channels) + at.channel);
#pragma unroll
        for (int v = 0; v < V; v++) {
            if (value[v] > best[v] || !is_number(value[v])) best[v] = value[v], tap.at[v] = (unsigned char)k;
        }
    }
    const long long to = index_of(at.item, at.row, at.column, out_height, out_width, channels) + at.channel;
    store<T, V>(y + to, best);
    *reinterpret_cast<Pack<unsigned char, V>*>(taps + to) = tap;
}

#define MAX_POOL(E, T, V)                                                                                         \
    BC_KERNEL max_pool_##E##_v##V(const T* x, T* y, unsigned char* taps, int batch, int height, int width,        \
                                  int channels) {                                                                 \
        max_pool<T, V>(x, y, taps, batch, height, width, channels);                                               \
    }                                                                                                             \
    BC_ENTRY(max_pool_##E##_v##V)
BC_FOR_IMAGES(MAX_POOL)

// Each input gathers from the up to four windows that it is in.
template <typename T, int V>
__device__ void max_pool_gradient(const T* dy, const unsigned char* taps, T* dx, int batch, int height, int width,
                                  int channels) {
    const int out_height = (height - 1) / 2 + 1, out_width = (width - 1) / 2 + 1;
    const PackPosition at = place<V>(batch, height, width, channels);
    if (!at.inside) return;
    float sum[V] = {};
    // Window r has the rows 2 r - 1 to 2 r + 1.
    for (int row = at.row / 2; row <= (at.row + 1) / 2 && row < out_height; row++) {
        for (int column = at.column / 2; column <= (at.column + 1) / 2 && column < out_width; column++) {
            const int tap = (at.row - 2 * row + 1) * 3 + at.column - 2 * column + 1;
            const long long from = index_of(at.item, row, column, out_height, out_width, channels) + at.channel;
            const Pack<unsigned char, V> found = *reinterpret_cast<const Pack<unsigned char, V>*>(taps + from);
            float gradient[V];
            load<T, V>(gradient, dy + from);
#pragma unroll
            for (int v = 0; v < V; v++) sum[v] += found.at[v] == tap ? gradient[v] : 0.0f;
        }
    }
    store<T, V>(dx + index_of(at.item, at.row, at.column, height, width, channels) + at.channel, sum);
}

#define MAX_POOL_GRADIENT(E, T, V)                                                                                \
    BC_KERNEL max_pool_gradient_##E##_v##V(const T* dy, const unsigned char* taps, T* dx, int batch, int height,  \
                                           int width, int channels) {                                             \
        max_pool_gradient<T, V>(dy, taps, dx, batch, height, width, channels);                                    \
    }                                                                                                             \
    BC_ENTRY(max_pool_gradient_##E##_v##V)
BC_FOR_IMAGES(MAX_POOL_GRADIENT)

#define GEM_FLOOR 1e-6f

__device__ inline float power(float x, float p) { return p == 3.0f ? x * x * x : powf(x, p); }

// y[item * channels + channel] = (mean over positions of max(x, floor)^p)^(1/p). The grid is (tiles, 1, batch).
template <typename T, int V>
__device__ void gem(const T* x, float* y, const float* exponent, int channels, int positions, int lanes) {
    const Tile t = tile<V>(channels, positions, lanes);
    const float p = exponent[0];
    float sum[V] = {};
    if (t.inside) {
        for (int position = t.first; position < t.last; position += t.rows) {
            float value[V];
            load<T, V>(value, x + at(t, position, channels, positions));
#pragma unroll
            for (int v = 0; v < V; v++) sum[v] += power(value[v] < GEM_FLOOR ? GEM_FLOOR : value[v], p);
        }
    }
    rows_sums<V>(sum, lanes);
    if (t.row == 0 && t.inside) {
        float* to = y + (long long)blockIdx.z * channels + t.channel;
        for (int v = 0; v < V; v++) to[v] = powf(sum[v] / (float)positions, 1.0f / p);
    }
}

#define GEM(E, T, V)                                                                                              \
    BC_KERNEL gem_##E##_v##V(const T* x, float* y, const float* exponent, int channels, int positions,            \
                             int lanes) {                                                                         \
        gem<T, V>(x, y, exponent, channels, positions, lanes);                                                    \
    }                                                                                                             \
    BC_ENTRY(gem_##E##_v##V)
BC_FOR_IMAGES(GEM)

// With m the mean of x^p: dx = dy y^(1-p) x^(p-1) / n (zero below the floor), and the exponent's gradient is the sum of
// dy y (mean(x^p ln x) / (p m) - ln y / p); one part of it for each block.
template <typename T, int V>
__device__ void gem_gradient(const T* x, const float* y, const float* dy, const float* exponent, T* dx, float* parts,
                             int channels, int positions, int lanes) {
    const Tile t = tile<V>(channels, positions, lanes);
    const float p = exponent[0];
    float factor[V] = {}, logs[V] = {};
    if (t.inside) {
        const long long row = (long long)blockIdx.z * channels + t.channel;
#pragma unroll
        for (int v = 0; v < V; v++) factor[v] = dy[row + v] * powf(y[row + v], 1.0f - p) / (float)positions;
        for (int position = t.first; position < t.last; position += t.rows) {
            const long long from = at(t, position, channels, positions);
            float value[V], gradient[V];
            load<T, V>(value, x + from);
#pragma unroll
            for (int v = 0; v < V; v++) {
                const float above = value[v] < GEM_FLOOR ? GEM_FLOOR : value[v];
                const float slope = p == 3.0f ? above * above : powf(above, p - 1.0f);
                gradient[v] = value[v] < GEM_FLOOR ? 0.0f : factor[v] * slope;
                logs[v] += slope * above * logf(above);
            }
            store<T, V>(dx + from, gradient);
        }
    }
    rows_sums<V>(logs, lanes);
    float part = 0.0f;
    if (t.row == 0 && t.inside) {
        for (int v = 0; v < V; v++) {
            const long long row = (long long)blockIdx.z * channels + t.channel + v;
            const float result = y[row], mean_log = logs[v] / (float)positions;
            part += dy[row] * result * (mean_log / (p * powf(result, p)) - logf(result) / p);
        }
    }
    const float of_block = block_sum(part);
    if (threadIdx.x == 0) parts[blockIdx.z * gridDim.x + blockIdx.x] = of_block;
}

#define GEM_GRADIENT(E, T, V)                                                                                     \
    BC_KERNEL gem_gradient_##E##_v##V(const T* x, const float* y, const float* dy, const float* exponent, T* dx,  \
                                      float* parts, int channels, int positions, int lanes) {                     \
        gem_gradient<T, V>(x, y, dy, exponent, dx, parts, channels, positions, lanes);                            \
    }                                                                                                             \
    BC_ENTRY(gem_gradient_##E##_v##V)
BC_FOR_IMAGES(GEM_GRADIENT)

// (batch, groups * height, width, channels) to (batch, height, width, 2 channels): the maxima over the groups, behind
// them the means. Row h combines the rows h, h + height, ... numbers says which group each maximum came from.
template <typename T, int V>
__device__ void max_mean(const T* x, T* y, unsigned char* numbers, int batch, int groups, int height, int width,
                         int channels) {
    const PackPosition at = place<V>(batch, height, width, channels);
    if (!at.inside) return;
    float best[V], sum[V];
    Pack<unsigned char, V> number;
#pragma unroll
    for (int v = 0; v < V; v++) best[v] = -infinity(), sum[v] = 0.0f, number.at[v] = 0;
    for (int group = 0; group < groups; group++) {
        float value[V];
        const int row = group * height + at.row;
        load<T, V>(value, x + index_of(at.item, row, at.column, groups * height, width, channels) + at.channel);
#pragma unroll
        for (int v = 0; v < V; v++) {
            if (value[v] > best[v] || !is_number(value[v])) best[v] = value[v], number.at[v] = (unsigned char)group;
            sum[v] += value[v];
        }
    }
#pragma unroll
    for (int v = 0; v < V; v++) sum[v] *= 1.0f / (float)groups;
    T* to = y + index_of(at.item, at.row, at.column, height, width, 2 * channels) + at.channel;
    store<T, V>(to, best);
    store<T, V>(to + channels, sum);
    unsigned char* mark = numbers + index_of(at.item, at.row, at.column, height, width, channels) + at.channel;
    *reinterpret_cast<Pack<unsigned char, V>*>(mark) = number;
}

#define MAX_MEAN(E, T, V)                                                                                         \
    BC_KERNEL max_mean_##E##_v##V(const T* x, T* y, unsigned char* numbers, int batch, int groups, int height,    \
                                  int width, int channels) {                                                      \
        max_mean<T, V>(x, y, numbers, batch, groups, height, width, channels);                                    \
    }                                                                                                             \
    BC_ENTRY(max_mean_##E##_v##V)
BC_FOR_IMAGES(MAX_MEAN)

template <typename T, int V>
__device__ void max_mean_gradient(const T* dy, const unsigned char* numbers, T* dx, int batch, int groups, int height,
                                  int width, int channels) {
    const PackPosition at = place<V>(batch, height, width, channels);
    if (!at.inside) return;
    float most[V], mean[V];
    const T* from = dy + index_of(at.item, at.row, at.column, height, width, 2 * channels) + at.channel;
    load<T, V>(most, from);
    load<T, V>(mean, from + channels);
    const unsigned char* mark = numbers + index_of(at.item, at.row, at.column, height, width, channels) + at.channel;
    const Pack<unsigned char, V> number = *reinterpret_cast<const Pack<unsigned char, V>*>(mark);
    for (int group = 0; group < groups; group++) {
        float gradient[V];
#pragma unroll
        for (int v = 0; v < V; v++) {
            gradient[v] = mean[v] * (1.0f / (float)groups) + (number.at[v] == group ? most[v] : 0.0f);
        }
        const int row = group * height + at.row;
        store<T, V>(dx + index_of(at.item, row, at.column, groups * height, width, channels) + at.channel, gradient);
    }
}

#define MAX_MEAN_GRADIENT(E, T, V)                                                                                \
    BC_KERNEL max_mean_gradient_##E##_v##V(const T* dy, const unsigned char* numbers, T* dx, int batch,           \
                                           int groups, int height, int width, int channels) {                     \
        max_mean_gradient<T, V>(dy, numbers, dx, batch, groups, height, width, channels);                         \
    }                                                                                                             \
    BC_ENTRY(max_mean_gradient_##E##_v##V)
BC_FOR_IMAGES(MAX_MEAN_GRADIENT)

// Means of `stride` columns, of fewer at the end; height is that of batch and rows together.
template <typename T, int V>
__device__ void time_mean(const T* x, T* y, int rows, int width, int channels, int stride) {
    const int columns = (width + stride - 1) / stride;
    const PackPosition at = place<V>(rows, 1, columns, channels);
    if (!at.inside) return;
    const int first = at.column * stride, last = first + stride < width ? first + stride : width;
    float sum[V] = {};
    for (int column = first; column < last; column++) {
        float value[V];
        load<T, V>(value, x + index_of(at.item, 0, column, 1, width, channels) + at.channel);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += value[v];
    }
#pragma unroll
    for (int v = 0; v < V; v++) sum[v] /= (float)(last - first);
    store<T, V>(y + index_of(at.item, 0, at.column, 1, columns, channels) + at.channel, sum);
}

template <typename T, int V>
__device__ void time_mean_gradient(const T* dy, T* dx, int rows, int width, int channels, int stride) {
    const int columns = (width + stride - 1) / stride;
    const PackPosition at = place<V>(rows, 1, width, channels);
    if (!at.inside) return;
    const int column = at.column / stride;
    const int rest = width - column * stride;
    float value[V];
    load<T, V>(value, dy + index_of(at.item, 0, column, 1, columns, channels) + at.channel);
#pragma unroll
    for (int v = 0; v < V; v++) value[v] /= (float)(rest < stride ? rest : stride);
    store<T, V>(dx + index_of(at.item, 0, at.column, 1, width, channels) + at.channel, value);
}

#define TIME_MEAN(E, T, V)                                                                                        \
    BC_KERNEL time_mean_##E##_v##V(const T* x, T* y, int rows, int width, int channels, int stride) {             \
        time_mean<T, V>(x, y, rows, width, channels, stride);                                                     \
    }                                                                                                             \
    BC_ENTRY(time_mean_##E##_v##V)                                                                                \
    BC_KERNEL time_mean_gradient_##E##_v##V(const T* dy, T* dx, int rows, int width, int channels, int stride) {  \
        time_mean_gradient<T, V>(dy, dx, rows, width, channels, stride);                                          \
    }                                                                                                             \
    BC_ENTRY(time_mean_gradient_##E##_v##V)
BC_FOR_IMAGES(TIME_MEAN)

// An image of (height + top + bottom) x (width + left + right): zeros around x, or with `ring` the other end's rows.
template <typename T, int V>
__device__ void pad(const T* x, T* y, int batch, int height, int width, int channels, int top, int left,
                    int out_height, int out_width, int ring) {
    const PackPosition at = place<V>(batch, out_height, out_width, channels);
    if (!at.inside) return;
    int row = at.row - top;
    const int column = at.column - left;
    if (ring) row = (row + height) % height;
    float value[V] = {};
    if (row >= 0 && row < height && column >= 0 && column < width) {
        load<T, V>(value, x + index_of(at.item, row, column, height, width, channels) + at.channel);
    }
    store<T, V>(y + index_of(at.item, at.row, at.column, out_height, out_width, channels) + at.channel, value);
}

// Each value gathers the gradients of its copies; they are added to what is in dx if `add`.
template <typename T, int V>
__device__ void pad_gradient(const T* dy, T* dx, int batch, int height, int width, int channels, int top, int left,
                             int out_height, int out_width, int ring, int add) {
    const PackPosition at = place<V>(batch, height, width, channels);
    if (!at.inside) return;
    const long long to = index_of(at.item, at.row, at.column, height, width, channels) + at.channel;
    float sum[V] = {};
    if (add) load<T, V>(sum, dx + to);
    for (int turn = ring ? -1 : 0; turn <= (ring ? 1 : 0); turn++) {
        const int row = at.row + top + turn * height;
        if (row < 0 || row >= out_height) continue;
        float value[V];
        load<T, V>(value, dy + index_of(at.item, row, at.column + left, out_height, out_width, channels) + at.channel);
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] += value[v];
    }
    store<T, V>(dx + to, sum);
}

#define PAD(E, T, V)                                                                                              \
    BC_KERNEL pad_##E##_v##V(const T* x, T* y, int batch, int height, int width, int channels, int top, int left, \
                             int out_height, int out_width, int ring) {                                           \
        pad<T, V>(x, y, batch, height, width, channels, top, left, out_height, out_width, ring);                  \
    }                                                                                                             \
    BC_ENTRY(pad_##E##_v##V)                                                                                      \
    BC_KERNEL pad_gradient_##E##_v##V(const T* dy, T* dx, int batch, int height, int width, int channels,         \
                                      int top, int left, int out_height, int out_width, int ring, int add) {      \
        pad_gradient<T, V>(dy, dx, batch, height, width, channels, top, left, out_height, out_width, ring, add);  \
    }                                                                                                             \
    BC_ENTRY(pad_gradient_##E##_v##V)
BC_FOR_IMAGES(PAD)
