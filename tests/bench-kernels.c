/* bench-kernels [AREA ...]: how fast the inner loops run, beside what this machine can do, both measured in this
 * process.
 *
 * Options: --threads N (default: one for each CPU), --level NAME (default: the best), --seconds S (for each
 * measurement),
 * --only TEXT (measurements with it in their name), --processor-time (for --threads 1 where other programs run too).
 * Each area (attention, ops, ...) is a function in the table at the end. Figures are medians of several rounds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/float16.h"
#include "kernels/attention.h"
#include "kernels/ops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef struct bench {
    run run;
    bool processor_time; /* instead of the clock on the wall: for one thread on a machine that others use as well */
    const char *only;    /* in the names of what is measured; NULL: everything */
    double seconds;      /* of each measurement */
    double gflops, gbs;  /* this machine's: multiply-add in registers, reading memory */
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

static bool skipped(const bench *b, const char *name) {
    return b->only && !strstr(name, b->only);
}

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

static void print_rate(const char *what, double seconds, double flops, double bytes, const bench *b) {
    printf("%-58s %9.3f ms", what, seconds * 1e3);
    if (flops > 0)
        printf("  %7.1f GFLOP/s (%2.0f%%)", flops / seconds * 1e-9, 100 * flops / seconds * 1e-9 / b->gflops);
    if (bytes > 0)
        printf("  %6.1f GB/s (%2.0f%%)", bytes / seconds * 1e-9, 100 * bytes / seconds * 1e-9 / b->gbs);
    printf("\n");
    fflush(stdout);
}

/* ---- The machine's limits ---- */

enum { PEAK_CHUNKS = 64, PEAK_ROUNDS = 100000 };

typedef struct peak_work {
    const bench *bench;
    const unsigned char *memory;
    int64_t bytes;
    float result[PEAK_CHUNKS];
} peak_work;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float multiply_add_512(int64_t rounds) {
    __m512 sums[12], factor = _mm512_set1_ps(0.999f);
    for (int i = 0; i < 12; i++)
        sums[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < 12; i++)
            sums[i] = _mm512_fmadd_ps(sums[i], factor, factor);
    for (int i = 1; i < 12; i++)
        sums[0] = _mm512_add_ps(sums[0], sums[i]);
    return _mm512_reduce_add_ps(sums[0]);
}

__attribute__((target("avx2,fma"))) static float multiply_add_256(int64_t rounds) {
    __m256 sums[12], factor = _mm256_set1_ps(0.999f);
    for (int i = 0; i < 12; i++)
        sums[i] = _mm256_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < 12; i++)
            sums[i] = _mm256_fmadd_ps(sums[i], factor, factor);
    for (int i = 1; i < 12; i++)
        sums[0] = _mm256_add_ps(sums[0], sums[i]);
    return _mm256_cvtss_f32(sums[0]);
}
#endif

static int64_t peak_lanes(cpu_level level) {
    return level >= CPU_AVX512 ? 16 : level >= CPU_AVX2 ? 8 : 1;
}

static void multiply_add_task(void *context, int64_t chunk, int thread) {
    peak_work *work = context;
    (void)thread;
#if defined(__x86_64__)
    if (peak_lanes(work->bench->run.kernels->level) == 16)
        work->result[chunk] = multiply_add_512(PEAK_ROUNDS);
    else if (peak_lanes(work->bench->run.kernels->level) == 8)
        work->result[chunk] = multiply_add_256(PEAK_ROUNDS);
    else
#endif
    {
        volatile float factor = 0.999f;
        float sums[12] = {0}, by = factor;
        for (int round = 0; round < PEAK_ROUNDS; round++)
            for (int i = 0; i < 12; i++)
                sums[i] = sums[i] * by + by;
        for (int i = 0; i < 12; i++)
            work->result[chunk] += sums[i];
    }
}

static void multiply_add_all(void *context) {
    peak_work *work = context;
    stop_on(run_chunks(&work->bench->run, PEAK_CHUNKS, multiply_add_task, work));
}

/* Reads with 8 streams, whose sum is kept so that nothing is skipped. */
static void read_task(void *context, int64_t chunk, int thread) {
    peak_work *work = context;
    int64_t n = work->bytes / PEAK_CHUNKS / 8 / (int64_t)sizeof(uint64_t);
    const uint64_t *words = (const uint64_t *)(const void *)(work->memory + chunk * (work->bytes / PEAK_CHUNKS));
    uint64_t sums[8] = {0};
    (void)thread;
    for (int64_t i = 0; i + 8 <= n; i += 8)
        for (int stream = 0; stream < 8; stream++)
            for (int64_t k = 0; k < 8; k++)
                sums[stream] += words[stream * n + i + k];
    for (int stream = 1; stream < 8; stream++)
        sums[0] += sums[stream];
    work->result[chunk] = (float)sums[0];
}

static void read_all(void *context) {
    peak_work *work = context;
    stop_on(run_chunks(&work->bench->run, PEAK_CHUNKS, read_task, work));
}

static void measure_peaks(bench *b) {
    peak_work *work = allocate(sizeof *work);
    *work = (peak_work){.bench = b, .bytes = (int64_t)1 << 29};
    double seconds = median_seconds(b, multiply_add_all, work);
    b->gflops = 2.0 * 12 * (double)peak_lanes(b->run.kernels->level) * PEAK_ROUNDS * PEAK_CHUNKS / seconds * 1e-9;
    void *memory = allocate((size_t)work->bytes);
    memset(memory, 1, (size_t)work->bytes);
    work->memory = memory;
    b->gbs = (double)work->bytes / median_seconds(b, read_all, work) * 1e-9;
    printf("%s, %d threads: float32 multiply-add %.1f GFLOP/s, reading memory %.1f GB/s\n",
           cpu_level_name(b->run.kernels->level), threads_count(b->run.threads), b->gflops, b->gbs);
    memory_free(memory);
    memory_free(work);
}

/* ---- Attention ---- */

typedef struct attention_case {
    const bench *bench;
    attention_shape shape;
    attention_job job;
    int64_t n_layers, layer; /* decoding goes through layers, so that keys and values come from memory */
    const void **blocks;     /* [n_layers][keys' blocks, values' blocks] */
    int64_t blocks_per_layer;
} attention_case;

static void call_attention(void *context) {
    attention_case *c = context;
    c->job.source.key_blocks = c->blocks + c->layer * 2 * c->blocks_per_layer;
    c->job.source.value_blocks = c->job.source.key_blocks + c->blocks_per_layer;
    c->layer = (c->layer + 1) % c->n_layers;
    stop_on(attention_apply(&c->bench->run, &c->shape, &c->job, 1));
}

/* F16 numbers of all kinds from -2 to 2. */
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
                                 int32_t head_dim, int64_t rows, int64_t n_keys) {
    bool picture = rows == 0;
    if (skipped(b, name))
        return;
    attention_case c = {.bench = b};
    int32_t *offsets = allocate((size_t)n_heads * sizeof *offsets);
    for (int32_t i = 0; i < n_heads; i++)
        offsets[i] = i * head_dim;
    c.shape = (attention_shape){n_heads, n_kv_heads, head_dim, offsets, 1 / sqrtf((float)head_dim), INT64_MAX};
    rows = picture ? n_keys : rows;
    int64_t block_tokens = picture ? n_keys : 64, plane = block_tokens * n_kv_heads * head_dim;
    c.blocks_per_layer = (n_keys + block_tokens - 1) / block_tokens;
    int64_t layer_bytes = 2 * c.blocks_per_layer * plane * (picture ? 4 : 2);
    c.n_layers = rows <= 16 ? 1 + ((int64_t)256 << 20) / layer_bytes : 1;
    unsigned char *memory = allocate((size_t)(c.n_layers * layer_bytes));
    if (picture)
        memset(memory, 0, (size_t)layer_bytes);
    else
        fill_f16(memory, c.n_layers * layer_bytes);
    c.blocks = allocate((size_t)(c.n_layers * 2 * c.blocks_per_layer) * sizeof(void *));
    for (int64_t i = 0; i < c.n_layers * 2 * c.blocks_per_layer; i++)
        c.blocks[i] = memory + i * plane * (picture ? 4 : 2);
    float *q = random_floats(rows * n_heads * head_dim), *out = random_floats(rows * n_heads * head_dim);
    int32_t *positions = allocate((size_t)rows * sizeof *positions);
    double pairs = 0;
    for (int64_t i = 0; i < rows; i++) {
        positions[i] = (int32_t)(n_keys - rows + i);
        pairs += picture ? (double)n_keys : (double)positions[i] + 1;
    }
    c.job = (attention_job){.q = q,
                            .q_stride = n_heads * head_dim,
                            .out = out,
                            .out_stride = n_heads * head_dim,
                            .n_rows = rows,
                            .positions = picture ? NULL : positions,
                            .n_keys = n_keys};
    c.job.source = (attention_source){.type = picture ? ELEMENT_F32 : ELEMENT_F16, .block_tokens = block_tokens};
    c.job.source.token_stride = picture ? n_kv_heads * head_dim : head_dim;
    c.job.source.head_stride = picture ? head_dim : block_tokens * head_dim;
    double seconds = median_seconds(b, call_attention, &c);
    double bytes = rows <= 16 ? 4.0 * (double)n_keys * n_kv_heads * head_dim : 0;
    print_rate(name, seconds, 4.0 * pairs * n_heads * head_dim, bytes, b);
    memory_free(positions), memory_free(q), memory_free(out), memory_free(c.blocks);
    memory_free(memory), memory_free(offsets);
}

static void bench_attention(const bench *b) {
    bench_attention_case(b, "attention, picture: 1226 x 1226, 16 heads of 64", 16, 16, 64, 0, 1226);
    bench_attention_case(b, "attention, prompt: 1300, 16 heads of 128, 8 key heads", 16, 8, 128, 1300, 1300);
    bench_attention_case(b, "attention, prompt: 1300, 32 heads of 96, 32 key heads", 32, 32, 96, 1300, 1300);
    bench_attention_case(b, "attention, decode: 64 keys, 16 / 8 heads of 128", 16, 8, 128, 1, 64);
    bench_attention_case(b, "attention, decode: 1300 keys, 16 / 8 heads of 128", 16, 8, 128, 1, 1300);
    bench_attention_case(b, "attention, decode: 8000 keys, 16 / 8 heads of 128", 16, 8, 128, 1, 8000);
    bench_attention_case(b, "attention, decode: 1300 keys, 32 / 8 heads of 128", 32, 8, 128, 1, 1300);
    bench_attention_case(b, "attention, decode: 1300 keys, 32 / 32 heads of 96", 32, 32, 96, 1, 1300);
    bench_attention_case(b, "attention, 5 rows: 1300 keys, 16 / 8 heads of 128", 16, 8, 128, 5, 1300);
}

/* ---- Operations between products ---- */

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
            print_rate(name, seconds, 0, calls[i].bytes_per_row * (double)c.n_rows, b);
        }
    memory_free(c.x), memory_free(c.y), memory_free(c.out), memory_free(c.weight), memory_free(c.scale);
    memory_free(c.cos), memory_free(c.sin);
}

static const struct {
    const char *name;
    void (*bench)(const bench *b);
} areas[] = {{"attention", bench_attention}, {"ops", bench_ops}};

enum { N_AREAS = sizeof areas / sizeof areas[0] };

int main(int argc, char **argv) {
    bench b = {.seconds = 0.5};
    bool wanted[N_AREAS] = {false}, any = false;
    int n_threads = 0;
    stop_on(kernels_get(&b.run.kernels, &error));
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
            fprintf(stderr, "bench-kernels: %s is no area, option or level of this CPU\n", argv[i]);
            return 2;
        }
    }
    b.run.error = &error;
    stop_on(workspace_new(&b.run.space, &error));
    stop_on(trol_threads_new(n_threads, &b.run.threads, &error));
    measure_peaks(&b);
    for (int area = 0; area < N_AREAS; area++)
        if (!any || wanted[area])
            areas[area].bench(&b);
    trol_threads_free(b.run.threads);
    workspace_free(b.run.space);
    return 0;
}
