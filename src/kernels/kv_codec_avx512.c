/* kv_codec_avx512.c - keys and values for AVX-512. */
#if defined(TROL_HAVE_AVX512)
#include "kernels/simd_avx512.h"

#define FILL kv_fill_avx512
#include "kernels/kv_codec_simd.h"
#endif
