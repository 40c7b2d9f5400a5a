/* attention_kernels.h - the inner loops of attention: what kernels.h puts in its table. */
#ifndef KERNELS_ATTENTION_KERNELS_H
#define KERNELS_ATTENTION_KERNELS_H

#include <stdint.h>

#include "kernels/types.h"

typedef struct attention_kernels {
    int level;
} attention_kernels;

/* Fills in the best version of each entry for a level (a cpu_level of kernels.h). */
void attention_kernels_fill(attention_kernels *table, int level);

#endif
