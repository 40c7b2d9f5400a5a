#include "engine/params.h"

#include <string.h>

enum { MAX_STRUCT_BYTES = 1 << 16 };

static trol_status read_size(const void *callers, const char *name, size_t *size, trol_error *error) {
    memcpy(size, callers, sizeof *size);
    if (*size < sizeof *size || *size > MAX_STRUCT_BYTES)
        return fail(error, TROL_ERROR_ARGUMENT, "%s.size is %zu, expected the size of the struct", name, *size);
    return TROL_OK;
}

trol_status params_copy(void *params, size_t bytes, const void *callers, const char *name, trol_error *error) {
    size_t size;
    if (!callers)
        return TROL_OK;
    TRY(read_size(callers, name, &size, error));
    memcpy(params, callers, size < bytes ? size : bytes);
    memcpy(params, &bytes, sizeof bytes);
    return TROL_OK;
}

trol_status params_copy_out(void *callers, const void *full, size_t bytes, const char *name, trol_error *error) {
    size_t size;
    TRY(read_size(callers, name, &size, error));
    memcpy(callers, full, size < bytes ? size : bytes);
    memcpy(callers, &size, sizeof size);
    return TROL_OK;
}
