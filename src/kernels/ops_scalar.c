/* ops_scalar.c - the inner loops of ops in plain C: what every CPU can run and what the others are tested against. */
#include "kernels/ops_kernels.h"

#include <math.h>
#include <string.h>

#include "base/float16.h"

/* Sums run in this many lanes, which are added pairwise at the end: it keeps rounding errors small and lets compilers
 * use whatever vectors the CPU's baseline has. */
enum { LANES = 8 };

static float add_lanes(const float lanes[LANES]) {
    float a = (lanes[0] + lanes[4]) + (lanes[2] + lanes[6]);
    float b = (lanes[1] + lanes[5]) + (lanes[3] + lanes[7]);
    return a + b;
}

static void float_from_f16(const void *from, float *to, int64_t n) {
    const unsigned char *bytes = from;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        to[i] = f16_to_float(half);
    }
}

static void float_from_bf16(const void *from, float *to, int64_t n) {
    const unsigned char *bytes = from;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        to[i] = bf16_to_float(half);
    }
}

static void f16_from_floats(const float *from, void *to, int64_t n) {
    unsigned char *bytes = to;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = f16_from_float(from[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
}

static float dot(const float *a, const float *b, int64_t n) {
    float sums[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += a[i + lane] * b[i + lane];
    for (int lane = 0; i < n; i++, lane++)
        sums[lane] += a[i] * b[i];
    return add_lanes(sums);
}

static void rms_norm(const float *x, float *out, int64_t n, const float *weight, float eps) {
    float scale = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        out[i] = x[i] * scale * weight[i];
}

/* Sums of x - shift and of its square. */
static void moments(const float *x, float shift, int64_t n, float *sum, float *squares) {
    float sums[LANES] = {0}, square_sums[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            float d = x[i + lane] - shift;
            sums[lane] += d;
            square_sums[lane] += d * d;
        }
    for (int lane = 0; i < n; i++, lane++) {
        float d = x[i] - shift;
        sums[lane] += d;
        square_sums[lane] += d * d;
    }
    *sum = add_lanes(sums);
    *squares = add_lanes(square_sums);
}

static void layer_norm(const float *x, float *out, int64_t n, const float *weight, const float *bias, float eps) {
    float sum, squares;
    moments(x, 0.0f, n, &sum, &squares);
    float mean = sum / (float)n;
    moments(x, mean, n, &sum, &squares);
    float scale = 1.0f / sqrtf(squares / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

static void rotate(float *x, int64_t half, const float *cos, const float *sin) {
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = a * cos[i] - b * sin[i];
        x[half + i] = b * cos[i] + a * sin[i];
    }
}

static void mix(const float *a, const float *b, float s, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = (1.0f - s) * a[i] + s * b[i];
}

void ops_fill_scalar(ops_kernels *table) {
    *table = (ops_kernels){.float_from_f16 = float_from_f16,
                           .float_from_bf16 = float_from_bf16,
                           .f16_from_float = f16_from_floats,
                           .rms_norm = rms_norm,
                           .layer_norm = layer_norm,
                           .rotate = rotate,
                           .mix = mix,
                           .dot = dot};
}
