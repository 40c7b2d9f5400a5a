/* kv_codec_q8.h - the scale of a q8 row, and the check of an f16 row, for the files that store them. */
#ifndef KERNELS_KV_CODEC_Q8_H
#define KERNELS_KV_CODEC_Q8_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/float16.h"

static inline float q8_scale(const void *row) {
    uint16_t scale;
    memcpy(&scale, row, sizeof scale);
    return bf16_to_float(scale);
}

/* The largest magnitude as bits, which order like the numbers; NaN is above all. */
static inline uint32_t largest_magnitude(const float *values, int64_t n) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = bits_from_float(values[i]) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* Writes the scale of a row. The result: what its values are multiplied by, 0 if all bytes are 0. The scale is above
 * 2^-125, so that subnormal values round to 0 whether or not they count as zero. */
static inline float q8_store_scale(const float *values, int64_t n, void *row) {
    enum { SMALLEST = 0x04800000, INFINITE = 0x7f800000, NOT_A_NUMBER = 0x7fc0 }; /* 2^-118, ... */
    const uint32_t largest = largest_magnitude(values, n);
    uint16_t scale = 0;
    if (largest >= INFINITE)
        scale = NOT_A_NUMBER;
    else if (largest >= SMALLEST)
        scale = (uint16_t)((bits_from_float(float_from_bits(largest) / 127.0f) + 0xffff) >> 16);
    memcpy(row, &scale, sizeof scale);
    return largest >= SMALLEST && largest < INFINITE ? 1.0f / bf16_to_float(scale) : 0.0f;
}

/* Whether all finite values stay finite in F16; one of 65,520 or more does not. */
static inline bool fits_f16(const float *values, int64_t n) {
    enum { FIRST = 0x477ff000, INFINITE = 0x7f800000 };
    uint32_t any = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = bits_from_float(values[i]) & 0x7fffffffu;
        any |= bits - FIRST < INFINITE - FIRST;
    }
    return !any;
}

#endif
