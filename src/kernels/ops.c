/* Rows are distributed in chunks of about CHUNK_ELEMENTS, whatever the number of threads; work of a single chunk runs
 * on the calling thread, so a step of one token wakes no thread. */
#include "kernels/ops.h"

#include <math.h>
#include <string.h>

enum { CHUNK_ELEMENTS = 32768 };

/* What a call works on; each kind of operation uses what it needs. */
typedef struct rows {
    const ops_kernels *kernels;
    int64_t n_rows, n_columns, rows_per_chunk;
    const float *x, *second; /* second: mix's b, layer_norm's bias */
    int64_t x_stride;
    float *out;
    int64_t out_stride;
    const float *weight;
    float eps, bias;
    const float *per_row; /* [n_rows] */
    const int32_t *offsets;
    int32_t n_heads;
    const float *cos, *sin;
} rows;

static trol_status run_rows(const run *r, rows *work, threads_task task, int64_t elements_per_row) {
    work->kernels = &r->kernels->ops;
    if (work->n_rows <= 0)
        return TROL_OK;
    work->rows_per_chunk =
        elements_per_row < CHUNK_ELEMENTS ? CHUNK_ELEMENTS / (elements_per_row > 0 ? elements_per_row : 1) : 1;
    return run_chunks(r, (work->n_rows + work->rows_per_chunk - 1) / work->rows_per_chunk, task, work);
}

/* First row after a chunk. */
static int64_t chunk_end(const rows *work, int64_t chunk) {
    int64_t end = (chunk + 1) * work->rows_per_chunk;
    return end < work->n_rows ? end : work->n_rows;
}

static void rms_norm_chunk(void *context, int64_t chunk, int thread) {
    const rows *work = context;
    (void)thread;
    for (int64_t i = chunk * work->rows_per_chunk; i < chunk_end(work, chunk); i++)
        work->kernels->rms_norm(work->x + i * work->x_stride, work->out + i * work->out_stride, work->n_columns,
                                work->weight, work->eps);
}

trol_status ops_rms_norm(const run *r, const float *x, int64_t x_stride, float *out, int64_t out_stride, int64_t n_rows,
                         int64_t n_columns, const float *weight, float eps) {
    rows work = {.n_rows = n_rows,
                 .n_columns = n_columns,
                 .x = x,
                 .x_stride = x_stride,
                 .out = out,
                 .out_stride = out_stride,
                 .weight = weight,
                 .eps = eps};
    return run_rows(r, &work, rms_norm_chunk, n_columns);
}

static void layer_norm_chunk(void *context, int64_t chunk, int thread) {
    const rows *work = context;
    (void)thread;
    for (int64_t i = chunk * work->rows_per_chunk; i < chunk_end(work, chunk); i++)
        work->kernels->layer_norm(work->x + i * work->x_stride, work->out + i * work->out_stride, work->n_columns,
                                  work->weight, work->second, work->eps);
}

trol_status ops_layer_norm(const run *r, const float *x, int64_t x_stride, float *out, int64_t out_stride,
                           int64_t n_rows, int64_t n_columns, const float *weight, const float *bias, float eps) {
    rows work = {.n_rows = n_rows,
                 .n_columns = n_columns,
                 .x = x,
                 .second = bias,
                 .x_stride = x_stride,
                 .out = out,
                 .out_stride = out_stride,
                 .weight = weight,
                 .eps = eps};
    return run_rows(r, &work, layer_norm_chunk, n_columns);
}

static void rope_chunk(void *context, int64_t chunk, int thread) {
    const rows *work = context;
    int64_t half = work->n_columns;
    (void)thread;
    for (int64_t i = chunk * work->rows_per_chunk; i < chunk_end(work, chunk); i++)
        for (int32_t head = 0; head < work->n_heads; head++)
            work->kernels->rotate(work->out + i * work->out_stride + work->offsets[head], half, work->cos + i * half,
                                  work->sin + i * half);
}

trol_status ops_rope(const run *r, float *x, int64_t stride, int64_t n_rows, const int32_t *offsets, int32_t n_heads,
                     int32_t head_dim, const float *cos, const float *sin) {
    rows work = {.n_rows = n_rows,
                 .n_columns = head_dim / 2,
                 .out = x,
                 .out_stride = stride,
                 .offsets = offsets,
                 .n_heads = n_heads,
                 .cos = cos,
                 .sin = sin};
    return run_rows(r, &work, rope_chunk, (int64_t)n_heads * head_dim);
}

static void mix_chunk(void *context, int64_t chunk, int thread) {
    const rows *work = context;
    int64_t n = work->n_columns;
    (void)thread;
    for (int64_t i = chunk * work->rows_per_chunk; i < chunk_end(work, chunk); i++)
        work->kernels->mix(work->x + i * n, work->second + i * n, work->per_row[i], work->out + i * n, n);
}

trol_status ops_mix(const run *r, const float *a, const float *b, const float *s, float *out, int64_t n_rows,
                    int64_t n_columns) {
    rows work = {.n_rows = n_rows, .n_columns = n_columns, .x = a, .second = b, .per_row = s, .out = out};
    return run_rows(r, &work, mix_chunk, n_columns);
}

static void gate_chunk(void *context, int64_t chunk, int thread) {
    const rows *work = context;
    (void)thread;
    for (int64_t i = chunk * work->rows_per_chunk; i < chunk_end(work, chunk); i++) {
        float y = work->kernels->dot(work->weight, work->x + i * work->n_columns, work->n_columns) + work->bias;
        work->out[i] = 0.5f * tanhf(y) + 0.5f;
    }
}

trol_status ops_gate(const run *r, const float *x, int64_t n_rows, int64_t n_columns, const float *weight, float bias,
                     float *s) {
    rows work = {.n_rows = n_rows, .n_columns = n_columns, .x = x, .weight = weight, .bias = bias, .out = s};
    return run_rows(r, &work, gate_chunk, n_columns);
}

void ops_to_float(const run *r, element_type type, const void *from, float *to, int64_t n) {
    if (type == ELEMENT_F16)
        r->kernels->ops.float_from_f16(from, to, n);
    else if (type == ELEMENT_BF16)
        r->kernels->ops.float_from_bf16(from, to, n);
    else
        memcpy(to, from, (size_t)n * sizeof *to);
}

void ops_from_float(const run *r, element_type type, const float *from, void *to, int64_t n) {
    if (type == ELEMENT_F16)
        r->kernels->ops.f16_from_float(from, to, n);
    else
        memcpy(to, from, (size_t)n * sizeof *from);
}
