/* torch_pickle.h - tensors of a PyTorch file (zip with a pickle and raw storages), read without executing anything:
 * only the opcodes and globals that torch.save emits for a state dict are supported, others are refused by name. */
#ifndef FORMAT_TORCH_PICKLE_H
#define FORMAT_TORCH_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct torch_tensor {
    char *name; /* "0.weight" */
    int n_dims;
    int64_t shape[8];
    size_t n_values;
    float *values; /* contiguous, converted; NULL if there are none. Tensors at the same place of the same storage share
                    * one array */
} torch_tensor;

typedef struct torch_file torch_file;

/* Reads a file of at most 32 MB. Errors name it, and the opcode or global that was refused. */
trol_status torch_file_read(const char *path, torch_file **file, trol_error *error);
/* The same from memory, which is not needed afterwards; messages name `path`. */
trol_status torch_file_parse(const void *bytes, size_t n_bytes, const char *path, torch_file **file, trol_error *error);
/* NULL if there is none of that name. */
const torch_tensor *torch_file_find(const torch_file *file, const char *name);
size_t torch_file_count(const torch_file *file);
/* In the order of the file's dict. */
const torch_tensor *torch_file_at(const torch_file *file, size_t index);
void torch_file_free(torch_file *file);

#endif
