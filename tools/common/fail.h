/* fail.h - errors as in the library, and sentences on standard error. */
#ifndef TOOLS_FAIL_H
#define TOOLS_FAIL_H

#include "base/error.h"

/* "TOOL: sentence" on a line of standard error, with control characters and bytes that are not UTF-8 as '?'. */
void tool_say(const char *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
