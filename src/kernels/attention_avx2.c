/* attention_avx2.c - the inner loops of attention for AVX2. */
#if defined(TROL_HAVE_AVX2)
#include "kernels/simd_avx2.h"

#define FILL attention_fill_avx2
#include "kernels/attention_simd.h"
#endif
