/* linear.c - which path a product takes. */
#include "kernels/linear.h"

#include "kernels/linear_parts.h"

linear linear_of(matrix weight, const float *bias) {
    return (linear){.weight = weight, .bias = bias, .first_row = 0, .n_rows = weight.rows};
}

linear linear_view(const linear *whole, int64_t first_row, int64_t n_rows) {
    linear view = *whole;
    view.first_row += first_row;
    view.n_rows = n_rows;
    return view;
}

activations activations_of(const float *data, int64_t n_rows, int64_t n_columns, int64_t stride) {
    return (activations){
        .data = data, .n_rows = n_rows, .n_columns = n_columns, .stride = stride, .n_prompt_rows = n_rows};
}

static bool same_matrix(const matrix *a, const matrix *b) {
    return a->data == b->data && a->type == b->type && a->rows == b->rows && a->columns == b->columns;
}

int64_t lora_inputs_find(const lora_inputs *inputs, const linear *l) {
    int64_t i = 0;
    while (i < inputs->n && !same_matrix(inputs->a[i], &l->lora_a))
        i++;
    return i;
}

trol_status lora_inputs_of(const run *r, const activations *input, const product *products, int64_t n_products,
                           lora_inputs *result) {
    *result = (lora_inputs){0};
    if (input->n_lora_rows == 0)
        return TROL_OK;
    TRY(run_alloc(r, 2 * (size_t)n_products, sizeof *result->a, (void **)&result->a));
    TRY(run_alloc(r, 2 * (size_t)n_products, sizeof *result->quantized_b, (void **)&result->quantized_b));
    for (int64_t p = 0; p < n_products; p++)
        for (int second = 0; second < 2; second++) {
            const linear *l = second ? products[p].second : products[p].linear;
            if (!l || !linear_has_lora(l))
                continue;
            int64_t i = lora_inputs_find(result, l);
            if (i == result->n) {
                result->a[result->n++] = &l->lora_a;
                result->quantized_b[i] = false;
            }
            result->quantized_b[i] |= matrix_quantized(&l->lora_b);
        }
    return TROL_OK;
}

/* A call that the model's files got wrong; what comes from a checkpoint was checked when it was loaded. */
static trol_status check_linear(const run *r, const activations *input, const linear *l, int64_t n_rows) {
    if (l->weight.columns != input->n_columns || l->n_rows != n_rows || l->first_row < 0 ||
        l->first_row + l->n_rows > l->weight.rows)
        return fail(r->error, TROL_ERROR_ARGUMENT,
                    "a linear of %lld x %lld, rows %lld to %lld, does not fit %lld inputs and %lld outputs",
                    (long long)l->weight.rows, (long long)l->weight.columns, (long long)l->first_row,
                    (long long)(l->first_row + l->n_rows), (long long)input->n_columns, (long long)n_rows);
    if (linear_has_lora(l) && (l->lora_a.columns != l->weight.columns || l->lora_b.columns != l->lora_a.rows ||
                               l->lora_b.rows != l->weight.rows))
        return fail(r->error, TROL_ERROR_ARGUMENT,
                    "LoRA matrices of %lld x %lld and %lld x %lld do not fit a linear of %lld x %lld",
                    (long long)l->lora_a.rows, (long long)l->lora_a.columns, (long long)l->lora_b.rows,
                    (long long)l->lora_b.columns, (long long)l->weight.rows, (long long)l->weight.columns);
    if (l->weight.type == ELEMENT_OTHER)
        return fail(r->error, TROL_ERROR_UNSUPPORTED, "no kernel multiplies by weights of type %s",
                    element_name(l->weight.type));
    return TROL_OK;
}

typedef struct fill_job {
    const quantized_kernels *kernels;
    const quantized_input *input;
    const float *x;
    int64_t stride;
} fill_job;

static void fill_task(void *context, int64_t chunk, int thread) {
    (void)thread;
    const fill_job *job = context;
    quantized_input_fill(job->kernels, job->input, job->x, job->stride, chunk);
}

trol_status prepare_quantized_input(const run *r, const float *x, int64_t stride, int64_t n_rows, int64_t n_columns,
                                    bool prompt, quantized_input *result) {
    void *memory;
    TRY(run_alloc(r, 1, quantized_input_bytes(&r->kernels->quantized, n_rows, n_columns, prompt), &memory));
    *result = quantized_input_in(&r->kernels->quantized, memory, n_rows, n_columns, prompt);
    fill_job job = {&r->kernels->quantized, result, x, stride};
    return run_chunks(r, quantized_input_chunks(result), fill_task, &job);
}

bool linear_is_exact(linear_arithmetic arithmetic, const linear *l) {
    return arithmetic == LINEAR_EXACT && !matrix_quantized(&l->weight);
}

/* Rows first .. first + n - 1 of the input, and the LoRA rows among them. */
static trol_status cut_activations(const run *r, const activations *input, int64_t first, int64_t n,
                                   activations *part) {
    *part = activations_of(input->data + first * input->stride, n, input->n_columns, input->stride);
    row_range *ranges;
    TRY(run_alloc(r, (size_t)input->n_lora_rows, sizeof *ranges, (void **)&ranges));
    for (int64_t i = 0; i < input->n_lora_rows; i++) {
        int64_t begin = max_int64(input->lora_rows[i].first, first);
        int64_t end = min_int64(input->lora_rows[i].first + input->lora_rows[i].count, first + n);
        if (begin < end)
            ranges[part->n_lora_rows++] = (row_range){begin - first, end - begin};
    }
    part->lora_rows = ranges;
    return TROL_OK;
}

/* The products of rows first .. first + n - 1 of the input: all of its prompt rows, or some of the others. */
static trol_status multiply_part(const run *r, linear_arithmetic arithmetic, const activations *input, int64_t first,
                                 int64_t n, const product *products, int64_t n_products) {
    activations part;
    product *moved;
    TRY(cut_activations(r, input, first, n, &part));
    TRY(run_alloc(r, (size_t)n_products, sizeof *moved, (void **)&moved));
    for (int64_t p = 0; p < n_products; p++) {
        moved[p] = products[p];
        moved[p].out += first * products[p].out_stride;
    }
    return first < input->n_prompt_rows ? linear_apply_large(r, arithmetic, &part, moved, n_products)
                                        : linear_apply_small(r, &part, moved, n_products);
}

static trol_status apply_part(const run *r, linear_arithmetic arithmetic, const activations *input, int64_t first,
                              int64_t n, const product *products, int64_t n_products) {
    if (n == 0)
        return TROL_OK;
    size_t mark = workspace_mark(r->space);
    trol_status status = multiply_part(r, arithmetic, input, first, n, products, n_products);
    workspace_release(r->space, mark);
    return status;
}

trol_status linear_apply(const run *r, linear_arithmetic arithmetic, activations *input, const product *products,
                         int64_t n_products) {
    for (int64_t p = 0; p < n_products; p++) {
        TRY(check_linear(r, input, products[p].linear, products[p].linear->n_rows));
        if (products[p].epilogue == EPILOGUE_SILU_MUL)
            TRY(check_linear(r, input, products[p].second, products[p].linear->n_rows));
    }
    if (input->n_rows == 0 || n_products == 0)
        return TROL_OK;
    if (input->n_prompt_rows < 0 || input->n_prompt_rows > input->n_rows)
        return fail(r->error, TROL_ERROR_ARGUMENT, "%lld of %lld rows are said to be prompt rows",
                    (long long)input->n_prompt_rows, (long long)input->n_rows);
    TRY(apply_part(r, arithmetic, input, 0, input->n_prompt_rows, products, n_products));
    for (int64_t row = input->n_prompt_rows; row < input->n_rows; row += LINEAR_SMALL_BATCH)
        TRY(apply_part(r, arithmetic, input, row, min_int64(LINEAR_SMALL_BATCH, input->n_rows - row), products,
                       n_products));
    return TROL_OK;
}
