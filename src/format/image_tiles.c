/* image_tiles.c - the grid of tiles for an image, the tiles themselves, and bytes to normalized planes. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "format/image.h"

typedef struct grid {
    int32_t columns, rows;
} grid;

/* In the order in which a tie is resolved. */
static const grid grids[] = {{1, 1}, {1, 2}, {2, 1}, {3, 1}, {1, 3}, {4, 1}, {1, 4},
                             {2, 2}, {1, 5}, {5, 1}, {6, 1}, {2, 3}, {1, 6}, {3, 2}};

void image_choose_grid(int32_t width, int32_t height, int32_t tile_size, int32_t max_tiles, int32_t *columns,
                       int32_t *rows) {
    double ratio = (double)width / (double)height, closest = INFINITY;
    *columns = *rows = 1;
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        int32_t n = grids[i].columns * grids[i].rows;
        double distance = fabs(ratio - (double)grids[i].columns / (double)grids[i].rows);
        bool fills_half = (double)width * (double)height > 0.5 * tile_size * tile_size * n;
        if (n > max_tiles || distance > closest || (distance == closest && !fills_half))
            continue;
        closest = distance;
        *columns = grids[i].columns;
        *rows = grids[i].rows;
    }
}

/* Cuts an image [rows * S, columns * S, 3] into tiles [rows * columns, S, S, 3]. */
static void cut_tiles(const uint8_t *pixels, int32_t columns, int32_t rows, size_t side, uint8_t *tiles) {
    size_t row_bytes = 3 * side;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < columns; c++)
            for (size_t y = 0; y < side; y++, tiles += row_bytes)
                memcpy(tiles, pixels + (((size_t)r * side + y) * (size_t)columns + (size_t)c) * row_bytes, row_bytes);
}

static trol_status fill_tiles(const trol_image *image, int32_t side, int32_t columns, int32_t rows, bool thumbnail,
                              uint8_t *tiles, trol_error *error) {
    size_t tile_bytes = 3 * (size_t)side * (size_t)side, n = (size_t)columns * (size_t)rows;
    if (thumbnail)
        TRY(image_resize_pillow(image, side, side, tiles + n * tile_bytes, error));
    uint8_t *whole;
    TRY(memory_alloc(n, tile_bytes, "a picture's tiles", (void **)&whole, error));
    trol_status status = image_resize_pillow(image, columns * side, rows * side, whole, error);
    if (status == TROL_OK)
        cut_tiles(whole, columns, rows, (size_t)side, tiles);
    memory_free(whole);
    return status;
}

trol_status image_make_tiles(const trol_image *image, int32_t tile_size, int32_t max_tiles, int use_thumbnail,
                             uint8_t **tiles, int32_t *n_tiles, trol_error *error) {
    *tiles = NULL;
    *n_tiles = 0;
    if (tile_size < 1 || tile_size > IMAGE_MAX_SIDE / IMAGE_MAX_TILES)
        return fail(error, TROL_ERROR_ARGUMENT, "tiles of %d pixels", tile_size);
    int32_t columns, rows;
    image_choose_grid(image->width, image->height, tile_size, max_tiles, &columns, &rows);
    bool thumbnail = use_thumbnail && columns * rows > 1;
    int32_t n = columns * rows + thumbnail;
    uint8_t *made;
    TRY(memory_alloc((size_t)n, 3 * (size_t)tile_size * (size_t)tile_size, "a picture's tiles", (void **)&made, error));
    trol_status status = fill_tiles(image, tile_size, columns, rows, thumbnail, made, error);
    if (status != TROL_OK) {
        memory_free(made);
        return status;
    }
    *tiles = made;
    *n_tiles = n;
    return TROL_OK;
}

void image_normalize(const uint8_t *pixels, int32_t side, const float mean[3], const float std[3], int divide_first,
                     float *out) {
    size_t n = (size_t)side * (size_t)side;
    for (int c = 0; c < 3; c++) {
        float values[256];
        for (int p = 0; p < 256; p++)
            values[p] = divide_first ? ((float)p / 255.0f - mean[c]) / std[c]
                                     : ((float)p - 255.0f * mean[c]) / (255.0f * std[c]);
        for (size_t i = 0; i < n; i++)
            out[(size_t)c * n + i] = values[pixels[3 * i + (size_t)c]];
    }
}
