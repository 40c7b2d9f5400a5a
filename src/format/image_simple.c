/* image_simple.c - BMP, PNM and PSD, decoded on the spot. */
#include "format/image_formats.h"

#include "base/memory.h"

/* ---- BMP: 1, 4, 8, 16, 24 and 32 bits, uncompressed or with bit fields ----------------------- */

typedef struct bmp {
    byte_reader in;
    int64_t width, height; /* height below 0: the rows come from the top */
    uint32_t header_bytes, data_offset, compression, n_colors;
    int bits;
    uint32_t masks[3]; /* of red, green and blue in a pixel of 16 or 32 bits */
    uint8_t palette[256][3];
} bmp;

enum { BMP_UNCOMPRESSED = 0, BMP_RLE8 = 1, BMP_RLE4 = 2, BMP_BIT_FIELDS = 3, BMP_ALPHA_BIT_FIELDS = 6 };

static trol_status read_bmp_header(bmp *b, trol_error *error) {
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
            b->masks[i] = read_u32_little(in); /* inside the longer headers, behind the shortest */
    else
        for (int i = 0; i < 3; i++)
            b->masks[i] = b->bits == 16 ? 0x7c00u >> 5 * i : 0xff0000u >> 8 * i;
    if (in->past_end)
        return fail_cut_short("BMP", 0, 0, error);
    if ((!old && b->header_bytes < 40) || b->header_bytes > 124)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the BMP has a header of %u bytes, a kind that is not supported",
                    (unsigned)b->header_bytes);
    TRY(image_check_size("BMP", b->width, b->height < 0 ? -b->height : b->height, error));
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

trol_status bmp_decode(byte_reader in, trol_image *image, trol_error *error) {
    bmp b = {.in = in};
    TRY(read_bmp_header(&b, error));
    TRY(read_bmp_palette(&b, error));
    int64_t height = b.height < 0 ? -b.height : b.height, stride = (b.width * b.bits + 31) / 32 * 4;
    if (b.data_offset > in.n_bytes || (int64_t)(in.n_bytes - b.data_offset) < stride * height)
        return fail_cut_short("BMP", b.width, height, error);
    TRY(image_alloc("BMP", b.width, height, image, error));
    for (int64_t y = 0; y < height; y++) {
        int64_t from = b.height < 0 ? y : height - 1 - y;
        decode_bmp_row(&b, in.bytes + b.data_offset + from * stride, image->pixels + 3 * y * b.width);
    }
    return TROL_OK;
}

/* ---- PNM: binary grey (P5) and colour (P6) --------------------------------------------------- */

/* A number of the header, white space and comments before it passed over; -1: there is none. */
static int64_t read_pnm_number(byte_reader *in) {
    uint8_t c = read_u8(in);
    while (!in->past_end && (c == '#' || c == ' ' || (c >= '\t' && c <= '\r'))) {
        if (c == '#')
            while (!in->past_end && c != '\n' && c != '\r')
                c = read_u8(in);
        else
            c = read_u8(in);
    }
    if (c < '0' || c > '9')
        return -1;
    int64_t number = 0;
    for (; c >= '0' && c <= '9'; c = read_u8(in))
        if (number < INT32_MAX)
            number = 10 * number + (c - '0');
    return number; /* the one character behind it is passed */
}

/* value of maximum as 0 .. 255, rounded half to even, as Pillow does. */
static uint8_t scale_to_byte(uint32_t value, uint32_t maximum) {
    if (value >= maximum)
        return 255;
    uint32_t whole = value * 255 / maximum, rest = value * 255 % maximum;
    return (uint8_t)(whole + (2 * rest > maximum || (2 * rest == maximum && (whole & 1))));
}

trol_status pnm_decode(byte_reader in, trol_image *image, trol_error *error) {
    char kind = (char)in.bytes[1];
    if (kind != '5' && kind != '6')
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the picture is a PNM of kind P%c; only P5 and P6 (binary grey and colour) are supported", kind);
    skip_bytes(&in, 2);
    int64_t width = read_pnm_number(&in), height = read_pnm_number(&in), maximum = read_pnm_number(&in);
    if (in.past_end)
        return fail_cut_short("PNM", 0, 0, error);
    if (width < 0 || height < 0 || maximum < 1 || maximum > 65535)
        return fail(error, TROL_ERROR_FORMAT,
                    "the PNM is damaged: its header has no width, height and maximum up to 65535");
    TRY(image_check_size("PNM", width, height, error));
    size_t channels = kind == '6' ? 3 : 1, n_samples = (size_t)width * (size_t)height * channels;
    if (bytes_left(&in) < n_samples * (maximum > 255 ? 2 : 1))
        return fail_cut_short("PNM", width, height, error);
    TRY(image_alloc("PNM", width, height, image, error));
    for (size_t i = 0; i < n_samples; i++) {
        uint32_t value = maximum > 255 ? read_u16_big(&in) : read_u8(&in);
        uint8_t byte = maximum == 255 ? (uint8_t)value : scale_to_byte(value, (uint32_t)maximum);
        if (channels == 3)
            image->pixels[i] = byte;
        else
            memset(image->pixels + 3 * i, byte, 3);
    }
    return TROL_OK;
}

/* ---- PSD: the merged picture, RGB of 8 or 16 bits -------------------------------------------- */

/* Reads one channel: n_samples of `bytes` bytes each, the high byte first, of which it is taken. */
static void read_psd_channel(byte_reader *in, bool packed, size_t n_samples, size_t bytes, uint8_t *out) {
    size_t n_bytes = n_samples * bytes, run = 0;
    bool repeats = false;
    uint8_t value = 0;
    for (size_t i = 0; i < n_bytes && !in->past_end; i++) {
        while (packed && run == 0 && !in->past_end) { /* PackBits: a count, then that many bytes or one to repeat */
            int count = read_u8(in);
            if (count == 128)
                continue;
            repeats = count > 128;
            run = (size_t)(repeats ? 257 - count : count + 1);
            if (repeats)
                value = read_u8(in);
        }
        if (!repeats)
            value = read_u8(in);
        run -= packed;
        if (i % bytes == 0)
            out[3 * (i / bytes)] = value;
    }
}

trol_status psd_decode(byte_reader in, trol_image *image, trol_error *error) {
    skip_bytes(&in, 4); /* "8BPS" */
    int version = read_u16_big(&in);
    skip_bytes(&in, 6);
    int channels = read_u16_big(&in);
    int64_t height = read_u32_big(&in), width = read_u32_big(&in);
    int depth = read_u16_big(&in), mode = read_u16_big(&in);
    for (int i = 0; i < 3; i++) /* palette, resources, layers */
        skip_bytes(&in, read_u32_big(&in));
    int coding = read_u16_big(&in);
    if (in.past_end)
        return fail_cut_short("PSD", 0, 0, error);
    if (version != 1 || mode != 3 || channels < 3 || (depth != 8 && depth != 16) || coding > 1)
        return fail(
            error, TROL_ERROR_UNSUPPORTED,
            "the PSD is of version %d, mode %d, %d channels, %d bits, coding %d; only version 1, mode 3 (RGB), 8 or 16 "
            "bits, coding 0 or 1 are supported",
            version, mode, channels, depth, coding);
    TRY(image_check_size("PSD", width, height, error));
    size_t n_pixels = (size_t)width * (size_t)height, bytes = (size_t)depth / 8;
    if (coding == 1)
        skip_bytes(&in, (uint64_t)height * (uint64_t)channels * 2); /* how long each row is */
    /* A packed channel takes at least 2 bytes for 128. */
    if (bytes_left(&in) < 3 * (coding ? n_pixels * bytes / 64 : n_pixels * bytes))
        return fail_cut_short("PSD", width, height, error);
    TRY(image_alloc("PSD", width, height, image, error));
    for (size_t k = 0; k < 3; k++)
        read_psd_channel(&in, coding == 1, n_pixels, bytes, image->pixels + k);
    return in.past_end ? fail_cut_short("PSD", width, height, error) : TROL_OK;
}
