/* kv_codec.h - how keys and values are stored, and the loops that read them as stored: a row for each type.
 *
 * Attention reads nothing but what is stored, in the call that stores it too, so a prompt gives the same bits however
 * it is cut into calls.
 *
 * What is stored together is one head of one token, n values:
 *     f32, f16   the values
 *     q8         a scale (bfloat16), then n signed bytes: value = scale * byte
 * Rows follow each other without padding, at any address. The scale is the largest magnitude / 127, rounded up, so that
 * the range is that of float32: values beyond F16's 65,504 are held. Rows whose largest magnitude is below 2^-118
 * become zero; one with an infinity or NaN becomes NaN. */
#ifndef KERNELS_KV_CODEC_H
#define KERNELS_KV_CODEC_H

#include <stdbool.h>
#include <stdint.h>

typedef enum kv_type { KV_F16, KV_F32, KV_Q8, KV_TYPES } kv_type; /* numbered as trol_cache_type */

/* "f16", "f32", "q8". Static storage. */
const char *kv_name(kv_type type);

enum { KV_Q8_SCALE_BYTES = 2 };

/* Bytes of a row of n values. */
static inline int64_t kv_bytes(kv_type type, int64_t n) {
    return type == KV_Q8 ? KV_Q8_SCALE_BYTES + n : type == KV_F16 ? 2 * n : 4 * n;
}

/* Each entry treats the values of a row alike wherever it begins; n and head_dim are at most 256. */
typedef struct kv_codec {
    /* false: a finite value is too large for the type. The same bytes at every level, whatever the float mode. */
    bool (*store)(const float *from, void *to, int64_t n);
    void (*load)(const void *from, float *to, int64_t n);
    /* scores[query * stride + key] = dot(q[query], key), q [n_queries, head_dim]. */
    void (*dot)(const void *const *keys, int64_t n_keys, const float *q, int64_t n_queries, int64_t head_dim,
                float *scores, int64_t stride, bool prefetch_l2);
    /* out[query] = sum over keys of weights[query * stride + key] * value, out [n_queries, head_dim] at out_stride. */
    void (*axpy)(const void *const *values, int64_t n_keys, const float *weights, int64_t stride, int64_t n_queries,
                 int64_t head_dim, float *out, int64_t out_stride, bool prefetch_l2);
} kv_codec;

/* Each instruction set's own entries [KV_TYPES], over those that are there; defined only where the compiler can build
 * them. */
void kv_fill_scalar(kv_codec *codecs);
void kv_fill_avx2(kv_codec *codecs);
void kv_fill_avx512(kv_codec *codecs);

#endif
