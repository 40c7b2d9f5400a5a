/* image_simple.c - BMP, PNM and TGA. */
#include "format/image_formats.h"

#include <math.h>

/* ---- BMP: 1, 4, 8, 16, 24 and 32 bits, uncompressed or with bit fields ----------------------- */

typedef struct bmp {
    byte_reader in;
    int64_t width, height; /* negative height: rows from top to bottom */
    uint32_t header_bytes, data_offset, compression, n_colors;
    int bits;
    uint32_t masks[3]; /* of red, green and blue in a pixel of 16 or 32 bits */
    uint8_t palette[256][3];
} bmp;

enum { BMP_UNCOMPRESSED = 0, BMP_RLE8 = 1, BMP_RLE4 = 2, BMP_BIT_FIELDS = 3, BMP_ALPHA_BIT_FIELDS = 6 };

static trol_status read_bmp_header(bmp *b, int64_t max_pixels, trol_error *error) {
    byte_reader *in = &b->in;
    skip_bytes(in, 10); /* "BM", size of the file, reserved */
    b->data_offset = read_u32_little(in);
    b->header_bytes = read_u32_little(in);
    bool old = b->header_bytes == 12;
    b->width = old ? read_u16_little(in) : (int32_t)read_u32_little(in);
    b->height = old ? read_u16_little(in) : (int32_t)read_u32_little(in);
    skip_bytes(in, 2); /* planes */
    b->bits = read_u16_little(in);
    if (!old) {
        b->compression = read_u32_little(in);
        skip_bytes(in, 12); /* size of the data, resolution */
        b->n_colors = read_u32_little(in);
        skip_bytes(in, 4);
    }
    if (b->compression == BMP_BIT_FIELDS || b->compression == BMP_ALPHA_BIT_FIELDS)
        for (int i = 0; i < 3; i++)
            b->masks[i] = read_u32_little(in); /* in the longer headers, after the shortest */
    else
        for (int i = 0; i < 3; i++)
            b->masks[i] = b->bits == 16 ? 0x7c00u >> 5 * i : 0xff0000u >> 8 * i;
    if (in->past_end)
        return fail_cut_short("BMP", 0, 0, error);
    if ((!old && b->header_bytes < 40) || b->header_bytes > 124)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the BMP has a header of %u bytes, a kind that is not supported",
                    (unsigned)b->header_bytes);
    TRY(image_check_size("BMP", b->width, b->height < 0 ? -b->height : b->height, max_pixels, error));
    if (b->compression == BMP_RLE8 || b->compression == BMP_RLE4)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the BMP is run-length coded, which is not supported");
    bool fields = b->compression == BMP_BIT_FIELDS || b->compression == BMP_ALPHA_BIT_FIELDS;
    static const int depths[] = {1, 4, 8, 16, 24, 32};
    for (int i = 0; i < 6; i++)
        if (b->bits == depths[i] && (b->compression == BMP_UNCOMPRESSED || (fields && (b->bits & 15) == 0)))
            return TROL_OK;
    return fail(error, TROL_ERROR_UNSUPPORTED, "the BMP has %d bits a pixel in coding %u, which is not supported",
                b->bits, (unsigned)b->compression);
}

static trol_status read_bmp_palette(bmp *b, trol_error *error) {
    if (b->bits > 8)
        return TROL_OK;
    uint32_t colors = b->n_colors && b->n_colors < 1u << b->bits ? b->n_colors : 1u << b->bits;
    uint32_t entry_bytes = b->header_bytes == 12 ? 3 : 4;
    b->in.position = 0;
    skip_bytes(&b->in, 14 + (uint64_t)b->header_bytes);
    for (uint32_t i = 0; i < colors && b->in.position + entry_bytes <= b->data_offset; i++) {
        for (int k = 2; k >= 0; k--)
            b->palette[i][k] = read_u8(&b->in);
        skip_bytes(&b->in, entry_bytes - 3);
    }
    return b->in.past_end ? fail_cut_short("BMP", b->width, b->height, error) : TROL_OK;
}

/* The bits of `pixel` under `mask`, stretched to 0 .. 255. */
static uint8_t bit_field(uint32_t pixel, uint32_t mask) {
    if (mask == 0)
        return 0;
    int shift = __builtin_ctz(mask);
    uint64_t largest = mask >> shift;
    return (uint8_t)((uint64_t)((pixel & mask) >> shift) * 255 / largest);
}

static void decode_bmp_row(const bmp *b, const uint8_t *row, uint8_t *out) {
    for (int64_t x = 0; x < b->width; x++, out += 3) {
        if (b->bits <= 8) {
            int64_t bit = x * b->bits;
            int index = row[bit / 8] >> (8 - b->bits - bit % 8) & ((1 << b->bits) - 1);
            memcpy(out, b->palette[index], 3);
        } else if (b->bits == 24) {
            for (int k = 0; k < 3; k++)
                out[k] = row[3 * x + 2 - k];
        } else {
            const uint8_t *bytes = row + x * b->bits / 8;
            uint32_t pixel = (uint32_t)(bytes[0] | bytes[1] << 8);
            if (b->bits == 32)
                pixel |= (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
            for (int k = 0; k < 3; k++)
                out[k] = bit_field(pixel, b->masks[k]);
        }
    }
}

trol_status bmp_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    bmp b = {.in = in};
    TRY(read_bmp_header(&b, settings->max_pixels, error));
    TRY(read_bmp_palette(&b, error));
    int64_t height = b.height < 0 ? -b.height : b.height, stride = (b.width * b.bits + 31) / 32 * 4;
    int64_t last_row = (b.width * b.bits + 7) / 8; /* without padding */
    if (b.data_offset > in.n_bytes || (int64_t)(in.n_bytes - b.data_offset) < stride * (height - 1) + last_row)
        return fail_cut_short("BMP", b.width, height, error);
    TRY(image_alloc("BMP", b.width, height, settings->max_pixels, image, error));
    for (int64_t y = 0; y < height; y++) {
        int64_t from = b.height < 0 ? y : height - 1 - y;
        decode_bmp_row(&b, in.bytes + b.data_offset + from * stride, image->pixels + 3 * y * b.width);
    }
    return TROL_OK;
}

/* ---- PNM: black and white, grey and colour, as text (P1 to P3) or bytes (P4 to P6) ------------ */

/* Skips white space and comments; the character after them. */
static uint8_t skip_pnm_space(byte_reader *in) {
    bool comment = false;
    for (;;) {
        uint8_t c = read_u8(in);
        if (c == '#')
            comment = true;
        else if (c == '\n' || c == '\r')
            comment = false;
        else if (in->past_end || !(comment || c == ' ' || (c >= '\t' && c <= '\r')))
            return c;
    }
}

/* A number and the one character after it; -1: none. */
static int64_t read_pnm_number(byte_reader *in) {
    uint8_t c = skip_pnm_space(in);
    if (c < '0' || c > '9')
        return -1;
    int64_t number = 0;
    for (; c >= '0' && c <= '9'; c = read_u8(in))
        if (number < INT32_MAX)
            number = 10 * number + (c - '0');
    return number;
}

/* A digit 0 or 1, which needs no white space around it; -1: anything else. */
static int64_t read_pnm_bit(byte_reader *in) {
    uint8_t c = skip_pnm_space(in);
    return c == '0' || c == '1' ? c - '0' : -1;
}

/* value of maximum as 0 .. 255, rounded half to even, in Pillow's order of operations. */
static uint8_t scale_to_byte(int64_t value, int64_t maximum) {
    return value >= maximum ? 255 : (uint8_t)nearbyint((double)value / (double)maximum * 255);
}

typedef struct pnm {
    byte_reader in;
    char kind;
    int64_t width, height, maximum;
    size_t n_channels;
} pnm;

static trol_status read_pnm_header(pnm *p, trol_error *error) {
    p->kind = (char)p->in.bytes[1];
    if (p->kind == '7')
        return fail(error, TROL_ERROR_UNSUPPORTED, "the picture is a PNM of kind P7; only P1 to P6 are supported");
    skip_bytes(&p->in, 2);
    bool bits = p->kind == '1' || p->kind == '4';
    p->n_channels = p->kind == '3' || p->kind == '6' ? 3 : 1;
    p->width = read_pnm_number(&p->in);
    p->height = read_pnm_number(&p->in);
    p->maximum = bits ? 1 : read_pnm_number(&p->in);
    if (p->in.past_end)
        return fail_cut_short("PNM", 0, 0, error);
    if (p->width < 0 || p->height < 0 || p->maximum < 1 || p->maximum > 65535)
        return fail(error, TROL_ERROR_FORMAT, "the PNM is damaged: its header has no width, height%s",
                    bits ? "" : " and maximum up to 65535");
    return TROL_OK;
}

/* The bytes that the samples take at least: as text, a digit each and a separator. */
static size_t least_pnm_bytes(const pnm *p) {
    size_t width = (size_t)p->width, height = (size_t)p->height, n_samples = width * height * p->n_channels;
    switch (p->kind) {
    case '1':
        return n_samples;
    case '2':
    case '3':
        return 2 * n_samples - 1;
    case '4':
        return (width + 7) / 8 * height;
    default:
        return n_samples * (p->maximum > 255 ? 2 : 1);
    }
}

/* Sample i of the image, from 0 to p->maximum; -1: none. */
static int64_t read_pnm_sample(pnm *p, size_t i) {
    switch (p->kind) {
    case '1': {
        int64_t black = read_pnm_bit(&p->in);
        return black < 0 ? -1 : !black;
    }
    case '2':
    case '3':
        return read_pnm_number(&p->in);
    case '4': {
        size_t bit = i % (size_t)p->width % 8;
        if (bit)
            p->in.position--; /* the same byte again */
        return !(read_u8(&p->in) >> (7 - bit) & 1);
    }
    default:
        return p->maximum > 255 ? read_u16_big(&p->in) : read_u8(&p->in);
    }
}

trol_status pnm_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    pnm p = {.in = in};
    TRY(read_pnm_header(&p, error));
    TRY(image_check_size("PNM", p.width, p.height, settings->max_pixels, error));
    if (bytes_left(&p.in) < least_pnm_bytes(&p))
        return fail_cut_short("PNM", p.width, p.height, error);
    TRY(image_alloc("PNM", p.width, p.height, settings->max_pixels, image, error));
    bool text = p.kind < '4';
    size_t n_samples = (size_t)p.width * (size_t)p.height * p.n_channels;
    for (size_t i = 0; i < n_samples; i++) {
        int64_t value = read_pnm_sample(&p, i);
        /* A number may end at the end of the file. */
        if (value < 0 && p.in.past_end)
            return fail_cut_short("PNM", p.width, p.height, error);
        if (value < 0 || (text && value > p.maximum))
            return fail(error, TROL_ERROR_FORMAT, "the PNM is damaged: sample %zu is not a number from 0 to %lld",
                        i + 1, (long long)p.maximum);
        uint8_t byte = p.maximum == 255 ? (uint8_t)value : scale_to_byte(value, p.maximum);
        if (p.n_channels == 3)
            image->pixels[i] = byte;
        else
            memset(image->pixels + 3 * i, byte, 3);
    }
    return TROL_OK;
}

/* ---- TGA ------------------------------------------------------------------------------------- */

typedef struct tga {
    byte_reader in;
    int id_bytes, has_palette, kind, palette_first, palette_length, palette_bits, width, height, bits, descriptor;
    uint8_t palette[256][3];
} tga;

enum { TGA_RUN_LENGTH = 8, TGA_PALETTE = 1, TGA_RGB = 2, TGA_GREY = 3 };
enum { TGA_FROM_RIGHT = 0x10, TGA_FROM_TOP = 0x20, TGA_INTERLEAVED = 0xc0 };

static tga read_tga_header(byte_reader in) {
    tga t = {.in = in};
    t.id_bytes = read_u8(&t.in);
    t.has_palette = read_u8(&t.in);
    t.kind = read_u8(&t.in);
    t.palette_first = read_u16_little(&t.in);
    t.palette_length = read_u16_little(&t.in);
    t.palette_bits = read_u8(&t.in);
    skip_bytes(&t.in, 4); /* origin */
    t.width = read_u16_little(&t.in);
    t.height = read_u16_little(&t.in);
    t.bits = read_u8(&t.in);
    t.descriptor = read_u8(&t.in);
    return t;
}

bool tga_plausible(byte_reader in) {
    tga t = read_tga_header(in);
    if (t.in.past_end || t.width < 1 || t.height < 1 || t.descriptor & TGA_INTERLEAVED)
        return false;
    switch (t.kind & ~TGA_RUN_LENGTH) {
    case TGA_PALETTE:
        return t.has_palette == 1 && t.palette_length > 0 && t.palette_first + t.palette_length <= 256 && t.bits == 8 &&
               (t.palette_bits == 16 || t.palette_bits == 24 || t.palette_bits == 32);
    case TGA_RGB:
        return t.has_palette == 0 && t.palette_first == 0 && t.palette_length == 0 &&
               (t.bits == 16 || t.bits == 24 || t.bits == 32);
    case TGA_GREY:
        return t.has_palette == 0 && t.palette_first == 0 && t.palette_length == 0 &&
               (t.bits == 8 || t.bits == 16 || (t.bits == 1 && t.kind == TGA_GREY));
    default:
        return false;
    }
}

/* A colour of 16 bits (5 for each channel, blue lowest), 24 or 32 (blue, green, red, alpha). */
static void read_tga_color(byte_reader *in, int bits, uint8_t *rgb) {
    if (bits == 16) {
        unsigned color = read_u16_little(in);
        for (int k = 0; k < 3; k++)
            rgb[k] = (uint8_t)((color >> (10 - 5 * k) & 31) * 255 / 31);
        return;
    }
    for (int k = 2; k >= 0; k--)
        rgb[k] = read_u8(in);
    skip_bytes(in, bits == 32);
}

/* Pixel i of the file. */
static void read_tga_pixel(tga *t, int64_t i, uint8_t *rgb) {
    int64_t bit = i % t->width % 8;
    switch (t->kind & ~TGA_RUN_LENGTH) {
    case TGA_PALETTE:
        memcpy(rgb, t->palette[read_u8(&t->in)], 3);
        break;
    case TGA_GREY:
        if (t->bits == 1) { /* rows of whole bytes, first pixel highest */
            if (bit)
                t->in.position--; /* the same byte again */
            memset(rgb, read_u8(&t->in) >> (7 - bit) & 1 ? 255 : 0, 3);
            break;
        }
        memset(rgb, read_u8(&t->in), 3);
        skip_bytes(&t->in, t->bits == 16); /* alpha */
        break;
    default:
        read_tga_color(&t->in, t->bits, rgb);
    }
}

/* The palette; as in Pillow, entries that the file does not give are grey of their own level, and those before its
 * first are black. */
static void read_tga_palette(tga *t) {
    for (int i = 0; i < 256; i++)
        memset(t->palette[i], i < t->palette_first ? 0 : i, 3);
    for (int i = 0; i < t->palette_length; i++)
        read_tga_color(&t->in, t->palette_bits, t->palette[t->palette_first + i]);
}

static uint8_t *tga_place(const tga *t, const trol_image *image, int64_t i) {
    int64_t x = i % t->width, y = i / t->width;
    if (t->descriptor & TGA_FROM_RIGHT)
        x = t->width - 1 - x;
    if (!(t->descriptor & TGA_FROM_TOP))
        y = t->height - 1 - y;
    return image->pixels + 3 * (y * t->width + x);
}

/* The bytes that the pixels take at least: run-length coded, one packet for each 128. */
static int64_t least_tga_bytes(const tga *t) {
    int64_t n_pixels = (int64_t)t->width * t->height, pixel_bytes = t->bits / 8;
    if (t->bits == 1)
        return ((int64_t)t->width + 7) / 8 * t->height;
    return t->kind & TGA_RUN_LENGTH ? (n_pixels + 127) / 128 * (1 + pixel_bytes) : n_pixels * pixel_bytes;
}

trol_status tga_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    tga t = read_tga_header(in);
    TRY(image_check_size("TGA", t.width, t.height, settings->max_pixels, error));
    skip_bytes(&t.in, (uint64_t)t.id_bytes);
    if (t.has_palette)
        read_tga_palette(&t);
    if ((int64_t)bytes_left(&t.in) < least_tga_bytes(&t))
        return fail_cut_short("TGA", t.width, t.height, error);
    TRY(image_alloc("TGA", t.width, t.height, settings->max_pixels, image, error));
    int64_t n_pixels = (int64_t)t.width * t.height;
    for (int64_t i = 0; i < n_pixels && !t.in.past_end;) {
        /* A count; then that many pixels, or one to repeat. */
        int packet = t.kind & TGA_RUN_LENGTH ? read_u8(&t.in) : 127;
        uint8_t rgb[3];
        for (int k = 0; k <= (packet & 127) && i < n_pixels; k++, i++) {
            if (k == 0 || !(packet & 128))
                read_tga_pixel(&t, i, rgb);
            memcpy(tga_place(&t, image, i), rgb, 3);
        }
    }
    return t.in.past_end ? fail_cut_short("TGA", t.width, t.height, error) : TROL_OK;
}
