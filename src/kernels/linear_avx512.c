/* AVX-512 (F, BW, DQ, VL): dot products of sixteen lanes. */
#if defined(TROL_HAVE_AVX512)
#include <immintrin.h>
#include <string.h>

#include "kernels/linear_avx512.h"
#include "kernels/linear_epilogue.h"

static inline void elements_to_float(element_type type, const unsigned char *from, float *to, int64_t n) {
    int64_t bytes = (int64_t)element_bytes(type), k = 0;
    for (; k + LANES <= n; k += LANES)
        _mm512_storeu_ps(to + k, load(type, from + k * bytes, ALL));
    if (k < n)
        _mm512_mask_storeu_ps(to + k, first_lanes(n - k), load(type, from + k * bytes, first_lanes(n - k)));
}

/* R weight rows, with a stride of `row_stride` rows, by T input rows; y[i * y_stride + r * row_stride]. Column k goes
 * to lane k % LANES of a sum whatever R and T are. */
static inline __attribute__((always_inline)) void dot_tile(element_type type, const int R, const int T,
                                                           const unsigned char *rows, int64_t row_bytes,
                                                           int64_t row_stride, const float *x, int64_t x_stride,
                                                           int64_t n_columns, float *y, int64_t y_stride) {
    int64_t bytes = (int64_t)element_bytes(type), stream_bytes = row_stride * row_bytes, k = 0;
    __m512 sums[16];
    for (int i = 0; i < R * T; i++)
        sums[i] = _mm512_setzero_ps();
    for (; k + LANES <= n_columns; k += LANES)
        for (int j = 0; j < R; j++) {
            __m512 w = load(type, rows + j * stream_bytes + k * bytes, ALL);
            for (int i = 0; i < T; i++)
                sums[j * T + i] = _mm512_fmadd_ps(w, _mm512_loadu_ps(x + i * x_stride + k), sums[j * T + i]);
        }
    if (k < n_columns) {
        __mmask16 mask = first_lanes(n_columns - k);
        for (int j = 0; j < R; j++) {
            __m512 w = load(type, rows + j * stream_bytes + k * bytes, mask);
            for (int i = 0; i < T; i++)
                sums[j * T + i] =
                    _mm512_fmadd_ps(w, _mm512_maskz_loadu_ps(mask, x + i * x_stride + k), sums[j * T + i]);
        }
    }
    for (int j = 0; j < R; j++)
        for (int i = 0; i < T; i++)
            y[i * y_stride + j * row_stride] = _mm512_reduce_add_ps(sums[j * T + i]);
}

/* R weight rows by all input rows, up to four at a time, as evenly as they divide. Rows with a stride of a power of two
 * fall on the same eight places of L1, so four of each are as many as go together. */
static inline __attribute__((always_inline)) void dot_rows(element_type type, const int R, const unsigned char *rows,
                                                           int64_t row_bytes, int64_t row_stride, const float *x,
                                                           int64_t x_stride, int64_t n_inputs, int64_t n_columns,
                                                           float *y, int64_t y_stride) {
    int64_t n_blocks = (n_inputs + 3) / 4;
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t n = n_inputs / (n_blocks - block);
        switch (n) {
        case 1:
            dot_tile(type, R, 1, rows, row_bytes, row_stride, x, x_stride, n_columns, y, y_stride);
            break;
        case 2:
            dot_tile(type, R, 2, rows, row_bytes, row_stride, x, x_stride, n_columns, y, y_stride);
            break;
        case 3:
            dot_tile(type, R, 3, rows, row_bytes, row_stride, x, x_stride, n_columns, y, y_stride);
            break;
        default:
            dot_tile(type, R, 4, rows, row_bytes, row_stride, x, x_stride, n_columns, y, y_stride);
        }
        n_inputs -= n;
        x += n * x_stride;
        y += n * y_stride;
    }
}

/* The weights are read as eight streams (four for more than one input row), each of which continues from row to row. */
static inline __attribute__((always_inline)) void dot(element_type type, const unsigned char *rows, int64_t row_bytes,
                                                      int64_t n_rows, const float *x, int64_t x_stride,
                                                      int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {
    int64_t n_streams = n_inputs == 1 ? 8 : 4, row_stride = n_rows / n_streams;
    for (int64_t j = 0; j < row_stride; j++)
        if (n_inputs == 1)
            dot_tile(type, 8, 1, rows + j * row_bytes, row_bytes, row_stride, x, x_stride, n_columns, y + j, y_stride);
        else
            dot_rows(type, 4, rows + j * row_bytes, row_bytes, row_stride, x, x_stride, n_inputs, n_columns, y + j,
                     y_stride);
    for (int64_t j = n_streams * row_stride; j < n_rows; j++)
        dot_rows(type, 1, rows + j * row_bytes, row_bytes, 1, x, x_stride, n_inputs, n_columns, y + j, y_stride);
}

/* ---- large batches: tiles of 14 inputs by 32 weight rows, float32 -------------------------------------------------
 */

enum { TILE_INPUTS = 14, TILE_OUTPUTS = 32 };

/* Up to sixteen rows become columns of a panel [n_columns, width]; rows that are not there are zeros. */
static inline __attribute__((always_inline)) void pack_columns(element_type type, const unsigned char *rows,
                                                               int64_t row_bytes, int64_t n_rows, int64_t n_columns,
                                                               float *panel, int64_t width, __mmask16 lanes) {
    int64_t bytes = (int64_t)element_bytes(type);
    for (int64_t k = 0; k < n_columns; k += LANES) {
        int64_t n = n_columns - k < LANES ? n_columns - k : LANES;
        __mmask16 mask = n < LANES ? first_lanes(n) : ALL;
        __m512i block[16];
        for (int64_t i = 0; i < 16; i++)
            block[i] = i < n_rows ? _mm512_castps_si512(load(type, rows + i * row_bytes + k * bytes, mask))
                                  : _mm512_setzero_si512();
        transpose(block);
        for (int64_t i = 0; i < n; i++)
            _mm512_mask_storeu_ps(panel + (k + i) * width, lanes, _mm512_castsi512_ps(block[i]));
    }
}

static void pack_inputs(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel) {
    pack_columns(ELEMENT_F32, (const unsigned char *)x, x_stride * 4, n_rows, n_columns, panel, TILE_INPUTS,
                 first_lanes(TILE_INPUTS));
}

static inline __attribute__((always_inline)) void pack_weights(element_type type, const unsigned char *rows,
                                                               int64_t row_bytes, int64_t n_rows, int64_t n_columns,
                                                               float *panel) {
    for (int64_t half = 0; half < TILE_OUTPUTS; half += 16)
        pack_columns(type, rows + half * row_bytes, row_bytes, n_rows - half, n_columns, panel + half, TILE_OUTPUTS,
                     ALL);
}

static void tile(const void *inputs, const void *weights, int64_t n_columns, float *sums, int64_t sums_stride,
                 bool add) {
    const float *x = inputs, *w = weights;
    __m512 total[TILE_INPUTS][2];
#pragma GCC unroll 14
    for (int i = 0; i < TILE_INPUTS; i++)
        total[i][0] = total[i][1] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n_columns; k++, x += TILE_INPUTS, w += TILE_OUTPUTS) {
        _mm_prefetch((const char *)(w + 8 * TILE_OUTPUTS), _MM_HINT_T0);
        _mm_prefetch((const char *)(w + 8 * TILE_OUTPUTS + 16), _MM_HINT_T0);
        __m512 low = _mm512_load_ps(w), high = _mm512_load_ps(w + 16);
#pragma GCC unroll 14
        for (int i = 0; i < TILE_INPUTS; i++) {
            __m512 one = _mm512_set1_ps(x[i]);
            total[i][0] = _mm512_fmadd_ps(one, low, total[i][0]);
            total[i][1] = _mm512_fmadd_ps(one, high, total[i][1]);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < TILE_INPUTS; i++) {
        float *to = sums + i * sums_stride;
        if (add) {
            total[i][0] = _mm512_add_ps(total[i][0], _mm512_loadu_ps(to));
            total[i][1] = _mm512_add_ps(total[i][1], _mm512_loadu_ps(to + 16));
        }
        _mm512_storeu_ps(to, total[i][0]);
        _mm512_storeu_ps(to + 16, total[i][1]);
    }
}

#define FILL linear_fill_avx512
#include "kernels/linear_simd.h"

#endif
