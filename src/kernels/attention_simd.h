/* attention_simd.h - the inner loops of attention in vectors. Included once by each instruction set's file, after its
 * simd_*.h, with FILL naming the function that puts them in the table. */
#include <float.h>
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

void FILL(attention_kernels *table) {
    *table = (attention_kernels){.vector_lanes = VECTOR_LANES,
                                 .panel_vectors = PANEL_VECTORS,
                                 .tile = tile,
                                 .load_lanes = load_lanes,
                                 .store_lanes = store_lanes,
                                 .softmax = softmax};
}
