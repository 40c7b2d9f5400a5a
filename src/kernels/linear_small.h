/* linear_small.h - answer rows, at most LINEAR_SMALL_BATCH of them: dot products with the weights in place. */
#ifndef KERNELS_LINEAR_SMALL_H
#define KERNELS_LINEAR_SMALL_H

#include "kernels/linear.h"

/* All rows of the input are such rows. What is taken from the workspace stays there. */
trol_status linear_apply_small(const run *r, const activations *input, const product *products, int64_t n_products);

#endif
