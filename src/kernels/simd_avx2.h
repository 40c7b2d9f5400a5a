/* simd_avx2.h - vectors of 8 floats, under the names that *_simd.h are written in. */
#ifndef KERNELS_SIMD_AVX2_H
#define KERNELS_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { VECTOR_LANES = 8, VECTOR_REGISTERS = 16 };

typedef __m256 vector;
typedef __m256 vector_mask; /* all bits of a lane set or clear */

static inline vector vector_zero(void) { return _mm256_setzero_ps(); }
static inline vector vector_of(float value) { return _mm256_set1_ps(value); }
static inline vector vector_load(const float *from) { return _mm256_loadu_ps(from); }
static inline void vector_store(float *to, vector a) { _mm256_storeu_ps(to, a); }
static inline vector vector_add(vector a, vector b) { return _mm256_add_ps(a, b); }
static inline vector vector_subtract(vector a, vector b) { return _mm256_sub_ps(a, b); }
static inline vector vector_multiply(vector a, vector b) { return _mm256_mul_ps(a, b); }
static inline vector vector_max(vector a, vector b) { return _mm256_max_ps(a, b); }
/* a * b + c and c - a * b, rounded once. */
static inline vector vector_multiply_add(vector a, vector b, vector c) { return _mm256_fmadd_ps(a, b, c); }
static inline vector vector_subtract_product(vector a, vector b, vector c) { return _mm256_fnmadd_ps(a, b, c); }
/* The first n lanes (0 to 8); loads fill up with zeros. */
static inline __m256i vector_first_lanes(int64_t n) {
    static const int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones_then_zeros + 8 - n));
}
static inline vector vector_load_first(const float *from, int64_t n) {
    return _mm256_maskload_ps(from, vector_first_lanes(n));
}
static inline void vector_store_first(float *to, vector a, int64_t n) {
    _mm256_maskstore_ps(to, vector_first_lanes(n), a);
}

static inline vector vector_select(vector_mask mask, vector a, vector b) { return _mm256_blendv_ps(b, a, mask); }
/* Lanes for which first[lane] <= key < end[lane]. */
static inline vector_mask vector_sees(int32_t key, const int32_t *first, const int32_t *end) {
    __m256i k = _mm256_set1_epi32(key);
    __m256i before = _mm256_cmpgt_epi32(_mm256_loadu_si256((const __m256i *)(const void *)first), k);
    __m256i within = _mm256_cmpgt_epi32(_mm256_loadu_si256((const __m256i *)(const void *)end), k);
    return _mm256_castsi256_ps(_mm256_andnot_si256(before, within));
}

/* 16-bit values at any address. */
static inline vector vector_load_f16(const void *from) { return _mm256_cvtph_ps(_mm_loadu_si128(from)); }
static inline vector vector_load_f16_first(const void *from, int64_t n) {
    uint16_t values[8] = {0};
    memcpy(values, from, (size_t)n * sizeof values[0]);
    return vector_load_f16(values);
}
static inline vector vector_load_bf16(const void *from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)), 16));
}
static inline void vector_store_f16(void *to, vector a) {
    _mm_storeu_si128(to, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Signed bytes at any address. Stored: rounded to nearest, ties to even; |a| < 127.5. */
static inline vector vector_load_i8(const void *from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from)));
}
static inline vector vector_load_i8_first(const void *from, int64_t n) {
    int8_t values[8] = {0};
    memcpy(values, from, (size_t)n);
    return vector_load_i8(values);
}
static inline void vector_store_i8(void *to, vector a) {
    __m256i b = _mm256_cvtps_epi32(a);
    __m128i c = _mm_packs_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    _mm_storel_epi64(to, _mm_packs_epi16(c, c));
}

/* Sum of all lanes. */
static inline float vector_sum(vector a) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
static inline float vector_largest(vector a) {
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
/* The sums of four vectors, to[0] to to[3], each added up in the same order. */
static inline void vector_store_sums(float *to, vector a, vector b, vector c, vector d) {
    __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}

/* 2^x for x up to 126 with a relative error of 1.6e-7, exactly 1 for 0; at most 2e-38 for x below -126. Not for NaN.
 * Adding 1.5 * 2^23 leaves x, rounded to a whole number, in the lowest bits. */
static inline vector vector_exp2(vector x) {
    x = _mm256_max_ps(vector_of(-126.0f), x); /* in this order NaN stays NaN */
    vector shifted = _mm256_add_ps(x, vector_of(12582912.0f));
    vector r = _mm256_sub_ps(x, _mm256_sub_ps(shifted, vector_of(12582912.0f)));
    vector p = vector_of(0.0013264727f);
    p = vector_multiply_add(p, r, vector_of(0.009671513f));
    p = vector_multiply_add(p, r, vector_of(0.055507336f));
    p = vector_multiply_add(p, r, vector_of(0.24022242f));
    p = vector_multiply_add(p, r, vector_of(0.693147f));
    p = vector_multiply_add(p, r, vector_of(1.0f));
    __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

#endif
