/* kernels.h - the table of inner loops, chosen once for the CPU.
 *
 * Each area (linear, attention, kv_codec, ops, quantized) has a struct of function pointers and block sizes in its own
 * *_kernels.h, a plain C version of every entry in *_scalar.c, and one file for each instruction set that improves on
 * some of them (*_avx2.c, *_avx512.c, ...), compiled with its own flags. Everything is tested against plain C.
 *
 * Environment variables for tests: TROL_CPU forces a level by name (it is an error to name one that the CPU lacks);
 * TROL_BLAS=openblas multiplies float32 prompt rows by OpenBLAS at every level, TROL_BLAS=none at none. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "base/error.h"
#include "kernels/attention_kernels.h"
#include "kernels/cpu.h"
#include "kernels/kv_codec.h"
#include "kernels/linear_kernels.h"
#include "kernels/ops_kernels.h"
#include "kernels/quantized_kernels.h"
#include "kernels/types.h"

typedef struct kernels {
    cpu_level level;
    unsigned traits; /* of cpu.h: what the entries were chosen by */
    linear_kernels linear;
    attention_kernels attention;
    kv_codec kv[KV_TYPES];
    ops_kernels ops;
    quantized_kernels quantized;
} kernels;

/* The table for some flags, which this CPU must have as far as they are instruction sets. Tests and benchmarks give
 * other traits than the CPU's, to run both kernels of a choice. */
void kernels_fill(kernels *table, cpu_level level, unsigned traits);
/* The table of a level that cpu_has_level. It stays valid. */
const kernels *kernels_at(cpu_level level);
/* The table for this CPU, or the one that the environment asks for. */
trol_status kernels_get(const kernels **table, trol_error *error);

#endif
