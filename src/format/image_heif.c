/* image_heif.c - HEIC and AVIF through libheif: the primary picture, turned upright as the file says and alpha dropped,
 * both by libheif. The pixels are those that libheif and its codecs give, which differ from one version to another.
 * libheif brings large codecs with it, so it is opened on first use; only its header is needed to build. */
#include "format/image_formats.h"

static const char *name_of(const byte_reader *in) {
    return in->n_bytes > 10 && memcmp(in->bytes + 8, "avi", 3) == 0 ? "AVIF" : "HEIC";
}

#ifndef TROL_HEIF

trol_status heif_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    (void)settings;
    (void)image;
    return fail(error, TROL_ERROR_UNSUPPORTED,
                "the file is in %s format, for which this library was built without libheif (CMake: -DTROL_HEIF=ON)",
                name_of(&in));
}

#else

#include <libheif/heif.h>
#include <pthread.h>
#include <stdio.h>

#include "base/library.h"

#define LIBRARY_NAME "libheif.so.1"

/* The functions that are used, heif_ before each name. */
#define FOR_EACH_FUNCTION(DO)                                                                                          \
    DO(context_alloc)                                                                                                  \
    DO(context_free)                                                                                                   \
    DO(context_get_primary_image_handle)                                                                               \
    DO(context_read_from_memory_without_copy)                                                                          \
    DO(context_set_max_decoding_threads)                                                                               \
    DO(context_set_maximum_image_size_limit)                                                                           \
    DO(decode_image)                                                                                                   \
    DO(decoding_options_alloc)                                                                                         \
    DO(decoding_options_free)                                                                                          \
    DO(image_get_height)                                                                                               \
    DO(image_get_plane_readonly)                                                                                       \
    DO(image_get_width)                                                                                                \
    DO(image_handle_get_height)                                                                                        \
    DO(image_handle_get_width)                                                                                         \
    DO(image_handle_release)                                                                                           \
    DO(image_release)

#define DECLARE(name) __typeof__(heif_##name) *name;
static struct { FOR_EACH_FUNCTION(DECLARE) } heif;
static char why_not[256]; /* it cannot be used; "": it can */
static pthread_once_t open_once = PTHREAD_ONCE_INIT;

static void open_library(void) {
    void *library = library_open(LIBRARY_NAME, why_not, sizeof why_not);
#define FIND(name)                                                                                                     \
    if (library && !library_function(library, "heif_" #name, &heif.name))                                              \
        snprintf(why_not, sizeof why_not, LIBRARY_NAME " has no function heif_" #name);
    FOR_EACH_FUNCTION(FIND)
}

static trol_status fail_decoding(struct heif_error reason, const char *format, trol_error *error) {
    const char *text = reason.message && reason.message[0] ? reason.message : "no reason is known";
    if (reason.code == heif_error_Memory_allocation_error && reason.subcode != heif_suberror_Security_limit_exceeded)
        return fail(error, TROL_ERROR_MEMORY, "out of memory: the %s cannot be decoded: %s", format, text);
    bool unsupported = reason.code == heif_error_Unsupported_feature ||
                       reason.code == heif_error_Unsupported_filetype ||
                       reason.subcode == heif_suberror_Security_limit_exceeded;
    return fail(error, unsupported ? TROL_ERROR_UNSUPPORTED : TROL_ERROR_FORMAT, "the %s cannot be decoded: %s", format,
                text);
}

/* libheif 1.15 applies this limit to each side (of the coded size, which is a little larger), later versions to the
 * side of a square with as many pixels: the pixels themselves are checked here. */
static void set_limits(struct heif_context *context, int64_t max_pixels) {
    int side = max_pixels < IMAGE_MAX_SIDE ? (int)max_pixels : IMAGE_MAX_SIDE;
    heif.context_set_maximum_image_size_limit(context, side + 64);
    heif.context_set_max_decoding_threads(context, 0); /* no threads but the caller's */
}

static trol_status copy_pixels(const struct heif_image *decoded, const char *format, const image_settings *settings,
                               trol_image *image, trol_error *error) {
    int stride = 0;
    int64_t width = heif.image_get_width(decoded, heif_channel_interleaved);
    int64_t height = heif.image_get_height(decoded, heif_channel_interleaved);
    const uint8_t *pixels = heif.image_get_plane_readonly(decoded, heif_channel_interleaved, &stride);
    if (!pixels || width < 1 || height < 1 || stride < 3 * width)
        return fail(error, TROL_ERROR_FORMAT, "the %s cannot be decoded: libheif gives no RGB pixels", format);
    TRY(image_alloc(format, width, height, settings->max_pixels, image, error));
    for (size_t y = 0; y < (size_t)height; y++)
        memcpy(image->pixels + 3 * y * (size_t)width, pixels + y * (size_t)stride, 3 * (size_t)width);
    return TROL_OK;
}

static trol_status decode_primary(const struct heif_image_handle *handle, const char *format,
                                  const image_settings *settings, trol_image *image, trol_error *error) {
    TRY(image_check_size(format, heif.image_handle_get_width(handle), heif.image_handle_get_height(handle),
                         settings->max_pixels, error));
    struct heif_decoding_options *options = heif.decoding_options_alloc();
    if (!options)
        return fail_memory(error, sizeof *options, "libheif's options");
    options->convert_hdr_to_8bit = 1;
    struct heif_image *decoded = NULL;
    struct heif_error reason =
        heif.decode_image(handle, &decoded, heif_colorspace_RGB, heif_chroma_interleaved_RGB, options);
    heif.decoding_options_free(options);
    trol_status status = reason.code == heif_error_Ok ? copy_pixels(decoded, format, settings, image, error)
                                                      : fail_decoding(reason, format, error);
    heif.image_release(decoded);
    return status;
}

static trol_status decode_file(struct heif_context *context, byte_reader in, const image_settings *settings,
                               trol_image *image, trol_error *error) {
    const char *format = name_of(&in);
    set_limits(context, settings->max_pixels);
    struct heif_error reason = heif.context_read_from_memory_without_copy(context, in.bytes, in.n_bytes, NULL);
    struct heif_image_handle *handle = NULL;
    if (reason.code == heif_error_Ok)
        reason = heif.context_get_primary_image_handle(context, &handle);
    trol_status status = reason.code == heif_error_Ok ? decode_primary(handle, format, settings, image, error)
                                                      : fail_decoding(reason, format, error);
    heif.image_handle_release(handle);
    return status;
}

trol_status heif_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    pthread_once(&open_once, open_library);
    if (why_not[0])
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the file is in %s format, for which libheif is needed (packages libheif1 on Debian and Ubuntu, "
                    "libheif elsewhere): %s",
                    name_of(&in), why_not);
    struct heif_context *context = heif.context_alloc();
    if (!context)
        return fail_memory(error, sizeof in, "libheif's context");
    trol_status status = decode_file(context, in, settings, image, error);
    heif.context_free(context);
    return status;
}

#endif
