/* npy.h - writes float32 arrays as NumPy's .npy files, row by row; the file appears under its name only when it is
 * complete. */
#ifndef TOOLS_NPY_H
#define TOOLS_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trol.h"

typedef struct npy_file npy_file;

enum { NPY_MAX_DIMS = 6 };

/* An array [n_rows, row_shape ...]; the number of rows is that of all npy_append calls. n_row_dims 0: rows are single
 * values.
 */
trol_status npy_open(const char *path, const int64_t *row_shape, int n_row_dims, npy_file **file, trol_error *error);
/* values [n_rows, row_shape ...]. */
trol_status npy_append(npy_file *file, const float *values, int64_t n_rows, trol_error *error);
/* Frees the file in any case. keep: completes it and gives it its name; else, or on failure, it is removed. */
trol_status npy_close(npy_file *file, bool keep, trol_error *error);

/* A whole array at once. */
trol_status npy_write(const char *path, const float *values, const int64_t *shape, int n_dims, trol_error *error);

#endif
