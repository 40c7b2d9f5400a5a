/* types.h - element types of stored numbers, shared by kernels and formats. */
#ifndef KERNELS_TYPES_H
#define KERNELS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum element_type {
    ELEMENT_F32,
    ELEMENT_F16,
    ELEMENT_BF16,
    ELEMENT_Q8, /* packed blocks, see kernels/quantize.h */
    ELEMENT_Q4,
    ELEMENT_OTHER /* may occur in a file, but is not used */
} element_type;

static inline bool element_is_packed(element_type type) { return type == ELEMENT_Q8 || type == ELEMENT_Q4; }

/* Bytes of one element; 0 for the packed types, whose size depends on the shape. */
static inline size_t element_bytes(element_type type) {
    return type == ELEMENT_F32 ? 4 : type == ELEMENT_F16 || type == ELEMENT_BF16 ? 2 : 0;
}

/* "f32", "f16", "bf16", "q8", "q4". Static storage. */
const char *element_name(element_type type);

#endif
