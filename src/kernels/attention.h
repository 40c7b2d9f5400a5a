/* attention.h - softmax(q k^T * scale) v, tiled with an online softmax: memory does not grow with rows times keys. */
#ifndef KERNELS_ATTENTION_H
#define KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kv_codec.h"
#include "kernels/run.h"

/* Keys and values in blocks of tokens. The row (kv_codec.h) of token t, head g is at
 *   (char *)blocks[t / block_tokens] + (t % block_tokens) * token_stride + g * head_stride
 * (strides in bytes). */
typedef struct attention_source {
    kv_type type;
    const void *const *key_blocks;
    const void *const *value_blocks;
    int64_t block_tokens, token_stride, head_stride;
} attention_source;

/* Query rows that attend to the same source, for example the rows of one session. Query head h of row i is at
 * q + i * q_stride + q_offsets[h] and its result goes to out + i * out_stride + h * head_dim. */
typedef struct attention_job {
    const float *q;
    int64_t q_stride;
    float *out;
    int64_t out_stride;
    int64_t n_rows;
    bool answer; /* answer rows: the arithmetic of decoding; otherwise that of prompts and pictures, in tiles */
    attention_source source;
    /* [n_rows], ascending: row i sees keys max(0, p - window) .. p, p its position. NULL: all rows see all n_keys keys.
     */
    const int32_t *positions;
    int64_t n_keys; /* used when positions is NULL (vision) */
} attention_job;

typedef struct attention_shape {
    int32_t n_heads, n_kv_heads, head_dim; /* head h reads key head h / (n_heads / n_kv_heads); head_dim 1 to 256 */
    const int32_t *q_offsets;              /* [n_heads] */
    float scale;
    int64_t window; /* keys before its own that a row sees; INT64_MAX: all */
    bool bf16;      /* tiles may be multiplied in bfloat16 (sums in float32) where the CPU does so faster */
} attention_shape;

/* All jobs, in parallel. A row's result does not depend on other rows, on how many there are, on other jobs or on the
 * number of threads, to the bit; but the two kinds of jobs round differently. Fastest where the tokens of a head follow
 * each other. */
trol_status attention_apply(const run *r, const attention_shape *shape, const attention_job *jobs, int64_t n_jobs);

#endif
