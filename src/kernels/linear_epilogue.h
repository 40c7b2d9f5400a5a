/* linear_epilogue.h - the epilogues of linear in plain C without branches, so that a compiler turns them into vector
 * code. Each file of kernels includes this and gets versions for its own instruction set; all of them round alike. */
#ifndef KERNELS_LINEAR_EPILOGUE_H
#define KERNELS_LINEAR_EPILOGUE_H

#include "base/float16.h"
#include "kernels/linear_kernels.h"

/* e^x within 2 units in the last place for x in [-87, 88]; clamped outside; NaN stays NaN. e^x = 2^n * e^r. */
static inline float epilogue_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer n ends up in the low bits */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f; /* Cephes' expf */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return float_from_bits(bits_from_float(p) + (bits_from_float(shifted) << 23));
}

static inline float epilogue_silu(float x) { return x / (1.0f + epilogue_exp(-x)); }

static inline float epilogue_quick_gelu(float x) { return x / (1.0f + epilogue_exp(-1.702f * x)); }

/* x * Phi(x). erfc(z), z >= 0, by the Chebyshev fit of Numerical Recipes ("erfcc"): relative error below 1.2e-7. */
static inline float epilogue_gelu(float x) {
    float z = x < 0 ? -x : x;
    z *= 0.707106781f;
    float t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    float erfc = t * epilogue_exp(p - z * z);
    return 0.5f * x * (x < 0 ? erfc : 2.0f - erfc);
}

/* One row through an epilogue: `result` is an expression in y (bias added), up, scale[i] and out[i]. */
#define EPILOGUE_ROW(name, result)                                                                                     \
    static void name(const float *restrict sums, const float *restrict bias, const float *restrict up_sums,            \
                     const float *restrict up_bias, const float *restrict scale, float *restrict out, int64_t n) {     \
        (void)up_sums, (void)up_bias, (void)scale;                                                                     \
        if (bias)                                                                                                      \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                float y = sums[i] + bias[i];                                                                           \
                out[i] = (result);                                                                                     \
            }                                                                                                          \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                float y = sums[i];                                                                                     \
                out[i] = (result);                                                                                     \
            }                                                                                                          \
    }

EPILOGUE_ROW(epilogue_row_store, y)
EPILOGUE_ROW(epilogue_row_add, out[i] + y)
EPILOGUE_ROW(epilogue_row_add_scaled, out[i] + scale[i] * y)
EPILOGUE_ROW(epilogue_row_gelu, epilogue_gelu(y))
EPILOGUE_ROW(epilogue_row_quick_gelu, epilogue_quick_gelu(y))
EPILOGUE_ROW(epilogue_row_silu_mul_no_up_bias, epilogue_silu(y) * up_sums[i])
EPILOGUE_ROW(epilogue_row_silu_mul_up_bias, epilogue_silu(y) * (up_sums[i] + up_bias[i]))

static void epilogue_row_silu_mul(const float *sums, const float *bias, const float *up_sums, const float *up_bias,
                                  const float *scale, float *out, int64_t n) {
    if (up_bias)
        epilogue_row_silu_mul_up_bias(sums, bias, up_sums, up_bias, scale, out, n);
    else
        epilogue_row_silu_mul_no_up_bias(sums, bias, up_sums, up_bias, scale, out, n);
}

static void fill_epilogues(linear_kernels *table) {
    table->epilogues[EPILOGUE_STORE] = epilogue_row_store;
    table->epilogues[EPILOGUE_ADD] = epilogue_row_add;
    table->epilogues[EPILOGUE_ADD_SCALED] = epilogue_row_add_scaled;
    table->epilogues[EPILOGUE_GELU] = epilogue_row_gelu;
    table->epilogues[EPILOGUE_QUICK_GELU] = epilogue_row_quick_gelu;
    table->epilogues[EPILOGUE_SILU_MUL] = epilogue_row_silu_mul;
}

#endif
