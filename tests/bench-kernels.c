/* bench-kernels [AREA ...]: how fast the inner loops run, beside what this machine can do, both measured in this
 * process.
 *
 * Options: --threads N (default: one for each core), --level NAME (default: the best), --seconds S (for each
 * measurement),
 * --only TEXT (measurements with it in their name), --processor-time (for --threads 1 where other programs run too).
 * Each area (attention, ops, ...) is a function in the table at the end. Figures are medians of several rounds. The
 * area "choices" measures, where there are several ways to do a thing, the one that the table of this CPU takes beside
 * the others, and warns where another is faster. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/float16.h"
#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/linear_blas.h"
#include "kernels/ops.h"
#include "kernels/peaks.h"
#include "kernels/quantize.h"

typedef struct bench {
    run run;
    bool processor_time; /* instead of wall-clock time: for one thread on a machine with other load */
    const char *only;    /* in the names of what is measured; NULL: everything */
    double seconds;      /* of each measurement */
    peaks peaks;         /* this machine's, whatever the level */
} bench;

static trol_error error;

static void stop_on(trol_status status) {
    if (status != TROL_OK) {
        fprintf(stderr, "bench-kernels: %s\n", error.message);
        exit(1);
    }
}

static void *allocate(size_t bytes) {
    void *memory;
    stop_on(memory_alloc(bytes, 1, "a benchmark", &memory, &error));
    return memory;
}

static float *random_floats(int64_t n) {
    float *x = allocate((size_t)n * sizeof(float));
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return x;
}

/* Median of the seconds that a call takes. */
typedef void (*measured)(void *context);

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool skipped(const bench *b, const char *name) { return b->only && !strstr(name, b->only); }

static double now(const bench *b) {
    struct timespec time;
    if (!b->processor_time)
        return clock_seconds();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double median_seconds(const bench *b, measured call, void *context) {
    enum { MAX_ROUNDS = 1000 };
    static double rounds[MAX_ROUNDS];
    int n = 0;
    call(context);
    for (double begin = clock_seconds(); n < MAX_ROUNDS && (n < 3 || clock_seconds() - begin < b->seconds); n++) {
        double start = now(b);
        call(context);
        rounds[n] = now(b) - start;
    }
    qsort(rounds, (size_t)n, sizeof rounds[0], compare);
    return rounds[n / 2];
}

/* peak: of the units that the work runs on, in 1e9 operations a second. */
static void print_rate(const char *what, double seconds, double operations, double peak, double bytes, const bench *b) {
    printf("%-58s %9.3f ms", what, seconds * 1e3);
    if (operations > 0)
        printf("  %7.1f GOP/s (%2.0f%%)", operations / seconds * 1e-9, 100 * operations / seconds * 1e-9 / peak);
    if (bytes > 0)
        printf("  %6.1f GB/s (%2.0f%%)", bytes / seconds * 1e-9, 100 * bytes / seconds * 1e-9 / b->peaks.read_gbytes);
    printf("\n");
    fflush(stdout);
}

/* ---- Attention ------------------------------------------------------------------------------- */

typedef struct attention_case {
    const bench *bench;
    attention_shape shape;
    attention_job job;
    int64_t n_layers,
        layer; /* decoding goes through several layers, so that keys and values come from memory, not from a cache */
    const void **blocks; /* [n_layers][keys' blocks, values' blocks] */
    int64_t blocks_per_layer;
} attention_case;

static void call_attention(void *context) {
    attention_case *c = context;
    c->job.source.key_blocks = c->blocks + c->layer * 2 * c->blocks_per_layer;
    c->job.source.value_blocks = c->job.source.key_blocks + c->blocks_per_layer;
    c->layer = (c->layer + 1) % c->n_layers;
    stop_on(attention_apply(&c->bench->run, &c->shape, &c->job, 1));
}

/* F16 numbers of all kinds from -2 to 2, or bytes and scales (q8) of all kinds. */
static void fill_f16(unsigned char *memory, int64_t bytes) {
    enum { PATTERN = 1 << 14 };
    static uint16_t pattern[PATTERN];
    for (int i = 0; i < PATTERN; i++)
        pattern[i] = (uint16_t)((i * 40503) & 0xbfff);
    for (int64_t i = 0; i < bytes; i += (int64_t)sizeof pattern)
        memcpy(memory + i, pattern,
               (size_t)(bytes - i < (int64_t)sizeof pattern ? bytes - i : (int64_t)sizeof pattern));
}

/* rows == 0: a picture of n_keys tokens, all of which attend to all. Otherwise the last `rows` positions of n_keys. */
static void bench_attention_case(const bench *b, const char *name, int32_t n_heads, int32_t n_kv_heads,
                                 int32_t head_dim, kv_type type, int64_t rows, int64_t n_keys) {
    const bool image = rows == 0;
    if (skipped(b, name))
        return;
    attention_case c = {.bench = b};
    int32_t *offsets = allocate((size_t)n_heads * sizeof *offsets);
    for (int32_t i = 0; i < n_heads; i++)
        offsets[i] = i * head_dim;
    c.shape = (attention_shape){n_heads, n_kv_heads, head_dim, offsets, 1 / sqrtf((float)head_dim), INT64_MAX, false};
    rows = image ? n_keys : rows;
    const int64_t row_bytes = kv_bytes(type, head_dim), block_tokens = image ? n_keys : 64;
    const int64_t plane = block_tokens * n_kv_heads * row_bytes;
    c.blocks_per_layer = (n_keys + block_tokens - 1) / block_tokens;
    int64_t layer_bytes = 2 * c.blocks_per_layer * plane;
    c.n_layers = rows <= 16 ? 1 + ((int64_t)256 << 20) / layer_bytes : 1;
    unsigned char *memory = allocate((size_t)(c.n_layers * layer_bytes));
    if (image)
        memset(memory, 0, (size_t)layer_bytes);
    else
        fill_f16(memory, c.n_layers * layer_bytes);
    c.blocks = allocate((size_t)(c.n_layers * 2 * c.blocks_per_layer) * sizeof(void *));
    for (int64_t i = 0; i < c.n_layers * 2 * c.blocks_per_layer; i++)
        c.blocks[i] = memory + i * plane;
    float *q = random_floats(rows * n_heads * head_dim), *out = random_floats(rows * n_heads * head_dim);
    int32_t *positions = allocate((size_t)rows * sizeof *positions);
    double pairs = 0;
    for (int64_t i = 0; i < rows; i++) {
        positions[i] = (int32_t)(n_keys - rows + i);
        pairs += image ? (double)n_keys : (double)positions[i] + 1;
    }
    c.job = (attention_job){.q = q,
                            .q_stride = n_heads * head_dim,
                            .out = out,
                            .out_stride = n_heads * head_dim,
                            .n_rows = rows,
                            .answer = !image && rows <= 16,
                            .positions = image ? NULL : positions,
                            .n_keys = n_keys};
    c.job.source = (attention_source){.type = type, .block_tokens = block_tokens};
    c.job.source.token_stride = image ? n_kv_heads * row_bytes : row_bytes;
    c.job.source.head_stride = image ? row_bytes : block_tokens * row_bytes;
    double bytes = rows <= 16 ? 2.0 * (double)n_keys * n_kv_heads * (double)row_bytes : 0;
    double operations = 4.0 * pairs * n_heads * head_dim;
    print_rate(name, median_seconds(b, call_attention, &c), operations, b->peaks.float32_gflops, bytes, b);
    if (rows > 16 && b->run.kernels->attention.tile_bf16) {
        char title[128];
        snprintf(title, sizeof title, "%s, in bf16", name);
        c.shape.bf16 = true;
        print_rate(title, median_seconds(b, call_attention, &c), operations, b->peaks.bfloat16_gflops, 0, b);
    }
    memory_free(positions), memory_free(q), memory_free(out), memory_free(c.blocks);
    memory_free(memory), memory_free(offsets);
}

static void bench_attention(const bench *b) {
    static const struct {
        const char *name;
        int32_t n_heads, n_kv_heads, head_dim;
        int64_t rows, n_keys;
    } works[] = {{"prompt: 1300, 16 heads of 128, 8 key heads", 16, 8, 128, 1300, 1300},
                 {"prompt: 1300, 32 heads of 96, 32 key heads", 32, 32, 96, 1300, 1300},
                 {"decode: 64 keys, 16 / 8 heads of 128", 16, 8, 128, 1, 64},
                 {"decode: 1300 keys, 16 / 8 heads of 128", 16, 8, 128, 1, 1300},
                 {"decode: 8000 keys, 16 / 8 heads of 128", 16, 8, 128, 1, 8000},
                 {"decode: 1300 keys, 32 / 8 heads of 128", 32, 8, 128, 1, 1300},
                 {"decode: 1300 keys, 32 / 32 heads of 96", 32, 32, 96, 1, 1300},
                 {"5 rows: 1300 keys, 16 / 8 heads of 128", 16, 8, 128, 5, 1300}};
    bench_attention_case(b, "attention, picture: 1226 x 1226, 16 heads of 64", 16, 16, 64, KV_F32, 0, 1226);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        for (int q8 = 0; q8 <= 1; q8++) {
            char name[96];
            snprintf(name, sizeof name, "attention, %s%s", works[i].name, q8 ? ", q8" : "");
            bench_attention_case(b, name, works[i].n_heads, works[i].n_kv_heads, works[i].head_dim, q8 ? KV_Q8 : KV_F16,
                                 works[i].rows, works[i].n_keys);
        }
}

/* ---- Operations between products ------------------------------------------------------------- */

enum { OPS_ROWS = 1300, OPS_COLUMNS = 2048 };

typedef struct ops_case {
    const bench *bench;
    int64_t n_rows;
    float *x, *y, *out, *weight, *scale, *cos, *sin;
    int32_t offsets[24];
} ops_case;

static void call_rms_norm(void *context) {
    ops_case *c = context;
    stop_on(
        ops_rms_norm(&c->bench->run, c->x, OPS_COLUMNS, c->out, OPS_COLUMNS, c->n_rows, OPS_COLUMNS, c->weight, 1e-5f));
}
static void call_layer_norm(void *context) {
    ops_case *c = context;
    stop_on(ops_layer_norm(&c->bench->run, c->x, OPS_COLUMNS, c->out, OPS_COLUMNS, c->n_rows, OPS_COLUMNS, c->weight,
                           c->weight, 1e-5f));
}
static void call_rope(void *context) {
    ops_case *c = context;
    stop_on(ops_rope(&c->bench->run, c->out, OPS_COLUMNS, c->n_rows, c->offsets, 16, 128, c->cos, c->sin));
}
static void call_mix(void *context) {
    ops_case *c = context;
    stop_on(ops_mix(&c->bench->run, c->x, c->y, c->scale, c->out, c->n_rows, OPS_COLUMNS));
}
static void call_gate(void *context) {
    ops_case *c = context;
    stop_on(ops_gate(&c->bench->run, c->x, c->n_rows, OPS_COLUMNS, c->weight, 0.1f, c->scale));
}
static void bench_ops(const bench *b) {
    static const struct {
        const char *name;
        measured call;
        double bytes_per_row;
    } calls[] = {{"rms_norm", call_rms_norm, 8.0 * OPS_COLUMNS},
                 {"layer_norm", call_layer_norm, 8.0 * OPS_COLUMNS},
                 {"rope, 16 heads of 128", call_rope, 9.0 * OPS_COLUMNS},
                 {"mix", call_mix, 12.0 * OPS_COLUMNS},
                 {"gate", call_gate, 4.0 * OPS_COLUMNS}};
    ops_case c = {.bench = b};
    c.x = random_floats(OPS_ROWS * OPS_COLUMNS), c.y = random_floats(OPS_ROWS * OPS_COLUMNS);
    c.out = random_floats(OPS_ROWS * OPS_COLUMNS), c.weight = random_floats(OPS_COLUMNS),
    c.scale = random_floats(OPS_ROWS);
    c.cos = random_floats(OPS_ROWS * 64), c.sin = random_floats(OPS_ROWS * 64);
    for (int i = 0; i < OPS_ROWS * 64; i++)
        c.cos[i] = 0.6f, c.sin[i] = 0.8f;
    for (int i = 0; i < 16; i++)
        c.offsets[i] = i * 128;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        for (int many = 0; many < 2; many++) {
            char name[80];
            c.n_rows = many ? OPS_ROWS : 1;
            snprintf(name, sizeof name, "%s, %d x %d", calls[i].name, (int)c.n_rows, OPS_COLUMNS);
            if (skipped(b, name))
                continue;
            double seconds = median_seconds(b, calls[i].call, &c);
            print_rate(name, seconds, 0, 0, calls[i].bytes_per_row * (double)c.n_rows, b);
        }
    memory_free(c.x), memory_free(c.y), memory_free(c.out), memory_free(c.weight), memory_free(c.scale);
    memory_free(c.cos), memory_free(c.sin);
}

/* ---- Products with weights ------------------------------------------------------------------- */

enum { LINEAR_OUTPUTS = 8192, LINEAR_COLUMNS = 2048, LINEAR_ROWS = 512 };

typedef struct linear_case {
    const bench *bench;
    linear_arithmetic arithmetic;
    linear *linears; /* [n_linears]: few input rows go through all of them, so that weights come from memory, not from a
                        cache */
    int n_linears, next;
    const float *x;
    float *out;
    int64_t n_rows;
} linear_case;

static void call_linear(void *context) {
    linear_case *c = context;
    activations x = activations_of(c->x, c->n_rows, LINEAR_COLUMNS, LINEAR_COLUMNS);
    x.n_prompt_rows = c->n_rows == LINEAR_ROWS ? c->n_rows : 0;
    const product p = {
        .linear = &c->linears[c->next], .epilogue = EPILOGUE_STORE, .out = c->out, .out_stride = LINEAR_OUTPUTS};
    c->next = (c->next + 1) % c->n_linears;
    stop_on(linear_apply(&c->bench->run, c->arithmetic, &x, &p, 1));
}

/* Weights of a type: [outputs, columns], allocated; *bytes how much they take. */
static void *make_weights(const bench *b, element_type type, const float *values, int64_t outputs, int64_t columns,
                          size_t *bytes) {
    const size_t n = (size_t)(outputs * columns);
    if (element_is_packed(type)) {
        if (!quantized_bytes(type, outputs, columns, bytes))
            exit(1);
        void *packed = allocate(*bytes);
        stop_on(quantize_matrix(&b->run.kernels->quantized, b->run.threads, NULL, type, ELEMENT_F32, values, outputs,
                                columns, packed));
        return packed;
    }
    *bytes = n * element_bytes(type);
    void *weights = allocate(*bytes);
    for (size_t i = 0; i < n; i++)
        if (type == ELEMENT_F32)
            ((float *)weights)[i] = values[i];
        else
            ((uint16_t *)weights)[i] = type == ELEMENT_F16 ? f16_from_float(values[i]) : bf16_from_float(values[i]);
    return weights;
}

static void bench_linear_type(const bench *b, element_type type, const float *values, const float *x, float *out) {
    static const int64_t rows[] = {1, 2, 4, 8, 16, LINEAR_ROWS};
    const bool quantized = element_is_packed(type);
    size_t bytes;
    void *weights = make_weights(b, type, values, LINEAR_OUTPUTS, LINEAR_COLUMNS, &bytes);
    const int n_linears = 1 + (int)(((size_t)256 << 20) / bytes);
    linear_case c = {.bench = b, .x = x, .out = out, .n_linears = n_linears};
    unsigned char *copies = allocate((size_t)n_linears * bytes);
    c.linears = allocate((size_t)n_linears * sizeof *c.linears);
    for (int i = 0; i < n_linears; i++) {
        memcpy(copies + (size_t)i * bytes, weights, bytes);
        c.linears[i] = linear_of((matrix){type, LINEAR_OUTPUTS, LINEAR_COLUMNS, copies + (size_t)i * bytes}, NULL);
    }
    const bool has_bf16 = !quantized && b->run.kernels->linear.bf16[type].tile;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int bf16 = 0; bf16 <= (rows[i] == LINEAR_ROWS && has_bf16); bf16++) {
            char name[96];
            snprintf(name, sizeof name, "linear, %s%s: %d x %d x %d", element_name(type),
                     bf16 ? " in bf16 arithmetic" : "", (int)rows[i], LINEAR_COLUMNS, LINEAR_OUTPUTS);
            if (skipped(b, name))
                continue;
            c.n_rows = rows[i];
            c.arithmetic = bf16 ? LINEAR_BF16 : LINEAR_EXACT;
            const double seconds = median_seconds(b, call_linear, &c), n = (double)LINEAR_OUTPUTS * LINEAR_COLUMNS;
            const double peak = quantized ? b->peaks.int8_gops
                                : bf16    ? b->peaks.bfloat16_gflops
                                          : b->peaks.float32_gflops;
            print_rate(name, seconds, 2 * n * (double)rows[i], peak, rows[i] <= LINEAR_SMALL_BATCH ? (double)bytes : 0,
                       b);
        }
    memory_free(c.linears), memory_free(copies), memory_free(weights);
}

static void bench_linear(const bench *b) {
    static const element_type types[] = {ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16, ELEMENT_Q8, ELEMENT_Q4};
    float *values = random_floats((int64_t)LINEAR_OUTPUTS * LINEAR_COLUMNS),
          *x = random_floats(LINEAR_ROWS * LINEAR_COLUMNS);
    float *out = random_floats(LINEAR_ROWS * LINEAR_OUTPUTS);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        bench_linear_type(b, types[i], values, x, out);
    memory_free(values), memory_free(x), memory_free(out);
}

/* ---- Choices --------------------------------------------------------------------------------- */

enum { CHOICE_OUTPUTS = 2048, CHOICE_COLUMNS = 2048, CHOICE_KEYS = 1024, CHOICE_HEADS = 8, CHOICE_DIM = 128 };

/* A task that several kernel tables can do. */
typedef struct choice {
    const char *name;
    element_type type; /* of the weights, or of keys and values */
    int64_t n_rows;
    bool prompt, attention, bf16; /* bf16: allowed */
    const void *data;             /* weights; keys and values */
    const float *x;
    float *out;
} choice;

typedef struct choice_call {
    run run;
    const choice *choice;
} choice_call;

static void call_choice_attention(const choice_call *call) {
    const choice *c = call->choice;
    int32_t offsets[CHOICE_HEADS], positions[CHOICE_KEYS];
    const int64_t plane = (int64_t)CHOICE_KEYS * CHOICE_HEADS * CHOICE_DIM;
    const void *keys[] = {c->data}, *values[] = {(const uint16_t *)c->data + plane};
    for (int32_t i = 0; i < CHOICE_HEADS; i++)
        offsets[i] = i * CHOICE_DIM;
    for (int64_t i = 0; i < c->n_rows; i++)
        positions[i] = (int32_t)(CHOICE_KEYS - c->n_rows + i);
    const attention_shape shape = {.n_heads = CHOICE_HEADS,
                                   .n_kv_heads = CHOICE_HEADS,
                                   .head_dim = CHOICE_DIM,
                                   .q_offsets = offsets,
                                   .scale = 1 / sqrtf(CHOICE_DIM),
                                   .window = INT64_MAX,
                                   .bf16 = c->bf16};
    const attention_job job = {.q = c->x,
                               .q_stride = CHOICE_HEADS * CHOICE_DIM,
                               .out = c->out,
                               .out_stride = CHOICE_HEADS * CHOICE_DIM,
                               .n_rows = c->n_rows,
                               .answer = !c->prompt,
                               .source = {.type = KV_F16,
                                          .key_blocks = keys,
                                          .value_blocks = values,
                                          .block_tokens = CHOICE_KEYS,
                                          .token_stride = kv_bytes(KV_F16, CHOICE_DIM),
                                          .head_stride = CHOICE_KEYS * kv_bytes(KV_F16, CHOICE_DIM)},
                               .positions = positions};
    stop_on(attention_apply(&call->run, &shape, &job, 1));
}

static void call_choice(void *context) {
    const choice_call *call = context;
    const choice *c = call->choice;
    if (c->attention) {
        call_choice_attention(call);
        return;
    }
    const linear l = linear_of((matrix){c->type, CHOICE_OUTPUTS, CHOICE_COLUMNS, c->data}, NULL);
    const product p = {.linear = &l, .epilogue = EPILOGUE_STORE, .out = c->out, .out_stride = CHOICE_OUTPUTS};
    activations x = activations_of(c->x, c->n_rows, CHOICE_COLUMNS, CHOICE_COLUMNS);
    x.n_prompt_rows = c->prompt ? c->n_rows : 0;
    stop_on(linear_apply(&call->run, c->bf16 ? LINEAR_BF16 : LINEAR_EXACT, &x, &p, 1));
}

/* The tables that this CPU can run: each level's, the best one's with the other value of each trait, with OpenBLAS. */
typedef struct candidate {
    char name[48];
    kernels table;
} candidate;

static int find_candidates(candidate *list) {
    int n = 0;
    const cpu_level best = cpu_best_level();
    for (cpu_level level = best;; level--) {
        if (cpu_has_level(level)) {
            snprintf(list[n].name, sizeof list[n].name, "%s", cpu_level_name(level));
            kernels_fill(&list[n++].table, level, cpu_traits_at(level));
        }
        if (level == CPU_SCALAR)
            break;
    }
    static const struct {
        unsigned trait, needed;
        const char *name;
    } traits[] = {{CPU_PREFERS_L2_PREFETCH, CPU_HAS_AVX2, "prefetching into L2"},
                  {CPU_HAS_FAST_BF16, CPU_HAS_AVX512_BF16, "vdpbf16ps"}};
    for (size_t i = 0; i < sizeof traits / sizeof traits[0]; i++)
        if (cpu_traits_at(best) & traits[i].needed) {
            bool has = cpu_traits_at(best) & traits[i].trait;
            snprintf(list[n].name, sizeof list[n].name, "%s %s", has ? "without" : "with", traits[i].name);
            kernels_fill(&list[n++].table, best, cpu_traits_at(best) ^ traits[i].trait);
        }
    if (blas_open()) {
        snprintf(list[n].name, sizeof list[n].name, "with OpenBLAS");
        kernels_fill(&list[n].table, best, cpu_traits_at(best));
        list[n++].table.linear.blas = true;
    }
    return n;
}

enum { MAX_CANDIDATES = CPU_LEVELS + 3, CHOICE_ROUNDS = 5 };

/* Whether two tables do the work by the same functions. */
static bool same_way(const choice *c, const kernels *a, const kernels *b) {
    if (c->attention && c->prompt)
        return a->attention.tile == b->attention.tile && (!c->bf16 || a->attention.tile_bf16 == b->attention.tile_bf16);
    if (c->attention)
        return a->kv[KV_F16].dot == b->kv[KV_F16].dot && a->attention.prefetch_l2 == b->attention.prefetch_l2;
    if (element_is_packed(c->type))
        return a->quantized.multiply_q8 == b->quantized.multiply_q8 &&
               (!c->prompt || a->quantized.multiply_tiles == b->quantized.multiply_tiles);
    if (!c->prompt)
        return a->linear.dot[c->type] == b->linear.dot[c->type];
    return a->linear.blas == b->linear.blas && a->linear.exact[c->type].tile == b->linear.exact[c->type].tile &&
           (!c->bf16 || a->linear.bf16[c->type].tile == b->linear.bf16[c->type].tile);
}

static bool is_repetition(const choice *c, const candidate *candidates, int i) {
    for (int k = 0; k < i; k++)
        if (same_way(c, &candidates[k].table, &candidates[i].table))
            return true;
    return false;
}

/* Rounds of all candidates in turn, so that other load on the machine affects all of them. */
static void bench_choice(const bench *b, const choice *c, candidate *candidates, int n) {
    double best[MAX_CANDIDATES] = {0};
    if (skipped(b, c->name))
        return;
    bench part = *b;
    part.seconds = b->seconds / CHOICE_ROUNDS;
    for (int round = 0; round < CHOICE_ROUNDS; round++)
        for (int i = 0; i < n; i++) {
            if (is_repetition(c, candidates, i))
                continue;
            choice_call call = {.run = b->run, .choice = c};
            call.run.kernels = &candidates[i].table;
            double seconds = median_seconds(&part, call_choice, &call);
            best[i] = round == 0 || seconds < best[i] ? seconds : best[i];
        }
    int fastest = 0;
    for (int i = 1; i < n; i++)
        fastest = best[i] > 0 && best[i] < best[fastest] ? i : fastest;
    printf("%s\n", c->name);
    for (int i = 0; i < n; i++)
        if (best[i] > 0)
            printf("    %-40s %9.3f ms  %5.2f%s\n", candidates[i].name, best[i] * 1e3, best[i] / best[0],
                   i == 0 ? "  in use" : "");
    if (best[fastest] < 0.9 * best[0])
        printf("    WARNING: %s is %.2f times as fast as what is in use\n", candidates[fastest].name,
               best[0] / best[fastest]);
    fflush(stdout);
}

static void bench_choices(const bench *b) {
    static candidate candidates[MAX_CANDIDATES];
    static const struct {
        const char *name;
        element_type type;
        int64_t n_rows;
        bool prompt, attention, bf16, subnormal;
    } works[] = {{"f16 weights, 256 prompt rows, exact", ELEMENT_F16, 256, true, false, false, false},
                 {"f16 weights, 256 prompt rows, bf16 allowed", ELEMENT_F16, 256, true, false, true, false},
                 {"f32 weights, 256 prompt rows, exact", ELEMENT_F32, 256, true, false, false, false},
                 {"f32 weights of 1e-39, 256 prompt rows, exact", ELEMENT_F32, 256, true, false, false, true},
                 {"q8 weights, 256 prompt rows", ELEMENT_Q8, 256, true, false, false, false},
                 {"q4 weights, 256 prompt rows", ELEMENT_Q4, 256, true, false, false, false},
                 {"f16 weights, 1 answer row", ELEMENT_F16, 1, false, false, false, false},
                 {"q8 weights, 1 answer row", ELEMENT_Q8, 1, false, false, false, false},
                 {"q8 weights, 8 answer rows", ELEMENT_Q8, 8, false, false, false, false},
                 {"attention, 256 prompt rows, exact", ELEMENT_F16, 256, true, true, false, false},
                 {"attention, 256 prompt rows, peaked", ELEMENT_F16, 256, true, true, false, true},
                 {"attention, 256 prompt rows, bf16 allowed", ELEMENT_F16, 256, true, true, true, false},
                 {"attention, 1 answer row", ELEMENT_F16, 1, false, true, false, false}};
    const int n = find_candidates(candidates);
    const int64_t n_weights = (int64_t)CHOICE_OUTPUTS * CHOICE_COLUMNS;
    float *values = random_floats(n_weights), *x = random_floats(256 * CHOICE_COLUMNS);
    float *out = random_floats(256 * CHOICE_OUTPUTS);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        const float size = works[i].subnormal ? works[i].attention ? 40.0f : 1e-39f : 1.0f;
        for (int64_t k = 0; k < n_weights; k++)
            values[k] *= size;
        choice c = {.name = works[i].name,
                    .type = works[i].type,
                    .n_rows = works[i].n_rows,
                    .prompt = works[i].prompt,
                    .attention = works[i].attention,
                    .bf16 = works[i].bf16,
                    .x = x,
                    .out = out};
        size_t bytes;
        void *data = make_weights(b, works[i].type, values, CHOICE_OUTPUTS, CHOICE_COLUMNS, &bytes);
        c.data = data;
        bench_choice(b, &c, candidates, n);
        memory_free(data);
        memory_free(values);
        values = random_floats(n_weights);
    }
    memory_free(values), memory_free(x), memory_free(out);
}

static const struct {
    const char *name;
    void (*bench)(const bench *b);
} areas[] = {{"linear", bench_linear}, {"attention", bench_attention}, {"ops", bench_ops}, {"choices", bench_choices}};

enum { N_AREAS = sizeof areas / sizeof areas[0] };

int main(int argc, char **argv) {
    bench b = {.seconds = 0.5};
    bool wanted[N_AREAS] = {false}, any = false;
    int n_threads = 0;
    stop_on(kernels_get(&b.run.kernels, &error)); /* TROL_CPU and TROL_BLAS apply */
    for (int i = 1; i < argc; i++) {
        bool known = false;
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            n_threads = atoi(argv[++i]), known = true;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            b.only = argv[++i], known = true;
        else if (strcmp(argv[i], "--processor-time") == 0)
            b.processor_time = known = true;
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            b.seconds = atof(argv[++i]), known = true;
        else if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) {
            i++;
            for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++)
                if (strcmp(argv[i], cpu_level_name(level)) == 0 && cpu_has_level(level))
                    b.run.kernels = kernels_at(level), known = true;
        }
        for (int area = 0; area < N_AREAS; area++)
            if (strcmp(argv[i], areas[area].name) == 0)
                wanted[area] = any = known = true;
        if (!known) {
            fprintf(stderr, "bench-kernels: %s is not an area, option or level of this CPU\n", argv[i]);
            return 2;
        }
    }
    b.run.error = &error;
    stop_on(workspace_new(&b.run.space, &error));
    stop_on(trol_threads_new(n_threads, &b.run.threads, &error));
    stop_on(peaks_measure(b.run.threads, &b.peaks, &error));
    printf("%s, %d threads; the machine: float32 %.1f GFLOP/s, int8 %.1f GOP/s, bf16 %.1f GFLOP/s, reading %.1f GB/s\n",
           cpu_level_name(b.run.kernels->level), threads_count(b.run.threads), b.peaks.float32_gflops,
           b.peaks.int8_gops, b.peaks.bfloat16_gflops, b.peaks.read_gbytes);
    for (int area = 0; area < N_AREAS; area++)
        if (!any || wanted[area])
            areas[area].bench(&b);
    trol_threads_free(b.run.threads);
    workspace_free(b.run.space);
    return 0;
}
