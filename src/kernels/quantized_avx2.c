/* AVX2: without VNNI, whole groups (16 rows) against 1 to 4 input rows, or half a group at a time against 5 to 8.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds two products in 16 bits, which 8-bit weights from 0 to 255
 * would overflow. A q8 weight therefore goes in as its magnitude, and its sign goes to the input: two products of at
 * most 127 * 127 fit in 16 bits, and vpmaddwd makes them 32 bits wide. A q4 weight is 0 to 15, so that eight sums of
 * two products fit in 16 bits (8 * 2 * 15 * 127 = 30480), which are made 32 bits wide once a block, times 16. Both dots
 * are exact. */
#if defined(TROL_HAVE_AVX2)
#include <immintrin.h>
#include <stdbool.h>

#include "kernels/quantized_kernels.h"
#include "kernels/quantized_pack.h"
#include "kernels/quantized_rows_avx2.h"

enum { TILE_TOKENS = 8, TOKENS_OF_WHOLE_GROUPS = 4 };

#define INLINE static inline __attribute__((always_inline))

/* n_tokens is a constant wherever this is inlined, so that sums[t] are registers. */
#define EACH_TOKEN(t) _Pragma("GCC unroll 8") for (int t = 0; t < n_tokens; t++)

INLINE __m256i load_inputs(const int8_t *values) { return _mm256_set1_epi32(*(const int32_t *)(const void *)values); }

INLINE __m256i dot_q8(__m256i sum, __m256i magnitudes, __m256i weights, __m256i inputs) {
    const __m256i products = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(inputs, weights));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
    KEEP_ORDER(sum);
    return sum;
}

/* first, second [n_tokens]: sums of 32 bits; += a line of weights (4 columns of 8 rows; `second` of the next 8 rows)
 * times the inputs of each token. */
INLINE void add_line_q8(int n_parts, int n_tokens, const uint8_t *line, const int8_t *values, __m256i *first,
                        __m256i *second) {
    const __m256i zero_point = _mm256_set1_epi8(-128);
    const __m256i w = _mm256_xor_si256(zero_point, _mm256_loadu_si256((const __m256i *)line));
    const __m256i magnitudes = _mm256_abs_epi8(w);
    if (n_parts == 1) {
        EACH_TOKEN(t) first[t] = dot_q8(first[t], magnitudes, w, load_inputs(values + 4 * t));
    } else {
        const __m256i w2 = _mm256_xor_si256(zero_point, _mm256_loadu_si256((const __m256i *)(line + 32)));
        const __m256i magnitudes2 = _mm256_abs_epi8(w2);
        EACH_TOKEN(t) {
            const __m256i inputs = load_inputs(values + 4 * t);
            first[t] = dot_q8(first[t], magnitudes, w, inputs);
            second[t] = dot_q8(second[t], magnitudes2, w2, inputs);
        }
    }
}

/* sums [n_tokens], of 16 bits, += half a line of weights (8 columns of 8 rows) times the inputs of each token. */
INLINE void add_half_line_q4(int n_tokens, const uint8_t *line, const int8_t *values, __m256i *sums) {
    const __m256i nibbles = _mm256_set1_epi8(15), weights = _mm256_loadu_si256((const __m256i *)line);
    const __m256i low = _mm256_and_si256(weights, nibbles);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(weights, 4), nibbles);
    EACH_TOKEN(t) {
        sums[t] = _mm256_add_epi16(sums[t], _mm256_maddubs_epi16(low, load_inputs(values + 4 * t)));
        sums[t] = _mm256_add_epi16(sums[t], _mm256_maddubs_epi16(high, load_inputs(values + 4 * (n_tokens + t))));
        KEEP_ORDER(sums[t]);
    }
}

/* totals += the dots of a block times the scales of weights and inputs. */
INLINE void add_block(bool q4, int n_tokens, const __m256i *sums, __m256 weight_scales, const float *scales,
                      const int32_t *offsets, __m256 *totals) {
    EACH_TOKEN(t) {
        __m256i dots = sums[t];
        if (q4)
            dots = _mm256_add_epi32(_mm256_set1_epi32(offsets[t]), _mm256_madd_epi16(dots, _mm256_set1_epi16(16)));
        totals[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(weight_scales, _mm256_set1_ps(scales[t])),
                                    totals[t]);
    }
}

/* n_parts (1 or 2) halves of a group (`group` points at the scales of the first) x n_tokens (1 .. 8) input rows; both
 * are constants where it is inlined. */
INLINE void multiply_tile(bool q4, int n_parts, int n_tokens, const uint8_t *group, int64_t n_pairs,
                          const int8_t *values, const float *scales, const int32_t *offsets, const uint8_t *next,
                          float *out, int64_t out_stride) {
    const int n_lines = q4 ? 4 : 8; /* of a block */
    __m256 first_totals[TILE_TOKENS], second_totals[TILE_TOKENS];
    EACH_TOKEN(t) first_totals[t] = second_totals[t] = _mm256_setzero_ps();
    for (int64_t p = 0; p < n_pairs; p++, group += q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8)
        for (int half = 0; half < 2; half++) {
            const uint8_t *line = group + QUANTIZED_SCALE_BYTES + 64 * half * n_lines;
            __m256i first[TILE_TOKENS], second[TILE_TOKENS];
            if (n_parts == 1)
                for (int l = 0; l < n_lines; l += 2, next += 64)
                    _mm_prefetch((const char *)next, _MM_HINT_T1);
            EACH_TOKEN(t) first[t] = second[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (int l = 0; l < n_lines; l++, line += 64) {
                if (q4) {
                    add_half_line_q4(n_tokens, line, values, first);
                    if (n_parts == 2)
                        add_half_line_q4(n_tokens, line + 32, values, second);
                } else {
                    add_line_q8(n_parts, n_tokens, line, values, first, second);
                }
                values += (q4 ? 8 : 4) * n_tokens;
            }
            add_block(q4, n_tokens, first, half_scales(group, half), scales, offsets, first_totals);
            if (n_parts == 2)
                add_block(q4, n_tokens, second, half_scales(group + 32, half), scales, offsets, second_totals);
            offsets += n_tokens;
            scales += n_tokens;
        }
    EACH_TOKEN(t) {
        _mm256_storeu_ps(out + t * out_stride, first_totals[t]);
        if (n_parts == 2)
            _mm256_storeu_ps(out + t * out_stride + 8, second_totals[t]);
    }
}

/* Few input rows take whole groups, so that memory is read in order; more have registers for halves only. The second
 * half of a group then comes from a cache, so both halves prefetch one of the next group each; they name addresses
 * after the last group, which does nothing. */
INLINE void multiply_groups(bool q4, int n_tokens, const uint8_t *groups, int64_t n_groups, int64_t n_pairs,
                            const int8_t *values, const float *scales, const int32_t *offsets, float *out,
                            int64_t out_stride) {
    const int n_parts = n_tokens <= TOKENS_OF_WHOLE_GROUPS ? 2 : 1;
    const int64_t group_bytes = n_pairs * (q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8);
    for (int64_t g = 0; g < n_groups; g++)
        for (int part = 0; part < 2; part += n_parts)
            multiply_tile(q4, n_parts, n_tokens, groups + g * group_bytes + 32 * part, n_pairs, values, scales, offsets,
                          n_parts == 2 ? NULL : groups + (g + 1) * group_bytes + part * group_bytes / 2,
                          out + g * QUANTIZED_GROUP + 8 * part, out_stride);
}

#define CASE(n, q4)                                                                                                    \
    case n:                                                                                                            \
        multiply_groups(q4, n, groups, n_groups, n_pairs, values, scales, offsets, out, out_stride);                   \
        break

#define MULTIPLY(name, q4)                                                                                             \
    static void name(const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,                   \
                     const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {  \
        switch (n_tokens) {                                                                                            \
            CASE(1, q4);                                                                                               \
            CASE(2, q4);                                                                                               \
            CASE(3, q4);                                                                                               \
            CASE(4, q4);                                                                                               \
            CASE(5, q4);                                                                                               \
            CASE(6, q4);                                                                                               \
            CASE(7, q4);                                                                                               \
            CASE(8, q4);                                                                                               \
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
