/* linear_large.h - prompt rows, any number of them: tiles of a matrix product, or OpenBLAS. */
#ifndef KERNELS_LINEAR_LARGE_H
#define KERNELS_LINEAR_LARGE_H

#include "kernels/linear.h"

/* All rows of the input are such rows. What is taken from the workspace stays there. */
trol_status linear_apply_large(const run *r, linear_arithmetic arithmetic, const activations *input,
                               const product *products, int64_t n_products);

#endif
