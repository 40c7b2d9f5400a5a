/* ops_kernels.h - the inner loops of ops: what kernels.h puts in its table.
 *
 * Each works on one row (or a part of one), whose elements it treats alike wherever the row begins: pointers may have
 * any alignment that C allows for floats, and 16-bit values may be at odd addresses. */
#ifndef KERNELS_OPS_KERNELS_H
#define KERNELS_OPS_KERNELS_H

#include <stdint.h>

#include "kernels/types.h"

typedef struct ops_kernels {
    /* Conversions, n values. From float: to nearest, ties to even; beyond 65519 becomes infinite. */
    void (*float_from_f16)(const void *from, float *to, int64_t n);
    void (*float_from_bf16)(const void *from, float *to, int64_t n);
    void (*f16_from_float)(const float *from, void *to, int64_t n);

    /* out = x / sqrt(mean(x^2) + eps) * weight; out may be x. */
    void (*rms_norm)(const float *x, float *out, int64_t n, const float *weight, float eps);
    /* out = (x - mean) / sqrt(variance + eps) * weight + bias; out may be x. */
    void (*layer_norm)(const float *x, float *out, int64_t n, const float *weight, const float *bias, float eps);
    /* (x[i], x[half + i]) turned by the angle with cos[i] and sin[i], in place. */
    void (*rotate)(float *x, int64_t half, const float *cos, const float *sin);
    /* out = (1 - s) * a + s * b; out may be a or b. */
    void (*mix)(const float *a, const float *b, float s, float *out, int64_t n);
    float (*dot)(const float *a, const float *b, int64_t n);
} ops_kernels;

/* Each instruction set's own entries, over those that are there; defined only where the compiler can build them. */
void ops_fill_scalar(ops_kernels *table);
void ops_fill_avx2(ops_kernels *table);
void ops_fill_avx512(ops_kernels *table);

#endif
