/* image_jpeg.c - checks a JPEG (baseline or progressive, Huffman-coded) before stb_image decodes it: all segments and
 * tables are well-formed, and the entropy-coded data hold every block of every scan. stb_image itself fills what is
 * missing with grey, or with whatever lies in memory. The codes are walked as in ITU T.81, without computing any pixel.
 */
#include "format/image_formats.h"

#include "base/memory.h"

enum { FAST_BITS = 10, MAX_COMPONENTS = 4 };

enum {
    MARKER_SOI = 0xd8,
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MARKER_DQT = 0xdb,
    MARKER_DNL = 0xdc,
    MARKER_DRI = 0xdd,
    MARKER_DHT = 0xc4,
    MARKER_COM = 0xfe,
    MARKER_NONE = 0xff
};

typedef struct huffman_table {
    bool defined;
    uint16_t fast[1 << FAST_BITS]; /* length << 8 | symbol for the codes of up to FAST_BITS bits; 0: none */
    int32_t first_code[17], count[17], first_index[17]; /* by length */
    uint8_t symbols[256];
} huffman_table;

typedef struct component {
    int id, h, v, quantization;
    int32_t blocks_x, blocks_y; /* that hold picture, what a scan of this component alone codes */
    int32_t stride;             /* blocks in a row, those that only fill up the last unit included */
    int dc_table, ac_table;
    int32_t dc;         /* prediction */
    bool coded;         /* its first scan came */
    uint64_t *non_zero; /* progressive: a bit for each coefficient of each block, in zigzag order */
} component;

typedef struct jpeg {
    byte_reader in;
    bool framed, progressive;
    int32_t width, height;
    int n_components, h_max, v_max;
    component components[MAX_COMPONENTS];
    bool quantization_defined[4];
    huffman_table dc[4], ac[4];
    int32_t restart_interval; /* in coded units; 0: none */
    /* The scan at hand. */
    int n_scan, scan[MAX_COMPONENTS];
    int first, last, high, low; /* coefficients first .. last; bit positions of successive approximation */
    int32_t end_of_band_run;
    uint64_t bits; /* the next bits of the data, from the top; zeros behind them */
    int n_bits;
    bool at_marker; /* no more data: a marker, or the end of the file, is next */
} jpeg;

static trol_status fail_damaged(const char *what, trol_error *error) {
    return fail(error, TROL_ERROR_FORMAT, "the JPEG is damaged: %s", what);
}

/* ---- bits and codes -------------------------------------------------------------------------- */

static void refill(jpeg *j) {
    byte_reader *in = &j->in;
    while (j->n_bits <= 56 && !j->at_marker) {
        size_t next = in->position;
        if (next >= in->n_bytes) {
            j->at_marker = true;
            return;
        }
        uint8_t byte = in->bytes[next++];
        if (byte == 0xff) {
            while (next < in->n_bytes && in->bytes[next] == 0xff)
                next++;
            if (next >= in->n_bytes || in->bytes[next] != 0) {
                j->at_marker = true;
                return;
            }
            next++;
        }
        in->position = next;
        j->bits |= (uint64_t)byte << (56 - j->n_bits);
        j->n_bits += 8;
    }
}

/* Takes the next code; up to 16 bits of it and 16 more are ready afterwards if the data have them. -1: no code fits. */
static inline int next_symbol(jpeg *j, const huffman_table *table) {
    if (j->n_bits < 32)
        refill(j);
    int length, symbol = -1, entry = table->fast[j->bits >> (64 - FAST_BITS)];
    if (entry) {
        length = entry >> 8;
        symbol = entry & 255;
    } else
        for (length = FAST_BITS + 1; length <= 16; length++) {
            int32_t place = (int32_t)(j->bits >> (64 - length)) - table->first_code[length];
            if (place >= 0 && place < table->count[length]) {
                symbol = table->symbols[table->first_index[length] + place];
                break;
            }
        }
    if (symbol < 0 || length > j->n_bits)
        return -1;
    j->bits <<= length;
    j->n_bits -= length;
    return symbol;
}

/* n from 0 to 16. */
static inline bool take_bits(jpeg *j, int n, uint32_t *value) {
    if (j->n_bits < n)
        refill(j);
    if (j->n_bits < n)
        return false;
    *value = n ? (uint32_t)(j->bits >> (64 - n)) : 0;
    j->bits <<= n;
    j->n_bits -= n;
    return true;
}

static trol_status read_huffman_table(jpeg *j, huffman_table *table, size_t *left, trol_error *error) {
    uint8_t counts[17] = {0};
    int total = 0;
    for (int length = 1; length <= 16; length++)
        total += counts[length] = read_u8(&j->in);
    if (total > 256 || *left < (size_t)(17 + total))
        return fail_damaged("a Huffman table does not fit its segment", error);
    memset(table, 0, sizeof *table);
    for (int i = 0; i < total; i++)
        table->symbols[i] = read_u8(&j->in);
    int32_t code = 0, index = 0;
    for (int length = 1; length <= 16; length++) {
        table->first_code[length] = code;
        table->first_index[length] = index;
        table->count[length] = counts[length];
        if (code + counts[length] > 1 << length)
            return fail_damaged("the code lengths of a Huffman table are impossible", error);
        for (int i = 0; i < counts[length] && length <= FAST_BITS; i++)
            for (int32_t k = 0; k < 1 << (FAST_BITS - length); k++)
                table->fast[((code + i) << (FAST_BITS - length)) + k] =
                    (uint16_t)(length << 8 | table->symbols[index + i]);
        code = (code + counts[length]) << 1;
        index += counts[length];
    }
    table->defined = true;
    *left -= (size_t)(17 + total);
    return TROL_OK;
}

/* ---- segments -------------------------------------------------------------------------------- */

static trol_status read_huffman_tables(jpeg *j, size_t left, trol_error *error) {
    while (left > 0) {
        int kind = read_u8(&j->in);
        if (kind >> 4 > 1 || (kind & 15) > 3)
            return fail_damaged("a Huffman table has an impossible number", error);
        TRY(read_huffman_table(j, kind >> 4 ? &j->ac[kind & 15] : &j->dc[kind & 15], &left, error));
    }
    return TROL_OK;
}

static trol_status read_quantization_tables(jpeg *j, size_t left, trol_error *error) {
    while (left > 0) {
        int kind = read_u8(&j->in);
        size_t bytes = kind >> 4 ? 128 : 64;
        if (kind >> 4 > 1 || (kind & 15) > 3 || left < 1 + bytes)
            return fail_damaged("a quantization table does not fit its segment", error);
        skip_bytes(&j->in, bytes);
        j->quantization_defined[kind & 15] = true;
        left -= 1 + bytes;
    }
    return TROL_OK;
}

static trol_status lay_out_components(jpeg *j, trol_error *error) {
    int32_t units_x = (j->width + 8 * j->h_max - 1) / (8 * j->h_max);
    int32_t units_y = (j->height + 8 * j->v_max - 1) / (8 * j->v_max);
    for (int i = 0; i < j->n_components; i++) {
        component *c = &j->components[i];
        if (j->h_max % c->h != 0 || j->v_max % c->v != 0)
            return fail(
                error, TROL_ERROR_UNSUPPORTED,
                "the JPEG's component %d is sampled %d x %d where another is %d x %d; only whole ratios are supported",
                i, c->h, c->v, j->h_max, j->v_max);
        c->blocks_x = ((j->width * c->h + j->h_max - 1) / j->h_max + 7) / 8;
        c->blocks_y = ((j->height * c->v + j->v_max - 1) / j->v_max + 7) / 8;
        c->stride = units_x * c->h;
        if (j->progressive)
            TRY(memory_alloc_zero((size_t)c->stride * (size_t)(units_y * c->v), sizeof *c->non_zero, "a JPEG's blocks",
                                  (void **)&c->non_zero, error));
    }
    return TROL_OK;
}

static trol_status read_frame(jpeg *j, size_t left, trol_error *error) {
    if (j->framed)
        return fail_damaged("it has two frame headers", error);
    int precision = read_u8(&j->in);
    j->height = read_u16_big(&j->in);
    j->width = read_u16_big(&j->in);
    j->n_components = read_u8(&j->in);
    if (left != 6 + 3 * (size_t)j->n_components ||
        (j->n_components != 1 && j->n_components != 3 && j->n_components != 4))
        return fail_damaged("its frame header is malformed", error);
    if (precision != 8)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the JPEG has %d bits a sample; only 8 are supported", precision);
    TRY(image_check_size("JPEG", j->width, j->height, error));
    j->h_max = j->v_max = 1;
    for (int i = 0; i < j->n_components; i++) {
        component *c = &j->components[i];
        c->id = read_u8(&j->in);
        int sampling = read_u8(&j->in);
        c->h = sampling >> 4;
        c->v = sampling & 15;
        c->quantization = read_u8(&j->in);
        if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4 || c->quantization > 3)
            return fail_damaged("its frame header has impossible sampling factors", error);
        if (c->h > j->h_max)
            j->h_max = c->h;
        if (c->v > j->v_max)
            j->v_max = c->v;
    }
    j->framed = true;
    return lay_out_components(j, error);
}

static trol_status read_scan_header(jpeg *j, size_t left, trol_error *error) {
    if (!j->framed)
        return fail_damaged("a scan comes before the frame header", error);
    j->n_scan = read_u8(&j->in);
    if (j->n_scan < 1 || j->n_scan > j->n_components || left != 4 + 2 * (size_t)j->n_scan)
        return fail_damaged("a scan header is malformed", error);
    unsigned seen = 0;
    for (int i = 0; i < j->n_scan; i++) {
        int id = read_u8(&j->in), tables = read_u8(&j->in), k = 0;
        while (k < j->n_components && j->components[k].id != id)
            k++;
        if (k == j->n_components || seen >> k & 1 || tables >> 4 > 3 || (tables & 15) > 3)
            return fail_damaged("a scan header names an impossible component or table", error);
        seen |= 1u << k;
        j->scan[i] = k;
        j->components[k].dc_table = tables >> 4;
        j->components[k].ac_table = tables & 15;
    }
    j->first = read_u8(&j->in);
    j->last = read_u8(&j->in);
    int approximation = read_u8(&j->in);
    j->high = approximation >> 4;
    j->low = approximation & 15;
    if (!j->progressive) {
        j->last = 63; /* some encoders write 0 */
        return j->first || approximation ? fail_damaged("a baseline scan is not of all coefficients", error) : TROL_OK;
    }
    if (j->first > j->last || j->last > 63 || j->high > 13 || j->low > 13 || (j->first == 0 && j->last != 0) ||
        (j->first > 0 && j->n_scan > 1))
        return fail_damaged("a progressive scan has impossible parameters", error);
    return TROL_OK;
}

static trol_status check_tables(const jpeg *j, trol_error *error) {
    for (int i = 0; i < j->n_scan; i++) {
        const component *c = &j->components[j->scan[i]];
        bool uses_dc = j->first == 0 && j->high == 0, uses_ac = !j->progressive || j->first > 0;
        if (!j->quantization_defined[c->quantization] || (uses_dc && !j->dc[c->dc_table].defined) ||
            (uses_ac && !j->ac[c->ac_table].defined))
            return fail_damaged("a scan uses a table that is not defined", error);
        if (!c->coded && (j->first > 0 || j->high > 0))
            return fail_damaged("a scan refines what has not come yet", error);
    }
    return TROL_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static bool walk_dc(jpeg *j, component *c) {
    int size = next_symbol(j, &j->dc[c->dc_table]);
    uint32_t bits;
    if (size < 0 || size > 15 || !take_bits(j, size, &bits))
        return false;
    if (size)
        c->dc += bits >> (size - 1) ? (int32_t)bits : (int32_t)bits - (1 << size) + 1;
    return c->dc >= -32767 && c->dc <= 32767;
}

static bool walk_baseline(jpeg *j, component *c) {
    if (!walk_dc(j, c))
        return false;
    const huffman_table *table = &j->ac[c->ac_table];
    for (int k = 1; k < 64;) {
        int symbol = next_symbol(j, table);
        if (symbol < 0)
            return false;
        int run = symbol >> 4, size = symbol & 15;
        if (size == 0 && run != 15)
            break;
        uint32_t bits;
        if (!take_bits(j, size, &bits))
            return false;
        k += run + 1;
    }
    return true;
}

/* After a symbol of size 0 and a run below 15: this band ends here, and in as many of the next blocks as the bits say.
 */
static bool start_end_of_band(jpeg *j, int run) {
    uint32_t bits;
    if (!take_bits(j, run, &bits))
        return false;
    j->end_of_band_run = (1 << run) + (int32_t)bits - 1;
    return true;
}

static bool walk_ac_first(jpeg *j, component *c, uint64_t *non_zero) {
    if (j->end_of_band_run > 0) {
        j->end_of_band_run--;
        return true;
    }
    for (int k = j->first; k <= j->last;) {
        int symbol = next_symbol(j, &j->ac[c->ac_table]);
        if (symbol < 0)
            return false;
        int run = symbol >> 4, size = symbol & 15;
        if (size == 0 && run < 15)
            return start_end_of_band(j, run);
        uint32_t bits;
        if (size + j->low > 15 || !take_bits(j, size, &bits))
            return false;
        k += run;
        if (size)
            *non_zero |= 1ull << (k < 63 ? k : 63);
        k++;
    }
    return true;
}

/* A bit for each coefficient that is not zero yet; a new one takes the place behind `run` zeros. */
static bool walk_ac_refine(jpeg *j, component *c, uint64_t *non_zero) {
    uint32_t bit;
    int k = j->first;
    while (j->end_of_band_run == 0 && k <= j->last) {
        int symbol = next_symbol(j, &j->ac[c->ac_table]);
        if (symbol < 0 || (symbol & 15) > 1)
            return false;
        int run = symbol >> 4, size = symbol & 15;
        if (size == 0 && run < 15) {
            if (!start_end_of_band(j, run))
                return false;
            j->end_of_band_run++; /* this block included */
            break;
        }
        if (size && !take_bits(j, 1, &bit))
            return false;
        for (; k <= j->last; k++) {
            if (*non_zero >> k & 1) {
                if (!take_bits(j, 1, &bit))
                    return false;
            } else if (run-- == 0)
                break;
        }
        if (size && k <= j->last)
            *non_zero |= 1ull << k;
        k++;
    }
    if (j->end_of_band_run == 0)
        return true;
    j->end_of_band_run--;
    for (; k <= j->last; k++)
        if (*non_zero >> k & 1 && !take_bits(j, 1, &bit))
            return false;
    return true;
}

static bool walk_block(jpeg *j, component *c, int32_t x, int32_t y) {
    if (!j->progressive)
        return walk_baseline(j, c);
    uint64_t *non_zero = &c->non_zero[(size_t)y * (size_t)c->stride + (size_t)x];
    uint32_t bit;
    if (j->first > 0)
        return j->high ? walk_ac_refine(j, c, non_zero) : walk_ac_first(j, c, non_zero);
    if (j->high)
        return take_bits(j, 1, &bit);
    *non_zero = 0;
    return walk_dc(j, c);
}

static void reset_prediction(jpeg *j) {
    for (int i = 0; i < j->n_components; i++)
        j->components[i].dc = 0;
    j->end_of_band_run = 0;
    j->bits = 0;
    j->n_bits = 0;
    j->at_marker = false;
}

/* The restart marker between two intervals. */
static bool pass_restart(jpeg *j) {
    refill(j);
    byte_reader *in = &j->in;
    if (!j->at_marker || j->n_bits >= 24)
        return false;
    while (bytes_left(in) > 1 && in->bytes[in->position] == 0xff && in->bytes[in->position + 1] == 0xff)
        in->position++;
    if (bytes_left(in) < 2 || (in->bytes[in->position + 1] & 0xf8) != 0xd0)
        return false;
    in->position += 2;
    reset_prediction(j);
    return true;
}

/* One coded unit: a block where the scan has one component, else h x v blocks of each. */
static bool walk_unit(jpeg *j, int32_t x, int32_t y) {
    if (j->n_scan == 1)
        return walk_block(j, &j->components[j->scan[0]], x, y);
    for (int i = 0; i < j->n_scan; i++) {
        component *c = &j->components[j->scan[i]];
        for (int v = 0; v < c->v; v++)
            for (int h = 0; h < c->h; h++)
                if (!walk_block(j, c, x * c->h + h, y * c->v + v))
                    return false;
    }
    return true;
}

static trol_status walk_scan(jpeg *j, trol_error *error) {
    const component *alone = &j->components[j->scan[0]];
    int32_t n_x = j->n_scan == 1 ? alone->blocks_x : alone->stride / alone->h;
    int32_t n_y = j->n_scan == 1 ? alone->blocks_y : (j->height + 8 * j->v_max - 1) / (8 * j->v_max);
    int32_t until_restart = j->restart_interval;
    reset_prediction(j);
    for (int32_t y = 0; y < n_y; y++)
        for (int32_t x = 0; x < n_x; x++) {
            bool whole = true;
            if (j->restart_interval && until_restart-- == 0) {
                whole = pass_restart(j);
                until_restart = j->restart_interval - 1;
            }
            if (whole && walk_unit(j, x, y))
                continue;
            refill(j);
            if (j->at_marker && j->n_bits < 32)
                return fail_cut_short("JPEG", j->width, j->height, error);
            return fail_damaged("its data contain an impossible code", error);
        }
    for (int i = 0; i < j->n_scan; i++)
        j->components[j->scan[i]].coded = true;
    return TROL_OK;
}

/* The next marker. Bytes that belong to nothing are passed over where `lenient`; MARKER_NONE: there is none. */
static int next_marker(byte_reader *in, bool lenient) {
    while (bytes_left(in) >= 2) {
        uint8_t byte = read_u8(in);
        if (byte != 0xff && !lenient)
            return MARKER_NONE;
        if (byte != 0xff)
            continue;
        uint8_t marker = in->bytes[in->position];
        if (marker == 0xff)
            continue;
        in->position++;
        if (marker != 0)
            return marker;
    }
    in->past_end = true;
    return MARKER_NONE;
}

static trol_status read_segment(jpeg *j, int marker, trol_error *error) {
    if (marker == MARKER_NONE || marker == 0x01 || (marker >= 0xd0 && marker <= MARKER_SOI))
        return fail_damaged("a marker is missing or out of place", error);
    size_t length = read_u16_big(&j->in);
    if (length < 2)
        return fail_damaged("a segment has a length below 2", error);
    length -= 2;
    if (bytes_left(&j->in) < length)
        return fail_cut_short("JPEG", j->width, j->height, error);
    switch (marker) {
    case MARKER_DHT:
        return read_huffman_tables(j, length, error);
    case MARKER_DQT:
        return read_quantization_tables(j, length, error);
    case MARKER_DRI:
        if (length != 2)
            return fail_damaged("its restart interval is malformed", error);
        j->restart_interval = read_u16_big(&j->in);
        return TROL_OK;
    case MARKER_SOS:
        TRY(read_scan_header(j, length, error));
        TRY(check_tables(j, error));
        return walk_scan(j, error);
    case 0xc0:
    case 0xc1:
    case 0xc2:
        j->progressive = marker == 0xc2;
        return read_frame(j, length, error);
    default:
        if ((marker >= 0xe0 && marker <= 0xef) || marker == MARKER_COM || marker == MARKER_DNL) {
            skip_bytes(&j->in, length);
            return TROL_OK;
        }
        return fail(
            error, TROL_ERROR_UNSUPPORTED,
            "the JPEG is of a kind that is not supported (marker 0x%02x; arithmetic-coded, lossless or hierarchical)",
            (unsigned)marker);
    }
}

static trol_status walk_file(jpeg *j, trol_error *error) {
    skip_bytes(&j->in, 2); /* the start-of-image marker, which made this a JPEG */
    bool after_scan = false;
    for (;;) {
        int marker = next_marker(&j->in, after_scan || !j->framed);
        if (j->in.past_end)
            return fail_cut_short("JPEG", j->width, j->height, error);
        if (marker == MARKER_EOI)
            break;
        TRY(read_segment(j, marker, error));
        after_scan = marker == MARKER_SOS;
    }
    for (int i = 0; i < j->n_components; i++)
        if (!j->components[i].coded)
            return fail_cut_short("JPEG", j->width, j->height, error);
    return j->framed ? TROL_OK : fail_damaged("it has no frame header", error);
}

trol_status jpeg_check(byte_reader in, int32_t *width, int32_t *height, trol_error *error) {
    jpeg *j;
    TRY(memory_alloc_zero(1, sizeof *j, "a JPEG's tables", (void **)&j, error));
    j->in = in;
    trol_status status = walk_file(j, error);
    *width = j->width;
    *height = j->height;
    for (int i = 0; i < MAX_COMPONENTS; i++)
        memory_free(j->components[i].non_zero);
    memory_free(j);
    return status;
}
