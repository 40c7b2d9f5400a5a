/* fuzz-safetensors.c - any bytes as a safetensors file; what is accepted is read from end to end. The first byte says
 * whether the rest is a whole file, or a header (up to a 0xff byte) followed by data; the length is added. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/safetensors.h"

static void write_all(int descriptor, const void *bytes, size_t n_bytes) {
    if (n_bytes && write(descriptor, bytes, n_bytes) != (ssize_t)n_bytes)
        abort();
}

/* What a source promises of its tensors. */
static void check_source(const tensor_source *source) {
    unsigned sum = 0;
    for (size_t i = 0; i < tensor_source_count(source); i++) {
        const tensor *t = tensor_source_at(source, i);
        char shape[64];
        if (tensor_source_find(source, t->name) != t || t->n_dims < 0 || t->n_dims > TENSOR_MAX_DIMS)
            abort();
        tensor_shape_text(t->shape, t->n_dims, shape, sizeof shape);
        size_t expected = element_bytes(t->type);
        for (int d = 0; d < t->n_dims; d++) {
            if (t->shape[d] < 0)
                abort();
            expected *= (size_t)t->shape[d];
        }
        if (t->type != ELEMENT_OTHER && expected != t->n_bytes)
            abort();
        for (size_t k = 0; k < t->n_bytes; k++)
            sum += ((const unsigned char *)t->data)[k];
    }
    tensor_source_metadata(source, sum % 2 ? "format" : "");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    if (n_bytes == 0)
        return 0;
    int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    if (descriptor < 0)
        abort();
    const uint8_t *end = bytes[0] % 2 ? memchr(bytes, 0xff, n_bytes) : NULL;
    if (end && end > bytes) {
        uint64_t length = (uint64_t)(end - bytes - 1);
        write_all(descriptor, &length, sizeof length);
        write_all(descriptor, bytes + 1, (size_t)length);
        write_all(descriptor, end + 1, n_bytes - 2 - (size_t)length);
    } else {
        write_all(descriptor, bytes + 1, n_bytes - 1);
    }
    char path[64];
    trol_error error = {0};
    tensor_source *source;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    if (tensor_source_open_file(path, NULL, &source, &error) == TROL_OK)
        check_source(source);
    else if (error.message[0] == '\0' || source)
        abort();
    tensor_source_close(source);
    close(descriptor);
    return 0;
}
