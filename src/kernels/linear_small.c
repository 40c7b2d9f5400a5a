/* linear_small.c - up to LINEAR_SMALL_BATCH input rows: dot products with the weights in place.
 *
 * Memory bandwidth is the limit here, so the weights are read once, by several streams a thread; a chunk is a block of
 * weight rows of one product (of both, for gate and up). LoRA takes a parallel section before, which makes t = lora_a
 * x. */
#include "kernels/linear_small.h"

#include <string.h>

#include "kernels/linear_parts.h"

enum {
    CHUNK_BYTES = 1 << 20,        /* of weights, at most: streams of them take a while to come up to speed */
    SHARED_CHUNK_BYTES = 1 << 18, /* the same for several input rows, which find them in L2 */
    CHUNK_ROWS = 512,             /* at most */
    CHUNKS_A_THREAD = 4,          /* at least, so that uneven threads have something to share */
    ROW_GROUP = 64,               /* rows that fill the streams of every kernel */
    SUMS = LINEAR_SMALL_BATCH * CHUNK_ROWS
};

/* Input rows as the weights want them. */
typedef struct small_input {
    const float *rows; /* [n_rows, n_columns] */
    int64_t stride;
    quantized_input quantized; /* filled where a product needs it */
} small_input;

typedef struct small_job {
    const run *run;
    const activations *input;
    const product *products;
    small_input x;
    const lora_inputs *lora;
    const small_input *t; /* one for each lora_a: lora_a x, [n_rows of the input, rank]; zero off the LoRA rows */
    int64_t *first_chunk; /* [number of products + 1] */
    int64_t *chunk_rows;  /* [number of products] */
    float *sums;          /* for each thread: gate, up and lora_b's products, [LINEAR_SMALL_BATCH, CHUNK_ROWS] each */
} small_job;

/* sums [n_inputs, CHUNK_ROWS] = rows first .. first + n - 1 of the matrix times input rows first_input and on. */
static void multiply_rows(const small_job *job, const matrix *m, int64_t first, int64_t n, const small_input *x,
                          int64_t first_input, int64_t n_inputs, float *sums) {
    const kernels *table = job->run->kernels;
    if (matrix_quantized(m))
        quantized_multiply(&table->quantized, m->type, m->data, first, n, &x->quantized, first_input, n_inputs, sums,
                           CHUNK_ROWS, NULL);
    else
        table->linear.dot[m->type](matrix_row(m, first), m->columns * (int64_t)element_bytes(m->type), n,
                                   x->rows + first_input * x->stride, x->stride, n_inputs, m->columns, sums,
                                   CHUNK_ROWS);
}

/* sums [n_rows of the input, CHUNK_ROWS] = rows first .. first + n - 1 of the linear, LoRA added. */
static void multiply_linear(const small_job *job, const linear *l, int64_t first, int64_t n, float *sums,
                            float *scratch) {
    const activations *x = job->input;
    multiply_rows(job, &l->weight, l->first_row + first, n, &job->x, 0, x->n_rows, sums);
    if (!job->lora->n || !linear_has_lora(l))
        return;
    const small_input *t = &job->t[lora_inputs_find(job->lora, l)];
    for (int64_t range = 0; range < x->n_lora_rows; range++) {
        row_range rows = x->lora_rows[range];
        multiply_rows(job, &l->lora_b, l->first_row + first, n, t, rows.first, rows.count, scratch);
        for (int64_t i = 0; i < rows.count; i++)
            for (int64_t j = 0; j < n; j++)
                sums[(rows.first + i) * CHUNK_ROWS + j] += scratch[i * CHUNK_ROWS + j];
    }
}

static void small_task(void *context, int64_t chunk, int thread) {
    const small_job *job = context;
    int64_t number = 0;
    while (chunk >= job->first_chunk[number + 1])
        number++;
    const product *p = &job->products[number];
    const linear *l = p->linear, *second = p->epilogue == EPILOGUE_SILU_MUL ? p->second : NULL;
    int64_t first = (chunk - job->first_chunk[number]) * job->chunk_rows[number];
    int64_t n = min_int64(job->chunk_rows[number], l->n_rows - first);
    float *sums = job->sums + (int64_t)thread * 3 * SUMS, *up = sums + SUMS, *scratch = up + SUMS;
    multiply_linear(job, l, first, n, sums, scratch);
    if (second)
        multiply_linear(job, second, first, n, up, scratch);
    for (int64_t i = 0; i < job->input->n_rows; i++)
        job->run->kernels->linear.epilogues[p->epilogue](
            sums + i * CHUNK_ROWS, l->bias ? l->bias + l->first_row + first : NULL, up + i * CHUNK_ROWS,
            second && second->bias ? second->bias + second->first_row + first : NULL,
            p->scale ? p->scale + first : NULL, p->out + i * p->out_stride + first, n);
}

/* Weight rows a chunk. Every row is summed up by itself, so this may well depend on the number of threads. */
static int64_t rows_per_chunk(const run *r, const product *p, int64_t n_inputs) {
    const matrix *m = &p->linear->weight;
    int64_t row_bytes = matrix_quantized(m) ? (int64_t)quantized_group_bytes(m->type, m->columns) / QUANTIZED_GROUP
                                            : m->columns * (int64_t)element_bytes(m->type);
    if (p->epilogue == EPILOGUE_SILU_MUL)
        row_bytes *= 2;
    int64_t rows = min_int64((n_inputs == 1 ? CHUNK_BYTES : SHARED_CHUNK_BYTES) / max_int64(row_bytes, 1),
                             p->linear->n_rows / (CHUNKS_A_THREAD * threads_count(r->threads)));
    int64_t group = rows < ROW_GROUP ? QUANTIZED_GROUP : ROW_GROUP;
    return min_int64(max_int64(rows / group * group, group), CHUNK_ROWS);
}

static trol_status run_small(const run *r, const activations *input, const product *products, int64_t n_products,
                             const lora_inputs *lora, const small_input *t) {
    small_job job = {.run = r, .input = input, .products = products, .lora = lora, .t = t};
    bool quantized = false;
    for (int64_t p = 0; p < n_products; p++)
        quantized |= matrix_quantized(&products[p].linear->weight) ||
                     (products[p].second && matrix_quantized(&products[p].second->weight));
    job.x = (small_input){.rows = input->data, .stride = input->stride};
    if (quantized)
        TRY(prepare_quantized_input(r, input->data, input->stride, input->n_rows, input->n_columns, false,
                                    &job.x.quantized));
    TRY(run_alloc(r, (size_t)n_products + 1, sizeof *job.first_chunk, (void **)&job.first_chunk));
    TRY(run_alloc(r, (size_t)n_products, sizeof *job.chunk_rows, (void **)&job.chunk_rows));
    TRY(run_alloc(r, 3 * (size_t)SUMS * (size_t)threads_count(r->threads), sizeof *job.sums, (void **)&job.sums));
    job.first_chunk[0] = 0;
    for (int64_t p = 0; p < n_products; p++) {
        job.chunk_rows[p] = rows_per_chunk(r, &products[p], input->n_rows);
        job.first_chunk[p + 1] = job.first_chunk[p] + divide_up(products[p].linear->n_rows, job.chunk_rows[p]);
    }
    return run_chunks(r, job.first_chunk[n_products], small_task, &job);
}

/* t = lora_a x for every run of LoRA rows and every lora_a. */
static trol_status apply_lora_inputs(const run *r, const activations *input, const lora_inputs *lora, small_input *t) {
    linear *linears;
    product *products;
    float **out;
    TRY(run_alloc(r, (size_t)lora->n, sizeof *linears, (void **)&linears));
    TRY(run_alloc(r, (size_t)lora->n, sizeof *products, (void **)&products));
    TRY(run_alloc(r, (size_t)lora->n, sizeof *out, (void **)&out));
    for (int64_t i = 0; i < lora->n; i++) {
        size_t n = (size_t)(input->n_rows * lora->a[i]->rows);
        linears[i] = linear_of(*lora->a[i], NULL);
        TRY(run_alloc(r, n, sizeof *out[i], (void **)&out[i]));
        memset(out[i], 0, n * sizeof *out[i]);
        t[i] = (small_input){.rows = out[i], .stride = lora->a[i]->rows};
    }
    for (int64_t range = 0; range < input->n_lora_rows; range++) {
        row_range rows = input->lora_rows[range];
        activations x =
            activations_of(input->data + rows.first * input->stride, rows.count, input->n_columns, input->stride);
        for (int64_t i = 0; i < lora->n; i++)
            products[i] = (product){.linear = &linears[i],
                                    .epilogue = EPILOGUE_STORE,
                                    .out = out[i] + rows.first * t[i].stride,
                                    .out_stride = t[i].stride};
        TRY(run_small(r, &x, products, lora->n, &(lora_inputs){0}, NULL));
    }
    for (int64_t i = 0; i < lora->n; i++)
        if (lora->quantized_b[i])
            TRY(prepare_quantized_input(r, out[i], t[i].stride, input->n_rows, t[i].stride, false, &t[i].quantized));
    return TROL_OK;
}

trol_status linear_apply_small(const run *r, const activations *input, const product *products, int64_t n_products) {
    lora_inputs lora;
    small_input *t = NULL;
    TRY(lora_inputs_of(r, input, products, n_products, &lora));
    if (lora.n) {
        TRY(run_alloc(r, (size_t)lora.n, sizeof *t, (void **)&t));
        TRY(apply_lora_inputs(r, input, &lora, t));
    }
    return run_small(r, input, products, n_products, &lora, t);
}
