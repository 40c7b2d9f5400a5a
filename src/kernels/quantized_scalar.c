/* The plain C versions: what every other file of quantized kernels is tested against, and what runs where there is
 * none. */
#include <math.h>
#include <string.h>

#include "kernels/quantized_kernels.h"
#include "kernels/quantized_pack.h"

/* Scale of a row's block (0 or 1) of a pair. */
static inline float pair_scale(const uint8_t *pair, int block, int row) {
    const uint8_t *half = pair + 4 * row + 2 * block;
    return bf16_to_float((uint16_t)(half[0] | half[1] << 8));
}

/* sum[r] += the block's weights of 16 rows times 32 inputs. u(line, r, i) is the unsigned weight. */
static void dot_block_q8(const uint8_t *lines, int block, const int8_t *values, int64_t interleave, int32_t *sums) {
    for (int line = 0; line < QUANTIZED_BLOCK / 4; line++)
        for (int r = 0; r < QUANTIZED_GROUP; r++)
            for (int i = 0; i < 4; i++)
                sums[r] += lines[64 * (8 * block + line) + 4 * r + i] * values[line * 4 * interleave + i];
}

static void dot_block_q4(const uint8_t *lines, int block, const int8_t *values, int64_t interleave, int32_t *sums) {
    for (int line = 0; line < QUANTIZED_BLOCK / 8; line++)
        for (int r = 0; r < QUANTIZED_GROUP; r++)
            for (int i = 0; i < 4; i++) {
                int packed = lines[64 * (4 * block + line) + 4 * r + i];
                sums[r] += (packed << 4 & 0xf0) * values[2 * line * 4 * interleave + i];
                sums[r] += (packed & 0xf0) * values[(2 * line + 1) * 4 * interleave + i];
            }
}

static void multiply(element_type type, const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,
                     const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {
    int64_t pair_bytes = type == ELEMENT_Q8 ? QUANTIZED_PAIR_BYTES_Q8 : QUANTIZED_PAIR_BYTES_Q4;
    for (int64_t g = 0; g < n_groups; g++)
        for (int64_t t = 0; t < n_tokens; t++) {
            const uint8_t *pair = groups + g * n_pairs * pair_bytes;
            float totals[QUANTIZED_GROUP] = {0};
            for (int64_t b = 0; b < 2 * n_pairs; b++) {
                int half = (int)(b & 1);
                int32_t sums[QUANTIZED_GROUP];
                for (int r = 0; r < QUANTIZED_GROUP; r++)
                    sums[r] = offsets[b * n_tokens + t];
                const int8_t *block_values = values + b * QUANTIZED_BLOCK * n_tokens + 4 * t;
                (type == ELEMENT_Q8 ? dot_block_q8 : dot_block_q4)(pair + QUANTIZED_SCALE_BYTES, half, block_values,
                                                                   n_tokens, sums);
                for (int r = 0; r < QUANTIZED_GROUP; r++)
                    totals[r] = fmaf((float)sums[r], pair_scale(pair, half, r) * scales[b * n_tokens + t], totals[r]);
                pair += half * pair_bytes;
            }
            memcpy(out + t * out_stride + g * QUANTIZED_GROUP, totals, sizeof totals);
        }
}

static void multiply_q8(const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,
                        const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {
    multiply(ELEMENT_Q8, groups, n_groups, n_pairs, values, scales, offsets, n_tokens, out, out_stride);
}

static void multiply_q4(const uint8_t *groups, int64_t n_groups, int64_t n_pairs, const int8_t *values,
                        const float *scales, const int32_t *offsets, int64_t n_tokens, float *out, int64_t out_stride) {
    multiply(ELEMENT_Q4, groups, n_groups, n_pairs, values, scales, offsets, n_tokens, out, out_stride);
}

/* amax / 127 is the scale; inputs that are infinite or NaN make the scale so, and with it every product of the block.
 */
static void quantize_row(const float *x, int64_t columns, int64_t n_pairs, int64_t interleave, int8_t *values,
                         float *scales, int32_t *offsets) {
    for (int64_t b = 0; b < 2 * n_pairs; b++) {
        uint32_t largest = 0;
        int32_t sum = 0;
        bool inside = b * QUANTIZED_BLOCK < columns;
        const float *block = x + (inside ? b * QUANTIZED_BLOCK : 0);
        for (int k = 0; inside && k < QUANTIZED_BLOCK; k++) {
            uint32_t magnitude = bits_from_float(block[k]) & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        float amax = float_from_bits(largest);
        bool zero = largest < bits_from_float(PACK_SMALLEST);
        float inverse = zero ? 0 : 127.0f / amax;
        for (int k = 0; k < QUANTIZED_BLOCK; k++) {
            int32_t value = zero ? 0 : pack_clamp(pack_round(block[k] * inverse), -127, 127);
            values[((b * QUANTIZED_BLOCK + k) / 4 * interleave) * 4 + k % 4] = (int8_t)value;
            sum += value;
        }
        scales[b * interleave] = zero ? 0 : amax * (1.0f / 127.0f);
        offsets[b * interleave] = -128 * sum;
    }
}

static void pack(element_type type, element_type source_type, const uint8_t *source, size_t row_bytes, int64_t n_rows,
                 int64_t columns, uint8_t *group) {
    pack_group(type, source_type, source, row_bytes, n_rows, columns, group);
}

void quantized_fill_scalar(quantized_kernels *table) {
    *table = (quantized_kernels){.tile_rows = 4,
                                 .pack_group = pack,
                                 .multiply_q8 = multiply_q8,
                                 .multiply_q4 = multiply_q4,
                                 .quantize_row = quantize_row};
}
