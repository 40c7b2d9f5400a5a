/* q8 and q4: packing against its documented errors, every level against plain C to the bit, and against float64
 * products.
 */
#include "base/float16.h"
#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"
#include "filter.h"
#include "test.h"

static uint64_t seed = 20261122;

static float gaussian(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += test_uniform(&seed);
    return (float)(sum * 0.5); /* variance of each 1/3; 12/3/4 = 1 */
}

static void *allocate(size_t bytes) {
    void *memory = NULL;
    trol_error error = {0};
    CHECK_OK(memory_alloc(bytes ? bytes : 1, 1, "a test", &memory, &error), error);
    memset(memory, 0xa5, bytes ? bytes : 1);
    return memory;
}

typedef struct problem {
    int64_t rows, columns, n_tokens;
    float *weights, *inputs;
} problem;

static problem make_problem(int64_t rows, int64_t columns, int64_t n_tokens, double outliers) {
    problem p = {rows, columns, n_tokens, allocate((size_t)(rows * columns) * 4),
                 allocate((size_t)(n_tokens * columns) * 4)};
    for (int64_t i = 0; i < rows * columns; i++)
        p.weights[i] = gaussian();
    for (int64_t i = 0; i < n_tokens * columns; i++)
        p.inputs[i] = gaussian();
    for (int64_t k = 0; k < columns; k++)
        if (outliers > 0 && k % (int64_t)(1 / outliers) == 77)
            for (int64_t t = 0; t < n_tokens; t++)
                p.inputs[t * columns + k] *= 50;
    return p;
}

static void free_problem(problem *p) {
    memory_free(p->weights);
    memory_free(p->inputs);
}

static void *pack(cpu_level level, element_type type, const problem *p, size_t *bytes) {
    CHECK(quantized_bytes(type, p->rows, p->columns, bytes), "%lld x %lld", (long long)p->rows, (long long)p->columns);
    void *packed = allocate(*bytes);
    trol_threads *threads;
    trol_error error = {0};
    CHECK_OK(trol_threads_new(2, &threads, &error), error);
    CHECK_OK(quantize_matrix(&kernels_at(level)->quantized, threads, NULL, type, ELEMENT_F32, p->weights, p->rows,
                             p->columns, packed),
             error);
    trol_threads_free(threads);
    return packed;
}

/* out [n_tokens of the range, n_rows], for prompt or answer rows, by the functions that linear uses; guards around out
 * are checked. */
static float *multiply(cpu_level level, element_type type, const void *packed, const problem *p, bool prompt,
                       int64_t n_inputs, int64_t first_row, int64_t n_rows, int64_t first_token, int64_t n_tokens) {
    const quantized_kernels *table = &kernels_at(level)->quantized;
    void *memory = allocate(quantized_input_bytes(table, n_inputs, p->columns, prompt));
    quantized_input input = quantized_input_in(table, memory, n_inputs, p->columns, prompt);
    for (int64_t chunk = 0; chunk < quantized_input_chunks(&input); chunk++)
        quantized_input_fill(table, &input, p->inputs, p->columns, chunk);
    void *scratch = allocate(quantized_scratch_bytes(table, type, n_rows, &input));
    int64_t stride = n_rows + 3;
    float *out = allocate((size_t)(n_tokens * stride) * sizeof(float));
    float guard = out[0];
    quantized_multiply(table, type, packed, first_row, n_rows, &input, first_token, n_tokens, out, stride, scratch);
    for (int64_t t = 0; t < n_tokens; t++) {
        for (int i = 0; i < 3; i++)
            CHECK(memcmp(&out[t * stride + n_rows + i], &guard, 4) == 0, "%s wrote past row %lld",
                  cpu_level_name(level), (long long)t);
        memmove(out + t * n_rows, out + t * stride, (size_t)n_rows * sizeof(float));
    }
    memory_free(scratch);
    memory_free(memory);
    return out;
}

/* Relative RMS error against the product of the unquantized numbers. */
static double product_error(const problem *p, const float *out) {
    double error = 0, norm = 0;
    for (int64_t t = 0; t < p->n_tokens; t++)
        for (int64_t n = 0; n < p->rows; n++) {
            double exact = 0;
            for (int64_t k = 0; k < p->columns; k++)
                exact += (double)p->weights[n * p->columns + k] * p->inputs[t * p->columns + k];
            double difference = exact - out[t * p->rows + n];
            error += difference * difference;
            norm += exact * exact;
        }
    return sqrt(error / norm);
}

static void test_errors(cpu_level level) {
    static const struct {
        element_type type;
        double outliers, limit;
    } cases[] = {
        {ELEMENT_Q8, 0, 0.0085}, {ELEMENT_Q4, 0, 0.085}, {ELEMENT_Q8, 0.005, 0.016}, {ELEMENT_Q4, 0.005, 0.09}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int64_t n_tokens = 16; n_tokens <= 32; n_tokens += 16) {
            problem p = make_problem(64, 2048, n_tokens, cases[i].outliers);
            size_t bytes;
            void *packed = pack(level, cases[i].type, &p, &bytes);
            float *out = multiply(level, cases[i].type, packed, &p, n_tokens > 16, n_tokens, 0, p.rows, 0, n_tokens);
            double error = product_error(&p, out);
            CHECK(error < cases[i].limit, "%s %s outliers %g tokens %lld: %.4f%%", cpu_level_name(level),
                  element_name(cases[i].type), cases[i].outliers, (long long)n_tokens, 100 * error);
            printf("%-10s %s %-12s %2lld tokens: error %.3f%%\n", cpu_level_name(level), element_name(cases[i].type),
                   cases[i].outliers > 0 ? "outliers x50" : "gaussian", (long long)n_tokens, 100 * error);
            memory_free(out);
            memory_free(packed);
            free_problem(&p);
        }
}

/* Packed bytes equal plain C's; dequantized weights are within half a step; rows past the end are zero. */
static void test_packing(cpu_level level) {
    static const int64_t shapes[][2] = {{16, 64}, {1, 32}, {17, 96}, {33, 160}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (element_type type = ELEMENT_Q8; type <= ELEMENT_Q4; type++) {
            problem p = make_problem(shapes[i][0], shapes[i][1], 1, 0);
            size_t bytes, n = (size_t)(p.rows * p.columns);
            for (int64_t k = 0; k < 32; k++)
                p.weights[k] = 0; /* a block of zeros */
            void *packed = pack(level, type, &p, &bytes), *plain = pack(CPU_SCALAR, type, &p, &bytes);
            CHECK(memcmp(packed, plain, bytes) == 0, "%s packs %s otherwise than plain C", cpu_level_name(level),
                  element_name(type));
            float row[160];
            for (int64_t r = 0; r < p.rows; r++) {
                dequantize_row(type, packed, p.columns, r, row);
                for (int64_t b = 0; b < p.columns; b += 32) {
                    float largest = 0;
                    for (int k = 0; k < 32; k++)
                        largest = fmaxf(largest, fabsf(p.weights[r * p.columns + b + k]));
                    for (int k = 0; k < 32; k++)
                        CHECK(fabsf(row[b + k] - p.weights[r * p.columns + b + k]) <=
                                  largest * (type == ELEMENT_Q8 ? 0.504f / 127 : 1.4f / 8),
                              "%s row %lld column %lld: %g for %g", element_name(type), (long long)r,
                              (long long)(b + k), row[b + k], p.weights[r * p.columns + b + k]);
                }
            }
            /* 16-bit sources at odd addresses give what their float32 values give */
            uint8_t *halves = allocate(2 * n + 1), *from_halves = allocate(bytes), *from_floats = allocate(bytes);
            for (element_type source = ELEMENT_F16; source <= ELEMENT_BF16; source++) {
                for (size_t k = 0; k < n; k++) {
                    uint16_t half =
                        source == ELEMENT_F16 ? f16_from_float(p.weights[k]) : bf16_from_float(p.weights[k]);
                    memcpy(halves + 1 + 2 * k, &half, 2);
                }
                problem rounded = make_problem(p.rows, p.columns, 1, 0);
                for (size_t k = 0; k < n; k++)
                    rounded.weights[k] = source == ELEMENT_F16 ? f16_to_float(f16_from_float(p.weights[k]))
                                                               : bf16_to_float(bf16_from_float(p.weights[k]));
                size_t group_bytes = quantized_group_bytes(type, p.columns);
                for (int64_t g = 0; g < quantized_groups(p.rows); g++) {
                    int64_t n_rows = p.rows - 16 * g < 16 ? p.rows - 16 * g : 16;
                    const quantized_kernels *table = &kernels_at(level)->quantized;
                    quantize_group(table, type, source, halves + 1 + 2 * 16 * g * p.columns, p.columns, n_rows,
                                   p.columns, from_halves + (size_t)g * group_bytes);
                    quantize_group(table, type, ELEMENT_F32, rounded.weights + 16 * g * p.columns, p.columns, n_rows,
                                   p.columns, from_floats + (size_t)g * group_bytes);
                }
                CHECK(memcmp(from_halves, from_floats, bytes) == 0, "%s from %s", element_name(type),
                      element_name(source));
                free_problem(&rounded);
            }
            memory_free(halves);
            memory_free(from_halves);
            memory_free(from_floats);
            memory_free(packed);
            memory_free(plain);
            free_problem(&p);
        }
}

/* A small batch agrees with plain C to the bit, whatever the rows beside it and whatever part of the matrix is asked
 * for. */
static void test_small_batches(cpu_level level) {
    static const int64_t shapes[][2] = {{16, 32}, {64, 64}, {100, 160}, {161, 544}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (element_type type = ELEMENT_Q8; type <= ELEMENT_Q4; type++) {
            problem p = make_problem(shapes[i][0], shapes[i][1], 16, 0.01);
            size_t bytes;
            void *packed = pack(CPU_SCALAR, type, &p, &bytes);
            float *plain = multiply(CPU_SCALAR, type, packed, &p, false, 16, 0, p.rows, 0, 16);
            for (int64_t n = 1; n <= 16; n++) {
                float *out = multiply(level, type, packed, &p, false, n, 0, p.rows, 0, n);
                CHECK(memcmp(out, plain, (size_t)(n * p.rows) * 4) == 0,
                      "%s %s batch %lld of %lld x %lld differs from plain C", cpu_level_name(level), element_name(type),
                      (long long)n, (long long)p.rows, (long long)p.columns);
                memory_free(out);
            }
            int64_t first_row = (int64_t)(test_random(&seed) % (uint64_t)p.rows), n_rows = p.rows - first_row;
            n_rows = n_rows > 3 ? n_rows - 2 : n_rows;
            float *part = multiply(level, type, packed, &p, false, 13, first_row, n_rows, 2, 9);
            for (int64_t t = 0; t < 9; t++)
                CHECK(memcmp(part + t * n_rows, plain + (t + 2) * p.rows + first_row, (size_t)n_rows * 4) == 0,
                      "%s %s rows %lld + %lld of %lld", cpu_level_name(level), element_name(type), (long long)first_row,
                      (long long)n_rows, (long long)p.rows);
            memory_free(part);
            memory_free(plain);
            memory_free(packed);
            free_problem(&p);
        }
}

/* Large batches: plain C's bits with 8-bit inputs; with tiles close to the exact product of what is packed, and no
 * dependence on the cut. */
static void test_large_batches(cpu_level level) {
    static const int64_t shapes[][3] = {{48, 64, 17}, {161, 544, 37}, {80, 4160, 67}, {272, 96, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (element_type type = ELEMENT_Q8; type <= ELEMENT_Q4; type++) {
            problem p = make_problem(shapes[i][0], shapes[i][1], shapes[i][2], 0.01);
            size_t bytes;
            void *packed = pack(CPU_SCALAR, type, &p, &bytes);
            float *out = multiply(level, type, packed, &p, true, p.n_tokens, 0, p.rows, 0, p.n_tokens);
            if (kernels_at(level)->quantized.multiply_tiles) {
                for (int64_t r = 0; r < p.rows; r++)
                    dequantize_row(type, packed, p.columns, r, p.weights + r * p.columns);
                double error = product_error(&p, out);
                CHECK(error < 0.0035, "tiles: %s %lld x %lld, error %.4f%%", element_name(type), (long long)p.rows,
                      (long long)p.columns, 100 * error);
            } else {
                float *plain = multiply(CPU_SCALAR, type, packed, &p, true, p.n_tokens, 0, p.rows, 0, p.n_tokens);
                CHECK(memcmp(out, plain, (size_t)(p.n_tokens * p.rows) * 4) == 0,
                      "%s %s %lld x %lld differs from plain C", cpu_level_name(level), element_name(type),
                      (long long)p.rows, (long long)p.columns);
                memory_free(plain);
            }
            int64_t first_row = 7, n_rows = p.rows - 20, first_token = 5, n_tokens = p.n_tokens - 6;
            float *part = multiply(level, type, packed, &p, true, p.n_tokens, first_row, n_rows, first_token, n_tokens);
            for (int64_t t = 0; t < n_tokens; t++)
                CHECK(memcmp(part + t * n_rows, out + (t + first_token) * p.rows + first_row, (size_t)n_rows * 4) == 0,
                      "%s %s: a part of %lld x %lld differs in token %lld", cpu_level_name(level), element_name(type),
                      (long long)p.rows, (long long)p.columns, (long long)t);
            memory_free(part);
            memory_free(out);
            memory_free(packed);
            free_problem(&p);
        }
}

/* Largest magnitudes everywhere, numbers near the ends of float32's range, zeros, infinities. */
static void test_extremes(cpu_level level) {
    static const float weight_values[] = {-1.0f, 1.0f, 1e33f, 1e-42f, 0.0f, -65504.0f};
    static const float input_values[] = {-1.0f, 1.0f, 1e-3f, 2.0f, 1.0f, 300.0f};
    for (size_t i = 0; i < sizeof weight_values / sizeof weight_values[0]; i++)
        for (element_type type = ELEMENT_Q8; type <= ELEMENT_Q4; type++) {
            problem p = make_problem(20, 2048, 18, 0);
            for (int64_t k = 0; k < p.rows * p.columns; k++)
                p.weights[k] = weight_values[i];
            for (int64_t k = 0; k < p.n_tokens * p.columns; k++)
                p.inputs[k] = input_values[i];
            for (int64_t k = 0; k < p.columns; k++)
                p.inputs[k] = p.weights[k + 19 * p.columns] = 0;
            size_t bytes;
            void *packed = pack(level, type, &p, &bytes);
            for (int64_t n_tokens = 15; n_tokens <= 18; n_tokens += 3) {
                float *out = multiply(level, type, packed, &p, n_tokens > 16, n_tokens, 0, p.rows, 0, n_tokens);
                double expected = fabs(weight_values[i]) < 1e-30 ? 0 : 2048.0 * weight_values[i] * input_values[i];
                for (int64_t t = 0; t < n_tokens; t++)
                    for (int64_t n = 0; n < p.rows; n++) {
                        double e = t == 0 || n == 19 ? 0 : expected;
                        if (fabs(e) < 3e38)
                            CHECK(fabs(out[t * p.rows + n] - e) <= 0.006 * fabs(e),
                                  "%s %s %g x %g, token %lld row %lld: %g", cpu_level_name(level), element_name(type),
                                  weight_values[i], input_values[i], (long long)t, (long long)n, out[t * p.rows + n]);
                        else
                            CHECK(out[t * p.rows + n] > 3e38f, "%s %s overflows to %g", cpu_level_name(level),
                                  element_name(type), out[t * p.rows + n]);
                    }
                memory_free(out);
            }
            if (weight_values[i] != 1.0f) {
                memory_free(packed);
                free_problem(&p);
                continue;
            }
            p.weights[5] = INFINITY;
            p.weights[p.columns + 5] = NAN;
            void *broken = pack(level, type, &p, &bytes);
            float *out = multiply(level, type, broken, &p, false, 2, 0, 3, 0, 2);
            CHECK(!isfinite(out[3]) && !isfinite(out[4]) && isfinite(out[5]), "%s %s: an infinity is lost: %g %g %g",
                  cpu_level_name(level), element_name(type), out[3], out[4], out[5]);
            memory_free(out);
            memory_free(broken);
            memory_free(packed);
            free_problem(&p);
        }
}

int main(int argc, char **argv) {
    test_arguments(argc, argv);
    size_t bytes;
    CHECK(!quantized_bytes(ELEMENT_Q8, 16, 48, &bytes), "48 columns");
    CHECK(!quantized_bytes(ELEMENT_F16, 16, 64, &bytes), "f16");
    CHECK(!quantized_bytes(ELEMENT_Q8, INT64_MAX - 20, 64, &bytes), "absurd rows");
    CHECK(quantized_bytes(ELEMENT_Q4, 17, 96, &bytes) && bytes == 2 * 2 * 576, "%zu", bytes);
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++) {
        if (!cpu_has_level(level))
            continue;
        const char *name = cpu_level_name(level);
        if (test_wanted(name, "packing"))
            test_packing(level);
        if (test_wanted(name, "answer"))
            test_small_batches(level);
        if (test_wanted(name, "prompt"))
            test_large_batches(level);
        if (test_wanted(name, "extremes"))
            test_extremes(level);
        if ((level == CPU_SCALAR || level == CPU_AMX) && test_wanted(name, "errors"))
            test_errors(level);
    }
    return test_summary("quantized");
}
