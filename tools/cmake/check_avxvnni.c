#include <immintrin.h>
int main(int argc, char **argv) {
    __m256i a = _mm256_set1_epi8((char)argc), sum = _mm256_setzero_si256();
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(a));
    (void)argv;
    return _mm256_extract_epi32(_mm256_dpbusd_avx_epi32(sum, a, a), 1);
}
