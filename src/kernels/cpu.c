#define _GNU_SOURCE /* syscall */
#include "kernels/cpu.h"

#include <pthread.h>
#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* The instruction sets of each level. */
enum {
    AVX512_SETS = CPU_HAS_AVX2 | CPU_HAS_AVX512,
    AVX512VNNI_SETS = AVX512_SETS | CPU_HAS_AVX512_VNNI,
    AVX512BF16_SETS = AVX512VNNI_SETS | CPU_HAS_AVX512_BF16,
    ALL_SETS = AVX512BF16_SETS | CPU_HAS_AVX_VNNI | CPU_HAS_AMX
};

static const struct {
    const char *name;
    unsigned sets;
} levels[CPU_LEVELS] = {{"scalar", 0},
                        {"avx2", CPU_HAS_AVX2},
                        {"avxvnni", CPU_HAS_AVX2 | CPU_HAS_AVX_VNNI},
                        {"avx512", AVX512_SETS},
                        {"avx512vnni", AVX512VNNI_SETS},
                        {"avx512bf16", AVX512BF16_SETS},
                        {"amx", AVX512BF16_SETS | CPU_HAS_AMX}};

const char *cpu_level_name(cpu_level level) { return level < CPU_LEVELS ? levels[level].name : "unknown"; }

/* What the compiler could build (CMakeLists.txt asks it). */
static const unsigned built_sets = 0
#if defined(TROL_HAVE_AVX2)
                                   | CPU_HAS_AVX2
#endif
#if defined(TROL_HAVE_AVXVNNI)
                                   | CPU_HAS_AVX_VNNI
#endif
#if defined(TROL_HAVE_AVX512)
                                   | CPU_HAS_AVX512
#endif
#if defined(TROL_HAVE_AVX512VNNI)
                                   | CPU_HAS_AVX512_VNNI
#endif
#if defined(TROL_HAVE_AVX512BF16)
                                   | CPU_HAS_AVX512_BF16
#endif
#if defined(TROL_HAVE_AMX)
                                   | CPU_HAS_AMX
#endif
    ;

#if defined(__x86_64__)

#if defined(TROL_EMULATE)
/* The kernels above AVX2 are compiled against tests/emulate/immintrin.h: any CPU with AVX2 runs them. */
static unsigned detect_sets(void) { return ALL_SETS; }
#else
/* Linux enables the tile registers on request only (Documentation/arch/x86/xstate.rst). */
static bool request_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Bits of cpuid for which clang 14 has no name: leaf 1 ecx 29 F16C; leaf 7.1 eax 4 AVX-VNNI, 5 AVX512-BF16; leaf 7.0
 * edx 22 AMX-BF16, 24 AMX-TILE, 25 AMX-INT8. The compiler's own function answers the others, and checks the system
 * too. */
static unsigned detect_sets(void) {
    unsigned a, b, c, d, leaf1c = 0, leaf7_1a = 0, leaf7_0d = 0, sets = 0;
    if (__get_cpuid(1, &a, &b, &c, &d))
        leaf1c = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        leaf7_0d = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
            leaf7_1a = a;
    }
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !(leaf1c >> 29 & 1))
        return 0;
    sets |= CPU_HAS_AVX2;
    if (leaf7_1a >> 4 & 1)
        sets |= CPU_HAS_AVX_VNNI;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return sets;
    sets |= CPU_HAS_AVX512;
    if (__builtin_cpu_supports("avx512vnni"))
        sets |= CPU_HAS_AVX512_VNNI;
    if (leaf7_1a >> 5 & 1)
        sets |= CPU_HAS_AVX512_BF16;
    if ((leaf7_0d >> 22 & 1) && (leaf7_0d >> 24 & 3) == 3 && request_tiles())
        sets |= CPU_HAS_AMX;
    return sets;
}
#endif

typedef struct cpu_model {
    unsigned vendor; /* ebx of leaf 0 */
    unsigned family, model;
} cpu_model;

static cpu_model detect_model(void) {
    unsigned a, b, c, d;
    cpu_model m = {0};
    if (__get_cpuid(0, &a, &b, &c, &d))
        m.vendor = b;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return m;
    m.family = (a >> 8 & 15) + ((a >> 8 & 15) == 15 ? a >> 20 & 255 : 0);
    m.model = (a >> 4 & 15) | (a >> 16 & 15) << 4;
    return m;
}

/* What was measured, or is documented, of CPUs that have vdpbf16ps; of others nothing is known, and float32 is taken.
 * bench-kernels measures both and warns where a row is wrong. */
static const struct {
    unsigned vendor, family, first_model, last_model;
    bool fast_bf16;
} known_models[] = {
    {signature_AMD_ebx, 25, 0, 255, true},      /* Zen 4: twice float32 */
    {signature_AMD_ebx, 26, 0, 255, true},      /* Zen 5: the same */
    {signature_INTEL_ebx, 6, 143, 143, false},  /* Sapphire Rapids: half of float32, as its BF16 unit is AMX */
    {signature_INTEL_ebx, 6, 207, 207, false}}; /* Emerald Rapids: the same */

static unsigned detect_traits(void) {
    unsigned traits = detect_sets() & built_sets;
    cpu_model m = detect_model();
    if (m.vendor == signature_AMD_ebx) /* measured on Zen 4 */
        traits |= CPU_PREFERS_L2_PREFETCH;
    for (size_t i = 0; i < sizeof known_models / sizeof known_models[0]; i++)
        if (known_models[i].vendor == m.vendor && known_models[i].family == m.family &&
            known_models[i].first_model <= m.model && m.model <= known_models[i].last_model &&
            known_models[i].fast_bf16)
            traits |= CPU_HAS_FAST_BF16;
    return traits;
}

#else

static unsigned detect_traits(void) { return 0 & built_sets; }

#endif

static unsigned detected;
static pthread_once_t detected_once = PTHREAD_ONCE_INIT;

static void detect(void) { detected = detect_traits(); }

unsigned cpu_traits_at(cpu_level level) {
    pthread_once(&detected_once, detect);
    return detected & (levels[level].sets | ~(unsigned)ALL_SETS);
}

bool cpu_has_level(cpu_level level) { return (cpu_traits_at(level) & levels[level].sets) == levels[level].sets; }

cpu_level cpu_best_level(void) {
    cpu_level best = CPU_SCALAR;
    for (cpu_level level = CPU_SCALAR; level < CPU_LEVELS; level++)
        if (cpu_has_level(level))
            best = level;
    return best;
}
