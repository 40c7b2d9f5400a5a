/* simd_avx512.h - vectors of 16 floats, under the names that *_simd.h are written in. */
#ifndef KERNELS_SIMD_AVX512_H
#define KERNELS_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

enum { VECTOR_LANES = 16, VECTOR_REGISTERS = 32 };

typedef __m512 vector;
typedef __mmask16 vector_mask;

static inline vector vector_zero(void) { return _mm512_setzero_ps(); }
static inline vector vector_of(float value) { return _mm512_set1_ps(value); }
static inline vector vector_load(const float *from) { return _mm512_loadu_ps(from); }
static inline void vector_store(float *to, vector a) { _mm512_storeu_ps(to, a); }
static inline vector vector_add(vector a, vector b) { return _mm512_add_ps(a, b); }
static inline vector vector_subtract(vector a, vector b) { return _mm512_sub_ps(a, b); }
static inline vector vector_multiply(vector a, vector b) { return _mm512_mul_ps(a, b); }
static inline vector vector_max(vector a, vector b) { return _mm512_max_ps(a, b); }
/* a * b + c and c - a * b, rounded once. */
static inline vector vector_multiply_add(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
static inline vector vector_subtract_product(vector a, vector b, vector c) { return _mm512_fnmadd_ps(a, b, c); }
/* The first n lanes (0 to 16); loads fill up with zeros. */
static inline vector_mask vector_first_lanes(int64_t n) { return (vector_mask)((1u << n) - 1); }
static inline vector vector_load_first(const float *from, int64_t n) {
    return _mm512_maskz_loadu_ps(vector_first_lanes(n), from);
}
static inline void vector_store_first(float *to, vector a, int64_t n) {
    _mm512_mask_storeu_ps(to, vector_first_lanes(n), a);
}

static inline vector vector_select(vector_mask mask, vector a, vector b) { return _mm512_mask_blend_ps(mask, b, a); }
/* Lanes for which first[lane] <= key < end[lane]. */
static inline vector_mask vector_sees(int32_t key, const int32_t *first, const int32_t *end) {
    __m512i k = _mm512_set1_epi32(key);
    return _mm512_cmple_epi32_mask(_mm512_loadu_si512(first), k) & _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(end), k);
}

/* 16-bit values at any address. */
static inline vector vector_load_f16(const void *from) { return _mm512_cvtph_ps(_mm256_loadu_si256(from)); }
static inline vector vector_load_f16_first(const void *from, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vector_first_lanes(n), from));
}
static inline vector vector_load_bf16(const void *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from)), 16));
}
static inline void vector_store_f16(void *to, vector a) {
    _mm256_storeu_si256(to, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Signed bytes at any address. Stored: rounded to nearest, ties to even; |a| < 127.5. */
static inline vector vector_load_i8(const void *from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
}
static inline vector vector_load_i8_first(const void *from, int64_t n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(vector_first_lanes(n), from)));
}
static inline void vector_store_i8(void *to, vector a) {
    _mm_storeu_si128(to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

/* Sum of all lanes. */
static inline float vector_sum(vector a) {
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float vector_largest(vector a) { return _mm512_reduce_max_ps(a); }
/* The sums of four vectors, to[0] to to[3], each added up in the same order. */
static inline void vector_store_sums(float *to, vector a, vector b, vector c, vector d) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512 abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

/* 2^x with a relative error of 1.5e-7, exactly 1 for 0, 0 far below -126. Not for NaN. The polynomial is for the
 * fraction, 0 to 1. */
static inline vector vector_exp2(vector x) {
    vector r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vector p = vector_of(0.0018671304f);
    p = vector_multiply_add(p, r, vector_of(0.00901703f));
    p = vector_multiply_add(p, r, vector_of(0.055799913f));
    p = vector_multiply_add(p, r, vector_of(0.24016444f));
    p = vector_multiply_add(p, r, vector_of(0.6931513f));
    p = vector_multiply_add(p, r, vector_of(1.0f));
    return _mm512_scalef_ps(p, x); /* takes the floor of x */
}

#endif
