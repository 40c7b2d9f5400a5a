/* fuzz-image-heif.c - any bytes as an HEIC or AVIF. */
#include "fuzz_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) { return fuzz_decoder(heif_decode, bytes, n_bytes); }
