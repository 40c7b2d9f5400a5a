/* linear_parts.h - what linear.c, linear_small.c and linear_large.c share: the values of linear.h, LoRA's first half,
 * input rows for packed matrices. */
#ifndef KERNELS_LINEAR_PARTS_H
#define KERNELS_LINEAR_PARTS_H

#include "kernels/linear.h"
#include "kernels/quantize.h"

static inline bool matrix_present(const matrix *m) { return m->data != NULL; }

static inline bool matrix_quantized(const matrix *m) { return element_is_packed(m->type); }

/* Of the unpacked types only. */
static inline const unsigned char *matrix_row(const matrix *m, int64_t row) {
    return (const unsigned char *)m->data + row * m->columns * (int64_t)element_bytes(m->type);
}

static inline bool linear_has_lora(const linear *l) { return matrix_present(&l->lora_a) && matrix_present(&l->lora_b); }

static inline int64_t min_int64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_int64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

/* What lora_a of some products makes of the rows that take part: the distinct lora_a matrices of a call. */
typedef struct lora_inputs {
    const matrix **a;  /* [n] */
    bool *quantized_b; /* [n]: whether a packed lora_b takes the products */
    int64_t n;
} lora_inputs;

/* Collects the distinct lora_a of the products (none where the input has no LoRA rows), in the run's workspace. */
trol_status lora_inputs_of(const run *r, const activations *input, const product *products, int64_t n_products,
                           lora_inputs *result);
/* Which of them is the linear's. */
int64_t lora_inputs_find(const lora_inputs *inputs, const linear *l);

/* x [n_rows, n_columns], row i at x + i * stride, in the form that packed matrices are multiplied with, made with all
 * threads in the run's workspace. prompt: prompt rows, otherwise answer rows. */
trol_status prepare_quantized_input(const run *r, const float *x, int64_t stride, int64_t n_rows, int64_t n_columns,
                                    bool prompt, quantized_input *result);

#endif
