/* quantized_kernels.h - the inner loops of quantized: what kernels.h puts in its table. Layouts are documented in
 * quantize.h; other files call the functions of that header, not these. */
#ifndef KERNELS_QUANTIZED_KERNELS_H
#define KERNELS_QUANTIZED_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/types.h"

enum {
    QUANTIZED_FEW_ROWS = 16,    /* input rows up to which q4 is unpacked on the fly (the same bits, faster) */
    QUANTIZED_BLOCK = 32,       /* columns that share a scale */
    QUANTIZED_GROUP = 16,       /* rows that are interleaved */
    QUANTIZED_SCALE_BYTES = 64, /* of a pair of blocks of a group */
    QUANTIZED_PAIR_BYTES_Q8 = QUANTIZED_SCALE_BYTES + 1024,
    QUANTIZED_PAIR_BYTES_Q4 = QUANTIZED_SCALE_BYTES + 512,
    QUANTIZED_MAX_TILE_ROWS = 8
};

/* One tile of up to tile_rows input rows against n_groups groups of weights that follow each other:
 * out[t * out_stride + 16 * g + r]. values, scales and offsets are the tile's (see quantized_input). */
typedef void (*quantized_tile_kernel)(const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,
                                      const float *scales, const int32_t *offsets, int64_t n_tokens, float *out,
                                      int64_t out_stride);

typedef struct quantized_kernels {
    int tile_rows; /* input rows that are interleaved, at most QUANTIZED_MAX_TILE_ROWS */

    /* Packs up to 16 rows of float32 or 16-bit weights, with a stride of row_bytes, as a group; see quantize_group. */
    void (*pack_group)(element_type type, element_type source_type, const uint8_t *source, size_t row_bytes,
                       int64_t n_rows, int64_t columns, uint8_t *group);

    /* 8-bit inputs */
    quantized_tile_kernel multiply_q8, multiply_q4;
    /* Large batches: rewrites groups of q4 as q8 once, where that is faster than unpacking for each tile; may be NULL.
     */
    void (*unpack_q4)(const uint8_t *groups_q4, int64_t n_groups, int64_t n_pairs, uint8_t *groups_q8);
    /* One row of float32 to 8 bits: values of columns 4 * i .. 4 * i + 3 at values + i * 4 * interleave, scales and
     * offsets of block b at b * interleave. columns is a multiple of 32; the rest up to n_pairs * 64 becomes zero. */
    void (*quantize_row)(const float *x, int64_t columns, int64_t n_pairs, int64_t interleave, int8_t *values,
                         float *scales, int32_t *offsets);

    /* bfloat16 inputs in tiles of 16 rows, for prompt rows; NULL where there are none */
    void (*round_rows)(const float *x, int64_t stride, int64_t n_rows, int64_t columns, int64_t n_pairs,
                       uint16_t *tiles);
    /* Rows skip .. skip + n_tokens - 1 of `tiles` (skip < 16) against n_groups groups:
     * out[t * out_stride + n] for n < n_rows, row n counted from `skip_rows` (< 16) on in the first group. */
    void (*multiply_tiles)(element_type type, const uint8_t *groups, int64_t n_groups, int64_t n_pairs,
                           const uint16_t *tiles, int64_t skip, int64_t n_tokens, float *out, int64_t out_stride,
                           int64_t skip_rows, int64_t n_rows, void *scratch);
    size_t (*tiles_scratch_bytes)(int64_t n_groups, int64_t n_pairs, int64_t n_tokens);
} quantized_kernels;

/* After each addition to an integer sum in a vector: gcc 12 would make all products of a block first and add them as a
 * tree, for which there are not enough registers. (Emulated vectors are not registers.) */
#if defined(TROL_EMULATE)
#define KEEP_ORDER(sum) (void)(sum)
#else
#define KEEP_ORDER(sum) __asm__("" : "+v"(sum))
#endif

/* Each instruction set's own entries, over those that are there; defined only where the compiler can build them. */
void quantized_fill_scalar(quantized_kernels *table);
void quantized_fill_avx2(quantized_kernels *table);
void quantized_fill_avxvnni(quantized_kernels *table);
void quantized_fill_avx512(quantized_kernels *table);
void quantized_fill_avx512vnni(quantized_kernels *table, bool prefetch_l2);
void quantized_fill_amx(quantized_kernels *table);

#endif
