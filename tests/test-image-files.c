/* test-image-files.c - whole files against the reference: each file of tests/reference/pictures has the pixels of the
 * PNG beside it, which is what Pillow 10.4 decodes it to. Truncated files, damage that is decoded with a notice, the
 * limits. */
#include <dirent.h>
#include <unistd.h>

#include "base/memory.h"
#include "format/image.h"
#include "format/json.h"
#include "test.h"
#include "trol.h"

typedef struct file {
    uint8_t *bytes;
    size_t n_bytes;
} file;

static const char *reference_path(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, name);
    return path;
}

static file read_reference(const char *name) {
    file f = {NULL, 0};
    trol_error error = {0};
    char *bytes = NULL;
    CHECK_OK(file_read(reference_path(name), 1 << 20, &bytes, &f.n_bytes, &error), error);
    f.bytes = (uint8_t *)bytes;
    return f;
}

/* What is logged while a picture is loaded. */
typedef struct notices {
    int count;
    char last[1024];
} notices;

static void note(void *user, trol_log_level level, const char *message) {
    notices *n = user;
    n->count += level == TROL_LOG_WARNING;
    snprintf(n->last, sizeof n->last, "%s", message);
}

static trol_status load(const uint8_t *bytes, size_t n_bytes, trol_image **image, notices *n, trol_error *error) {
    trol_image_params params;
    trol_image_params_init(&params);
    params.log = note;
    params.log_user = n;
    *n = (notices){0, ""};
    return trol_image_load_memory(bytes, n_bytes, &params, image, error);
}

/* Whether the build reads the file at all: WebP, HEIC and AVIF may be left out; the error names the option. */
static bool is_read(const char *name) {
    trol_error error = {0};
    trol_image *image;
    bool left_out = trol_image_load_file(reference_path(name), NULL, &image, &error) == TROL_ERROR_UNSUPPORTED &&
                    strstr(error.message, "built without") && strstr(error.message, "-DTROL_");
    trol_image_free(image);
    return !left_out;
}

static bool same_pixels(const trol_image *a, const trol_image *b) {
    return a->width == b->width && a->height == b->height &&
           memcmp(a->pixels, b->pixels, 3 * (size_t)a->width * (size_t)a->height) == 0;
}

/* No truncation of the file loads, except by a few bytes at its end that hold no pixels. */
static void check_cuts(const char *name, const file *f, const trol_image *whole) {
    size_t step = f->n_bytes / 40 + 1;
    for (size_t n = 12; n < f->n_bytes; n += step) {
        notices logged;
        trol_error error = {0};
        trol_image *image;
        uint8_t *exact = malloc(n + 1); /* so that a sanitizer sees a read past the end */
        memcpy(exact, f->bytes, n);
        uint8_t *cut = realloc(exact, n ? n : 1);
        trol_status status = load(cut, n, &image, &logged, &error);
        bool complete = status == TROL_OK && same_pixels(image, whole);
        CHECK((status == TROL_ERROR_FORMAT && error.message[0]) || complete, "%s, %zu of %zu bytes: %d, %s", name, n,
              f->n_bytes, (int)status, error.message);
        trol_image_free(image);
        free(cut);
    }
}

/* Compares each file of a folder that has a PNG beside it; n_notices are expected for each. Returns how many. */
static int compare_folder(const char *name, int n_notices) {
    DIR *folder = opendir(reference_path(name));
    int n_files = 0;
    CHECK(folder, "%s", reference_path(name));
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[600], expected_path[700];
        snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        snprintf(expected_path, sizeof expected_path, "%s.png", path);
        if (access(reference_path(expected_path), R_OK) != 0 || !is_read(path))
            continue;
        n_files++;
        trol_error error = {0};
        trol_image *image = NULL, *expected = NULL;
        notices logged;
        file f = read_reference(path);
        CHECK_OK(load(f.bytes, f.n_bytes, &image, &logged, &error), error);
        CHECK(logged.count == n_notices, "%s: %d notices, %s", path, logged.count, logged.last);
        CHECK_OK(trol_image_load_file(reference_path(expected_path), NULL, &expected, &error), error);
        CHECK(image && expected && same_pixels(image, expected), "%s has other pixels", path);
        if (image)
            check_cuts(path, &f, image);
        trol_image_free(image);
        trol_image_free(expected);
        memory_free(f.bytes);
    }
    if (folder)
        closedir(folder);
    return n_files;
}

static void test_reference_images(void) {
    int n_files = compare_folder("pictures", 0);
    CHECK(n_files >= 28, "%d pictures", n_files);
    n_files = compare_folder("pictures-damaged", 1);
    CHECK(n_files >= 4, "%d damaged pictures", n_files);
}

/* The file must load with one notice that has `part` in it, or without any where `part` is NULL. */
static void check_notice(const char *what, const uint8_t *bytes, size_t n_bytes, const char *part) {
    notices logged;
    trol_error error = {0};
    trol_image *image;
    CHECK_OK(load(bytes, n_bytes, &image, &logged, &error), error);
    CHECK(logged.count == (part ? 1 : 0) && (!part || strstr(logged.last, part)), "%s: %d notices, \"%s\"", what,
          logged.count, logged.last);
    trol_image_free(image);
}

/* A PNG that ends early: IEND holds no pixels, nor does the checksum (CRC) of its data where their own (Adler-32) is
 * there. Without both nothing shows that the pixels are right. */
static void test_png_tails(void) {
    enum { IEND_BYTES = 12, CRC_BYTES = 4, ADLER_BYTES = 4 };
    file f = read_reference("pictures/420.jpg.png");
    trol_error error = {0};
    trol_image *whole = NULL, *image;
    notices logged;
    CHECK_OK(load(f.bytes, f.n_bytes, &whole, &logged, &error), error);
    for (size_t cut = 1; whole && cut < 40; cut++) {
        bool expected = cut <= IEND_BYTES + CRC_BYTES;
        trol_status status = load(f.bytes, f.n_bytes - cut, &image, &logged, &error);
        CHECK(expected ? status == TROL_OK && logged.count == 1 && same_pixels(image, whole)
                       : status == TROL_ERROR_FORMAT && logged.count == 0,
              "%zu bytes less: status %d, %s", cut, (int)status, error.message);
        trol_image_free(image);
    }
    size_t crc = f.n_bytes - IEND_BYTES - CRC_BYTES, adler = crc - ADLER_BYTES;
    f.bytes[crc] ^= 1;
    check_notice("a wrong CRC", f.bytes, f.n_bytes, "CRC");
    f.bytes[adler] ^= 1;
    CHECK(load(f.bytes, f.n_bytes, &image, &logged, &error) == TROL_ERROR_FORMAT && strstr(error.message, "Adler-32"),
          "%s", error.message);
    f.bytes[adler] ^= 1;
    f.bytes[adler - 40] ^= 1;
    CHECK(load(f.bytes, f.n_bytes, &image, &logged, &error) == TROL_ERROR_FORMAT, "wrong data and a wrong CRC");
    trol_image_free(whole);
    memory_free(f.bytes);
}

static void check_limits(const char *name, int64_t max_bytes, int64_t max_pixels, trol_status expected,
                         const char *part) {
    trol_image_params params;
    trol_image_params_init(&params);
    params.max_bytes = max_bytes;
    params.max_pixels = max_pixels;
    trol_error error = {0}, memory_error = {0};
    trol_image *image, *from_memory;
    file f = read_reference(name);
    trol_status status = trol_image_load_file(reference_path(name), &params, &image, &error);
    CHECK(status == expected && (!part || strstr(error.message, part)), "%s: %d, %s", name, (int)status, error.message);
    status = trol_image_load_memory(f.bytes, f.n_bytes, &params, &from_memory, &memory_error);
    CHECK(status == expected && (!part || strstr(memory_error.message, part)), "%s in memory: %d, %s", name,
          (int)status, memory_error.message);
    trol_image_free(image);
    trol_image_free(from_memory);
    memory_free(f.bytes);
}

/* HEIC and AVIF: the picture as closely as its codec keeps it; exact pixels are not promised. */
static void check_gradient(const char *name) {
    trol_error error = {0};
    trol_image *image = NULL;
    if (!is_read(name))
        return;
    file f = read_reference(name);
    notices logged;
    CHECK_OK(load(f.bytes, f.n_bytes, &image, &logged, &error), error);
    CHECK(image && image->width == 90 && image->height == 70 && image->orientation == 1, "%s has another size", name);
    for (int y = 5; image && y < 70; y += 20)
        for (int x = 5; x < 90; x += 20) {
            const uint8_t *p = image->pixels + 3 * (y * 90 + x);
            CHECK(abs(p[0] - 2 * x) < 16 && abs(p[1] - 3 * y) < 16 && abs(p[2] - x - y) < 24, "%s, (%d, %d): %d %d %d",
                  name, x, y, p[0], p[1], p[2]);
        }
    if (image)
        check_cuts(name, &f, image);
    check_limits(name, (int64_t)f.n_bytes, 90 * 70, TROL_OK, NULL);
    check_limits(name, (int64_t)f.n_bytes, 90 * 70 - 1, TROL_ERROR_UNSUPPORTED, "");
    trol_image_free(image);
    memory_free(f.bytes);
}

static void check_orientation(const char *name, int expected) {
    trol_error error = {0};
    trol_image *image;
    if (!is_read(name))
        return;
    CHECK_OK(trol_image_load_file(reference_path(name), NULL, &image, &error), error);
    CHECK(trol_image_orientation(image) == expected, "%s: orientation %d", name, trol_image_orientation(image));
    trol_image_free(image);
}

/* Where the entropy-coded data of a JPEG's first scan begin. */
static size_t scan_begin(const file *f) {
    size_t at = 2;
    while (at + 4 < f->n_bytes && f->bytes[at + 1] != 0xda)
        at += 2 + (size_t)(f->bytes[at + 2] << 8 | f->bytes[at + 3]);
    return at + 2 + (size_t)(f->bytes[at + 2] << 8 | f->bytes[at + 3]);
}

static void test_damaged_jpeg(void) {
    file f = read_reference("pictures/420.jpg");
    size_t begin = scan_begin(&f), middle = begin + (f.n_bytes - begin) / 2;
    uint8_t *changed = malloc(16384); /* more than any of these files */
    memcpy(changed, f.bytes, f.n_bytes);
    for (int i = 0; i < 8; i += 2) { /* bits of 1: a code that is in no table */
        changed[middle + (size_t)i] = 0xff;
        changed[middle + (size_t)i + 1] = 0;
    }
    check_notice("a bad code", changed, f.n_bytes, "impossible code");
    memcpy(changed, f.bytes, middle);
    memcpy(changed + middle, "\xff\xd9", 2);
    check_notice("an early end", changed, middle + 2, "ends too early");
    memcpy(changed, "\xff\xd8\xff\xfe\0\2\1\2\3\4\5", 11); /* a comment, then meaningless bytes */
    memcpy(changed + 11, f.bytes + 2, f.n_bytes - 2);
    check_notice("extraneous bytes", changed, f.n_bytes + 9, NULL);
    memcpy(changed, f.bytes, f.n_bytes);
    changed[11] = 7; /* of JFIF */
    check_notice("a JFIF version", changed, f.n_bytes, NULL);
    memory_free(f.bytes);
    f = read_reference("pictures/restart.jpg");
    for (size_t i = scan_begin(&f); i + 1 < f.n_bytes; i++)
        if (f.bytes[i] == 0xff && f.bytes[i + 1] == 0xd1) { /* the second restart marker */
            memcpy(changed, f.bytes, i);
            memcpy(changed + i, f.bytes + i + 2, f.n_bytes - i - 2);
            check_notice("a lost restart marker", changed, f.n_bytes - 2, "damaged");
            break;
        }
    memory_free(f.bytes);
    free(changed);
}

/* Each scan of a progressive JPEG goes over the whole picture: their number is limited. */
static void test_many_scans(void) {
    file f = read_reference("pictures/progressive.jpg");
    size_t begin = scan_begin(&f), length = 2;
    while (f.bytes[begin + length] != 0xff || f.bytes[begin + length + 1] == 0)
        length++; /* of the first scan's data */
    size_t start = begin;
    while (f.bytes[start] != 0xff || f.bytes[start + 1] != 0xda)
        start--;
    size_t scan = begin + length - start, n_scans = 600;
    uint8_t *many = malloc(start + n_scans * scan + 2);
    memcpy(many, f.bytes, start);
    for (size_t i = 0; i < n_scans; i++)
        memcpy(many + start + i * scan, f.bytes + start, scan);
    memcpy(many + start + n_scans * scan, "\xff\xd9", 2);
    notices logged;
    trol_error error = {0};
    trol_image *image;
    CHECK(load(many, start + n_scans * scan + 2, &image, &logged, &error) == TROL_ERROR_UNSUPPORTED &&
              strstr(error.message, "scans"),
          "%s", error.message);
    free(many);
    memory_free(f.bytes);
}

static void test_limits(void) {
    static const char *const names[] = {"pictures/420.jpg", "pictures/progressive.jpg", "pictures/420.jpg.png",
                                        "pictures/lossless.webp", "pictures/animated.webp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        trol_image *image;
        trol_error error = {0};
        if (!is_read(names[i]))
            continue;
        CHECK_OK(trol_image_load_file(reference_path(names[i]), NULL, &image, &error), error);
        int64_t n_pixels = (int64_t)image->width * image->height;
        file f = read_reference(names[i]);
        int64_t n_bytes = (int64_t)f.n_bytes;
        memory_free(f.bytes);
        trol_image_free(image);
        check_limits(names[i], n_bytes, n_pixels, TROL_OK, NULL);
        check_limits(names[i], n_bytes, n_pixels - 1, TROL_ERROR_UNSUPPORTED, "pixels");
        check_limits(names[i], n_bytes - 1, n_pixels, TROL_ERROR_UNSUPPORTED, "bytes");
    }
    check_limits("pictures/420.jpg", 0, 1000, TROL_ERROR_ARGUMENT, "max_bytes");
    check_limits("pictures/420.jpg", (int64_t)1 << 31, 1000, TROL_ERROR_ARGUMENT, "max_bytes");
    check_limits("pictures/420.jpg", 100000, 0, TROL_ERROR_ARGUMENT, "max_pixels");
    check_limits("pictures/420.jpg", 100000, INT64_MAX, TROL_ERROR_ARGUMENT, "max_pixels");
}

int main(void) {
    test_reference_images();
    check_orientation("pictures/exif6.jpg", 6);
    check_orientation("pictures/exif8.webp", 6);
    check_orientation("pictures/420.jpg", 1);
    check_gradient("pictures/gradient.heic");
    check_gradient("pictures/gradient.avif");
    test_png_tails();
    test_damaged_jpeg();
    test_many_scans();
    test_limits();
    return test_summary("test-image-files");
}
