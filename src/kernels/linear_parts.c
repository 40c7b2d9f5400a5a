#include "kernels/linear_parts.h"

size_t matrix_bytes(const matrix *m) {
    size_t n_bytes = (size_t)(m->rows * m->columns) * element_bytes(m->type);
    if (element_is_packed(m->type))
        (void)quantized_bytes(m->type, m->rows, m->columns, &n_bytes);
    return n_bytes;
}

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
