/* kv_codec_simd.h - keys and values in vectors. Included once by each instruction set's file, after its simd_*.h, with
 * FILL naming the function that puts them in the table.
 *
 * `type` is a constant wherever a function is inlined: each of kv_codec's entries is a copy for one type. A q8 row's
 * scale is applied once: to the score of a key, and to the weight of a value. */
#include "kernels/kv_codec.h"
#include "kernels/kv_codec_q8.h"

#define INLINE static inline __attribute__((always_inline))

enum { STREAMS = 4, QUERIES_AT_ONCE = VECTOR_REGISTERS / 8, PREFETCH_KEYS = 8 };

/* Values i .. i + VECTOR_LANES - 1 of a row, without the scale. */
INLINE vector load_values(const kv_type type, const void *row, int64_t i) {
    const unsigned char *bytes = row;
    return type == KV_Q8    ? vector_load_i8(bytes + KV_Q8_SCALE_BYTES + i)
           : type == KV_F16 ? vector_load_f16(bytes + 2 * i)
                            : vector_load((const float *)row + i);
}

/* The n < VECTOR_LANES values from i on; the other lanes are 0. */
INLINE vector load_last_values(const kv_type type, const void *row, int64_t i, int64_t n) {
    const unsigned char *bytes = row;
    return type == KV_Q8    ? vector_load_i8_first(bytes + KV_Q8_SCALE_BYTES + i, n)
           : type == KV_F16 ? vector_load_f16_first(bytes + 2 * i, n)
                            : vector_load_first((const float *)row + i, n);
}

/* ---- one row --------------------------------------------------------------------------------- */

INLINE void load_row(const kv_type type, const void *from, float *to, int64_t n) {
    const vector scale = vector_of(type == KV_Q8 ? q8_scale(from) : 1.0f);
    int64_t i = 0;
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES) {
        const vector values = load_values(type, from, i);
        vector_store(to + i, type == KV_Q8 ? vector_multiply(values, scale) : values);
    }
    if (i < n) {
        const vector values = load_last_values(type, from, i, n - i);
        vector_store_first(to + i, type == KV_Q8 ? vector_multiply(values, scale) : values, n - i);
    }
}

static bool store_f32(const float *from, void *to, int64_t n) {
    memcpy(to, from, (size_t)n * sizeof *from);
    return true;
}

static bool store_f16(const float *from, void *to, int64_t n) {
    unsigned char *bytes = to;
    int64_t i = 0;
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        vector_store_f16(bytes + 2 * i, vector_load(from + i));
    for (; i < n; i++) {
        const uint16_t half = f16_from_float(from[i]);
        memcpy(bytes + 2 * i, &half, sizeof half);
    }
    return fits_f16(from, n);
}

static bool store_q8(const float *from, void *to, int64_t n) {
    const float factor = q8_store_scale(from, n, to);
    const vector factors = vector_of(factor);
    unsigned char *bytes = (unsigned char *)to + KV_Q8_SCALE_BYTES;
    if (factor == 0) {
        memset(bytes, 0, (size_t)n);
        return true;
    }
    int64_t i = 0;
    for (; i + VECTOR_LANES <= n; i += VECTOR_LANES)
        vector_store_i8(bytes + i, vector_multiply(vector_load(from + i), factors));
    if (i < n) {
        unsigned char rest[VECTOR_LANES];
        vector_store_i8(rest, vector_multiply(vector_load_first(from + i, n - i), factors));
        memcpy(bytes + i, rest, (size_t)(n - i));
    }
    return true;
}

/* ---- dot ------------------------------------------------------------------------------------- */

INLINE void prefetch_line(bool l2, const char *at) {
    if (l2)
        _mm_prefetch(at, _MM_HINT_T1);
    else
        _mm_prefetch(at, _MM_HINT_T0);
}

/* The lines of `bytes` bytes of a row from a place on. q8 rows begin anywhere: the last byte may be in one line more.
 * (The number of prefetches does not depend on the place, so no branch is mispredicted.) */
INLINE void prefetch(const kv_type type, bool l2, const void *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64)
        prefetch_line(l2, (const char *)from + i);
    if (type == KV_Q8)
        prefetch_line(l2, (const char *)from + bytes - 1);
}

/* Keys (and values) are read as STREAMS streams from the quarters of a span: a core reads several streams from memory
 * faster than one. */

/* Scores of STREAMS keys to scores[query * STREAMS ...]. n_queries is a constant wherever this is inlined. Every score
 * is summed up in the same order, whatever is computed beside it. */
INLINE void dot_rows(const kv_type type, const void *const *rows, const float *q, int64_t head_dim, float *scores,
                     const int n_queries) {
    const void *a = rows[0], *b = rows[1], *c = rows[2], *e = rows[3];
    vector sums[QUERIES_AT_ONCE][STREAMS];
    for (int i = 0; i < n_queries; i++)
        for (int k = 0; k < STREAMS; k++)
            sums[i][k] = vector_zero();
    int64_t d = 0;
    for (; d + VECTOR_LANES <= head_dim; d += VECTOR_LANES) {
        vector keys[STREAMS] = {load_values(type, a, d), load_values(type, b, d), load_values(type, c, d),
                                load_values(type, e, d)};
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
                sums[i][k] = vector_multiply_add(load_last_values(type, rows[k], d, head_dim - d), query, sums[i][k]);
        }
    for (int i = 0; i < n_queries; i++)
        vector_store_sums(scores + i * STREAMS, sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
    if (type != KV_Q8)
        return;
    const __m128 scales = _mm_setr_ps(q8_scale(a), q8_scale(b), q8_scale(c), q8_scale(e));
    for (int i = 0; i < n_queries; i++)
        _mm_storeu_ps(scores + i * STREAMS, _mm_mul_ps(_mm_loadu_ps(scores + i * STREAMS), scales));
}

INLINE void dot_keys(const kv_type type, bool l2, const void *const *keys, int64_t n_keys, const float *q,
                     int64_t head_dim, float *scores, int64_t stride, const int n_queries) {
    const int64_t bytes = kv_bytes(type, head_dim), quarter = n_keys / STREAMS;
    const void *rows[STREAMS];
    float found[QUERIES_AT_ONCE * STREAMS];
    for (int64_t key = 0; key < quarter; key++) {
        for (int k = 0; k < STREAMS; k++) {
            rows[k] = keys[key + k * quarter];
            if (key + PREFETCH_KEYS < quarter)
                prefetch(type, l2, keys[key + PREFETCH_KEYS + k * quarter], bytes);
        }
        dot_rows(type, rows, q, head_dim, found, n_queries);
        for (int i = 0; i < n_queries; i++)
            for (int k = 0; k < STREAMS; k++)
                scores[i * stride + key + k * quarter] = found[i * STREAMS + k];
    }
    if (STREAMS * quarter == n_keys)
        return;
    for (int k = 0; k < STREAMS; k++)
        rows[k] = keys[STREAMS * quarter + k < n_keys ? STREAMS * quarter + k : n_keys - 1];
    dot_rows(type, rows, q, head_dim, found, n_queries);
    for (int i = 0; i < n_queries; i++)
        for (int64_t k = STREAMS * quarter; k < n_keys; k++)
            scores[i * stride + k] = found[i * STREAMS + (k - STREAMS * quarter)];
}

INLINE void dot(const kv_type type, bool l2, const void *const *keys, int64_t n_keys, const float *q, int64_t n_queries,
                int64_t head_dim, float *scores, int64_t stride) {
    int64_t i = 0;
    for (; QUERIES_AT_ONCE >= 4 && i + 4 <= n_queries; i += 4)
        dot_keys(type, l2, keys, n_keys, q + i * head_dim, head_dim, scores + i * stride, stride, 4);
    for (; i + 2 <= n_queries; i += 2)
        dot_keys(type, l2, keys, n_keys, q + i * head_dim, head_dim, scores + i * stride, stride, 2);
    for (; i < n_queries; i++)
        dot_keys(type, l2, keys, n_keys, q + i * head_dim, head_dim, scores + i * stride, stride, 1);
}

/* ---- axpy ------------------------------------------------------------------------------------ */

/* Dimensions d .. d + n_vectors * VECTOR_LANES - 1, of which the last vector has `last` lanes. */
INLINE void axpy_columns(const kv_type type, bool l2, const void *const *values, int64_t n_keys, const float *weights,
                         int64_t stride, int64_t d, int64_t last, float *out, int64_t out_stride, const int n_queries,
                         const int n_vectors, const int whole) {
    vector sums[QUERIES_AT_ONCE][8];
    for (int i = 0; i < n_queries; i++)
        for (int v = 0; v < n_vectors; v++)
            sums[i][v] = vector_zero();
    const int64_t first_byte = d > 0 ? kv_bytes(type, d) : 0;
    const int64_t bytes = kv_bytes(type, d + n_vectors * VECTOR_LANES) - first_byte, quarter = n_keys / STREAMS;
    for (int64_t turn = 0; turn < n_keys; turn++) { /* through the streams in turn, then what is left over */
        int64_t key = turn < STREAMS * quarter ? turn / STREAMS + turn % STREAMS * quarter : turn;
        const void *row = values[key];
        if (turn + STREAMS * PREFETCH_KEYS < STREAMS * quarter)
            prefetch(type, l2, (const char *)values[key + PREFETCH_KEYS] + first_byte, bytes);
        const float scale = type == KV_Q8 ? q8_scale(row) : 1.0f;
        vector weight[QUERIES_AT_ONCE];
        for (int i = 0; i < n_queries; i++) {
            const float w = weights[i * stride + key];
            weight[i] = vector_of(type == KV_Q8 ? w * scale : w);
        }
        for (int v = 0; v < n_vectors; v++) {
            int64_t at = d + v * VECTOR_LANES;
            vector value = whole ? load_values(type, row, at) : load_last_values(type, row, at, last);
            for (int i = 0; i < n_queries; i++)
                sums[i][v] = vector_multiply_add(value, weight[i], sums[i][v]);
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

INLINE void axpy_values(const kv_type type, bool l2, const void *const *values, int64_t n_keys, const float *weights,
                        int64_t stride, int64_t head_dim, float *out, int64_t out_stride, const int n_queries) {
    enum { WIDE = VECTOR_REGISTERS * 3 / 4 }; /* accumulators */
    int64_t d = 0;
#define ADD_COLUMNS(n_vectors)                                                                                         \
    for (; n_queries * (n_vectors) <= WIDE && d + (n_vectors)*VECTOR_LANES <= head_dim; d += (n_vectors)*VECTOR_LANES) \
    axpy_columns(type, l2, values, n_keys, weights, stride, d, 0, out, out_stride, n_queries, n_vectors, 1)
    ADD_COLUMNS(8);
    ADD_COLUMNS(6); /* all of a head of 96 */
    ADD_COLUMNS(4);
    ADD_COLUMNS(2);
#undef ADD_COLUMNS
    for (; d < head_dim; d += VECTOR_LANES) {
        int64_t last = head_dim - d < VECTOR_LANES ? head_dim - d : VECTOR_LANES;
        axpy_columns(type, l2, values, n_keys, weights, stride, d, last, out, out_stride, n_queries, 1, 0);
    }
}

INLINE void axpy(const kv_type type, bool l2, const void *const *values, int64_t n_keys, const float *weights,
                 int64_t stride, int64_t n_queries, int64_t head_dim, float *out, int64_t out_stride) {
    int64_t i = 0;
    for (; QUERIES_AT_ONCE >= 4 && i + 4 <= n_queries; i += 4)
        axpy_values(type, l2, values, n_keys, weights + i * stride, stride, head_dim, out + i * out_stride, out_stride,
                    4);
    for (; i + 2 <= n_queries; i += 2)
        axpy_values(type, l2, values, n_keys, weights + i * stride, stride, head_dim, out + i * out_stride, out_stride,
                    2);
    for (; i < n_queries; i++)
        axpy_values(type, l2, values, n_keys, weights + i * stride, stride, head_dim, out + i * out_stride, out_stride,
                    1);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define ENTRIES(name, type)                                                                                            \
    static void load_##name(const void *from, float *to, int64_t n) { load_row(type, from, to, n); }                   \
    static void dot_##name(const void *const *keys, int64_t n_keys, const float *q, int64_t n_queries,                 \
                           int64_t head_dim, float *scores, int64_t stride, bool prefetch_l2) {                        \
        dot(type, prefetch_l2, keys, n_keys, q, n_queries, head_dim, scores, stride);                                  \
    }                                                                                                                  \
    static void axpy_##name(const void *const *values, int64_t n_keys, const float *weights, int64_t stride,           \
                            int64_t n_queries, int64_t head_dim, float *out, int64_t out_stride, bool prefetch_l2) {   \
        axpy(type, prefetch_l2, values, n_keys, weights, stride, n_queries, head_dim, out, out_stride);                \
    }
ENTRIES(f16, KV_F16)
ENTRIES(f32, KV_F32)
ENTRIES(q8, KV_Q8)

void FILL(kv_codec *codecs) {
    codecs[KV_F16] = (kv_codec){store_f16, load_f16, dot_f16, axpy_f16};
    codecs[KV_F32] = (kv_codec){store_f32, load_f32, dot_f32, axpy_f32};
    codecs[KV_Q8] = (kv_codec){store_q8, load_q8, dot_q8, axpy_q8};
}
