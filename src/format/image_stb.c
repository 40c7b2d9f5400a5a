/* image_stb.c - the implementation of stb_image, for PNG only. */
#include "format/image_formats.h"

#include <limits.h>
#include <stdlib.h>

#include "base/memory.h"

/* No buffer for an image within the highest limits is larger than its samples of 16 bits. */
#define MAX_ALLOCATION ((size_t)IMAGE_HIGHEST_MAX_PIXELS * 8 + 65536)

static void *allocate(size_t n_bytes) { return n_bytes <= MAX_ALLOCATION ? malloc(n_bytes) : NULL; }

static void *reallocate(void *memory, size_t n_bytes) {
    return n_bytes <= MAX_ALLOCATION ? realloc(memory, n_bytes) : NULL;
}

#define STBI_MALLOC(n_bytes)          allocate(n_bytes)
#define STBI_REALLOC(memory, n_bytes) reallocate(memory, n_bytes)
#define STBI_FREE(memory)             free(memory)
#define STBI_ASSERT(condition)        ((void)0)
#define STBI_MAX_DIMENSIONS           IMAGE_MAX_SIDE
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION

/* Not popped: unused functions are reported at the end of this file. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb_image.h>
#pragma GCC diagnostic pop

trol_status stb_decode(const uint8_t *bytes, size_t n_bytes, int32_t width, int32_t height, uint8_t **pixels,
                       trol_error *error) {
    int found_width = 0, found_height = 0, found_channels;
    uint8_t *decoded = n_bytes <= INT_MAX
                           ? stbi_load_from_memory(bytes, (int)n_bytes, &found_width, &found_height, &found_channels, 3)
                           : NULL;
    if (!decoded) {
        const char *reason = n_bytes <= INT_MAX ? stbi_failure_reason() : "too large";
        if (reason && strcmp(reason, "outofmem") == 0)
            return fail(error, TROL_ERROR_MEMORY, "out of memory: a PNG of %d x %d pixels", width, height);
        if (reason && strcmp(reason, "too large") == 0)
            return fail(error, TROL_ERROR_UNSUPPORTED, "the PNG of %d x %d pixels is too large for its decoder", width,
                        height);
        return fail(error, TROL_ERROR_FORMAT, "the PNG of %d x %d pixels cannot be decoded: %s", width, height,
                    reason ? reason : "no reason is known");
    }
    if (found_width != width || found_height != height) {
        free(decoded);
        return fail(error, TROL_ERROR_FORMAT, "the PNG's header says %d x %d pixels, but it decodes to %d x %d", width,
                    height, found_width, found_height);
    }
    *pixels = decoded; /* from malloc, which memory_free accepts */
    return TROL_OK;
}
