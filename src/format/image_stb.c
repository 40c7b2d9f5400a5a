/* image_stb.c - stb_image itself, from its header, for the formats that have no decoder here. */
#include "format/image_formats.h"

#include <stdlib.h>

#include "base/memory.h"

/* No part of decoding a picture within the limits takes more than its pixels as float32. */
#define MAX_ALLOCATION ((size_t)IMAGE_MAX_PIXELS * 12 + 65536)

static void *allocate(size_t n_bytes) { return n_bytes <= MAX_ALLOCATION ? malloc(n_bytes) : NULL; }

static void *reallocate(void *memory, size_t n_bytes) {
    return n_bytes <= MAX_ALLOCATION ? realloc(memory, n_bytes) : NULL;
}

#define STBI_MALLOC(n_bytes)          allocate(n_bytes)
#define STBI_REALLOC(memory, n_bytes) reallocate(memory, n_bytes)
#define STBI_FREE(memory)             free(memory)
#define STBI_ASSERT(condition)        ((void)0)
#define STBI_MAX_DIMENSIONS           IMAGE_MAX_SIDE
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_TGA
#define STBI_ONLY_HDR
#define STBI_ONLY_PIC
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION

/* Chroma of twice the columns for JPEGs of 4:2:2, as libjpeg interpolates it. stb_image's own function, which this
 * replaces, weighs the last but one column wrongly: as if its nearer neighbour were the farther one. */
static unsigned char *stbi__resample_row_h_2(unsigned char *out, unsigned char *row, unsigned char *other_row,
                                             int n_columns, int factor) {
    (void)other_row;
    (void)factor;
    for (int i = 0; i < n_columns; i++) {
        out[2 * i] = i > 0 ? (unsigned char)((3 * row[i] + row[i - 1] + 1) >> 2) : row[i];
        out[2 * i + 1] = i + 1 < n_columns ? (unsigned char)((3 * row[i] + row[i + 1] + 2) >> 2) : row[i];
    }
    return out;
}

/* Where the name is followed by its parameters, stb_image defines its function, under another name now; where it is
 * used there are none, and the function above is meant. */
#define stbi__resample_row_h_2(out, row, other_row, n_columns, factor)                                                 \
    resample_unused(out, row, other_row, n_columns, factor)

/* Not popped: functions without use are reported at the end of this file. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop
#undef stbi__resample_row_h_2

trol_status stb_decode(const char *format, const uint8_t *bytes, size_t n_bytes, int32_t width, int32_t height,
                       uint8_t **pixels, trol_error *error) {
    /* The PIC decoder of stb_image 2.27 crashes on broken data unless it is asked for its own four channels. */
    int channels = strcmp(format, "PIC") == 0 ? 4 : 3, found_width = 0, found_height = 0, found_channels;
    uint8_t *decoded =
        stbi_load_from_memory(bytes, (int)n_bytes, &found_width, &found_height, &found_channels, channels);
    if (!decoded) {
        const char *reason = stbi_failure_reason();
        if (reason && strcmp(reason, "outofmem") == 0)
            return fail(error, TROL_ERROR_MEMORY, "out of memory: a %s of %d x %d pixels", format, width, height);
        return fail(error, TROL_ERROR_FORMAT, "the %s of %d x %d pixels cannot be decoded: %s", format, width, height,
                    reason ? reason : "no reason is known");
    }
    if (found_width != width || found_height != height) {
        free(decoded);
        return fail(error, TROL_ERROR_FORMAT, "the %s says that it has %d x %d pixels and decodes to %d x %d", format,
                    width, height, found_width, found_height);
    }
    if (channels == 4)
        for (size_t i = 0; i < (size_t)width * (size_t)height; i++)
            memmove(decoded + 3 * i, decoded + 4 * i, 3);
    *pixels = decoded; /* from malloc, which memory_free accepts */
    return TROL_OK;
}
