/* AVX-VNNI: vpdpbusd in 256 bits (laptops without AVX-512). A tile is a group of 16 rows (two registers) x 4 input
 * rows: 8 integer sums in registers; the float sums wait in L1. */
#if defined(TROL_HAVE_AVXVNNI)
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/quantized_kernels.h"
#include "kernels/quantized_rows_avx2.h"

enum { TILE_TOKENS = 4 };

/* Bytes ahead of its reading that the stream of weights is asked for when there is one input row. */
enum { PREFETCH_BYTES = 1536 };

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i dot(__m256i sums, __m256i weights, __m256i inputs) {
    return _mm256_dpbusd_avx_epi32(sums, weights, inputs);
}

/* sums += two registers of weights (16 rows x 4 inputs) times the inputs of each row. */
INLINE void add_line(int n_tokens, __m256i first, __m256i second, const int8_t *values, __m256i (*sums)[2]) {
#pragma GCC unroll 4
    for (int t = 0; t < n_tokens; t++) {
        __m256i inputs = _mm256_set1_epi32(*(const int32_t *)(const void *)(values + 4 * t));
        sums[t][0] = dot(sums[t][0], first, inputs);
        sums[t][1] = dot(sums[t][1], second, inputs);
    }
}

/* One group x n_tokens (1 .. 4, a constant where it is inlined) input rows. */
INLINE void multiply_tile(bool q4, int n_tokens, const uint8_t *group, int64_t n_pairs, const int8_t *values,
                          const float *scales, const int32_t *offsets, float *out, int64_t out_stride) {
    const int n_lines = q4 ? 4 : 8; /* of a block */
    const __m256i high_nibbles = _mm256_set1_epi8(-16);
    __m256 totals[TILE_TOKENS][2];
#pragma GCC unroll 4
    for (int t = 0; t < n_tokens; t++)
        totals[t][0] = totals[t][1] = _mm256_setzero_ps();
    for (int64_t p = 0; p < n_pairs; p++, group += q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8)
        for (int half = 0; half < 2; half++) {
            __m256i sums[TILE_TOKENS][2];
#pragma GCC unroll 4
            for (int t = 0; t < n_tokens; t++)
                sums[t][0] = sums[t][1] = _mm256_set1_epi32(offsets[t]);
            offsets += n_tokens;
#pragma GCC unroll 8
            for (int line = 0; line < n_lines; line++) {
                const uint8_t *from = group + QUANTIZED_SCALE_BYTES + 64 * (half * n_lines + line);
                if (n_tokens == 1)
                    _mm_prefetch((const char *)from + PREFETCH_BYTES, _MM_HINT_T0);
                __m256i first = _mm256_loadu_si256((const __m256i *)from);
                __m256i second = _mm256_loadu_si256((const __m256i *)(from + 32));
                if (q4) {
                    add_line(n_tokens, _mm256_and_si256(_mm256_slli_epi16(first, 4), high_nibbles),
                             _mm256_and_si256(_mm256_slli_epi16(second, 4), high_nibbles), values, sums);
                    values += 4 * n_tokens;
                    first = _mm256_and_si256(first, high_nibbles);
                    second = _mm256_and_si256(second, high_nibbles);
                }
                add_line(n_tokens, first, second, values, sums);
                values += 4 * n_tokens;
            }
            __m256 scales_first = half_scales(group, half), scales_second = half_scales(group + 32, half);
#pragma GCC unroll 4
            for (int t = 0; t < n_tokens; t++) {
                __m256 scale = _mm256_set1_ps(scales[t]);
                totals[t][0] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t][0]), _mm256_mul_ps(scales_first, scale), totals[t][0]);
                totals[t][1] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t][1]), _mm256_mul_ps(scales_second, scale), totals[t][1]);
            }
            scales += n_tokens;
        }
#pragma GCC unroll 4
    for (int t = 0; t < n_tokens; t++) {
        _mm256_storeu_ps(out + t * out_stride, totals[t][0]);
        _mm256_storeu_ps(out + t * out_stride + 8, totals[t][1]);
    }
}

INLINE void multiply_groups(bool q4, int n_tokens, const uint8_t *groups, int64_t n_groups, int64_t n_pairs,
                            const int8_t *values, const float *scales, const int32_t *offsets, float *out,
                            int64_t out_stride) {
    for (int64_t g = 0; g < n_groups; g++)
        multiply_tile(q4, n_tokens, groups + g * n_pairs * (q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8),
                      n_pairs, values, scales, offsets, out + g * QUANTIZED_GROUP, out_stride);
}

#define MULTIPLY(name, q4)                                                                                             \
    static void name(const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,                   \
                     const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {  \
        switch (n_tokens) {                                                                                            \
        case 1:                                                                                                        \
            multiply_groups(q4, 1, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        case 2:                                                                                                        \
            multiply_groups(q4, 2, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        case 3:                                                                                                        \
            multiply_groups(q4, 3, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        default:                                                                                                       \
            multiply_groups(q4, 4, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
        }                                                                                                              \
    }

MULTIPLY(multiply_q8, false)
MULTIPLY(multiply_q4, true)

void quantized_fill_avxvnni(quantized_kernels *table) {
    table->tile_rows = TILE_TOKENS;
    table->multiply_q8 = multiply_q8;
    table->multiply_q4 = multiply_q4;
}
#endif
