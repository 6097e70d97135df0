// Losses with their gradients in closed form, and the distances that mining and they need.
#include "common.cuh"

// Sum of the parts in their order, times `factor`, into one value (or added to it). One block.
BC_KERNEL sum_parts(const float* parts, float* sum, int count, float factor, int add) {
    double own = 0.0;
    for (int i = (int)threadIdx.x; i < count; i += BC_BLOCK) own += (double)parts[i];
    const double all = block_sum(own);
    if (threadIdx.x == 0) sum[0] = (add ? sum[0] : 0.0f) + factor * (float)all;
}
BC_ENTRY(sum_parts)

// Cross entropy with label smoothing, a row to a block: parts[row] is its loss, the gradient of its logits is times `scale`.
// Rows from `counted` on have no loss.
BC_KERNEL cross_entropy(const float* logits, const int* labels, float* parts, float* gradient, int classes, int counted,
                        float smoothing, float scale) {
    const int row = (int)blockIdx.x;
    const long long from = (long long)row * classes;
    if (row >= counted) {
        for (int i = (int)threadIdx.x; i < classes; i += BC_BLOCK) gradient[from + i] = 0.0f;
        if (threadIdx.x == 0) parts[row] = 0.0f;
        return;  // the whole block
    }
    float most = -infinity();
    for (int i = (int)threadIdx.x; i < classes; i += BC_BLOCK) {
        if (logits[from + i] > most) most = logits[from + i];
    }
    most = block_join<Most>(most);
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
        gradient[from + i] = scale * (share - even - (i == label ? 1.0f - smoothing : 0.0f));
    }
    if (threadIdx.x == 0) {
        const float of_label = logits[from + label] - most - log_sum;
        const float of_all = all_logits / (float)classes - log_sum;
        parts[row] = (smoothing - 1.0f) * of_label - smoothing * of_all;
    }
}
BC_ENTRY(cross_entropy)

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

// From the parts the mean over all triplets into loss[0], and scale[0] = weight / triplets (both 0 without any).
BC_KERNEL triplet_finish(const float* parts, const float* counts, float* loss, float* scale, int rows, float weight) {
    double cost = 0.0, count = 0.0;
    for (int i = (int)threadIdx.x; i < rows; i += BC_BLOCK) {
        cost += (double)parts[i];
        count += (double)counts[i];
    }
    const double all = block_sum(cost), number = block_sum(count);
    if (threadIdx.x == 0) {
        scale[0] = number > 0.0 ? (float)((double)weight / number) : 0.0f;
        loss[0] = number > 0.0 ? (float)(all / number) : 0.0f;
    }
}
BC_ENTRY(triplet_finish)

// gradient_i = scale sum_j [pulls_ij (x_i - x_j + 1e-6) + pulls_ji (x_i - x_j - 1e-6)].
// The grid is (dimensions / BC_BLOCK, rows).
BC_KERNEL triplet_gradient(const float* x, const float* pulls, const float* scale, float* gradient, int rows,
                           int dimensions) {
    const int d = (int)blockIdx.x * BC_BLOCK + (int)threadIdx.x, i = (int)blockIdx.y;
    if (d >= dimensions) return;
    const float own = x[(long long)i * dimensions + d];
    float sum = 0.0f;
    for (int j = 0; j < rows; j++) {
        const float out = pulls[(long long)i * rows + j], in = pulls[(long long)j * rows + i];
        if (out == 0.0f && in == 0.0f) continue;
        const float difference = own - x[(long long)j * dimensions + d];
        sum += out * (difference + PAIRWISE) + in * (difference - PAIRWISE);
    }
    gradient[(long long)i * dimensions + d] = scale[0] * sum;
}
BC_ENTRY(triplet_gradient)
