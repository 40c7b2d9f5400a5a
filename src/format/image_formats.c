/* image_formats.c - what the decoders of single formats share: sizes, truncation and damage, in one wording. */
#include "format/image_formats.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/memory.h"

trol_status fail_cut_short(const char *format, int64_t width, int64_t height, trol_error *error) {
    if (width < 1 || height < 1)
        return fail(error, TROL_ERROR_FORMAT, "the %s is cut short: it ends within its header", format);
    return fail(error, TROL_ERROR_FORMAT, "the %s is cut short: it ends before all of its %lld x %lld pixels", format,
                (long long)width, (long long)height);
}

trol_status image_check_size(const char *format, int64_t width, int64_t height, int64_t max_pixels, trol_error *error) {
    if (width < 1 || height < 1)
        return fail(error, TROL_ERROR_FORMAT, "the %s says that it has %lld x %lld pixels", format, (long long)width,
                    (long long)height);
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE || width * height > max_pixels)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the %s has %lld x %lld pixels; at most %lld pixels and %d on a side are supported", format,
                    (long long)width, (long long)height, (long long)max_pixels, (int)IMAGE_MAX_SIDE);
    return TROL_OK;
}

trol_status image_alloc(const char *format, int64_t width, int64_t height, int64_t max_pixels, trol_image *image,
                        trol_error *error) {
    TRY(image_check_size(format, width, height, max_pixels, error));
    TRY(memory_alloc((size_t)width * (size_t)height, 3, "a picture", (void **)&image->pixels, error));
    image->width = (int32_t)width;
    image->height = (int32_t)height;
    return TROL_OK;
}

void image_notice(const image_settings *settings, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log_message(&settings->log, TROL_LOG_WARNING, "%s%s%s", settings->name ? settings->name : "",
                settings->name ? ": " : "", text);
}
