/* params.h - what public calls have in common: out-pointers, and structs that carry their size, so that callers
 * compiled against another version keep working. */
#ifndef ENGINE_PARAMS_H
#define ENGINE_PARAMS_H

#include "base/error.h"

/* Copies the caller's struct (its first member is a size_t size; NULL: nothing happens) over `params`, which holds the
 * defaults: as many bytes as both know. */
trol_status params_copy(void *params, size_t bytes, const void *callers, const char *name, trol_error *error);

/* The other way: `full` into the caller's struct, whose size member says how much of it there is and stays. */
trol_status params_copy_out(void *callers, const void *full, size_t bytes, const char *name, trol_error *error);

/* Leaves the function with an error if the out-pointer is NULL; otherwise its target becomes NULL. */
#define TRY_OUT(out, call, error)                                                                                      \
    do {                                                                                                               \
        if (!(out))                                                                                                    \
            return fail(error, TROL_ERROR_ARGUMENT, "%s: the out-pointer is NULL", call);                              \
        *(out) = NULL;                                                                                                 \
    } while (0)

#endif
