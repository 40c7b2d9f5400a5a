/* kernels.h - the table of inner loops, chosen once for the CPU.
 *
 * Each area (linear, attention, ops, quantized) has a struct of function pointers and block sizes in its own
 * *_kernels.h, a plain C version of every entry in *_scalar.c, and one file for each instruction set that improves on
 * some of them (*_avx2.c, *_avx512.c, ...), compiled with its own flags. Everything is tested against plain C.
 * The environment variable TROL_CPU forces a level by name, for tests: it is an error to name one that the CPU lacks.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/attention_kernels.h"
#include "kernels/linear_kernels.h"
#include "kernels/ops_kernels.h"
#include "kernels/quantized_kernels.h"
#include "kernels/types.h"

/* Instruction-set levels. Each includes the ones before it, but for CPU_AVXVNNI, which adds to CPU_AVX2 alone. */
typedef enum cpu_level {
    CPU_SCALAR,     /* "scalar": plain C */
    CPU_AVX2,       /* "avx2": AVX2, FMA, F16C */
    CPU_AVXVNNI,    /* "avxvnni": CPU_AVX2 with 256-bit vpdpbusd */
    CPU_AVX512,     /* "avx512": F, BW, DQ, VL */
    CPU_AVX512VNNI, /* "avx512vnni" */
    CPU_AVX512BF16, /* "avx512bf16" */
    CPU_AMX,        /* "amx": tiles, BF16 and INT8 */
    CPU_LEVELS
} cpu_level;

typedef struct kernels {
    cpu_level level;
    linear_kernels linear;
    attention_kernels attention;
    ops_kernels ops;
    quantized_kernels quantized;
} kernels;

/* "avx512" and so on. */
const char *cpu_level_name(cpu_level level);
/* Whether this CPU (and the operating system) can run a level. */
bool cpu_has_level(cpu_level level);
/* Whether streams come faster with prefetch instructions for the second-level cache than with those for the first,
 * which hold the few places for lines that are on their way there: AMD's (measured on Zen 4). */
bool cpu_prefetches_to_second_level(void);
/* The best level of this CPU. */
cpu_level cpu_best_level(void);

/* The table of a level that cpu_has_level. Valid for ever. */
const kernels *kernels_at(cpu_level level);
/* The table for this CPU, or of the level that TROL_CPU names. */
trol_status kernels_get(const kernels **table, trol_error *error);

#endif
