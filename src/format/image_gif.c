/* image_gif.c - the first frame of a GIF. Transparency is ignored, as alpha is: each pixel has its palette's colour.
 * (stb_image would draw the frame onto a background instead.) As in Pillow, pixels that the frame does not cover get
 * the transparent index, or else index 0; an index past the palette is black, or grey of its own level if there is no
 * palette. */
#include "format/image_formats.h"

#include "base/memory.h"

enum { MAX_CODES = 4096, NO_CODE = -1 };

typedef struct gif {
    byte_reader in;
    uint8_t palette[256][3];
    int transparent;                  /* index; -1: none */
    int32_t left, top, width, height; /* of the frame */
    bool interlaced;
    /* LZW: code c stands for what prefix[c] stands for, followed by suffix[c]. */
    int16_t prefix[MAX_CODES];
    uint8_t suffix[MAX_CODES], spelled[MAX_CODES];
    uint32_t bits;
    int n_bits, block_left;
} gif;

static void read_palette(gif *g, int size_bits) {
    memset(g->palette, 0, sizeof g->palette);
    for (int i = 0; i < 2 << size_bits; i++)
        for (int k = 0; k < 3; k++)
            g->palette[i][k] = read_u8(&g->in);
}

static void skip_blocks(byte_reader *in) {
    for (size_t length; (length = read_u8(in)) != 0;)
        skip_bytes(in, length);
}

static void read_extension(gif *g) {
    uint8_t label = read_u8(&g->in);
    if (label == 0xf9 && starts_with(&g->in, "\x04", 1)) {
        skip_bytes(&g->in, 1);
        uint8_t flags = read_u8(&g->in);
        skip_bytes(&g->in, 2);
        int index = read_u8(&g->in);
        g->transparent = flags & 1 ? index : -1;
    }
    skip_blocks(&g->in);
}

/* The next code of `size` bits; NO_CODE where the data end. */
static int next_code(gif *g, int size) {
    while (g->n_bits < size) {
        if (g->block_left == 0) {
            g->block_left = read_u8(&g->in);
            if (g->block_left == 0)
                return NO_CODE;
        }
        g->bits |= (uint32_t)read_u8(&g->in) << g->n_bits;
        if (g->in.past_end)
            return NO_CODE;
        g->block_left--;
        g->n_bits += 8;
    }
    int code = (int)(g->bits & ((1u << size) - 1));
    g->bits >>= size;
    g->n_bits -= size;
    return code;
}

/* The image row to which row `i` of the data belongs. */
static int32_t row_place(const gif *g, int32_t i) {
    static const struct { int32_t first, step; } passes[4] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
    if (!g->interlaced)
        return i;
    for (int k = 0; k < 4; k++) {
        int32_t rows =
            g->height > passes[k].first ? (g->height - passes[k].first + passes[k].step - 1) / passes[k].step : 0;
        if (i < rows)
            return passes[k].first + i * passes[k].step;
        i -= rows;
    }
    return 0;
}

static void put_pixel(const gif *g, trol_image *image, int64_t place, uint8_t index) {
    int32_t x = g->left + (int32_t)(place % g->width), y = g->top + row_place(g, (int32_t)(place / g->width));
    memcpy(image->pixels + 3 * ((size_t)y * (size_t)image->width + (size_t)x), g->palette[index], 3);
}

static trol_status decode_frame(gif *g, trol_image *image, trol_error *error) {
    int root_size = read_u8(&g->in);
    if (g->in.past_end)
        return fail_cut_short("GIF", image->width, image->height, error);
    if (root_size < 1 || root_size > 8)
        return fail(error, TROL_ERROR_FORMAT, "the GIF is damaged: its codes begin with %d bits", root_size);
    int clear = 1 << root_size, end = clear + 1, next = clear + 2, size = root_size + 1, previous = NO_CODE;
    uint8_t first = 0;
    int64_t place = 0, n_pixels = (int64_t)g->width * g->height;
    for (int i = 0; i < clear; i++)
        g->suffix[i] = (uint8_t)i;
    while (place < n_pixels) {
        int code = next_code(g, size);
        if (code == NO_CODE || code == end)
            return fail_cut_short("GIF", image->width, image->height, error);
        if (code == clear) {
            next = clear + 2;
            size = root_size + 1;
            previous = NO_CODE;
            continue;
        }
        if (previous == NO_CODE ? code >= clear : code > next || (code == next && next >= MAX_CODES))
            return fail(error, TROL_ERROR_FORMAT, "the GIF is damaged: its data contain an impossible code");
        int n_spelled = 0, rest = code;
        if (code == next) { /* what the previous code stands for, followed by its first index */
            g->spelled[n_spelled++] = first;
            rest = previous;
        }
        for (; rest >= clear; rest = g->prefix[rest])
            g->spelled[n_spelled++] = g->suffix[rest];
        first = g->suffix[rest];
        g->spelled[n_spelled++] = first;
        if (previous != NO_CODE && next < MAX_CODES) {
            g->prefix[next] = (int16_t)previous;
            g->suffix[next] = first;
            if (++next == 1 << size && size < 12)
                size++;
        }
        previous = code;
        while (n_spelled > 0 && place < n_pixels)
            put_pixel(g, image, place++, g->spelled[--n_spelled]);
    }
    return TROL_OK;
}

/* What follows the last pixel: the rest of its blocks, and at least the start of the next one. No pixel depends on
 * it. */
static void finish_frame(gif *g, const image_settings *settings) {
    skip_bytes(&g->in, (uint64_t)g->block_left);
    skip_blocks(&g->in);
    read_u8(&g->in);
    if (g->in.past_end)
        image_notice(settings, "the GIF lacks its end; all of its pixels are there");
}

static void fill_around_frame(const gif *g, trol_image *image) {
    const uint8_t *background = g->palette[g->transparent < 0 ? 0 : g->transparent];
    uint8_t *out = image->pixels;
    for (int32_t y = 0; y < image->height; y++)
        for (int32_t x = 0; x < image->width; x++, out += 3)
            if (y < g->top || y >= g->top + g->height || x < g->left || x >= g->left + g->width)
                memcpy(out, background, 3);
}

static trol_status decode_file(gif *g, const image_settings *settings, trol_image *image, trol_error *error) {
    skip_bytes(&g->in, 6); /* "GIF89a" */
    int32_t screen_width = read_u16_little(&g->in), screen_height = read_u16_little(&g->in);
    uint8_t flags = read_u8(&g->in);
    skip_bytes(&g->in, 2);
    for (int i = 0; i < 256; i++)
        memset(g->palette[i], i, 3);
    g->transparent = -1;
    if (flags & 0x80)
        read_palette(g, flags & 7);
    for (uint8_t kind; (kind = read_u8(&g->in)) != ',';) {
        if (g->in.past_end)
            return fail_cut_short("GIF", 0, 0, error);
        if (kind == ';')
            return fail(error, TROL_ERROR_FORMAT, "the GIF contains no picture");
        if (kind == '!')
            read_extension(g);
    }
    g->left = read_u16_little(&g->in);
    g->top = read_u16_little(&g->in);
    g->width = read_u16_little(&g->in);
    g->height = read_u16_little(&g->in);
    flags = read_u8(&g->in);
    if (flags & 0x80)
        read_palette(g, flags & 7);
    g->interlaced = flags & 0x40;
    if (g->in.past_end)
        return fail_cut_short("GIF", 0, 0, error);
    TRY(image_check_size("GIF", g->width, g->height, settings->max_pixels, error));
    int32_t width = g->left + g->width, height = g->top + g->height;
    TRY(image_alloc("GIF", width > screen_width ? width : screen_width, height > screen_height ? height : screen_height,
                    settings->max_pixels, image, error));
    TRY(decode_frame(g, image, error));
    finish_frame(g, settings);
    fill_around_frame(g, image);
    return TROL_OK;
}

trol_status gif_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    gif *g;
    TRY(memory_alloc_zero(1, sizeof *g, "a GIF's tables", (void **)&g, error));
    g->in = in;
    trol_status status = decode_file(g, settings, image, error);
    memory_free(g);
    return status;
}
