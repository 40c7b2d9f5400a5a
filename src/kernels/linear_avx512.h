/* linear_avx512.h - loads and a transpose that the AVX-512 files of linear share. */
#ifndef KERNELS_LINEAR_AVX512_H
#define KERNELS_LINEAR_AVX512_H

#include <immintrin.h>

#include "kernels/types.h"

enum { LANES = 16 };

/* The elements that the mask names, zeros for others. */
static inline __m512 load(element_type type, const unsigned char *from, __mmask16 mask) {
    if (type == ELEMENT_F32)
        return _mm512_maskz_loadu_ps(mask, from);
    __m256i half = _mm256_maskz_loadu_epi16(mask, from);
    if (type == ELEMENT_F16)
        return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static const __mmask16 ALL = 0xffff;

static inline __mmask16 first_lanes(int64_t n) { return (__mmask16)((1u << n) - 1); }

/* Sixteen rows of sixteen 32-bit elements become sixteen columns. */
static inline void transpose(__m512i rows[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(rows[i], rows[i + 1]), b = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(rows[i + 2], rows[i + 3]),
                d = _mm512_unpackhi_epi32(rows[i + 2], rows[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) { /* column i of each 128-bit lane, four rows an element */
        __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88),
                d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        rows[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

#endif
