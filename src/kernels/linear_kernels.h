/* linear_kernels.h - the inner loops of linear: what kernels.h puts in its table. */
#ifndef KERNELS_LINEAR_KERNELS_H
#define KERNELS_LINEAR_KERNELS_H

#include <stdint.h>

#include "kernels/types.h"

typedef struct linear_kernels {
    int level;
} linear_kernels;

/* Fills in the best version of each entry for a level (a cpu_level of kernels.h). */
void linear_kernels_fill(linear_kernels *table, int level);

#endif
