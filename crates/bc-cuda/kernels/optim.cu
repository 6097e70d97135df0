// Clipping, Adam and AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019), and the moving average of weights, over flat buffers.
#include "common.cuh"

// parts[block] is the sum of squares of the block's values, in 64 bits.
BC_KERNEL squares(const float* x, double* parts, int count) {
    double sum = 0.0;
    for (long long i = (long long)blockIdx.x * BC_BLOCK + (int)threadIdx.x; i < count; i += (long long)gridDim.x * BC_BLOCK) {
        sum += (double)x[i] * (double)x[i];
    }
    const double all = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = all;
}
BC_ENTRY(squares)

// What a step of the optimiser needs. state[0] is the number of steps made; step[0..5] are: norm before clipping, factor of
// the gradient, step size, 1 / root of the second correction, and whether the step is made (a norm that is not finite
// changes nothing).
BC_KERNEL adam_prepare(const double* parts, double* state, float* step, int count, float mean, float most, float rate,
                       double beta1, double beta2) {
    double own = 0.0;
    for (int i = (int)threadIdx.x; i < count; i += BC_BLOCK) own += parts[i];
    const double all = block_sum(own);
    if (threadIdx.x == 0) {
        const double norm = sqrt(all) * (double)mean;
        const bool finite = norm - norm == 0.0;
        if (finite) state[0] += 1.0;
        const double clipping = most > 0.0f && norm > (double)most ? (double)most / (norm + 1e-6) : 1.0;
        step[0] = (float)norm;
        step[1] = (float)((double)mean * clipping);
        step[2] = (float)((double)rate / (1.0 - pow(beta1, state[0])));
        step[3] = (float)(1.0 / sqrt(1.0 - pow(beta2, state[0])));
        step[4] = finite ? 1.0f : 0.0f;
    }
}
BC_ENTRY(adam_prepare)

// A range of values of one parameter, from `start` on; kinds[parameter] 0: left alone, 1: without weight decay, 2: with it.
struct Chunk {
    int start, count, parameter;
};

// One range per block. gradient_decay is added through the gradient (Adam), `keep` shrinks the weights (AdamW).
BC_KERNEL adam(float* weights, float* first, float* second, const float* gradient, const int* stretches,
               const int* kinds, const float* step, float beta1, float beta2, float epsilon, float gradient_decay,
               float keep) {
    const Chunk run = reinterpret_cast<const Chunk*>(stretches)[blockIdx.x];
    const int kind = kinds[run.parameter];
    if (kind == 0 || step[4] == 0.0f) return;  // the whole block
    const float factor = step[1], size = step[2], root = step[3];
    const float decay = kind == 2 ? gradient_decay : 0.0f, kept = kind == 2 ? keep : 1.0f;
    for (int i = (int)threadIdx.x; i < run.count; i += BC_BLOCK) {
        const long long at = (long long)run.start + i;
        const float w = weights[at];
        const float g = fmaf(gradient[at], factor, decay * w);
        float m = first[at], v = second[at];
        m += (1.0f - beta1) * (g - m);
        v = beta2 * v + (1.0f - beta2) * g * g;
        first[at] = m;
        second[at] = v;
        weights[at] = w * kept - size * m / (sqrtf(v) * root + epsilon);
    }
}
BC_ENTRY(adam)

// average = decay average + (1 - decay) x, unless the step was skipped.
BC_KERNEL average(float* average, const float* x, const float* step, int count, float decay) {
    if (step[4] == 0.0f) return;
    for (long long i = (long long)blockIdx.x * BC_BLOCK + (int)threadIdx.x; i < count; i += (long long)gridDim.x * BC_BLOCK) {
        average[i] = decay * average[i] + (1.0f - decay) * x[i];
    }
}
BC_ENTRY(average)
