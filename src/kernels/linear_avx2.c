/* AVX2, FMA and F16C: dot products of eight lanes. */
#if defined(TROL_HAVE_AVX2)
#include <immintrin.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/linear_epilogue.h"

enum { LANES = 8 };

static inline __m256 load(element_type type, const unsigned char *from) {
    if (type == ELEMENT_F32)
        return _mm256_loadu_ps((const float *)(const void *)from);
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)from);
    if (type == ELEMENT_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* The first n (below LANES) elements, zeros after them. */
static inline __m256 load_tail(element_type type, const unsigned char *from, int64_t n) {
    unsigned char bytes[LANES * 4] = {0};
    memcpy(bytes, from, (size_t)n * element_bytes(type));
    return load(type, bytes);
}

static inline void elements_to_float(element_type type, const unsigned char *from, float *to, int64_t n) {
    int64_t bytes = (int64_t)element_bytes(type), k = 0;
    for (; k + LANES <= n; k += LANES)
        _mm256_storeu_ps(to + k, load(type, from + k * bytes));
    if (k < n) {
        float tail[LANES];
        _mm256_storeu_ps(tail, load_tail(type, from + k * bytes, n - k));
        memcpy(to + k, tail, (size_t)(n - k) * sizeof *to);
    }
}

static inline float sum_lanes(__m256 v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* R weight rows, with a stride of `row_stride` rows, by T input rows; y[i * y_stride + r * row_stride]. Column k goes
 * to lane k % LANES of a sum whatever R and T are. */
static inline __attribute__((always_inline)) void dot_tile(element_type type, const int R, const int T,
                                                           const unsigned char *rows, int64_t row_bytes,
                                                           int64_t row_stride, const float *x, int64_t x_stride,
                                                           int64_t n_columns, float *y, int64_t y_stride) {
    int64_t bytes = (int64_t)element_bytes(type), stream_bytes = row_stride * row_bytes, k = 0;
    __m256 sums[12];
    for (int i = 0; i < R * T; i++)
        sums[i] = _mm256_setzero_ps();
    for (; k + LANES <= n_columns; k += LANES)
        for (int j = 0; j < R; j++) {
            __m256 w = load(type, rows + j * stream_bytes + k * bytes);
            for (int i = 0; i < T; i++)
                sums[j * T + i] = _mm256_fmadd_ps(w, _mm256_loadu_ps(x + i * x_stride + k), sums[j * T + i]);
        }
    if (k < n_columns)
        for (int j = 0; j < R; j++) {
            __m256 w = load_tail(type, rows + j * stream_bytes + k * bytes, n_columns - k);
            for (int i = 0; i < T; i++)
                sums[j * T + i] = _mm256_fmadd_ps(
                    w, load_tail(ELEMENT_F32, (const unsigned char *)(x + i * x_stride + k), n_columns - k),
                    sums[j * T + i]);
        }
    for (int j = 0; j < R; j++)
        for (int i = 0; i < T; i++)
            y[i * y_stride + j * row_stride] = sum_lanes(sums[j * T + i]);
}

#define TILE_CASE(T)                                                                                                   \
    case T:                                                                                                            \
        dot_tile(type, R, T, rows, row_bytes, row_stride, x, x_stride, n_columns, y, y_stride);                        \
        break

/* R (1 or 2) weight rows by all input rows, up to six at a time, as evenly as they divide: 12 sums in registers, and
 * eight rows that a stride of a power of two puts on the same eight places of L1. */
static inline __attribute__((always_inline)) void dot_rows(element_type type, const int R, const unsigned char *rows,
                                                           int64_t row_bytes, int64_t row_stride, const float *x,
                                                           int64_t x_stride, int64_t n_inputs, int64_t n_columns,
                                                           float *y, int64_t y_stride) {
    while (n_inputs > 0) {
        const int64_t n_tiles = (n_inputs + 5) / 6, taken = (n_inputs + n_tiles - 1) / n_tiles;
        switch (taken) {
            TILE_CASE(1);
            TILE_CASE(2);
            TILE_CASE(3);
            TILE_CASE(4);
            TILE_CASE(5);
            TILE_CASE(6);
        }
        n_inputs -= taken;
        x += taken * x_stride;
        y += taken * y_stride;
    }
}

/* The weights are read as eight streams (two for more than one input row), each of which continues from row to row. */
static inline __attribute__((always_inline)) void dot(element_type type, const unsigned char *rows, int64_t row_bytes,
                                                      int64_t n_rows, const float *x, int64_t x_stride,
                                                      int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {
    int64_t n_streams = n_inputs == 1 ? 8 : 2, row_stride = n_rows / n_streams;
    for (int64_t j = 0; j < row_stride; j++)
        if (n_inputs == 1)
            dot_tile(type, 8, 1, rows + j * row_bytes, row_bytes, row_stride, x, x_stride, n_columns, y + j, y_stride);
        else
            dot_rows(type, 2, rows + j * row_bytes, row_bytes, row_stride, x, x_stride, n_inputs, n_columns, y + j,
                     y_stride);
    for (int64_t j = n_streams * row_stride; j < n_rows; j++)
        dot_rows(type, 1, rows + j * row_bytes, row_bytes, 1, x, x_stride, n_inputs, n_columns, y + j, y_stride);
}

/* ---- large batches: tiles of 6 inputs by 16 weight rows, float32 --------------------------------------------------
 */

enum { TILE_INPUTS = 6, TILE_OUTPUTS = 16 };

/* Eight rows of eight elements become eight columns. */
static inline void transpose(__m256 rows[8]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 4) {
        __m256 a = _mm256_unpacklo_ps(rows[i], rows[i + 1]), b = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        __m256 c = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]), d = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

/* Up to eight rows become columns of a panel [n_columns, width]; rows that are not there are zeros. */
static inline __attribute__((always_inline)) void pack_columns(element_type type, const unsigned char *rows,
                                                               int64_t row_bytes, int64_t n_rows, int64_t n_columns,
                                                               float *panel, int64_t width, __m256i lanes) {
    int64_t bytes = (int64_t)element_bytes(type);
    for (int64_t k = 0; k < n_columns; k += LANES) {
        int64_t n = n_columns - k < LANES ? n_columns - k : LANES;
        __m256 block[8];
        for (int64_t i = 0; i < 8; i++) {
            const unsigned char *from = rows + i * row_bytes + k * bytes;
            block[i] = i >= n_rows ? _mm256_setzero_ps() : n < LANES ? load_tail(type, from, n) : load(type, from);
        }
        transpose(block);
        for (int64_t i = 0; i < n; i++)
            _mm256_maskstore_ps(panel + (k + i) * width, lanes, block[i]);
    }
}

static void pack_inputs(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel) {
    pack_columns(ELEMENT_F32, (const unsigned char *)x, x_stride * 4, n_rows, n_columns, panel, TILE_INPUTS,
                 _mm256_setr_epi32(-1, -1, -1, -1, -1, -1, 0, 0));
}

static inline __attribute__((always_inline)) void pack_weights(element_type type, const unsigned char *rows,
                                                               int64_t row_bytes, int64_t n_rows, int64_t n_columns,
                                                               float *panel) {
    for (int64_t half = 0; half < TILE_OUTPUTS; half += 8)
        pack_columns(type, rows + half * row_bytes, row_bytes, n_rows - half, n_columns, panel + half, TILE_OUTPUTS,
                     _mm256_set1_epi32(-1));
}

static void tile(const void *inputs, const void *weights, int64_t n_columns, float *sums, int64_t sums_stride,
                 bool add) {
    const float *x = inputs, *w = weights;
    __m256 total[TILE_INPUTS][2];
#pragma GCC unroll 6
    for (int i = 0; i < TILE_INPUTS; i++)
        total[i][0] = total[i][1] = _mm256_setzero_ps();
    for (int64_t k = 0; k < n_columns; k++, x += TILE_INPUTS, w += TILE_OUTPUTS) {
        _mm_prefetch((const char *)(w + 8 * TILE_OUTPUTS), _MM_HINT_T0);
        __m256 low = _mm256_load_ps(w), high = _mm256_load_ps(w + 8);
#pragma GCC unroll 6
        for (int i = 0; i < TILE_INPUTS; i++) {
            __m256 one = _mm256_broadcast_ss(x + i);
            total[i][0] = _mm256_fmadd_ps(one, low, total[i][0]);
            total[i][1] = _mm256_fmadd_ps(one, high, total[i][1]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < TILE_INPUTS; i++) {
        float *to = sums + i * sums_stride;
        if (add) {
            total[i][0] = _mm256_add_ps(total[i][0], _mm256_loadu_ps(to));
            total[i][1] = _mm256_add_ps(total[i][1], _mm256_loadu_ps(to + 8));
        }
        _mm256_storeu_ps(to, total[i][0]);
        _mm256_storeu_ps(to + 8, total[i][1]);
    }
}

#define FILL linear_fill_avx2
#include "kernels/linear_simd.h"

#endif
