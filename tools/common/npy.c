#include "common/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "common/output_file.h"

/* The header always has this many bytes, whatever the shape, so that the number of rows can be filled in at the end.
 */
enum { HEADER_BYTES = 192, PREFIX_BYTES = 10 };

struct npy_file {
    output_file out;
    int64_t row_shape[NPY_MAX_DIMS], row_values, n_rows;
    int n_row_dims;
};

/* Magic, version 1.0, header length, then a line with a Python dict, padded with spaces.
 * Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
static bool write_header(const npy_file *file) {
    char text[HEADER_BYTES + 1], shape[NPY_MAX_DIMS * 21 + 24];
    int used = snprintf(shape, sizeof shape, "%" PRId64 ",", file->n_rows);
    for (int i = 0; i < file->n_row_dims; i++)
        used += snprintf(shape + used, sizeof shape - (size_t)used, " %" PRId64 ",", file->row_shape[i]);
    const uint16_t one = 1;
    const char order = *(const unsigned char *)&one ? '<' : '>';
    memcpy(text, "\x93NUMPY\x01\x00", 8);
    text[8] = (char)(HEADER_BYTES - PREFIX_BYTES);
    text[9] = 0;
    used = snprintf(text + PREFIX_BYTES, sizeof text - PREFIX_BYTES,
                    "{'descr': '%cf4', 'fortran_order': False, 'shape': (%s), }", order, shape);
    memset(text + PREFIX_BYTES + used, ' ', (size_t)(HEADER_BYTES - PREFIX_BYTES - used));
    text[HEADER_BYTES - 1] = '\n';
    return fwrite(text, 1, HEADER_BYTES, file->out.stream) == HEADER_BYTES;
}

trol_status npy_open(const char *path, const int64_t *row_shape, int n_row_dims, npy_file **result, trol_error *error) {
    *result = NULL;
    if (n_row_dims < 0 || n_row_dims > NPY_MAX_DIMS)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: an array of %d dimensions, expected at most %d", path,
                    n_row_dims + 1, NPY_MAX_DIMS + 1);
    npy_file *file = calloc(1, sizeof *file);
    if (!file)
        return fail(error, TROL_ERROR_MEMORY, "out of memory");
    file->n_row_dims = n_row_dims;
    file->row_values = 1;
    for (int i = 0; i < n_row_dims; i++) {
        file->row_shape[i] = row_shape[i];
        file->row_values *= row_shape[i];
    }
    trol_status status = output_file_open(path, &file->out, error);
    if (status != TROL_OK) {
        free(file);
        return status;
    }
    if (!write_header(file)) {
        status = output_file_failed(&file->out, error);
        (void)npy_close(file, false, NULL);
        return status;
    }
    *result = file;
    return TROL_OK;
}

trol_status npy_append(npy_file *file, const float *values, int64_t n_rows, trol_error *error) {
    size_t n_values = (size_t)(n_rows * file->row_values);
    if (fwrite(values, sizeof *values, n_values, file->out.stream) != n_values)
        return output_file_failed(&file->out, error);
    file->n_rows += n_rows;
    return TROL_OK;
}

trol_status npy_close(npy_file *file, bool keep, trol_error *error) {
    trol_status status = TROL_OK;
    if (!file)
        return TROL_OK;
    if (keep && (fseek(file->out.stream, 0, SEEK_SET) != 0 || !write_header(file)))
        status = output_file_failed(&file->out, error);
    trol_status closed = output_file_close(&file->out, keep && status == TROL_OK, error);
    free(file);
    return status == TROL_OK ? closed : status;
}

trol_status npy_write(const char *path, const float *values, const int64_t *shape, int n_dims, trol_error *error) {
    npy_file *file;
    trol_status status = npy_open(path, shape + 1, n_dims - 1, &file, error);
    if (status != TROL_OK)
        return status;
    status = npy_append(file, values, shape[0], error);
    if (status != TROL_OK) {
        (void)npy_close(file, false, NULL);
        return status;
    }
    return npy_close(file, true, error);
}
