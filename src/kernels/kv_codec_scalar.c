/* kv_codec_scalar.c - keys and values in plain C: what every CPU can run and what the others are tested against. */
#include <math.h>
#include <string.h>

#include "kernels/kv_codec.h"
#include "kernels/kv_codec_q8.h"

const char *kv_name(kv_type type) {
    static const char *const names[KV_TYPES] = {[KV_F16] = "f16", [KV_F32] = "f32", [KV_Q8] = "q8"};
    return names[type];
}

/* ---- one row --------------------------------------------------------------------------------- */

static bool store_f32(const float *from, void *to, int64_t n) {
    memcpy(to, from, (size_t)n * sizeof *from);
    return true;
}

static void load_f32(const void *from, float *to, int64_t n) { memcpy(to, from, (size_t)n * sizeof *to); }

static bool store_f16(const float *from, void *to, int64_t n) {
    unsigned char *bytes = to;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t half = f16_from_float(from[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
    return fits_f16(from, n);
}

static void load_f16(const void *from, float *to, int64_t n) {
    const unsigned char *bytes = from;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        to[i] = f16_to_float(half);
    }
}

static bool store_q8(const float *from, void *to, int64_t n) {
    const float factor = q8_store_scale(from, n, to);
    signed char *bytes = (signed char *)to + KV_Q8_SCALE_BYTES;
    for (int64_t i = 0; i < n; i++)
        bytes[i] = factor > 0 ? (signed char)lrintf(from[i] * factor) : 0;
    return true;
}

static void load_q8(const void *from, float *to, int64_t n) {
    const float scale = q8_scale(from);
    const signed char *bytes = (const signed char *)from + KV_Q8_SCALE_BYTES;
    for (int64_t i = 0; i < n; i++)
        to[i] = scale * (float)bytes[i];
}

/* ---- many rows ------------------------------------------------------------------------------- */

enum { MAX_VALUES = 256 };

typedef void load_row(const void *from, float *to, int64_t n);

static void dot(load_row *load, const void *const *keys, int64_t n_keys, const float *q, int64_t n_queries,
                int64_t head_dim, float *scores, int64_t stride) {
    float key[MAX_VALUES];
    for (int64_t k = 0; k < n_keys; k++) {
        load(keys[k], key, head_dim);
        for (int64_t query = 0; query < n_queries; query++) {
            float sums[4] = {0};
            for (int64_t d = 0; d < head_dim; d++)
                sums[d % 4] += q[query * head_dim + d] * key[d];
            scores[query * stride + k] = (sums[0] + sums[2]) + (sums[1] + sums[3]);
        }
    }
}

static void axpy(load_row *load, const void *const *values, int64_t n_keys, const float *weights, int64_t stride,
                 int64_t n_queries, int64_t head_dim, float *out, int64_t out_stride) {
    float value[MAX_VALUES];
    for (int64_t query = 0; query < n_queries; query++)
        memset(out + query * out_stride, 0, (size_t)head_dim * sizeof *out);
    for (int64_t k = 0; k < n_keys; k++) {
        load(values[k], value, head_dim);
        for (int64_t query = 0; query < n_queries; query++)
            for (int64_t d = 0; d < head_dim; d++)
                out[query * out_stride + d] += weights[query * stride + k] * value[d];
    }
}

#define MANY_ROWS(type)                                                                                                \
    static void dot_##type(const void *const *keys, int64_t n_keys, const float *q, int64_t n_queries,                 \
                           int64_t head_dim, float *scores, int64_t stride, bool prefetch_l2) {                        \
        (void)prefetch_l2;                                                                                             \
        dot(load_##type, keys, n_keys, q, n_queries, head_dim, scores, stride);                                        \
    }                                                                                                                  \
    static void axpy_##type(const void *const *values, int64_t n_keys, const float *weights, int64_t stride,           \
                            int64_t n_queries, int64_t head_dim, float *out, int64_t out_stride, bool prefetch_l2) {   \
        (void)prefetch_l2;                                                                                             \
        axpy(load_##type, values, n_keys, weights, stride, n_queries, head_dim, out, out_stride);                      \
    }
MANY_ROWS(f16)
MANY_ROWS(f32)
MANY_ROWS(q8)

void kv_fill_scalar(kv_codec *codecs) {
    codecs[KV_F16] = (kv_codec){store_f16, load_f16, dot_f16, axpy_f16};
    codecs[KV_F32] = (kv_codec){store_f32, load_f32, dot_f32, axpy_f32};
    codecs[KV_Q8] = (kv_codec){store_q8, load_q8, dot_q8, axpy_q8};
}
