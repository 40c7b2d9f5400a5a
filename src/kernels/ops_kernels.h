/* ops_kernels.h - the inner loops of ops: what kernels.h puts in its table. */
#ifndef KERNELS_OPS_KERNELS_H
#define KERNELS_OPS_KERNELS_H

#include <stdint.h>

#include "kernels/types.h"

typedef struct ops_kernels {
    int level;
} ops_kernels;

/* Fills in the best version of each entry for a level (a cpu_level of kernels.h). */
void ops_kernels_fill(ops_kernels *table, int level);

#endif
