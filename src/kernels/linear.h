/* linear.h - y = x W^T (+ bias, + LoRA) for every weight type and batch size.
 *
 * The model's files see matrices only through `linear`; which kernel, which layout and whether a BLAS does the work is
 * decided here. Sums are cut by the shape alone: a row's result does not depend on the number of threads, on the rows
 * beside it or on how many there are, but on whether it is a prompt row or an answer row (`activations`). Only where a
 * BLAS multiplies may prompt rows depend on their number. */
#ifndef KERNELS_LINEAR_H
#define KERNELS_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/run.h"
#include "kernels/types.h"

enum { LINEAR_SMALL_BATCH = 16 }; /* answer rows that are multiplied together, at most */

/* A weight matrix as it is stored: [rows, columns], output rows by input columns. Never owns its data. */
typedef struct matrix {
    element_type type;
    int64_t rows, columns;
    const void *data; /* F32, F16, BF16: row-major, any alignment. Q8, Q4: packed, see quantize.h */
} matrix;

/* Bytes of a matrix in memory; of a packed one whose size was checked. */
size_t matrix_bytes(const matrix *m);

/* One linear layer. Pointers belong to the model's weights. A matrix with data == NULL is absent. */
typedef struct linear {
    matrix weight;     /* [out, in] */
    const float *bias; /* [out]; NULL: none */
    matrix lora_a;     /* [rank, in]; absent: no LoRA */
    matrix lora_b;     /* [out, rank] */
    int64_t first_row,
        n_rows; /* the rows of weight, bias and lora_b that this linear is: a view of a fused projection */
} linear;

/* A linear over the whole matrix. */
linear linear_of(matrix weight, const float *bias);
/* Rows first_row .. first_row + n_rows - 1 of another linear (first_row counts within that one). */
linear linear_view(const linear *whole, int64_t first_row, int64_t n_rows);

/* A run of rows of the input. */
typedef struct row_range {
    int64_t first, count;
} row_range;

/* Input rows. The forms of them that kernels want (packed, bf16, 8 bits with scales, lora_a's products) are made once
 * in linear_apply and shared by all its products. */
typedef struct activations {
    const float *data; /* [n_rows, n_columns], row i at data + i * stride */
    int64_t n_rows, n_columns, stride;
    /* Rows 0 .. n_prompt_rows - 1 are multiplied on tiles, however few they are; the others, answer rows, on dot
     * products, in groups of at most LINEAR_SMALL_BATCH. */
    int64_t n_prompt_rows;
    const row_range *lora_rows; /* rows that take part in LoRA, ascending, disjoint */
    int64_t n_lora_rows;        /* number of ranges; 0: LoRA is not applied */
} activations;

/* All of them prompt rows, without LoRA. */
activations activations_of(const float *data, int64_t n_rows, int64_t n_columns, int64_t stride);

/* One product; the epilogues are listed in linear_kernels.h. */
typedef struct product {
    const linear *linear;
    const linear *second; /* EPILOGUE_SILU_MUL only: same shape as linear */
    const float *scale;   /* EPILOGUE_ADD_SCALED only */
    epilogue epilogue;
    float *out; /* [input rows, linear->n_rows], row i at out + i * out_stride; must not overlap the input */
    int64_t out_stride;
} product;

/* How 16- and 32-bit weights are multiplied in large batches. */
typedef enum linear_arithmetic { LINEAR_EXACT, LINEAR_BF16 } linear_arithmetic;

/* Whether LINEAR_BF16 is another arithmetic than LINEAR_EXACT: there are BF16 units that are faster. */
bool linear_has_bf16(const kernels *table);

/* Whether a linear's products are exact to float32: neither bfloat16 arithmetic nor 8-bit inputs. */
bool linear_is_exact(linear_arithmetic arithmetic, const linear *l);

/* All products of the same input rows. Fastest with prompt rows or answer rows alone, and whole groups of these. */
trol_status linear_apply(const run *r, linear_arithmetic arithmetic, activations *input, const product *products,
                         int64_t n_products);

/* For the load log: false where kernels of ours multiply, and nothing is to be reported. Otherwise one line: which
 * OpenBLAS multiplies prompt rows by float weights, or why plain C does. */
bool linear_describe_blas(const kernels *table, char *text, size_t bytes);

#endif
