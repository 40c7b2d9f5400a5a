/* linear_simd.h - the entries of linear_avx2.c and linear_avx512.c for each type of weights. Included once by each,
 * after its elements_to_float, dot, pack_inputs, pack_weights and tile, with FILL naming the function that puts them in
 * the table. */
#define TYPE_KERNELS(suffix, type)                                                                                     \
    static void to_float_##suffix(const void *from, float *to, int64_t n) { elements_to_float(type, from, to, n); }    \
    static void dot_##suffix(const void *rows, int64_t row_bytes, int64_t n_rows, const float *x, int64_t x_stride,    \
                             int64_t n_inputs, int64_t n_columns, float *y, int64_t y_stride) {                        \
        dot(type, rows, row_bytes, n_rows, x, x_stride, n_inputs, n_columns, y, y_stride);                             \
    }                                                                                                                  \
    static void pack_weights_##suffix(const void *rows, int64_t row_bytes, int64_t n_rows, int64_t n_columns,          \
                                      void *panel) {                                                                   \
        pack_weights(type, rows, row_bytes, n_rows, n_columns, panel);                                                 \
    }

TYPE_KERNELS(f32, ELEMENT_F32)
TYPE_KERNELS(f16, ELEMENT_F16)
TYPE_KERNELS(bf16, ELEMENT_BF16)

#define TILE_GEMM(pack)                                                                                                \
    {                                                                                                                  \
        .tile_inputs = TILE_INPUTS, .tile_outputs = TILE_OUTPUTS, .chunk_outputs = 128, .block_columns = 512,          \
        .column_group = 1, .input_bytes = 4, .weight_bytes = 4, .pack_inputs = pack_inputs, .pack_weights = (pack),    \
        .tile = tile                                                                                                   \
    }

void FILL(linear_kernels *table) {
    fill_epilogues(table);
    const linear_gemm exact[] = {TILE_GEMM(pack_weights_f32), TILE_GEMM(pack_weights_f16),
                                 TILE_GEMM(pack_weights_bf16)};
    memcpy(table->exact, exact, sizeof exact);
    const linear_dot dots[] = {dot_f32, dot_f16, dot_bf16};
    const linear_to_float to_float[] = {to_float_f32, to_float_f16, to_float_bf16};
    memcpy(table->dot, dots, sizeof dots);
    memcpy(table->to_float, to_float, sizeof to_float);
}
