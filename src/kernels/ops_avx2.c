/* ops_avx2.c - the inner loops of ops for AVX2. */
#if defined(__x86_64__)
#include "kernels/simd_avx2.h"

#define FILL ops_kernels_fill_avx2
#include "kernels/ops_simd.h"
#endif
