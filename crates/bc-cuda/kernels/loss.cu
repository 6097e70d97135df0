// Losses with their gradients in closed form, and mining on the device.
#include "common.cuh"

// Sum of the parts in their order, times `factor`, into one value (or added to it). One block.
BC_KERNEL sum_parts(const float* parts, float* sum, int count, float factor, int add) {
    double own = 0.0;
    for (int i = (int)threadIdx.x; i < count; i += BC_BLOCK) own += (double)parts[i];
    const double all = block_sum(own);
    if (threadIdx.x == 0) sum[0] = (add ? sum[0] : 0.0f) + factor * (float)all;
}
BC_ENTRY(sum_parts)

__device__ inline float block_max(float value) {
    __shared__ float most[BC_BLOCK];
    const int i = (int)threadIdx.x;
    __syncthreads();
    most[i] = value;
    __syncthreads();
    for (int step = BC_BLOCK / 2; step > 0; step /= 2) {
        if (i < step && most[i + step] > most[i]) most[i] = most[i + step];
        __syncthreads();
    }
    return most[0];
}

// Cross entropy with label smoothing, a row to a block: parts[row] is its loss, the gradient of its logits is times `scale`.
// Rows from `counted` on have no loss.
template <typename T>
__device__ void cross_entropy(const float* logits, const int* labels, float* parts, T* gradient, int classes, int counted,
                              float smoothing, float scale) {
    const int row = (int)blockIdx.x;
    const long long from = (long long)row * classes;
    if (row >= counted) {
        for (int i = (int)threadIdx.x; i < classes; i += BC_BLOCK) gradient[from + i] = from_float<T>(0.0f);
        if (threadIdx.x == 0) parts[row] = 0.0f;
        return;  // the whole block
    }
    float most = -infinity();
    for (int i = (int)threadIdx.x; i < classes; i += BC_BLOCK) {
        if (logits[from + i] > most) most = logits[from + i];
    }
    most = block_max(most);
    float own = 0.0f, logit_sum = 0.0f;
    for (int i = (int)threadIdx.x; i < classes; i += BC_BLOCK) {
        const float shifted = logits[from + i] - most;
        own += expf(shifted);
        logit_sum += shifted;
    }
    const float all = block_sum(own);
    const float all_logits = block_sum(logit_sum);
    const float log_sum = logf(all), even = smoothing / (float)classes;
    const int label = labels[row];
    for (int i = (int)threadIdx.x; i < classes; i += BC_BLOCK) {
        const float share = expf(logits[from + i] - most) / all;
        gradient[from + i] = from_float<T>(scale * (share - even - (i == label ? 1.0f - smoothing : 0.0f)));
    }
    if (threadIdx.x == 0) {
        const float of_label = logits[from + label] - most - log_sum;
        const float of_all = all_logits / (float)classes - log_sum;
        parts[row] = (smoothing - 1.0f) * of_label - smoothing * of_all;
    }
}

#define CROSS_ENTROPY(E, T)                                                                                       \
    BC_KERNEL cross_entropy_##E(const float* logits, const int* labels, float* parts, T* gradient, int classes,   \
                                int counted, float smoothing, float scale) {                                      \
        cross_entropy<T>(logits, labels, parts, gradient, classes, counted, smoothing, scale);                    \
    }                                                                                                             \
    BC_ENTRY(cross_entropy_##E)
BC_FOR_ELEMENTS(CROSS_ENTROPY)

// Added to each difference before its norm is taken, as in PyTorch's pairwise distance.
#define PAIRWISE 1e-6f
#define SIDE 16

// squared[i][j] = |x_i - x_j|^2 and apart[i][j] = |x_i - x_j + 1e-6|, 16 x 16 pairs to a block.
BC_KERNEL distances(const float* x, float* squared, float* apart, int rows, int dimensions) {
    __shared__ float left[SIDE][SIDE + 1];
    __shared__ float right[SIDE][SIDE + 1];
    const int column = (int)threadIdx.x % SIDE, line = (int)threadIdx.x / SIDE;
    const int i = (int)blockIdx.y * SIDE + line, j = (int)blockIdx.x * SIDE + column;
    const int other = (int)blockIdx.x * SIDE + line;
    float sum = 0.0f, moved = 0.0f;
    for (int from = 0; from < dimensions; from += SIDE) {
        const bool inside = from + column < dimensions;
        left[line][column] = inside && i < rows ? x[(long long)i * dimensions + from + column] : 0.0f;
        right[line][column] = inside && other < rows ? x[(long long)other * dimensions + from + column] : 0.0f;
        __syncthreads();
        const int count = dimensions - from < SIDE ? dimensions - from : SIDE;
        for (int d = 0; d < count; d++) {
            const float difference = left[line][d] - right[column][d];
            sum += difference * difference;
            moved += (difference + PAIRWISE) * (difference + PAIRWISE);
        }
        __syncthreads();
    }
    if (i < rows && j < rows) {
        squared[(long long)i * rows + j] = sum;
        apart[(long long)i * rows + j] = sqrtf(moved);
    }
}
BC_ENTRY(distances)

// Keys that are ordered as Rust's total_cmp: negative not-a-numbers first, positive ones last.
__device__ inline long long key(float x) {
    FloatBits all;
    all.number = x;
    const int bits = (int)all.bits;
    return (long long)(bits ^ (int)((unsigned int)(bits >> 31) >> 1));
}

#define NONE 0x7fffffffffffffffLL

// The smallest of a block's values.
__device__ inline long long block_least(long long value) {
    __shared__ long long least[BC_BLOCK];
    const int i = (int)threadIdx.x;
    __syncthreads();
    least[i] = value;
    __syncthreads();
    for (int step = BC_BLOCK / 2; step > 0; step /= 2) {
        if (i < step && least[i + step] < least[i]) least[i] = least[i + step];
        __syncthreads();
    }
    return least[0];
}

// A key whose minimum is the nearest row, of equal ones the first; with `far` the farthest, of equal ones the last.
__device__ inline long long rank_of(float distance, int place, bool far) {
    const long long nearest = key(distance) * 0x80000000LL + place;
    return far ? -nearest : nearest;
}

__device__ inline int place_of(long long rank, bool far) {
    if (rank == NONE) return -1;
    const long long nearest = far ? -rank : rank;
    return (int)(nearest & 0x7fffffffLL);
}

// Batch hard (Hermans et al. 2017): of each row its farthest positive and its nearest negative, a row to a block.
BC_KERNEL mine_hard(const float* squared, const int* labels, int* positives, int* negatives, int rows) {
    const int anchor = (int)blockIdx.x;
    long long farthest = NONE, nearest = NONE;
    for (int j = (int)threadIdx.x; j < rows; j += BC_BLOCK) {
        const float distance = squared[(long long)anchor * rows + j];
        if (labels[j] != labels[anchor]) {
            const long long rank = rank_of(distance, j, false);
            nearest = rank < nearest ? rank : nearest;
        } else if (j != anchor) {
            const long long rank = rank_of(distance, j, true);
            farthest = rank < farthest ? rank : farthest;
        }
    }
    const long long positive = block_least(farthest), negative = block_least(nearest);
    if (threadIdx.x == 0) {
        const bool both = positive != NONE && negative != NONE;
        positives[anchor] = both ? place_of(positive, true) : -1;
        negatives[anchor] = both ? place_of(negative, false) : -1;
    }
}
BC_ENTRY(mine_hard)

// Semi-hard (Schroff et al. 2015): of each row and each positive p, slot anchor * rows + p, the nearest negative that is
// farther than p, else the farthest. The grid is (positives, anchors).
BC_KERNEL mine_semi_hard(const float* squared, const int* labels, int* positives, int* negatives, int rows) {
    const int positive = (int)blockIdx.x, anchor = (int)blockIdx.y;
    const bool pair = positive != anchor && labels[positive] == labels[anchor];
    const float* of_anchor = squared + (long long)anchor * rows;
    long long beyond = NONE, farthest = NONE;
    if (pair) {
        for (int j = (int)threadIdx.x; j < rows; j += BC_BLOCK) {
            if (labels[j] == labels[anchor]) continue;
            const long long far = rank_of(of_anchor[j], j, true);
            farthest = far < farthest ? far : farthest;
            if (of_anchor[j] > of_anchor[positive]) {
                const long long near = rank_of(of_anchor[j], j, false);
                beyond = near < beyond ? near : beyond;
            }
        }
    }
    const long long first = block_least(beyond), last = block_least(farthest);
    if (threadIdx.x == 0) {
        const int negative = first != NONE ? place_of(first, false) : place_of(last, true);
        positives[anchor * rows + positive] = negative < 0 ? -1 : positive;
        negatives[anchor * rows + positive] = negative;
    }
}
BC_ENTRY(mine_semi_hard)

// The margin loss of the triplets of each anchor, an anchor to a block; `slots` triplets each, none where a positive is
// below zero. parts[anchor] is the sum of max(0, d_p - d_n + margin), counts[anchor] the number of triplets. pulls[anchor][j]
// is the sum of 1 / d over the triplets that cost something in which j is the positive, less those in which it is the negative.
BC_KERNEL triplet_parts(const float* apart, const int* positives, const int* negatives, float* parts, float* counts,
                        float* pulls, int rows, int slots, float margin) {
    const int anchor = (int)blockIdx.x;
    const float* of_anchor = apart + (long long)anchor * rows;
    const int* p = positives + (long long)anchor * slots;
    const int* n = negatives + (long long)anchor * slots;
    float cost = 0.0f, count = 0.0f;
    for (int s = (int)threadIdx.x; s < slots; s += BC_BLOCK) {
        if (p[s] < 0) continue;
        const float over = of_anchor[p[s]] - of_anchor[n[s]] + margin;
        cost += over < 0.0f ? 0.0f : over;
        count += 1.0f;
    }
    const float all = block_sum(cost), number = block_sum(count);
    if (threadIdx.x == 0) parts[anchor] = all, counts[anchor] = number;
    for (int j = (int)threadIdx.x; j < rows; j += BC_BLOCK) {
        float pull = 0.0f;
        for (int s = 0; s < slots; s++) {
            if (p[s] < 0 || (p[s] != j && n[s] != j)) continue;
            if (of_anchor[p[s]] - of_anchor[n[s]] + margin > 0.0f) {
                pull += (p[s] == j ? 1.0f : -1.0f) / of_anchor[j];
            }
        }
        pulls[(long long)anchor * rows + j] = pull;
    }
}
BC_ENTRY(triplet_parts)

// From the parts the mean over all triplets, times `weight`, into loss[0], and scale[0] = weight / triplets (0 without any).
BC_KERNEL triplet_finish(const float* parts, const float* counts, float* loss, float* scale, int rows, float weight) {
    double cost = 0.0, count = 0.0;
    for (int i = (int)threadIdx.x; i < rows; i += BC_BLOCK) {
        cost += (double)parts[i];
        count += (double)counts[i];
    }
    const double all = block_sum(cost), number = block_sum(count);
    if (threadIdx.x == 0) {
        scale[0] = number > 0.0 ? (float)((double)weight / number) : 0.0f;
        loss[0] = number > 0.0 ? (float)(all * (double)weight / number) : 0.0f;
    }
}
BC_ENTRY(triplet_finish)

// gradient_i = scale sum_j [pulls_ij (x_i - x_j + 1e-6) + pulls_ji (x_i - x_j - 1e-6)], for `count` rows from `first` on.
// The grid is (dimensions / BC_BLOCK, count).
BC_KERNEL triplet_gradient(const float* x, const float* pulls, const float* scale, float* gradient, int rows,
                           int dimensions, int first) {
    const int d = (int)blockIdx.x * BC_BLOCK + (int)threadIdx.x, i = first + (int)blockIdx.y;
    if (d >= dimensions) return;
    const float own = x[(long long)i * dimensions + d];
    float sum = 0.0f;
    for (int j = 0; j < rows; j++) {
        const float out = pulls[(long long)i * rows + j], in = pulls[(long long)j * rows + i];
        if (out == 0.0f && in == 0.0f) continue;
        const float difference = own - x[(long long)j * dimensions + d];
        sum += out * (difference + PAIRWISE) + in * (difference - PAIRWISE);
    }
    gradient[(long long)blockIdx.y * dimensions + d] = scale[0] * sum;
}
BC_ENTRY(triplet_gradient)
