/* linear_large.c - many input rows: tiles of a matrix product, or the BLAS.
 *
 * The input is packed once. Then each chunk of work takes a panel of weight rows (of both matrices, for gate and up)
 * and all input rows: block of columns after block, it packs the weights, as floats, into memory of its thread, which
 * stays in the L2 cache, and multiplies all packed inputs by them, adding up in `sums`; the epilogue follows while they
 * are warm. So weights are read once, in place, and no copy of a whole matrix is ever made.
 *
 * LoRA is an ordinary product: t = lora_a x, then lora_b t into an addend beside the sums, which the epilogue adds to
 * the rows that take part, like a bias. Panels of inputs without any such row are skipped. */
#include "kernels/linear_large.h"

#include <string.h>

#include "kernels/linear_blas.h"
#include "kernels/linear_parts.h"

enum { BLOCK_ROWS = 1536 }; /* input rows done together, at most: bounds the packed copy and the sums of a chunk */

typedef struct large_way large_way;

/* Input rows in the form that a way to multiply wants: packed panels, the rows themselves for OpenBLAS, or the form
 * that packed matrices are multiplied with. */
typedef struct packed_inputs {
    const float *rows; /* [n_rows, n_columns] */
    int64_t stride, n_rows, n_columns;
    const large_way *way;
    const linear_gemm *gemm;   /* whose tile_inputs, column_group, input_bytes and pack_inputs count */
    unsigned char *panels;     /* of tiles */
    quantized_input quantized; /* of packed matrices */
} packed_inputs;

static int64_t panel_bytes(const linear_gemm *gemm, int64_t n_columns) {
    return gemm->tile_inputs * gemm->input_bytes * round_up(n_columns, gemm->column_group);
}

static void pack_task(void *context, int64_t chunk, int thread) {
    (void)thread;
    const packed_inputs *in = context;
    const linear_gemm *gemm = in->gemm;
    int64_t first = chunk * gemm->tile_inputs;
    gemm->pack_inputs(in->rows + first * in->stride, in->stride, min_int64(gemm->tile_inputs, in->n_rows - first),
                      in->n_columns, in->panels + chunk * panel_bytes(gemm, in->n_columns));
}

/* One side of a product: inputs, and the way that they are multiplied by weights of a type. */
typedef struct operand {
    packed_inputs *inputs; /* NULL: there is no such product */
    const large_way *way;
    const linear_gemm *gemm; /* the block sizes and functions of tiles, the block sizes of OpenBLAS; else NULL */
    element_type type;       /* of the weights */
} operand;

/* One product of a row block. */
typedef struct large_job {
    const product *product;
    float *out;                        /* of the row block's first row */
    operand inputs[2];                 /* for linear and for second */
    operand lora[2];                   /* t for linear and for second */
    bool only_lora_rows;               /* leaves the rows of panels without any LoRA row undefined */
    int64_t outputs;                   /* of a chunk */
    int64_t chunk_rows, row_chunks;    /* input rows of a chunk, and how many such blocks there are */
    int64_t sums_outputs, sums_stride; /* a row of sums: a part for each product, and for each one's LoRA addend */
    int64_t first_chunk;
} large_job;

typedef struct row_block {
    const run *run;
    linear_arithmetic arithmetic;
    large_job *jobs;
    int64_t n_jobs;
    int64_t first_row, n_rows; /* the input rows of this row block, counted in the whole input */
    const row_range *lora_rows;
    int64_t n_lora_rows;
    int64_t scratch_bytes, sums_bytes; /* for each thread */
    unsigned char *scratch;
} row_block;

/* Whether any of the row block's rows first .. first + n - 1 takes part in LoRA. */
static bool any_lora_row(const row_block *s, int64_t first, int64_t n) {
    first += s->first_row;
    for (int64_t i = 0; i < s->n_lora_rows; i++)
        if (s->lora_rows[i].first < first + n && first < s->lora_rows[i].first + s->lora_rows[i].count)
            return true;
    return false;
}

/* A chunk of work: outputs first .. first + n - 1 of a product, for input rows row .. row + n_rows - 1 of the row
 * block.
 */
typedef struct large_chunk {
    const row_block *block;
    const large_job *job;
    int64_t first, n;
    int64_t row, n_rows;
    float *sums; /* [n_rows, stride]: the products, the second's from column `up` on, then their addends */
    int64_t stride, up, addend; /* addend: the column of the first one's; 0: there are none */
    bool one_pass; /* each panel of inputs goes through the epilogue at once: all use the first rows of sums */
    unsigned char *scratch;
} large_chunk;

static float *sums_of(const large_chunk *c, int64_t row) {
    return c->sums + (c->one_pass ? 0 : (row - c->row) * c->stride);
}

/* Adds what LoRA makes of a row to its sums. */
static void add_lora(const large_chunk *c, float *sums) {
    for (int second = 0; second < 2; second++) {
        if (!c->job->lora[second].inputs)
            continue;
        float *to = sums + second * c->up;
        const float *addend = sums + c->addend + second * c->up;
        for (int64_t j = 0; j < c->n; j++)
            to[j] += addend[j];
    }
}

/* The epilogue of input rows row .. row + n_rows - 1. */
static void apply_epilogue(const large_chunk *c, int64_t row, int64_t n_rows) {
    const product *p = c->job->product;
    const linear *l = p->linear, *second = p->epilogue == EPILOGUE_SILU_MUL ? p->second : NULL;
    linear_epilogue apply = c->block->run->kernels->linear.epilogues[p->epilogue];
    for (int64_t i = 0; i < n_rows; i++) {
        float *sums = sums_of(c, row) + i * c->stride;
        if (c->addend && any_lora_row(c->block, row + i, 1))
            add_lora(c, sums);
        apply(sums, l->bias ? l->bias + l->first_row + c->first : NULL, sums + c->up,
              second && second->bias ? second->bias + second->first_row + c->first : NULL,
              p->scale ? p->scale + c->first : NULL, c->job->out + (row + i) * p->out_stride + c->first, c->n);
    }
}

/* One matrix of a chunk. */
typedef struct large_pass {
    const operand *x;
    const matrix *weights;
    int64_t first;       /* the chunk's first row of the matrix */
    int64_t sums_column; /* where its product goes */
    bool only_lora_rows; /* skips panels without any */
    bool last;           /* the epilogue follows */
} large_pass;

/* Multiplies the chunk's packed inputs by a packed block of weights of n_columns columns from `column` on. */
static void multiply_tiles(const large_chunk *c, const large_pass *pass, int64_t column, int64_t n_columns) {
    const linear_gemm *gemm = pass->x->gemm;
    const packed_inputs *in = pass->x->inputs;
    bool add = column > 0, last = pass->last && column + n_columns == pass->weights->columns;
    int64_t padded = round_up(n_columns, gemm->column_group);
    int64_t weight_panel = gemm->tile_outputs * gemm->weight_bytes * padded;
    int64_t row_bytes = pass->weights->columns * (int64_t)element_bytes(pass->weights->type);
    const unsigned char *weights =
        matrix_row(pass->weights, pass->first) + column * (int64_t)element_bytes(pass->weights->type);
    for (int64_t j = 0; j < c->n; j += gemm->tile_outputs)
        gemm->pack_weights(weights + j * row_bytes, row_bytes, min_int64(gemm->tile_outputs, c->n - j), n_columns,
                           c->scratch + j / gemm->tile_outputs * weight_panel);
    for (int64_t i = c->row; i < c->row + c->n_rows; i += gemm->tile_inputs) {
        const unsigned char *inputs = in->panels + i / gemm->tile_inputs * panel_bytes(gemm, in->n_columns) +
                                      column * gemm->tile_inputs * gemm->input_bytes;
        float *sums = sums_of(c, i) + pass->sums_column;
        if (!pass->only_lora_rows || any_lora_row(c->block, i, gemm->tile_inputs))
            for (int64_t j = 0; j < c->n; j += gemm->tile_outputs)
                gemm->tile(inputs, c->scratch + j / gemm->tile_outputs * weight_panel, padded, sums + j, c->stride,
                           add);
        if (last)
            apply_epilogue(c, i, min_int64(gemm->tile_inputs, c->row + c->n_rows - i));
    }
}

/* The same by the BLAS. */
static void multiply_blas(const large_chunk *c, const large_pass *pass, int64_t column, int64_t n_columns) {
    const packed_inputs *in = pass->x->inputs;
    const matrix *m = pass->weights;
    float *weights = (float *)c->scratch;
    for (int64_t j = 0; j < c->n; j++)
        c->block->run->kernels->linear.to_float[m->type](matrix_row(m, pass->first + j) +
                                                             column * (int64_t)element_bytes(m->type),
                                                         weights + j * n_columns, n_columns);
    blas_multiply(in->rows + c->row * in->stride + column, in->stride, c->n_rows, weights, c->n, n_columns,
                  c->sums + pass->sums_column, c->stride, column > 0);
    if (pass->last && column + n_columns == m->columns)
        apply_epilogue(c, c->row, c->n_rows);
}

/* The same by the kernels for packed matrices. */
static void multiply_quantized(const large_chunk *c, const large_pass *pass) {
    const row_block *s = c->block;
    const quantized_kernels *table = &s->run->kernels->quantized;
    const matrix *m = pass->weights;
    for (int64_t range = 0; range < (pass->only_lora_rows ? s->n_lora_rows : 1); range++) {
        int64_t first = c->row, end = c->row + c->n_rows;
        if (pass->only_lora_rows) {
            first = max_int64(s->lora_rows[range].first - s->first_row, first);
            end = min_int64(s->lora_rows[range].first + s->lora_rows[range].count - s->first_row, end);
        }
        if (first < end)
            quantized_multiply(table, m->type, m->data, pass->first, c->n, &pass->x->inputs->quantized, first,
                               end - first, sums_of(c, first) + pass->sums_column, c->stride, c->scratch);
    }
    if (pass->last)
        apply_epilogue(c, c->row, c->n_rows);
}

static void run_tiles(const large_chunk *c, const large_pass *pass) {
    const linear_gemm *gemm = pass->x->gemm;
    if (gemm->begin)
        gemm->begin();
    for (int64_t column = 0; column < pass->weights->columns; column += gemm->block_columns)
        multiply_tiles(c, pass, column, min_int64(gemm->block_columns, pass->weights->columns - column));
    if (gemm->end)
        gemm->end();
}

static void run_blas(const large_chunk *c, const large_pass *pass) {
    const int64_t block = pass->x->gemm->block_columns;
    for (int64_t column = 0; column < pass->weights->columns; column += block)
        multiply_blas(c, pass, column, min_int64(block, pass->weights->columns - column));
}

/* ---- ways to multiply ------------------------------------------------------------------------ */

enum { ENOUGH_CHUNKS = 16, FEWEST_OUTPUTS = 64, FEWEST_ROWS = 96, WIDEST_TILE = 64 };

struct large_way {
    /* Makes the form of the inputs. */
    trol_status (*prepare)(const run *r, packed_inputs *form);
    /* Outputs of a chunk, of `all` of one or (share 2) two matrices. */
    int64_t (*chunk_outputs)(const operand *x, int64_t all, int64_t share);
    /* Input rows that are multiplied together. */
    int64_t (*tile_rows)(const operand *x);
    /* Memory of a thread for a chunk's weights. */
    int64_t (*weight_bytes)(const run *r, const operand *x, int64_t outputs);
    /* One matrix of a chunk, and the epilogue after the last. */
    void (*multiply)(const large_chunk *c, const large_pass *pass);
};

static trol_status prepare_panels(const run *r, packed_inputs *form) {
    int64_t n_panels = divide_up(form->n_rows, form->gemm->tile_inputs);
    TRY(run_alloc(r, (size_t)n_panels, (size_t)panel_bytes(form->gemm, form->n_columns), (void **)&form->panels));
    return run_chunks(r, n_panels, pack_task, form);
}

static trol_status prepare_nothing(const run *r, packed_inputs *form) {
    (void)r;
    (void)form;
    return TROL_OK;
}

static trol_status prepare_quantized(const run *r, packed_inputs *form) {
    return prepare_quantized_input(r, form->rows, form->stride, form->n_rows, form->n_columns, true, &form->quantized);
}

static int64_t gemm_chunk_outputs(const operand *x, int64_t all, int64_t share) {
    int64_t outputs = x->gemm->chunk_outputs;
    while (all * share / outputs < ENOUGH_CHUNKS && outputs > FEWEST_OUTPUTS)
        outputs /= 2;
    return outputs / share;
}

static int64_t quantized_chunk_outputs(const operand *x, int64_t all, int64_t share) {
    int64_t rows = quantized_chunk_rows(all, &x->inputs->quantized);
    return max_int64(rows / share / QUANTIZED_GROUP * QUANTIZED_GROUP, QUANTIZED_GROUP);
}

static int64_t gemm_tile_rows(const operand *x) { return x->gemm->tile_inputs; }

static int64_t quantized_tile_rows(const operand *x) {
    (void)x;
    return 16; /* of AMX; the tiles of 8-bit inputs divide it or waste nothing by it */
}

static int64_t gemm_weight_bytes(const run *r, const operand *x, int64_t outputs) {
    (void)r;
    return round_up(outputs, x->gemm->tile_outputs) * x->gemm->block_columns * x->gemm->weight_bytes;
}

static int64_t quantized_weight_bytes(const run *r, const operand *x, int64_t outputs) {
    return (int64_t)quantized_scratch_bytes(&r->kernels->quantized, x->type, outputs, &x->inputs->quantized);
}

static const large_way tiles_way = {prepare_panels, gemm_chunk_outputs, gemm_tile_rows, gemm_weight_bytes, run_tiles};
static const large_way blas_way = {prepare_nothing, gemm_chunk_outputs, gemm_tile_rows, gemm_weight_bytes, run_blas};
static const large_way quantized_way = {prepare_quantized, quantized_chunk_outputs, quantized_tile_rows,
                                        quantized_weight_bytes, multiply_quantized};

/* OpenBLAS takes the inputs in place and a block of weight rows in float32. */
static const linear_gemm blas_gemm = {.tile_inputs = 1,
                                      .tile_outputs = 1,
                                      .chunk_outputs = 256,
                                      .block_columns = 1024,
                                      .column_group = 1,
                                      .input_bytes = 4,
                                      .weight_bytes = 4};

/* How the weights of a matrix are multiplied; the inputs are missing yet. */
static operand operand_of(const run *r, linear_arithmetic arithmetic, const matrix *m) {
    const linear_kernels *table = &r->kernels->linear;
    if (matrix_quantized(m))
        return (operand){.way = &quantized_way, .type = m->type};
    if (arithmetic == LINEAR_BF16 && table->bf16[m->type].tile)
        return (operand){.way = &tiles_way, .gemm = &table->bf16[m->type], .type = m->type};
    if (table->blas && blas_open())
        return (operand){.way = &blas_way, .gemm = &blas_gemm, .type = m->type};
    return (operand){.way = &tiles_way, .gemm = &table->exact[m->type], .type = m->type};
}

/* Whether the operand takes inputs in a form that was made for another one. */
static bool takes_form(const operand *x, const packed_inputs *form) {
    return x->way == form->way && (!x->gemm || x->gemm->pack_inputs == form->gemm->pack_inputs);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void large_task(void *context, int64_t chunk, int thread) {
    const row_block *s = context;
    const large_job *job = &s->jobs[s->n_jobs - 1];
    while (chunk < job->first_chunk)
        job--;
    const product *p = job->product;
    bool with_second = p->epilogue == EPILOGUE_SILU_MUL;
    large_chunk c = {.block = s,
                     .job = job,
                     .first = (chunk - job->first_chunk) / job->row_chunks * job->outputs,
                     .row = (chunk - job->first_chunk) % job->row_chunks * job->chunk_rows,
                     .stride = job->sums_stride,
                     .up = with_second ? job->sums_outputs : 0,
                     .addend =
                         job->lora[0].inputs || job->lora[1].inputs ? (with_second ? 2 : 1) * job->sums_outputs : 0};
    c.n = min_int64(job->outputs, p->linear->n_rows - c.first);
    c.n_rows = min_int64(job->chunk_rows, s->n_rows - c.row);
    c.scratch = s->scratch + thread * (s->scratch_bytes + s->sums_bytes);
    c.sums = (float *)(c.scratch + s->scratch_bytes);
    large_pass passes[4];
    int n_passes = 0;
    for (int lora = 1; lora >= 0; lora--) /* addends first: the epilogue follows the last product */
        for (int second = 0; second <= with_second; second++) {
            const linear *l = second ? p->second : p->linear;
            const operand *x = lora ? &job->lora[second] : &job->inputs[second];
            if (!x->inputs)
                continue;
            passes[n_passes++] = (large_pass){.x = x,
                                              .weights = lora ? &l->lora_b : &l->weight,
                                              .first = l->first_row + c.first,
                                              .sums_column = (lora ? c.addend : 0) + (second ? c.up : 0),
                                              .only_lora_rows = lora || job->only_lora_rows};
        }
    passes[n_passes - 1].last = true;
    const operand *x = passes[0].x;
    c.one_pass = n_passes == 1 && x->way == &tiles_way && passes[0].weights->columns <= x->gemm->block_columns;
    for (int i = 0; i < n_passes; i++)
        passes[i].x->way->multiply(&c, &passes[i]);
}

/* Multiplications of a chunk at most: about 0.1 s on a slow CPU, for a computation can be cancelled between chunks. */
static const int64_t MOST_PRODUCTS = (int64_t)1 << 31;

static int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

/* How a job is cut, by the shape alone: blocks of outputs for all input rows where that gives enough chunks for threads
 * to share, smaller ones otherwise, and of some input rows only where there are few outputs (lora_a) or very many
 * columns. */
static void cut_job(const row_block *s, large_job *job) {
    int64_t share = job->product->epilogue == EPILOGUE_SILU_MUL ? 2 : 1, all = job->product->linear->n_rows;
    const operand *x = &job->inputs[0];
    job->outputs = x->way->chunk_outputs(x, all, share);
    int64_t unit = 1; /* whole tiles of every operand */
    for (int i = 0; i < 4; i++) {
        x = i < 2 ? &job->inputs[i] : &job->lora[i - 2];
        int64_t tile = x->inputs ? x->way->tile_rows(x) : 1;
        unit = unit / greatest_common_divisor(unit, tile) * tile;
    }
    int64_t products = s->n_rows * job->outputs * share * job->product->linear->weight.columns;
    int64_t blocks =
        max_int64(divide_up(ENOUGH_CHUNKS, divide_up(all, job->outputs)), divide_up(products, MOST_PRODUCTS));
    job->chunk_rows = round_up(max_int64(divide_up(s->n_rows, blocks), FEWEST_ROWS), unit);
    job->row_chunks = divide_up(s->n_rows, job->chunk_rows);
    int64_t parts = job->lora[0].inputs || job->lora[1].inputs ? 2 * share : share;
    job->sums_outputs = round_up(job->outputs, WIDEST_TILE);
    job->sums_stride = parts * job->sums_outputs;
}

/* Memory of one thread for a chunk: the packed weights of a block, and the sums, with the rows and outputs that tiles
 * pad. */
static void size_scratch(row_block *s, const large_job *job, const operand *x) {
    if (!x->inputs)
        return;
    int64_t weights = x->way->weight_bytes(s->run, x, job->outputs);
    int64_t rows = round_up(min_int64(job->chunk_rows, s->n_rows), x->way->tile_rows(x));
    s->scratch_bytes = max_int64(s->scratch_bytes, round_up(weights, 64));
    s->sums_bytes = max_int64(s->sums_bytes, round_up(rows * job->sums_stride * (int64_t)sizeof(float), 64));
}

static trol_status run_row_block(row_block *s) {
    int64_t n_chunks = 0;
    s->scratch_bytes = s->sums_bytes = 0;
    for (int64_t p = 0; p < s->n_jobs; p++) {
        large_job *job = &s->jobs[p];
        cut_job(s, job);
        for (int second = 0; second < 2; second++) {
            size_scratch(s, job, &job->inputs[second]);
            size_scratch(s, job, &job->lora[second]);
        }
        job->first_chunk = n_chunks;
        n_chunks += divide_up(job->product->linear->n_rows, job->outputs) * job->row_chunks;
    }
    size_t mark = workspace_mark(s->run->space);
    TRY(run_alloc(s->run, (size_t)threads_count(s->run->threads), (size_t)(s->scratch_bytes + s->sums_bytes),
                  (void **)&s->scratch));
    trol_status status = run_chunks(s->run, n_chunks, large_task, s);
    workspace_release(s->run->space, mark);
    return status;
}

/* The operand for a matrix: its inputs are in forms[0 .. *n_forms-1] already, or are prepared and put there. */
static trol_status prepare_operand(const row_block *s, const matrix *m, const float *rows, int64_t stride,
                                   packed_inputs *forms, int64_t *n_forms, operand *result) {
    *result = operand_of(s->run, s->arithmetic, m);
    for (int64_t i = 0; i < *n_forms; i++)
        if (takes_form(result, &forms[i]) && forms[i].rows == rows) {
            result->inputs = &forms[i];
            return TROL_OK;
        }
    packed_inputs *form = &forms[(*n_forms)++];
    *form = (packed_inputs){.rows = rows,
                            .stride = stride,
                            .n_rows = s->n_rows,
                            .n_columns = m->columns,
                            .way = result->way,
                            .gemm = result->gemm};
    result->inputs = form;
    return result->way->prepare(s->run, form);
}

/* t[i] [n_rows, rank of lora_a i] = lora_a x, zero for rows without LoRA. */
static trol_status apply_lora_inputs(row_block *s, const activations *input, const lora_inputs *lora,
                                     packed_inputs *forms, int64_t *n_forms, float **t) {
    linear *linears;
    product *products;
    TRY(run_alloc(s->run, (size_t)lora->n, sizeof *linears, (void **)&linears));
    TRY(run_alloc(s->run, (size_t)lora->n, sizeof *products, (void **)&products));
    for (int64_t i = 0; i < lora->n; i++) {
        const matrix *a = lora->a[i];
        linears[i] = linear_of(*a, NULL);
        TRY(run_alloc(s->run, (size_t)(s->n_rows * a->rows), sizeof **t, (void **)&t[i]));
        products[i] = (product){.linear = &linears[i], .epilogue = EPILOGUE_STORE, .out_stride = a->rows};
        s->jobs[i] = (large_job){.product = &products[i], .out = t[i], .only_lora_rows = true};
        TRY(prepare_operand(s, a, input->data + s->first_row * input->stride, input->stride, forms, n_forms,
                            &s->jobs[i].inputs[0]));
    }
    s->n_jobs = lora->n;
    TRY(run_row_block(s));
    for (int64_t row = 0; row < s->n_rows; row++)
        if (!any_lora_row(s, row, 1))
            for (int64_t i = 0; i < lora->n; i++)
                memset(t[i] + row * lora->a[i]->rows, 0, (size_t)lora->a[i]->rows * sizeof **t);
    return TROL_OK;
}

/* All products of the row block's rows. */
static trol_status apply_row_block(row_block *s, const activations *input, const product *products, int64_t n_products,
                                   const lora_inputs *lora) {
    packed_inputs *forms; /* x for the products and for lora_a; t for each lora_b */
    int64_t n_forms = 0;
    float **t = NULL;
    bool with_lora = lora->n && any_lora_row(s, 0, s->n_rows);
    TRY(run_alloc(s->run, 6 * (size_t)n_products, sizeof *forms, (void **)&forms));
    TRY(run_alloc(s->run, 2 * (size_t)n_products, sizeof *s->jobs, (void **)&s->jobs));
    if (with_lora) {
        TRY(run_alloc(s->run, (size_t)lora->n, sizeof *t, (void **)&t));
        TRY(apply_lora_inputs(s, input, lora, forms, &n_forms, t));
    }
    for (int64_t i = 0; i < n_products; i++) {
        const product *p = &products[i];
        large_job *job = &s->jobs[i];
        *job = (large_job){.product = p, .out = p->out + s->first_row * p->out_stride};
        for (int second = 0; second < (p->epilogue == EPILOGUE_SILU_MUL ? 2 : 1); second++) {
            const linear *l = second ? p->second : p->linear;
            TRY(prepare_operand(s, &l->weight, input->data + s->first_row * input->stride, input->stride, forms,
                                &n_forms, &job->inputs[second]));
            if (with_lora && linear_has_lora(l))
                TRY(prepare_operand(s, &l->lora_b, t[lora_inputs_find(lora, l)], l->lora_a.rows, forms, &n_forms,
                                    &job->lora[second]));
        }
    }
    s->n_jobs = n_products;
    return run_row_block(s);
}

trol_status linear_apply_large(const run *r, linear_arithmetic arithmetic, const activations *input,
                               const product *products, int64_t n_products) {
    lora_inputs lora;
    TRY(lora_inputs_of(r, input, products, n_products, &lora));
    int64_t n_groups = divide_up(input->n_rows, BLOCK_ROWS), group_rows = divide_up(input->n_rows, n_groups);
    for (int64_t first = 0; first < input->n_rows; first += group_rows) {
        row_block block = {.run = r,
                           .arithmetic = arithmetic,
                           .first_row = first,
                           .n_rows = min_int64(group_rows, input->n_rows - first),
                           .lora_rows = input->lora_rows,
                           .n_lora_rows = input->n_lora_rows};
        size_t mark = workspace_mark(r->space);
        TRY(apply_row_block(&block, input, products, n_products, &lora));
        workspace_release(r->space, mark);
    }
    return TROL_OK;
}
