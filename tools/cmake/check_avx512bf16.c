#include <immintrin.h>
int main(int argc, char **argv) {
    __m512 a = _mm512_set1_ps((float)argc);
    __m512bh pairs = _mm512_cvtne2ps_pbh(a, a);
    (void)argv;
    return (int)_mm512_reduce_add_ps(_mm512_dpbf16_ps(a, pairs, pairs));
}
