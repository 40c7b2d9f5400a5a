/* safetensors.h - the tensors of a checkpoint folder, mapped into memory: model.safetensors, or the shards that
 * model.safetensors.index.json names. Format: 8 bytes header length, a JSON header, then the data.
 *
 * Only the headers are read; every offset, length and shape is checked before it is used. */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "kernels/types.h"

enum { TENSOR_MAX_DIMS = 8 };

typedef struct tensor {
    const char *name;
    const char *file;       /* the file's name without its folder, for messages */
    const char *dtype_name; /* as in the file: "F16" */
    element_type type;      /* ELEMENT_OTHER for dtypes that no layer can use (U8, I64, ...) */
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    const void *data; /* may be unaligned */
    size_t n_bytes;
} tensor;

typedef struct tensor_source tensor_source;

/* The checkpoint in a folder. Its index and its shards must agree on which tensor is where. */
trol_status tensor_source_open(const char *folder, const logger *log, tensor_source **source, trol_error *error);
/* One safetensors file of any name. */
trol_status tensor_source_open_file(const char *path, const logger *log, tensor_source **source, trol_error *error);
/* An empty source to which the caller, who keeps the data, adds tensors: for synthetic weights and tests. Names are
 * copied. A name that is already there is an error. */
trol_status tensor_source_new(tensor_source **source, trol_error *error);
trol_status tensor_source_add(tensor_source *source, const tensor *added, trol_error *error);
void tensor_source_close(tensor_source *source);

size_t tensor_source_count(const tensor_source *source);
/* Sorted by name. Tensors stay in place until the source is closed. */
const tensor *tensor_source_at(const tensor_source *source, size_t index);
/* The index of the tensor of that name, which must exist. */
size_t tensor_source_index(const tensor_source *source, const char *name);
/* NULL if there is none of that name. */
const tensor *tensor_source_find(const tensor_source *source, const char *name);
/* A string of the files' __metadata__; NULL if there is none. */
const char *tensor_source_metadata(const tensor_source *source, const char *key);

/* The place of the first number that is infinite or not a number, of an F32, F16 or BF16 tensor; -1 if there is none.
 * Reads the whole tensor. */
int64_t tensor_find_not_finite(const tensor *t);

/* The file to name where a tensor is missing: model.safetensors, or the index of a checkpoint in shards. */
const char *tensor_source_file(const tensor_source *source);

/* "[64, 60]" into text. Returns text. */
const char *tensor_shape_text(const int64_t *shape, int n_dims, char *text, size_t bytes);

#endif
