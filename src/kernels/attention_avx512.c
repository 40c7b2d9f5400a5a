/* attention_avx512.c - the inner loops of attention for AVX-512. */
#if defined(TROL_HAVE_AVX512)
#include "kernels/simd_avx512.h"

#define FILL attention_fill_avx512
#include "kernels/attention_simd.h"
#endif
