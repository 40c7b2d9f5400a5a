#include <immintrin.h>
int main(int argc, char **argv) {
    __m512i a = _mm512_set1_epi8((char)argc), sum = _mm512_setzero_si512();
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(a));
    (void)argv;
    return _mm512_reduce_add_epi32(_mm512_dpbusd_epi32(sum, a, a));
}
