/* Attention at every instruction-set level of this machine against a softmax in double precision. */
#include <math.h>

#include "kernels/attention.h"
#include "base/float16.h"
#include "filter.h"
#include "test.h"

static trol_error error;
static uint64_t seed = 1234567;

static int64_t random_below(int64_t n) { return (int64_t)(test_random(&seed) % (uint64_t)n); }

/* One problem: `n_jobs` sessions of one shape. */
enum { MAX_JOBS = 6, MAX_HEADS = 32 };

typedef struct problem {
    attention_shape shape;
    attention_job jobs[MAX_JOBS];
    int64_t n_jobs;
    int32_t q_offsets[MAX_HEADS];
    float *q[MAX_JOBS], *out[MAX_JOBS];
    int32_t *positions[MAX_JOBS];
    void *storage[MAX_JOBS]; /* keys and values, in one piece */
    void **blocks[MAX_JOBS]; /* keys' blocks, then values' */
} problem;

typedef struct problem_recipe {
    int32_t n_heads, n_kv_heads, head_dim;
    int64_t n_jobs, n_rows, n_keys; /* n_keys: the most of any row */
    int64_t window, block_tokens;
    kv_type type;
    bool causal, holes, token_major, answer;
    float q_size, k_size; /* magnitudes */
    bool bf16;
} problem_recipe;

/* What plain C stores is what is attended to, whatever the level. */
static const kv_codec *reference_codec(kv_type type) { return &kernels_at(CPU_SCALAR)->kv[type]; }

static void fill_rows(const problem_recipe *recipe, char *to, int64_t n_rows, float size) {
    float values[256];
    for (int64_t row = 0; row < n_rows; row++, to += kv_bytes(recipe->type, recipe->head_dim)) {
        for (int32_t i = 0; i < recipe->head_dim; i++)
            values[i] = size * test_uniform(&seed);
        (void)reference_codec(recipe->type)->store(values, to, recipe->head_dim);
    }
}

static void make_job(problem *p, const problem_recipe *recipe, int64_t index) {
    attention_job *job = &p->jobs[index];
    int64_t n_keys = recipe->n_keys - (index ? random_below(recipe->n_keys / 2 + 1) : 0);
    int64_t n_rows = recipe->n_rows, q_stride = recipe->n_heads * recipe->head_dim + 5, dims = recipe->head_dim;
    if (recipe->causal && n_keys < n_rows)
        n_keys = n_rows;
    job->n_rows = n_rows;
    job->answer = recipe->answer;
    job->q_stride = q_stride;
    job->out_stride = recipe->n_heads * dims + 3;
    job->q = p->q[index] = malloc((size_t)(n_rows * q_stride) * sizeof(float));
    job->out = p->out[index] = malloc((size_t)(n_rows * job->out_stride) * sizeof(float));
    for (int64_t i = 0; i < n_rows * q_stride; i++)
        p->q[index][i] = recipe->q_size * test_uniform(&seed);
    for (int64_t i = 0; i < n_rows * job->out_stride; i++)
        p->out[index][i] = NAN;
    job->n_keys = n_keys;
    if (recipe->causal) {
        job->positions = p->positions[index] = malloc((size_t)n_rows * sizeof(int32_t));
        int64_t position = n_keys - 1;
        for (int64_t i = n_rows - 1; i >= 0; i--) {
            p->positions[index][i] = (int32_t)position;
            int64_t hole = recipe->holes && position > i ? random_below(3) : 0;
            position -= 1 + (hole < position - i ? hole : position - i);
        }
    }
    int64_t n_blocks = (n_keys + recipe->block_tokens - 1) / recipe->block_tokens;
    int64_t row_bytes = kv_bytes(recipe->type, dims), rows = recipe->block_tokens * recipe->n_kv_heads; /* of a block */
    p->storage[index] = malloc((size_t)(2 * n_blocks * rows * row_bytes));
    p->blocks[index] = malloc((size_t)(2 * n_blocks) * sizeof(void *));
    for (int64_t i = 0; i < 2 * n_blocks; i++) {
        p->blocks[index][i] = (char *)p->storage[index] + i * rows * row_bytes;
        fill_rows(recipe, p->blocks[index][i], rows, i < n_blocks ? recipe->k_size : 1.0f);
    }
    /* what is stored after the last key must not be used */
    int64_t last = n_keys % recipe->block_tokens;
    attention_source *source = &job->source;
    *source = (attention_source){.type = recipe->type,
                                 .key_blocks = (const void *const *)p->blocks[index],
                                 .value_blocks = (const void *const *)p->blocks[index] + n_blocks,
                                 .block_tokens = recipe->block_tokens};
    source->token_stride = recipe->token_major ? recipe->n_kv_heads * row_bytes : row_bytes;
    source->head_stride = recipe->token_major ? row_bytes : recipe->block_tokens * row_bytes;
    for (int64_t token = last; last && token < recipe->block_tokens; token++)
        for (int64_t head = 0; head < recipe->n_kv_heads; head++)
            for (int plane = 1; plane <= 2; plane++) {
                char *block = p->blocks[index][plane * n_blocks - 1];
                memset(block + token * source->token_stride + head * source->head_stride, 0xff,
                       (size_t)row_bytes); /* NaN in all types */
            }
}

static problem *make_problem(const problem_recipe *recipe) {
    problem *p = calloc(1, sizeof *p);
    p->shape = (attention_shape){.n_heads = recipe->n_heads,
                                 .n_kv_heads = recipe->n_kv_heads,
                                 .head_dim = recipe->head_dim,
                                 .q_offsets = p->q_offsets,
                                 .scale = 1.0f / sqrtf((float)recipe->head_dim),
                                 .window = recipe->window,
                                 .bf16 = recipe->bf16};
    for (int32_t head = 0; head < recipe->n_heads; head++) /* in reverse: offsets are free */
        p->q_offsets[head] = (recipe->n_heads - 1 - head) * recipe->head_dim;
    p->n_jobs = recipe->n_jobs;
    for (int64_t i = 0; i < p->n_jobs; i++)
        make_job(p, recipe, i);
    return p;
}

static void free_problem(problem *p) {
    for (int64_t i = 0; i < p->n_jobs; i++) {
        free(p->q[i]);
        free(p->out[i]);
        free(p->positions[i]);
        free(p->storage[i]);
        free(p->blocks[i]);
    }
    free(p);
}

/* The values of a key head, [n_keys, dims]. */
static float *load_head(const attention_source *source, const void *const *blocks, int64_t n_keys, int64_t head,
                        int64_t dims) {
    float *values = malloc((size_t)(n_keys * dims) * sizeof *values);
    for (int64_t token = 0; token < n_keys; token++) {
        const char *row = blocks[token / source->block_tokens];
        row += token % source->block_tokens * source->token_stride + head * source->head_stride;
        reference_codec(source->type)->load(row, values + token * dims, dims);
    }
    return values;
}

/* Largest difference from the definition, relative to the largest magnitude of a value (1), and where. */
static double largest_error(const problem *p, int64_t index) {
    const attention_job *job = &p->jobs[index];
    const attention_shape *shape = &p->shape;
    int64_t dims = shape->head_dim, group = shape->n_heads / shape->n_kv_heads;
    double worst = 0, *scores = malloc((size_t)job->n_keys * sizeof(double));
    for (int64_t head = 0; head < shape->n_heads; head++) {
        const attention_source *source = &job->source;
        float *keys = load_head(source, source->key_blocks, job->n_keys, head / group, dims);
        float *values = load_head(source, source->value_blocks, job->n_keys, head / group, dims);
        for (int64_t row = 0; row < job->n_rows; row++) {
            const float *q = job->q + row * job->q_stride + shape->q_offsets[head];
            int64_t end = job->positions ? job->positions[row] + 1 : job->n_keys;
            int64_t first = job->positions && shape->window < end - 1 ? end - 1 - shape->window : 0;
            double max = -INFINITY, sum = 0;
            for (int64_t key = first; key < end; key++) {
                scores[key] = 0;
                for (int64_t d = 0; d < dims; d++)
                    scores[key] += (double)q[d] * (double)keys[key * dims + d];
                scores[key] *= shape->scale;
                max = fmax(max, scores[key]);
            }
            for (int64_t key = first; key < end; key++)
                sum += scores[key] = exp(scores[key] - max);
            for (int64_t d = 0; d < dims; d++) {
                double value = 0;
                for (int64_t key = first; key < end; key++)
                    value += scores[key] * (double)values[key * dims + d];
                double difference = fabs(value / sum - job->out[row * job->out_stride + head * dims + d]);
                if (!(difference <= worst)) /* NaN, too */
                    worst = difference;
            }
        }
        free(keys);
        free(values);
    }
    free(scores);
    return worst;
}

/* bf16: with the kernels in bfloat16 whether this CPU is fast at them or not. */
static run run_at(cpu_level level, bool bf16, trol_threads *threads, workspace *space) {
    static kernels with_bf16;
    const kernels *table = kernels_at(level);
    if (bf16) {
        kernels_fill(&with_bf16, level, cpu_traits_at(level) | CPU_HAS_FAST_BF16);
        table = &with_bf16;
    }
    return (run){.threads = threads, .space = space, .kernels = table, .error = &error};
}

static uint64_t hash_results(const problem *p) {
    uint64_t hash = 1;
    for (int64_t i = 0; i < p->n_jobs; i++)
        for (int64_t row = 0; row < p->jobs[i].n_rows; row++)
            for (int64_t d = 0; d < (int64_t)p->shape.n_heads * p->shape.head_dim; d++)
                hash = (hash ^ bits_from_float(p->out[i][row * p->jobs[i].out_stride + d])) * 0x100000001b3ull;
    return hash;
}

static void check_recipe(cpu_level level, trol_threads *const threads[3], workspace *space,
                         const problem_recipe *recipe, double tolerance, const char *what) {
    problem *p = make_problem(recipe);
    uint64_t hash = 0;
    for (int i = 0; i < 3; i++) {
        run r = run_at(level, recipe->bf16, threads[i], space);
        CHECK_OK(attention_apply(&r, &p->shape, p->jobs, p->n_jobs), error);
        CHECK(i == 0 || hash_results(p) == hash, "%s, %s: results differ with %d threads", cpu_level_name(level), what,
              i + 1);
        hash = hash_results(p);
    }
    for (int64_t i = 0; i < p->n_jobs; i++) {
        double worst = largest_error(p, i);
        CHECK(worst <= tolerance,
              "%s, %s: off by %g (%d / %d heads of %d, %lld rows, %lld keys, window %lld, blocks of %lld, %s, "
              "positions %d, "
              "holes %d, answer %d)",
              cpu_level_name(level), what, worst, recipe->n_heads, recipe->n_kv_heads, recipe->head_dim,
              (long long)recipe->n_rows, (long long)p->jobs[i].n_keys, (long long)recipe->window,
              (long long)recipe->block_tokens, kv_name(recipe->type), recipe->causal, recipe->holes, recipe->answer);
    }
    free_problem(p);
}

/* The error that bfloat16 may have: q and k are rounded to 8 bits and scores are some units large. */
static const double bf16_tolerance = 1e-2;

static void check_random_shapes(cpu_level level, bool bf16, trol_threads *const threads[3], workspace *space) {
    static const int32_t dims[] = {1, 7, 16, 20, 32, 33, 48, 64, 80, 96, 100, 128, 256};
    static const int64_t rows[] = {1, 2, 5, 16, 17, 40, 131};
    for (int i = 0; i < 60; i++) {
        bool many_keys = i % 7 == 0; /* then few rows, to save time */
        int32_t kv_heads = 1 + (int32_t)random_below(3), group = 1 + (int32_t)random_below(8);
        problem_recipe recipe = {.n_heads = kv_heads * group,
                                 .n_kv_heads = kv_heads,
                                 .head_dim = dims[random_below(13)],
                                 .n_jobs = 1 + random_below(3),
                                 .n_rows = rows[random_below(many_keys ? 5 : 7)],
                                 .n_keys = 1 + random_below(many_keys ? 1400 : 200),
                                 .window = i % 3 ? INT64_MAX : random_below(150),
                                 .block_tokens = i % 5 ? 64 : 1 + random_below(100),
                                 .type = (kv_type)(i % KV_TYPES),
                                 .causal = i % 4 != 3,
                                 .holes = i % 8 > 4,
                                 .token_major = random_below(2),
                                 .q_size = 2,
                                 .k_size = 2,
                                 .answer = i % 2 == (i / 2) % 2,
                                 .bf16 = bf16};
        check_recipe(level, threads, space, &recipe, bf16 ? bf16_tolerance : 3e-6, "random shape");
    }
}

/* Scores of some 10^4 (too large for bfloat16), all keys alike, keys at the end of what F16 holds and far beyond. */
static void check_extremes_of(cpu_level level, bool bf16, trol_threads *const threads[3], workspace *space,
                              kv_type type) {
    for (int64_t rows = 3; rows <= 60; rows += 57) {
        problem_recipe recipe = {.n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 64,
                                 .n_jobs = 1,
                                 .n_rows = rows,
                                 .n_keys = 300,
                                 .window = INT64_MAX,
                                 .block_tokens = 64,
                                 .type = type,
                                 .causal = true,
                                 .answer = rows < 10,
                                 .bf16 = bf16};
        recipe.q_size = 100, recipe.k_size = 100; /* one key decides; its score is rounded by up to 1e-3 */
        if (!bf16)
            check_recipe(level, threads, space, &recipe, 5e-3, "scores of 1e4");
        recipe.q_size = 3e-5f, recipe.k_size = 65504;
        check_recipe(level, threads, space, &recipe, bf16 ? bf16_tolerance : 1e-5, "largest keys");
        recipe.q_size = 3e-32f, recipe.k_size = 1e32f;
        if (type != KV_F16)
            check_recipe(level, threads, space, &recipe, bf16 ? bf16_tolerance : 1e-5, "keys of 1e32");
        recipe.q_size = 0, recipe.k_size = 1;
        check_recipe(level, threads, space, &recipe, bf16 ? bf16_tolerance : 1e-6, "all scores zero");
    }
}

static void check_extremes(cpu_level level, bool bf16, trol_threads *const threads[3], workspace *space) {
    for (kv_type type = KV_F16; type < KV_TYPES; type++)
        check_extremes_of(level, bf16, threads, space, type);
}

/* Jobs after the first get some of its blocks for their own, as beams and forks share them. */
static void share_blocks(problem *p) {
    for (int64_t index = 1; index < p->n_jobs; index++) {
        const attention_source *first = &p->jobs[0].source;
        const int64_t tokens = first->block_tokens, n_first = (p->jobs[0].n_keys + tokens - 1) / tokens;
        const int64_t n_blocks = (p->jobs[index].n_keys + tokens - 1) / tokens;
        const int64_t limit = n_first < n_blocks ? n_first : n_blocks,
                      n_shared = limit - 1 - random_below(limit > 9 ? 3 : limit);
        for (int64_t i = 0; i < n_shared; i++) {
            p->blocks[index][i] = p->blocks[0][i];
            p->blocks[index][n_blocks + i] = p->blocks[0][n_first + i];
        }
    }
}

/* Rows in random pieces give the bits that all of them in one call give, with any number of threads. */
static void check_independence(cpu_level level, bool bf16, trol_threads *const threads[3], workspace *space) {
    for (int i = 0; i < 40; i++) {
        bool many_keys = i % 4 == 0 || i >= 24; /* more than one span, and a window that begins inside of one */
        problem_recipe recipe = {.n_heads = 6,
                                 .n_kv_heads = i % 3 ? 2 : 6,
                                 .head_dim = i % 5 ? 96 : 40,
                                 .n_jobs = i >= 24 ? MAX_JOBS : 1 + random_below(3),
                                 .n_rows = 1 + random_below(i >= 24 ? 4
                                                            : i % 6 ? 40
                                                                    : 130),
                                 .n_keys = 1 + random_below(many_keys ? 1200 : 200) + (i >= 24 ? 700 : 0),
                                 .window = i % 2 ? INT64_MAX : random_below(many_keys ? 700 : 90),
                                 .block_tokens = 64,
                                 .type = (kv_type)(i % 7 % KV_TYPES),
                                 .causal = i % 8 != 5,
                                 .holes = i % 3 == 1,
                                 .answer = i / 2 % 2 || i >= 24,
                                 .q_size = i % 5 ? 2 : 12,
                                 .k_size = 2,
                                 .bf16 = bf16};
        problem *p = make_problem(&recipe);
        run r = run_at(level, bf16, threads[1], space);
        if (i >= 24)
            share_blocks(p);
        CHECK_OK(attention_apply(&r, &p->shape, p->jobs, p->n_jobs), error);
        int64_t width = recipe.n_heads * recipe.head_dim, differing = 0;
        float *alone = malloc((size_t)(recipe.n_rows * p->jobs[0].out_stride) * sizeof(float));
        for (int64_t index = 0; index < p->n_jobs; index++)
            for (int64_t row = 0, n; row < recipe.n_rows; row += n) {
                attention_job job = p->jobs[index];
                n = job.n_rows = 1 + random_below(random_below(2) ? 3 : recipe.n_rows - row);
                n = job.n_rows = n < recipe.n_rows - row ? n : recipe.n_rows - row;
                job.q += row * job.q_stride;
                if (job.positions)
                    job.positions += row;
                job.out = alone;
                r.threads = threads[random_below(3)];
                CHECK_OK(attention_apply(&r, &p->shape, &job, 1), error);
                for (int64_t k = 0; k < n; k++)
                    differing += memcmp(alone + k * job.out_stride, p->out[index] + (row + k) * job.out_stride,
                                        (size_t)width * sizeof(float)) != 0;
            }
        CHECK(differing == 0, "%s: %lld rows of %lld x %lld %s in pieces differ (case %d)", cpu_level_name(level),
              (long long)differing, (long long)p->n_jobs, (long long)recipe.n_rows,
              recipe.answer ? "answer rows" : "prompt rows", i);
        free(alone);
        free_problem(p);
    }
}

/* A cancelled call reports it and leaves the workspace as it was. */
static void check_cancel(trol_threads *threads, workspace *space) {
    problem_recipe recipe = {2, 1, 64, 1, 200, 200, INT64_MAX, 64, KV_F32, true, false, false, false, 1, 1, false};
    problem *p = make_problem(&recipe);
    run r = run_at(cpu_best_level(), false, threads, space);
    atomic_int cancel = 1;
    size_t mark = workspace_mark(space);
    r.cancel = &cancel;
    CHECK(attention_apply(&r, &p->shape, p->jobs, 1) == TROL_ERROR_CANCELLED, "not cancelled");
    CHECK(workspace_mark(space) == mark, "scratch memory was not released");
    free_problem(p);
}

int main(int argc, char **argv) {
    test_arguments(argc, argv);
    trol_threads *threads[3];
    workspace *space;
    CHECK_OK(workspace_new(&space, &error), error);
    for (int i = 0; i < 3; i++)
        CHECK_OK(trol_threads_new(i + 1, &threads[i], &error), error);
    for (cpu_level level = CPU_SCALAR; level <= CPU_AVX512BF16; level++) {
        if (!cpu_has_level(level) || level == CPU_AVXVNNI ||
            level == CPU_AVX512VNNI) /* no attention kernels of its own */
            continue;
        bool bf16 = level == CPU_AVX512BF16;
        const char *name = cpu_level_name(level);
        if (test_wanted(name, "shapes"))
            check_random_shapes(level, bf16, threads, space);
        if (test_wanted(name, "extremes"))
            check_extremes(level, bf16, threads, space);
        if (test_wanted(name, "pieces"))
            check_independence(level, bf16, threads, space);
    }
    if (test_wanted("best", "cancel"))
        check_cancel(threads[1], space);
    for (int i = 0; i < 3; i++)
        trol_threads_free(threads[i]);
    workspace_free(space);
    return test_summary("attention");
}
