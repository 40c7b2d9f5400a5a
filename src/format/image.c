/* image.c - trol_image: telling the format of a file's bytes, decoding them, and turning pictures upright. */
#include "format/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/image_formats.h"
#include "format/json.h"

enum { MAX_FILE_BYTES = 1 << 30 };

/* ---- which format ---------------------------------------------------------------------------- */

typedef enum format_kind {
    KIND_JPEG,
    KIND_PNG,
    KIND_GIF,
    KIND_BMP,
    KIND_PNM,
    KIND_PSD,
    KIND_HDR,
    KIND_PIC,
    KIND_TGA,
    KIND_REFUSED,
    KIND_UNKNOWN
} format_kind;

typedef struct format {
    format_kind kind;
    const char *name;
    size_t offset, n_bytes; /* of the bytes that tell the format */
    const char *magic;
} format;

static const format formats[] = {
    {KIND_JPEG, "JPEG", 0, 3, "\xff\xd8\xff"},
    {KIND_PNG, "PNG", 0, 8, "\x89PNG\r\n\x1a\n"},
    {KIND_GIF, "GIF", 0, 6, "GIF87a"},
    {KIND_GIF, "GIF", 0, 6, "GIF89a"},
    {KIND_PSD, "PSD", 0, 4, "8BPS"},
    {KIND_HDR, "HDR", 0, 11, "#?RADIANCE\n"},
    {KIND_HDR, "HDR", 0, 7, "#?RGBE\n"},
    {KIND_PIC, "PIC", 0, 4, "\x53\x80\xf6\x34"},
    {KIND_REFUSED, "WebP", 8, 4, "WEBP"},
    {KIND_REFUSED, "AVIF", 4, 8, "ftypavif"},
    {KIND_REFUSED, "AVIF", 4, 8, "ftypavis"},
    {KIND_REFUSED, "HEIC", 4, 7, "ftyphei"},
    {KIND_REFUSED, "HEIC", 4, 7, "ftyphev"},
    {KIND_REFUSED, "HEIF", 4, 8, "ftypmif1"},
    {KIND_REFUSED, "HEIF", 4, 8, "ftypmsf1"},
    {KIND_REFUSED, "MP4 or QuickTime", 4, 4, "ftyp"},
    {KIND_REFUSED, "JPEG XL", 0, 2, "\xff\x0a"},
    {KIND_REFUSED, "JPEG XL", 4, 8, "JXL \r\n\x87\n"},
    {KIND_REFUSED, "JPEG 2000", 4, 8, "jP  \r\n\x87\n"},
    {KIND_REFUSED, "JPEG 2000", 0, 4, "\xff\x4f\xff\x51"},
    {KIND_REFUSED, "TIFF", 0, 4, "II*\0"},
    {KIND_REFUSED, "TIFF", 0, 4, "MM\0*"},
    {KIND_REFUSED, "TIFF", 0, 4, "II+\0"},
    {KIND_REFUSED, "TIFF", 0, 4, "MM\0+"},
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

static format find_format(const byte_reader *in) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const format *f = &formats[i];
        if (in->n_bytes >= f->offset + f->n_bytes && memcmp(in->bytes + f->offset, f->magic, f->n_bytes) == 0)
            return *f;
    }
    const uint8_t *b = in->bytes;
    if (in->n_bytes >= 26 && memcmp(b, "BM", 2) == 0)
        return (format){.kind = KIND_BMP, .name = "BMP"};
    if (in->n_bytes >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '7' && (b[2] == '#' || (b[2] && b[2] <= ' ')))
        return (format){.kind = KIND_PNM, .name = "PNM"};
    if (is_text_with(in, "<svg"))
        return (format){.kind = KIND_REFUSED, .name = "SVG"};
    if (is_text_with(in, "<html") || is_text_with(in, "<!DOCTYPE html") || is_text_with(in, "<!doctype html"))
        return (format){.kind = KIND_REFUSED, .name = "HTML"};
    if (in->n_bytes >= 6 && b[0] == 0 && b[1] == 0 && (b[2] == 1 || b[2] == 2) && b[3] == 0 && b[4] + b[5] > 0)
        return (format){.kind = KIND_REFUSED, .name = "ICO"};
    if (tga_plausible(*in))
        return (format){.kind = KIND_TGA, .name = "TGA"};
    return (format){.kind = KIND_UNKNOWN};
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
        "%zu bytes that begin with%s are no picture in a known format (JPEG, PNG, BMP, GIF, TGA, PSD, HDR, PIC, PNM)",
        in->n_bytes, text);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static trol_status decode(byte_reader in, trol_image *image, trol_error *error) {
    format f = find_format(&in);
    const uint8_t *bytes = in.bytes;
    size_t n_bytes = in.n_bytes;
    uint8_t *plain = NULL;
    switch (f.kind) {
    case KIND_GIF:
        return gif_decode(in, image, error);
    case KIND_BMP:
        return bmp_decode(in, image, error);
    case KIND_PNM:
        return pnm_decode(in, image, error);
    case KIND_PSD:
        return psd_decode(in, image, error);
    case KIND_JPEG:
        TRY(jpeg_check(in, &image->width, &image->height, error));
        image->orientation = exif_orientation_jpeg(in);
        break;
    case KIND_PNG:
        TRY(png_check(in, &image->width, &image->height, &plain, &n_bytes, error));
        image->orientation = exif_orientation_png(in);
        bytes = plain;
        break;
    case KIND_TGA:
        TRY(tga_check(in, &image->width, &image->height, error));
        break;
    case KIND_HDR:
        TRY(hdr_check(in, &image->width, &image->height, error));
        break;
    case KIND_PIC:
        TRY(pic_check(in, &image->width, &image->height, error));
        break;
    case KIND_REFUSED:
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the file is in %s format, which is not supported; convert it to PNG or JPEG", f.name);
    case KIND_UNKNOWN:
        return fail_unknown(&in, error);
    }
    trol_status status = stb_decode(f.name, bytes, n_bytes, image->width, image->height, &image->pixels, error);
    memory_free(plain);
    return status;
}

static trol_status image_new(trol_image **image, trol_error *error) {
    TRY(memory_alloc_zero(1, sizeof **image, "a picture", (void **)image, error));
    (*image)->orientation = 1;
    return TROL_OK;
}

trol_status trol_image_load_memory(const void *bytes, size_t n_bytes, trol_image **image, trol_error *error) {
    if (!image)
        return fail(error, TROL_ERROR_ARGUMENT, "the place for the image is NULL");
    *image = NULL;
    if (!bytes && n_bytes)
        return fail(error, TROL_ERROR_ARGUMENT, "the picture's bytes are NULL");
    if (n_bytes == 0)
        return fail(error, TROL_ERROR_FORMAT, "the picture has 0 bytes");
    if (n_bytes > MAX_FILE_BYTES)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the picture has %zu bytes; at most %d are supported", n_bytes,
                    (int)MAX_FILE_BYTES);
    trol_image *decoded;
    TRY(image_new(&decoded, error));
    trol_status status = decode((byte_reader){bytes, n_bytes, 0, false}, decoded, error);
    if (status == TROL_OK)
        *image = decoded;
    else
        trol_image_free(decoded);
    return status;
}

trol_status trol_image_load_file(const char *path, trol_image **image, trol_error *error) {
    if (!image)
        return fail(error, TROL_ERROR_ARGUMENT, "the place for the image is NULL");
    *image = NULL;
    if (!path)
        return fail(error, TROL_ERROR_ARGUMENT, "the picture's path is NULL");
    char *bytes;
    size_t n_bytes;
    TRY(file_read(path, MAX_FILE_BYTES, &bytes, &n_bytes, error));
    trol_status status = trol_image_load_memory(bytes, n_bytes, image, error);
    memory_free(bytes);
    return status == TROL_OK ? TROL_OK : fail_prefix(error, status, path);
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
        return fail(error, TROL_ERROR_ARGUMENT, "rows of %d pixels are %zu bytes apart; at least %zu are needed", width,
                    stride, row);
    trol_image *copy;
    TRY(image_new(&copy, error));
    trol_status status = image_alloc("picture", width, height, copy, error);
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

/* Where pixel (0, 0) of the upright picture lies in the stored one, and how far one step in the upright picture's x and
 * y goes there, in pixels. */
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
                                     on_its_side ? image->width : image->height, turned, error);
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
