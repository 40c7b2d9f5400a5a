/* ops_avx2.c - the inner loops of ops for AVX2. */
#if defined(TROL_HAVE_AVX2)
#include "kernels/simd_avx2.h"

#define FILL ops_fill_avx2
#include "kernels/ops_simd.h"
#endif
