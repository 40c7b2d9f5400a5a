/* linear_small.c - up to LINEAR_SMALL_BATCH input rows: dot products with the weights as they lie.
 *
 * Memory bandwidth is the limit here, so the weights are read once, by several streams a thread; a chunk is a block of
 * weight rows of one product (of both, for gate and up). LoRA takes a first section, which makes t = lora_a x. */
#include "kernels/linear_parts.h"

enum {
    CHUNK_BYTES = 256 * 1024, /* of weights: large against the cost of taking a chunk, small against a matrix */
    CHUNK_ROWS = 256,         /* at most */
    ROW_GROUP = 8             /* the kernels take this many weight rows at a time */
};

typedef struct small_job {
    const run *run;
    const activations *input;
    const product *products;
    int64_t *first_chunk; /* [n_products + 1] */
    int64_t *chunk_rows;  /* [n_products] */
    int64_t n_products;
    const lora_inputs *lora;
    float *const *lora_products; /* one for each lora_a: t [n_rows of the input, rank]; only LoRA rows are set */
    float *sums; /* for each thread: gate, up and lora_b's products, [LINEAR_SMALL_BATCH, CHUNK_ROWS] each */
} small_job;

enum { SUMS = LINEAR_SMALL_BATCH * CHUNK_ROWS };

/* sums [n_rows of the input, CHUNK_ROWS] = rows first .. first + n - 1 of the linear, LoRA added. */
static void multiply_rows(const small_job *job, const linear *l, int64_t first, int64_t n, float *sums,
                          float *scratch) {
    const activations *x = job->input;
    const linear_kernels *table = &job->run->kernels->linear;
    const matrix *w = &l->weight, *b = &l->lora_b;
    first += l->first_row;
    table->dot[w->type](matrix_row(w, first), w->columns * (int64_t)element_bytes(w->type), n, x->data, x->stride,
                        x->n_rows, x->n_columns, sums, CHUNK_ROWS);
    if (!job->lora->n || !linear_has_lora(l))
        return;
    const float *t = job->lora_products[lora_inputs_find(job->lora, l)];
    for (int64_t range = 0; range < x->n_lora_rows; range++) {
        row_range rows = x->lora_rows[range];
        table->dot[b->type](matrix_row(b, first), b->columns * (int64_t)element_bytes(b->type), n,
                            t + rows.first * b->columns, b->columns, rows.count, b->columns, scratch, CHUNK_ROWS);
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
    multiply_rows(job, l, first, n, sums, scratch);
    if (second)
        multiply_rows(job, second, first, n, up, scratch);
    for (int64_t i = 0; i < job->input->n_rows; i++)
        job->run->kernels->linear.finish[p->epilogue](
            sums + i * CHUNK_ROWS, l->bias ? l->bias + l->first_row + first : NULL, up + i * CHUNK_ROWS,
            second && second->bias ? second->bias + second->first_row + first : NULL,
            p->scale ? p->scale + first : NULL, p->out + i * p->out_stride + first, n);
}

/* Weight rows a chunk: by the shape alone. */
static int64_t rows_per_chunk(const product *p) {
    int64_t bytes = p->linear->weight.columns * (int64_t)element_bytes(p->linear->weight.type);
    if (p->epilogue == EPILOGUE_SILU_MUL)
        bytes *= 2;
    int64_t rows = CHUNK_BYTES / max_int64(bytes, 1) / ROW_GROUP * ROW_GROUP;
    return min_int64(max_int64(rows, ROW_GROUP), CHUNK_ROWS);
}

static trol_status run_small(const run *r, const activations *input, const product *products, int64_t n_products,
                             const lora_inputs *lora, float *const *lora_products) {
    small_job job = {.run = r,
                     .input = input,
                     .products = products,
                     .n_products = n_products,
                     .lora = lora,
                     .lora_products = lora_products};
    TRY(run_alloc(r, (size_t)n_products + 1, sizeof *job.first_chunk, (void **)&job.first_chunk));
    TRY(run_alloc(r, (size_t)n_products, sizeof *job.chunk_rows, (void **)&job.chunk_rows));
    TRY(run_alloc(r, 3 * (size_t)SUMS * (size_t)threads_count(r->threads), sizeof *job.sums, (void **)&job.sums));
    job.first_chunk[0] = 0;
    for (int64_t p = 0; p < n_products; p++) {
        job.chunk_rows[p] = rows_per_chunk(&products[p]);
        job.first_chunk[p + 1] = job.first_chunk[p] + divide_up(products[p].linear->n_rows, job.chunk_rows[p]);
    }
    return run_chunks(r, job.first_chunk[n_products], small_task, &job);
}

/* t = lora_a x for every run of LoRA rows and every lora_a. */
static trol_status apply_lora_inputs(const run *r, const activations *input, const lora_inputs *lora, float **t) {
    linear *linears;
    product *products;
    TRY(run_alloc(r, (size_t)lora->n, sizeof *linears, (void **)&linears));
    TRY(run_alloc(r, (size_t)lora->n, sizeof *products, (void **)&products));
    for (int64_t i = 0; i < lora->n; i++) {
        linears[i] = linear_of(*lora->a[i], NULL);
        TRY(run_alloc(r, (size_t)(input->n_rows * lora->a[i]->rows), sizeof **t, (void **)&t[i]));
    }
    for (int64_t range = 0; range < input->n_lora_rows; range++) {
        row_range rows = input->lora_rows[range];
        activations x =
            activations_of(input->data + rows.first * input->stride, rows.count, input->n_columns, input->stride);
        for (int64_t i = 0; i < lora->n; i++)
            products[i] = (product){.linear = &linears[i],
                                    .epilogue = EPILOGUE_STORE,
                                    .out = t[i] + rows.first * lora->a[i]->rows,
                                    .out_stride = lora->a[i]->rows};
        TRY(run_small(r, &x, products, lora->n, &(lora_inputs){0}, NULL));
    }
    return TROL_OK;
}

trol_status linear_apply_small(const run *r, const activations *input, const product *products, int64_t n_products) {
    lora_inputs lora;
    float **t = NULL;
    TRY(lora_inputs_of(r, input, products, n_products, &lora));
    if (lora.n) {
        TRY(run_alloc(r, (size_t)lora.n, sizeof *t, (void **)&t));
        TRY(apply_lora_inputs(r, input, &lora, t));
    }
    return run_small(r, input, products, n_products, &lora, t);
}
