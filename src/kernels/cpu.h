/* cpu.h - what this CPU has, as flags: instruction sets for which this build has kernels, and traits that decide
 * between kernels where the newer one is not always the faster. Under everything else in src/kernels.
 *
 * A level is a set of instruction sets under one name, to force by the environment variable TROL_CPU. Nothing is
 * decided by timing: what changes bits must be the same in every run on a machine. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include <stdbool.h>

enum {
    CPU_HAS_AVX2 = 1 << 0,        /* with FMA and F16C */
    CPU_HAS_AVX_VNNI = 1 << 1,    /* vpdpbusd in 256 bits */
    CPU_HAS_AVX512 = 1 << 2,      /* F, BW, DQ, VL */
    CPU_HAS_AVX512_VNNI = 1 << 3, /* vpdpbusd in 512 bits */
    CPU_HAS_AVX512_BF16 = 1 << 4, /* vdpbf16ps */
    CPU_HAS_AMX = 1 << 5,         /* tiles, BF16 and INT8, which the system lets this process use */

    /* Streams are read faster with prefetch instructions for L2 than for L1, whose few fill buffers those would
     * occupy. */
    CPU_PREFERS_L2_PREFETCH = 1 << 8,
    /* vdpbf16ps multiplies more numbers a second than float32 FMA does. */
    CPU_HAS_FAST_BF16 = 1 << 9
};

/* "scalar" ... "amx", in the order in which a CPU that has several prefers them. */
typedef enum cpu_level {
    CPU_SCALAR,     /* plain C */
    CPU_AVX2,       /* AVX2, FMA, F16C */
    CPU_AVXVNNI,    /* and 256-bit VNNI */
    CPU_AVX512,     /* AVX2 and AVX-512 */
    CPU_AVX512VNNI, /* and VNNI */
    CPU_AVX512BF16, /* and BF16 */
    CPU_AMX,        /* and tiles */
    CPU_LEVELS
} cpu_level;

/* "avx512" and so on. */
const char *cpu_level_name(cpu_level level);
/* Whether this CPU, its operating system and this build can run a level. */
bool cpu_has_level(cpu_level level);
/* The best level of this CPU. */
cpu_level cpu_best_level(void);
/* The flags of this CPU at a level: no instruction set above it, and all other traits. */
unsigned cpu_traits_at(cpu_level level);

#endif
