/* test-kv-codec.c - how keys and values are stored: every instruction-set level against plain C, and that against the
 * definition in double precision. */
#include "kernels/kv_codec.h"

#include <stdbool.h>

#include "base/float16.h"
#include "base/float_mode.h"
#include "filter.h"
#include "kernels/kernels.h"
#include "test.h"

enum { MAX_DIM = 256, GUARD = 32 };

static uint64_t seed = 4711;

static int64_t random_below(int64_t n) { return (int64_t)(test_random(&seed) % (uint64_t)n); }

/* ---- rows ------------------------------------------------------------------------------------ */

static const char *const kinds[] = {"ordinary",
                                    "one outlier of 1e6",
                                    "magnitudes of all sizes",
                                    "up to 3e38",
                                    "zeros",
                                    "about 2^-118 and less",
                                    "subnormal",
                                    "ties",
                                    "equal",
                                    "one infinity",
                                    "one NaN"};
enum { N_KINDS = sizeof kinds / sizeof kinds[0], INFINITE = N_KINDS - 2, NOT_A_NUMBER };

static void make_row(int kind, float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float u = test_uniform(&seed);
        x[i] = kind == 2   ? ldexpf(u, (int)random_below(40) - 20)
               : kind == 3 ? 3e38f * u
               : kind == 4 ? (i % 2 ? 0.0f : -0.0f)
               : kind == 5 ? (i % 3 ? 0x1p-117f * u : 0x1.dp-127f)
               : kind == 6 ? 1e-38f * u
               : kind == 7 ? (float)(random_below(255) - 127) + 0.5f * (float)random_below(2)
               : kind == 8 ? -3.7f
                           : 4 * u;
    }
    const int64_t at = random_below(n);
    if (kind == 1)
        x[at] = -1e6f;
    if (kind == 7)
        x[at] = 127; /* then the scale is 1 */
    if (kind == INFINITE)
        x[at] = -INFINITY;
    if (kind == NOT_A_NUMBER)
        x[at] = NAN;
}

/* What f16 cannot hold although it is finite. */
static bool fits(kv_type type, const float *x, int64_t n) {
    bool result = true;
    for (int64_t i = 0; i < n; i++)
        result = result && !(type == KV_F16 && isfinite(x[i]) && fabsf(x[i]) >= 65520);
    return result;
}

/* What plain C stores and loads again, against the definition of each type. */
static void check_meaning(kv_type type, int kind, const float *x, int64_t n, const unsigned char *row) {
    float back[MAX_DIM];
    double largest = 0, worst = 0;
    int64_t n_wrong = 0;
    kernels_at(CPU_SCALAR)->kv[type].load(row, back, n);
    for (int64_t i = 0; i < n; i++) {
        const float expected = type == KV_F16 ? f16_to_float(f16_from_float(x[i])) : x[i];
        largest = fmax(largest, fabs((double)x[i]));
        worst = fmax(worst, fabs((double)back[i] - (double)x[i]));
        n_wrong += isnan(expected) ? !isnan(back[i]) : memcmp(&back[i], &expected, sizeof expected) != 0;
    }
    if (type != KV_Q8) {
        CHECK(n_wrong == 0, "%s, %s: %lld of %lld values differ", kv_name(type), kinds[kind], (long long)n_wrong,
              (long long)n);
        return;
    }
    /* Half a step of 1/127, and the scale's rounding up by at most 1/128. */
    const double bound = largest < 0x1p-118 ? largest : largest / 127 * (1 + 1.0 / 128) * 0.5 * (1 + 1e-5);
    for (int64_t i = 0; kind >= INFINITE && i < n; i++)
        CHECK(isnan(back[i]), "q8, %s: value %lld is %g", kinds[kind], (long long)i, (double)back[i]);
    CHECK(kind >= INFINITE || worst <= bound, "q8, %s, %lld values: off by %g, expected at most %g", kinds[kind],
          (long long)n, worst, bound);
    CHECK(kind != 7 || worst <= 0.5, "q8 ties: off by %g", worst);
}

/* A row stored and loaded by a level, at an odd address between guards: plain C's bytes and floats. */
static void check_row(cpu_level level, kv_type type, int kind, int64_t n) {
    unsigned char expected[4 * MAX_DIM + 2], memory[4 * MAX_DIM + 2 + 2 * GUARD], flushed[4 * MAX_DIM + 2];
    float x[MAX_DIM], loaded[MAX_DIM + GUARD], as_expected[MAX_DIM];
    const kv_codec *codec = &kernels_at(level)->kv[type], *plain = &kernels_at(CPU_SCALAR)->kv[type];
    const int64_t bytes = kv_bytes(type, n);
    unsigned char *row = memory + GUARD + (type == KV_F32 ? 0 : 1);
    bool guarded = true;
    make_row(kind, x, n);
    memset(memory, 0xa5, sizeof memory);
    CHECK(plain->store(x, expected, n) == fits(type, x, n), "%s, %s: fits", kv_name(type), kinds[kind]);
    CHECK(codec->store(x, row, n) == fits(type, x, n), "%s, %s, %s: fits", cpu_level_name(level), kv_name(type),
          kinds[kind]);
    check_meaning(type, kind, x, n, expected);
    const float_mode before = float_mode_enter();
    (void)codec->store(x, flushed, n);
    float_mode_restore(before);
    for (const unsigned char *p = memory; p < memory + sizeof memory; p++)
        guarded = guarded && (*p == 0xa5 || (p >= row && p < row + bytes));
    CHECK(guarded, "%s, %s: storing %lld values writes beside them", cpu_level_name(level), kv_name(type),
          (long long)n);
    /* F16's and F32's NaNs may differ in their payload. */
    const bool any = kind == NOT_A_NUMBER && type != KV_Q8;
    CHECK(any || memcmp(row, expected, (size_t)bytes) == 0, "%s, %s: %lld values, %s, are stored differently",
          cpu_level_name(level), kv_name(type), (long long)n, kinds[kind]);
    CHECK(any || type != KV_Q8 || memcmp(flushed, expected, (size_t)bytes) == 0,
          "%s, %s: %lld values, %s: the float mode counts", cpu_level_name(level), kv_name(type), (long long)n,
          kinds[kind]);
    for (int64_t i = 0; i < MAX_DIM + GUARD; i++)
        loaded[i] = 12345;
    codec->load(row, loaded, n);
    plain->load(row, as_expected, n);
    int64_t n_wrong = 0;
    for (int64_t i = 0; i < n; i++)
        n_wrong += isnan(as_expected[i]) ? !isnan(loaded[i]) : memcmp(&loaded[i], &as_expected[i], sizeof(float)) != 0;
    for (int64_t i = n; i < n + GUARD; i++)
        n_wrong += loaded[i] != 12345;
    CHECK(n_wrong == 0, "%s, %s: %lld values, %s, are loaded differently", cpu_level_name(level), kv_name(type),
          (long long)n, kinds[kind]);
}

static void check_rows(cpu_level level) {
    for (kv_type type = KV_F16; type < KV_TYPES; type++)
        for (int kind = 0; kind < N_KINDS; kind++)
            for (int64_t n = 1; n <= MAX_DIM; n += n < 70 ? 1 : 1 + random_below(9))
                check_row(level, type, kind, n);
}

/* What a row takes: at most 0.54 of f16 from 32 values on. */
static void check_sizes(void) {
    for (int64_t n = 1; n <= MAX_DIM; n++) {
        CHECK(kv_bytes(KV_F32, n) == 4 * n && kv_bytes(KV_F16, n) == 2 * n, "%lld values", (long long)n);
        CHECK(n < 32 || (double)kv_bytes(KV_Q8, n) <= 0.54 * (double)kv_bytes(KV_F16, n), "%lld values: %lld bytes",
              (long long)n, (long long)kv_bytes(KV_Q8, n));
    }
}

/* ---- many rows ------------------------------------------------------------------------------- */

enum { MAX_KEYS = 600, MAX_QUERIES = 21 };

/* Rows at random places of a piece of memory that ends with the last one. */
typedef struct rows {
    int64_t n, dims;
    unsigned char *memory;
    const void *places[MAX_KEYS];
    float *values; /* [n, dims]: what is stored, to float */
} rows;

static rows *make_rows(kv_type type, int64_t n, int64_t dims, float size) {
    rows *r = malloc(sizeof *r);
    const int64_t bytes = kv_bytes(type, dims);
    const kv_codec *plain = &kernels_at(CPU_SCALAR)->kv[type];
    r->n = n;
    r->dims = dims;
    r->memory = malloc((size_t)(n * bytes));
    r->values = malloc((size_t)(n * dims) * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        r->places[i] = r->memory + i * bytes;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t other = random_below(i + 1);
        const void *place = r->places[i];
        r->places[i] = r->places[other];
        r->places[other] = place;
    }
    for (int64_t i = 0; i < n; i++) {
        float x[MAX_DIM];
        for (int64_t d = 0; d < dims; d++)
            x[d] = size * test_uniform(&seed);
        (void)plain->store(x, (unsigned char *)(uintptr_t)r->places[i], dims);
        plain->load(r->places[i], r->values + i * dims, dims);
    }
    return r;
}

static void free_rows(rows *r) {
    free(r->memory);
    free(r->values);
    free(r);
}

/* Numbers for the queries or weights, [MAX_QUERIES * stride]. */
static float *make_floats(int64_t n, float least, float most) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = least + (most - least) * (0.5f + 0.5f * test_uniform(&seed));
    return x;
}

static void check_dot(cpu_level level, kv_type type, int64_t n_keys, int64_t n_queries, int64_t dims, float size) {
    rows *keys = make_rows(type, n_keys, dims, size);
    const int64_t stride = n_keys + 3;
    float *q = make_floats(n_queries * dims, -2, 2), *scores = make_floats(n_queries * stride, 7, 7), alone[MAX_KEYS];
    double worst = 0;
    int64_t n_wrong = 0;
    kernels_at(level)->kv[type].dot(keys->places, n_keys, q, n_queries, dims, scores, stride, n_keys % 2);
    for (int64_t i = 0; i < n_queries; i++) {
        for (int64_t k = 0; k < n_keys; k++) {
            double expected = 0, magnitude = 1e-30;
            for (int64_t d = 0; d < dims; d++) {
                const double product = (double)q[i * dims + d] * (double)keys->values[k * dims + d];
                expected += product;
                magnitude += fabs(product);
            }
            const double difference = fabs((double)scores[i * stride + k] - expected) / magnitude;
            worst = difference <= worst ? worst : difference;
        }
        for (int64_t k = n_keys; k < stride; k++)
            n_wrong += scores[i * stride + k] != 7;
        kernels_at(level)->kv[type].dot(keys->places, n_keys, q + i * dims, 1, dims, alone, MAX_KEYS, true);
        n_wrong += memcmp(alone, scores + i * stride, (size_t)n_keys * sizeof(float)) != 0;
    }
    CHECK(worst < 1e-6, "%s, %s: %lld keys by %lld queries of %lld: off by %g", cpu_level_name(level), kv_name(type),
          (long long)n_keys, (long long)n_queries, (long long)dims, worst);
    CHECK(n_wrong == 0, "%s, %s: %lld keys by %lld queries of %lld: other bits beside others, or writes beside them",
          cpu_level_name(level), kv_name(type), (long long)n_keys, (long long)n_queries, (long long)dims);
    free(q), free(scores);
    free_rows(keys);
}

static void check_axpy(cpu_level level, kv_type type, int64_t n_keys, int64_t n_queries, int64_t dims, float size) {
    rows *values = make_rows(type, n_keys, dims, size);
    const int64_t stride = n_keys + 5, out_stride = dims + 2;
    float *weights = make_floats(n_queries * stride, 0, 1), *out = make_floats(n_queries * out_stride, 7, 7);
    float alone[MAX_DIM];
    double worst = 0;
    int64_t n_wrong = 0;
    kernels_at(level)->kv[type].axpy(values->places, n_keys, weights, stride, n_queries, dims, out, out_stride,
                                     n_keys % 2);
    for (int64_t i = 0; i < n_queries; i++) {
        for (int64_t d = 0; d < dims; d++) {
            double expected = 0, magnitude = 1e-30;
            for (int64_t k = 0; k < n_keys; k++) {
                const double product = (double)weights[i * stride + k] * (double)values->values[k * dims + d];
                expected += product;
                magnitude += fabs(product);
            }
            const double difference = fabs((double)out[i * out_stride + d] - expected) / magnitude;
            worst = difference <= worst ? worst : difference;
        }
        for (int64_t d = dims; d < out_stride; d++)
            n_wrong += out[i * out_stride + d] != 7;
        kernels_at(level)->kv[type].axpy(values->places, n_keys, weights + i * stride, stride, 1, dims, alone, MAX_DIM,
                                         true);
        n_wrong += memcmp(alone, out + i * out_stride, (size_t)dims * sizeof(float)) != 0;
    }
    CHECK(worst < 3e-6, "%s, %s: %lld values by %lld weights of %lld: off by %g", cpu_level_name(level), kv_name(type),
          (long long)n_keys, (long long)n_queries, (long long)dims, worst);
    CHECK(n_wrong == 0, "%s, %s: %lld values by %lld weights of %lld: other bits beside others, or writes beside them",
          cpu_level_name(level), kv_name(type), (long long)n_keys, (long long)n_queries, (long long)dims);
    free(weights), free(out);
    free_rows(values);
}

static void check_many(cpu_level level) {
    static const int64_t dims[] = {1, 7, 16, 32, 40, 64, 80, 96, 100, 128, 200, 256};
    static const float sizes[] = {1, 1e6f, 1e30f, 1e-30f};
    for (kv_type type = KV_F16; type < KV_TYPES; type++)
        for (int i = 0; i < 120; i++) {
            const int64_t n_keys = 1 + random_below(i % 10 ? 90 : MAX_KEYS), n_queries = 1 + random_below(MAX_QUERIES);
            const int64_t dim = dims[i % 12];
            const float size = type == KV_F16 ? 1.0f : sizes[random_below(4)];
            check_dot(level, type, n_keys, n_queries, dim, size);
            check_axpy(level, type, n_keys, n_queries, dim, size);
        }
}

/* A key or value that is not a number spoils its own score, and the sum that it is part of, and no other. */
static void check_not_a_number(cpu_level level, kv_type type) {
    enum { N = 21, DIM = 40, BAD = 9 };
    rows *r = make_rows(type, N, DIM, 1);
    float x[DIM], scores[N], out[DIM], weights[N], *q = make_floats(DIM, 1, 2);
    const kv_codec *codec = &kernels_at(level)->kv[type];
    make_row(NOT_A_NUMBER, x, DIM);
    (void)codec->store(x, (unsigned char *)(uintptr_t)r->places[BAD], DIM);
    codec->dot(r->places, N, q, 1, DIM, scores, N, false);
    int64_t n_numbers = 0;
    for (int i = 0; i < N; i++)
        n_numbers += !isnan(scores[i]);
    CHECK(isnan(scores[BAD]) && n_numbers == N - 1, "%s, %s: %lld scores of %d are numbers", cpu_level_name(level),
          kv_name(type), (long long)n_numbers, N);
    for (int i = 0; i < N; i++)
        weights[i] = 1;
    codec->axpy(r->places, N, weights, N, 1, DIM, out, DIM, false);
    n_numbers = 0;
    for (int d = 0; d < DIM; d++)
        n_numbers += !isnan(out[d]);
    CHECK(n_numbers == (type == KV_Q8 ? 0 : DIM - 1), "%s, %s: %lld sums are numbers", cpu_level_name(level),
          kv_name(type), (long long)n_numbers);
    free(q);
    free_rows(r);
}

int main(int argc, char **argv) {
    test_arguments(argc, argv);
    check_sizes();
    for (cpu_level level = CPU_SCALAR; level <= CPU_AVX512; level++) {
        if (!cpu_has_level(level) || level == CPU_AVXVNNI) /* nothing of its own there */
            continue;
        const char *name = cpu_level_name(level);
        if (test_wanted(name, "rows"))
            check_rows(level);
        if (test_wanted(name, "many"))
            check_many(level);
        for (kv_type type = KV_F16; type < KV_TYPES && test_wanted(name, "not a number"); type++)
            check_not_a_number(level, type);
    }
    return test_summary("test-kv-codec");
}
