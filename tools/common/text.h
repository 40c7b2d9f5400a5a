/* text.h - UTF-8 in what comes from files and arguments: what is valid, and what may go to a terminal. */
#ifndef TOOLS_TEXT_H
#define TOOLS_TEXT_H

#include <stddef.h>

/* Offset of the first byte that is not valid UTF-8, or n_bytes if all is. */
size_t text_valid_prefix(const char *text, size_t n_bytes);

/* In place, in a buffer of `room` bytes: control characters and bytes that are no UTF-8 become '?', and a character
 * that was cut at the buffer's end goes. */
void text_make_printable(char *text, size_t room);

#endif
