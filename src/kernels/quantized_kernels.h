/* quantized_kernels.h - the inner loops of quantized: what kernels.h puts in its table. */
#ifndef KERNELS_QUANTIZED_KERNELS_H
#define KERNELS_QUANTIZED_KERNELS_H

#include <stdint.h>

#include "kernels/types.h"

typedef struct quantized_kernels {
    int level;
} quantized_kernels;

/* Fills in the best version of each entry for a level (a cpu_level of kernels.h). */
void quantized_kernels_fill(quantized_kernels *table, int level);

#endif
