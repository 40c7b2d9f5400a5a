#include "kernels/kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/linear_blas.h"

const char *element_name(element_type type) {
    static const char *const names[] = {"f32", "f16", "bf16", "q8", "q4", "other"};
    return names[type];
}

/* From plain C upwards: each instruction set puts its own entries over those before it. */
void kernels_fill(kernels *table, cpu_level level, unsigned traits) {
    table->level = level;
    table->traits = traits;
    linear_fill_scalar(&table->linear);
    attention_fill_scalar(&table->attention);
    kv_fill_scalar(table->kv);
    ops_fill_scalar(&table->ops);
    quantized_fill_scalar(&table->quantized);
    table->linear.blas = !(traits & CPU_HAS_AVX2);
#if defined(TROL_HAVE_AVX2)
    if (traits & CPU_HAS_AVX2) {
        linear_fill_avx2(&table->linear);
        attention_fill_avx2(&table->attention);
        kv_fill_avx2(table->kv);
        ops_fill_avx2(&table->ops);
        quantized_fill_avx2(&table->quantized);
    }
#endif
#if defined(TROL_HAVE_AVXVNNI)
    if (traits & CPU_HAS_AVX_VNNI)
        quantized_fill_avxvnni(&table->quantized);
#endif
#if defined(TROL_HAVE_AVX512)
    if (traits & CPU_HAS_AVX512) {
        linear_fill_avx512(&table->linear);
        attention_fill_avx512(&table->attention);
        kv_fill_avx512(table->kv);
        ops_fill_avx512(&table->ops);
        quantized_fill_avx512(&table->quantized);
    }
#endif
#if defined(TROL_HAVE_AVX512VNNI)
    if (traits & CPU_HAS_AVX512_VNNI)
        quantized_fill_avx512vnni(&table->quantized, traits & CPU_PREFERS_L2_PREFETCH);
#endif
#if defined(TROL_HAVE_AVX512BF16)
    if ((traits & CPU_HAS_AVX512_BF16) && (traits & CPU_HAS_FAST_BF16)) {
        linear_fill_avx512bf16(&table->linear);
        attention_fill_avx512bf16(&table->attention);
    }
#endif
#if defined(TROL_HAVE_AMX)
    if (traits & CPU_HAS_AMX) {
        linear_fill_amx(&table->linear);
        quantized_fill_amx(&table->quantized);
    }
#endif
    table->attention.prefetch_l2 = traits & CPU_PREFERS_L2_PREFETCH;
}

/* [1]: where float32 prompt rows are multiplied by OpenBLAS. */
static kernels tables[CPU_LEVELS][2];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* Levels that this CPU lacks stay empty: even the code that fills their entries is compiled with their instructions. */
static void fill_tables(void) {
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++)
        for (int blas = 0; cpu_has_level(level) && blas < 2; blas++) {
            kernels_fill(&tables[level][blas], level, cpu_traits_at(level));
            tables[level][blas].linear.blas = blas;
        }
}

const kernels *kernels_at(cpu_level level) {
    pthread_once(&tables_once, fill_tables);
    return &tables[level][!(cpu_traits_at(level) & CPU_HAS_AVX2)];
}

static trol_status find_level(cpu_level *level, trol_error *error) {
    const char *forced = getenv("TROL_CPU");
    *level = cpu_best_level();
    if (!forced || !*forced)
        return TROL_OK;
    for (*level = CPU_SCALAR; *level < CPU_LEVELS; (*level)++)
        if (strcmp(forced, cpu_level_name(*level)) == 0)
            return cpu_has_level(*level) ? TROL_OK
                                         : fail(error, TROL_ERROR_UNSUPPORTED,
                                                "TROL_CPU asks for %s, which this CPU does not have", forced);
    return fail(error, TROL_ERROR_ARGUMENT,
                "TROL_CPU is %s, expected scalar, avx2, avxvnni, avx512, avx512vnni, avx512bf16 or amx", forced);
}

trol_status kernels_get(const kernels **table, trol_error *error) {
    cpu_level level;
    TRY(find_level(&level, error));
    *table = kernels_at(level);
    const char *blas = getenv("TROL_BLAS");
    if (!blas || !*blas)
        return TROL_OK;
    if (strcmp(blas, "none") != 0 && strcmp(blas, "openblas") != 0)
        return fail(error, TROL_ERROR_ARGUMENT, "TROL_BLAS is %s, expected openblas or none", blas);
    *table = &tables[level][strcmp(blas, "openblas") == 0];
    if ((*table)->linear.blas && !blas_open())
        return fail(error, TROL_ERROR_UNSUPPORTED, "TROL_BLAS asks for openblas: %s", blas_description());
    return TROL_OK;
}
