/* AMX: large batches of quantized weights as bfloat16 tiles.
 *
 * A tile instruction sums 32 columns at once, so there is no place for a scale every 32 columns after the sum.
 * Therefore a panel of weights is multiplied out to bfloat16 once and then serves all input rows; inputs are bfloat16
 * too, which is kinder to outliers than 8 bits. Half the rate of 8-bit tiles, and still four times that of vpdpbusd.
 *
 * A panel is 256 rows x 2048 columns (1 MiB, half of L2). Against it go pairs of input tiles (32
 * rows), 512 columns at a time, so that the 32 KiB of inputs stay in L1 while weights stream from
 * L2: 2 x 2 result tiles, two of weights and two of inputs are the eight tile registers. */
#if defined(TROL_HAVE_AMX)
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/quantized_kernels.h"

enum {
    TILE_BYTES = 1024,      /* 16 rows of 64 bytes */
    PANEL_GROUPS = 16,      /* 256 rows */
    PANEL_PAIRS = 32,       /* 2048 columns */
    STRIP_TILES = 16,       /* 512 columns */
    TILE_ELEMENTS = 16 * 32 /* bfloat16, 16 input rows x 32 columns */
};

#define INLINE static inline __attribute__((always_inline))

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Up to 16 rows of inputs to tiles [column tile][16][32]. */
static void round_rows(const float *x, int64_t stride, int64_t n_rows, int64_t columns, int64_t n_pairs,
                       uint16_t *tiles) {
    for (int64_t tile = 0; tile < 2 * n_pairs; tile++)
        for (int64_t r = 0; r < 16; r++, tiles += QUANTIZED_BLOCK) {
            __m512i rounded = _mm512_setzero_si512();
            if (r < n_rows && tile * QUANTIZED_BLOCK < columns) {
                const float *from = x + r * stride + tile * QUANTIZED_BLOCK;
                rounded = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
            }
            _mm512_storeu_si512(tiles, rounded);
        }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* What turns a line of 16 rows x 4 columns into two rows of a weight tile, [columns 0, 1] and [2, 3] of 16 weight rows.
 *
 * A byte u is put into bits 8 to 15 of the float 2^15, which makes it 2^15 + u; one FMA then gives (u - 128) * scale
 * without rounding, as the scale has 8 significant bits and 2^15 + 128 has 9. Four shuffles place the bytes of rows 0,
 * 1 and of rows 2, 3 of each quarter; so weight row r comes out in result column rows_to_columns[r]. */
typedef struct line_constants {
    __m512i low_01, high_01, low_23,
        high_23; /* byte shuffles: rows 0, 1 and 2, 3 of a quarter; columns 0, 1 and 2, 3 */
    __m512i scales_low, scales_high, rows_to_columns; /* permutations of 16 dwords */
    __m512 magic;                                     /* 2^15 */
} line_constants;

INLINE line_constants make_constants(void) {
    return (line_constants){
        .low_01 = _mm512_set4_epi32(5 << 8, 4 << 8, 1 << 8, 0 << 8),
        .high_01 = _mm512_set4_epi32(13 << 8, 12 << 8, 9 << 8, 8 << 8),
        .low_23 = _mm512_set4_epi32(7 << 8, 6 << 8, 3 << 8, 2 << 8),
        .high_23 = _mm512_set4_epi32(15 << 8, 14 << 8, 11 << 8, 10 << 8),
        .scales_low = _mm512_setr_epi32(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13),
        .scales_high = _mm512_setr_epi32(2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15),
        .rows_to_columns = _mm512_setr_epi32(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15),
        .magic = _mm512_set1_ps(32768.0f),
    };
}

/* Scales of a block, and what takes the offset away, in the two orders of lanes. */
typedef struct block_scales {
    __m512 low, high, low_offset, high_offset;
} block_scales;

INLINE block_scales make_scales(const line_constants *c, __m512i scales) {
    const __m512 offset = _mm512_set1_ps(-32768.0f - 128.0f);
    block_scales s;
    s.low = _mm512_castsi512_ps(_mm512_permutexvar_epi32(c->scales_low, scales));
    s.high = _mm512_castsi512_ps(_mm512_permutexvar_epi32(c->scales_high, scales));
    s.low_offset = _mm512_mul_ps(s.low, offset);
    s.high_offset = _mm512_mul_ps(s.high, offset);
    return s;
}

INLINE __m512i line_to_bf16(const line_constants *c, const block_scales *s, __m512i line, __m512i low, __m512i high) {
    const __mmask64 second_bytes = 0x2222222222222222;
    __m512i magic = _mm512_castps_si512(c->magic);
    __m512 a = _mm512_castsi512_ps(_mm512_mask_shuffle_epi8(magic, second_bytes, line, low));
    __m512 b = _mm512_castsi512_ps(_mm512_mask_shuffle_epi8(magic, second_bytes, line, high));
    a = _mm512_fmadd_ps(a, s->low, s->low_offset);
    b = _mm512_fmadd_ps(b, s->high, s->high_offset);
    return (__m512i)_mm512_cvtne2ps_pbh(b, a);
}

INLINE uint8_t *store_line(const line_constants *c, const block_scales *s, __m512i line, uint8_t *tile) {
    _mm512_storeu_si512(tile, line_to_bf16(c, s, line, c->low_01, c->high_01));
    _mm512_storeu_si512(tile + 64, line_to_bf16(c, s, line, c->low_23, c->high_23));
    return tile + 128;
}

/* n_pairs pairs of one group as 2 * n_pairs weight tiles. */
INLINE void group_to_bf16(bool q4, const uint8_t *pair, int64_t n_pairs, uint8_t *tile) {
    const line_constants c = make_constants();
    const __m512i high_halves = _mm512_set1_epi32(-65536), high_nibbles = _mm512_set1_epi8(-16);
    const int n_lines = q4 ? 4 : 8; /* of a block */
    for (int64_t p = 0; p < n_pairs; p++, pair += q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8)
        for (int half = 0; half < 2; half++) {
            __m512i both = _mm512_loadu_si512(pair);
            block_scales s = make_scales(&c, half ? _mm512_and_si512(both, high_halves) : _mm512_slli_epi32(both, 16));
            for (int i = 0; i < n_lines; i++) {
                __m512i line = _mm512_loadu_si512(pair + QUANTIZED_SCALE_BYTES + 64 * (half * n_lines + i));
                if (q4) {
                    tile = store_line(&c, &s, _mm512_and_si512(_mm512_slli_epi16(line, 4), high_nibbles), tile);
                    line = _mm512_and_si512(line, high_nibbles);
                }
                tile = store_line(&c, &s, line, tile);
            }
        }
}

/* panel: [n_groups][2 * n_pairs] tiles, of pairs first_pair .. first_pair + n_pairs - 1 of groups of all_pairs pairs */
static void panel_to_bf16(element_type type, const uint8_t *groups, int64_t n_groups, int64_t all_pairs,
                          int64_t first_pair, int64_t n_pairs, uint8_t *panel) {
    int64_t pair_bytes = type == ELEMENT_Q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8;
    for (int64_t g = 0; g < n_groups; g++, panel += 2 * n_pairs * TILE_BYTES) {
        const uint8_t *first = groups + (g * all_pairs + first_pair) * pair_bytes;
        if (type == ELEMENT_Q4)
            group_to_bf16(true, first, n_pairs, panel);
        else
            group_to_bf16(false, first, n_pairs, panel);
    }
    __asm__ volatile("" : : : "memory"); /* tile loads are opaque to gcc 12: the stores above come before them */
}

/* ---- product --------------------------------------------------------------------------------- */

/* 32 input rows x 32 weight rows, n_tiles column tiles. a0, a1: two row tiles, b0, b1: two groups, each with its column
 * tiles one after the other. sums: results [group][row tile]. Beside it `next_lines` cache lines a step are fetched
 * from `next` into L2. */
INLINE void multiply_2x2(const uint8_t *a0, const uint8_t *a1, const uint8_t *b0, const uint8_t *b1, int64_t n_tiles,
                         bool add, uint8_t *sums, const uint8_t *next, int64_t next_stride, int64_t next_lines) {
    if (add) {
        _tile_loadd(0, sums, 64);
        _tile_loadd(1, sums + TILE_BYTES, 64);
        _tile_loadd(2, sums + 2 * TILE_BYTES, 64);
        _tile_loadd(3, sums + 3 * TILE_BYTES, 64);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < n_tiles; i++) {
        for (int64_t j = 0; j < next_lines; j++) {
            _mm_prefetch((const char *)next + 64 * (i * next_lines + j), _MM_HINT_T1);
            _mm_prefetch((const char *)next + next_stride + 64 * (i * next_lines + j), _MM_HINT_T1);
        }
        _tile_loadd(6, b0 + i * TILE_BYTES, 64);
        _tile_loadd(4, a0 + i * TILE_BYTES, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a1 + i * TILE_BYTES, 64);
        _tile_dpbf16ps(1, 5, 6);
        _tile_loadd(7, b1 + i * TILE_BYTES, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + TILE_BYTES, 64);
    _tile_stored(2, sums + 2 * TILE_BYTES, 64);
    _tile_stored(3, sums + 3 * TILE_BYTES, 64);
}

/* The part of the product that one panel gives. */
typedef struct panel_product {
    const uint8_t *panel; /* [n_groups][n_tiles] weight tiles */
    int64_t n_groups, n_tiles;
    const uint8_t *inputs;  /* first column tile of the panel in the first row tile */
    int64_t row_tile_bytes; /* from a row tile to the next */
    int64_t n_row_tiles;
    bool first; /* sums begin here */
} panel_product;

/* Row tiles 2 * row_pair and 2 * row_pair + 1. sums: [group][2] results. A missing second tile or group is replaced by
 * the first, whose result is then computed twice and left alone. */
static void multiply_row_pair(const panel_product *p, int64_t row_pair, uint8_t *sums) {
    const uint8_t *a0 = p->inputs + 2 * row_pair * p->row_tile_bytes;
    const uint8_t *a1 = 2 * row_pair + 1 < p->n_row_tiles ? a0 + p->row_tile_bytes : a0;
    /* the next row pair, to be fetched into L2 meanwhile: lines for each step of the inner loop */
    const uint8_t *next = a0 + 2 * p->row_tile_bytes;
    int64_t next_lines = 2 * row_pair + 3 < p->n_row_tiles ? (16 + p->n_groups / 2) / ((p->n_groups + 1) / 2) : 0;
    for (int64_t strip = 0; strip < p->n_tiles; strip += STRIP_TILES) {
        int64_t n = p->n_tiles - strip < STRIP_TILES ? p->n_tiles - strip : STRIP_TILES, offset = strip * TILE_BYTES;
        for (int64_t g = 0; g < p->n_groups; g += 2) {
            const uint8_t *b0 = p->panel + g * p->n_tiles * TILE_BYTES;
            const uint8_t *b1 = g + 1 < p->n_groups ? b0 + p->n_tiles * TILE_BYTES : b0;
            multiply_2x2(a0 + offset, a1 + offset, b0 + offset, b1 + offset, n, strip > 0 || !p->first,
                         sums + 2 * g * TILE_BYTES, next, p->row_tile_bytes, next_lines);
            next += n * next_lines * 64;
        }
    }
}

/* Where the results go. */
typedef struct destination {
    float *out;
    int64_t stride, skip, n_tokens; /* input rows skip .. skip + n_tokens - 1, counted from the first row tile */
    int64_t skip_rows, n_rows;      /* weight rows, counted from the first group */
} destination;

/* Puts the results of a row pair (sums [group][2]) into out, weight rows in order. */
static void store_row_pair(const destination *d, int64_t row_pair, int64_t first_group, int64_t n_groups,
                           const uint8_t *sums) {
    const __m512i order = make_constants().rows_to_columns;
    for (int64_t i = 0; i < 32; i++) {
        int64_t t = 32 * row_pair + i - d->skip;
        if (t < 0 || t >= d->n_tokens)
            continue;
        for (int64_t g = 0; g < n_groups; g++) {
            __m512 row = _mm512_loadu_ps(sums + (2 * g + i / 16) * TILE_BYTES + i % 16 * 64);
            row = _mm512_permutexvar_ps(order, row);
            int64_t first = (first_group + g) * QUANTIZED_GROUP - d->skip_rows, last = first + QUANTIZED_GROUP;
            if (first >= 0 && last <= d->n_rows) {
                _mm512_storeu_ps(d->out + t * d->stride + first, row);
                continue;
            }
            float part[QUANTIZED_GROUP];
            _mm512_storeu_ps(part, row);
            int64_t from = first < 0 ? 0 : first, to = last > d->n_rows ? d->n_rows : last;
            memcpy(d->out + t * d->stride + from, part + (from - first), (size_t)(to - from) * sizeof(float));
        }
    }
}

/* All eight tile registers: sixteen rows of 64 bytes. */
static void begin_tiles(void) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&configuration);
}

/* Scratch: the panel, then the sums: those of all row pairs where the columns take more than one panel, else of one. */
static void multiply_tiles(element_type type, const uint8_t *groups, int64_t n_groups, int64_t n_pairs,
                           const uint16_t *tiles, int64_t skip, int64_t n_tokens, float *out, int64_t out_stride,
                           int64_t skip_rows, int64_t n_rows, void *scratch) {
    destination d = {out, out_stride, skip, n_tokens, skip_rows, n_rows};
    int64_t pair_bytes = type == ELEMENT_Q4 ? QUANTIZED_PAIR_BYTES_Q4 : QUANTIZED_PAIR_BYTES_Q8;
    int64_t n_row_tiles = (skip + n_tokens + 15) / 16, n_row_pairs = (n_row_tiles + 1) / 2;
    bool keep = n_pairs > PANEL_PAIRS;
    begin_tiles();
    for (int64_t g = 0; g < n_groups; g += PANEL_GROUPS) {
        int64_t count = n_groups - g < PANEL_GROUPS ? n_groups - g : PANEL_GROUPS;
        int64_t panel_pairs = keep ? PANEL_PAIRS : n_pairs, sums_bytes = (count + 1) / 2 * 4 * TILE_BYTES;
        uint8_t *panel = scratch, *sums = panel + count * 2 * panel_pairs * TILE_BYTES;
        for (int64_t pair = 0; pair < n_pairs; pair += PANEL_PAIRS) {
            int64_t pairs = n_pairs - pair < PANEL_PAIRS ? n_pairs - pair : PANEL_PAIRS;
            panel_to_bf16(type, groups + g * n_pairs * pair_bytes, count, n_pairs, pair, pairs, panel);
            panel_product p = {.panel = panel,
                               .n_groups = count,
                               .n_tiles = 2 * pairs,
                               .inputs = (const uint8_t *)tiles + 2 * pair * TILE_BYTES,
                               .row_tile_bytes = 2 * n_pairs * TILE_BYTES,
                               .n_row_tiles = n_row_tiles,
                               .first = pair == 0};
            for (int64_t row_pair = 0; row_pair < n_row_pairs; row_pair++) {
                uint8_t *row_sums = sums + (keep ? row_pair * sums_bytes : 0);
                multiply_row_pair(&p, row_pair, row_sums);
                if (pair + pairs == n_pairs)
                    store_row_pair(&d, row_pair, g, count, row_sums);
            }
        }
    }
    _tile_release();
}

static size_t tiles_scratch_bytes(int64_t n_groups, int64_t n_pairs, int64_t n_tokens) {
    size_t count = (size_t)(n_groups < PANEL_GROUPS ? n_groups : PANEL_GROUPS);
    size_t pairs = (size_t)(n_pairs < PANEL_PAIRS ? n_pairs : PANEL_PAIRS);
    size_t row_pairs = n_pairs > PANEL_PAIRS ? (size_t)n_tokens / 32 + 2 : 1;
    return (count * 2 * pairs + row_pairs * ((count + 1) / 2 * 4)) * TILE_BYTES;
}

void quantized_fill_amx(quantized_kernels *table) {
    table->round_rows = round_rows;
    table->multiply_tiles = multiply_tiles;
    table->tiles_scratch_bytes = tiles_scratch_bytes;
}

#endif
