/* image_formats.h - what the decoders of single formats share; used by the image_*.c files only.
 *
 * JPEG, WebP and HEIF are decoded by their own libraries, which check what they read. PNG is decoded by stb_image,
 * which fills in what a broken file lacks and, in current versions, trusts some of what it reads: so it is given a file
 * that was checked from the first byte to the last and rewritten here. The small formats are decoded directly. */
#ifndef FORMAT_IMAGE_FORMATS_H
#define FORMAT_IMAGE_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "format/image.h"

/* Bytes read in sequence. Past the end they are 0 and past_end is set, so that a header can be read in one go and
 * checked once. */
typedef struct byte_reader {
    const uint8_t *bytes;
    size_t n_bytes, position;
    bool past_end;
} byte_reader;

static inline uint8_t read_u8(byte_reader *in) {
    if (in->position < in->n_bytes)
        return in->bytes[in->position++];
    in->past_end = true;
    return 0;
}

static inline uint16_t read_u16_big(byte_reader *in) {
    unsigned high = read_u8(in);
    return (uint16_t)(high << 8 | read_u8(in));
}

static inline uint32_t read_u32_big(byte_reader *in) {
    uint32_t high = read_u16_big(in);
    return high << 16 | read_u16_big(in);
}

static inline uint16_t read_u16_little(byte_reader *in) {
    unsigned low = read_u8(in);
    return (uint16_t)(low | (unsigned)read_u8(in) << 8);
}

static inline uint32_t read_u32_little(byte_reader *in) {
    uint32_t low = read_u16_little(in);
    return low | (uint32_t)read_u16_little(in) << 16;
}

static inline size_t bytes_left(const byte_reader *in) { return in->n_bytes - in->position; }

static inline void skip_bytes(byte_reader *in, uint64_t count) {
    if (count > bytes_left(in)) {
        in->past_end = true;
        in->position = in->n_bytes;
    } else
        in->position += (size_t)count;
}

static inline bool starts_with(const byte_reader *in, const char *magic, size_t n_bytes) {
    return bytes_left(in) >= n_bytes && memcmp(in->bytes + in->position, magic, n_bytes) == 0;
}

/* "the JPEG is cut short ..." */
trol_status fail_cut_short(const char *format, int64_t width, int64_t height, trol_error *error);

/* Fails unless the sides are within IMAGE_MAX_SIDE, their product is at most max_pixels, and none is 0. */
trol_status image_check_size(const char *format, int64_t width, int64_t height, int64_t max_pixels, trol_error *error);

/* Checks the size and allocates image->pixels. */
trol_status image_alloc(const char *format, int64_t width, int64_t height, int64_t max_pixels, trol_image *image,
                        trol_error *error);

/* One warning to the caller's log, after the file's name: what is damaged in a file that is decoded anyway.
 */
void image_notice(const image_settings *settings, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether bytes without a magic number are a TGA: every field of the header makes sense. */
bool tga_plausible(byte_reader in);

/* Unpacks zlib data into out [room] until they end, overflow or make no sense, and returns the number of bytes.
 * *checksum_right: the end was reached, and the Adler-32 after it matches. */
size_t inflate_zlib(const uint8_t *bytes, size_t n_bytes, uint8_t *out, size_t room, bool *checksum_right);

/* Decode into *image (width, height, pixels; orientation where the format has one). */
typedef trol_status image_decoder(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error);
image_decoder jpeg_decode, png_decode, gif_decode, bmp_decode, pnm_decode, tga_decode, webp_decode, heif_decode;

/* Decodes a PNG that was rewritten: *pixels [height, width, 3], freed with memory_free. */
trol_status stb_decode(const uint8_t *bytes, size_t n_bytes, int32_t width, int32_t height, uint8_t **pixels,
                       trol_error *error);

/* The EXIF orientation, 1 to 8, that a JPEG or PNG gives, or a TIFF structure from its first byte (an "Exif\0\0" before
 * it is skipped); 1 where there is none or it is broken. */
int32_t exif_orientation_jpeg(byte_reader in);
int32_t exif_orientation_png(byte_reader in);
int32_t exif_orientation_tiff(const uint8_t *bytes, size_t n_bytes);

#endif
