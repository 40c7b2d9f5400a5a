/* quantized_rows_avx2.h - what the two files of 256-bit kernels share. */
#ifndef KERNELS_QUANTIZED_ROWS_AVX2_H
#define KERNELS_QUANTIZED_ROWS_AVX2_H

#include <immintrin.h>
#include <stdint.h>

/* Scales of 8 rows of block `half` of a pair; scales points at the first row's dword. */
static inline __m256 half_scales(const uint8_t *scales, int half) {
    __m256i both = _mm256_loadu_si256((const __m256i *)scales);
    return _mm256_castsi256_ps(half ? _mm256_and_si256(both, _mm256_set1_epi32(-65536)) : _mm256_slli_epi32(both, 16));
}

#endif
