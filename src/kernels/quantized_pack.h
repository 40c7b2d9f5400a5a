/* quantized_pack.h - packing a group of 16 weight rows, written once and compiled by each instruction set's file: the
 * loops over the 16 rows become vectors. No operation depends on the set, so all of them pack the same bytes. */
#ifndef KERNELS_QUANTIZED_PACK_H
#define KERNELS_QUANTIZED_PACK_H

#include <stdbool.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/quantized_kernels.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

enum { PACK_PAIR = 2 * QUANTIZED_BLOCK, PACK_ROWS = QUANTIZED_GROUP };

/* Adding this to a float of magnitude below 2^22 leaves its integer, rounded to nearest even, in the low bits. */
#define PACK_ROUNDER 12582912.0f /* 1.5 * 2^23, bits 0x4b400000 */

/* Blocks whose largest weight is below this are zero: their scale would leave the range of normal numbers. */
#define PACK_SMALLEST 1e-30f

/* As many of the 16 rows as a register holds: left to loops, gcc 12 splits the hot one instead. */
#if defined(__AVX512F__)
enum { PACK_LANES = 16 };
#elif defined(__AVX2__)
enum { PACK_LANES = 8 };
#else
enum { PACK_LANES = 4 };
#endif
typedef float pack_lanes __attribute__((vector_size(PACK_LANES * 4)));
typedef int32_t pack_masks __attribute__((vector_size(PACK_LANES * 4)));

/* What comes out for infinities and NaN means nothing, but is clamped like the rest. */
static inline int32_t pack_round(float value) { return (int32_t)(bits_from_float(value + PACK_ROUNDER) - 0x4b400000u); }

static inline int32_t pack_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/* columns (at most 64) of one row to float32. */
static inline void pack_load_row(element_type type, const uint8_t *source, int64_t columns, float *row) {
    if (type == ELEMENT_F32) {
        memcpy(row, source, (size_t)columns * 4);
        return;
    }
    uint16_t halves[PACK_PAIR];
    memcpy(halves, source, (size_t)columns * 2);
    if (type == ELEMENT_BF16) {
        for (int64_t k = 0; k < columns; k++)
            row[k] = bf16_to_float(halves[k]);
        return;
    }
#if defined(__F16C__)
    for (int64_t k = 0; k < columns; k += 8)
        _mm256_storeu_ps(row + k, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(halves + k))));
#else
    for (int64_t k = 0; k < columns; k++)
        row[k] = f16_to_float(halves[k]);
#endif
}

/* The largest magnitude of each row's 32 weights, as bits: they order like the numbers, infinity and NaN on top. */
static inline void pack_largest(const float (*x)[PACK_ROWS], uint32_t *largest) {
    memset(largest, 0, PACK_ROWS * sizeof *largest);
    for (int k = 0; k < QUANTIZED_BLOCK; k++)
        for (int r = 0; r < PACK_ROWS; r++) {
            uint32_t magnitude = bits_from_float(x[k][r]) & 0x7fffffffu;
            largest[r] = magnitude > largest[r] ? magnitude : largest[r];
        }
}

/* q8: scale = largest / 127, rounded up to bfloat16 so that nothing is clipped. q: -127 .. 127. */
static inline void pack_block_q8(const float (*x)[PACK_ROWS], uint16_t *scales, int32_t (*q)[PACK_ROWS]) {
    uint32_t largest[PACK_ROWS];
    float inverse[PACK_ROWS];
    pack_largest(x, largest);
    for (int r = 0; r < PACK_ROWS; r++) {
        uint32_t bits = bits_from_float(float_from_bits(largest[r]) * (1.0f / 127.0f));
        bits = bits < 0x7f800000u ? (bits + 0xffff) & 0xffff0000u : bits & 0xffff0000u;
        bits = largest[r] >= bits_from_float(PACK_SMALLEST) ? bits : 0;
        scales[r] = (uint16_t)(bits >> 16);
        inverse[r] = bits ? 1.0f / float_from_bits(bits) : 0;
    }
    for (int k = 0; k < QUANTIZED_BLOCK; k++)
        for (int r = 0; r < PACK_ROWS; r++)
            q[k][r] = pack_clamp(pack_round(x[k][r] * inverse[r]), -127, 127);
}

/* With the weights of each row times inverse[row] rounded to -8 .. 7: dots with the integers, and their squares' sums.
 */
static inline void pack_try_steps(const float (*x)[PACK_ROWS], const float *inverse, float *dots, float *squares) {
    const pack_lanes zero = {0};
    const pack_masks seven = (pack_masks)(zero + 7.0f), minus_eight = (pack_masks)(zero - 8.0f);
    for (int r = 0; r < PACK_ROWS; r += PACK_LANES) {
        pack_lanes factor, dot = zero, square = zero;
        memcpy(&factor, inverse + r, sizeof factor);
        for (int k = 0; k < QUANTIZED_BLOCK; k++) {
            pack_lanes scaled;
            memcpy(&scaled, x[k] + r, sizeof scaled);
            scaled *= factor;
            const pack_lanes rounded = scaled + PACK_ROUNDER - PACK_ROUNDER;
            const pack_masks above = rounded > 7.0f, below = rounded < -8.0f;
            const pack_lanes integer =
                (pack_lanes)(((pack_masks)rounded & ~above & ~below) | (seven & above) | (minus_eight & below));
            dot += scaled * integer;
            square += integer * integer;
        }
        memcpy(dots + r, &dot, sizeof dot);
        memcpy(squares + r, &square, sizeof square);
    }
}

/* q4: of five steps (the weight of largest magnitude becomes -6.5, -7.2 ... of them, so the one-sided -8 of the range
 * is put to use), each improved to the least-squares one for the integers that it gives, the one with the least squared
 * error. q: n, 0 .. 15. */
static inline void pack_block_q4(const float (*x)[PACK_ROWS], uint16_t *scales, int32_t (*q)[PACK_ROWS]) {
    static const float positions[] = {-6.5f, -7.2f, -7.8f, -8.3f, -9.0f};
    uint32_t largest[PACK_ROWS];
    float highest[PACK_ROWS], extreme[PACK_ROWS], best_gain[PACK_ROWS], best_step[PACK_ROWS], inverse[PACK_ROWS];
    pack_largest(x, largest);
    for (int r = 0; r < PACK_ROWS; r++) {
        highest[r] = best_step[r] = 0;
        best_gain[r] = -1.0f;
    }
    for (int k = 0; k < QUANTIZED_BLOCK; k++)
        for (int r = 0; r < PACK_ROWS; r++)
            highest[r] = x[k][r] > highest[r] ? x[k][r] : highest[r];
    for (int r = 0; r < PACK_ROWS; r++)
        extreme[r] = float_from_bits(largest[r] | (highest[r] == float_from_bits(largest[r]) ? 0 : 0x80000000u));
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        float dots[PACK_ROWS], squares[PACK_ROWS];
        for (int r = 0; r < PACK_ROWS; r++)
            inverse[r] = positions[i] / extreme[r];
        pack_try_steps(x, inverse, dots, squares);
        for (int r = 0; r < PACK_ROWS; r++) {
            /* squared error = sum x^2 - gain; gain compared in units of the extreme weight */
            float factor = dots[r] / squares[r];
            float gain = dots[r] * factor / (positions[i] * positions[i]);
            bool better = gain > best_gain[r];
            best_gain[r] = better ? gain : best_gain[r];
            best_step[r] = better ? extreme[r] * (factor / positions[i]) : best_step[r];
        }
    }
    for (int r = 0; r < PACK_ROWS; r++) {
        bool finite = largest[r] < 0x7f800000u, zero = largest[r] < bits_from_float(PACK_SMALLEST);
        uint32_t bits = bits_from_float((finite ? best_step[r] : float_from_bits(largest[r])) * 0.0625f);
        bits = finite ? (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u : bits & 0xffff0000u;
        bits = zero ? 0 : bits;
        scales[r] = (uint16_t)(bits >> 16);
        inverse[r] = zero ? 0 : 0.0625f / float_from_bits(bits);
    }
    for (int k = 0; k < QUANTIZED_BLOCK; k++)
        for (int r = 0; r < PACK_ROWS; r++)
            q[k][r] = pack_clamp(pack_round(x[k][r] * inverse[r]), -8, 7) + 8;
}

static inline void pack_group(element_type type, element_type source_type, const uint8_t *source, size_t row_bytes,
                              int64_t n_rows, int64_t columns, uint8_t *group) {
    size_t bytes_each = element_bytes(source_type);
    for (int64_t first = 0; first < columns; first += PACK_PAIR) {
        float row[PACK_PAIR], x[PACK_PAIR][PACK_ROWS];
        int32_t q[PACK_PAIR][PACK_ROWS];
        uint16_t scales[2][PACK_ROWS];
        int64_t count = columns - first < PACK_PAIR ? columns - first : PACK_PAIR;
        memset(x, 0, sizeof x);
        for (int64_t r = 0; r < n_rows; r++) {
            pack_load_row(source_type, source + (size_t)r * row_bytes + (size_t)first * bytes_each, count, row);
            for (int64_t k = 0; k < count; k++)
                x[k][r] = row[k];
        }
        for (int b = 0; b < 2; b++)
            if (type == ELEMENT_Q8)
                pack_block_q8(x + b * QUANTIZED_BLOCK, scales[b], q + b * QUANTIZED_BLOCK);
            else
                pack_block_q4(x + b * QUANTIZED_BLOCK, scales[b], q + b * QUANTIZED_BLOCK);
        for (int r = 0; r < PACK_ROWS; r++)
            for (int b = 0; b < 2; b++) {
                group[4 * r + 2 * b] = (uint8_t)scales[b][r];
                group[4 * r + 2 * b + 1] = (uint8_t)(scales[b][r] >> 8);
            }
        group += QUANTIZED_SCALE_BYTES;
        if (type == ELEMENT_Q8) {
            for (int line = 0; line < PACK_PAIR / 4; line++, group += 64)
                for (int r = 0; r < PACK_ROWS; r++)
                    for (int i = 0; i < 4; i++)
                        group[4 * r + i] = (uint8_t)(q[4 * line + i][r] + 128);
        } else {
            for (int line = 0; line < PACK_PAIR / 8; line++, group += 64)
                for (int r = 0; r < PACK_ROWS; r++)
                    for (int i = 0; i < 4; i++)
                        group[4 * r + i] = (uint8_t)(q[8 * line + i][r] | q[8 * line + 4 + i][r] << 4);
        }
    }
}

#endif
