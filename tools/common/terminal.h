/* terminal.h - text of unknown origin on standard output: as it is, or harmless where a person looks at a terminal. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stdbool.h>

/* Writes whole UTF-8 characters to standard output and flushes; false, with errno set, if that failed. Where standard
 * output is a terminal, characters that would steer it are shown instead: ESC as ^[, other controls but line breaks and
 * tabs alike, U+0080 to U+009F and what changes the direction of writing as <U+202E>. */
bool terminal_write(const char *text);

#endif
