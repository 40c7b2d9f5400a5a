/* quantize.h - weights of 8 and 4 bits, the input rows that they are multiplied with, and the product.
 *
 * A weight is (u - 128) * scale with u an unsigned byte and one bfloat16 scale for each 32 inputs of a row:
 *   q8: u = 1 .. 255;                 q4: u = 16 * n, n = 0 .. 15 (the scale is a sixteenth of the step).
 * So both types share one zero point and one inner loop, and bfloat16 takes any weight that float32 does.
 *
 * Packed layout. Rows come in groups of 16, columns in pairs of blocks (2 x 32); the last group and the last pair are
 * filled up with zero weights. A matrix is its groups one after the other, a group its pairs one after the other:
 *
 *   64 bytes  scales: 16 little-endian dwords, one a row; low half the first block's bfloat16, high half the second's
 *   q8: 16 lines of 64 bytes   line l, byte 4 * r + i: u of row r, column 4 * l + i of the pair
 *   q4: 8 lines of 64 bytes    line l, byte 4 * r + i: low half n of row r, column 8 * l + i of the pair,
 *                                                      high half n of row r, column 8 * l + 4 + i
 *
 * So a line feeds 16 rows with one broadcast of 4 inputs, every stream is sequential, and a group is all that 16 rows
 * need. Group g of a matrix is at packed + g * quantized_group_bytes(type, columns). Any alignment works; 64 is
 * fastest.
 *
 * Packed checkpoints. A folder as published, whose safetensors hold packed matrices as tensors of dtype U8 and shape
 * [quantized_bytes()], named as the original with ".q8" or ".q4" appended ("output.weight.q8"), data aligned to 64
 * bytes in the file, so that they are mapped and used in place. Everything else is copied unchanged. __metadata__ has
 *   trol.quantized.version  QUANTIZED_FORMAT_VERSION as text
 *   trol.quantized.source   "<bytes> <16 hex digits>": of the source's tensors, the size and a hash of all names,
 *                           dtypes, shapes and first bytes
 *   trol.quantized.shapes   "name rows columns;name rows columns;..." of the packed tensors, in order of name */
#ifndef KERNELS_QUANTIZE_H
#define KERNELS_QUANTIZE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/threads.h"
#include "kernels/quantized_kernels.h"
#include "kernels/types.h"

#define QUANTIZED_FORMAT_VERSION "1"

/* ---- weights --------------------------------------------------------------------------------- */

/* Whether a matrix of so many columns can be packed: a multiple of 32. Any number of rows can. */
static inline bool quantized_columns_fit(int64_t columns) { return columns > 0 && columns % QUANTIZED_BLOCK == 0; }

/* Pairs of blocks in a row. */
static inline int64_t quantized_pairs(int64_t columns) {
    return (columns + 2 * QUANTIZED_BLOCK - 1) / (2 * QUANTIZED_BLOCK);
}

/* Bytes of a group of 16 rows; type is ELEMENT_Q8 or ELEMENT_Q4. */
static inline size_t quantized_group_bytes(element_type type, int64_t columns) {
    return (size_t)quantized_pairs(columns) * (type == ELEMENT_Q8 ? QUANTIZED_PAIR_BYTES_Q8 : QUANTIZED_PAIR_BYTES_Q4);
}

static inline int64_t quantized_groups(int64_t rows) { return (rows + QUANTIZED_GROUP - 1) / QUANTIZED_GROUP; }

/* *bytes of a packed matrix; false if they do not fit in a size_t or the shape cannot be packed. */
bool quantized_bytes(element_type type, int64_t rows, int64_t columns, size_t *bytes);

/* Packs one group: up to 16 rows of F32, F16 or BF16, row i at source + i * source_stride elements, any alignment. Rows
 * from n_rows to 15 become zero. Groups are independent of each other, so a loader converts them in parallel and in any
 * order, and needs no memory beside the packed matrix. q4 scales are searched for the least squared error. Weights that
 * are infinite or NaN give a scale of infinity or NaN, which reaches the product. */
void quantize_group(const quantized_kernels *kernels, element_type type, element_type source_type, const void *source,
                    int64_t source_stride, int64_t n_rows, int64_t columns, void *group);

/* The same for a whole matrix (contiguous rows), with all threads. */
trol_status quantize_matrix(const quantized_kernels *kernels, trol_threads *threads, const atomic_int *cancel,
                            element_type type, element_type source_type, const void *source, int64_t rows,
                            int64_t columns, void *packed);

/* One row back to float32: out [columns]. */
void dequantize_row(element_type type, const void *packed, int64_t columns, int64_t row, float *out);

/* ---- input rows ------------------------------------------------------------------------------ */

/* Input rows (tokens) prepared for products with packed matrices of either type, each row once for all of them.
 * 8 bits, a scale for each 32 columns (amax / 127); but bfloat16 for prompt rows on a CPU with tiles (AMX). Which one
 * is decided by the rows' phase and the kernel table alone, never by their number. */
typedef struct quantized_input {
    int64_t n_rows, n_columns, n_pairs;
    bool tiles;        /* bfloat16 in tiles of 16 rows x 32 columns; otherwise 8 bits */
    int64_t tile_rows; /* rows that are interleaved; the last tile has the rest, tightly */
    int8_t *values;    /* 8 bits: tile i at tile_rows * i * 64 * n_pairs; inside, [columns / 4][rows of the tile][4] */
    float *scales;     /* [tile][block][rows of the tile] */
    int32_t *offsets;  /* the same shape: -128 * sum of the block's values */
    uint16_t *bf16;    /* tiles: [row tile][column tile][16][32], zeros for missing rows and columns */
} quantized_input;

/* Bytes of memory that an input of this shape takes, of prompt rows or of answer rows. */
size_t quantized_input_bytes(const quantized_kernels *kernels, int64_t n_rows, int64_t n_columns, bool prompt);
/* Lays an input out in memory (aligned to 64) that the caller keeps. Nothing is converted yet. */
quantized_input quantized_input_in(const quantized_kernels *kernels, void *memory, int64_t n_rows, int64_t n_columns,
                                   bool prompt);
/* The conversion is cut into so many chunks, which are independent of each other (one tile of rows each). */
int64_t quantized_input_chunks(const quantized_input *input);
/* Converts a chunk. x [n_rows, n_columns] with row i at x + i * stride. */
void quantized_input_fill(const quantized_kernels *kernels, const quantized_input *input, const float *x,
                          int64_t stride, int64_t chunk);

/* ---- product --------------------------------------------------------------------------------- */

/* How many rows of the matrix a chunk of work should have in a large batch: a multiple of 16. The result does not
 * depend on how rows or tokens are cut into calls. */
int64_t quantized_chunk_rows(int64_t rows, const quantized_input *input);

/* Bytes of scratch memory that a call of quantized_multiply with up to n_rows rows needs (aligned to 64, one for each
 * thread; may be 0). */
size_t quantized_scratch_bytes(const quantized_kernels *kernels, element_type type, int64_t n_rows,
                               const quantized_input *input);

/* out[t * out_stride + n] = dot(row first_row + n of the matrix, input row first_token + t), for n < n_rows, t <
 * n_tokens. `packed` is the whole matrix of input->n_columns columns. first_row, n_rows, first_token and n_tokens may
 * be anything inside the matrix and the input; whole groups of 16 rows (first_row and n_rows multiples of 16) and whole
 * tiles waste nothing.
 *
 * Arithmetic with 8-bit inputs: integer dots of 32 columns, exact; sum = fma((float)dot, weight scale * input scale,
 * sum) over blocks in ascending order. That holds for every level, batch size and cut, so all of them agree to the bit.
 * With tiles (prompt rows on AMX): weights (below 1e33) and inputs rounded to bfloat16, float32 sums in an order that
 * is fixed as well. */
void quantized_multiply(const quantized_kernels *kernels, element_type type, const void *packed, int64_t first_row,
                        int64_t n_rows, const quantized_input *input, int64_t first_token, int64_t n_tokens, float *out,
                        int64_t out_stride, void *scratch);

#endif
