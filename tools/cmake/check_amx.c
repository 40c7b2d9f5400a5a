#include <immintrin.h>
int main(int argc, char **argv) {
    char memory[1024] = {(char)argc};
    _tile_loadconfig(argv);
    _tile_zero(0);
    _tile_loadd(1, memory, 64);
    _tile_loadd(2, memory, 64);
    _tile_dpbf16ps(0, 1, 2);
    _tile_dpbusd(0, 1, 2);
    _tile_stored(0, memory, 64);
    _tile_release();
    return memory[0] + (int)_mm512_reduce_add_ps((__m512)_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), _mm512_setzero_ps()));
}
