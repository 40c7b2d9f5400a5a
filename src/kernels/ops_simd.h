/* ops_simd.h - the inner loops of ops in vectors. Included once by each instruction set's file, after its simd_*.h,
 * with FILL naming the function that puts them in the table. */
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/ops_kernels.h"

enum { SUMS = 4 }; /* sums side by side, to hide the latency of additions */

/* Runs `body` for each whole vector of n values, at offset i, then `rest` for what is left, `count` < VECTOR_LANES
 * values.
 */
#define FOR_VECTORS(n, i, body, count, rest)                                                                           \
    do {                                                                                                               \
        int64_t i = 0;                                                                                                 \
        for (; i + VECTOR_LANES <= (n); i += VECTOR_LANES)                                                             \
            body;                                                                                                      \
        int64_t count = (n)-i;                                                                                         \
        if (count > 0)                                                                                                 \
            rest;                                                                                                      \
    } while (0)

static void float_from_f16(const void *from, float *to, int64_t n) {
    const unsigned char *bytes = from;
    FOR_VECTORS(n, i, vector_store(to + i, vector_load_f16(bytes + 2 * i)), count,
                vector_store_first(to + i, vector_load_f16_first(bytes + 2 * i, count), count));
}

static void float_from_bf16(const void *from, float *to, int64_t n) {
    const unsigned char *bytes = from;
    int64_t i = 0;
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        vector_store(to + i, vector_load_bf16(bytes + 2 * i));
    for (; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        to[i] = bf16_to_float(half);
    }
}

static void f16_from_floats(const float *from, void *to, int64_t n) {
    unsigned char *bytes = to;
    int64_t i = 0;
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        vector_store_f16(bytes + 2 * i, vector_load(from + i));
    for (; i < n; i++) {
        uint16_t half = f16_from_float(from[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
}

static inline float add_sums(const vector sums[SUMS]) {
    return vector_sum(vector_add(vector_add(sums[0], sums[2]), vector_add(sums[1], sums[3])));
}

static float dot(const float *a, const float *b, int64_t n) {
    vector sums[SUMS] = {vector_zero(), vector_zero(), vector_zero(), vector_zero()};
    int64_t i = 0;
    for (; i + SUMS * VECTOR_LANES <= n; i += SUMS * VECTOR_LANES)
        for (int s = 0; s < SUMS; s++)
            sums[s] = vector_multiply_add(vector_load(a + i + s * VECTOR_LANES), vector_load(b + i + s * VECTOR_LANES),
                                          sums[s]);
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        sums[0] = vector_multiply_add(vector_load(a + i), vector_load(b + i), sums[0]);
    if (i < n)
        sums[1] = vector_multiply_add(vector_load_first(a + i, n - i), vector_load_first(b + i, n - i), sums[1]);
    return add_sums(sums);
}

static void rms_norm(const float *x, float *out, int64_t n, const float *weight, float eps) {
    float factor = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
    vector scale = vector_of(factor);
    FOR_VECTORS(
        n, i,
        vector_store(out + i, vector_multiply(vector_multiply(vector_load(x + i), scale), vector_load(weight + i))),
        count,
        vector_store_first(out + i,
                           vector_multiply(vector_multiply(vector_load_first(x + i, count), scale),
                                           vector_load_first(weight + i, count)),
                           count));
}

static float sum_of(const float *x, int64_t n) {
    vector sums[SUMS] = {vector_zero(), vector_zero(), vector_zero(), vector_zero()};
    int64_t i = 0;
    for (; i + SUMS * VECTOR_LANES <= n; i += SUMS * VECTOR_LANES)
        for (int s = 0; s < SUMS; s++)
            sums[s] = vector_add(vector_load(x + i + s * VECTOR_LANES), sums[s]);
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        sums[0] = vector_add(vector_load(x + i), sums[0]);
    if (i < n)
        sums[1] = vector_add(vector_load_first(x + i, n - i), sums[1]);
    return add_sums(sums);
}

/* Sum of (x - mean)^2. */
static float sum_of_squares(const float *x, float mean, int64_t n) {
    vector sums[SUMS] = {vector_zero(), vector_zero(), vector_zero(), vector_zero()}, shift = vector_of(mean);
    int64_t i = 0;
    for (; i + SUMS * VECTOR_LANES <= n; i += SUMS * VECTOR_LANES)
        for (int s = 0; s < SUMS; s++) {
            vector d = vector_subtract(vector_load(x + i + s * VECTOR_LANES), shift);
            sums[s] = vector_multiply_add(d, d, sums[s]);
        }
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES) {
        vector d = vector_subtract(vector_load(x + i), shift);
        sums[0] = vector_multiply_add(d, d, sums[0]);
    }
    float rest = 0;
    for (; i < n; i++)
        rest += (x[i] - mean) * (x[i] - mean);
    return add_sums(sums) + rest;
}

static inline vector normalized(vector x, vector mean, vector scale, vector weight, vector bias) {
    return vector_multiply_add(vector_multiply(vector_subtract(x, mean), scale), weight, bias);
}

static void layer_norm(const float *x, float *out, int64_t n, const float *weight, const float *bias, float eps) {
    float average = sum_of(x, n) / (float)n;
    vector mean = vector_of(average);
    vector scale = vector_of(1.0f / sqrtf(sum_of_squares(x, average, n) / (float)n + eps));
    FOR_VECTORS(n, i,
                vector_store(out + i, normalized(vector_load(x + i), mean, scale, vector_load(weight + i),
                                                 vector_load(bias + i))),
                count,
                vector_store_first(out + i,
                                   normalized(vector_load_first(x + i, count), mean, scale,
                                              vector_load_first(weight + i, count), vector_load_first(bias + i, count)),
                                   count));
}

static void rotate(float *x, int64_t half, const float *cos, const float *sin) {
    int64_t i = 0;
    for (; i + VECTOR_LANES <= half; i += VECTOR_LANES) {
        vector a = vector_load(x + i), b = vector_load(x + half + i), c = vector_load(cos + i),
               s = vector_load(sin + i);
        vector_store(x + i, vector_subtract_product(b, s, vector_multiply(a, c)));
        vector_store(x + half + i, vector_multiply_add(a, s, vector_multiply(b, c)));
    }
    for (; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = fmaf(-b, sin[i], a * cos[i]);
        x[half + i] = fmaf(a, sin[i], b * cos[i]);
    }
}

static void mix(const float *a, const float *b, float s, float *out, int64_t n) {
    vector of_a = vector_of(1.0f - s), of_b = vector_of(s);
    FOR_VECTORS(
        n, i,
        vector_store(out + i, vector_multiply_add(vector_load(a + i), of_a, vector_multiply(vector_load(b + i), of_b))),
        count,
        vector_store_first(out + i,
                           vector_multiply_add(vector_load_first(a + i, count), of_a,
                                               vector_multiply(vector_load_first(b + i, count), of_b)),
                           count));
}

void FILL(ops_kernels *table) {
    *table = (ops_kernels){.float_from_f16 = float_from_f16,
                           .float_from_bf16 = float_from_bf16,
                           .f16_from_float = f16_from_floats,
                           .rms_norm = rms_norm,
                           .layer_norm = layer_norm,
                           .rotate = rotate,
                           .mix = mix,
                           .dot = dot};
}
