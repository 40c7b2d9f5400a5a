/* attention_scalar.c - the inner loops of attention in plain C: what every CPU can run and what the others are tested
 * against. */
#include "kernels/attention_kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { LANES = 8, PANEL_VECTORS = 2, MAX_LANES = LANES * PANEL_VECTORS };

/* s[key][lane] = dot of a key and a lane's query. */
static void tile_scores(const attention_tile *t) {
    for (int64_t key = 0; key < t->n_keys; key++) {
        const float *k = t->keys + key * t->key_stride;
        float sums[MAX_LANES] = {0};
        for (int64_t d = 0; d < t->head_dim; d++)
            for (int64_t lane = 0; lane < t->n_lanes; lane++)
                sums[lane] += k[d] * t->q[d * t->n_lanes + lane];
        memcpy(t->scores + key * t->n_lanes, sums, (size_t)t->n_lanes * sizeof(float));
    }
}

/* Scores become weights, 0 where a lane does not see the key; corrections: what sums so far are multiplied by. */
static void tile_softmax(const attention_tile *t, float *corrections) {
    for (int64_t lane = 0; lane < t->n_lanes; lane++) {
        int64_t first = t->first ? t->first[lane] : 0, end = t->end ? t->end[lane] : t->n_keys;
        float *s = t->scores + lane, max = t->max[lane];
        for (int64_t key = first; key < end; key++)
            max = fmaxf(max, s[key * t->n_lanes]);
        corrections[lane] = exp2f(t->max[lane] - max);
        float sum = 0;
        for (int64_t key = 0; key < t->n_keys; key++) {
            float *weight = s + key * t->n_lanes;
            *weight = key >= first && key < end ? exp2f(*weight - max) : 0.0f;
            sum += *weight;
        }
        t->sum[lane] = t->sum[lane] * corrections[lane] + sum;
        t->max[lane] = max;
    }
}

static void tile(const attention_tile *t) {
    float corrections[MAX_LANES];
    tile_scores(t);
    tile_softmax(t, corrections);
    for (int64_t strip = 0; strip < t->n_value_strips; strip++)
        for (int64_t i = 0; i < ATTENTION_STRIP; i++) {
            const float *values = t->values + strip * ATTENTION_TILE_KEYS * ATTENTION_STRIP + i;
            float *out = t->out + (strip * ATTENTION_STRIP + i) * t->n_lanes;
            for (int64_t lane = 0; lane < t->n_lanes; lane++)
                out[lane] *= corrections[lane];
            for (int64_t key = 0; key < t->n_keys; key++)
                for (int64_t lane = 0; lane < t->n_lanes; lane++)
                    out[lane] += values[key * ATTENTION_STRIP] * t->scores[key * t->n_lanes + lane];
        }
}

static void load_lanes(const float *const *rows, int64_t n_lanes, int64_t dims, float scale, float *to) {
    for (int64_t lane = 0; lane < n_lanes; lane++)
        for (int64_t d = 0; d < dims; d++)
            to[d * n_lanes + lane] = scale * rows[lane][d];
}

static void store_lanes(const float *from, int64_t n_lanes, int64_t dims, const float *factors, int64_t n_rows,
                        float *const *rows) {
    for (int64_t lane = 0; lane < n_rows; lane++)
        for (int64_t d = 0; d < dims; d++)
            rows[lane][d] = factors[lane] * from[d * n_lanes + lane];
}

static void softmax(float *s, int64_t n, float *max, float *sum) {
    float largest = -FLT_MAX, total = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, s[i]);
    for (int64_t i = 0; i < n; i++) {
        s[i] = exp2f(s[i] - largest);
        total += s[i];
    }
    *max = largest;
    *sum = total;
}

void attention_fill_scalar(attention_kernels *table) {
    *table = (attention_kernels){.vector_lanes = LANES,
                                 .panel_vectors = PANEL_VECTORS,
                                 .tile = tile,
                                 .load_lanes = load_lanes,
                                 .store_lanes = store_lanes,
                                 .softmax = softmax};
}
