/* fuzz-image-jpeg.c - any bytes as a JPEG. */
#include "fuzz_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) { return fuzz_decoder(jpeg_decode, bytes, n_bytes); }
