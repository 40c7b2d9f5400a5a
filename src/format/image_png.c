/* image_png.c - checks a PNG chunk by chunk, checksums included, and rewrites it for stb_image with only the header,
 * the palette (filled up, so that every index has a colour) and the data: alpha is dropped, and nothing else in the
 * file matters.
 *
 * A PNG may lack its tail. It is decoded with a notice if all pixels are there and one of the two checksums of its data
 * is right: those of all IDAT chunks, or the Adler-32 at the end of their contents. Its data are then rewritten without
 * compression. */
#include "format/image_formats.h"

#include "base/memory.h"

enum { SIGNATURE_BYTES = 8, CHUNK_OVERHEAD = 12, HEADER_BYTES = 13, PALETTE_BYTES = 768 };
enum { COLOR_PALETTE = 3 };

#define CHUNK(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* The CRC-32 of ISO 3309, four bits at a time. */
static uint32_t checksum(const uint8_t *bytes, size_t n_bytes) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t sum = 0xffffffffu;
    for (size_t i = 0; i < n_bytes; i++) {
        sum ^= bytes[i];
        sum = table[sum & 15] ^ sum >> 4;
        sum = table[sum & 15] ^ sum >> 4;
    }
    return ~sum;
}

typedef struct png {
    int64_t max_pixels;
    int32_t width, height;
    int depth, color;
    bool interlaced;
    const uint8_t *header, *palette; /* contents of the chunks; NULL: not there */
    size_t n_palette;
    uint8_t *plain; /* the new file */
    size_t n_plain; /* bytes of it; while data chunks are read, where they end */
    size_t data_begin;
    bool ended;
    bool tail_lost;    /* the file stops, or stops making sense, after the start of its data */
    bool data_unsound; /* the checksum of an IDAT chunk is wrong or missing */
} png;

static trol_status read_header(png *p, const uint8_t *contents, size_t n_bytes, trol_error *error) {
    byte_reader in = {contents, n_bytes, 0, false};
    if (n_bytes != HEADER_BYTES || p->header)
        return fail(error, TROL_ERROR_FORMAT, "the PNG is damaged: its header is malformed or comes twice");
    int64_t width = read_u32_big(&in), height = read_u32_big(&in);
    p->depth = read_u8(&in);
    p->color = read_u8(&in);
    unsigned compression = read_u8(&in), filter = read_u8(&in), interlace = read_u8(&in);
    /* Bit n: depth n is allowed. */
    static const uint32_t depths[7] = {0x10116, 0, 0x10100, 0x116, 0x10100, 0, 0x10100};
    if (p->color > 6 || p->depth > 16 || !(depths[p->color] >> p->depth & 1) || compression || filter || interlace > 1)
        return fail(
            error, TROL_ERROR_FORMAT,
            "the PNG is damaged: its header says colour type %d with %d bits, compression %u, filter %u, interlace %u",
            p->color, p->depth, compression, filter, interlace);
    TRY(image_check_size("PNG", width, height, p->max_pixels, error));
    p->width = (int32_t)width;
    p->height = (int32_t)height;
    p->interlaced = interlace;
    p->header = contents;
    return TROL_OK;
}

static void write_u32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Writes a chunk around n_bytes of contents at p->plain + p->n_plain; NULL: they are already there. The reader of this
 * file ignores its checksums, so they are 0. */
static void write_chunk(png *p, const char *type, const uint8_t *contents, size_t n_bytes) {
    uint8_t *to = p->plain + p->n_plain;
    write_u32(to, (uint32_t)n_bytes);
    memcpy(to + 4, type, 4);
    if (contents)
        memcpy(to + 8, contents, n_bytes);
    write_u32(to + 8 + n_bytes, 0);
    p->n_plain += n_bytes + CHUNK_OVERHEAD;
}

/* Before the first data chunk: everything that precedes it. */
static trol_status begin_data(png *p, trol_error *error) {
    if (p->color == COLOR_PALETTE) {
        if (!p->palette)
            return fail(error, TROL_ERROR_FORMAT, "the PNG is damaged: its palette is missing");
        uint8_t filled[PALETTE_BYTES] = {0};
        memcpy(filled, p->palette, p->n_palette);
        write_chunk(p, "PLTE", filled, PALETTE_BYTES);
    }
    p->data_begin = p->n_plain;
    p->n_plain += 8; /* length and type are written when the data are complete */
    return TROL_OK;
}

static trol_status read_chunk(png *p, uint32_t type, const uint8_t *contents, size_t n_bytes, trol_error *error) {
    if (!p->header && type != CHUNK('I', 'H', 'D', 'R'))
        return type == CHUNK('C', 'g', 'B', 'I')
                   ? fail(error, TROL_ERROR_UNSUPPORTED,
                          "the PNG is Apple's variant for apps (CgBI), which is not supported")
                   : fail(error, TROL_ERROR_FORMAT, "the PNG is damaged: it does not begin with its header");
    switch (type) {
    case CHUNK('I', 'H', 'D', 'R'):
        TRY(read_header(p, contents, n_bytes, error));
        write_chunk(p, "IHDR", contents, n_bytes);
        return TROL_OK;
    case CHUNK('P', 'L', 'T', 'E'):
        if (n_bytes > PALETTE_BYTES || n_bytes % 3 || n_bytes == 0 || p->data_begin)
            return fail(error, TROL_ERROR_FORMAT,
                        "the PNG is damaged: its palette has %zu bytes or comes after the picture", n_bytes);
        p->palette = contents;
        p->n_palette = n_bytes;
        return TROL_OK;
    case CHUNK('I', 'D', 'A', 'T'):
        if (!p->data_begin)
            TRY(begin_data(p, error));
        if (n_bytes)
            memcpy(p->plain + p->n_plain, contents, n_bytes);
        p->n_plain += n_bytes;
        return TROL_OK;
    case CHUNK('I', 'E', 'N', 'D'):
        p->ended = true;
        return TROL_OK;
    default:
        if (!(type >> 24 & 0x20))
            return fail(error, TROL_ERROR_UNSUPPORTED, "the PNG has a critical chunk of unknown type %c%c%c%c",
                        (int)(type >> 24), (int)(type >> 16 & 255), (int)(type >> 8 & 255), (int)(type & 255));
        return TROL_OK;
    }
}

/* A chunk that is cut off by the end of the file: image data count as far as they go. */
static trol_status read_cut_chunk(png *p, byte_reader *in, uint32_t type, size_t n_bytes, trol_error *error) {
    p->tail_lost = true;
    if (!in->past_end && type == CHUNK('I', 'D', 'A', 'T') && p->header) {
        p->data_unsound = true;
        size_t left = bytes_left(in);
        return read_chunk(p, type, in->bytes + in->position, left < n_bytes ? left : n_bytes, error);
    }
    return p->data_begin ? TROL_OK : fail_cut_short("PNG", p->width, p->height, error);
}

static trol_status walk_chunks(png *p, byte_reader *in, trol_error *error) {
    skip_bytes(in, SIGNATURE_BYTES);
    while (!p->ended && !p->tail_lost) {
        const uint8_t *chunk = in->bytes + in->position;
        size_t n_bytes = read_u32_big(in);
        uint32_t type = read_u32_big(in);
        if (in->past_end || bytes_left(in) < 4 || bytes_left(in) - 4 < n_bytes) {
            TRY(read_cut_chunk(p, in, type, n_bytes, error));
            continue;
        }
        skip_bytes(in, n_bytes);
        uint32_t sum = read_u32_big(in);
        bool critical = !(type >> 24 & 0x20), data = type == CHUNK('I', 'D', 'A', 'T') && p->header;
        if (critical && checksum(chunk + 4, n_bytes + 4) != sum) {
            p->data_unsound = p->data_unsound || data;
            p->tail_lost = !data && p->data_begin;
            if (!data && !p->data_begin)
                return fail(error, TROL_ERROR_FORMAT, "the PNG is damaged: the checksum of its %.4s chunk is wrong",
                            (const char *)chunk + 4);
        }
        if (!p->tail_lost)
            TRY(read_chunk(p, type, chunk + 8, n_bytes, error));
    }
    return p->data_begin ? TROL_OK : fail(error, TROL_ERROR_FORMAT, "the PNG is damaged: it has no picture data");
}

static void end_data(png *p, size_t n_data) {
    p->n_plain = p->data_begin;
    write_chunk(p, "IDAT", NULL, n_data);
    write_chunk(p, "IEND", NULL, 0);
}

/* Makes room for a new file with n_data bytes of data and starts it. */
static trol_status begin_plain(png *p, size_t n_data, trol_error *error) {
    size_t room = n_data + SIGNATURE_BYTES + HEADER_BYTES + PALETTE_BYTES + 4 * CHUNK_OVERHEAD;
    TRY(memory_alloc(room, 1, "a PNG's data", (void **)&p->plain, error));
    memcpy(p->plain, "\x89PNG\r\n\x1a\n", SIGNATURE_BYTES);
    p->n_plain = SIGNATURE_BYTES;
    return TROL_OK;
}

static trol_status read_file(png *p, byte_reader in, trol_error *error) {
    TRY(begin_plain(p, in.n_bytes, error)); /* the data are at most the file's */
    TRY(walk_chunks(p, &in, error));
    size_t n_data = p->n_plain - p->data_begin - 8;
    /* Each row takes at most its samples (up to 8 bytes per pixel), a filter byte, and the same for interlacing's small
     * passes. More is a decompression bomb, or not an image of this size. */
    size_t most = 2 * ((size_t)p->width * 8 + 8) * (size_t)p->height + 65536;
    if (n_data > most)
        return fail(
            error, TROL_ERROR_FORMAT,
            "the PNG is damaged: its %d x %d pixels come with %zu bytes of compressed data, expected at most %zu",
            p->width, p->height, n_data, most);
    end_data(p, n_data);
    return TROL_OK;
}

/* ---- files without their tail ------------------------------------------------------------------ */

/* The bytes of all rows, each with its filter byte; of an interlaced image those of seven passes. */
static size_t row_bytes(const png *p) {
    static const struct {
        int32_t x, y, step_x, step_y;
    } passes[8] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                   {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}, {0, 0, 1, 1}};
    static const size_t channels[7] = {1, 0, 3, 1, 2, 0, 4};
    size_t bits = channels[p->color] * (size_t)p->depth, sum = 0;
    for (int i = p->interlaced ? 0 : 7; i < (p->interlaced ? 7 : 8); i++) {
        size_t columns = (size_t)((p->width - passes[i].x + passes[i].step_x - 1) / passes[i].step_x);
        size_t rows = (size_t)((p->height - passes[i].y + passes[i].step_y - 1) / passes[i].step_y);
        sum += columns ? rows * (1 + (columns * bits + 7) / 8) : 0;
    }
    return sum;
}

/* Rewrites the file with the given rows, in blocks without compression. */
static trol_status write_stored(png *p, const uint8_t *rows, size_t n_bytes, trol_error *error) {
    enum { BLOCK_BYTES = 65535 };
    memory_free(p->plain);
    p->data_begin = 0;
    TRY(begin_plain(p, n_bytes + 5 * (n_bytes / BLOCK_BYTES + 1) + 6, error));
    write_chunk(p, "IHDR", p->header, HEADER_BYTES);
    TRY(begin_data(p, error));
    uint8_t *to = p->plain + p->n_plain;
    memcpy(to, "\x78\x01", 2);
    to += 2;
    for (size_t done = 0; done < n_bytes;) {
        size_t n = n_bytes - done < BLOCK_BYTES ? n_bytes - done : BLOCK_BYTES;
        uint8_t head[5] = {done + n == n_bytes, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8)};
        memcpy(to, head, 5);
        memcpy(to + 5, rows + done, n);
        to += 5 + n;
        done += n;
    }
    memset(to, 0, 4); /* stb_image does not look at the checksum */
    end_data(p, (size_t)(to + 4 - p->plain) - p->data_begin - 8);
    return TROL_OK;
}

/* Unpacks the data of an incomplete file and rewrites it if they are all there and can be trusted. */
static trol_status restore(png *p, const image_settings *settings, trol_error *error) {
    size_t n_rows = row_bytes(p), n_data = p->n_plain - p->data_begin - 8 - 4 - CHUNK_OVERHEAD;
    uint8_t *rows;
    bool checksum_right;
    /* Deflate's highest ratio is 1032. */
    if (n_rows / 1032 > n_data)
        return fail_cut_short("PNG", p->width, p->height, error);
    TRY(memory_alloc(n_rows, 1, "a PNG's rows", (void **)&rows, error));
    size_t n = inflate_zlib(p->plain + p->data_begin + 8, n_data, rows, n_rows, &checksum_right);
    trol_status status = TROL_OK;
    if (n < n_rows)
        status = p->data_unsound && !p->tail_lost
                     ? fail(error, TROL_ERROR_FORMAT, "the PNG is damaged: the checksum of its IDAT chunk is wrong")
                     : fail_cut_short("PNG", p->width, p->height, error);
    else if (p->data_unsound && !checksum_right)
        status =
            fail(error, TROL_ERROR_FORMAT,
                 "the PNG is damaged: neither the checksum of each IDAT chunk (CRC) nor that of its data (Adler-32) "
                 "is there and right");
    else
        status = write_stored(p, rows, n_rows, error);
    memory_free(rows);
    if (status == TROL_OK)
        image_notice(settings, "the PNG %s; all of its pixels are there",
                     p->tail_lost      ? "lacks its end"
                     : p->data_unsound ? "has a wrong checksum (CRC) of its data, whose own (Adler-32) is right"
                                       : "lacks the end of its data");
    return status;
}

static trol_status decode(png *p, byte_reader in, const image_settings *settings, trol_image *image,
                          trol_error *error) {
    TRY(read_file(p, in, error));
    bool whole = !p->tail_lost && !p->data_unsound;
    if (whole) {
        trol_status status = stb_decode(p->plain, p->n_plain, p->width, p->height, &image->pixels, error);
        if (status != TROL_ERROR_FORMAT)
            return status;
    }
    TRY(restore(p, settings, error)); /* stb_image does not decode data without their checksum either */
    return stb_decode(p->plain, p->n_plain, p->width, p->height, &image->pixels, error);
}

trol_status png_decode(byte_reader in, const image_settings *settings, trol_image *image, trol_error *error) {
    png p = {.max_pixels = settings->max_pixels};
    image->orientation = exif_orientation_png(in);
    trol_status status = decode(&p, in, settings, image, error);
    image->width = p.width;
    image->height = p.height;
    memory_free(p.plain);
    return status;
}
