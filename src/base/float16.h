/* float16.h - IEEE binary16 and bfloat16 to and from float32, one value at a time, rounding to nearest, ties to even.
 */
#ifndef BASE_FLOAT16_H
#define BASE_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bf16_to_float(uint16_t half) { return float_from_bits((uint32_t)half << 16); }

static inline uint16_t bf16_from_float(float value) {
    uint32_t bits = bits_from_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) /* NaN stays one */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float f16_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) /* infinity, NaN (quieted) */
        return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ff) << 13 | (magnitude > 0x7c00 ? 0x400000u : 0));
    if (magnitude < 0x400) { /* zero and subnormals: magnitude * 2^-24, exact in float32 */
        float value = (float)magnitude * 0x1p-24f;
        return float_from_bits(bits_from_float(value) | sign);
    }
    return float_from_bits(sign | ((magnitude << 13) + 0x38000000u));
}

static inline uint16_t f16_from_float(float value) {
    uint32_t bits = bits_from_float(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000u) { /* subnormal or zero: the float adder rounds at the 2^-24 place */
        float rounded = float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_from_float(rounded) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

#endif
