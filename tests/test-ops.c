/* The operations between products: every instruction-set level of this machine against double precision. */
#include <math.h>

#include "base/float16.h"
#include "kernels/ops.h"
#include "filter.h"
#include "test.h"

static trol_error error;
static uint64_t seed = 99;

static const int64_t lengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 257, 2048, 4099};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0], LONGEST = 4099, GUARD = 16 };

/* Rows of numbers with a guard after them that nothing may write to. */
static float a[LONGEST + GUARD], b[LONGEST + GUARD], c[LONGEST + GUARD], out[LONGEST + GUARD];

static void fill(float *x, int64_t n, float size) {
    for (int64_t i = 0; i < LONGEST + GUARD; i++)
        x[i] = i < n ? size * test_uniform(&seed) : 12345.0f;
}

static bool guarded(const float *x, int64_t n) {
    for (int64_t i = n; i < n + GUARD && i < LONGEST + GUARD; i++)
        if (x[i] != 12345.0f)
            return false;
    return true;
}

/* Largest |x - expected| / scale. NaN counts as infinite. */
static double worst_of(double worst, double x, double expected, double scale) {
    double difference = fabs(x - expected) / scale;
    return difference <= worst ? worst : isnan(difference) ? INFINITY : difference;
}

static void check_norms(const ops_kernels *table, const char *name, int64_t n) {
    double squares = 0, mean = 0, variance = 0, worst = 0, worst_layer = 0;
    fill(a, n, 3), fill(b, n, 1), fill(c, n, 1), fill(out, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        a[i] += 2;
        squares += (double)a[i] * a[i] / (double)n;
        mean += (double)a[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++)
        variance += (a[i] - mean) * (a[i] - mean) / (double)n;
    table->rms_norm(a, out, n, b, 1e-5f);
    for (int64_t i = 0; i < n; i++)
        worst = worst_of(worst, out[i], a[i] / sqrt(squares + 1e-5) * b[i], 1);
    CHECK(worst < 1e-6 && guarded(out, n), "%s: rms_norm of %lld is off by %g", name, (long long)n, worst);
    table->layer_norm(a, out, n, b, c, 1e-5f);
    for (int64_t i = 0; i < n; i++)
        worst_layer = worst_of(worst_layer, out[i], (a[i] - mean) / sqrt(variance + 1e-5) * b[i] + c[i],
                               1 + (n == 1) * 100); /* one number: 0 / sqrt(eps), rounding errors grow */
    CHECK(worst_layer < 2e-6 && guarded(out, n), "%s: layer_norm of %lld is off by %g", name, (long long)n,
          worst_layer);
    memcpy(c, a, sizeof c);
    table->rms_norm(a, out, n, b, 1e-5f);
    table->rms_norm(c, c, n, b, 1e-5f);
    CHECK(memcmp(c, out, (size_t)n * sizeof(float)) == 0, "%s: rms_norm of %lld in place differs", name, (long long)n);
}

static void check_linear_ones(const ops_kernels *table, const char *name, int64_t n) {
    double expected = 0, magnitude = 1e-30, worst = 0;
    fill(a, n, 2), fill(b, n, 2), fill(out, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        expected += (double)a[i] * b[i];
        magnitude += fabs((double)a[i] * b[i]);
    }
    worst = worst_of(0, table->dot(a, b, n), expected, magnitude);
    CHECK(worst < 5e-7, "%s: dot of %lld is off by %g", name, (long long)n, worst);
    table->mix(a, b, 0.3f, out, n);
    worst = 0;
    for (int64_t i = 0; i < n; i++)
        worst = worst_of(worst, out[i], (1.0 - 0.3f) * a[i] + 0.3f * b[i], 2);
    CHECK(worst < 2e-7 && guarded(out, n), "%s: mix of %lld is off by %g", name, (long long)n, worst);
    int64_t half = n / 2;
    fill(c, n, 1), fill(out, 2 * half, 1);
    memcpy(c, out, sizeof c);
    table->rotate(out, half, a, b);
    worst = 0;
    for (int64_t i = 0; i < half; i++) {
        worst = worst_of(worst, out[i], (double)c[i] * a[i] - (double)c[half + i] * b[i], 4);
        worst = worst_of(worst, out[half + i], (double)c[half + i] * a[i] + (double)c[i] * b[i], 4);
    }
    CHECK(worst < 2e-7 && guarded(out, 2 * half), "%s: rotation of %lld is off by %g", name, (long long)n, worst);
}

/* All 65536 of each 16-bit type, at an odd address; the whole numbers of a row back to F16. */
static void check_conversions(const run *r, const char *name) {
    enum { N = 65536 };
    unsigned char *halves = malloc(2 * N + 1), *back = malloc(2 * N + 1);
    float *floats = malloc(N * sizeof(float));
    int64_t wrong = 0;
    for (int i = 0; i < N; i++) {
        uint16_t half = (uint16_t)i;
        memcpy(halves + 1 + 2 * i, &half, 2);
    }
    for (int64_t n = N - 5; n <= N; n++) {
        ops_to_float(r, ELEMENT_BF16, halves + 1, floats, n);
        for (int64_t i = 0; i < n; i++)
            wrong += bits_from_float(floats[i]) != (uint32_t)i << 16;
        ops_to_float(r, ELEMENT_F16, halves + 1, floats, n);
        for (int64_t i = 0; i < n; i++)
            wrong += bits_from_float(floats[i]) != bits_from_float(f16_to_float((uint16_t)i));
        CHECK(wrong == 0, "%s: %lld of 16-bit values are converted wrongly", name, (long long)wrong);
        ops_from_float(r, ELEMENT_F16, floats, back + 1, n);
        for (int64_t i = 0; i < n; i++)
            wrong += !isnan(floats[i]) && memcmp(back + 1 + 2 * i, halves + 1 + 2 * i, 2) != 0;
        CHECK(wrong == 0, "%s: %lld F16 values change", name, (long long)wrong);
    }
    for (int i = 0; i < N; i++)
        floats[i] = float_from_bits((uint32_t)(test_random(&seed) % 0x7f800000u)) * (i % 2 ? 1.0f : -1.0f);
    for (int i = 0; i < N; i += 4)
        floats[i] = 70000 * test_uniform(&seed);
    ops_from_float(r, ELEMENT_F16, floats, back, N);
    for (int i = 0; i < N; i++) {
        uint16_t half;
        memcpy(&half, back + 2 * i, 2);
        wrong += half != f16_from_float(floats[i]);
    }
    CHECK(wrong == 0, "%s: %lld floats are rounded wrongly to F16", name, (long long)wrong);
    ops_to_float(r, ELEMENT_F32, floats, (float *)(void *)(halves), 100);
    CHECK(memcmp(floats, halves, 400) == 0, "%s: F32 is not copied", name);
    free(halves), free(back), free(floats);
}

/* The calls over many rows do each row as the table's entry does one, with any number of threads. */
static void check_rows(const run *r, const char *name) {
    enum { ROWS = 150, COLUMNS = 700, STRIDE = 720, HEADS = 5, DIM = 96 };
    const ops_kernels *table = &r->kernels->ops;
    static float x[ROWS * STRIDE], y[ROWS * STRIDE], z[ROWS * STRIDE], expected[ROWS * STRIDE], scale[ROWS];
    static const int32_t offsets[HEADS] = {0, 96, 500, 300, 192};
    for (int i = 0; i < ROWS * STRIDE; i++)
        x[i] = test_uniform(&seed), z[i] = test_uniform(&seed), y[i] = expected[i] = 5;
    for (int i = 0; i < ROWS; i++)
        table->rms_norm(x + i * STRIDE, expected + i * STRIDE, COLUMNS, z, 1e-6f);
    CHECK_OK(ops_rms_norm(r, x, STRIDE, y, STRIDE, ROWS, COLUMNS, z, 1e-6f), error);
    CHECK(memcmp(y, expected, sizeof y) == 0, "%s: rows of rms_norm", name);
    for (int i = 0; i < ROWS; i++)
        table->layer_norm(x + i * STRIDE, expected + i * STRIDE, COLUMNS, z, z + COLUMNS, 1e-6f);
    CHECK_OK(ops_layer_norm(r, x, STRIDE, y, STRIDE, ROWS, COLUMNS, z, z + COLUMNS, 1e-6f), error);
    CHECK(memcmp(y, expected, sizeof y) == 0, "%s: rows of layer_norm", name);
    for (int i = 0; i < ROWS; i++)
        for (int head = 0; head < HEADS; head++)
            table->rotate(expected + i * STRIDE + offsets[head], DIM / 2, z + i * DIM / 2, x + i * DIM / 2);
    CHECK_OK(ops_rope(r, y, STRIDE, ROWS, offsets, HEADS, DIM, z, x), error);
    CHECK(memcmp(y, expected, sizeof y) == 0, "%s: rows of rope", name);
    for (int i = 0; i < ROWS; i++)
        table->mix(x + i * STRIDE, z + i * STRIDE, x[i], expected + i * STRIDE, STRIDE);
    CHECK_OK(ops_mix(r, x, z, x, y, ROWS, STRIDE), error);
    CHECK(memcmp(y, expected, sizeof y) == 0, "%s: rows of mix", name);
    CHECK_OK(ops_gate(r, x, ROWS, STRIDE, z, 0.25f, scale), error);
    double worst = 0;
    for (int i = 0; i < ROWS; i++) {
        double sum = 0.25;
        for (int d = 0; d < STRIDE; d++)
            sum += (double)x[i * STRIDE + d] * z[d];
        worst = worst_of(worst, scale[i], 0.5 * tanh(sum) + 0.5, 1);
    }
    CHECK(worst < 3e-6, "%s: gates are off by %g", name, worst);
    CHECK_OK(ops_rms_norm(r, x, STRIDE, y, STRIDE, 0, COLUMNS, z, 1e-6f), error);
}

int main(int argc, char **argv) {
    test_arguments(argc, argv);
    trol_threads *threads[2];
    workspace *space;
    CHECK_OK(workspace_new(&space, &error), error);
    CHECK_OK(trol_threads_new(1, &threads[0], &error), error);
    CHECK_OK(trol_threads_new(3, &threads[1], &error), error);
    for (cpu_level level = CPU_SCALAR; level <= CPU_AVX512; level++) {
        if (!cpu_has_level(level) || level == CPU_AVXVNNI) /* no kernels of its own */
            continue;
        const ops_kernels *table = &kernels_at(level)->ops;
        const char *name = cpu_level_name(level);
        for (int i = 0; test_wanted(name, "rows") && i < N_LENGTHS; i++) {
            check_norms(table, name, lengths[i]);
            check_linear_ones(table, name, lengths[i]);
        }
        for (int i = 0; test_wanted(name, "calls") && i < 2; i++) {
            run r = {.threads = threads[i], .space = space, .kernels = kernels_at(level), .error = &error};
            check_rows(&r, name);
            check_conversions(&r, name);
        }
    }
    for (int i = 0; i < 2; i++)
        trol_threads_free(threads[i]);
    workspace_free(space);
    return test_summary("ops");
}
