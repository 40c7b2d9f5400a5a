/* error.h - how failures travel: a status up the call chain, one sentence into the caller's trol_error. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "trol.h"

/* Writes the sentence (cut between characters, control characters and broken UTF-8 made printable) into *error, which
 * may be NULL. */
void fail_sentence(trol_error *error, trol_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* fail_sentence, then `status` for `return`: a macro, so that the compiler sees that it is not TROL_OK. */
#define fail(error, status, ...) (fail_sentence(error, status, __VA_ARGS__), (status))

/* fail() for an allocation of `bytes` bytes for `what` ("the kv_cache"). Returns TROL_ERROR_MEMORY. */
trol_status fail_memory(trol_error *error, size_t bytes, const char *what);

/* Puts "prefix: " in front of the sentence in *error (NULL: nothing happens). Returns status, for `return`. */
trol_status fail_prefix(trol_error *error, trol_status status, const char *prefix);

/* Leaves the function with the status of a call that failed. For functions that own nothing at that point. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        trol_status try_status_ = (call);                                                                              \
        if (try_status_ != TROL_OK)                                                                                    \
            return try_status_;                                                                                        \
    } while (0)

/* Goes to `label`, where what the function owns is released, with `status` (a local variable) set. */
#define TRY_GOTO(call, label)                                                                                          \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != TROL_OK)                                                                                         \
            goto label;                                                                                                \
    } while (0)

#endif
