/* linear_blas.c - all that is said to OpenBLAS. */
#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>

#include "kernels/linear_parts.h"

static void use_one_thread(void) { openblas_set_num_threads(1); }

void blas_prepare(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_one_thread);
}

void blas_multiply(const float *x, int64_t x_stride, int64_t n_rows, const float *weights, int64_t n_outputs,
                   int64_t n_columns, float *sums, int64_t sums_stride, bool add) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n_rows, (blasint)n_outputs, (blasint)n_columns, 1.0f,
                x, (blasint)x_stride, weights, (blasint)n_columns, add ? 1.0f : 0.0f, sums, (blasint)sums_stride);
}

/* OpenBLAS's names for the kernels it chose: the level they are written for. Unknown names say nothing. */
static cpu_level core_level(const char *name) {
    static const struct {
        const char *name;
        cpu_level level;
    } cores[] = {{"SkylakeX", CPU_AVX512},   {"Cooperlake", CPU_AVX512}, {"SapphireRapids", CPU_AVX512},
                 {"Haswell", CPU_AVX2},      {"Zen", CPU_AVX2},          {"Excavator", CPU_AVX2},
                 {"Prescott", CPU_SCALAR},   {"Core2", CPU_SCALAR},      {"Nehalem", CPU_SCALAR},
                 {"Sandybridge", CPU_SCALAR}};
    for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++)
        if (strcasecmp(name, cores[i].name) == 0)
            return cores[i].level;
    return CPU_LEVELS;
}

void linear_describe_blas(char *text, size_t bytes, bool *below_cpu_level) {
    const char *core = openblas_get_corename();
    cpu_level best = cpu_best_level() >= CPU_AVX512 ? CPU_AVX512 : cpu_best_level() >= CPU_AVX2 ? CPU_AVX2 : CPU_SCALAR;
    bool below = core_level(core) < best;
    snprintf(text, bytes, "%s, core %s%s%s", openblas_get_config(), core, below ? ", below this CPU's " : "",
             below ? cpu_level_name(best) : "");
    if (below_cpu_level)
        *below_cpu_level = below;
}
