/* memory.h - checked, aligned allocation, and the workspace from which a computation takes its scratch memory. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* *product = a * b; false if that overflows. */
static inline bool multiply_size(size_t a, size_t b, size_t *product) { return !__builtin_mul_overflow(a, b, product); }

/* count * size bytes, aligned to 64, not zeroed; *memory is NULL on failure (and where count * size is 0). */
trol_status memory_alloc(size_t count, size_t size, const char *what, void **memory, trol_error *error);
/* The same, zeroed. */
trol_status memory_alloc_zero(size_t count, size_t size, const char *what, void **memory, trol_error *error);
/* Makes room for `count` elements in a growing array (realloc, capacity doubled); the array is unchanged on failure. */
trol_status memory_grow(void **array, size_t *capacity, size_t count, size_t size, const char *what, trol_error *error);
/* A copy of text[0 .. n_bytes-1] with a NUL after it. */
trol_status memory_copy_text(const char *text, size_t n_bytes, char **copy, trol_error *error);
/* For all of the above. Accepts NULL. */
void memory_free(void *memory);

/* Scratch memory that grows on demand and is kept from call to call. Allocations are released together, back to a mark
 * taken earlier, in stack order; pointers stay valid until then (it grows by adding slabs, never by moving). */
typedef struct workspace workspace;

trol_status workspace_new(workspace **result, trol_error *error);
void workspace_free(workspace *space);
/* Aligned to 64 bytes, not zeroed. */
trol_status workspace_alloc(workspace *space, size_t count, size_t size, void **memory, trol_error *error);
size_t workspace_mark(const workspace *space);
void workspace_release(workspace *space, size_t mark);
/* Largest number of bytes in use at once since it was made or its peak was reset to what is in use. */
size_t workspace_peak(const workspace *space);
void workspace_reset_peak(workspace *space);
/* Gives slabs that are not in use back to the system, as long as more than `keep` bytes are held. */
void workspace_trim(workspace *space, size_t keep);

#endif
