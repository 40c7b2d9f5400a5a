/* fuzz_decoder.h - any bytes to one format's decoder, whatever they begin with: refused with a sentence, or pixels
 * within the limit, all of which are there. */
#ifndef FUZZ_DECODER_H
#define FUZZ_DECODER_H

#include <stdlib.h>

#include "base/memory.h"
#include "format/image_formats.h"

static void fuzz_note(void *user, trol_log_level level, const char *message) {
    (void)level;
    if (message[0] == '\0')
        abort();
    ++*(int *)user;
}

static int fuzz_decoder(image_decoder *decode, const uint8_t *bytes, size_t n_bytes) {
    int n_notices = 0;
    const image_settings settings = {
        .max_bytes = INT32_MAX, .max_pixels = 1 << 20, .log = {fuzz_note, &n_notices}, .name = "picture"};
    trol_error error = {0};
    trol_image image = {.orientation = 1};
    trol_status status = decode((byte_reader){bytes, n_bytes, 0, false}, &settings, &image, &error);
    if (status != TROL_OK ? error.message[0] == '\0' : !image.pixels || n_notices > 1)
        abort();
    if (status == TROL_OK) {
        unsigned sum = 0;
        size_t n = 3 * (size_t)image.width * (size_t)image.height;
        for (size_t i = 0; i < n; i++)
            sum += image.pixels[i];
        if (n == 0 || n > 3u << 20 || sum > 255 * n || image.orientation < 1 || image.orientation > 8)
            abort();
    }
    memory_free(image.pixels);
    return 0;
}

#endif
