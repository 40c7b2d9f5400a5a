/* image_resize.c - the two bicubic resizes, byte for byte: torch's interpolate on uint8 tensors and Pillow 10's. Both
 * resize the width first and then the height, with 8 bits in between, and skip a pass that keeps the size. They differ
 * in which pixels have a weight and in how weights become integers; the passes themselves are shared.
 *
 * A row is resized in width when the height pass first needs it, into a ring of as many rows as one output row needs:
 * memory does not depend on the height, and rows that are not needed are never read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cubic.h"
#include "base/memory.h"
#include "format/image.h"

/* How one side is resized: out[i] = clamp((rounding + sum over k < count[i] of weights[i][k] * in[first[i] + k]) >>
 * bits). */
typedef struct side_filter {
    int32_t n_in, n_out, bits;
    int32_t largest_count;  /* also the stride of weights */
    int32_t *first, *count; /* [n_out] */
    int32_t *weights;       /* [n_out, largest_count] */
} side_filter;

static void filter_free(side_filter *f) {
    memory_free(f->first);
    memory_free(f->count);
    memory_free(f->weights);
}

static trol_status filter_alloc(side_filter *f, int32_t n_in, int32_t n_out, int32_t largest_count, trol_error *error) {
    *f = (side_filter){.n_in = n_in, .n_out = n_out, .largest_count = largest_count};
    trol_status status = memory_alloc((size_t)n_out, sizeof *f->first, "a resize", (void **)&f->first, error);
    if (status == TROL_OK)
        status = memory_alloc((size_t)n_out, sizeof *f->count, "a resize", (void **)&f->count, error);
    if (status == TROL_OK)
        status = memory_alloc((size_t)n_out * (size_t)largest_count, sizeof *f->weights, "a resize",
                              (void **)&f->weights, error);
    return status;
}

/* Half away from zero. */
static int32_t round_weight(double weight, int bits) {
    double scaled = weight * (double)(1 << bits);
    return (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

/* ---- torch ----------------------------------------------------------------------------------- */

/* The four weights of output pixel i, those of taps outside the image added to the edge pixel's. Returns how many
 * pixels have one; *largest is raised to the largest sum on the way. */
static int32_t weigh_torch(int32_t n_in, int32_t n_out, int32_t i, int32_t *first, double weights[4], double *largest) {
    double center = (double)n_in / (double)n_out * (i + 0.5) - 0.5, floor_center = floor(center);
    int32_t n = 0, last_pixel = -1;
    for (int k = 0; k < 4; k++) {
        double tap = floor_center - 1.0 + k;
        int32_t pixel = tap < 0 ? 0 : tap > n_in - 1 ? n_in - 1 : (int32_t)tap;
        double weight = cubic_weight(-0.75, tap - center);
        if (n == 0)
            *first = pixel;
        if (n > 0 && pixel == last_pixel)
            weights[n - 1] += weight;
        else
            weights[n++] = weight;
        last_pixel = pixel;
        if (weights[n - 1] > *largest)
            *largest = weights[n - 1];
    }
    return n;
}

static trol_status filter_torch(side_filter *f, int32_t n_in, int32_t n_out, trol_error *error) {
    TRY(filter_alloc(f, n_in, n_out, 4, error));
    double weights[4], largest = 0.0;
    for (int32_t i = 0; i < n_out; i++)
        f->count[i] = weigh_torch(n_in, n_out, i, &f->first[i], weights, &largest);
    while (f->bits < 21 && (int32_t)(0.5 + largest * (double)(1 << (f->bits + 1))) < 1 << 15)
        f->bits++;
    for (int32_t i = 0; i < n_out; i++) {
        weigh_torch(n_in, n_out, i, &f->first[i], weights, &largest);
        for (int32_t k = 0; k < f->count[i]; k++)
            f->weights[4 * (size_t)i + (size_t)k] = round_weight(weights[k], f->bits);
    }
    return TROL_OK;
}

/* ---- Pillow ---------------------------------------------------------------------------------- */

static trol_status filter_pillow(side_filter *f, int32_t n_in, int32_t n_out, trol_error *error) {
    double scale = (double)n_in / (double)n_out, filter_scale = scale < 1.0 ? 1.0 : scale, support = 2.0 * filter_scale;
    TRY(filter_alloc(f, n_in, n_out, 2 * (int32_t)ceil(support) + 1, error));
    double *weights;
    TRY(memory_alloc((size_t)f->largest_count, sizeof *weights, "a resize", (void **)&weights, error));
    f->bits = 22;
    for (int32_t i = 0; i < n_out; i++) {
        double center = (i + 0.5) * scale, inverse = 1.0 / filter_scale, sum = 0.0;
        int32_t begin = (int32_t)(center - support + 0.5), end = (int32_t)(center + support + 0.5);
        begin = begin < 0 ? 0 : begin;
        end = end > n_in ? n_in : end;
        for (int32_t k = 0; k < end - begin; k++)
            sum += weights[k] = cubic_weight(-0.5, (k + begin - center + 0.5) * inverse);
        f->first[i] = begin;
        f->count[i] = end - begin;
        for (int32_t k = 0; k < end - begin; k++)
            f->weights[(size_t)i * (size_t)f->largest_count + (size_t)k] =
                round_weight(sum != 0.0 ? weights[k] / sum : weights[k], f->bits);
    }
    memory_free(weights);
    return TROL_OK;
}

/* ---- the passes ------------------------------------------------------------------------------ */

static inline uint8_t clamp_byte(int32_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

/* in [n_in, 3] to out [n_out, 3]. */
static void resize_row(const side_filter *f, const uint8_t *in, uint8_t *out) {
    const int32_t rounding = 1 << (f->bits - 1);
    for (int32_t i = 0; i < f->n_out; i++, out += 3) {
        const uint8_t *pixel = in + 3 * (size_t)f->first[i];
        const int32_t *weights = f->weights + (size_t)i * (size_t)f->largest_count;
        int32_t red = rounding, green = rounding, blue = rounding;
        for (int32_t k = 0; k < f->count[i]; k++, pixel += 3) {
            red += weights[k] * pixel[0];
            green += weights[k] * pixel[1];
            blue += weights[k] * pixel[2];
        }
        out[0] = clamp_byte(red >> f->bits);
        out[1] = clamp_byte(green >> f->bits);
        out[2] = clamp_byte(blue >> f->bits);
    }
}

/* Adds weight * row to sums, both [n]. */
static void add_row(int32_t *restrict sums, const uint8_t *restrict row, int32_t weight, size_t n) {
    for (size_t i = 0; i < n; i++)
        sums[i] += weight * row[i];
}

/* The image's rows, resized in width, that are needed at the moment. */
typedef struct row_ring {
    const trol_image *image;
    const side_filter *width; /* NULL: the width is kept */
    uint8_t *rows;            /* [n_rows, row_bytes] */
    size_t row_bytes;
    int32_t n_rows, next; /* rows up to `next` - 1 have been resized */
} row_ring;

static const uint8_t *ring_row(row_ring *ring, int32_t y) {
    size_t in_bytes = 3 * (size_t)ring->image->width;
    if (!ring->width)
        return ring->image->pixels + (size_t)y * in_bytes;
    uint8_t *row = ring->rows + (size_t)(y % ring->n_rows) * ring->row_bytes;
    if (y >= ring->next) {
        resize_row(ring->width, ring->image->pixels + (size_t)y * in_bytes, row);
        ring->next = y + 1;
    }
    return row;
}

static void resize_height(const side_filter *f, row_ring *ring, int32_t *sums, uint8_t *out) {
    size_t n = ring->row_bytes;
    for (int32_t i = 0; i < f->n_out; i++, out += n) {
        const int32_t *weights = f->weights + (size_t)i * (size_t)f->largest_count;
        for (size_t x = 0; x < n; x++)
            sums[x] = 1 << (f->bits - 1);
        for (int32_t k = 0; k < f->count[i]; k++)
            add_row(sums, ring_row(ring, f->first[i] + k), weights[k], n);
        for (size_t x = 0; x < n; x++)
            out[x] = clamp_byte(sums[x] >> f->bits);
    }
}

/* width and height: NULL where that side keeps its size. */
static trol_status resize(const trol_image *image, const side_filter *width, const side_filter *height, uint8_t *out,
                          trol_error *error) {
    size_t row_bytes = 3 * (size_t)(width ? width->n_out : image->width);
    row_ring ring = {image, width, NULL, row_bytes, height ? height->largest_count : 1, 0};
    int32_t *sums = NULL;
    trol_status status = TROL_OK;
    if (!height) {
        for (int32_t y = 0; y < image->height; y++, out += row_bytes)
            if (width)
                resize_row(width, image->pixels + (size_t)y * 3 * (size_t)image->width, out);
            else
                memcpy(out, image->pixels + (size_t)y * row_bytes, row_bytes);
        return TROL_OK;
    }
    TRY_GOTO(memory_alloc(row_bytes, sizeof *sums, "a resize", (void **)&sums, error), done);
    if (width)
        TRY_GOTO(memory_alloc((size_t)ring.n_rows, row_bytes, "a resize", (void **)&ring.rows, error), done);
    resize_height(height, &ring, sums, out);
done:
    memory_free(sums);
    memory_free(ring.rows);
    return status;
}

typedef trol_status (*make_filter)(side_filter *f, int32_t n_in, int32_t n_out, trol_error *error);

static trol_status resize_with(make_filter make, const trol_image *image, int32_t out_width, int32_t out_height,
                               uint8_t *out, trol_error *error) {
    side_filter width = {0}, height = {0};
    bool changes_width = out_width != image->width, changes_height = out_height != image->height;
    if (out_width < 1 || out_height < 1 || out_width > IMAGE_MAX_SIDE || out_height > IMAGE_MAX_SIDE)
        return fail(error, TROL_ERROR_ARGUMENT, "a picture cannot be resized to %d x %d pixels", out_width, out_height);
    trol_status status = TROL_OK;
    if (changes_width)
        TRY_GOTO(make(&width, image->width, out_width, error), done);
    if (changes_height)
        TRY_GOTO(make(&height, image->height, out_height, error), done);
    status = resize(image, changes_width ? &width : NULL, changes_height ? &height : NULL, out, error);
done:
    filter_free(&width);
    filter_free(&height);
    return status;
}

trol_status image_resize_torch(const trol_image *image, int32_t out_width, int32_t out_height, uint8_t *out,
                               trol_error *error) {
    return resize_with(filter_torch, image, out_width, out_height, out, error);
}

trol_status image_resize_pillow(const trol_image *image, int32_t out_width, int32_t out_height, uint8_t *out,
                                trol_error *error) {
    return resize_with(filter_pillow, image, out_width, out_height, out, error);
}
