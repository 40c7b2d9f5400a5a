/* exchange.h - how a session's parts are written to a file and read from one. */
#ifndef ENGINE_EXCHANGE_H
#define ENGINE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Bytes between memory and a file, one way or the other, so that each field is named once for both. */
typedef struct exchange {
    bool reading;
    uint64_t left; /* reading: bytes of the file that are not read yet */
    const char *path;
    trol_error *error;
    trol_status (*bytes)(struct exchange *e, void *bytes, size_t n_bytes);
} exchange;

#endif
