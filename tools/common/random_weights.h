/* random_weights.h - Gaussian tensors, reproducible from a seed and the tensor's name, and a safetensors file of them.
 */
#ifndef TOOLS_RANDOM_WEIGHTS_H
#define TOOLS_RANDOM_WEIGHTS_H

#include "common/checkpoint_writer.h"

typedef enum random_dtype { RANDOM_F16, RANDOM_BF16, RANDOM_F32 } random_dtype;

/* "F16", "BF16", "F32". */
const char *random_dtype_name(random_dtype type);
size_t random_dtype_bytes(random_dtype type);

typedef struct random_tensor {
    char name[112];
    int n_dims;
    int64_t shape[4];
    int64_t n_values;
    float mean, deviation;
} random_tensor;

typedef struct random_tensor_list {
    random_tensor *tensors;
    size_t count, capacity;
    bool failed; /* out of memory */
} random_tensor_list;

/* Dimensions from the first zero on do not exist. */
void random_tensor_add(random_tensor_list *list, float mean, double deviation, const int64_t shape[4],
                       const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Of all tensors. */
int64_t random_tensor_list_bytes(const random_tensor_list *list, random_dtype type);

/* Values in BF16, as little-endian bytes: out [2 * count]. */
void random_bf16(uint64_t seed, const char *name, float mean, double deviation, size_t count, unsigned char *out);

/* `done` of `total` bytes are written. */
typedef void (*random_progress)(int64_t done, int64_t total);

/* Writes model.safetensors, tensors sorted by name. progress may be NULL. */
bool random_weights_write(checkpoint_writer *writer, random_tensor_list *list, random_dtype type, uint64_t seed,
                          random_progress progress);

#endif
