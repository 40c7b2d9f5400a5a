/* AVX2: as quantized_avx512.c without VNNI, half a group (8 rows) at a time against 4 input rows, a whole group against
 * one.
 *
 * vpmaddubsw adds two products in 16 bits and would overflow with 8-bit weights, so a weight goes in as two halves of 4
 * bits, u = 16 * high + low: eight sums of two products of at most 15 * 127 fit in 16 bits (30480). A q4 weight is a
 * high half alone. At the end of a block vpmaddwd makes both 32 bits wide, high halves times 16, and the dot is exact.
 */
#if defined(TROL_HAVE_AVX2)
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/quantized_kernels.h"
#include "kernels/quantized_pack.h"
#include "kernels/quantized_rows_avx2.h"

enum { TILE_TOKENS = 4 };

#define INLINE static inline __attribute__((always_inline))

INLINE void add_line(bool with_low, int n_tokens, __m256i h, __m256i l, const int8_t *values, __m256i *high,
                     __m256i *low) {
#pragma GCC unroll 4
    for (int t = 0; t < n_tokens; t++) {
        __m256i inputs = _mm256_set1_epi32(*(const int32_t *)(const void *)(values + 4 * t));
        high[t] = _mm256_add_epi16(high[t], _mm256_maddubs_epi16(h, inputs));
        if (with_low)
            low[t] = _mm256_add_epi16(low[t], _mm256_maddubs_epi16(l, inputs));
    }
}

/* n_parts (1 or 2) halves of a group (`group` points at the scales of the first) x n_tokens (1 .. 4) input rows; both
 * are constants where it is inlined. */
INLINE void multiply_tile(bool q4, int n_parts, int n_tokens, const uint8_t *group, int64_t n_pairs,
                          const int8_t *values, const float *scales, const int32_t *offsets, float *out,
                          int64_t out_stride) {
    const int n_lines = q4 ? 4 : 8; /* of a block */
    const __m256i nibbles = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1), sixteen = _mm256_set1_epi16(16);
    __m256 totals[2][TILE_TOKENS];
#pragma GCC unroll 2
    for (int part = 0; part < n_parts; part++)
#pragma GCC unroll 4
        for (int t = 0; t < n_tokens; t++)
            totals[part][t] = _mm256_setzero_ps();
    for (int64_t p = 0; p < n_pairs; p++, group += q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8)
        for (int half = 0; half < 2; half++) {
            __m256i high[2][TILE_TOKENS], low[2][TILE_TOKENS];
#pragma GCC unroll 2
            for (int part = 0; part < n_parts; part++)
#pragma GCC unroll 4
                for (int t = 0; t < n_tokens; t++)
                    high[part][t] = low[part][t] = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (int line = 0; line < n_lines; line++, values += (q4 ? 8 : 4) * n_tokens)
#pragma GCC unroll 2
                for (int part = 0; part < n_parts; part++) {
                    __m256i weights = _mm256_loadu_si256(
                        (const __m256i *)(group + QUANTIZED_SCALE_BYTES + 32 * part + 64 * (half * n_lines + line)));
                    __m256i l = _mm256_and_si256(weights, nibbles);
                    __m256i h = _mm256_and_si256(_mm256_srli_epi16(weights, 4), nibbles);
                    if (q4)
                        add_line(false, n_tokens, l, l, values, high[part], low[part]);
                    add_line(!q4, n_tokens, h, l, values + (q4 ? 4 * n_tokens : 0), high[part], low[part]);
                }
#pragma GCC unroll 2
            for (int part = 0; part < n_parts; part++) {
                __m256 weight_scales = half_scales(group + 32 * part, half);
#pragma GCC unroll 4
                for (int t = 0; t < n_tokens; t++) {
                    __m256i sums =
                        _mm256_add_epi32(_mm256_set1_epi32(offsets[t]), _mm256_madd_epi16(high[part][t], sixteen));
                    if (!q4)
                        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(low[part][t], one));
                    totals[part][t] =
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums),
                                        _mm256_mul_ps(weight_scales, _mm256_set1_ps(scales[t])), totals[part][t]);
                }
            }
            offsets += n_tokens;
            scales += n_tokens;
        }
#pragma GCC unroll 2
    for (int part = 0; part < n_parts; part++)
#pragma GCC unroll 4
        for (int t = 0; t < n_tokens; t++)
            _mm256_storeu_ps(out + t * out_stride + 8 * part, totals[part][t]);
}

/* One input row takes whole groups, so that memory is read in order; more have registers for halves only. */
INLINE void multiply_groups(bool q4, int n_tokens, const uint8_t *groups, int64_t n_groups, int64_t n_pairs,
                            const int8_t *values, const float *scales, const int32_t *offsets, float *out,
                            int64_t out_stride) {
    const int n_parts = n_tokens == 1 ? 2 : 1;
    const int64_t group_bytes = n_pairs * (q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8);
    for (int64_t g = 0; g < n_groups; g++)
        for (int part = 0; part < 2; part += n_parts)
            multiply_tile(q4, n_parts, n_tokens, groups + g * group_bytes + 32 * part, n_pairs, values, scales, offsets,
                          out + g * QUANTIZED_GROUP + 8 * part, out_stride);
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

static inline uint32_t largest_lane(__m256i v) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline int32_t sum_of_lanes(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* A block of 32 inputs: four registers of 8. */
static void quantize_row(const float *x, int64_t columns, int64_t n_pairs, int64_t interleave, int8_t *values,
                         float *scales, int32_t *offsets) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), low = _mm256_set1_epi32(-127),
                  high = _mm256_set1_epi32(127);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int64_t b = 0; b < 2 * n_pairs; b++, values += QUANTIZED_BLOCK * interleave) {
        __m256 part[4];
        __m256i q[4], largest_lanes = _mm256_setzero_si256(), sums = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            part[i] =
                b * QUANTIZED_BLOCK < columns ? _mm256_loadu_ps(x + b * QUANTIZED_BLOCK + 8 * i) : _mm256_setzero_ps();
            largest_lanes = _mm256_max_epu32(largest_lanes, _mm256_and_si256(_mm256_castps_si256(part[i]), magnitude));
        }
        uint32_t largest = largest_lane(largest_lanes);
        bool zero = largest < bits_from_float(PACK_SMALLEST);
        float amax = float_from_bits(largest);
        __m256 inverse = _mm256_set1_ps(zero ? 0 : 127.0f / amax);
        for (int i = 0; i < 4; i++) {
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(part[i], inverse));
            q[i] = _mm256_min_epi32(_mm256_max_epi32(q[i], low), high);
            sums = _mm256_add_epi32(sums, q[i]);
        }
        /* the two packs work within 128 bits and leave the dwords in the order that `order` puts right */
        __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        int32_t packed[8];
        _mm256_storeu_si256((__m256i *)packed, _mm256_permutevar8x32_epi32(bytes, order));
        for (int i = 0; i < 8; i++)
            memcpy(values + i * 4 * interleave, &packed[i], 4);
        scales[b * interleave] = zero ? 0 : amax * (1.0f / 127.0f);
        offsets[b * interleave] = -128 * sum_of_lanes(sums);
    }
}

static void pack(element_type type, element_type source_type, const uint8_t *source, size_t row_bytes, int64_t n_rows,
                 int64_t columns, uint8_t *group) {
    pack_group(type, source_type, source, row_bytes, n_rows, columns, group);
}

void quantized_fill_avx2(quantized_kernels *table) {
    table->tile_rows = TILE_TOKENS;
    table->pack_group = pack;
    table->multiply_q8 = multiply_q8;
    table->multiply_q4 = multiply_q4;
    table->quantize_row = quantize_row;
}
#endif
