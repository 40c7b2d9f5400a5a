/* attention_tile_simd.h - a panel of queries by a tile of keys and values, in vectors. Included once by each file
 * that has such a kernel, after its simd_*.h. With TILE_PAIRS what is multiplied is in pairs of bfloat16 (see
 * attention_kernels.h), and the file defines before:
 *     vector tile_multiply_add(vector a, vector b, vector c)   c plus the sum of each lane's two products
 *     vector tile_pairs(vector a, vector b)                    lane i: a[i] in the low half, b[i] in the high one
 *
 * The products of a tile keep STRIP_ROWS x 3 accumulators in registers: for each dimension (scores) or key (values), or
 * pair of them, 3 vectors are loaded, STRIP_ROWS numbers broadcast, and each of these multiplied with each of those.
 * What is loaded as vectors (queries, weights) is a panel that stays in L1; keys and values stream
 * past it. */
#include <float.h>
#include <string.h>

#include "kernels/attention_kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    PANEL_VECTORS = 3,
    PANEL_LANES = PANEL_VECTORS * VECTOR_LANES,
    STRIP_ROWS = VECTOR_REGISTERS / 4, /* 8 x 3 accumulators of 32 registers, 4 x 3 of 16 */
};

#ifdef TILE_PAIRS
enum { TILE_GROUP = 2 };

/* Weights of keys key and key + 1; a row of pairs takes the place of scores that are no longer needed. */
INLINE void tile_store_weights(float *scores, int64_t key, int64_t n_lanes, vector a, vector b) {
    vector_store(scores + key / 2 * n_lanes, tile_pairs(a, b));
}
#else
enum { TILE_GROUP = 1 };

INLINE vector tile_multiply_add(vector a, vector b, vector c) { return vector_multiply_add(a, b, c); }

INLINE void tile_store_weights(float *scores, int64_t key, int64_t n_lanes, vector a, vector b) {
    vector_store(scores + key * n_lanes, a);
    vector_store(scores + (key + 1) * n_lanes, b);
}
#endif

/* scores of STRIP_ROWS keys for all lanes. n_vectors is a constant wherever this is inlined, as in all that follows. */
INLINE void score_strip(const attention_tile *t, int64_t key, const int n_vectors) {
    const float *keys = t->keys + key * t->key_stride, *q = t->q;
    int64_t stride = t->key_stride, n_lanes = n_vectors * VECTOR_LANES;
    vector sums[STRIP_ROWS][PANEL_VECTORS];
    for (int i = 0; i < STRIP_ROWS; i++)
        for (int v = 0; v < n_vectors; v++)
            sums[i][v] = vector_zero();
    for (int64_t d = 0; d < (t->head_dim + TILE_GROUP - 1) / TILE_GROUP; d++, q += n_lanes) {
        vector lanes[PANEL_VECTORS];
        for (int v = 0; v < n_vectors; v++)
            lanes[v] = vector_load(q + v * VECTOR_LANES);
        for (int i = 0; i < STRIP_ROWS; i++) {
            vector k = vector_of(keys[i * stride + d]);
            for (int v = 0; v < n_vectors; v++)
                sums[i][v] = tile_multiply_add(k, lanes[v], sums[i][v]);
        }
    }
    float *scores = t->scores + key * n_lanes;
    for (int i = 0; i < STRIP_ROWS; i++)
        for (int v = 0; v < n_vectors; v++)
            vector_store(scores + i * n_lanes + v * VECTOR_LANES, sums[i][v]);
}

/* Scores become weights; corrections: what the lanes' sums so far are multiplied by. */
INLINE void tile_softmax(const attention_tile *t, vector *corrections, const int n_vectors) {
    int64_t n_lanes = n_vectors * VECTOR_LANES;
    for (int v = 0; v < n_vectors; v++) {
        float *scores = t->scores + v * VECTOR_LANES;
        vector before = vector_load(t->max + v * VECTOR_LANES), max = before, max2 = before;
        vector sum = vector_zero(), sum2 = sum;
        for (int64_t key = 0; key < t->n_keys; key += 2) {
            max = vector_max(max, vector_load(scores + key * n_lanes));
            max2 = vector_max(max2, vector_load(scores + (key + 1) * n_lanes));
        }
        max = vector_max(max, max2);
        for (int64_t key = 0; key < t->n_keys; key += 2) {
            vector a = vector_exp2(vector_subtract(vector_load(scores + key * n_lanes), max));
            vector b = vector_exp2(vector_subtract(vector_load(scores + (key + 1) * n_lanes), max));
            tile_store_weights(scores, key, n_lanes, a, b);
            sum = vector_add(sum, a);
            sum2 = vector_add(sum2, b);
        }
        corrections[v] = vector_exp2(vector_subtract(before, max));
        sum = vector_multiply_add(vector_load(t->sum + v * VECTOR_LANES), corrections[v], vector_add(sum, sum2));
        vector_store(t->sum + v * VECTOR_LANES, sum);
        vector_store(t->max + v * VECTOR_LANES, max);
    }
}

/* The same where lanes see different keys; for those that a lane sees, in the same order. */
INLINE void tile_softmax_masked(const attention_tile *t, vector *corrections, const int n_vectors) {
    int64_t n_lanes = n_vectors * VECTOR_LANES;
    for (int v = 0; v < n_vectors; v++) {
        const int32_t *first = t->first + v * VECTOR_LANES, *end = t->end + v * VECTOR_LANES;
        float *scores = t->scores + v * VECTOR_LANES;
        vector before = vector_load(t->max + v * VECTOR_LANES), max = before;
        vector sums[2] = {vector_zero(), vector_zero()};
        for (int64_t key = 0; key < t->n_keys; key++) {
            vector s = vector_load(scores + key * n_lanes);
            max = vector_max(max, vector_select(vector_sees((int32_t)key, first, end), s, before));
        }
        for (int64_t key = 0; key < t->n_keys; key += 2) {
            vector weights[2];
            for (int i = 0; i < 2; i++) { /* two sums, as above */
                vector weight = vector_exp2(vector_subtract(vector_load(scores + (key + i) * n_lanes), max));
                weights[i] = vector_select(vector_sees((int32_t)key + i, first, end), weight, vector_zero());
                sums[i] = vector_add(sums[i], weights[i]);
            }
            tile_store_weights(scores, key, n_lanes, weights[0], weights[1]);
        }
        corrections[v] = vector_exp2(vector_subtract(before, max));
        vector sum =
            vector_multiply_add(vector_load(t->sum + v * VECTOR_LANES), corrections[v], vector_add(sums[0], sums[1]));
        vector_store(t->sum + v * VECTOR_LANES, sum);
        vector_store(t->max + v * VECTOR_LANES, max);
    }
}

/* STRIP_ROWS dimensions of the values, from number `dim` of a strip, weighted and added to `out`. */
INLINE void value_strip(const attention_tile *t, int64_t strip, int64_t dim, const vector *corrections,
                        const int n_vectors) {
    int64_t n_lanes = n_vectors * VECTOR_LANES;
    const float *values = t->values + strip * (ATTENTION_TILE_KEYS * ATTENTION_STRIP) + dim, *weights = t->scores;
    float *out = t->out + (strip * ATTENTION_STRIP + dim) * n_lanes;
    vector sums[STRIP_ROWS][PANEL_VECTORS];
    for (int i = 0; i < STRIP_ROWS; i++)
        for (int v = 0; v < n_vectors; v++)
            sums[i][v] = vector_multiply(vector_load(out + i * n_lanes + v * VECTOR_LANES), corrections[v]);
    for (int64_t key = 0; key < t->n_keys; key += TILE_GROUP, values += ATTENTION_STRIP, weights += n_lanes) {
        vector lanes[PANEL_VECTORS];
        for (int v = 0; v < n_vectors; v++)
            lanes[v] = vector_load(weights + v * VECTOR_LANES);
        for (int i = 0; i < STRIP_ROWS; i++) {
            vector value = vector_of(values[i]);
            for (int v = 0; v < n_vectors; v++)
                sums[i][v] = tile_multiply_add(value, lanes[v], sums[i][v]);
        }
    }
    for (int i = 0; i < STRIP_ROWS; i++)
        for (int v = 0; v < n_vectors; v++)
            vector_store(out + i * n_lanes + v * VECTOR_LANES, sums[i][v]);
}

INLINE void tile_of(const attention_tile *t, const int n_vectors) {
    vector corrections[PANEL_VECTORS];
    for (int64_t key = 0; key < t->n_keys; key += STRIP_ROWS)
        score_strip(t, key, n_vectors);
    if (t->first)
        tile_softmax_masked(t, corrections, n_vectors);
    else
        tile_softmax(t, corrections, n_vectors);
    for (int64_t strip = 0; strip < t->n_value_strips; strip++)
        for (int64_t dim = 0; dim < ATTENTION_STRIP; dim += STRIP_ROWS)
            value_strip(t, strip, dim, corrections, n_vectors);
}

static void tile(const attention_tile *t) {
    if (t->n_lanes == 3 * VECTOR_LANES)
        tile_of(t, 3);
    else if (t->n_lanes == 2 * VECTOR_LANES)
        tile_of(t, 2);
    else
        tile_of(t, 1);
}
