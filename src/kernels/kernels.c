#define _GNU_SOURCE /* syscall */
#include "kernels/kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const level_names[CPU_LEVELS] = {"scalar",     "avx2",       "avxvnni", "avx512",
                                                    "avx512vnni", "avx512bf16", "amx"};

const char *cpu_level_name(cpu_level level) { return level < CPU_LEVELS ? level_names[level] : "unknown"; }

const char *element_name(element_type type) {
    static const char *const names[] = {"f32", "f16", "bf16", "q8", "q4", "other"};
    return names[type];
}

#if defined(__x86_64__)

/* Linux hands out the tile registers on request only (Documentation/arch/x86/xstate.rst). */
static bool request_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

#if defined(TROL_EMULATE)
/* The kernels above AVX2 are compiled against tests/emulate/immintrin.h: any CPU with AVX2 runs them. */
bool cpu_has_level(cpu_level level) { return level < CPU_LEVELS; }
#else
bool cpu_has_level(cpu_level level) {
    unsigned a, b, c, d, leaf1c = 0, leaf7_1a = 0, leaf7_0d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d))
        leaf1c = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        leaf7_0d = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
            leaf7_1a = a;
    }
    switch (level) {
    case CPU_SCALAR:
        return true;
    case CPU_AVX2: /* leaf 1 ecx: bit 29 F16C, for which clang 14 has no name */
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (leaf1c >> 29 & 1);
    case CPU_AVXVNNI:
        return cpu_has_level(CPU_AVX2) && (leaf7_1a >> 4 & 1);
    case CPU_AVX512:
        return cpu_has_level(CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case CPU_AVX512VNNI:
        return cpu_has_level(CPU_AVX512) && __builtin_cpu_supports("avx512vnni");
    case CPU_AVX512BF16:
        return cpu_has_level(CPU_AVX512VNNI) && (leaf7_1a >> 5 & 1);
    case CPU_AMX: /* leaf 7 edx: bit 22 AMX-BF16, 24 AMX-TILE, 25 AMX-INT8 */
        return cpu_has_level(CPU_AVX512BF16) && (leaf7_0d >> 22 & 1) && (leaf7_0d >> 24 & 3) == 3 && request_tiles();
    case CPU_LEVELS:
        break;
    }
    return false;
}
#endif

bool cpu_prefetches_to_second_level(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

#else

bool cpu_has_level(cpu_level level) { return level == CPU_SCALAR; }
bool cpu_prefetches_to_second_level(void) { return false; }

#endif

cpu_level cpu_best_level(void) {
    cpu_level best = CPU_SCALAR;
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++)
        if (cpu_has_level(level))
            best = level;
    return best;
}

static kernels tables[CPU_LEVELS];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* Levels that this CPU lacks stay empty: even the code that fills their entries is compiled with their instructions. */
static void fill_tables(void) {
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++) {
        if (!cpu_has_level(level))
            continue;
        kernels *table = &tables[level];
        table->level = level;
        linear_kernels_fill(&table->linear, level);
        attention_kernels_fill(&table->attention, level);
        ops_kernels_fill(&table->ops, level);
        quantized_kernels_fill(&table->quantized, level);
    }
}

const kernels *kernels_at(cpu_level level) {
    pthread_once(&tables_once, fill_tables);
    return &tables[level];
}

trol_status kernels_get(const kernels **table, trol_error *error) {
    const char *forced = getenv("TROL_CPU");
    if (!forced || !*forced) {
        *table = kernels_at(cpu_best_level());
        return TROL_OK;
    }
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++)
        if (strcmp(forced, level_names[level]) == 0) {
            if (!cpu_has_level(level))
                return fail(error, TROL_ERROR_UNSUPPORTED, "TROL_CPU asks for %s, which this CPU does not have",
                            forced);
            *table = kernels_at(level);
            return TROL_OK;
        }
    return fail(error, TROL_ERROR_ARGUMENT,
                "TROL_CPU is %s, expected scalar, avx2, avxvnni, avx512, avx512vnni, avx512bf16 or amx", forced);
}
