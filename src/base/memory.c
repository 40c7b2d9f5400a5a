#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

trol_status memory_alloc(size_t count, size_t size, const char *what, void **memory, trol_error *error) {
    size_t bytes;
    *memory = NULL;
    if (!multiply_size(count, size, &bytes) || bytes > SIZE_MAX / 2 - ALIGNMENT)
        return fail(error, TROL_ERROR_MEMORY,
                    "out of memory: %zu elements of %zu bytes for %s do not fit the address space", count, size, what);
    if (bytes == 0)
        return TROL_OK;
    *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    return *memory ? TROL_OK : fail_memory(error, bytes, what);
}

trol_status memory_alloc_zero(size_t count, size_t size, const char *what, void **memory, trol_error *error) {
    TRY(memory_alloc(count, size, what, memory, error));
    if (*memory)
        memset(*memory, 0, count * size);
    return TROL_OK;
}

trol_status memory_grow(void **array, size_t *capacity, size_t count, size_t size, const char *what,
                        trol_error *error) {
    if (count <= *capacity)
        return TROL_OK;
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    while (wanted < count && wanted <= SIZE_MAX / 2)
        wanted *= 2;
    size_t bytes;
    if (wanted < count || !multiply_size(wanted, size, &bytes))
        return fail_memory(error, SIZE_MAX, what);
    void *larger = realloc(*array, bytes);
    if (!larger)
        return fail_memory(error, bytes, what);
    *array = larger;
    *capacity = wanted;
    return TROL_OK;
}

trol_status memory_copy_text(const char *text, size_t n_bytes, char **copy, trol_error *error) {
    *copy = malloc(n_bytes + 1);
    if (!*copy)
        return fail_memory(error, n_bytes + 1, "a text");
    if (n_bytes)
        memcpy(*copy, text, n_bytes);
    (*copy)[n_bytes] = '\0';
    return TROL_OK;
}

void memory_free(void *memory) { free(memory); }

/* The workspace is a list of slabs that together form one address range of "offsets": slab i covers the offsets from
 * its `start` up to start + capacity; an allocation is within one slab. */
typedef struct slab {
    unsigned char *bytes;
    size_t start, capacity;
} slab;

enum { MAX_SLABS = 64, FIRST_SLAB_BYTES = 1 << 20 };

struct workspace {
    slab slabs[MAX_SLABS];
    int n_slabs;
    size_t used, peak;
};

trol_status workspace_new(workspace **result, trol_error *error) {
    *result = calloc(1, sizeof **result);
    return *result ? TROL_OK : fail_memory(error, sizeof **result, "a workspace");
}

void workspace_free(workspace *space) {
    if (!space)
        return;
    for (int i = 0; i < space->n_slabs; i++)
        free(space->slabs[i].bytes);
    free(space);
}

trol_status workspace_alloc(workspace *space, size_t count, size_t size, void **memory, trol_error *error) {
    size_t bytes;
    *memory = NULL;
    if (!multiply_size(count, size, &bytes) || bytes > SIZE_MAX / 4)
        return fail_memory(error, SIZE_MAX, "scratch memory");
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (int i = 0; i < space->n_slabs; i++) {
        slab *s = &space->slabs[i];
        size_t begin = space->used > s->start ? space->used : s->start;
        if (begin <= s->start + s->capacity && s->start + s->capacity - begin >= bytes) {
            *memory = s->bytes + (begin - s->start);
            space->used = begin + bytes;
            if (space->used > space->peak)
                space->peak = space->used;
            return TROL_OK;
        }
    }
    /* None has room. Slabs at the end that hold nothing make way for a larger one, or requests that grow a little each
     * time would leave a trail of them. */
    while (space->n_slabs > 0 && space->slabs[space->n_slabs - 1].start >= space->used)
        free(space->slabs[--space->n_slabs].bytes);
    size_t start =
        space->n_slabs ? space->slabs[space->n_slabs - 1].start + space->slabs[space->n_slabs - 1].capacity : 0;
    size_t capacity = start > FIRST_SLAB_BYTES ? start : FIRST_SLAB_BYTES;
    if (capacity > (size_t)64 << 20)
        capacity = (size_t)64 << 20;
    if (capacity < bytes)
        capacity = bytes;
    if (space->n_slabs == MAX_SLABS)
        return fail_memory(error, bytes, "scratch memory");
    unsigned char *fresh = aligned_alloc(ALIGNMENT, capacity);
    if (!fresh)
        return fail_memory(error, capacity, "scratch memory");
    space->slabs[space->n_slabs++] = (slab){fresh, start, capacity};
    return workspace_alloc(space, count, size, memory, error);
}

size_t workspace_mark(const workspace *space) { return space->used; }

void workspace_release(workspace *space, size_t mark) { space->used = mark; }

size_t workspace_peak(const workspace *space) { return space->peak; }

void workspace_reset_peak(workspace *space) { space->peak = space->used; }

void workspace_trim(workspace *space, size_t keep) {
    while (space->n_slabs > 0) {
        const slab *last = &space->slabs[space->n_slabs - 1];
        if (last->start < space->used || last->start + last->capacity <= keep)
            break;
        free(last->bytes);
        space->n_slabs--;
    }
}
