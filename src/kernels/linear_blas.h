/* linear_blas.h - OpenBLAS for float32 products of prompt rows where no kernel of ours exists: other architectures, and
 * x86 without AVX2. It is opened by its name on first use, so that a process that does not multiply with it neither
 * loads it nor starts its threads. */
#ifndef KERNELS_LINEAR_BLAS_H
#define KERNELS_LINEAR_BLAS_H

#include <stdbool.h>
#include <stdint.h>

/* Opens the library on the first call. False: it is not there or not usable, and blas_description says why. */
bool blas_open(void);

/* After blas_open: the library and its configuration, or why it is not used. Static storage. */
const char *blas_description(void);

/* sums [n_rows, n_outputs], row-major with stride sums_stride, (+)= x [n_rows, n_columns] times weights [n_outputs,
 * n_columns]. Only after blas_open returned true. */
void blas_multiply(const float *x, int64_t x_stride, int64_t n_rows, const float *weights, int64_t n_outputs,
                   int64_t n_columns, float *sums, int64_t sums_stride, bool add);

#endif
