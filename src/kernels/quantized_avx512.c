/* AVX-512 without VNNI, and what all AVX-512 levels share: packing and quantizing rows.
 *
 * vpmaddubsw adds two products in 16 bits and would overflow with 8-bit weights, so a weight goes in as two halves of 4
 * bits, u = 16 * high + low: eight sums of two products of at most 15 * 127 fit in 16 bits (30480). A q4 weight is a
 * high half alone. At the end of a block vpmaddwd makes both 32 bits wide, high halves times 16, and the dot is exact.
 */
#if defined(TROL_HAVE_AVX512)
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/quantized_kernels.h"
#include "kernels/quantized_pack.h"

enum { TILE_TOKENS = 8 };

#define INLINE static inline __attribute__((always_inline))

/* high and low += a line of weights (halves in h and l; l only for q8) times 4 inputs of each row. */
INLINE void add_line(bool with_low, int n_tokens, __m512i h, __m512i l, const int8_t *values, __m512i *high,
                     __m512i *low) {
#pragma GCC unroll 8
    for (int t = 0; t < n_tokens; t++) {
        __m512i inputs = _mm512_set1_epi32(*(const int32_t *)(const void *)(values + 4 * t));
        high[t] = _mm512_add_epi16(high[t], _mm512_maddubs_epi16(h, inputs));
        KEEP_ORDER(high[t]);
        if (with_low) {
            low[t] = _mm512_add_epi16(low[t], _mm512_maddubs_epi16(l, inputs));
            KEEP_ORDER(low[t]);
        }
    }
}

/* One group x n_tokens (1 .. 8, a constant where it is inlined) input rows. */
INLINE void multiply_tile(bool q4, int n_tokens, const uint8_t *group, int64_t n_pairs, const int8_t *values,
                          const float *scales, const int32_t *offsets, float *out, int64_t out_stride) {
    const int n_lines = q4 ? 4 : 8; /* of a block */
    const __m512i nibbles = _mm512_set1_epi8(15), one = _mm512_set1_epi16(1), sixteen = _mm512_set1_epi16(16);
    const __m512i high_halves = _mm512_set1_epi32(-65536);
    __m512 totals[TILE_TOKENS];
#pragma GCC unroll 8
    for (int t = 0; t < n_tokens; t++)
        totals[t] = _mm512_setzero_ps();
    for (int64_t p = 0; p < n_pairs; p++, group += q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8)
        for (int half = 0; half < 2; half++) {
            __m512i high[TILE_TOKENS], low[TILE_TOKENS];
#pragma GCC unroll 8
            for (int t = 0; t < n_tokens; t++)
                high[t] = low[t] = _mm512_setzero_si512();
#pragma GCC unroll 8
            for (int line = 0; line < n_lines; line++) {
                __m512i weights = _mm512_loadu_si512(group + QUANTIZED_SCALE_BYTES + 64 * (half * n_lines + line));
                __m512i l = _mm512_and_si512(weights, nibbles);
                __m512i h = _mm512_and_si512(_mm512_srli_epi16(weights, 4), nibbles);
                if (q4) {
                    add_line(false, n_tokens, l, l, values, high, low);
                    values += 4 * n_tokens;
                }
                add_line(!q4, n_tokens, h, l, values, high, low);
                values += 4 * n_tokens;
            }
            __m512i both = _mm512_loadu_si512(group);
            __m512 weight_scales =
                _mm512_castsi512_ps(half ? _mm512_and_si512(both, high_halves) : _mm512_slli_epi32(both, 16));
#pragma GCC unroll 8
            for (int t = 0; t < n_tokens; t++) {
                __m512i sums = _mm512_add_epi32(_mm512_set1_epi32(offsets[t]), _mm512_madd_epi16(high[t], sixteen));
                if (!q4)
                    sums = _mm512_add_epi32(sums, _mm512_madd_epi16(low[t], one));
                totals[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums),
                                            _mm512_mul_ps(weight_scales, _mm512_set1_ps(scales[t])), totals[t]);
            }
            offsets += n_tokens;
            scales += n_tokens;
        }
#pragma GCC unroll 8
    for (int t = 0; t < n_tokens; t++)
        _mm512_storeu_ps(out + t * out_stride, totals[t]);
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
        case 4:                                                                                                        \
            multiply_groups(q4, 4, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        case 5:                                                                                                        \
            multiply_groups(q4, 5, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        case 6:                                                                                                        \
            multiply_groups(q4, 6, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        case 7:                                                                                                        \
            multiply_groups(q4, 7, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
            break;                                                                                                     \
        default:                                                                                                       \
            multiply_groups(q4, 8, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);               \
        }                                                                                                              \
    }

MULTIPLY(multiply_q8, false)
MULTIPLY(multiply_q4, true)

/* A block of 32 inputs: two registers of 16. */
static void quantize_row(const float *x, int64_t columns, int64_t n_pairs, int64_t interleave, int8_t *values,
                         float *scales, int32_t *offsets) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff), low = _mm512_set1_epi32(-127),
                  high = _mm512_set1_epi32(127);
    for (int64_t b = 0; b < 2 * n_pairs; b++, values += QUANTIZED_BLOCK * interleave) {
        __m512 a = _mm512_setzero_ps(), c = a;
        if (b * QUANTIZED_BLOCK < columns) {
            a = _mm512_loadu_ps(x + b * QUANTIZED_BLOCK);
            c = _mm512_loadu_ps(x + b * QUANTIZED_BLOCK + 16);
        }
        uint32_t largest = _mm512_reduce_max_epu32(_mm512_max_epu32(
            _mm512_and_si512(_mm512_castps_si512(a), magnitude), _mm512_and_si512(_mm512_castps_si512(c), magnitude)));
        bool zero = largest < bits_from_float(PACK_SMALLEST);
        float amax = float_from_bits(largest);
        __m512 inverse = _mm512_set1_ps(zero ? 0 : 127.0f / amax);
        __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)),
                second = _mm512_cvtps_epi32(_mm512_mul_ps(c, inverse));
        first = _mm512_min_epi32(_mm512_max_epi32(first, low), high);
        second = _mm512_min_epi32(_mm512_max_epi32(second, low), high);
        int32_t packed[8];
        _mm_storeu_si128((__m128i *)packed, _mm512_cvtepi32_epi8(first));
        _mm_storeu_si128((__m128i *)(packed + 4), _mm512_cvtepi32_epi8(second));
        for (int i = 0; i < 8; i++)
            memcpy(values + i * 4 * interleave, &packed[i], 4);
        scales[b * interleave] = zero ? 0 : amax * (1.0f / 127.0f);
        offsets[b * interleave] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
    }
}

static void pack(element_type type, element_type source_type, const uint8_t *source, size_t row_bytes, int64_t n_rows,
                 int64_t columns, uint8_t *group) {
    pack_group(type, source_type, source, row_bytes, n_rows, columns, group);
}

void quantized_fill_avx512(quantized_kernels *table) {
    table->tile_rows = TILE_TOKENS;
    table->pack_group = pack;
    table->multiply_q8 = multiply_q8;
    table->multiply_q4 = multiply_q4;
    table->quantize_row = quantize_row;
}
#endif
