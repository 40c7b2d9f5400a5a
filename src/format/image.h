/* image.h - image files to pixels: decoding, the two resizes that the models were trained with, byte for byte, and the
 * choice of tiles. */
#ifndef FORMAT_IMAGE_H
#define FORMAT_IMAGE_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

enum { IMAGE_MAX_SIDE = 65500, IMAGE_MAX_TILES = 64 };
/* The default limit of an image's pixels: 100 million, 300 MB. */
#define IMAGE_MAX_PIXELS ((int64_t)100000000)
/* The default limit of a file's bytes: 1 GiB. */
#define IMAGE_MAX_BYTES ((int64_t)1 << 30)
/* The highest limits that can be asked for: decoders count bytes in 32 bits. */
#define IMAGE_HIGHEST_MAX_PIXELS ((int64_t)1 << 29)
#define IMAGE_HIGHEST_MAX_BYTES  ((int64_t)INT32_MAX)

struct trol_image {
    int32_t width, height;
    int32_t orientation; /* EXIF, 1 to 8 */
    uint8_t *pixels;     /* [height, width, 3] */
};

/* How an image is decoded. */
typedef struct image_settings {
    int64_t max_bytes, max_pixels;
    logger log;
    const char *name; /* of the file, put before notices; NULL: it has none */
} image_settings;

/* Decodes the bytes of a file in any of the supported formats. */
trol_status image_decode(const void *bytes, size_t n_bytes, const image_settings *settings, trol_image **image,
                         trol_error *error);

/* "the picture has N bytes; at most N are supported" */
trol_status image_fail_too_long(int64_t n_bytes, int64_t max_bytes, trol_error *error);

/* Resizes as torch's interpolate(mode='bicubic') does a uint8 tensor. out [out_height, out_width, 3]. */
trol_status image_resize_torch(const trol_image *image, int32_t out_width, int32_t out_height, uint8_t *out,
                               trol_error *error);
/* Resizes as Pillow 10's BICUBIC does. out [out_height, out_width, 3]. */
trol_status image_resize_pillow(const trol_image *image, int32_t out_width, int32_t out_height, uint8_t *out,
                                trol_error *error);

/* The grid of tiles, columns by rows, with columns * rows <= max_tiles, closest to the image's aspect ratio. The
 * candidates are those of the published models, which have at most 6 tiles: a larger max_tiles counts as 6. */
void image_choose_grid(int32_t width, int32_t height, int32_t tile_size, int32_t max_tiles, int32_t *columns,
                       int32_t *rows);

/* The tiles of an image, row by row, then (if more than one and use_thumbnail) the whole image: *tiles [n, S, S, 3],
 * free with memory_free. */
trol_status image_make_tiles(const trol_image *image, int32_t tile_size, int32_t max_tiles, int use_thumbnail,
                             uint8_t **tiles, int32_t *n_tiles, trol_error *error);

/* out[c][y][x] = (pixel - mean[c]) * scale: [3, S, S] float32 planes from [S, S, 3] bytes, per the formulas of the two
 * families: (p - 255 mean) / (255 std) where `divide_first` is 0, (p / 255 - mean) / std where it is 1. */
void image_normalize(const uint8_t *pixels, int32_t side, const float mean[3], const float std[3], int divide_first,
                     float *out);

#endif
