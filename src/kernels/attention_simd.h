/* attention_simd.h - the inner loops of attention in vectors. Included once by each instruction set's file, after its
 * simd_*.h, with FILL naming the function that puts them in the table. */
#include <float.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/attention_tile_simd.h"

/* Four lanes and four dimensions change places at a time. */
static void load_lanes(const float *const *rows, int64_t n_lanes, int64_t dims, float scale, float *to) {
    __m128 factor = _mm_set1_ps(scale);
    for (int64_t lane = 0; lane < n_lanes; lane += 4) {
        const float *a = rows[lane], *b = rows[lane + 1], *c = rows[lane + 2], *e = rows[lane + 3];
        int64_t d = 0;
        for (; d + 4 <= dims; d += 4) {
            __m128 w = _mm_loadu_ps(a + d), x = _mm_loadu_ps(b + d), y = _mm_loadu_ps(c + d), z = _mm_loadu_ps(e + d);
            _MM_TRANSPOSE4_PS(w, x, y, z);
            _mm_storeu_ps(to + d * n_lanes + lane, _mm_mul_ps(w, factor));
            _mm_storeu_ps(to + (d + 1) * n_lanes + lane, _mm_mul_ps(x, factor));
            _mm_storeu_ps(to + (d + 2) * n_lanes + lane, _mm_mul_ps(y, factor));
            _mm_storeu_ps(to + (d + 3) * n_lanes + lane, _mm_mul_ps(z, factor));
        }
        for (; d < dims; d++)
            for (int64_t i = 0; i < 4; i++)
                to[d * n_lanes + lane + i] = scale * rows[lane + i][d];
    }
}

static void store_lanes(const float *from, int64_t n_lanes, int64_t dims, const float *factors, int64_t n_rows,
                        float *const *rows) {
    int64_t lane = 0;
    for (; lane + 4 <= n_rows; lane += 4) {
        __m128 factor = _mm_loadu_ps(factors + lane);
        int64_t d = 0;
        for (; d + 4 <= dims; d += 4) {
            const float *at = from + d * n_lanes + lane;
            __m128 w = _mm_mul_ps(_mm_loadu_ps(at), factor), x = _mm_mul_ps(_mm_loadu_ps(at + n_lanes), factor);
            __m128 y = _mm_mul_ps(_mm_loadu_ps(at + 2 * n_lanes), factor);
            __m128 z = _mm_mul_ps(_mm_loadu_ps(at + 3 * n_lanes), factor);
            _MM_TRANSPOSE4_PS(w, x, y, z);
            _mm_storeu_ps(rows[lane] + d, w);
            _mm_storeu_ps(rows[lane + 1] + d, x);
            _mm_storeu_ps(rows[lane + 2] + d, y);
            _mm_storeu_ps(rows[lane + 3] + d, z);
        }
        for (; d < dims; d++)
            for (int64_t i = 0; i < 4; i++)
                rows[lane + i][d] = factors[lane + i] * from[d * n_lanes + lane + i];
    }
    for (; lane < n_rows; lane++)
        for (int64_t d = 0; d < dims; d++)
            rows[lane][d] = factors[lane] * from[d * n_lanes + lane];
}

/* ---- Spans ----------------------------------------------------------------------------------- */

enum { STREAMS = 4, QUERIES_AT_ONCE = VECTOR_REGISTERS / 8, PREFETCH_KEYS = 8 };

INLINE vector load_elements(const int is_f16, const void *row, int64_t i) {
    return is_f16 ? vector_load_f16((const unsigned char *)row + 2 * i) : vector_load((const float *)row + i);
}

INLINE vector load_last_elements(const int is_f16, const void *row, int64_t i, int64_t n) {
    return is_f16 ? vector_load_f16_first((const unsigned char *)row + 2 * i, n)
                  : vector_load_first((const float *)row + i, n);
}

INLINE void prefetch_row(bool l2, const void *row, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64)
        if (l2)
            _mm_prefetch((const char *)row + i, _MM_HINT_T1);
        else
            _mm_prefetch((const char *)row + i, _MM_HINT_T0);
}

/* Keys (and values) are read as STREAMS streams from the quarters of a span: a core reads several streams from memory
 * faster than one. */

/* Scores of STREAMS keys to scores[query * stride ...]. n_queries and is_f16 are constants wherever this is
 * inlined. Every score is summed up in the same order, whatever is computed beside it. */
INLINE void scores_of_keys(const int is_f16, const void *const *rows, const float *q, int64_t head_dim, float *scores,
                           int64_t stride, const int n_queries) {
    const void *a = rows[0], *b = rows[1], *c = rows[2], *e = rows[3];
    vector sums[QUERIES_AT_ONCE][STREAMS];
    for (int i = 0; i < n_queries; i++)
        for (int k = 0; k < STREAMS; k++)
            sums[i][k] = vector_zero();
    int64_t d = 0;
    for (; d + VECTOR_LANES <= head_dim; d += VECTOR_LANES) {
        vector keys[STREAMS] = {load_elements(is_f16, a, d), load_elements(is_f16, b, d), load_elements(is_f16, c, d),
                                load_elements(is_f16, e, d)};
        for (int i = 0; i < n_queries; i++) {
            vector query = vector_load(q + i * head_dim + d);
            for (int k = 0; k < STREAMS; k++)
                sums[i][k] = vector_multiply_add(keys[k], query, sums[i][k]);
        }
    }
    if (d < head_dim)
        for (int i = 0; i < n_queries; i++) {
            vector query = vector_load_first(q + i * head_dim + d, head_dim - d);
            for (int k = 0; k < STREAMS; k++)
                sums[i][k] =
                    vector_multiply_add(load_last_elements(is_f16, rows[k], d, head_dim - d), query, sums[i][k]);
        }
    for (int i = 0; i < n_queries; i++)
        vector_store_sums(scores + i * stride, sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
}

INLINE void scores_of(const int is_f16, bool l2, const void *const *keys, int64_t n_keys, const float *q,
                      int64_t head_dim, float *scores, int64_t stride, const int n_queries) {
    int64_t row_bytes = head_dim * (is_f16 ? 2 : 4), quarter = n_keys / STREAMS;
    const void *rows[STREAMS];
    float found[QUERIES_AT_ONCE * STREAMS];
    for (int64_t key = 0; key < quarter; key++) {
        for (int k = 0; k < STREAMS; k++) {
            rows[k] = keys[key + k * quarter];
            if (key + PREFETCH_KEYS < quarter)
                prefetch_row(l2, keys[key + PREFETCH_KEYS + k * quarter], row_bytes);
        }
        scores_of_keys(is_f16, rows, q, head_dim, found, STREAMS, n_queries);
        for (int i = 0; i < n_queries; i++)
            for (int k = 0; k < STREAMS; k++)
                scores[i * stride + key + k * quarter] = found[i * STREAMS + k];
    }
    if (STREAMS * quarter == n_keys)
        return;
    for (int k = 0; k < STREAMS; k++)
        rows[k] = keys[STREAMS * quarter + k < n_keys ? STREAMS * quarter + k : n_keys - 1];
    scores_of_keys(is_f16, rows, q, head_dim, found, STREAMS, n_queries);
    for (int i = 0; i < n_queries; i++)
        for (int64_t k = STREAMS * quarter; k < n_keys; k++)
            scores[i * stride + k] = found[i * STREAMS + (k - STREAMS * quarter)];
}

INLINE void scores_of_type(const int is_f16, bool l2, const void *const *keys, int64_t n_keys, const float *q,
                           int64_t n_queries, int64_t head_dim, float *scores, int64_t stride) {
    int64_t i = 0;
    for (; QUERIES_AT_ONCE >= 4 && i + 4 <= n_queries; i += 4)
        scores_of(is_f16, l2, keys, n_keys, q + i * head_dim, head_dim, scores + i * stride, stride, 4);
    for (; i + 2 <= n_queries; i += 2)
        scores_of(is_f16, l2, keys, n_keys, q + i * head_dim, head_dim, scores + i * stride, stride, 2);
    for (; i < n_queries; i++)
        scores_of(is_f16, l2, keys, n_keys, q + i * head_dim, head_dim, scores + i * stride, stride, 1);
}

static void scores(element_type type, const void *const *keys, int64_t n_keys, const float *q, int64_t n_queries,
                   int64_t head_dim, float *out, int64_t stride, bool l2) {
    if (type == ELEMENT_F16)
        scores_of_type(1, l2, keys, n_keys, q, n_queries, head_dim, out, stride);
    else
        scores_of_type(0, l2, keys, n_keys, q, n_queries, head_dim, out, stride);
}

static void softmax(float *s, int64_t n, float *max, float *sum) {
    vector largest = vector_of(-FLT_MAX), total = vector_zero();
    int64_t i = 0;
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        largest = vector_max(largest, vector_load(s + i));
    float found = vector_largest(largest);
    for (; i < n; i++)
        found = s[i] > found ? s[i] : found;
    largest = vector_of(found);
    for (i = 0; i + VECTOR_LANES <= n; i += VECTOR_LANES) {
        vector weight = vector_exp2(vector_subtract(vector_load(s + i), largest));
        vector_store(s + i, weight);
        total = vector_add(total, weight);
    }
    if (i < n) {
        float rest[VECTOR_LANES] = {0};
        vector_store(rest, vector_exp2(vector_subtract(vector_load_first(s + i, n - i), largest)));
        memset(rest + (n - i), 0, (size_t)(VECTOR_LANES - (n - i)) * sizeof(float));
        vector_store_first(s + i, vector_load(rest), n - i);
        total = vector_add(total, vector_load(rest));
    }
    *max = found;
    *sum = vector_sum(total);
}

/* Dimensions d .. d + n_vectors * VECTOR_LANES - 1, of which the last vector has `last` lanes. */
INLINE void add_value_columns(const int is_f16, bool l2, const void *const *values, int64_t n_keys,
                              const float *weights, int64_t stride, int64_t d, int64_t last, float *out,
                              int64_t out_stride, const int n_queries, const int n_vectors, const int whole) {
    vector sums[QUERIES_AT_ONCE][8];
    for (int i = 0; i < n_queries; i++)
        for (int v = 0; v < n_vectors; v++)
            sums[i][v] = vector_zero();
    int64_t first_byte = d * (is_f16 ? 2 : 4), bytes = n_vectors * VECTOR_LANES * (is_f16 ? 2 : 4);
    int64_t quarter = n_keys / STREAMS;
    for (int64_t turn = 0; turn < n_keys; turn++) { /* through the streams in turn, then what is left over */
        int64_t key = turn < STREAMS * quarter ? turn / STREAMS + turn % STREAMS * quarter : turn;
        const void *row = values[key];
        if (turn + STREAMS * PREFETCH_KEYS < STREAMS * quarter)
            prefetch_row(l2, (const char *)values[key + PREFETCH_KEYS] + first_byte, bytes);
        vector weight[QUERIES_AT_ONCE];
        for (int i = 0; i < n_queries; i++)
            weight[i] = vector_of(weights[i * stride + key]);
        for (int v = 0; v < n_vectors; v++) {
            int64_t at = d + v * VECTOR_LANES;
            vector element = whole ? load_elements(is_f16, row, at) : load_last_elements(is_f16, row, at, last);
            for (int i = 0; i < n_queries; i++)
                sums[i][v] = vector_multiply_add(element, weight[i], sums[i][v]);
        }
    }
    for (int i = 0; i < n_queries; i++)
        for (int v = 0; v < n_vectors; v++) {
            float *to = out + i * out_stride + d + v * VECTOR_LANES;
            if (whole)
                vector_store(to, sums[i][v]);
            else
                vector_store_first(to, sums[i][v], last);
        }
}

INLINE void add_values_of(const int is_f16, bool l2, const void *const *values, int64_t n_keys, const float *weights,
                          int64_t stride, int64_t head_dim, float *out, int64_t out_stride, const int n_queries) {
    enum { WIDE = VECTOR_REGISTERS * 3 / 4 }; /* accumulators */
    int64_t d = 0;
#define ADD_COLUMNS(n_vectors)                                                                                         \
    for (; n_queries * (n_vectors) <= WIDE && d + (n_vectors)*VECTOR_LANES <= head_dim; d += (n_vectors)*VECTOR_LANES) \
    add_value_columns(is_f16, l2, values, n_keys, weights, stride, d, 0, out, out_stride, n_queries, n_vectors, 1)
    ADD_COLUMNS(8);
    ADD_COLUMNS(6); /* all of a head of 96 */
    ADD_COLUMNS(4);
    ADD_COLUMNS(2);
#undef ADD_COLUMNS
    for (; d < head_dim; d += VECTOR_LANES) {
        int64_t last = head_dim - d < VECTOR_LANES ? head_dim - d : VECTOR_LANES;
        add_value_columns(is_f16, l2, values, n_keys, weights, stride, d, last, out, out_stride, n_queries, 1, 0);
    }
}

INLINE void add_values_of_type(const int is_f16, bool l2, const void *const *values, int64_t n_keys,
                               const float *weights, int64_t stride, int64_t n_queries, int64_t head_dim, float *out,
                               int64_t out_stride) {
    int64_t i = 0;
    for (; QUERIES_AT_ONCE >= 4 && i + 4 <= n_queries; i += 4)
        add_values_of(is_f16, l2, values, n_keys, weights + i * stride, stride, head_dim, out + i * out_stride,
                      out_stride, 4);
    for (; i + 2 <= n_queries; i += 2)
        add_values_of(is_f16, l2, values, n_keys, weights + i * stride, stride, head_dim, out + i * out_stride,
                      out_stride, 2);
    for (; i < n_queries; i++)
        add_values_of(is_f16, l2, values, n_keys, weights + i * stride, stride, head_dim, out + i * out_stride,
                      out_stride, 1);
}

static void add_values(element_type type, const void *const *values, int64_t n_keys, const float *weights,
                       int64_t stride, int64_t n_queries, int64_t head_dim, float *out, int64_t out_stride, bool l2) {
    if (type == ELEMENT_F16)
        add_values_of_type(1, l2, values, n_keys, weights, stride, n_queries, head_dim, out, out_stride);
    else
        add_values_of_type(0, l2, values, n_keys, weights, stride, n_queries, head_dim, out, out_stride);
}

void FILL(attention_kernels *table) {
    *table = (attention_kernels){.vector_lanes = VECTOR_LANES,
                                 .panel_vectors = PANEL_VECTORS,
                                 .tile = tile,
                                 .load_lanes = load_lanes,
                                 .store_lanes = store_lanes,
                                 .scores = scores,
                                 .softmax = softmax,
                                 .add_values = add_values};
}
