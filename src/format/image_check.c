/* image_check.c - the checks of TGA, HDR and PIC files, which stb_image decodes, and of sizes. */
#include "format/image_formats.h"

#include "base/memory.h"

trol_status fail_cut_short(const char *format, int64_t width, int64_t height, trol_error *error) {
    if (width < 1 || height < 1)
        return fail(error, TROL_ERROR_FORMAT, "the %s is cut short: it ends within its header", format);
    return fail(error, TROL_ERROR_FORMAT, "the %s is cut short: it ends before all of its %lld x %lld pixels", format,
                (long long)width, (long long)height);
}

trol_status image_check_size(const char *format, int64_t width, int64_t height, trol_error *error) {
    if (width < 1 || height < 1)
        return fail(error, TROL_ERROR_FORMAT, "the %s says that it has %lld x %lld pixels", format, (long long)width,
                    (long long)height);
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE || width * height > IMAGE_MAX_PIXELS)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the %s has %lld x %lld pixels; at most %lld pixels and %d on a side are supported", format,
                    (long long)width, (long long)height, (long long)IMAGE_MAX_PIXELS, (int)IMAGE_MAX_SIDE);
    return TROL_OK;
}

trol_status image_alloc(const char *format, int64_t width, int64_t height, trol_image *image, trol_error *error) {
    TRY(image_check_size(format, width, height, error));
    TRY(memory_alloc((size_t)width * (size_t)height, 3, "a picture", (void **)&image->pixels, error));
    image->width = (int32_t)width;
    image->height = (int32_t)height;
    return TROL_OK;
}

/* ---- TGA ------------------------------------------------------------------------------------- */

typedef struct tga {
    int id_bytes, has_palette, kind, palette_first, palette_length, palette_bits, width, height, bits, descriptor;
} tga;

enum { TGA_RUN_LENGTH = 8, TGA_PALETTE = 1, TGA_RGB = 2, TGA_GREY = 3, TGA_HEADER_BYTES = 18 };

static tga read_tga_header(byte_reader *in) {
    tga t;
    t.id_bytes = read_u8(in);
    t.has_palette = read_u8(in);
    t.kind = read_u8(in);
    t.palette_first = read_u16_little(in);
    t.palette_length = read_u16_little(in);
    t.palette_bits = read_u8(in);
    skip_bytes(in, 4); /* origin */
    t.width = read_u16_little(in);
    t.height = read_u16_little(in);
    t.bits = read_u8(in);
    t.descriptor = read_u8(in);
    return t;
}

bool tga_plausible(byte_reader in) {
    tga t = read_tga_header(&in);
    if (in.past_end || t.width < 1 || t.height < 1 || t.descriptor & 0xc0)
        return false;
    switch (t.kind & ~TGA_RUN_LENGTH) {
    case TGA_PALETTE:
        return t.has_palette == 1 && t.palette_first == 0 && t.palette_length > 0 && (t.bits == 8 || t.bits == 16) &&
               (t.palette_bits == 15 || t.palette_bits == 16 || t.palette_bits == 24 || t.palette_bits == 32);
    case TGA_RGB:
        return t.has_palette == 0 && t.palette_first == 0 && t.palette_length == 0 &&
               (t.bits == 15 || t.bits == 16 || t.bits == 24 || t.bits == 32);
    case TGA_GREY:
        return t.has_palette == 0 && t.palette_first == 0 && t.palette_length == 0 && (t.bits == 8 || t.bits == 16);
    default:
        return false;
    }
}

trol_status tga_check(byte_reader in, int32_t *width, int32_t *height, trol_error *error) {
    tga t = read_tga_header(&in);
    *width = t.width;
    *height = t.height;
    TRY(image_check_size("TGA", t.width, t.height, error));
    if (t.descriptor & 0x10)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the TGA is stored from right to left, which is not supported");
    skip_bytes(&in, (uint64_t)t.id_bytes + (uint64_t)t.palette_length * (uint64_t)((t.palette_bits + 7) / 8));
    uint64_t pixel_bytes = (uint64_t)(t.bits + 7) / 8, left = (uint64_t)t.width * (uint64_t)t.height;
    if (!(t.kind & TGA_RUN_LENGTH))
        skip_bytes(&in, left * pixel_bytes);
    else
        while (left > 0 && !in.past_end) { /* a count; then that many pixels, or one to repeat */
            int packet = read_u8(&in);
            uint64_t count = (uint64_t)(packet & 127) + 1;
            skip_bytes(&in, packet & 128 ? pixel_bytes : (count < left ? count : left) * pixel_bytes);
            left -= count < left ? count : left;
        }
    return in.past_end ? fail_cut_short("TGA", t.width, t.height, error) : TROL_OK;
}

/* ---- HDR (Radiance) -------------------------------------------------------------------------- */

/* Reads a line of the header, its end left out, cut to fit. */
static void read_line(byte_reader *in, char *line, size_t room) {
    size_t n = 0;
    for (uint8_t c; (c = read_u8(in)) != '\n' && !in->past_end;)
        if (n + 1 < room)
            line[n++] = (char)c;
    line[n] = '\0';
}

/* A decimal number at *text, which moves behind it; -1: none, or longer than 6 digits. */
static int64_t take_number(const char **text) {
    int64_t number = -1;
    for (int digits = 0; **text >= '0' && **text <= '9'; (*text)++, digits++) {
        if (digits == 6)
            return -1;
        number = (number < 0 ? 0 : number * 10) + (**text - '0');
    }
    return number;
}

static trol_status read_hdr_header(byte_reader *in, int64_t *width, int64_t *height, trol_error *error) {
    char line[128];
    bool known = false;
    do {
        read_line(in, line, sizeof line);
        known = known || strcmp(line, "FORMAT=32-bit_rle_rgbe") == 0;
    } while (line[0] && !in->past_end);
    read_line(in, line, sizeof line);
    if (in->past_end)
        return fail_cut_short("HDR", 0, 0, error);
    const char *text = line + 3;
    if (known && strncmp(line, "-Y ", 3) == 0) {
        *height = take_number(&text);
        if (*height >= 0 && strncmp(text, " +X ", 4) == 0) {
            text += 4;
            *width = take_number(&text);
            if (*width >= 0 && *text == '\0')
                return TROL_OK;
        }
    }
    return fail(error, TROL_ERROR_UNSUPPORTED,
                "the HDR is not 32-bit_rle_rgbe with its rows from the top (-Y height +X width)");
}

/* One run-length coded row: four channels, each `width` bytes when unpacked. */
static bool walk_hdr_row(byte_reader *in, int64_t width) {
    if (read_u8(in) != 2 || read_u8(in) != 2 || read_u16_big(in) != width)
        return false;
    for (int channel = 0; channel < 4; channel++)
        for (int64_t left = width; left > 0;) {
            int count = read_u8(in);
            bool repeats = count > 128;
            count -= repeats ? 128 : 0;
            if (count == 0 || count > left)
                return false;
            skip_bytes(in, repeats ? 1 : (uint64_t)count);
            left -= count;
        }
    return true;
}

trol_status hdr_check(byte_reader in, int32_t *width, int32_t *height, trol_error *error) {
    int64_t w = 0, h = 0;
    TRY(read_hdr_header(&in, &w, &h, error));
    TRY(image_check_size("HDR", w, h, error));
    *width = (int32_t)w;
    *height = (int32_t)h;
    bool packed = w >= 8 && w < 32768 && starts_with(&in, "\x02\x02", 2) && bytes_left(&in) > 2 &&
                  in.bytes[in.position + 2] < 128;
    if (!packed)
        skip_bytes(&in, (uint64_t)(w * h) * 4);
    for (int64_t y = 0; packed && y < h; y++)
        if (!walk_hdr_row(&in, w) && !in.past_end)
            return fail(error, TROL_ERROR_FORMAT,
                        "the HDR is damaged: row %lld is not run-length coded as it should be", (long long)y);
    return in.past_end ? fail_cut_short("HDR", w, h, error) : TROL_OK;
}

/* ---- PIC (Softimage) ------------------------------------------------------------------------- */

trol_status pic_check(byte_reader in, int32_t *width, int32_t *height, trol_error *error) {
    skip_bytes(&in, 92);
    *width = read_u16_big(&in);
    *height = read_u16_big(&in);
    if (in.past_end)
        return fail_cut_short("PIC", 0, 0, error);
    return image_check_size("PIC", *width, *height, error); /* stb_image notices where the data end */
}
