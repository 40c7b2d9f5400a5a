/* terminal.h - text of unknown origin on standard output: unchanged, or made harmless on a terminal. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stdbool.h>

/* Writes whole UTF-8 characters to standard output and flushes; false, with errno set, if that failed. Where standard
 * output is a terminal, control characters are shown instead of sent: ESC as ^[, and so on for all but line breaks and
 * tabs; U+0080 to U+009F and characters that change the direction of writing as <U+202E>. */
bool terminal_write(const char *text);

#endif
