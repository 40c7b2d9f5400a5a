/* AVX-512 VNNI: vpdpbusd multiplies a line of weights (16 rows x 4 inputs, unsigned) by 4 broadcast inputs (signed).
 *
 * A register tile is 2 groups (32 rows) x 6 input rows: 12 integer and 12 float sums, so that a broadcast serves two
 * dots and a weight six. One input row alone takes 4 groups at once: four sequential streams of weights. */
#if defined(TROL_HAVE_AVX512VNNI)
#include <immintrin.h>
#include <stdbool.h>

#include <stdbool.h>

#include "kernels/quantized_kernels.h"

enum { TILE_TOKENS = 6, MAX_GROUPS = 4 };

/* Bytes ahead of its reading that a stream of weights is asked for, into L1 or, for one and two
 * input rows where the CPU prefers it, into the second. */
enum { PREFETCH_BYTES = 1536, PREFETCH_BYTES_L2 = 768 };

#define INLINE static inline __attribute__((always_inline))

/* gcc 12 puts a move beside each intrinsic of vpdpbusd. */
INLINE __m512i dot(__m512i sums, __m512i weights, __m512i inputs) {
#if defined(TROL_EMULATE)
    return _mm512_dpbusd_epi32(sums, weights, inputs);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(inputs));
    return sums;
#endif
}

INLINE __m512i broadcast_inputs(const int8_t *values) {
    return _mm512_set1_epi32(*(const int32_t *)(const void *)values);
}

/* n_groups (1 .. 4) groups x n_tokens (1 .. 6) input rows; all constants where it is inlined. Group g is the one
 * that is g * group_stride groups after the first. */
INLINE void multiply_tile(bool q4, bool l2, int n_groups, int n_tokens, const uint8_t *groups, int64_t group_stride,
                          int64_t n_pairs, const int8_t *values, const float *scales, const int32_t *offsets,
                          float *out, int64_t out_stride) {
    const int64_t pair_bytes = q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8,
                  group_bytes = group_stride * n_pairs * pair_bytes;
    const int n_lines = q4 ? 4 : 8; /* of a block */
    const __m512i high_halves = _mm512_set1_epi32(-65536), high_nibbles = _mm512_set1_epi8(-16);
    __m512 totals[MAX_GROUPS][TILE_TOKENS];
#pragma GCC unroll 4
    for (int g = 0; g < n_groups; g++)
#pragma GCC unroll 6
        for (int t = 0; t < n_tokens; t++)
            totals[g][t] = _mm512_setzero_ps();
    for (int64_t p = 0; p < n_pairs; p++, groups += pair_bytes)
        for (int half = 0; half < 2; half++) {
            __m512i sums[MAX_GROUPS][TILE_TOKENS];
#pragma GCC unroll 6
            for (int t = 0; t < n_tokens; t++)
#pragma GCC unroll 4
                for (int g = 0; g < n_groups; g++)
                    sums[g][t] = _mm512_set1_epi32(offsets[t]);
            offsets += n_tokens;
#pragma GCC unroll 8
            for (int line = 0; line < n_lines; line++) {
                __m512i low[MAX_GROUPS], high[MAX_GROUPS];
#pragma GCC unroll 4
                for (int g = 0; g < n_groups; g++) {
                    const uint8_t *from =
                        groups + g * group_bytes + QUANTIZED_SCALE_BYTES + 64 * (half * n_lines + line);
                    if (l2)
                        _mm_prefetch((const char *)from + PREFETCH_BYTES_L2, _MM_HINT_T1);
                    else
                        _mm_prefetch((const char *)from + PREFETCH_BYTES, _MM_HINT_T0);
                    low[g] = _mm512_loadu_si512(from);
                    if (q4) {
                        high[g] = _mm512_and_si512(low[g], high_nibbles);
                        low[g] = _mm512_and_si512(_mm512_slli_epi16(low[g], 4), high_nibbles);
                    }
                }
#pragma GCC unroll 6
                for (int t = 0; t < n_tokens; t++) {
                    __m512i inputs = broadcast_inputs(values + 4 * t);
#pragma GCC unroll 4
                    for (int g = 0; g < n_groups; g++)
                        sums[g][t] = dot(sums[g][t], low[g], inputs);
                }
                values += 4 * n_tokens;
                if (q4) {
#pragma GCC unroll 6
                    for (int t = 0; t < n_tokens; t++) {
                        __m512i inputs = broadcast_inputs(values + 4 * t);
#pragma GCC unroll 4
                        for (int g = 0; g < n_groups; g++)
                            sums[g][t] = dot(sums[g][t], high[g], inputs);
                    }
                    values += 4 * n_tokens;
                }
            }
            __m512 weight_scales[MAX_GROUPS];
#pragma GCC unroll 4
            for (int g = 0; g < n_groups; g++) {
                __m512i both = _mm512_loadu_si512(groups + g * group_bytes);
                weight_scales[g] =
                    _mm512_castsi512_ps(half ? _mm512_and_si512(both, high_halves) : _mm512_slli_epi32(both, 16));
            }
#pragma GCC unroll 6
            for (int t = 0; t < n_tokens; t++) {
                __m512 input_scale = _mm512_set1_ps(scales[t]);
#pragma GCC unroll 4
                for (int g = 0; g < n_groups; g++)
                    totals[g][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[g][t]),
                                                   _mm512_mul_ps(weight_scales[g], input_scale), totals[g][t]);
            }
            scales += n_tokens;
        }
#pragma GCC unroll 6
    for (int t = 0; t < n_tokens; t++)
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++)
            _mm512_storeu_ps(out + t * out_stride + g * group_stride * QUANTIZED_GROUP, totals[g][t]);
}

/* All groups for a constant number of input rows. For one row, each of the four streams takes a quarter of the groups,
 * one after the other, so that it goes on where it is prefetched. */
INLINE void multiply_groups(bool q4, bool l2, int n_tokens, const uint8_t *groups, int64_t n_groups, int64_t n_pairs,
                            const int8_t *values, const float *scales, const int32_t *offsets, float *out,
                            int64_t out_stride) {
    const int64_t group_bytes = n_pairs * (q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8);
    const int step = n_tokens == 1 ? 4 : 2;
    const int64_t group_stride = n_tokens == 1 ? n_groups / step : 1, n_tiles = n_groups / step;
    for (int64_t tile = 0; tile < n_tiles; tile++) {
        const int64_t g = n_tokens == 1 ? tile : tile * step;
        multiply_tile(q4, l2, step, n_tokens, groups + g * group_bytes, group_stride, n_pairs, values, scales, offsets,
                      out + g * QUANTIZED_GROUP, out_stride);
    }
    for (int64_t g = n_tiles * step; g < n_groups; g++)
        multiply_tile(q4, l2, 1, n_tokens, groups + g * group_bytes, 1, n_pairs, values, scales, offsets,
                      out + g * QUANTIZED_GROUP, out_stride);
}

INLINE void multiply(bool q4, bool l2, const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,
                     const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {
    switch (n_tokens) {
    case 1:
        multiply_groups(q4, l2, 1, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);
        break;
    case 2:
        multiply_groups(q4, l2, 2, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);
        break;
    case 3:
        multiply_groups(q4, false, 3, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);
        break;
    case 4:
        multiply_groups(q4, false, 4, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);
        break;
    case 5:
        multiply_groups(q4, false, 5, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);
        break;
    default:
        multiply_groups(q4, false, 6, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);
    }
}

#define MULTIPLY(name, q4, l2)                                                                                         \
    static void name(const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,                   \
                     const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {  \
        multiply(q4, l2, groups, n_groups, n_pairs, values, scales, offsets, n_tokens, out, out_stride);               \
    }

MULTIPLY(multiply_q8, false, false)
MULTIPLY(multiply_q4, true, false)
MULTIPLY(multiply_q8_l2, false, true)
MULTIPLY(multiply_q4_l2, true, true)

static void unpack_q4(const uint8_t *groups_q4, int64_t n_groups, int64_t n_pairs, uint8_t *groups_q8) {
    const __m512i high_nibbles = _mm512_set1_epi8(-16);
    for (int64_t p = 0; p < n_groups * n_pairs; p++) {
        _mm512_storeu_si512(groups_q8, _mm512_loadu_si512(groups_q4));
        groups_q4 += QUANTIZED_SCALE_BYTES;
        groups_q8 += QUANTIZED_SCALE_BYTES;
        for (int line = 0; line < 8; line++, groups_q4 += 64, groups_q8 += 128) {
            __m512i packed = _mm512_loadu_si512(groups_q4);
            _mm512_storeu_si512(groups_q8, _mm512_and_si512(_mm512_slli_epi16(packed, 4), high_nibbles));
            _mm512_storeu_si512(groups_q8 + 64, _mm512_and_si512(packed, high_nibbles));
        }
    }
}

void quantized_fill_avx512vnni(quantized_kernels *table, bool prefetch_l2) {
    table->tile_rows = TILE_TOKENS;
    table->multiply_q8 = prefetch_l2 ? multiply_q8_l2 : multiply_q8;
    table->multiply_q4 = prefetch_l2 ? multiply_q4_l2 : multiply_q4;
    table->unpack_q4 = unpack_q4;
}
#endif
