/* fail.h - one sentence into a trol_error, as in the library, or to standard error. */
#ifndef TOOLS_FAIL_H
#define TOOLS_FAIL_H

#include "trol.h"

/* Writes the sentence into *error, which may be NULL; control characters and bytes that are not UTF-8 become '?'.
 * Returns status. */
trol_status tool_fail(trol_error *error, trol_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "TOOL: sentence" on a line of standard error, made printable in the same way. */
void tool_say(const char *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
