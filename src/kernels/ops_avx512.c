/* ops_avx512.c - the inner loops of ops for AVX-512. */
#if defined(TROL_HAVE_AVX512)
#include "kernels/simd_avx512.h"

#define FILL ops_fill_avx512
#include "kernels/ops_simd.h"
#endif
