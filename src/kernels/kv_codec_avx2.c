/* kv_codec_avx2.c - keys and values for AVX2. */
#if defined(TROL_HAVE_AVX2)
#include "kernels/simd_avx2.h"

#define FILL kv_fill_avx2
#include "kernels/kv_codec_simd.h"
#endif
