/* AVX-512 (F, BW, DQ, VL): dot products of sixteen lanes. */
#if defined(__AVX512F__)
#include <immintrin.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/linear_epilogue.h"

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

static inline __mmask16 first_lanes(int64_t n) {
    return (__mmask16)((1u << n) - 1);
}

static inline void widen(element_type type, const unsigned char *from, float *to, int64_t n) {
    int64_t bytes = (int64_t)element_bytes(type), k = 0;
    for (; k + LANES <= n; k += LANES)
        _mm512_storeu_ps(to + k, load(type, from + k * bytes, ALL));
    if (k < n)
        _mm512_mask_storeu_ps(to + k, first_lanes(n - k), load(type, from + k * bytes, first_lanes(n - k)));
}

/* R weight rows by T input rows; column k goes to lane k % LANES of a sum whatever R and T are. */
static inline __attribute__((always_inline)) void dot_tile(element_type type, const int R, const int T,
                                                           const unsigned char *rows, int64_t row_bytes, const float *x,
                                                           int64_t x_stride, int64_t n_columns, float *y,
                                                           int64_t y_stride) {
    int64_t bytes = (int64_t)element_bytes(type), k = 0;
    __m512 sums[16];
    for (int i = 0; i < R * T; i++)
        sums[i] = _mm512_setzero_ps();
    for (; k + LANES <= n_columns; k += LANES)
        for (int j = 0; j < R; j++) {
            __m512 w = load(type, rows + j * row_bytes + k * bytes, ALL);
            for (int i = 0; i < T; i++)
                sums[j * T + i] = _mm512_fmadd_ps(w, _mm512_loadu_ps(x + i * x_stride + k), sums[j * T + i]);
        }
    if (k < n_columns) {
        __mmask16 mask = first_lanes(n_columns - k);
        for (int j = 0; j < R; j++) {
            __m512 w = load(type, rows + j * row_bytes + k * bytes, mask);
            for (int i = 0; i < T; i++)
                sums[j * T + i] =
                    _mm512_fmadd_ps(w, _mm512_maskz_loadu_ps(mask, x + i * x_stride + k), sums[j * T + i]);
        }
    }
    for (int j = 0; j < R; j++)
        for (int i = 0; i < T; i++)
            y[i * y_stride + j] = _mm512_reduce_add_ps(sums[j * T + i]);
}

static inline __attribute__((always_inline)) void dot(element_type type, const unsigned char *rows, int64_t row_bytes,
                                                      int64_t n_rows, const float *x, int64_t x_stride,
                                                      int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {
    int64_t j = 0;
    if (n_inputs == 1)
        for (; j + 8 <= n_rows; j += 8)
            dot_tile(type, 8, 1, rows + j * row_bytes, row_bytes, x, x_stride, n_columns, y + j, y_stride);
    for (; j + 4 <= n_rows; j += 4) {
        const unsigned char *four = rows + j * row_bytes;
        int64_t i = 0;
        for (; i + 4 <= n_inputs; i += 4)
            dot_tile(type, 4, 4, four, row_bytes, x + i * x_stride, x_stride, n_columns, y + i * y_stride + j,
                     y_stride);
        for (; i < n_inputs; i++)
            dot_tile(type, 4, 1, four, row_bytes, x + i * x_stride, x_stride, n_columns, y + i * y_stride + j,
                     y_stride);
    }
    for (; j < n_rows; j++)
        for (int64_t i = 0; i < n_inputs; i++)
            dot_tile(type, 1, 1, rows + j * row_bytes, row_bytes, x + i * x_stride, x_stride, n_columns,
                     y + i * y_stride + j, y_stride);
}

#define TYPE_KERNELS(suffix, type)                                                                                     \
    static void widen_##suffix(const void *from, float *to, int64_t n) {                                               \
        widen(type, from, to, n);                                                                                      \
    }                                                                                                                  \
    static void dot_##suffix(const void *rows, int64_t row_bytes, int64_t n_rows, const float *x, int64_t x_stride,    \
                             int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {                        \
        dot(type, rows, row_bytes, n_rows, x, x_stride, n_inputs, n_columns, y, y_stride);                             \
    }

TYPE_KERNELS(f32, ELEMENT_F32)
TYPE_KERNELS(f16, ELEMENT_F16)
TYPE_KERNELS(bf16, ELEMENT_BF16)

void linear_fill_avx512(linear_kernels *table) {
    fill_finish(table);
    const linear_dot dots[] = {dot_f32, dot_f16, dot_bf16};
    const linear_widen widens[] = {widen_f32, widen_f16, widen_bf16};
    memcpy(table->dot, dots, sizeof dots);
    memcpy(table->widen, widens, sizeof widens);
}

#endif
