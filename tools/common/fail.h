/* fail.h - one sentence into a trol_error, as the library does it. */
#ifndef TOOLS_FAIL_H
#define TOOLS_FAIL_H

#include "trol.h"

/* Writes the sentence into *error, which may be NULL. Returns status. */
trol_status tool_fail(trol_error *error, trol_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
