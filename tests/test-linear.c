/* linear against sums in double precision, at every level of this CPU: all types, epilogues, views, LoRA, odd sizes and
 * addresses; a row's bits independent of the rows beside it, of how many there are and of the number of threads. */
#include <stdbool.h>

#include "base/float16.h"
#include "base/float_mode.h"
#include "kernels/linear.h"
#include "kernels/linear_blas.h"
#include "kernels/quantize.h"
#include "filter.h"
#include "test.h"

typedef struct problem {
    element_type type, lora_type;
    int64_t n_rows, n_prompt_rows, columns, total_outputs, first, outputs, rank; /* rank 0: no LoRA */
    epilogue kind;
    bool bias;
    float weight_size;
    linear_arithmetic arithmetic;
} problem;

static uint64_t seed = 88172645463325252ull;

static int64_t between(int64_t low, int64_t high) {
    return low + (int64_t)(test_random(&seed) % (uint64_t)(high - low + 1));
}

static int64_t round_to_blocks(int64_t columns) {
    return (columns + QUANTIZED_BLOCK - 1) / QUANTIZED_BLOCK * QUANTIZED_BLOCK;
}

/* Packs random weights; `exact` receives what they became. */
static matrix random_quantized(element_type type, int64_t rows, int64_t columns, float size, float *exact) {
    const quantized_kernels *scalar = &kernels_at(CPU_SCALAR)->quantized;
    size_t bytes, group_bytes = quantized_group_bytes(type, columns);
    CHECK(quantized_bytes(type, rows, columns, &bytes), "%d x %d cannot be packed", (int)rows, (int)columns);
    unsigned char *data = malloc(bytes + 1);
    for (int64_t i = 0; i < rows * columns; i++)
        exact[i] = test_uniform(&seed) * size;
    for (int64_t row = 0; row < rows; row += QUANTIZED_GROUP)
        quantize_group(scalar, type, ELEMENT_F32, exact + row * columns, columns,
                       rows - row < QUANTIZED_GROUP ? rows - row : QUANTIZED_GROUP, columns,
                       data + 1 + (size_t)(row / QUANTIZED_GROUP) * group_bytes);
    for (int64_t row = 0; row < rows; row++)
        dequantize_row(type, data + 1, columns, row, exact + row * columns);
    return (matrix){.type = type, .rows = rows, .columns = columns, .data = data + 1};
}

/* A random matrix at an odd address; `exact` receives its values as stored. */
static matrix random_matrix(element_type type, int64_t rows, int64_t columns, float size, float **exact) {
    if (element_is_packed(type)) {
        *exact = malloc((size_t)(rows * columns) * sizeof(float));
        return random_quantized(type, rows, columns, size, *exact);
    }
    size_t bytes = element_bytes(type);
    unsigned char *data = malloc((size_t)(rows * columns) * bytes + 1);
    *exact = malloc((size_t)(rows * columns) * sizeof(float));
    for (int64_t i = 0; i < rows * columns; i++) {
        float value = test_uniform(&seed) * size;
        if (test_random(&seed) % 50 == 0)
            value = -0.0f;
        uint16_t half = type == ELEMENT_F16 ? f16_from_float(value) : bf16_from_float(value);
        memcpy(data + 1 + (size_t)i * bytes, type == ELEMENT_F32 ? (void *)&value : (void *)&half, bytes);
        (*exact)[i] = type == ELEMENT_F32 ? value : type == ELEMENT_F16 ? f16_to_float(half) : bf16_to_float(half);
    }
    return (matrix){.type = type, .rows = rows, .columns = columns, .data = data + 1};
}

static void free_matrix(matrix m) {
    if (m.data)
        free((unsigned char *)m.data - 1);
}

typedef struct layer {
    linear whole;
    float *w, *a, *b, *bias;
} layer;

static layer random_layer(const problem *p) {
    layer l = {0};
    l.whole = linear_of(random_matrix(p->type, p->total_outputs, p->columns, p->weight_size, &l.w), NULL);
    if (p->bias) {
        l.bias = malloc((size_t)p->total_outputs * sizeof(float));
        for (int64_t i = 0; i < p->total_outputs; i++)
            l.bias[i] = test_uniform(&seed);
        l.whole.bias = l.bias;
    }
    if (p->rank) {
        l.whole.lora_a = random_matrix(p->lora_type, p->rank, p->columns, p->weight_size, &l.a);
        l.whole.lora_b = random_matrix(p->lora_type, p->total_outputs, p->rank, 1.0f, &l.b);
    }
    return l;
}

static void free_layer(layer *l) {
    free_matrix(l->whole.weight);
    free_matrix(l->whole.lora_a);
    free_matrix(l->whole.lora_b);
    free(l->w);
    free(l->a);
    free(l->b);
    free(l->bias);
}

/* One output in double; *size: the sum of the magnitudes, to judge the error by. */
static double expected_sum(const problem *p, const layer *l, const float *x, int64_t output, bool lora, double *size) {
    double y = p->bias ? l->bias[output] : 0;
    *size = fabs(y);
    for (int64_t k = 0; k < p->columns; k++) {
        double term = (double)l->w[output * p->columns + k] * x[k];
        y += term;
        *size += fabs(term);
    }
    for (int64_t j = 0; lora && j < p->rank; j++) {
        double t = 0, t_size = 0;
        for (int64_t k = 0; k < p->columns; k++) {
            t += (double)l->a[j * p->columns + k] * x[k];
            t_size += fabs((double)l->a[j * p->columns + k] * x[k]);
        }
        y += l->b[output * p->rank + j] * t;
        *size += fabs(l->b[output * p->rank + j]) * t_size;
    }
    return y;
}

static double expected(epilogue kind, double y, double up, double scale, double before) {
    switch (kind) {
    case EPILOGUE_ADD:
        return before + y;
    case EPILOGUE_ADD_SCALED:
        return before + scale * y;
    case EPILOGUE_GELU:
        return 0.5 * y * erfc(-y / sqrt(2.0));
    case EPILOGUE_QUICK_GELU:
        return y / (1 + exp(-1.702 * y));
    case EPILOGUE_SILU_MUL:
        return y / (1 + exp(-y)) * up;
    default:
        return y;
    }
}

static void apply(const problem *p, const kernels *table, int n_threads, const float *x, int64_t n_rows,
                  int64_t n_prompt_rows, const row_range *lora_rows, int64_t n_lora_rows, const layer *first,
                  const layer *second, const float *scale, float *out) {
    trol_error error;
    trol_threads *threads;
    workspace *space;
    CHECK_OK(trol_threads_new(n_threads, &threads, &error), error);
    CHECK_OK(workspace_new(&space, &error), error);
    run r = {.threads = threads, .space = space, .kernels = table, .error = &error};
    activations input = activations_of(x, n_rows, p->columns, p->columns + 3);
    input.n_prompt_rows = n_prompt_rows;
    input.lora_rows = lora_rows;
    input.n_lora_rows = n_lora_rows;
    linear one = linear_view(&first->whole, p->first, p->outputs),
           two = linear_view(&second->whole, p->first, p->outputs);
    product products[] = {{.linear = &one,
                           .second = &two,
                           .scale = scale,
                           .epilogue = p->kind,
                           .out = out,
                           .out_stride = p->outputs + 5}};
    CHECK_OK(linear_apply(&r, p->arithmetic, &input, products, 1), error);
    CHECK(workspace_mark(space) == 0, "scratch memory was not released");
    workspace_free(space);
    trol_threads_free(threads);
}

static float *copy_floats(const float *from, int64_t n) {
    float *copy = malloc((size_t)n * sizeof(float));
    memcpy(copy, from, (size_t)n * sizeof(float));
    return copy;
}

static void check_problem(const problem *p, const kernels *table, double tolerance) {
    layer first = random_layer(p), second = random_layer(p);
    int64_t x_stride = p->columns + 3, out_stride = p->outputs + 5;
    float *x = malloc((size_t)(p->n_rows * x_stride) * sizeof(float));
    float *scale = malloc((size_t)p->outputs * sizeof(float));
    float *before = malloc((size_t)(p->n_rows * out_stride) * sizeof(float));
    for (int64_t i = 0; i < p->n_rows * x_stride; i++)
        x[i] = test_uniform(&seed);
    for (int64_t i = 0; i < p->outputs; i++)
        scale[i] = test_uniform(&seed);
    for (int64_t i = 0; i < p->n_rows * out_stride; i++)
        before[i] = test_uniform(&seed);
    row_range ranges[2] = {{p->n_rows / 5, (p->n_rows + 1) / 2}, {p->n_rows - 1, 1}};
    int64_t n_ranges = p->rank ? (p->n_rows > 4 ? 2 : 1) : 0;
    float *out = copy_floats(before, p->n_rows * out_stride);
    apply(p, table, 2, x, p->n_rows, p->n_prompt_rows, ranges, n_ranges, &first, &second, scale, out);
    double worst = 0;
    for (int64_t i = 0; i < p->n_rows; i++) {
        bool lora = false;
        for (int64_t range = 0; range < n_ranges; range++)
            lora |= i >= ranges[range].first && i < ranges[range].first + ranges[range].count;
        for (int64_t j = 0; j < p->outputs; j++) {
            double size, up_size = 0, up = 0;
            double y = expected_sum(p, &first, x + i * x_stride, p->first + j, lora, &size);
            if (p->kind == EPILOGUE_SILU_MUL)
                up = expected_sum(p, &second, x + i * x_stride, p->first + j, lora, &up_size);
            double want = expected(p->kind, y, up, scale[j], before[i * out_stride + j]);
            double allowed = p->kind == EPILOGUE_SILU_MUL ? size * fabs(up) * 1.2 + up_size * fabs(y) : size * 1.2;
            double error = fabs(out[i * out_stride + j] - want) / (allowed + fabs(want) + 1e-30);
            worst = isnan(error) || isnan(worst) ? NAN : fmax(worst, error);
        }
        for (int64_t j = p->outputs; j < out_stride; j++)
            CHECK(out[i * out_stride + j] == before[i * out_stride + j], "wrote past the row");
    }
    CHECK(worst <= tolerance, "%s, %s weights, %s lora of rank %d, %d x %d -> %d, epilogue %d: error %.3g",
          cpu_level_name(table->level), element_name(p->type), element_name(p->lora_type), (int)p->rank, (int)p->n_rows,
          (int)p->columns, (int)p->outputs, (int)p->kind, worst);
    for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
        float *again = copy_floats(before, p->n_rows * out_stride);
        apply(p, table, n_threads, x, p->n_rows, p->n_prompt_rows, ranges, n_ranges, &first, &second, scale, again);
        CHECK(memcmp(out, again, (size_t)(p->n_rows * out_stride) * sizeof(float)) == 0, "%d threads differ from 2",
              n_threads);
        free(again);
    }
    for (int64_t i = 0; p->n_prompt_rows == 0 && i < p->n_rows; i++) { /* each row alone */
        float *again = copy_floats(before + i * out_stride, out_stride);
        bool lora = false;
        for (int64_t range = 0; range < n_ranges; range++)
            lora |= i >= ranges[range].first && i < ranges[range].first + ranges[range].count;
        row_range only = {0, 1};
        apply(p, table, 1, x + i * x_stride, 1, 0, &only, lora, &first, &second, scale, again);
        CHECK(memcmp(out + i * out_stride, again, (size_t)out_stride * sizeof(float)) == 0,
              "row %d of %d alone differs at level %s", (int)i, (int)p->n_rows, cpu_level_name(table->level));
        free(again);
    }
    free_layer(&first);
    free_layer(&second);
    free(x);
    free(scale);
    free(before);
    free(out);
}

static void check_level(const kernels *table, int n_problems, bool big) {
    for (int i = 0; i < n_problems; i++) {
        problem p = {.type = (element_type)between(0, 2),
                     .lora_type = (element_type)between(0, 2),
                     .n_rows = big ? between(17, 70) : between(1, 16),
                     .columns = between(1, 3) == 1 ? between(1, 20) : between(1, 700),
                     .total_outputs = between(1, 300),
                     .kind = (epilogue)(i % EPILOGUES),
                     .bias = test_random(&seed) & 1,
                     .weight_size = 1.0f};
        if (big && i % 12 == 0) { /* few outputs for many rows, more than are done together at once */
            p.n_rows = i ? between(100, 500) : 1700;
            p.columns = between(1, 64);
            p.total_outputs = between(1, 40);
        }
        p.n_prompt_rows = big ? p.n_rows : 0;
        p.first = between(0, p.total_outputs - 1);
        p.outputs = between(1, p.total_outputs - p.first);
        p.rank = test_random(&seed) & 1 ? between(1, 40) : 0;
        check_problem(&p, table, 2e-6);
        if (big && table->linear.bf16[0].tile) {
            p.arithmetic = LINEAR_BF16;
            check_problem(&p, table, 4e-3);
        }
        /* the same with packed weights, or with packed LoRA beside the others */
        p.columns = 32 * between(1, 12);
        if (test_random(&seed) % 4)
            p.type = test_random(&seed) & 1 ? ELEMENT_Q8 : ELEMENT_Q4;
        if (p.rank && test_random(&seed) % 2) {
            p.lora_type = test_random(&seed) & 1 ? ELEMENT_Q8 : ELEMENT_Q4;
            p.rank = 32 * between(1, 2);
        }
        p.arithmetic = LINEAR_EXACT;
        check_problem(&p, table, element_is_packed(p.type) || (p.rank && element_is_packed(p.lora_type)) ? 1e-2 : 2e-6);
    }
}

/* Ranges of the LoRA rows among rows begin .. end - 1, counted from begin. Returns how many. */
static int64_t cut_ranges(const bool *lora, int64_t begin, int64_t end, row_range *ranges) {
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        if (!lora[i])
            continue;
        if (i > begin && lora[i - 1])
            ranges[n - 1].count++;
        else
            ranges[n++] = (row_range){i - begin, 1};
    }
    return n;
}

enum { PIECES_ROWS = 40 };

/* Rows in random pieces, prompt and answer rows mixed, give the bits that all of them in one call give. */
static void check_pieces(const kernels *table, const problem *p) {
    layer first = random_layer(p), second = random_layer(p);
    const int64_t x_stride = p->columns + 3, out_stride = p->outputs + 5;
    float *x = malloc((size_t)(p->n_rows * x_stride) * sizeof(float));
    float *scale = malloc((size_t)p->outputs * sizeof(float));
    float *before = malloc((size_t)(p->n_rows * out_stride) * sizeof(float));
    bool lora[PIECES_ROWS];
    row_range ranges[PIECES_ROWS];
    for (int64_t i = 0; i < p->n_rows * x_stride; i++)
        x[i] = test_uniform(&seed);
    for (int64_t i = 0; i < p->outputs; i++)
        scale[i] = test_uniform(&seed);
    for (int64_t i = 0; i < p->n_rows * out_stride; i++)
        before[i] = test_uniform(&seed);
    for (int64_t i = 0; i < p->n_rows; i++)
        lora[i] = p->rank && (test_random(&seed) % 4 ? i > 0 && lora[i - 1] : test_random(&seed) & 1);
    float *whole = copy_floats(before, p->n_rows * out_stride), *cut = copy_floats(before, p->n_rows * out_stride);
    int64_t n_ranges = cut_ranges(lora, 0, p->n_rows, ranges);
    apply(p, table, 2, x, p->n_rows, p->n_prompt_rows, ranges, n_ranges, &first, &second, scale, whole);
    for (int64_t begin = 0, end; begin < p->n_rows; begin = end) {
        end = between(begin + 1, between(begin + 1, p->n_rows));
        int64_t n_prompt_rows = p->n_prompt_rows < begin ? 0
                                : p->n_prompt_rows < end ? p->n_prompt_rows - begin
                                                         : end - begin;
        n_ranges = cut_ranges(lora, begin, end, ranges);
        apply(p, table, (int)between(1, 3), x + begin * x_stride, end - begin, n_prompt_rows, ranges, n_ranges, &first,
              &second, scale, cut + begin * out_stride);
    }
    for (int64_t i = 0; i < p->n_rows; i++)
        CHECK(
            memcmp(whole + i * out_stride, cut + i * out_stride, (size_t)out_stride * sizeof(float)) == 0,
            "%s, %s weights, %s lora of rank %d, %d x %d -> %d, epilogue %d, arithmetic %d: row %d (%s) depends on the "
            "piece",
            cpu_level_name(table->level), element_name(p->type), element_name(p->lora_type), (int)p->rank,
            (int)p->n_rows, (int)p->columns, (int)p->outputs, (int)p->kind, (int)p->arithmetic, (int)i,
            i < p->n_prompt_rows ? "prompt" : "answer");
    free_layer(&first);
    free_layer(&second);
    free(x);
    free(scale);
    free(before);
    free(whole);
    free(cut);
}

/* Of every type. Prompt rows on a BLAS may depend on their number, and are left out. */
static void check_all_pieces(const kernels *table, int n_problems) {
    for (int i = 0; i < n_problems; i++) {
        problem p = {.type = (element_type)(i % 5),
                     .lora_type = (element_type)between(0, 4),
                     .n_rows = between(1, PIECES_ROWS),
                     .columns = between(1, 3) == 1 ? between(1, 20) : between(1, 1500),
                     .total_outputs = between(1, 300),
                     .kind = (epilogue)between(0, EPILOGUES - 1),
                     .bias = test_random(&seed) & 1,
                     .weight_size = 1.0f,
                     .arithmetic = test_random(&seed) & 1 ? LINEAR_BF16 : LINEAR_EXACT};
        if (element_is_packed(p.type) || element_is_packed(p.lora_type))
            p.columns = round_to_blocks(p.columns);
        p.rank = test_random(&seed) % 3 ? element_is_packed(p.lora_type) ? 32 * between(1, 2) : between(1, 40) : 0;
        p.first = between(0, p.total_outputs - 1);
        p.outputs = between(1, p.total_outputs - p.first);
        p.n_prompt_rows = between(0, 2) ? between(0, p.n_rows) : p.n_rows;
        if (table->linear.blas)
            p.n_prompt_rows = 0;
        check_pieces(table, &p);
    }
}

/* Magnitudes at the edge of the types: sums must be as in float32. */
static void check_extremes(const kernels *table) {
    static const float sizes[] = {65504.0f, 6e-8f, 1e-30f, 1e30f};
    for (int i = 0; i < 4; i++)
        for (int type = 0; type <= ELEMENT_BF16; type++)
            for (int64_t n_rows = 3; n_rows < 60; n_rows += 50) {
                if (type == ELEMENT_F16 && i >= 2)
                    continue;
                problem p = {.type = (element_type)type,
                             .n_rows = n_rows,
                             .n_prompt_rows = n_rows > 10 ? n_rows : 0,
                             .columns = 129,
                             .total_outputs = 37,
                             .outputs = 37,
                             .kind = EPILOGUE_STORE,
                             .weight_size = sizes[i]};
                check_problem(&p, table, 2e-6);
            }
}

typedef struct polled {
    float_mode expected;
    int calls, differing;
} polled;

static void poll_mode(void *user) {
    polled *p = user;
    p->calls++;
    p->differing += float_mode_current() != p->expected;
}

/* Subnormal weights and inputs count as zero, for they may be a hundred times as slow; the caller's float mode holds in
 * its callback and after the call. */
static void check_subnormals(const kernels *table) {
    enum { ROWS = 20, COLUMNS = 96, OUTPUTS = 40 };
    static float weights[OUTPUTS * COLUMNS], x[ROWS * COLUMNS], out[ROWS * OUTPUTS];
    trol_error error;
    trol_threads *threads;
    workspace *space;
    CHECK_OK(trol_threads_new(2, &threads, &error), error);
    CHECK_OK(workspace_new(&space, &error), error);
    for (int subnormal_x = 0; subnormal_x < 2; subnormal_x++)
        for (int64_t n_prompt_rows = 0; n_prompt_rows <= ROWS; n_prompt_rows += ROWS) {
            for (int i = 0; i < OUTPUTS * COLUMNS; i++)
                weights[i] = subnormal_x ? 1e10f : i % 2 ? 1e-39f : -1e-40f;
            for (int i = 0; i < ROWS * COLUMNS; i++)
                x[i] = subnormal_x ? 1e-39f : 1e10f;
            polled p = {.expected = float_mode_current()};
            run r = {.threads = threads,
                     .space = space,
                     .kernels = table,
                     .error = &error,
                     .poll = poll_mode,
                     .poll_user = &p};
            activations input = activations_of(x, ROWS, COLUMNS, COLUMNS);
            input.n_prompt_rows = n_prompt_rows;
            linear l = linear_of((matrix){ELEMENT_F32, OUTPUTS, COLUMNS, weights}, NULL);
            product one = {.linear = &l, .epilogue = EPILOGUE_STORE, .out = out, .out_stride = OUTPUTS};
            CHECK_OK(linear_apply(&r, LINEAR_EXACT, &input, &one, 1), error);
            float largest = 0;
            for (int i = 0; i < ROWS * OUTPUTS; i++)
                largest = fmaxf(largest, fabsf(out[i]));
            CHECK(largest == 0, "%s: subnormal %s give %g", cpu_level_name(table->level),
                  subnormal_x ? "inputs" : "weights", largest);
            CHECK(p.calls > 0 && p.differing == 0 && float_mode_current() == p.expected,
                  "%d of %d callbacks in another float mode", p.differing, p.calls);
        }
    workspace_free(space);
    trol_threads_free(threads);
}

int main(int argc, char **argv) {
    test_arguments(argc, argv);
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++) {
        if (!cpu_has_level(level))
            continue;
        const char *name = cpu_level_name(level);
        if (test_wanted(name, "answer"))
            check_level(kernels_at(level), 24, false);
        if (test_wanted(name, "prompt"))
            check_level(kernels_at(level), 36, true);
        if (test_wanted(name, "pieces"))
            check_all_pieces(kernels_at(level), 150);
        if (test_wanted(name, "extremes"))
            check_extremes(kernels_at(level));
        if (test_wanted(name, "subnormals"))
            check_subnormals(kernels_at(level));
    }
    kernels table = *kernels_at(CPU_SCALAR); /* the plain C tiles instead of OpenBLAS */
    table.linear.blas = false;
    if (test_wanted("plain", "prompt"))
        check_level(&table, 36, true);
    if (test_wanted("plain", "pieces"))
        check_all_pieces(&table, 60);
    table = *kernels_at(cpu_best_level()); /* and OpenBLAS instead of the best ones */
    table.linear.blas = true;
    if (test_wanted("openblas", "prompt") && blas_open())
        check_level(&table, 36, true);
    if (test_wanted("fast bf16", "prompt, pieces") &&
        cpu_has_level(CPU_AVX512BF16)) { /* whether they are fast or not */
        kernels_fill(&table, CPU_AVX512BF16, cpu_traits_at(CPU_AVX512BF16) | CPU_HAS_FAST_BF16);
        check_level(&table, 36, true);
        check_all_pieces(&table, 60);
    }
    return test_summary("linear");
}
