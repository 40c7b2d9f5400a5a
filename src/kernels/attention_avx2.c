/* attention_avx2.c - the inner loops of attention for AVX2. */
#if defined(__x86_64__)
#include "kernels/simd_avx2.h"

#define FILL attention_kernels_fill_avx2
#include "kernels/attention_simd.h"
#endif
