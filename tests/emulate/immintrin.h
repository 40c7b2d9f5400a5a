/* immintrin.h - AVX-512 (F, BW, DQ, VL, VNNI, BF16), AVX-VNNI and AMX in terms of AVX2, for tests on CPUs without them.
 *
 * With the CMake option TROL_EMULATE the kernel files of those levels are compiled against this header in place of the
 * compiler's, so that their logic (packing, tails, masks, layouts, the order of sums) is tested on any CPU with AVX2.
 * Speed is not representative there. Each function computes what the instruction of its name does (Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 2); only what the kernels use is defined, so a kernel that uses
 * more fails to compile. The BF16 products round after each of the two products of a pair, as documented for
 * VDPBF16PS. */
#ifndef TESTS_EMULATE_IMMINTRIN_H
#define TESTS_EMULATE_IMMINTRIN_H

#include_next <immintrin.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EMU static inline __attribute__((always_inline, unused))

typedef float emu_f32 __attribute__((vector_size(64)));
typedef int32_t emu_i32 __attribute__((vector_size(64)));
typedef uint32_t emu_u32 __attribute__((vector_size(64)));
typedef int64_t emu_i64 __attribute__((vector_size(64)));
typedef int16_t emu_i16 __attribute__((vector_size(64)));
typedef uint16_t emu_u16 __attribute__((vector_size(64)));
typedef int8_t emu_i8 __attribute__((vector_size(64)));

/* The 256-bit halves of a vector, and back. */
EMU __m256 emu_half_ps(__m512 a, int i) {
    __m256 part[2];
    memcpy(part, &a, sizeof part);
    return part[i];
}
EMU __m512 emu_join_ps(__m256 low, __m256 high) {
    __m512 a;
    __m256 part[2] = {low, high};
    memcpy(&a, part, sizeof a);
    return a;
}
EMU __m256i emu_half_i(__m512i a, int i) {
    __m256i part[2];
    memcpy(part, &a, sizeof part);
    return part[i];
}
EMU __m512i emu_join_i(__m256i low, __m256i high) {
    __m512i a;
    __m256i part[2] = {low, high};
    memcpy(&a, part, sizeof a);
    return a;
}

#define EMU_PS2(name, op)                                                                                              \
    EMU __m512 emu_##name(__m512 a, __m512 b) {                                                                        \
        return emu_join_ps(op(emu_half_ps(a, 0), emu_half_ps(b, 0)), op(emu_half_ps(a, 1), emu_half_ps(b, 1)));        \
    }
#define EMU_PS3(name, op)                                                                                              \
    EMU __m512 emu_##name(__m512 a, __m512 b, __m512 c) {                                                              \
        return emu_join_ps(op(emu_half_ps(a, 0), emu_half_ps(b, 0), emu_half_ps(c, 0)),                                \
                           op(emu_half_ps(a, 1), emu_half_ps(b, 1), emu_half_ps(c, 1)));                               \
    }
#define EMU_I2(name, op)                                                                                               \
    EMU __m512i emu_##name(__m512i a, __m512i b) {                                                                     \
        return emu_join_i(op(emu_half_i(a, 0), emu_half_i(b, 0)), op(emu_half_i(a, 1), emu_half_i(b, 1)));             \
    }

/* ---- float32 --------------------------------------------------------------------------------- */

EMU_PS2(add_ps, _mm256_add_ps)
EMU_PS2(sub_ps, _mm256_sub_ps)
EMU_PS2(mul_ps, _mm256_mul_ps)
EMU_PS2(div_ps, _mm256_div_ps)
EMU_PS2(max_ps, _mm256_max_ps)
EMU_PS2(min_ps, _mm256_min_ps)
EMU_PS2(unpacklo_ps, _mm256_unpacklo_ps)
EMU_PS2(unpackhi_ps, _mm256_unpackhi_ps)
EMU_PS3(fmadd_ps, _mm256_fmadd_ps)
EMU_PS3(fnmadd_ps, _mm256_fnmadd_ps)
#define _mm512_add_ps      emu_add_ps
#define _mm512_sub_ps      emu_sub_ps
#define _mm512_mul_ps      emu_mul_ps
#define _mm512_div_ps      emu_div_ps
#define _mm512_max_ps      emu_max_ps
#define _mm512_min_ps      emu_min_ps
#define _mm512_unpacklo_ps emu_unpacklo_ps
#define _mm512_unpackhi_ps emu_unpackhi_ps
#define _mm512_fmadd_ps    emu_fmadd_ps
#define _mm512_fnmadd_ps   emu_fnmadd_ps

EMU __m512 emu_set1_ps(float x) { return emu_join_ps(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
EMU __m512 emu_loadu_ps(const void *from) {
    __m512 a;
    memcpy(&a, from, sizeof a);
    return a;
}
EMU void emu_storeu_ps(void *to, __m512 a) { memcpy(to, &a, sizeof a); }
#define _mm512_setzero_ps() emu_set1_ps(0.0f)
#define _mm512_set1_ps      emu_set1_ps
#define _mm512_loadu_ps     emu_loadu_ps
#define _mm512_load_ps      emu_loadu_ps
#define _mm512_storeu_ps    emu_storeu_ps
#define _mm512_store_ps     emu_storeu_ps

/* Masked lanes are neither read nor written. */
EMU __m512 emu_maskz_loadu_ps(__mmask16 mask, const void *from) {
    float lanes[16] = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy(&lanes[i], (const char *)from + 4 * i, 4);
    return emu_loadu_ps(lanes);
}
EMU void emu_mask_storeu_32(void *to, __mmask16 mask, const void *lanes) {
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((char *)to + 4 * i, (const char *)lanes + 4 * i, 4);
}
EMU void emu_mask_storeu_ps(void *to, __mmask16 mask, __m512 a) { emu_mask_storeu_32(to, mask, &a); }
EMU void emu_mask_storeu_epi32(void *to, __mmask16 mask, __m512i a) { emu_mask_storeu_32(to, mask, &a); }
#define _mm512_maskz_loadu_ps    emu_maskz_loadu_ps
#define _mm512_mask_storeu_ps    emu_mask_storeu_ps
#define _mm512_mask_storeu_epi32 emu_mask_storeu_epi32

EMU __m512 emu_mask_blend_ps(__mmask16 mask, __m512 a, __m512 b) {
    emu_f32 x = (emu_f32)a, y = (emu_f32)b;
    for (int i = 0; i < 16; i++)
        x[i] = mask >> i & 1 ? y[i] : x[i];
    return (__m512)x;
}
EMU __m512 emu_shuffle_ps(__m512 a, __m512 b, int control) {
    emu_f32 x = (emu_f32)a, y = (emu_f32)b, r;
    for (int i = 0; i < 16; i += 4) {
        r[i] = x[i + (control & 3)];
        r[i + 1] = x[i + (control >> 2 & 3)];
        r[i + 2] = y[i + (control >> 4 & 3)];
        r[i + 3] = y[i + (control >> 6 & 3)];
    }
    return (__m512)r;
}
EMU __m512 emu_permutexvar_ps(__m512i index, __m512 a) {
    emu_i32 k = (emu_i32)index;
    emu_f32 x = (emu_f32)a, r;
    for (int i = 0; i < 16; i++)
        r[i] = x[k[i] & 15];
    return (__m512)r;
}
EMU float emu_cvtss_f32(__m512 a) { return ((emu_f32)a)[0]; }
/* In the order of the compiler's own sequence: halves, quarters, pairs, two. */
EMU float emu_reduce_add_ps(__m512 a) {
    __m256 b = _mm256_add_ps(emu_half_ps(a, 1), emu_half_ps(a, 0));
    __m128 c = _mm_add_ps(_mm256_extractf128_ps(b, 1), _mm256_castps256_ps128(b));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(c) + _mm_cvtss_f32(_mm_movehdup_ps(c));
}
EMU float emu_reduce_max_ps(__m512 a) {
    emu_f32 x = (emu_f32)a;
    float largest = x[0];
    for (int i = 1; i < 16; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}
/* What is left above the floor (imm8: no fraction bits, toward minus infinity). */
EMU __m512 emu_reduce_floor_ps(__m512 a) {
    emu_f32 x = (emu_f32)a;
    for (int i = 0; i < 16; i++)
        x[i] = isinf(x[i]) ? 0.0f : x[i] - floorf(x[i]);
    return (__m512)x;
}
/* a * 2^floor(b), rounded once. */
EMU __m512 emu_scalef_ps(__m512 a, __m512 b) {
    emu_f32 x = (emu_f32)a, y = (emu_f32)b;
    for (int i = 0; i < 16; i++) {
        float power = floorf(y[i]);
        x[i] = power < -500.0f ? x[i] * 0.0f : power > 500.0f ? x[i] * INFINITY : ldexpf(x[i], (int)power);
    }
    return (__m512)x;
}
#define _mm512_mask_blend_ps  emu_mask_blend_ps
#define _mm512_shuffle_ps     emu_shuffle_ps
#define _mm512_permutexvar_ps emu_permutexvar_ps
#define _mm512_cvtss_f32      emu_cvtss_f32
#define _mm512_reduce_add_ps  emu_reduce_add_ps
#define _mm512_reduce_max_ps  emu_reduce_max_ps
#define _mm512_reduce_ps(a, control)                                                                                   \
    ((void)(char[(control) == (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC) ? 1 : -1]){0}, emu_reduce_floor_ps(a))
#define _mm512_scalef_ps emu_scalef_ps

/* ---- conversions and casts ------------------------------------------------------------------- */

#define _mm512_castps_si512(a)          ((__m512i)(a))
#define _mm512_castsi512_ps(a)          ((__m512)(a))
#define _mm512_castps512_ps256(a)       emu_half_ps(a, 0)
#define _mm512_castsi512_si256(a)       emu_half_i(a, 0)
#define _mm512_castsi512_si128(a)       _mm256_castsi256_si128(emu_half_i(a, 0))
#define _mm512_extractf32x8_ps(a, i)    emu_half_ps(a, i)
#define _mm512_extracti64x4_epi64(a, i) emu_half_i(a, i)
#define _mm512_cvtph_ps(a)                                                                                             \
    emu_join_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)))
#define _mm512_cvtps_ph(a, rounding)                                                                                   \
    _mm256_set_m128i(_mm256_cvtps_ph(emu_half_ps(a, 1), (rounding)&7), _mm256_cvtps_ph(emu_half_ps(a, 0), (rounding)&7))
EMU __m512i emu_cvtepu16_epi32(__m256i a) {
    return emu_join_i(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
                      _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)));
}
EMU __m512i emu_cvtepi8_epi32(__m128i a) {
    return emu_join_i(_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_srli_si128(a, 8)));
}
EMU __m512i emu_cvtps_epi32(__m512 a) {
    return emu_join_i(_mm256_cvtps_epi32(emu_half_ps(a, 0)), _mm256_cvtps_epi32(emu_half_ps(a, 1)));
}
EMU __m512 emu_cvtepi32_ps(__m512i a) {
    return emu_join_ps(_mm256_cvtepi32_ps(emu_half_i(a, 0)), _mm256_cvtepi32_ps(emu_half_i(a, 1)));
}
EMU __m128i emu_cvtepi32_epi8(__m512i a) {
    int32_t from[16];
    int8_t to[16];
    __m128i r;
    memcpy(from, &a, sizeof from);
    for (int i = 0; i < 16; i++)
        to[i] = (int8_t)from[i];
    memcpy(&r, to, sizeof r);
    return r;
}
#define _mm512_cvtepu16_epi32 emu_cvtepu16_epi32
#define _mm512_cvtepi8_epi32  emu_cvtepi8_epi32
#define _mm512_cvtps_epi32    emu_cvtps_epi32
#define _mm512_cvtepi32_ps    emu_cvtepi32_ps
#define _mm512_cvtepi32_epi8  emu_cvtepi32_epi8

/* ---- integers -------------------------------------------------------------------------------- */

EMU_I2(add_epi16, _mm256_add_epi16)
EMU_I2(add_epi32, _mm256_add_epi32)
EMU_I2(sub_epi32, _mm256_sub_epi32)
EMU_I2(and_si512, _mm256_and_si256)
EMU_I2(madd_epi16, _mm256_madd_epi16)
EMU_I2(maddubs_epi16, _mm256_maddubs_epi16)
EMU_I2(max_epi32, _mm256_max_epi32)
EMU_I2(min_epi32, _mm256_min_epi32)
EMU_I2(max_epu32, _mm256_max_epu32)
EMU_I2(unpacklo_epi32, _mm256_unpacklo_epi32)
EMU_I2(unpackhi_epi32, _mm256_unpackhi_epi32)
EMU_I2(unpacklo_epi64, _mm256_unpacklo_epi64)
EMU_I2(unpackhi_epi64, _mm256_unpackhi_epi64)
#define _mm512_add_epi16      emu_add_epi16
#define _mm512_add_epi32      emu_add_epi32
#define _mm512_sub_epi32      emu_sub_epi32
#define _mm512_and_si512      emu_and_si512
#define _mm512_madd_epi16     emu_madd_epi16
#define _mm512_maddubs_epi16  emu_maddubs_epi16
#define _mm512_max_epi32      emu_max_epi32
#define _mm512_min_epi32      emu_min_epi32
#define _mm512_max_epu32      emu_max_epu32
#define _mm512_unpacklo_epi32 emu_unpacklo_epi32
#define _mm512_unpackhi_epi32 emu_unpackhi_epi32
#define _mm512_unpacklo_epi64 emu_unpacklo_epi64
#define _mm512_unpackhi_epi64 emu_unpackhi_epi64

EMU __m512i emu_loadu_i(const void *from) {
    __m512i a;
    memcpy(&a, from, sizeof a);
    return a;
}
EMU void emu_storeu_i(void *to, __m512i a) { memcpy(to, &a, sizeof a); }
#define _mm512_loadu_si512     emu_loadu_i
#define _mm512_load_si512      emu_loadu_i
#define _mm512_storeu_si512    emu_storeu_i
#define _mm512_store_si512     emu_storeu_i
#define _mm512_setzero_si512() emu_join_i(_mm256_setzero_si256(), _mm256_setzero_si256())
#define _mm512_set1_epi8(x)    emu_join_i(_mm256_set1_epi8((char)(x)), _mm256_set1_epi8((char)(x)))
#define _mm512_set1_epi16(x)   emu_join_i(_mm256_set1_epi16((short)(x)), _mm256_set1_epi16((short)(x)))
#define _mm512_set1_epi32(x)   emu_join_i(_mm256_set1_epi32(x), _mm256_set1_epi32(x))
EMU __m512i emu_set4_epi32(int d, int c, int b, int a) {
    __m256i half = _mm256_setr_epi32(a, b, c, d, a, b, c, d);
    return emu_join_i(half, half);
}
#define _mm512_set4_epi32 emu_set4_epi32
#undef _mm512_setr_epi32
#define _mm512_setr_epi32(...) emu_loadu_i((const int32_t[16]){__VA_ARGS__})
EMU __m512i emu_reverse_epi16(const int16_t values[32]) {
    int16_t r[32];
    for (int i = 0; i < 32; i++)
        r[i] = values[31 - i];
    return emu_loadu_i(r);
}
#undef _mm512_set_epi16
#define _mm512_set_epi16(...) emu_reverse_epi16((const int16_t[32]){__VA_ARGS__})

/* Masked lanes are not read. */
EMU __m256i emu_maskz_loadu_256_epi16(__mmask16 mask, const void *from) {
    int16_t lanes[16] = {0};
    __m256i a;
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy(&lanes[i], (const char *)from + 2 * i, 2);
    memcpy(&a, lanes, sizeof a);
    return a;
}
EMU __m128i emu_maskz_loadu_128_epi8(__mmask16 mask, const void *from) {
    int8_t lanes[16] = {0};
    __m128i a;
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            lanes[i] = ((const int8_t *)from)[i];
    memcpy(&a, lanes, sizeof a);
    return a;
}
EMU __m512i emu_maskz_loadu_epi16(__mmask32 mask, const void *from) {
    int16_t lanes[32] = {0};
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1)
            memcpy(&lanes[i], (const char *)from + 2 * i, 2);
    return emu_loadu_i(lanes);
}
#define _mm_maskz_loadu_epi8     emu_maskz_loadu_128_epi8
#define _mm256_maskz_loadu_epi16 emu_maskz_loadu_256_epi16
#define _mm512_maskz_loadu_epi16 emu_maskz_loadu_epi16

#define _mm512_slli_epi32(a, n)                                                                                        \
    emu_join_i(_mm256_slli_epi32(emu_half_i(a, 0), n), _mm256_slli_epi32(emu_half_i(a, 1), n))
#define _mm512_slli_epi16(a, n)                                                                                        \
    emu_join_i(_mm256_slli_epi16(emu_half_i(a, 0), n), _mm256_slli_epi16(emu_half_i(a, 1), n))
#define _mm512_srli_epi16(a, n)                                                                                        \
    emu_join_i(_mm256_srli_epi16(emu_half_i(a, 0), n), _mm256_srli_epi16(emu_half_i(a, 1), n))

EMU __m512i emu_shuffle_i32x4(__m512i a, __m512i b, int control) {
    __m128i x[4], y[4], r[4];
    __m512i result;
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    r[0] = x[control & 3];
    r[1] = x[control >> 2 & 3];
    r[2] = y[control >> 4 & 3];
    r[3] = y[control >> 6 & 3];
    memcpy(&result, r, sizeof result);
    return result;
}
EMU __m512i emu_permutexvar_epi32(__m512i index, __m512i a) {
    emu_i32 k = (emu_i32)index, x = (emu_i32)a, r;
    for (int i = 0; i < 16; i++)
        r[i] = x[k[i] & 15];
    return (__m512i)r;
}
EMU __m512i emu_permutexvar_epi16(__m512i index, __m512i a) {
    emu_i16 k = (emu_i16)index, x = (emu_i16)a, r;
    for (int i = 0; i < 32; i++)
        r[i] = x[k[i] & 31];
    return (__m512i)r;
}
EMU __m512i emu_mask_shuffle_epi8(__m512i from, __mmask64 mask, __m512i a, __m512i control) {
    emu_i8 x = (emu_i8)a, c = (emu_i8)control, r = (emu_i8)from;
    for (int i = 0; i < 64; i++)
        if (mask >> i & 1)
            r[i] = c[i] & 0x80 ? 0 : x[(i & ~15) + (c[i] & 15)];
    return (__m512i)r;
}
EMU __mmask16 emu_cmpgt_epi32_mask(__m512i a, __m512i b) {
    emu_i32 x = (emu_i32)a, y = (emu_i32)b;
    unsigned mask = 0;
    for (int i = 0; i < 16; i++)
        mask |= (unsigned)(x[i] > y[i]) << i;
    return (__mmask16)mask;
}
#define _mm512_shuffle_i32x4          emu_shuffle_i32x4
#define _mm512_permutexvar_epi32      emu_permutexvar_epi32
#define _mm512_permutexvar_epi16      emu_permutexvar_epi16
#define _mm512_mask_shuffle_epi8      emu_mask_shuffle_epi8
#define _mm512_cmpgt_epi32_mask       emu_cmpgt_epi32_mask
#define _mm512_cmple_epi32_mask(a, b) ((__mmask16)~emu_cmpgt_epi32_mask(a, b))
EMU int32_t emu_reduce_add_epi32(__m512i a) {
    emu_u32 x = (emu_u32)a;
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += x[i];
    return (int32_t)sum;
}
EMU uint32_t emu_reduce_max_epu32(__m512i a) {
    emu_u32 x = (emu_u32)a;
    uint32_t largest = 0;
    for (int i = 0; i < 16; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}
#define _mm512_reduce_add_epi32 emu_reduce_add_epi32
#define _mm512_reduce_max_epu32 emu_reduce_max_epu32

/* ---- VNNI ------------------------------------------------------------------------------------ */

/* Unsigned bytes of a times signed bytes of b, four to a sum, without saturation. */
EMU __m256i emu_dpbusd_256(__m256i sums, __m256i a, __m256i b) {
    __m256i even =
        _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
    return _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
}
EMU __m512i emu_dpbusd_512(__m512i sums, __m512i a, __m512i b) {
    return emu_join_i(emu_dpbusd_256(emu_half_i(sums, 0), emu_half_i(a, 0), emu_half_i(b, 0)),
                      emu_dpbusd_256(emu_half_i(sums, 1), emu_half_i(a, 1), emu_half_i(b, 1)));
}
#define _mm256_dpbusd_avx_epi32 emu_dpbusd_256
#undef _mm256_dpbusd_epi32
#define _mm256_dpbusd_epi32 emu_dpbusd_256
#define _mm512_dpbusd_epi32 emu_dpbusd_512

/* ---- BF16 ------------------------------------------------------------------------------------ */

typedef emu_i16 emu_bf16;
#define __m512bh emu_bf16

/* To nearest, ties to even; subnormals become zero, NaN becomes quiet. */
EMU uint16_t emu_round_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) == 0)
        return (uint16_t)(bits >> 16 & 0x8000u);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
EMU float emu_of_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float r;
    if ((bits & 0x7f800000u) == 0)
        bits &= 0x80000000u;
    memcpy(&r, &bits, sizeof r);
    return r;
}
EMU emu_bf16 emu_cvtne2ps_pbh(__m512 high, __m512 low) {
    emu_f32 h = (emu_f32)high, l = (emu_f32)low;
    emu_bf16 r;
    for (int i = 0; i < 16; i++) {
        r[i] = (int16_t)emu_round_bf16(l[i]);
        r[16 + i] = (int16_t)emu_round_bf16(h[i]);
    }
    return r;
}
EMU float emu_dot_pair(float sum, uint32_t a, uint32_t b) {
    sum = fmaf(emu_of_bf16((uint16_t)(a >> 16)), emu_of_bf16((uint16_t)(b >> 16)), sum);
    return fmaf(emu_of_bf16((uint16_t)a), emu_of_bf16((uint16_t)b), sum);
}
EMU __m512 emu_dpbf16_ps(__m512 sums, emu_bf16 a, emu_bf16 b) {
    emu_f32 s = (emu_f32)sums;
    emu_u32 x = (emu_u32)a, y = (emu_u32)b;
    for (int i = 0; i < 16; i++)
        s[i] = emu_dot_pair(s[i], x[i], y[i]);
    return (__m512)s;
}
#define _mm512_cvtne2ps_pbh emu_cvtne2ps_pbh
#define _mm512_dpbf16_ps    emu_dpbf16_ps

/* ---- AMX ------------------------------------------------------------------------------------- */

typedef struct emu_tile {
    uint8_t rows[16][64];
} emu_tile;
typedef struct emu_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t columns_bytes[16];
    uint8_t rows[16];
} emu_tile_config;

static _Thread_local emu_tile emu_tiles[8];
static _Thread_local emu_tile_config emu_config; /* palette 0: no tiles may be used */

/* A use on which the CPU would fault ends the test. */
EMU void emu_check(int fine) {
    if (!fine)
        __builtin_trap();
}
EMU void emu_tile_loadconfig(const void *config) {
    memcpy(&emu_config, config, sizeof emu_config);
    emu_check(emu_config.palette == 1);
    for (int i = 0; i < 8; i++)
        emu_check(emu_config.columns_bytes[i] <= 64 && emu_config.rows[i] <= 16);
    memset(emu_tiles, 0, sizeof emu_tiles);
}
EMU void emu_tile_release(void) { memset(&emu_config, 0, sizeof emu_config); }
EMU void emu_tile_zero(int t) {
    emu_check(emu_config.palette == 1);
    memset(&emu_tiles[t], 0, sizeof emu_tiles[t]);
}
EMU void emu_tile_loadd(int t, const void *base, int64_t stride) {
    emu_check(emu_config.palette == 1);
    memset(&emu_tiles[t], 0, sizeof emu_tiles[t]);
    for (int i = 0; i < emu_config.rows[t]; i++)
        memcpy(emu_tiles[t].rows[i], (const char *)base + i * stride, emu_config.columns_bytes[t]);
}
EMU void emu_tile_stored(int t, void *base, int64_t stride) {
    emu_check(emu_config.palette == 1);
    for (int i = 0; i < emu_config.rows[t]; i++)
        memcpy((char *)base + i * stride, emu_tiles[t].rows[i], emu_config.columns_bytes[t]);
}
/* sums [rows of a][columns of sums] += a [rows][pairs] times b [pairs][columns], pairs of bfloat16. */
EMU void emu_tile_dpbf16ps(int sums, int a, int b) {
    const int rows = emu_config.rows[sums], columns = emu_config.columns_bytes[sums] / 4;
    const int pairs = emu_config.columns_bytes[a] / 4;
    emu_check(emu_config.palette == 1 && emu_config.rows[a] == rows && emu_config.rows[b] == pairs);
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < pairs; k++) {
            uint32_t x, y[16];
            float s[16];
            memcpy(&x, emu_tiles[a].rows[i] + 4 * k, sizeof x);
            memcpy(y, emu_tiles[b].rows[k], sizeof y);
            memcpy(s, emu_tiles[sums].rows[i], sizeof s);
            for (int j = 0; j < columns; j++)
                s[j] = emu_dot_pair(s[j], x, y[j]);
            memcpy(emu_tiles[sums].rows[i], s, sizeof s);
        }
}
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emu_tile_loadconfig
#define _tile_release    emu_tile_release
#define _tile_zero       emu_tile_zero
#define _tile_loadd      emu_tile_loadd
#define _tile_stored     emu_tile_stored
#define _tile_dpbf16ps   emu_tile_dpbf16ps

#endif
