#include <immintrin.h>
int main(int argc, char **argv) {
    __m256 a = _mm256_fmadd_ps(_mm256_set1_ps((float)argc), _mm256_set1_ps(2), _mm256_set1_ps(1));
    __m256i b = _mm256_cvtepu16_epi32(_mm256_cvtps_ph(a, 0));
    (void)argv;
    return _mm256_extract_epi32(b, 1);
}
