/* standard_output.h - whether what a tool printed did arrive: a full disk or a closed pipe shows only when it is asked.
 */
#ifndef TOOLS_STANDARD_OUTPUT_H
#define TOOLS_STANDARD_OUTPUT_H

#include <stdbool.h>

/* Prints a line, at once; false if that failed, whose reason standard_output_end then tells. */
bool standard_output_line(const char *text);

/* The last thing before the end of a program: its exit status, or where standard output could not be written 1, which
 * is told on standard error. */
int standard_output_end(const char *tool, int exit_status);

/* Prints a text that was asked for, usage or version. Returns the exit status. */
int standard_output_text(const char *tool, const char *text);
/* "TOOL VERSION". */
int standard_output_version(const char *tool);

#endif
