/* The parts of a training step between the matrix products, for CPUs with AVX-512 and bfloat16.
 *
 * fused.py builds this file with the system's C compiler and calls it through ctypes; without it the
 * training runs on PyTorch alone (packed.py), about half as fast. Activations are bfloat16 (uint16_t here),
 * residual rows and everything inside a function float32. Head dimension 32: half of it is one register.
 *
 * Rows are in the order image, system, questions, answers (packed.py explains the streams).
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;
enum { DIM = 32, HALF = 16, CONTEXT = 320, OWN = 128, BLOCK = 4 };

static inline __m512 load16(const bf16 *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

static inline void store16(bf16 *p, __m512 x) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x)); }

/* -- RMS norm: y = w * x / rms(x); with `added`, x is first increased by it and the sum kept in `sum` -- */

void norm_forward(int rows, int width, const float *x, const bf16 *added, float *sum, const float *w, float eps,
                  bf16 *y, float *scale) {
    for (int r = 0; r < rows; r++) {
        const float *row = x + (size_t)r * width;
        __m512 squares = _mm512_setzero_ps();
        for (int i = 0; i < width; i += 16) {
            __m512 v = _mm512_loadu_ps(row + i);
            if (added) {
                v = _mm512_add_ps(v, load16(added + (size_t)r * width + i));
                _mm512_storeu_ps(sum + (size_t)r * width + i, v);
            }
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        if (added)
            row = sum + (size_t)r * width;
        float s = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)width + eps);
        scale[r] = s;
        for (int i = 0; i < width; i += 16)
            store16(y + (size_t)r * width + i,
                    _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(row + i), _mm512_set1_ps(s)), _mm512_loadu_ps(w + i)));
    }
}

/* dx = d_sum (may be NULL) + the norm's gradient; d_added (may be NULL) receives dx in bfloat16; dw accumulates. */
void norm_backward(int rows, int width, const bf16 *dy, const float *x, const float *w, const float *scale,
                   const float *d_sum, float *dx, bf16 *d_added, float *dw) {
    for (int r = 0; r < rows; r++) {
        size_t at = (size_t)r * width;
        __m512 dot = _mm512_setzero_ps(), s = _mm512_set1_ps(scale[r]);
        for (int i = 0; i < width; i += 16) {
            __m512 g = load16(dy + at + i), v = _mm512_mul_ps(_mm512_loadu_ps(x + at + i), s);
            _mm512_storeu_ps(dw + i, _mm512_fmadd_ps(g, v, _mm512_loadu_ps(dw + i)));
            dot = _mm512_fmadd_ps(_mm512_mul_ps(g, _mm512_loadu_ps(w + i)), v, dot);
        }
        __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / (float)width);
        for (int i = 0; i < width; i += 16) {
            __m512 g = _mm512_mul_ps(load16(dy + at + i), _mm512_loadu_ps(w + i));
            __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + at + i), s);
            __m512 d = _mm512_mul_ps(s, _mm512_fnmadd_ps(v, mean, g));
            if (d_sum)
                d = _mm512_add_ps(d, _mm512_loadu_ps(d_sum + at + i));
            _mm512_storeu_ps(dx + at + i, d);
            if (d_added)
                store16(d_added + at + i, d);
        }
    }
}

/* -- silu(gate) * up over rows of [gate, up] -- */

void swiglu_forward(int rows, int width, const bf16 *x, bf16 *y) {
    for (int r = 0; r < rows; r++) {
        const bf16 *row = x + (size_t)r * 2 * width;
        float gate[1024], factor[1024];
        for (int i = 0; i < width; i += 16)
            _mm512_storeu_ps(gate + i, load16(row + i));
        for (int i = 0; i < width; i++)
            factor[i] = gate[i] / (1.0f + expf(-gate[i]));
        for (int i = 0; i < width; i += 16)
            store16(y + (size_t)r * width + i, _mm512_mul_ps(_mm512_loadu_ps(factor + i), load16(row + width + i)));
    }
}

void swiglu_backward(int rows, int width, const bf16 *dy, const bf16 *x, bf16 *dx) {
    for (int r = 0; r < rows; r++) {
        const bf16 *row = x + (size_t)r * 2 * width, *d = dy + (size_t)r * width;
        bf16 *out = dx + (size_t)r * 2 * width;
        float gate[1024], sigmoid[1024];
        for (int i = 0; i < width; i += 16)
            _mm512_storeu_ps(gate + i, load16(row + i));
        for (int i = 0; i < width; i++)
            sigmoid[i] = 1.0f / (1.0f + expf(-gate[i]));
        for (int i = 0; i < width; i += 16) {
            __m512 g = _mm512_loadu_ps(gate + i), s = _mm512_loadu_ps(sigmoid + i), one = _mm512_set1_ps(1.0f);
            __m512 dv = load16(d + i), up = load16(row + width + i);
            __m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
            store16(out + i, _mm512_mul_ps(_mm512_mul_ps(dv, up), slope));
            store16(out + width + i, _mm512_mul_ps(dv, _mm512_mul_ps(g, s)));
        }
    }
}

/* -- The traversal's mixture: out = y1 + s (y2 - y1), s = 0.5 tanh(w . y1 + b) + 0.5, y2 = half + added; rows from
 *    `mixed` on are answers and keep y1 -- */

void mix_forward(int rows, int mixed, int width, const float *y1, const float *half, const bf16 *added, const float *w,
                 float b, float *out, float *tanhs) {
    for (int r = 0; r < mixed; r++) {
        size_t at = (size_t)r * width;
        __m512 dot = _mm512_setzero_ps();
        for (int i = 0; i < width; i += 16)
            dot = _mm512_fmadd_ps(_mm512_loadu_ps(y1 + at + i), _mm512_loadu_ps(w + i), dot);
        tanhs[r] = tanhf(_mm512_reduce_add_ps(dot) + b);
        __m512 s = _mm512_set1_ps(0.5f * tanhs[r] + 0.5f);
        for (int i = 0; i < width; i += 16) {
            __m512 a = _mm512_loadu_ps(y1 + at + i),
                   c = _mm512_add_ps(_mm512_loadu_ps(half + at + i), load16(added + at + i));
            _mm512_storeu_ps(out + at + i, _mm512_fmadd_ps(s, _mm512_sub_ps(c, a), a));
        }
    }
    memcpy(out + (size_t)mixed * width, y1 + (size_t)mixed * width, sizeof(float) * (size_t)(rows - mixed) * width);
}

void mix_backward(int rows, int mixed, int width, const float *d, const float *y1, const float *half, const bf16 *added,
                  const float *w, const float *tanhs, float *dy1, float *d_half, bf16 *d_added, float *dw, float *db) {
    for (int r = 0; r < mixed; r++) {
        size_t at = (size_t)r * width;
        __m512 dot = _mm512_setzero_ps(), s = _mm512_set1_ps(0.5f * tanhs[r] + 0.5f);
        for (int i = 0; i < width; i += 16) {
            __m512 a = _mm512_loadu_ps(y1 + at + i),
                   c = _mm512_add_ps(_mm512_loadu_ps(half + at + i), load16(added + at + i));
            dot = _mm512_fmadd_ps(_mm512_loadu_ps(d + at + i), _mm512_sub_ps(c, a), dot);
        }
        float z = _mm512_reduce_add_ps(dot) * 0.5f * (1.0f - tanhs[r] * tanhs[r]);
        *db += z;
        for (int i = 0; i < width; i += 16) {
            __m512 g = _mm512_loadu_ps(d + at + i), second = _mm512_mul_ps(s, g), a = _mm512_loadu_ps(y1 + at + i);
            _mm512_storeu_ps(dy1 + at + i,
                             _mm512_fmadd_ps(_mm512_set1_ps(z), _mm512_loadu_ps(w + i), _mm512_sub_ps(g, second)));
            _mm512_storeu_ps(dw + i, _mm512_fmadd_ps(_mm512_set1_ps(z), a, _mm512_loadu_ps(dw + i)));
            _mm512_storeu_ps(d_half + at + i, second);
            store16(d_added + at + i, second);
        }
    }
    memcpy(dy1 + (size_t)mixed * width, d + (size_t)mixed * width, sizeof(float) * (size_t)(rows - mixed) * width);
}

/* -- Attention of all streams, rope included -- */

typedef struct {
    int batch, n_image, n_system, n_segments; /* image rows a picture */
    int heads, kv_heads, stride;              /* columns of a row of the fused projection */
    const int *q_column, *k_column, *v_column;
    const int *positions;         /* of every row */
    const float *cosines, *sines; /* [positions, 16] */
    const int *segments; /* [n, 6]: picture, first question row, rows of it, padding rows on its left, first answer row,
                            answer rows */
} Geometry;

typedef struct { /* keys and values of one KV head, both ways round */
    float k[CONTEXT][DIM], v[CONTEXT][DIM], kt[DIM][CONTEXT], vt[DIM][CONTEXT], dk[CONTEXT][DIM], dv[CONTEXT][DIM];
} Keys;

typedef struct {
    int row, head, n_context, own_from, own_to;
} Job;

static inline void rotate(const Geometry *g, int row, int back, __m512 *low, __m512 *high) {
    size_t at = (size_t)g->positions[row] * HALF;
    __m512 c = _mm512_loadu_ps(g->cosines + at), s = _mm512_loadu_ps(g->sines + at), a = *low, b = *high;
    if (back)
        s = _mm512_sub_ps(_mm512_setzero_ps(), s);
    *low = _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c));
    *high = _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c));
}

static void add_key(const Geometry *g, const bf16 *qkv, int row, int kv, Keys *keys, int at, int transposed_v) {
    const bf16 *p = qkv + (size_t)row * g->stride;
    __m512 low = load16(p + g->k_column[kv]), high = load16(p + g->k_column[kv] + HALF);
    rotate(g, row, 0, &low, &high);
    _mm512_storeu_ps(keys->k[at], low);
    _mm512_storeu_ps(keys->k[at] + HALF, high);
    _mm512_storeu_ps(keys->v[at], load16(p + g->v_column[kv]));
    _mm512_storeu_ps(keys->v[at] + HALF, load16(p + g->v_column[kv] + HALF));
    for (int d = 0; d < DIM; d++)
        keys->kt[d][at] = keys->k[at][d];
    if (transposed_v)
        for (int d = 0; d < DIM; d++)
            keys->vt[d][at] = keys->v[at][d];
}

/* out[c] = x . column c, for c below n rounded up to 64 */
static inline void dots(const float *x, float m[DIM][CONTEXT], int n, float *out) {
    for (int c = 0; c < n; c += 64) {
        __m512 a0 = _mm512_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
        for (int d = 0; d < DIM; d++) {
            __m512 b = _mm512_set1_ps(x[d]);
            const float *p = m[d] + c;
            a0 = _mm512_fmadd_ps(b, _mm512_loadu_ps(p), a0);
            a1 = _mm512_fmadd_ps(b, _mm512_loadu_ps(p + 16), a1);
            a2 = _mm512_fmadd_ps(b, _mm512_loadu_ps(p + 32), a2);
            a3 = _mm512_fmadd_ps(b, _mm512_loadu_ps(p + 48), a3);
        }
        _mm512_storeu_ps(out + c, a0);
        _mm512_storeu_ps(out + c + 16, a1);
        _mm512_storeu_ps(out + c + 32, a2);
        _mm512_storeu_ps(out + c + 48, a3);
    }
}

/* y += sum over c of weight[c] * m[c] */
static inline void weighted(const float *weight, float m[CONTEXT][DIM], int from, int to, __m512 *low, __m512 *high) {
    __m512 a0 = *low, a1 = *high, b0 = _mm512_setzero_ps(), b1 = b0, c0 = b0, c1 = b0, d0 = b0, d1 = b0;
    int c = from;
    for (; c + 3 < to; c += 4) {
        __m512 w0 = _mm512_set1_ps(weight[c]), w1 = _mm512_set1_ps(weight[c + 1]);
        __m512 w2 = _mm512_set1_ps(weight[c + 2]), w3 = _mm512_set1_ps(weight[c + 3]);
        a0 = _mm512_fmadd_ps(w0, _mm512_loadu_ps(m[c]), a0);
        a1 = _mm512_fmadd_ps(w0, _mm512_loadu_ps(m[c] + HALF), a1);
        b0 = _mm512_fmadd_ps(w1, _mm512_loadu_ps(m[c + 1]), b0);
        b1 = _mm512_fmadd_ps(w1, _mm512_loadu_ps(m[c + 1] + HALF), b1);
        c0 = _mm512_fmadd_ps(w2, _mm512_loadu_ps(m[c + 2]), c0);
        c1 = _mm512_fmadd_ps(w2, _mm512_loadu_ps(m[c + 2] + HALF), c1);
        d0 = _mm512_fmadd_ps(w3, _mm512_loadu_ps(m[c + 3]), d0);
        d1 = _mm512_fmadd_ps(w3, _mm512_loadu_ps(m[c + 3] + HALF), d1);
    }
    for (; c < to; c++) {
        __m512 w = _mm512_set1_ps(weight[c]);
        a0 = _mm512_fmadd_ps(w, _mm512_loadu_ps(m[c]), a0);
        a1 = _mm512_fmadd_ps(w, _mm512_loadu_ps(m[c] + HALF), a1);
    }
    *low = _mm512_add_ps(_mm512_add_ps(a0, b0), _mm512_add_ps(c0, d0));
    *high = _mm512_add_ps(_mm512_add_ps(a1, b1), _mm512_add_ps(c1, d1));
}

static void load_query(const Geometry *g, const bf16 *qkv, const Job *job, float *q) {
    const bf16 *p = qkv + (size_t)job->row * g->stride + g->q_column[job->head];
    __m512 low = load16(p), high = load16(p + HALF), scale = _mm512_set1_ps(1.0f / sqrtf((float)DIM));
    rotate(g, job->row, 0, &low, &high);
    _mm512_storeu_ps(q, _mm512_mul_ps(low, scale));
    _mm512_storeu_ps(q + HALF, _mm512_mul_ps(high, scale));
}

/* Runs `visit` over the jobs of every picture and KV head, with the keys they see. */
typedef struct {
    const Geometry *g;
    const bf16 *qkv, *d_out;
    bf16 *out, *d_qkv;
    float *lse;      /* [rows, heads] */
    float *d_system; /* [kv_heads, n_system, 2, DIM], backward only */
} Call;

static void forward_jobs(const Call *call, const Job *jobs, int n, Keys *context, Keys *own, int n_own) {
    const Geometry *g = call->g;
    float q[DIM], p[CONTEXT], po[CONTEXT];
    (void)n_own;
    for (int j = 0; j < n; j++) {
        const Job *job = jobs + j;
        int nc = job->n_context, from = job->own_from, to = job->own_to;
        load_query(g, call->qkv, job, q);
        dots(q, context->kt, nc, p);
        if (to)
            dots(q, own->kt, to, po);
        float m = p[0], sum = 0;
        for (int c = 0; c < nc; c++)
            m = p[c] > m ? p[c] : m;
        for (int c = from; c < to; c++)
            m = po[c] > m ? po[c] : m;
        for (int c = 0; c < nc; c++)
            sum += p[c] = expf(p[c] - m);
        for (int c = from; c < to; c++)
            sum += po[c] = expf(po[c] - m);
        __m512 low = _mm512_setzero_ps(), high = low, scale = _mm512_set1_ps(1.0f / sum);
        weighted(p, context->v, 0, nc, &low, &high);
        if (to)
            weighted(po, own->v, from, to, &low, &high);
        bf16 *y = call->out + ((size_t)job->row * g->heads + job->head) * DIM;
        store16(y, _mm512_mul_ps(low, scale));
        store16(y + HALF, _mm512_mul_ps(high, scale));
        call->lse[(size_t)job->row * g->heads + job->head] = m + logf(sum);
    }
}

/* m[c] += sum over the block of weight[b][c] * x[b] */
static inline void outer(float weight[BLOCK][CONTEXT], float x[BLOCK][DIM], float m[CONTEXT][DIM], int n) {
    __m512 low[BLOCK], high[BLOCK];
    for (int b = 0; b < BLOCK; b++)
        low[b] = _mm512_loadu_ps(x[b]), high[b] = _mm512_loadu_ps(x[b] + HALF);
    for (int c = 0; c < n; c++) {
        __m512 a = _mm512_loadu_ps(m[c]), h = _mm512_loadu_ps(m[c] + HALF);
        for (int b = 0; b < BLOCK; b++) {
            __m512 w = _mm512_set1_ps(weight[b][c]);
            a = _mm512_fmadd_ps(w, low[b], a);
            h = _mm512_fmadd_ps(w, high[b], h);
        }
        _mm512_storeu_ps(m[c], a);
        _mm512_storeu_ps(m[c] + HALF, h);
    }
}

static void backward_jobs(const Call *call, const Job *jobs, int n, Keys *context, Keys *own, int n_own) {
    const Geometry *g = call->g;
    float q[BLOCK][DIM], dy[BLOCK][DIM], p[BLOCK][CONTEXT], po[BLOCK][CONTEXT], ds[BLOCK][CONTEXT], dso[BLOCK][CONTEXT],
        dp[CONTEXT], dpo[CONTEXT];
    for (int j = 0; j < n; j += BLOCK) {
        int widest = 0;
        for (int b = 0; b < BLOCK; b++)
            if (j + b < n && jobs[j + b].n_context > widest)
                widest = jobs[j + b].n_context;
        for (int b = 0; b < BLOCK; b++) {
            if (j + b >= n) {
                memset(p[b], 0, sizeof p[b]), memset(ds[b], 0, sizeof ds[b]), memset(po[b], 0, sizeof po[b]),
                    memset(dso[b], 0, sizeof dso[b]);
                memset(q[b], 0, sizeof q[b]), memset(dy[b], 0, sizeof dy[b]);
                continue;
            }
            const Job *job = jobs + j + b;
            int nc = job->n_context, from = job->own_from, to = job->own_to;
            size_t at = (size_t)job->row * g->heads + job->head;
            float lse = call->lse[at];
            load_query(g, call->qkv, job, q[b]);
            _mm512_storeu_ps(dy[b], load16(call->d_out + at * DIM));
            _mm512_storeu_ps(dy[b] + HALF, load16(call->d_out + at * DIM + HALF));
            dots(q[b], context->kt, nc, p[b]);
            dots(dy[b], context->vt, nc, dp);
            float delta = 0;
            for (int c = 0; c < nc; c++)
                p[b][c] = expf(p[b][c] - lse);
            for (int c = 0; c < nc; c++)
                delta += p[b][c] * dp[c];
            if (to) {
                dots(q[b], own->kt, to, po[b]);
                dots(dy[b], own->vt, to, dpo);
                for (int c = 0; c < from; c++)
                    po[b][c] = 0;
                for (int c = from; c < to; c++)
                    po[b][c] = expf(po[b][c] - lse);
                for (int c = from; c < to; c++)
                    delta += po[b][c] * dpo[c];
                for (int c = 0; c < from; c++)
                    dso[b][c] = 0;
                for (int c = from; c < to; c++)
                    dso[b][c] = po[b][c] * (dpo[c] - delta);
                for (int c = to; c < n_own; c++)
                    po[b][c] = dso[b][c] = 0;
            }
            for (int c = 0; c < nc; c++)
                ds[b][c] = p[b][c] * (dp[c] - delta);
            for (int c = nc; c < widest; c++)
                p[b][c] = ds[b][c] = 0;
            __m512 low = _mm512_setzero_ps(), high = low, scale = _mm512_set1_ps(1.0f / sqrtf((float)DIM));
            weighted(ds[b], context->k, 0, nc, &low, &high);
            if (to)
                weighted(dso[b], own->k, from, to, &low, &high);
            low = _mm512_mul_ps(low, scale), high = _mm512_mul_ps(high, scale);
            rotate(g, job->row, 1, &low, &high);
            bf16 *d = call->d_qkv + (size_t)job->row * g->stride + g->q_column[job->head];
            store16(d, low);
            store16(d + HALF, high);
        }
        outer(ds, q, context->dk, widest);
        outer(p, dy, context->dv, widest);
        if (n_own) {
            outer(dso, q, own->dk, n_own);
            outer(po, dy, own->dv, n_own);
        }
    }
}

static void store_key_gradient(const Call *call, int row, int kv, const float *dk, const float *dv) {
    const Geometry *g = call->g;
    bf16 *d = call->d_qkv + (size_t)row * g->stride;
    __m512 low = _mm512_loadu_ps(dk), high = _mm512_loadu_ps(dk + HALF);
    rotate(g, row, 1, &low, &high);
    store16(d + g->k_column[kv], low);
    store16(d + g->k_column[kv] + HALF, high);
    store16(d + g->v_column[kv], _mm512_loadu_ps(dv));
    store16(d + g->v_column[kv] + HALF, _mm512_loadu_ps(dv + HALF));
}

static int attention(const Call *call, int answers) {
    const Geometry *g = call->g;
    int group = g->heads / g->kv_heads, backward = call->d_out != NULL, first_text = g->batch * g->n_image;
    int n_context = g->n_system + g->n_image;
    Keys *context = aligned_alloc(64, sizeof *context), *own = aligned_alloc(64, sizeof *own);
    Job *jobs = malloc(sizeof *jobs * (size_t)(group * (n_context + OWN)));
    if (!context || !own || !jobs || n_context > CONTEXT)
        return free(context), free(own), free(jobs), 1;
    memset(context, 0, sizeof *context);
    memset(own, 0, sizeof *own);
    void (*run)(const Call *, const Job *, int, Keys *, Keys *, int) = backward ? backward_jobs : forward_jobs;
    for (int b = 0; b < g->batch; b++)
        for (int kv = 0; kv < g->kv_heads; kv++) {
            for (int r = 0; r < g->n_system; r++)
                add_key(g, call->qkv, first_text + r, kv, context, r, backward);
            for (int r = 0; r < g->n_image; r++)
                add_key(g, call->qkv, b * g->n_image + r, kv, context, g->n_system + r, backward);
            if (backward)
                memset(context->dk, 0, sizeof context->dk), memset(context->dv, 0, sizeof context->dv);
            int n = 0;
            for (int r = b ? g->n_system : 0; r < n_context; r++)
                for (int h = 0; h < group; h++)
                    jobs[n++] = (Job){r < g->n_system ? first_text + r : b * g->n_image + r - g->n_system,
                                      kv * group + h, r + 1, 0, 0};
            run(call, jobs, n, context, own, 0);
            for (int i = 0; i < g->n_segments; i++) {
                const int *s = g->segments + 6 * i;
                if (s[0] != b)
                    continue;
                int length = s[2], pad = s[3], total = length + (answers ? s[5] : 0);
                if (total > OWN)
                    return free(context), free(own), free(jobs), 1;
                n = 0;
                for (int r = pad; r < total; r++) {
                    int row = r < length ? s[1] + r : s[4] + r - length;
                    add_key(g, call->qkv, row, kv, own, r, backward);
                    for (int h = 0; h < group; h++)
                        jobs[n++] = (Job){row, kv * group + h, n_context, pad, r + 1};
                }
                if (backward)
                    memset(own->dk, 0, sizeof(float) * DIM * (size_t)total),
                        memset(own->dv, 0, sizeof(float) * DIM * (size_t)total);
                run(call, jobs, n, context, own, total);
                if (backward)
                    for (int r = pad; r < total; r++)
                        store_key_gradient(call, r < length ? s[1] + r : s[4] + r - length, kv, own->dk[r], own->dv[r]);
            }
            if (!backward)
                continue;
            for (int r = 0; r < g->n_image; r++)
                store_key_gradient(call, b * g->n_image + r, kv, context->dk[g->n_system + r],
                                   context->dv[g->n_system + r]);
            float *d = call->d_system + (size_t)kv * g->n_system * 2 * DIM;
            for (int r = 0; r < g->n_system; r++)
                for (int i = 0; i < DIM; i++)
                    d[r * 2 * DIM + i] += context->dk[r][i], d[r * 2 * DIM + DIM + i] += context->dv[r][i];
        }
    if (backward)
        for (int kv = 0; kv < g->kv_heads; kv++)
            for (int r = 0; r < g->n_system; r++) {
                const float *d = call->d_system + ((size_t)kv * g->n_system + r) * 2 * DIM;
                store_key_gradient(call, first_text + r, kv, d, d + DIM);
            }
    free(context), free(own), free(jobs);
    return 0;
}

/* out [rows, heads * DIM] must be zeroed by the caller: padding rows are not written. */
int attention_forward(const Geometry *g, const bf16 *qkv, int answers, bf16 *out, float *lse) {
    Call call = {.g = g, .qkv = qkv, .out = out, .lse = lse};
    return attention(&call, answers);
}

/* d_qkv [rows, stride] and d_system must be zeroed by the caller. */
int attention_backward(const Geometry *g, const bf16 *qkv, int answers, const bf16 *d_out, float *lse, bf16 *d_qkv,
                       float *d_system) {
    Call call = {.g = g, .qkv = qkv, .d_out = d_out, .lse = lse, .d_qkv = d_qkv, .d_system = d_system};
    return attention(&call, answers);
}
