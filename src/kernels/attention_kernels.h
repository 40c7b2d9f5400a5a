/* attention_kernels.h - the inner loops of attention: what kernels.h puts in its table.
 *
 * Prompt and picture rows go through `tile`: query rows go across the lanes of vectors, keys and values are broadcast,
 * so that maxima, exponentials and sums of the softmax need no exchange between lanes and a lane's result does not
 * depend on its neighbours. Answer rows go through `dot` (kv_codec.h), `softmax` and `axpy`, which stream keys and
 * values in place. Scores are in units of log2: queries come multiplied by scale * log2(e), and exp2 is taken. */
#ifndef KERNELS_ATTENTION_KERNELS_H
#define KERNELS_ATTENTION_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ATTENTION_TILE_KEYS = 64, /* keys of a tile */
    ATTENTION_STRIP = 8       /* keys, or dimensions of a value, that are multiplied together */
};

/* A panel of query rows, one a lane, and a tile of keys. All arrays are aligned to 64 bytes. */
typedef struct attention_tile {
    int64_t n_lanes;        /* a multiple of vector_lanes, 1 to panel_vectors times */
    int64_t n_keys;         /* a multiple of ATTENTION_STRIP up to ATTENTION_TILE_KEYS */
    int64_t head_dim;       /* of keys and queries */
    int64_t n_value_strips; /* head_dim / ATTENTION_STRIP, rounded up */
    const float *q;         /* [head_dim, n_lanes] */
    const float *keys;      /* [n_keys, key_stride] */
    int64_t key_stride;
    const float *values;        /* [n_value_strips, ATTENTION_TILE_KEYS, ATTENTION_STRIP] */
    const int32_t *first, *end; /* [n_lanes]: a lane sees keys first .. end - 1 of the tile. NULL: all of them */
    float *scores;              /* [n_keys, n_lanes], scratch */
    float *max, *sum; /* [n_lanes]: largest score so far (-FLT_MAX at the start) and sum of exp2(score - max) */
    float *out;       /* [n_value_strips * ATTENTION_STRIP, n_lanes]: sum of exp2(score - max) * value */
} attention_tile;

typedef struct attention_kernels {
    int32_t vector_lanes;  /* query rows to a vector */
    int32_t panel_vectors; /* vectors to a panel, at most */
    bool prefetch_l2;      /* what `dot` and `axpy` are to be called with */
    void (*tile)(const attention_tile *tile);
    /* The same with bfloat16 products and float32 sums. Queries and values have come through pair_up_rows (values strip
     * by strip), keys through pair_up_keys. NULL, all three: there is none, or `tile` is as fast. */
    void (*tile_bf16)(const attention_tile *tile);
    /* Rows 2i and 2i + 1 of [n_rows, width] become row i of pairs of bfloat16, in place; zeros for a row that is not
     * there. */
    void (*pair_up_rows)(float *rows, int64_t n_rows, int64_t width);
    /* Elements 2i and 2i + 1 of each row become its pair i, in place. */
    void (*pair_up_keys)(float *keys, int64_t n_keys, int64_t key_stride, int64_t head_dim);
    /* to[d, lane] = scale * rows[lane][d]. n_lanes: a multiple of vector_lanes. */
    void (*load_lanes)(const float *const *rows, int64_t n_lanes, int64_t dims, float scale, float *to);
    /* rows[lane][d] = factors[lane] * from[d, lane] for the first n_rows lanes. */
    void (*store_lanes)(const float *from, int64_t n_lanes, int64_t dims, const float *factors, int64_t n_rows,
                        float *const *rows);

    /* Replaces n > 0 scores by exp2(score - max); *max and *sum are set. */
    void (*softmax)(float *scores, int64_t n, float *max, float *sum);
} attention_kernels;

/* Each instruction set's own entries, over those that are there; defined only where the compiler can build them. */
void attention_fill_scalar(attention_kernels *table);
void attention_fill_avx2(attention_kernels *table);
void attention_fill_avx512(attention_kernels *table);
void attention_fill_avx512bf16(attention_kernels *table);

#endif
