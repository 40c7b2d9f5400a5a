/* AVX-512-BF16: tiles of 14 inputs by 32 weight rows for LINEAR_BF16. An instruction multiplies pairs of columns, so
 * both panels hold pairs; otherwise they are built like the float32 ones of linear_avx512.c. */
#if defined(TROL_HAVE_AVX512BF16)
#include <string.h>

#include "kernels/linear_avx512.h"
#include "kernels/linear_kernels.h"

enum { TILE_INPUTS = 14, TILE_OUTPUTS = 32, GROUP = 32 };

/* n (up to GROUP) elements rounded to bf16, zeros after them. */
static inline __m512i load_rounded(element_type type, const unsigned char *from, int64_t n) {
    int64_t bytes = (int64_t)element_bytes(type);
    if (type == ELEMENT_BF16)
        return _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), from);
    __m512 low = load(type, from, n >= LANES ? ALL : first_lanes(n));
    __m512 high =
        n > LANES ? load(type, from + LANES * bytes, n >= GROUP ? ALL : first_lanes(n - LANES)) : _mm512_setzero_ps();
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Up to sixteen rows become columns of a panel [pairs of columns, width]; rows that are not there are zeros. */
static inline __attribute__((always_inline)) void pack_pairs(element_type type, const unsigned char *rows,
                                                             int64_t row_bytes, int64_t n_rows, int64_t n_columns,
                                                             int32_t *panel, int64_t width, __mmask16 lanes) {
    for (int64_t k = 0; k < n_columns; k += GROUP) {
        int64_t n = n_columns - k < GROUP ? n_columns - k : GROUP;
        __m512i block[16];
        for (int64_t i = 0; i < 16; i++)
            block[i] = i < n_rows ? load_rounded(type, rows + i * row_bytes + k * (int64_t)element_bytes(type), n)
                                  : _mm512_setzero_si512();
        transpose(block);
        for (int64_t i = 0; i < (n + 1) / 2; i++)
            _mm512_mask_storeu_epi32(panel + (k / 2 + i) * width, lanes, block[i]);
    }
}

static void pack_inputs(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel) {
    pack_pairs(ELEMENT_F32, (const unsigned char *)x, x_stride * 4, n_rows, n_columns, panel, TILE_INPUTS,
               first_lanes(TILE_INPUTS));
}

#define PACK_WEIGHTS(name, type)                                                                                       \
    static void name(const void *rows, int64_t row_bytes, int64_t n_rows, int64_t n_columns, void *panel) {            \
        for (int64_t half = 0; half < TILE_OUTPUTS; half += 16)                                                        \
            pack_pairs(type, (const unsigned char *)rows + half * row_bytes, row_bytes, n_rows - half, n_columns,      \
                       (int32_t *)panel + half, TILE_OUTPUTS, ALL);                                                    \
    }

PACK_WEIGHTS(pack_weights_f32, ELEMENT_F32)
PACK_WEIGHTS(pack_weights_f16, ELEMENT_F16)
PACK_WEIGHTS(pack_weights_bf16, ELEMENT_BF16)

static void tile(const void *inputs, const void *weights, int64_t n_columns, float *sums, int64_t sums_stride,
                 bool add) {
    const int32_t *x = inputs, *w = weights;
    __m512 total[TILE_INPUTS][2];
#pragma GCC unroll 14
    for (int i = 0; i < TILE_INPUTS; i++)
        total[i][0] = total[i][1] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n_columns; k += 2, x += TILE_INPUTS, w += TILE_OUTPUTS) {
        _mm_prefetch((const char *)(w + 8 * TILE_OUTPUTS), _MM_HINT_T0);
        _mm_prefetch((const char *)(w + 8 * TILE_OUTPUTS + 16), _MM_HINT_T0);
        __m512bh low = (__m512bh)_mm512_load_si512(w), high = (__m512bh)_mm512_load_si512(w + 16);
#pragma GCC unroll 14
        for (int i = 0; i < TILE_INPUTS; i++) {
            __m512bh pair = (__m512bh)_mm512_set1_epi32(x[i]);
            total[i][0] = _mm512_dpbf16_ps(total[i][0], pair, low);
            total[i][1] = _mm512_dpbf16_ps(total[i][1], pair, high);
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

#define TILE_GEMM(pack)                                                                                                \
    {                                                                                                                  \
        .tile_inputs = TILE_INPUTS, .tile_outputs = TILE_OUTPUTS, .chunk_outputs = 128, .block_columns = 1024,         \
        .column_group = 2, .input_bytes = 2, .weight_bytes = 2, .pack_inputs = pack_inputs, .pack_weights = (pack),    \
        .tile = tile                                                                                                   \
    }

void linear_fill_avx512bf16(linear_kernels *table) {
    const linear_gemm bf16[] = {TILE_GEMM(pack_weights_f32), TILE_GEMM(pack_weights_f16), TILE_GEMM(pack_weights_bf16)};
    memcpy(table->bf16, bf16, sizeof bf16);
}

#endif
