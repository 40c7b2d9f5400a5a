/* image.c - trol_image: recognizing the format of a file, decoding it, and turning images upright. */
#include "format/image.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "format/image_formats.h"

/* ---- which format ---------------------------------------------------------------------------- */

typedef enum format_kind {
    KIND_JPEG,
    KIND_PNG,
    KIND_GIF,
    KIND_BMP,
    KIND_PNM,
    KIND_TGA,
    KIND_WEBP,
    KIND_HEIF,
    KIND_REFUSED,
    KIND_UNKNOWN
} format_kind;

typedef struct known_format {
    format_kind kind;
    const char *name;
    size_t offset, n_bytes; /* of the bytes that identify the format */
    const char *magic;
} known_format;

static const known_format formats[] = {
    {KIND_JPEG, "JPEG", 0, 3, "\xff\xd8\xff"},
    {KIND_PNG, "PNG", 0, 8, "\x89PNG\r\n\x1a\n"},
    {KIND_GIF, "GIF", 0, 6, "GIF87a"},
    {KIND_GIF, "GIF", 0, 6, "GIF89a"},
    {KIND_WEBP, "WebP", 8, 4, "WEBP"},
    {KIND_HEIF, "AVIF", 4, 8, "ftypavif"},
    {KIND_HEIF, "AVIF", 4, 8, "ftypavis"},
    {KIND_HEIF, "HEIC", 4, 7, "ftyphei"},
    {KIND_HEIF, "HEIC", 4, 7, "ftyphev"},
    {KIND_HEIF, "HEIF", 4, 8, "ftypmif1"},
    {KIND_HEIF, "HEIF", 4, 8, "ftypmsf1"},
    {KIND_REFUSED, "MP4 or QuickTime", 4, 4, "ftyp"},
    {KIND_REFUSED, "JPEG XL", 0, 2, "\xff\x0a"},
    {KIND_REFUSED, "JPEG XL", 4, 8, "JXL \r\n\x87\n"},
    {KIND_REFUSED, "JPEG 2000", 4, 8, "jP  \r\n\x87\n"},
    {KIND_REFUSED, "JPEG 2000", 0, 4, "\xff\x4f\xff\x51"},
    {KIND_REFUSED, "TIFF", 0, 4, "II*\0"},
    {KIND_REFUSED, "TIFF", 0, 4, "MM\0*"},
    {KIND_REFUSED, "TIFF", 0, 4, "II+\0"},
    {KIND_REFUSED, "TIFF", 0, 4, "MM\0+"},
    {KIND_REFUSED, "Photoshop (PSD)", 0, 4, "8BPS"},
    {KIND_REFUSED, "Radiance (HDR)", 0, 11, "#?RADIANCE\n"},
    {KIND_REFUSED, "Radiance (HDR)", 0, 7, "#?RGBE\n"},
    {KIND_REFUSED, "Softimage (PIC)", 0, 4, "\x53\x80\xf6\x34"},
    {KIND_REFUSED, "PDF", 0, 5, "%PDF-"},
    {KIND_REFUSED, "PostScript", 0, 4, "%!PS"},
    {KIND_REFUSED, "QOI", 0, 4, "qoif"},
    {KIND_REFUSED, "OpenEXR", 0, 4, "v/1\x01"},
    {KIND_REFUSED, "DDS", 0, 4, "DDS "},
};

static bool is_text_with(const byte_reader *in, const char *tag) {
    size_t n = strlen(tag), window = in->n_bytes < 1024 ? in->n_bytes : 1024, start = 0;
    while (start < window && (in->bytes[start] <= ' ' || in->bytes[start] >= 0xbb)) /* white space, byte order mark */
        start++;
    if (start >= window || in->bytes[start] != '<')
        return false;
    for (size_t i = start; i + n <= window; i++)
        if (memcmp(in->bytes + i, tag, n) == 0)
            return true;
    return false;
}

static known_format find_format(const byte_reader *in) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const known_format *f = &formats[i];
        if (in->n_bytes >= f->offset + f->n_bytes && memcmp(in->bytes + f->offset, f->magic, f->n_bytes) == 0)
            return *f;
    }
    const uint8_t *b = in->bytes;
    if (in->n_bytes >= 26 && memcmp(b, "BM", 2) == 0)
        return (known_format){.kind = KIND_BMP, .name = "BMP"};
    if (in->n_bytes >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '7' && (b[2] == '#' || (b[2] && b[2] <= ' ')))
        return (known_format){.kind = KIND_PNM, .name = "PNM"};
    if (is_text_with(in, "<svg"))
        return (known_format){.kind = KIND_REFUSED, .name = "SVG"};
    if (is_text_with(in, "<html") || is_text_with(in, "<!DOCTYPE html") || is_text_with(in, "<!doctype html"))
        return (known_format){.kind = KIND_REFUSED, .name = "HTML"};
    if (in->n_bytes >= 6 && b[0] == 0 && b[1] == 0 && (b[2] == 1 || b[2] == 2) && b[3] == 0 && b[4] + b[5] > 0)
        return (known_format){.kind = KIND_REFUSED, .name = "ICO"};
    if (tga_plausible(*in))
        return (known_format){.kind = KIND_TGA, .name = "TGA"};
    return (known_format){.kind = KIND_UNKNOWN};
}

static trol_status fail_unknown(const byte_reader *in, trol_error *error) {
    char text[3 * 8 + 1] = "";
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 8 && i < in->n_bytes; i++) {
        char byte[4] = {' ', digits[in->bytes[i] >> 4], digits[in->bytes[i] & 15], '\0'};
        memcpy(text + 3 * i, byte, 4);
    }
    return fail(
        error, TROL_ERROR_FORMAT,
        "%zu bytes that begin with%s are not a picture in a known format (JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF, "
        "TGA, PNM)",
        in->n_bytes, text);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static trol_status decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    static image_decoder *const decoders[] = {
        [KIND_JPEG] = jpeg_decode, [KIND_PNG] = png_decode, [KIND_GIF] = gif_decode,   [KIND_BMP] = bmp_decode,
        [KIND_PNM] = pnm_decode,   [KIND_TGA] = tga_decode, [KIND_WEBP] = webp_decode, [KIND_HEIF] = heif_decode};
    known_format f = find_format(&in);
    if (f.kind == KIND_UNKNOWN)
        return fail_unknown(&in, error);
    if (f.kind == KIND_REFUSED)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the file is in %s format, which is not supported; convert it to PNG or JPEG", f.name);
    return decoders[f.kind](in, settings, image, error);
}

static trol_status image_new(trol_image **image, trol_error *error) {
    TRY(memory_alloc_zero(1, sizeof **image, "a picture", (void **)image, error));
    (*image)->orientation = 1;
    return TROL_OK;
}

trol_status image_fail_too_long(int64_t n_bytes, int64_t max_bytes, trol_error *error) {
    return fail(error, TROL_ERROR_UNSUPPORTED, "the picture has %lld bytes; at most %lld are supported",
                (long long)n_bytes, (long long)max_bytes);
}

trol_status image_decode(const void *bytes, size_t n_bytes, const image_settings *settings, trol_image **image,
                         trol_error *error) {
    if (n_bytes == 0)
        return fail(error, TROL_ERROR_FORMAT, "the picture has 0 bytes");
    if (n_bytes > (uint64_t)settings->max_bytes)
        return image_fail_too_long((int64_t)n_bytes, settings->max_bytes, error);
    trol_image *decoded;
    TRY(image_new(&decoded, error));
    trol_status status = decode((byte_reader){bytes, n_bytes, 0, false}, settings, decoded, error);
    if (status == TROL_OK)
        *image = decoded;
    else
        trol_image_free(decoded);
    return status;
}

trol_status trol_image_load_rgb(const uint8_t *rgb, int32_t width, int32_t height, size_t stride, trol_image **image,
                                trol_error *error) {
    if (!image)
        return fail(error, TROL_ERROR_ARGUMENT, "the place for the image is NULL");
    *image = NULL;
    if (!rgb)
        return fail(error, TROL_ERROR_ARGUMENT, "the picture's pixels are NULL");
    if (width < 1 || height < 1)
        return fail(error, TROL_ERROR_ARGUMENT, "a picture of %d x %d pixels", width, height);
    size_t row = 3 * (size_t)width;
    if (stride < row && height > 1)
        return fail(error, TROL_ERROR_ARGUMENT, "rows of %d pixels have a stride of %zu bytes, expected at least %zu",
                    width, stride, row);
    trol_image *copy;
    TRY(image_new(&copy, error));
    trol_status status = image_alloc("picture", width, height, IMAGE_MAX_PIXELS, copy, error);
    if (status != TROL_OK) {
        trol_image_free(copy);
        return status;
    }
    for (size_t y = 0; y < (size_t)height; y++)
        memcpy(copy->pixels + y * row, rgb + y * stride, row);
    *image = copy;
    return TROL_OK;
}

void trol_image_free(trol_image *image) {
    if (!image)
        return;
    memory_free(image->pixels);
    memory_free(image);
}

int32_t trol_image_width(const trol_image *image) { return image ? image->width : 0; }

int32_t trol_image_height(const trol_image *image) { return image ? image->height : 0; }

const uint8_t *trol_image_pixels(const trol_image *image) { return image ? image->pixels : NULL; }

int32_t trol_image_orientation(const trol_image *image) { return image ? image->orientation : 1; }

/* ---- turning upright ------------------------------------------------------------------------- */

/* The index, in pixels of the stored image, of the upright image's pixel (0, 0), and how far a step in the upright
 * image's x and y moves it. */
typedef struct walk {
    int64_t start, step_x, step_y;
} walk;

static walk upright_walk(const trol_image *image) {
    int64_t w = image->width, h = image->height, right = w - 1, below = w * (h - 1);
    switch (image->orientation) {
    case 2:
        return (walk){right, -1, w};
    case 3:
        return (walk){right + below, -1, -w};
    case 4:
        return (walk){below, 1, -w};
    case 5:
        return (walk){0, w, 1};
    case 6:
        return (walk){below, -w, 1};
    case 7:
        return (walk){right + below, -w, -1};
    case 8:
        return (walk){right, w, -1};
    default:
        return (walk){0, 1, w};
    }
}

trol_status trol_image_upright(const trol_image *image, trol_image **upright, trol_error *error) {
    if (!upright)
        return fail(error, TROL_ERROR_ARGUMENT, "the place for the image is NULL");
    *upright = NULL;
    if (!image)
        return fail(error, TROL_ERROR_ARGUMENT, "the image is NULL");
    bool on_its_side = image->orientation >= 5;
    trol_image *turned;
    TRY(image_new(&turned, error));
    trol_status status = image_alloc("picture", on_its_side ? image->height : image->width,
                                     on_its_side ? image->width : image->height, INT64_MAX, turned, error);
    if (status != TROL_OK) {
        trol_image_free(turned);
        return status;
    }
    walk from = upright_walk(image);
    uint8_t *out = turned->pixels;
    for (int64_t y = 0; y < turned->height; y++)
        for (int64_t x = 0; x < turned->width; x++, out += 3)
            memcpy(out, image->pixels + 3 * (from.start + x * from.step_x + y * from.step_y), 3);
    *upright = turned;
    return TROL_OK;
}
