/* standard_output.h - whether what a tool printed has arrived: a full disk or a closed pipe shows only when checked.
 */
#ifndef TOOLS_STANDARD_OUTPUT_H
#define TOOLS_STANDARD_OUTPUT_H

#include <stdbool.h>

/* Prints and flushes a line; false if that failed, for a reason that standard_output_end then reports. */
bool standard_output_line(const char *text);

/* The last call of a program. Returns its exit status, or 1 if standard output could not be written, which is reported
 * on standard error. */
int standard_output_end(const char *tool, int exit_status);

/* Prints usage or version on request. Returns the exit status. */
int standard_output_text(const char *tool, const char *text);
/* "TOOL VERSION". */
int standard_output_version(const char *tool);

#endif
