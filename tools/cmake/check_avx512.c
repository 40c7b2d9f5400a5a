#include <immintrin.h>
int main(int argc, char **argv) {
    __m512 a = _mm512_fmadd_ps(_mm512_set1_ps((float)argc), _mm512_set1_ps(2), _mm512_set1_ps(1));
    __m256i half = _mm256_maskz_loadu_epi16(0x00ff, argv);
    a = _mm512_scalef_ps(_mm512_add_ps(a, _mm512_cvtph_ps(half)), _mm512_reduce_ps(a, 0));
    return _mm512_movepi8_mask(_mm512_castps_si512(a)) != 0;
}
