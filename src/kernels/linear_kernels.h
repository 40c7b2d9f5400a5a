/* linear_kernels.h - the inner loops of linear: what kernels.h puts in its table.
 *
 * Small batches are dot products of weight rows, in place, with input rows. Large batches are tiles of a matrix
 * product: blocks of both operands are packed first into panels that a tile reads from front to end. */
#ifndef KERNELS_LINEAR_KERNELS_H
#define KERNELS_LINEAR_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/types.h"

/* What happens to a product y (bias and LoRA added) on its way to `out`. */
typedef enum epilogue {
    EPILOGUE_STORE,      /* out = y */
    EPILOGUE_ADD,        /* out += y */
    EPILOGUE_ADD_SCALED, /* out += scale * y, scale [n_rows of the linear] (InternViT's ls1, ls2) */
    EPILOGUE_GELU,       /* out = y * Phi(y), exact (erf) */
    EPILOGUE_QUICK_GELU, /* out = y * sigmoid(1.702 y) */
    EPILOGUE_SILU_MUL,   /* out = silu(y) * up, up the product with `second` */
    EPILOGUES
} epilogue;

enum { LINEAR_FLOAT_TYPES = 3 }; /* ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16 index the tables below */

/* y[i * y_stride + j] = sum over k of row j [k] * x[i * x_stride + k] for n_rows weight rows with a stride of
 * row_bytes, aligned to nothing, and n_inputs input rows. The order of a sum depends on n_columns alone. */
typedef void (*linear_dot)(const void *rows, int64_t row_bytes, int64_t n_rows, const float *x, int64_t x_stride,
                           int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride);

/* n elements, aligned to nothing, to float32. */
typedef void (*linear_to_float)(const void *from, float *to, int64_t n);

/* One row of n results through an epilogue. y: sums, bias not yet added; up: the sums of the second product
 * (EPILOGUE_SILU_MUL); scale (EPILOGUE_ADD_SCALED); biases may be NULL. */
typedef void (*linear_epilogue)(const float *y, const float *bias, const float *up, const float *up_bias,
                                const float *scale, float *out, int64_t n);

/* A way to multiply large batches (BLIS's MR, NR, KC and NC are tile_inputs, tile_outputs, block_columns and
 * chunk_outputs). The columns of a matrix are cut into blocks of block_columns; an operand's part of a block is packed
 * into panels of tile_inputs or tile_outputs rows, padded with zeros to whole panels and to a multiple of column_group
 * columns. Panels hold their columns in order, so a panel over many blocks holds them one after another. */
typedef struct linear_gemm {
    int64_t tile_inputs, tile_outputs; /* rows of a panel of inputs, of weights */
    int64_t chunk_outputs;             /* weight rows that one chunk of work takes: a multiple of 2 tile_outputs */
    int64_t block_columns;             /* a multiple of column_group */
    int64_t column_group;
    int64_t input_bytes, weight_bytes; /* of one packed element */
    /* One panel: n_rows (1 to tile_inputs or tile_outputs) rows of n_columns. */
    void (*pack_inputs)(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel);
    void (*pack_weights)(const void *rows, int64_t row_bytes, int64_t n_rows, int64_t n_columns, void *panel);
    /* sums[i * sums_stride + j] (+)= the product of a panel of inputs and a panel of weights over n_columns columns, a
     * multiple of column_group; `add`: on top of what is there. NULL: this way is OpenBLAS, which packs for itself. */
    void (*tile)(const void *inputs, const void *weights, int64_t n_columns, float *sums, int64_t sums_stride,
                 bool add);
    /* Around the tiles of a chunk, on the thread that does it (AMX configures its tiles); may be NULL. */
    void (*begin)(void);
    void (*end)(void);
} linear_gemm;

typedef struct linear_kernels {
    bool blas; /* large batches of float weights go to OpenBLAS, where it is found, in place of `exact` */
    linear_dot dot[LINEAR_FLOAT_TYPES];
    linear_to_float to_float[LINEAR_FLOAT_TYPES];
    linear_epilogue epilogues[EPILOGUES];
    linear_gemm exact[LINEAR_FLOAT_TYPES];
    linear_gemm bf16[LINEAR_FLOAT_TYPES]; /* tile is NULL where there are no BF16 units, or float32 is as fast */
} linear_kernels;

/* Each instruction set's own entries, over those that are there; defined only where the compiler can build them. */
void linear_fill_scalar(linear_kernels *table);
void linear_fill_avx2(linear_kernels *table);
void linear_fill_avx512(linear_kernels *table);
void linear_fill_avx512bf16(linear_kernels *table);
void linear_fill_amx(linear_kernels *table);

#endif
