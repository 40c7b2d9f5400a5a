/* AMX: BF16 tiles of 16 x 16 results, 32 columns an instruction, at sixteen times the rate of float32.
 *
 * For LINEAR_BF16 both sides are rounded to bf16. For exact arithmetic each number is cut into parts that bf16 holds
 * without loss: a float32 input is the sum of three (8 + 8 + 8 significant bits), an F16 weight of two (8 + 3), a BF16
 * weight is one. The product of the sums is the sum of the products of parts, added up in float32 as always; products
 * of a part of order i by one of order j are left out where i + j > 2: they are below 2^-26 of the whole, less than
 * float32 rounds off. That takes 3 tile products for BF16 weights and 5 for F16, and still beats float32 units. F32
 * weights would take 6, which gains nothing: they stay with AVX-512. */
#if defined(TROL_HAVE_AMX)
#include <string.h>

#include "kernels/linear_avx512.h"
#include "kernels/linear_kernels.h"

enum { SIDE = 32, GROUP = 32, TILE_BYTES = 1024, EXACT_PARTS = 3 };

/* The next bf16 part of 2 x 16 floats, which keep what remains. */
static inline __m512i take_part(__m512 *low, __m512 *high) {
    __m512i part = (__m512i)_mm512_cvtne2ps_pbh(*high, *low);
    __m512i low_bits = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(part));
    __m512i high_bits = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(part, 1));
    *low = _mm512_sub_ps(*low, _mm512_castsi512_ps(_mm512_slli_epi32(low_bits, 16)));
    *high = _mm512_sub_ps(*high, _mm512_castsi512_ps(_mm512_slli_epi32(high_bits, 16)));
    return part;
}

/* n (up to GROUP) elements, zeros after them. */
static inline void load_group(element_type type, const unsigned char *from, int64_t n, __m512 *low, __m512 *high) {
    int64_t bytes = (int64_t)element_bytes(type);
    *low = load(type, from, n >= LANES ? ALL : first_lanes(n));
    *high =
        n > LANES ? load(type, from + LANES * bytes, n >= GROUP ? ALL : first_lanes(n - LANES)) : _mm512_setzero_ps();
}

/* panel: [column groups, parts, 2 tiles, 16 rows, GROUP] bf16 */
static inline __attribute__((always_inline)) void pack_inputs(const int parts, const float *x, int64_t x_stride,
                                                              int64_t n_rows, int64_t n_columns, unsigned char *panel) {
    for (int64_t k = 0; k < n_columns; k += GROUP, panel += 2 * parts * TILE_BYTES)
        for (int64_t i = 0; i < SIDE; i++) {
            __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
            if (i < n_rows)
                load_group(ELEMENT_F32, (const unsigned char *)(x + i * x_stride + k), n_columns - k, &low, &high);
            for (int part = 0; part < parts; part++)
                _mm512_store_si512(panel + part * 2 * TILE_BYTES + i * GROUP * 2, take_part(&low, &high));
        }
}

/* panel: [column groups, parts, 2 tiles, 16 pairs of columns, 16 rows, 2] bf16 */
static inline __attribute__((always_inline)) void pack_weights(element_type type, const int parts,
                                                               const unsigned char *rows, int64_t row_bytes,
                                                               int64_t n_rows, int64_t n_columns,
                                                               unsigned char *panel) {
    int64_t bytes = (int64_t)element_bytes(type);
    for (int64_t k = 0; k < n_columns; k += GROUP, panel += 2 * parts * TILE_BYTES)
        for (int64_t half = 0; half < 2; half++) {
            __m512i block[2][16];
            int64_t n = n_columns - k < GROUP ? n_columns - k : GROUP;
            for (int64_t i = 0; i < 16; i++) {
                const unsigned char *from = rows + (half * 16 + i) * row_bytes + k * bytes;
                if (half * 16 + i >= n_rows) {
                    for (int part = 0; part < parts; part++)
                        block[part][i] = _mm512_setzero_si512();
                } else if (type == ELEMENT_BF16) {
                    block[0][i] = _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), from);
                } else {
                    __m512 low, high;
                    load_group(type, from, n, &low, &high);
                    for (int part = 0; part < parts; part++)
                        block[part][i] = take_part(&low, &high);
                }
            }
            for (int part = 0; part < parts; part++) {
                transpose(block[part]);
                for (int64_t i = 0; i < 16; i++)
                    _mm512_store_si512(panel + (part * 2 + half) * TILE_BYTES + i * 64, block[part][i]);
            }
        }
}

/* Tiles 0 to 3: results; 4 and 5: inputs; 6 and 7: weights. */
static inline __attribute__((always_inline)) void tile(const int x_parts, const int w_parts, const unsigned char *x,
                                                       const unsigned char *w, int64_t n_columns, float *sums,
                                                       int64_t sums_stride, bool add) {
    size_t stride = (size_t)sums_stride * sizeof(float);
    if (add) {
        _tile_loadd(0, sums, stride);
        _tile_loadd(1, sums + 16, stride);
        _tile_loadd(2, sums + 16 * sums_stride, stride);
        _tile_loadd(3, sums + 16 * sums_stride + 16, stride);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < n_columns; k += GROUP, x += x_parts * 2 * TILE_BYTES, w += w_parts * 2 * TILE_BYTES)
        for (int j = 0; j < w_parts; j++) {
            _tile_loadd(6, w + j * 2 * TILE_BYTES, 64);
            _tile_loadd(7, w + j * 2 * TILE_BYTES + TILE_BYTES, 64);
            for (int i = 0; i + j < x_parts; i++) {
                _tile_loadd(4, x + i * 2 * TILE_BYTES, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, x + i * 2 * TILE_BYTES + TILE_BYTES, 64);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    _tile_stored(0, sums, stride);
    _tile_stored(1, sums + 16, stride);
    _tile_stored(2, sums + 16 * sums_stride, stride);
    _tile_stored(3, sums + 16 * sums_stride + 16, stride);
}

/* All eight tiles: sixteen rows of 64 bytes. */
static void begin(void) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

static void end(void) { _tile_release(); }

static void pack_exact_inputs(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel) {
    pack_inputs(EXACT_PARTS, x, x_stride, n_rows, n_columns, panel);
}

static void pack_rounded_inputs(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel) {
    pack_inputs(1, x, x_stride, n_rows, n_columns, panel);
}

#define KERNELS(suffix, type, x_parts, w_parts)                                                                        \
    static void pack_weights_##suffix(const void *rows, int64_t row_bytes, int64_t n_rows, int64_t n_columns,          \
                                      void *panel) {                                                                   \
        pack_weights(type, w_parts, rows, row_bytes, n_rows, n_columns, panel);                                        \
    }                                                                                                                  \
    static void tile_##suffix(const void *inputs, const void *weights, int64_t n_columns, float *sums,                 \
                              int64_t sums_stride, bool add) {                                                         \
        tile(x_parts, w_parts, inputs, weights, n_columns, sums, sums_stride, add);                                    \
    }

KERNELS(exact_f16, ELEMENT_F16, EXACT_PARTS, 2)
KERNELS(exact_bf16, ELEMENT_BF16, EXACT_PARTS, 1)
KERNELS(rounded_f32, ELEMENT_F32, 1, 1)
KERNELS(rounded_f16, ELEMENT_F16, 1, 1)
KERNELS(rounded_bf16, ELEMENT_BF16, 1, 1)

#define GEMM(suffix, pack, x_parts, w_parts, columns)                                                                  \
    {                                                                                                                  \
        .tile_inputs = SIDE, .tile_outputs = SIDE, .chunk_outputs = 128, .block_columns = (columns),                   \
        .column_group = GROUP, .input_bytes = 2 * (x_parts), .weight_bytes = 2 * (w_parts), .pack_inputs = (pack),     \
        .pack_weights = pack_weights_##suffix, .tile = tile_##suffix, .begin = begin, .end = end                       \
    }

void linear_fill_amx(linear_kernels *table) {
    const linear_gemm exact[] = {GEMM(exact_f16, pack_exact_inputs, EXACT_PARTS, 2, 512),
                                 GEMM(exact_bf16, pack_exact_inputs, EXACT_PARTS, 1, 512)};
    const linear_gemm bf16[] = {GEMM(rounded_f32, pack_rounded_inputs, 1, 1, 1024),
                                GEMM(rounded_f16, pack_rounded_inputs, 1, 1, 1024),
                                GEMM(rounded_bf16, pack_rounded_inputs, 1, 1, 1024)};
    memcpy(&table->exact[ELEMENT_F16], exact, sizeof exact);
    memcpy(table->bf16, bf16, sizeof bf16);
}

#endif
