/* test-image.c - decoding: every format and kind of pixel, files cut short at every length, files that are inconsistent
 * or damaged, formats that are refused by name, EXIF orientation. Most files are written here, byte by byte. */
#include "format/image.h"

#include "base/memory.h"
#include "files.h"
#include "image_samples.h"
#include "test.h"

/* A file that is being built. */
typedef struct file_bytes {
    uint8_t bytes[8192];
    size_t n;
} file_bytes;

static void put(file_bytes *f, const void *bytes, size_t n) {
    if (n)
        memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
}

static void put_text(file_bytes *f, const char *text) { put(f, text, strlen(text)); }

/* A number of n bytes, the low byte first, or the high byte first where n is below 0. */
static void put_number(file_bytes *f, int n, uint32_t value) {
    for (int i = 0; i < abs(n); i++)
        f->bytes[f->n++] = (uint8_t)((uint64_t)value >> 8 * (n > 0 ? i : -n - 1 - i));
}

static trol_image *load(const char *what, const file_bytes *f) {
    trol_error error = {0};
    trol_image *image = NULL;
    CHECK(trol_image_load_memory(f->bytes, f->n, NULL, &image, &error) == TROL_OK, "%s: %s", what, error.message);
    return image;
}

/* Pixel (x, y) must be rgb (0xrrggbb). */
static void check_pixel(const char *what, const trol_image *image, int x, int y, uint32_t rgb) {
    if (!image || x >= image->width || y >= image->height)
        return;
    const uint8_t *p = trol_image_pixels(image) + 3 * (y * image->width + x);
    uint32_t found = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    CHECK(found == rgb, "%s: pixel (%d, %d) is %06x, not %06x", what, x, y, (unsigned)found, (unsigned)rgb);
}

static void check_refused(const char *what, const uint8_t *bytes, size_t n, trol_status expected, const char *part) {
    trol_error error = {0};
    trol_image *image = (trol_image *)1;
    uint8_t *exact = malloc(n + 1); /* so that a sanitizer sees a read past the end */
    memcpy(exact, bytes, n);
    uint8_t *moved = realloc(exact, n ? n : 1);
    trol_status status = trol_image_load_memory(moved, n, NULL, &image, &error);
    CHECK(status == expected && error.status == status && !image, "%s: status %d, \"%s\"", what, (int)status,
          error.message);
    CHECK(strstr(error.message, part), "%s: \"%s\" lacks \"%s\"", what, error.message, part);
    if (status == TROL_OK)
        trol_image_free(image);
    free(moved);
}

/* All of the file loads; no part of it does, up to the last `spare` bytes. */
static void check_cuts(const char *what, const file_bytes *f, size_t spare) {
    trol_image_free(load(what, f));
    for (size_t n = 0; n + spare < f->n; n++)
        check_refused(what, f->bytes, n, TROL_ERROR_FORMAT, "");
}

/* ---- the files ------------------------------------------------------------------------------- */

static uint32_t crc(const uint8_t *bytes, size_t n) {
    uint32_t sum = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        sum ^= bytes[i];
        for (int k = 0; k < 8; k++)
            sum = sum & 1 ? sum >> 1 ^ 0xedb88320u : sum >> 1;
    }
    return ~sum;
}

static void put_chunk(file_bytes *f, const char *type, const void *bytes, size_t n) {
    put_number(f, -4, (uint32_t)n);
    size_t start = f->n;
    put(f, type, 4);
    put(f, bytes, n);
    put_number(f, -4, crc(f->bytes + start, f->n - start));
}

/* A PNG of the rows given (each with its filter byte), stored without compression. */
static file_bytes make_png(uint32_t width, uint32_t height, int depth, int color, const char *extra_type,
                           const void *extra, size_t n_extra, const void *rows, size_t n_rows) {
    file_bytes f = {.n = 0}, header = {.n = 0}, data = {.n = 0};
    put(&f, "\x89PNG\r\n\x1a\n", 8);
    put_number(&header, -4, width);
    put_number(&header, -4, height);
    uint8_t kind[5] = {(uint8_t)depth, (uint8_t)color, 0, 0, 0};
    put(&header, kind, 5);
    put_chunk(&f, "IHDR", header.bytes, header.n);
    if (extra_type)
        put_chunk(&f, extra_type, extra, n_extra);
    put(&data, "\x78\x01\x01", 3); /* zlib, one stored block */
    put_number(&data, 2, (uint32_t)n_rows);
    put_number(&data, 2, ~(uint32_t)n_rows);
    put(&data, rows, n_rows);
    put_number(&data, 4, 0); /* a checksum that is not checked */
    put_chunk(&f, "IDAT", data.bytes, data.n);
    put_chunk(&f, "IEND", NULL, 0);
    return f;
}

static file_bytes make_bmp(int bits, uint32_t width, int32_t height, uint32_t coding, const char *data, size_t n_data) {
    file_bytes f = {.n = 0};
    uint32_t n_colors = bits <= 8 ? 2 : 0, offset = 54 + 4 * n_colors + (coding == 3 ? 12 : 0);
    put_text(&f, "BM");
    put_number(&f, 4, offset + (uint32_t)n_data);
    put_number(&f, 4, 0);
    put_number(&f, 4, offset);
    put_number(&f, 4, 40);
    put_number(&f, 4, width);
    put_number(&f, 4, (uint32_t)height);
    put_number(&f, 2, 1);
    put_number(&f, 2, (uint32_t)bits);
    put_number(&f, 4, coding);
    for (int i = 0; i < 3; i++)
        put_number(&f, 4, 0);
    put_number(&f, 4, n_colors);
    put_number(&f, 4, 0);
    for (uint32_t i = 0; i < n_colors; i++)
        put_number(&f, 4, i ? 0x102030 : 0xa0b0c0);
    put(&f, data, n_data);
    return f;
}

static file_bytes make_tga(int kind, int bits, int width, int height, int descriptor, const char *data, size_t n_data) {
    file_bytes f = {.n = 0};
    bool palette = (kind & 7) == 1;
    uint8_t head[3] = {0, palette, (uint8_t)kind};
    put(&f, head, 3);
    put_number(&f, 2, 0);
    put_number(&f, 2, palette ? 2 : 0);
    put_number(&f, 1, palette ? 24 : 0);
    put_number(&f, 4, 0);
    put_number(&f, 2, (uint32_t)width);
    put_number(&f, 2, (uint32_t)height);
    put_number(&f, 1, (uint32_t)bits);
    put_number(&f, 1, (uint32_t)descriptor);
    if (palette)
        put(&f, "\x30\x20\x10\xc0\xb0\xa0", 6);
    put(&f, data, n_data);
    return f;
}

/* 4 x 2 pixels, indices 0 1 2 3 and 3 2 1 0 of a palette; 3 is declared transparent. */
static file_bytes make_gif(void) {
    file_bytes f = {.n = 0};
    put(&f, "GIF89a\x04\0\x02\0\x91\0\0", 13);
    put(&f, "\x10\x20\x30\x40\x50\x60\x70\x80\x90\xff\0\xff", 12);
    put(&f, "!\xf9\x04\x01\0\0\x03\0", 8);
    put(&f, ",\0\0\0\0\x04\0\x02\0\0\x02", 11);
    /* Codes of 3 bits until code 8 is taken, then of 4: clear 0 1 2 (3 3 2 1 0 end). */
    static const uint8_t codes[] = {4, 0, 1, 2, 3, 3, 2, 1, 0, 5};
    uint8_t packed[16] = {0};
    int bit = 0, next = 6, size = 3;
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < size; k++, bit++)
            packed[bit / 8] |= (uint8_t)((codes[i] >> k & 1) << bit % 8);
        if (i >= 2 && ++next == 1 << size)
            size++;
    }
    put_number(&f, 1, (uint32_t)(bit + 7) / 8);
    put(&f, packed, (size_t)(bit + 7) / 8);
    put(&f, "\0;", 2);
    return f;
}

static file_bytes sample(const uint8_t *bytes, size_t n) {
    file_bytes f = {.n = 0};
    put(&f, bytes, n);
    return f;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void check_one(const char *what, file_bytes f, int x, int y, uint32_t rgb, size_t spare) {
    trol_image *image = load(what, &f);
    check_pixel(what, image, x, y, rgb);
    trol_image_free(image);
    check_cuts(what, &f, spare);
}

static void test_png(void) {
    check_one("RGB", make_png(2, 1, 8, 2, NULL, NULL, 0, "\0\x01\x02\x03\x04\x05\x06", 7), 1, 0, 0x040506, 12);
    check_one("grey", make_png(2, 1, 8, 0, NULL, NULL, 0, "\0\x07\x08", 3), 1, 0, 0x080808, 12);
    check_one("grey + alpha", make_png(2, 1, 8, 4, NULL, NULL, 0, "\0\x07\0\x08\0", 5), 1, 0, 0x080808, 12);
    check_one("RGB + alpha", make_png(1, 1, 8, 6, NULL, NULL, 0, "\0\x01\x02\x03\0", 5), 0, 0, 0x010203, 12);
    check_one("1 bit", make_png(2, 1, 1, 0, NULL, NULL, 0, "\0\x40", 2), 1, 0, 0xffffff, 12);
    check_one("2 bits", make_png(2, 1, 2, 0, NULL, NULL, 0, "\0\x20", 2), 1, 0, 0xaaaaaa, 12);
    check_one("16 bits", make_png(1, 1, 16, 2, NULL, NULL, 0, "\0\x01\xff\x02\xff\x03\xff", 7), 0, 0, 0x010203, 12);
    check_one("16 bits grey", make_png(1, 1, 16, 0, NULL, NULL, 0, "\0\x55\xff", 3), 0, 0, 0x555555, 12);
    check_one("transparent colour", make_png(1, 1, 8, 2, "tRNS", "\0\x01\0\x02\0\x03", 6, "\0\x01\x02\x03", 4), 0, 0,
              0x010203, 12);
    file_bytes palette = make_png(3, 1, 8, 3, "PLTE", "\x01\x02\x03\x04\x05\x06", 6, "\0\x00\x01\xc8", 4);
    check_one("palette", palette, 1, 0, 0x040506, 12);
    check_one("index past the palette", palette, 2, 0, 0x000000, 12);
    trol_image *turned = NULL;
    file_bytes exif =
        make_png(1, 1, 8, 0, "eXIf", "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 22, "\0\x07", 2);
    turned = load("eXIf", &exif);
    CHECK(trol_image_orientation(turned) == 8, "orientation %d", trol_image_orientation(turned));
    trol_image_free(turned);
}

static void test_simple_formats(void) {
    check_one("BMP, 24 bits", make_bmp(24, 1, 2, 0, "\x03\x02\x01\0\x06\x05\x04\0", 8), 0, 0, 0x040506, 1);
    check_one("BMP, top down", make_bmp(24, 1, -2, 0, "\x03\x02\x01\0\x06\x05\x04\0", 8), 0, 0, 0x010203, 1);
    check_one("BMP, 32 bits", make_bmp(32, 1, 1, 0, "\x03\x02\x01\0", 4), 0, 0, 0x010203, 0);
    check_one("BMP, 16 bits", make_bmp(16, 1, 1, 0, "\xe0\x7c\0\0", 4), 0, 0, 0xff3900, 2);
    check_one("BMP, 16 bit fields", make_bmp(16, 1, 1, 3, "\0\xf8\0\0\xe0\x07\0\0\x1f\0\0\0\xc0\xf9\0\0", 16), 0, 0,
              0xff3800, 2);
    check_one("BMP, palette", make_bmp(8, 3, 1, 0, "\x01\0\x09\0", 4), 0, 0, 0x102030, 1);
    check_one("BMP, 1 bit", make_bmp(1, 2, 1, 0, "\x40\0\0\0", 4), 1, 0, 0x102030, 3);
    check_one("TGA", make_tga(2, 24, 2, 1, 0x20, "\x03\x02\x01\x06\x05\x04", 6), 1, 0, 0x040506, 0);
    check_one("TGA, runs", make_tga(10, 24, 3, 1, 0, "\x81\x03\x02\x01\0\x06\x05\x04", 8), 2, 0, 0x040506, 0);
    check_one("TGA, grey", make_tga(3, 8, 2, 1, 0, "\x07\x08", 2), 1, 0, 0x080808, 0);
    check_one("TGA, bottom up", make_tga(3, 8, 1, 2, 0, "\x07\x08", 2), 0, 0, 0x080808, 0);
    check_one("TGA, from the right", make_tga(3, 8, 2, 1, 0x30, "\x07\x08", 2), 0, 0, 0x080808, 0);
    check_one("TGA, grey and alpha", make_tga(3, 16, 2, 1, 0, "\x07\0\x08\0", 4), 1, 0, 0x080808, 0);
    check_one("TGA, 1 bit", make_tga(3, 1, 9, 2, 0x20, "\x40\0\0\x80", 4), 1, 0, 0xffffff, 0);
    check_one("TGA, 1 bit, second row", make_tga(3, 1, 9, 2, 0x20, "\x40\0\0\x80", 4), 8, 1, 0xffffff, 0);
    check_one("TGA, 16 bits", make_tga(2, 16, 1, 1, 0, "\x22\x78", 2), 0, 0, 0xf60810, 0);
    check_one("TGA, 32 bits", make_tga(2, 32, 1, 1, 0, "\x03\x02\x01\x40", 4), 0, 0, 0x010203, 0);
    check_one("TGA, index past the palette", make_tga(1, 8, 1, 1, 0, "\x09", 1), 0, 0, 0x090909, 0);
    check_one("TGA, palette", make_tga(1, 8, 2, 1, 0, "\0\x01", 2), 1, 0, 0xa0b0c0, 0);
    file_bytes p6 = {.n = 0}, p5 = {.n = 0}, wide = {.n = 0};
    put(&p6, "P6 #c\n2 1\n255\n\x01\x02\x03\x04\x05\x06", 20);
    put(&p5, "P5\n2\n1\n10\n\x03\x0a", 12);
    put(&wide, "P5 1 1 65535\n\x80\x00", 15);
    check_one("PNM, colour", p6, 1, 0, 0x040506, 0);
    check_one("PNM, grey, maximum 10", p5, 0, 0, 0x4c4c4c, 0); /* 76.5, half to even */
    check_one("PNM, 16 bits", wide, 0, 0, 0x808080, 0);
    file_bytes p1 = {.n = 0}, p2 = {.n = 0}, p3 = {.n = 0}, p4 = {.n = 0};
    put_text(&p1, "P1 3 2 01#c\n0 1\n10");
    put_text(&p2, "P2 2 1 1000 #c\n333 1000 ");
    put_text(&p3, "P3\n2 1\n255 1 2 3\n4 5 6");
    put(&p4, "P4 9 2\n\x40\x00\x00\x80", 11);
    check_one("PNM, bits as text", p1, 1, 0, 0x000000, 0);
    check_one("PNM, bits as text, second row", p1, 2, 1, 0xffffff, 0);
    check_one("PNM, grey as text", p2, 0, 0, 0x555555, 5); /* 84.915; the last number may lose digits */
    check_one("PNM, colour as text", p3, 1, 0, 0x040506, 0);
    check_one("PNM, bits", p4, 8, 1, 0x000000, 0);
    check_one("PNM, bits, second pixel", p4, 1, 0, 0x000000, 0);
    check_one("PNM, bits, second row", p4, 0, 1, 0xffffff, 0);
    check_one("GIF", make_gif(), 3, 0, 0xff00ff, 3);
    check_one("GIF, second row", make_gif(), 1, 1, 0x708090, 3);
}

/* The sample's quarters, decoded from JPEG. */
static void check_quarters(const char *what, const trol_image *image) {
    static const int expected[4][3] = {{200, 40, 30}, {30, 60, 210}, {160, 80, 75}, {75, 90, 165}};
    for (int q = 0; image && q < 4; q++)
        for (int k = 0; k < 3; k++) {
            int x = q & 1 ? 20 : 3, y = q & 2 ? 18 : 3;
            int found = trol_image_pixels(image)[3 * (y * 24 + x) + k];
            CHECK(abs(found - expected[q][k]) < 20, "%s: quarter %d, channel %d: %d", what, q, k, found);
        }
}

static void test_jpeg(void) {
    file_bytes baseline = sample(sample_jpeg_baseline, sizeof sample_jpeg_baseline);
    file_bytes progressive = sample(sample_jpeg_progressive, sizeof sample_jpeg_progressive);
    trol_image *image = load("baseline", &baseline);
    check_quarters("baseline", image);
    CHECK(trol_image_orientation(image) == 6, "orientation %d", trol_image_orientation(image));
    trol_image_free(image);
    image = load("progressive", &progressive);
    check_quarters("progressive", image);
    CHECK(trol_image_orientation(image) == 1, "orientation %d", trol_image_orientation(image));
    trol_image_free(image);
    check_cuts("baseline", &baseline, 0);
    check_cuts("progressive", &progressive, 0);
    put_text(&baseline, "what some cameras write after the picture");
    trol_image_free(load("with bytes after the end", &baseline));
}

/* Chroma of half the columns is interpolated as libjpeg does it, up to the right edge. */
static void test_jpeg_422(void) {
    file_bytes file = sample(sample_jpeg_422, sizeof sample_jpeg_422);
    trol_image *image = load("4:2:2", &file);
    for (int i = 0; image && i < 6 * 3; i++) {
        const int found = trol_image_pixels(image)[3 * (3 * 12 + 6) + i];
        CHECK(found == sample_jpeg_422_end[i], "4:2:2, column %d, channel %d: %d, not %d", 6 + i / 3, i % 3, found,
              sample_jpeg_422_end[i]);
    }
    trol_image_free(image);
}

/* A JPEG whose header gives more rows or columns than its data have: the reference decodes what there is. */
static void test_lying_jpeg(const uint8_t *bytes, size_t n) {
    file_bytes f = sample(bytes, n);
    for (size_t i = 0; i + 9 < n; i++)
        if (f.bytes[i] == 0xff && (f.bytes[i + 1] == 0xc0 || f.bytes[i + 1] == 0xc2)) {
            f.bytes[i + 6] = 64;
            trol_image *image = load("more rows", &f);
            CHECK(trol_image_height(image) == 64, "%d rows", trol_image_height(image));
            trol_image_free(image);
            check_refused("more rows, cut", f.bytes, f.n - 2, TROL_ERROR_FORMAT, "cut short");
            f.bytes[i + 5] = f.bytes[i + 7] = 0xff;
            check_refused("past the limit", f.bytes, f.n, TROL_ERROR_UNSUPPORTED, "at most");
            f.bytes[i + 5] = f.bytes[i + 6] = 0;
            check_refused("no rows", f.bytes, f.n, TROL_ERROR_FORMAT, "DNL");
            return;
        }
    CHECK(false, "no frame header");
}

static void test_upright(void) {
    static const uint8_t stored[] = {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}; /* 1 2 3 / 4 5 6 */
    static const char *const expected[9] = {"",       "123456", "321654", "654321", "456123",
                                            "142536", "415263", "635241", "362514"};
    trol_error error = {0};
    for (int orientation = 1; orientation <= 8; orientation++) {
        trol_image *image = NULL, *upright = NULL;
        CHECK_OK(trol_image_load_rgb(stored, 3, 2, 9, &image, &error), error);
        image->orientation = orientation;
        CHECK_OK(trol_image_upright(image, &upright, &error), error);
        bool on_its_side = orientation > 4;
        CHECK(trol_image_width(upright) == (on_its_side ? 2 : 3) && trol_image_height(upright) == (on_its_side ? 3 : 2),
              "%d: %d x %d", orientation, trol_image_width(upright), trol_image_height(upright));
        for (int i = 0; i < 6; i++)
            CHECK(trol_image_pixels(upright)[3 * i + 2] == expected[orientation][i] - '0', "%d: pixel %d", orientation,
                  i);
        CHECK(trol_image_orientation(upright) == 1, "%d", trol_image_orientation(upright));
        trol_image_free(upright);
        trol_image_free(image);
    }
}

static void test_refused_formats(void) {
    static const struct {
        const char *bytes;
        size_t n;
        trol_status status;
        const char *part;
    } cases[] = {
        {"8BPS\0\x01", 6, TROL_ERROR_UNSUPPORTED, "PSD"},
        {"#?RADIANCE\n", 11, TROL_ERROR_UNSUPPORTED, "HDR"},
        {"\x53\x80\xf6\x34", 4, TROL_ERROR_UNSUPPORTED, "PIC"},
        {"II*\0\x08\0\0\0", 8, TROL_ERROR_UNSUPPORTED, "TIFF"},
        {"<?xml version=\"1.0\"?><svg width=\"1\"/>", 37, TROL_ERROR_UNSUPPORTED, "SVG"},
        {"\n<!DOCTYPE html><html></html>", 29, TROL_ERROR_UNSUPPORTED, "HTML"},
        {"%PDF-1.4\n", 9, TROL_ERROR_UNSUPPORTED, "PDF"},
        {"\xff\x0a\x10\x20", 4, TROL_ERROR_UNSUPPORTED, "JPEG XL"},
        {"\0\0\0\x0cjP  \r\n\x87\n", 12, TROL_ERROR_UNSUPPORTED, "JPEG 2000"},
        {"\0\0\x01\0\x01\0\x10\x10", 8, TROL_ERROR_UNSUPPORTED, "ICO"},
        {"P7\nWIDTH 1\n", 11, TROL_ERROR_UNSUPPORTED, "P7"},
        {"", 0, TROL_ERROR_FORMAT, "0 bytes"},
        {"\0", 1, TROL_ERROR_FORMAT, "not a picture"},
        {"hello, world", 12, TROL_ERROR_FORMAT, "68 65 6c 6c 6f"},
        {"P6 0 1 255\n", 11, TROL_ERROR_FORMAT, "0 x 1"},
        {"P6 70000 1 255\n", 15, TROL_ERROR_UNSUPPORTED, "at most"},
        {"P6 20000 20000 255\n", 19, TROL_ERROR_UNSUPPORTED, "100000000"},
        {"P6 99999999999999999999 1 255\n", 30, TROL_ERROR_UNSUPPORTED, "at most"},
        {"P6 1 1 70000\n\0\0\0", 16, TROL_ERROR_FORMAT, "65535"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].part, (const uint8_t *)cases[i].bytes, cases[i].n, cases[i].status, cases[i].part);
    uint8_t zeros[4096] = {0};
    check_refused("zeros", zeros, sizeof zeros, TROL_ERROR_FORMAT, "not a picture");
    file_bytes bmp = make_bmp(24, 1000, 1000, 0, "\0\0\0", 4), rle = make_bmp(8, 1, 1, 1, "\0\0\0", 4);
    check_refused("BMP with a wrong size", bmp.bytes, bmp.n, TROL_ERROR_FORMAT, "1000 x 1000");
    check_refused("BMP, run-length", rle.bytes, rle.n, TROL_ERROR_UNSUPPORTED, "run-length");
    file_bytes tall = make_bmp(24, 1, INT32_MIN, 0, "\0\0\0", 4);
    check_refused("BMP, lowest height", tall.bytes, tall.n, TROL_ERROR_UNSUPPORTED, "at most");
    file_bytes png = make_png(2, 2, 8, 0, NULL, NULL, 0, "\0\x07\x08", 3);
    check_refused("PNG with too few rows", png.bytes, png.n, TROL_ERROR_FORMAT, "2 x 2");
    png = make_png(2, 1, 8, 0, NULL, NULL, 0, "\0\x07\x08", 3);
    png.bytes[19] ^= 1;
    check_refused("PNG, wrong checksum", png.bytes, png.n, TROL_ERROR_FORMAT, "checksum of its IHDR");
    uint8_t *bomb = calloc(1, 100000 + 57);
    file_bytes start = make_png(1, 1, 8, 0, NULL, NULL, 0, "\0\x07", 2);
    memcpy(bomb, start.bytes, 33);
    memcpy(bomb + 33, "\0\x01\x86\xa0IDAT", 8); /* 100,000 bytes of data */
    uint32_t sum = crc(bomb + 37, 100004);
    for (int i = 0; i < 4; i++)
        bomb[100041 + i] = (uint8_t)(sum >> (24 - 8 * i));
    memcpy(bomb + 100045, start.bytes + start.n - 12, 12);
    check_refused("PNG with far more data than pixels", bomb, 100057, TROL_ERROR_FORMAT, "100000 bytes");
    free(bomb);
    png = make_png(2, 1, 8, 3, NULL, NULL, 0, "\0\x07\x08", 3);
    check_refused("PNG without palette", png.bytes, png.n, TROL_ERROR_FORMAT, "palette");
}

static void test_files_and_arguments(void) {
    trol_error error = {0};
    trol_image *image = (trol_image *)1;
    test_make_folder();
    CHECK(trol_image_load_file(test_path("none.png"), NULL, &image, &error) == TROL_ERROR_IO && !image, "%s",
          error.message);
    CHECK(strstr(error.message, "none.png"), "%s", error.message);
    test_write("empty.png", "", 0);
    CHECK(trol_image_load_file(test_path("empty.png"), NULL, &image, &error) == TROL_ERROR_FORMAT, "%s", error.message);
    CHECK(strstr(error.message, "empty.png") && strstr(error.message, "0 bytes"), "%s", error.message);
    test_write("a.jpg", sample_jpeg_baseline, sizeof sample_jpeg_baseline);
    CHECK_OK(trol_image_load_file(test_path("a.jpg"), NULL, &image, &error), error);
    trol_image_free(image);
    test_remove_folder();
    uint8_t pixels[6] = {0};
    CHECK(trol_image_load_memory(NULL, 4, NULL, &image, &error) == TROL_ERROR_ARGUMENT && !image, "%s", error.message);
    CHECK(trol_image_load_rgb(NULL, 1, 1, 3, &image, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_image_load_rgb(pixels, 0, 1, 3, &image, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_image_load_rgb(pixels, 1, 2, 2, &image, &error) == TROL_ERROR_ARGUMENT, "%s", error.message);
    CHECK(trol_image_load_rgb(pixels, 70000, 1, 210000, &image, NULL) == TROL_ERROR_UNSUPPORTED && !image, "too wide");
    trol_image_free(NULL);
}

/* Damaged files must give an error or a picture, and nothing else: this is for the sanitizers. */
static void test_damage(void) {
    file_bytes files[] = {sample(sample_jpeg_baseline, sizeof sample_jpeg_baseline),
                          sample(sample_jpeg_progressive, sizeof sample_jpeg_progressive),
                          make_png(3, 1, 8, 3, "PLTE", "\x01\x02\x03\x04\x05\x06", 6, "\0\x00\x01\xc8", 4),
                          make_gif(),
                          make_tga(9, 8, 3, 1, 0, "\x81\0\0\x01", 4),
                          make_bmp(8, 3, 1, 0, "\x01\0\x09\0", 4)};
    uint64_t random = 3;
    int accepted = 0;
    for (int i = 0; i < 8000; i++) {
        const file_bytes *f = &files[i % 6];
        uint8_t *bytes = malloc(f->n);
        memcpy(bytes, f->bytes, f->n);
        for (uint64_t k = test_random(&random) % 4 + 1; k > 0; k--)
            bytes[test_random(&random) % f->n] = (uint8_t)test_random(&random);
        trol_image *image;
        if (trol_image_load_memory(bytes, f->n, NULL, &image, NULL) == TROL_OK) {
            accepted++;
            CHECK(image->pixels[3 * (size_t)image->width * (size_t)image->height - 1] < 256, "pixels are missing");
        }
        trol_image_free(image);
        free(bytes);
    }
    CHECK(accepted > 100 && accepted < 7000, "%d of 8000 damaged files were accepted", accepted);
}

int main(void) {
    test_png();
    test_simple_formats();
    test_jpeg();
    test_jpeg_422();
    test_lying_jpeg(sample_jpeg_baseline, sizeof sample_jpeg_baseline);
    test_lying_jpeg(sample_jpeg_progressive, sizeof sample_jpeg_progressive);
    test_upright();
    test_refused_formats();
    test_files_and_arguments();
    test_damage();
    return test_summary("test-image");
}
