/* ops.h - what is computed between the products: norms, rotary embedding, conversions. All parallel over rows, in
 * float32. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include <stdint.h>

#include "kernels/run.h"
#include "kernels/types.h"

/* out[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight; x, out [n_rows, n_columns] with their strides; in place is
 * allowed. */
trol_status ops_rms_norm(const run *r, const float *x, int64_t x_stride, float *out, int64_t out_stride, int64_t n_rows,
                         int64_t n_columns, const float *weight, float eps);
/* out[i] = (x[i] - mean) / sqrt(var + eps) * weight + bias, var biased (divided by n_columns). */
trol_status ops_layer_norm(const run *r, const float *x, int64_t x_stride, float *out, int64_t out_stride,
                           int64_t n_rows, int64_t n_columns, const float *weight, const float *bias, float eps);

/* Rotates heads in place, first half with second half: head at x + i * stride + offsets[h], cos and sin
 * [n_rows, head_dim / 2]. */
trol_status ops_rope(const run *r, float *x, int64_t stride, int64_t n_rows, const int32_t *offsets, int32_t n_heads,
                     int32_t head_dim, const float *cos, const float *sin);

/* out = (1 - s) * a + s * b for each row, s [n_rows]; all [n_rows, n_columns], contiguous; out may be a or b. */
trol_status ops_mix(const run *r, const float *a, const float *b, const float *s, float *out, int64_t n_rows,
                    int64_t n_columns);

/* s[i] = 0.5 * tanh(dot(weight, x[i]) + bias) + 0.5: the TroL-Mixer's gate. x [n_rows, n_columns], contiguous. */
trol_status ops_gate(const run *r, const float *x, int64_t n_rows, int64_t n_columns, const float *weight, float bias,
                     float *s);

/* One row, any type to float32 and float32 to F16 or F32; unaligned pointers are fine. The calling thread does it all,
 * so a task of a parallel region may call them; they use only r->kernels. */
void ops_to_float(const run *r, element_type type, const void *from, float *to, int64_t n);
void ops_from_float(const run *r, element_type type, const float *from, void *to, int64_t n);

#endif
