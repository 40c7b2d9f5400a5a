/* Plain C: the reference for every other version, and what a CPU without a file of its own runs. Large batches go to
 * OpenBLAS there, where it is installed, else to the tiles below. */
#include <string.h>

#include "base/float16.h"
#include "kernels/linear_epilogue.h"

enum { TILE = 4, LANES = 8 };

static float load_element(element_type type, const unsigned char *from, int64_t i) {
    if (type == ELEMENT_F32) {
        float value;
        memcpy(&value, from + 4 * i, 4);
        return value;
    }
    uint16_t half;
    memcpy(&half, from + 2 * i, 2);
    return type == ELEMENT_F16 ? f16_to_float(half) : bf16_to_float(half);
}

static inline void elements_to_float(element_type type, const void *from, float *to, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] = load_element(type, from, i);
}

static void to_float_f32(const void *from, float *to, int64_t n) { elements_to_float(ELEMENT_F32, from, to, n); }
static void to_float_f16(const void *from, float *to, int64_t n) { elements_to_float(ELEMENT_F16, from, to, n); }
static void to_float_bf16(const void *from, float *to, int64_t n) { elements_to_float(ELEMENT_BF16, from, to, n); }

/* Each pair of rows is summed in LANES partial sums, column k in number k % LANES. */
static inline void dot(element_type type, const void *rows, int64_t row_bytes, int64_t n_rows, const float *x,
                       int64_t x_stride, int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {
    for (int64_t j = 0; j < n_rows; j++) {
        const unsigned char *row = (const unsigned char *)rows + j * row_bytes;
        for (int64_t i = 0; i < n_inputs; i++) {
            float sums[LANES] = {0};
            for (int64_t k = 0; k < n_columns; k++)
                sums[k % LANES] += load_element(type, row, k) * x[i * x_stride + k];
            y[i * y_stride + j] =
                ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
        }
    }
}

#define DOT(name, type)                                                                                                \
    static void name(const void *rows, int64_t row_bytes, int64_t n_rows, const float *x, int64_t x_stride,            \
                     int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {                                \
        dot(type, rows, row_bytes, n_rows, x, x_stride, n_inputs, n_columns, y, y_stride);                             \
    }

DOT(dot_f32, ELEMENT_F32)
DOT(dot_f16, ELEMENT_F16)
DOT(dot_bf16, ELEMENT_BF16)

/* panel: [n_columns, TILE] */
static void pack_inputs(const float *x, int64_t x_stride, int64_t n_rows, int64_t n_columns, void *panel) {
    float *to = panel;
    for (int64_t k = 0; k < n_columns; k++)
        for (int64_t i = 0; i < TILE; i++)
            *to++ = i < n_rows ? x[i * x_stride + k] : 0.0f;
}

static inline void pack_weights(element_type type, const void *rows, int64_t row_bytes, int64_t n_rows,
                                int64_t n_columns, void *panel) {
    float *to = panel;
    for (int64_t k = 0; k < n_columns; k++)
        for (int64_t j = 0; j < TILE; j++)
            *to++ = j < n_rows ? load_element(type, (const unsigned char *)rows + j * row_bytes, k) : 0.0f;
}

#define PACK_WEIGHTS(name, type)                                                                                       \
    static void name(const void *rows, int64_t row_bytes, int64_t n_rows, int64_t n_columns, void *panel) {            \
        pack_weights(type, rows, row_bytes, n_rows, n_columns, panel);                                                 \
    }

PACK_WEIGHTS(pack_weights_f32, ELEMENT_F32)
PACK_WEIGHTS(pack_weights_f16, ELEMENT_F16)
PACK_WEIGHTS(pack_weights_bf16, ELEMENT_BF16)

static void tile(const void *inputs, const void *weights, int64_t n_columns, float *sums, int64_t sums_stride,
                 bool add) {
    const float *x = inputs, *w = weights;
    float total[TILE][TILE] = {{0}};
    for (int64_t k = 0; k < n_columns; k++)
        for (int i = 0; i < TILE; i++)
            for (int j = 0; j < TILE; j++)
                total[i][j] += x[k * TILE + i] * w[k * TILE + j];
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++)
            sums[i * sums_stride + j] = total[i][j] + (add ? sums[i * sums_stride + j] : 0.0f);
}

#define SCALAR_GEMM(pack)                                                                                              \
    {                                                                                                                  \
        .tile_inputs = TILE, .tile_outputs = TILE, .chunk_outputs = 64, .block_columns = 256, .column_group = 1,       \
        .input_bytes = 4, .weight_bytes = 4, .pack_inputs = pack_inputs, .pack_weights = (pack), .tile = tile          \
    }

void linear_fill_scalar(linear_kernels *table) {
    *table = (linear_kernels){
        .dot = {dot_f32, dot_f16, dot_bf16},
        .to_float = {to_float_f32, to_float_f16, to_float_bf16},
        .exact = {SCALAR_GEMM(pack_weights_f32), SCALAR_GEMM(pack_weights_f16), SCALAR_GEMM(pack_weights_bf16)}};
    fill_epilogues(table);
}
