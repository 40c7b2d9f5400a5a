/* fuzz-image-webp.c - any bytes as a WebP. */
#include "fuzz_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) { return fuzz_decoder(webp_decode, bytes, n_bytes); }
