/* attention_avx512bf16.c - the tile of attention on BF16 units: twice the products an instruction. */
#if defined(TROL_HAVE_AVX512BF16)
#include "kernels/simd_avx512.h"

/* Words i and 16 + i side by side. */
static inline __m512i interleave(__m512i words) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, words);
}

static inline vector tile_pairs(vector a, vector b) {
    return _mm512_castsi512_ps(interleave((__m512i)_mm512_cvtne2ps_pbh(b, a)));
}

static inline vector tile_multiply_add(vector a, vector b, vector c) {
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}

#define TILE_PAIRS
#include "kernels/attention_tile_simd.h"

/* Two rows of `width` floats become one of pairs; the second may be absent. */
static void pair_rows(const float *first, const float *second, int64_t width, float *to) {
    for (int64_t i = 0; i < width; i += VECTOR_LANES) {
        int64_t n = width - i < VECTOR_LANES ? width - i : VECTOR_LANES;
        vector a = vector_load_first(first + i, n), b = second ? vector_load_first(second + i, n) : vector_zero();
        vector_store_first(to + i, tile_pairs(a, b), n);
    }
}

/* [n_rows, width] to [n_rows / 2 rounded up, width] pairs, in place: a row is read before it is written. */
static void pair_up_rows(float *rows, int64_t n_rows, int64_t width) {
    for (int64_t row = 0; row < n_rows; row += 2)
        pair_rows(rows + row * width, row + 1 < n_rows ? rows + (row + 1) * width : NULL, width,
                  rows + row / 2 * width);
}

static void pair_up_keys(float *keys, int64_t n_keys, int64_t key_stride, int64_t head_dim) {
    for (int64_t key = 0; key < n_keys; key++, keys += key_stride)
        for (int64_t d = 0; d < head_dim; d += 2 * VECTOR_LANES) {
            int64_t n = head_dim - d < 2 * VECTOR_LANES ? head_dim - d : 2 * VECTOR_LANES;
            int64_t low = n < VECTOR_LANES ? n : VECTOR_LANES;
            vector a = vector_load_first(keys + d, low), b = vector_load_first(keys + d + low, n - low);
            vector_store_first(keys + d / 2, _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(b, a)), (n + 1) / 2);
        }
}

void attention_fill_avx512bf16(attention_kernels *table) {
    table->tile_bf16 = tile;
    table->pair_up_rows = pair_up_rows;
    table->pair_up_keys = pair_up_keys;
}
#endif
