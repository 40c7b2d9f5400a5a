/* linear.c - which path a product takes. */
#include "kernels/linear.h"

#include <stdio.h>

#include "kernels/linear_blas.h"
#include "kernels/linear_large.h"
#include "kernels/linear_parts.h"
#include "kernels/linear_small.h"

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

bool linear_has_bf16(const kernels *table) { return table->linear.bf16[ELEMENT_F16].tile != NULL; }

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
        return fail(r->error, TROL_ERROR_ARGUMENT, "%lld of %lld rows are marked as prompt rows",
                    (long long)input->n_prompt_rows, (long long)input->n_rows);
    TRY(apply_part(r, arithmetic, input, 0, input->n_prompt_rows, products, n_products));
    for (int64_t row = input->n_prompt_rows; row < input->n_rows; row += LINEAR_SMALL_BATCH)
        TRY(apply_part(r, arithmetic, input, row, min_int64(LINEAR_SMALL_BATCH, input->n_rows - row), products,
                       n_products));
    return TROL_OK;
}

bool linear_describe_blas(const kernels *table, char *text, size_t bytes) {
    if (!table->linear.blas)
        return false;
    if (blas_open())
        snprintf(text, bytes, "%s multiplies prompt rows by 16- and 32-bit weights", blas_description());
    else
        snprintf(text, bytes, "plain C multiplies prompt rows, which is slow: %s", blas_description());
    return true;
}
