// Batch norm, instance norm and their mixture IBN (Pan et al. 2018), with the activation, the shortcut and their gradients.
//
// Channels below `instance` are normalised over each item, the others over the batch. A *group* is what is normalised
// together: batch * instance groups of the first kind (item after item), then one for each other channel. `groups` has
// four numbers for each: mean, 1 / deviation, factor, offset (x * factor + offset is the normalised, scaled and shifted x).
#include "common.cuh"

#define EPSILON 1e-5
#define MOMENTUM 0.1

__device__ inline int group_of(int channel, int instance, int batch, int item) {
    return channel < instance ? item * instance + channel : batch * instance + channel - instance;
}

// Count, mean and sum of squared differences from the mean of each channel of each chunk of each item:
// parts[((item * chunks + chunk) * 3 + kind) * channels + channel].
// A thread sums differences from its first value, so that nothing cancels; parts are joined as by Chan, Golub and LeVeque.
template <typename T, int V>
__device__ void norm_moments(const T* x, float* parts, int channels, int positions, int lanes) {
    __shared__ float means[BC_BLOCK * V];
    __shared__ float squares[BC_BLOCK * V];
    __shared__ int counts[BC_BLOCK];
    const Tile t = tile<V>(channels, positions, lanes);
    const int i = (int)threadIdx.x;
    float base[V] = {}, sum[V] = {}, square[V] = {};
    int count = 0;
    if (t.inside) {
        for (int p = t.first; p < t.last; p += t.rows) {
            float value[V];
            load<T, V>(value, x + at(t, p, channels, positions));
#pragma unroll
            for (int v = 0; v < V; v++) {
                if (count == 0) base[v] = value[v];
                const float difference = value[v] - base[v];
                sum[v] += difference;
                square[v] += difference * difference;
            }
            count++;
        }
    }
    counts[i] = count;
#pragma unroll
    for (int v = 0; v < V; v++) {
        const float share = count > 0 ? sum[v] / (float)count : 0.0f;
        means[v * BC_BLOCK + i] = base[v] + share;
        squares[v * BC_BLOCK + i] = square[v] - sum[v] * share;
    }
    __syncthreads();
    for (int step = BC_BLOCK / 2; step >= lanes; step /= 2) {
        if (i < step) {
            const int own = counts[i], other = counts[i + step];
            const float all = (float)(own + other);
            if (other > 0) {
                for (int v = 0; v < V; v++) {
                    const int a = v * BC_BLOCK + i, b = a + step;
                    const float apart = means[b] - means[a];
                    means[a] += apart * ((float)other / all);
                    squares[a] += squares[b] + apart * apart * ((float)own * ((float)other / all));
                }
            }
            counts[i] = own + other;
        }
        __syncthreads();
    }
    if (t.row == 0 && t.inside) {
        const long long part = (long long)blockIdx.z * gridDim.y + blockIdx.y;
        float* out = parts + part * 3 * channels + t.channel;
        for (int v = 0; v < V; v++) {
            const float square_sum = squares[v * BC_BLOCK + i];
            out[v] = (float)counts[i];
            out[channels + v] = means[v * BC_BLOCK + i];
            // NaN stays NaN.
            out[2 * channels + v] = square_sum < 0.0f ? 0.0f : square_sum;
        }
    }
}

#define NORM_MOMENTS(E, T, V)                                                                                   \
    BC_KERNEL norm_moments_##E##_v##V(const T* x, float* parts, int channels, int positions, int lanes) {       \
        norm_moments<T, V>(x, parts, channels, positions, lanes);                                               \
    }                                                                                                           \
    BC_ENTRY(norm_moments_##E##_v##V)
BC_FOR_IMAGES(NORM_MOMENTS)

// Blocks of 8 channels x 32 rows: eight floats are what memory gives at once, and of the parts, of which there are up to
// 2048 for a channel, each row joins its share one after the other.
#define JOIN_LANES 8
#define JOIN_ROWS (BC_BLOCK / JOIN_LANES)

struct Moments {
    double count, mean, squares;
};

// Joins `count` parts of the channel (rows of `stride` floats, three to a part), to the threads of row 0.
__device__ inline Moments join_parts(const float* parts, int count, int stride, int channel, bool inside) {
    const int row = (int)threadIdx.x / JOIN_LANES;
    double weight = 0.0, sum = 0.0;
    if (inside) {
        for (int part = row; part < count; part += JOIN_ROWS) {
            const float* at = parts + (long long)part * 3 * stride + channel;
            weight += (double)at[0];
            sum += (double)at[0] * (double)at[stride];
        }
    }
    // All rows need the mean: rows_sum leaves it in row 0.
    __shared__ double shared_mean[JOIN_LANES];
    Moments m;
    m.count = rows_sum(weight, JOIN_LANES);
    const double total = rows_sum(sum, JOIN_LANES);
    if (row == 0) shared_mean[threadIdx.x] = m.count > 0.0 ? total / m.count : 0.0;
    __syncthreads();
    m.mean = shared_mean[(int)threadIdx.x % JOIN_LANES];
    double squares = 0.0;
    if (inside) {
        for (int part = row; part < count; part += JOIN_ROWS) {
            const float* at = parts + (long long)part * 3 * stride + channel;
            const double apart = (double)at[stride] - m.mean;
            squares += (double)at[2 * stride] + (double)at[0] * apart * apart;
        }
    }
    m.squares = rows_sum(squares, JOIN_LANES);
    return m;
}

// One part of all parts, for an exchange with other processes: joined[kind * (channels - first) + channel].
BC_KERNEL norm_join(const float* parts, float* joined, int count, int channels, int first) {
    const int index = (int)blockIdx.x * JOIN_LANES + (int)threadIdx.x % JOIN_LANES;
    const int rest = channels - first;
    const bool inside = index < rest;
    const Moments m = join_parts(parts, count, channels, first + index, inside);
    if (inside && (int)threadIdx.x < JOIN_LANES) {
        joined[index] = (float)m.count;
        joined[rest + index] = (float)m.mean;
        joined[2 * rest + index] = (float)m.squares;
    }
}
BC_ENTRY(norm_join)

__device__ inline void write_group(float* groups, int group, double mean, double variance, float scale, float shift) {
    const float center = (float)mean, inverse = (float)(1.0 / sqrt(variance + EPSILON));
    const float factor = inverse * scale;
    float* out = groups + 4LL * group;
    out[0] = center;
    out[1] = inverse;
    out[2] = factor;
    out[3] = shift - center * factor;
}

// Groups from parts. Blocks (x, 0) make those of channels normalised over the batch: from `batch_parts` (rows of
// `batch_stride`; running statistics are updated with them), or from running statistics if there are no parts (evaluation).
// Blocks (x, 1 + item) make those of the item, from its `chunks` parts.
BC_KERNEL norm_finish(const float* parts, int chunks, const float* batch_parts, int batch_count, int batch_stride,
                      const float* instance_scale, const float* instance_shift, const float* scale,
                      const float* shift, const float* bias, float* running_mean, float* running_variance,
                      float* groups, float* total, int channels, int instance, int batch) {
    const int lane = (int)threadIdx.x % JOIN_LANES;
    const int index = (int)blockIdx.x * JOIN_LANES + lane;
    const bool first_row = (int)threadIdx.x < JOIN_LANES;
    if (blockIdx.y == 0) {
        const bool inside = index < channels - instance;
        if (batch_count > 0) {
            const Moments m = join_parts(batch_parts, batch_count, batch_stride, index, inside);
            if (inside && first_row) {
                const double variance = m.squares / m.count;
                const float moved = bias ? bias[instance + index] : 0.0f;
                write_group(groups, batch * instance + index, m.mean, variance, scale[index], shift[index]);
                running_mean[index] += (float)MOMENTUM * ((float)m.mean + moved - running_mean[index]);
                const float unbiased = (float)(m.squares / (m.count > 1.0 ? m.count - 1.0 : 1.0));
                running_variance[index] += (float)MOMENTUM * (unbiased - running_variance[index]);
                if (index == 0) total[0] = (float)m.count;
            }
        } else if (inside && first_row) {
            const float moved = bias ? bias[instance + index] : 0.0f;
            write_group(groups, batch * instance + index, (double)(running_mean[index] - moved),
                        (double)running_variance[index], scale[index], shift[index]);
        }
    } else {
        const int item = (int)blockIdx.y - 1;
        const bool inside = index < instance;
        const Moments m =
            join_parts(parts + (long long)item * chunks * 3 * channels, chunks, channels, index, inside);
        if (inside && first_row) {
            write_group(groups, item * instance + index, m.mean, m.squares / m.count, instance_scale[index],
                        instance_shift[index]);
        }
    }
}
BC_ENTRY(norm_finish)

// The four numbers of the groups of a thread's channels.
template <int V>
struct Groups {
    float mean[V], inverse[V], factor[V], offset[V];
};

template <int V>
__device__ inline Groups<V> load_groups(const float* groups, const Tile& t, int instance, int batch) {
    Groups<V> found;
#pragma unroll
    for (int v = 0; v < V; v++) {
        float group[4];
        load<float, 4>(group, groups + 4LL * group_of(t.channel + v, instance, batch, (int)blockIdx.z));
        found.mean[v] = group[0];
        found.inverse[v] = group[1];
        found.factor[v] = group[2];
        found.offset[v] = group[3];
    }
    return found;
}

// y = max(x * factor + offset, floor), or with a shortcut max(that + shortcut, 0). NaN stays NaN.
template <typename T, int V>
__device__ void norm_apply(const T* x, const T* shortcut, T* y, const float* groups, int channels, int positions,
                           int instance, int lanes, float floor) {
    const Tile t = tile<V>(channels, positions, lanes);
    if (!t.inside) return;
    const Groups<V> of = load_groups<V>(groups, t, instance, (int)gridDim.z);
    for (int p = t.first; p < t.last; p += t.rows) {
        const long long from = at(t, p, channels, positions);
        float value[V], other[V] = {};
        load<T, V>(value, x + from);
        if (shortcut) load<T, V>(other, shortcut + from);
#pragma unroll
        for (int v = 0; v < V; v++) {
            float out = fmaf(value[v], of.factor[v], of.offset[v]);
            out = out < floor ? floor : out;
            if (shortcut) {
                out += other[v];
                out = out < 0.0f ? 0.0f : out;
            }
            value[v] = out;
        }
        store<T, V>(y + from, value);
    }
}

#define NORM_APPLY(E, T, V)                                                                                       \
    BC_KERNEL norm_apply_##E##_v##V(const T* x, const T* shortcut, T* y, const float* groups, int channels,       \
                                    int positions, int instance, int lanes, float floor) {                        \
        norm_apply<T, V>(x, shortcut, y, groups, channels, positions, instance, lanes, floor);                    \
    }                                                                                                             \
    BC_ENTRY(norm_apply_##E##_v##V)
BC_FOR_IMAGES(NORM_APPLY)

// The first pass of the gradient: sums of g and of g (x - mean) of each chunk, where g is dy where the value before the
// activation is above the floor; parts[((item * chunks + chunk) * 2 + kind) * channels + channel]. With y (the output
// after a shortcut) dy is first set to zero where y is not above zero, into `masked` (which may be dy itself).
template <typename T, int V>
__device__ void norm_sums(const T* x, const T* dy, const T* y, T* masked, const float* groups, float* parts,
                          int channels, int positions, int instance, int lanes, float floor) {
    const Tile t = tile<V>(channels, positions, lanes);
    float sum[V] = {}, product[V] = {};
    if (t.inside) {
        const Groups<V> of = load_groups<V>(groups, t, instance, (int)gridDim.z);
        for (int p = t.first; p < t.last; p += t.rows) {
            const long long from = at(t, p, channels, positions);
            float value[V], gradient[V];
            load<T, V>(value, x + from);
            load<T, V>(gradient, dy + from);
            if (y) {
                float result[V];
                load<T, V>(result, y + from);
#pragma unroll
                for (int v = 0; v < V; v++) gradient[v] = result[v] > 0.0f ? gradient[v] : 0.0f;
                store<T, V>(masked + from, gradient);
            }
#pragma unroll
            for (int v = 0; v < V; v++) {
                const float g = fmaf(value[v], of.factor[v], of.offset[v]) > floor ? gradient[v] : 0.0f;
                sum[v] += g;
                product[v] += g * (value[v] - of.mean[v]);
            }
        }
    }
    float* out = parts + ((long long)blockIdx.z * gridDim.y + blockIdx.y) * 2 * channels + t.channel;
    rows_sums<V>(sum, lanes);
    rows_sums<V>(product, lanes);
    if (t.row == 0 && t.inside) {
        for (int v = 0; v < V; v++) {
            out[v] = sum[v];
            out[channels + v] = product[v];
        }
    }
}

#define NORM_SUMS(E, T, V)                                                                                        \
    BC_KERNEL norm_sums_##E##_v##V(const T* x, const T* dy, const T* y, T* masked, const float* groups,           \
                                   float* parts, int channels, int positions, int instance, int lanes,            \
                                   float floor) {                                                                 \
        norm_sums<T, V>(x, dy, y, masked, groups, parts, channels, positions, instance, lanes, floor);            \
    }                                                                                                             \
    BC_ENTRY(norm_sums_##E##_v##V)
BC_FOR_IMAGES(NORM_SUMS)

// From parts the two sums of each group, that of products times 1 / deviation: instance_sums[2 * group + kind] and
// batch_sums[2 * channel + kind]. Adds their sums over items to the gradients of scale and shift. Blocks below
// `instance_tiles` are of channels normalised over items.
BC_KERNEL norm_sums_finish(const float* parts, int chunks, const float* groups, float* instance_sums, float* batch_sums,
                           float* instance_scale, float* instance_shift, float* scale, float* shift, int channels,
                           int instance, int batch, int instance_tiles) {
    const int lane = (int)threadIdx.x % JOIN_LANES, row = (int)threadIdx.x / JOIN_LANES;
    const bool of_items = (int)blockIdx.x < instance_tiles;
    const int tile_number = of_items ? (int)blockIdx.x : (int)blockIdx.x - instance_tiles;
    const int index = tile_number * JOIN_LANES + lane;
    const bool inside = index < (of_items ? instance : channels - instance);
    const int channel = of_items ? index : instance + index;
    double sum = 0.0, product = 0.0;
    if (inside) {
        for (int item = row; item < batch; item += JOIN_ROWS) {
            const int group = group_of(channel, instance, batch, item);
            double item_sum = 0.0, item_product = 0.0;
            for (int chunk = 0; chunk < chunks; chunk++) {
                const float* at = parts + ((long long)item * chunks + chunk) * 2 * channels + channel;
                item_sum += (double)at[0];
                item_product += (double)at[channels];
            }
            item_product *= (double)groups[4LL * group + 1];
            if (of_items) {
                instance_sums[2 * group] = (float)item_sum;
                instance_sums[2 * group + 1] = (float)item_product;
            }
            sum += item_sum;
            product += item_product;
        }
    }
    sum = rows_sum(sum, JOIN_LANES);
    product = rows_sum(product, JOIN_LANES);
    if (inside && row == 0) {
        if (!of_items) {
            batch_sums[2 * index] = (float)sum;
            batch_sums[2 * index + 1] = (float)product;
        }
        float* to_scale = of_items ? instance_scale : scale;
        float* to_shift = of_items ? instance_shift : shift;
        to_scale[index] += (float)product;
        to_shift[index] += (float)sum;
    }
}
BC_ENTRY(norm_sums_finish)

// The second pass: dx = factor g + slope x + constant, which is factor (g - mean(g) - x^ mean(g x^)), x^ the normalised
// input. `total` is the number of values of a channel that were normalised over the batch. dx may be dy itself.
template <typename T, int V>
__device__ void norm_input(const T* x, const T* dy, T* dx, const float* groups, const float* instance_sums,
                           const float* batch_sums, const float* total, int channels, int positions, int instance,
                           int lanes, float floor) {
    const Tile t = tile<V>(channels, positions, lanes);
    if (!t.inside) return;
    const Groups<V> of = load_groups<V>(groups, t, instance, (int)gridDim.z);
    // In 32 bits, and without a division for each channel: a thread has few positions to divide this work among.
    const float of_item = 1.0f / (float)positions, of_batch = 1.0f / total[0];
    float slope[V], constant[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
        const int channel = t.channel + v;
        const int group = group_of(channel, instance, (int)gridDim.z, (int)blockIdx.z);
        const bool by_item = channel < instance;
        float sums[2];
        load<float, 2>(sums, by_item ? instance_sums + 2LL * group : batch_sums + 2LL * (channel - instance));
        const float share = -of.factor[v] * (by_item ? of_item : of_batch);
        slope[v] = share * of.inverse[v] * sums[1];
        constant[v] = fmaf(-slope[v], of.mean[v], share * sums[0]);
    }
    for (int p = t.first; p < t.last; p += t.rows) {
        const long long from = at(t, p, channels, positions);
        float value[V], gradient[V];
        load<T, V>(value, x + from);
        load<T, V>(gradient, dy + from);
#pragma unroll
        for (int v = 0; v < V; v++) {
            const float g = fmaf(value[v], of.factor[v], of.offset[v]) > floor ? gradient[v] : 0.0f;
            gradient[v] = fmaf(of.factor[v], g, fmaf(slope[v], value[v], constant[v]));
        }
        store<T, V>(dx + from, gradient);
    }
}

#define NORM_INPUT(E, T, V)                                                                                       \
    BC_KERNEL norm_input_##E##_v##V(const T* x, const T* dy, T* dx, const float* groups,                          \
                                    const float* instance_sums, const float* batch_sums, const float* total,      \
                                    int channels, int positions, int instance, int lanes, float floor) {          \
        norm_input<T, V>(x, dy, dx, groups, instance_sums, batch_sums, total, channels, positions, instance,      \
                         lanes, floor);                                                                           \
    }                                                                                                             \
    BC_ENTRY(norm_input_##E##_v##V)
BC_FOR_IMAGES(NORM_INPUT)
