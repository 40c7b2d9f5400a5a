/* simd_exp.h - e^x for vectors, behind simd_avx2.h or simd_avx512.h (which have a 2^x of their own). */
#ifndef KERNELS_SIMD_EXP_H
#define KERNELS_SIMD_EXP_H

/* e^x with a relative error of 2e-7 and finite, or infinite, where it is too large for a float: 1 / e^x is right. */
static inline vector vector_exp(vector x) {
    x = vector_max(vector_of(-200.0f), vector_min(vector_of(200.0f), x));
    vector n = vector_round(vector_multiply(x, vector_of(1.44269504088896341f)));
    vector r = vector_subtract_product(n, vector_of(0.693359375f), x);
    r = vector_subtract_product(n, vector_of(-2.12194440e-4f), r);
    vector p = vector_of(0.00015353362f);
    r = vector_multiply(r, vector_of(1.44269504088896341f));
    p = vector_multiply_add(p, r, vector_of(0.0013398875f));
    p = vector_multiply_add(p, r, vector_of(0.009618437f));
    p = vector_multiply_add(p, r, vector_of(0.055503324f));
    p = vector_multiply_add(p, r, vector_of(0.24022648f));
    p = vector_multiply_add(p, r, vector_of(0.6931472f));
    p = vector_multiply_add(p, r, vector_of(1.0f));
    return vector_scale(p, n);
}

#endif
