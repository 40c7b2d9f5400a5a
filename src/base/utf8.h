/* utf8.h - reading and writing UTF-8, strictly: no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes (1 to 4) of the character at text[0 .. n_bytes-1], its code point in *code_point; 0 if there is no valid one.
 */
size_t utf8_decode(const char *text, size_t n_bytes, uint32_t *code_point);

/* Writes the character to out (up to 4 bytes, no NUL) and returns how many bytes it took. */
size_t utf8_encode(uint32_t code_point, char *out);

/* Offset of the first byte that is not valid UTF-8, or n_bytes if all is. */
size_t utf8_valid_prefix(const char *text, size_t n_bytes);

/* How many bytes at the end are the beginning of a character whose rest has not come yet (0 to 3). */
size_t utf8_unfinished_bytes(const char *text, size_t n_bytes);

/* Room for what utf8_repair makes of n_bytes bytes. */
#define UTF8_REPAIRED_BYTES(n_bytes) (3 * (n_bytes))

/* Copies text to out (no NUL) with U+FFFD for each byte that is part of no character, as SentencePiece decodes bytes;
 * returns the bytes written. *n_used says how many of text's bytes that took: all, if `last`; else the beginning of a
 * character at the end is left for the next call, and the pieces put together are the same as the whole at once. */
size_t utf8_repair(const char *text, size_t n_bytes, bool last, char *out, size_t *n_used);

/* Makes a NUL-terminated text in a buffer of `room` bytes fit for a terminal or a log, in place: control characters and
 * bytes that are not UTF-8 become '?'; where the text fills the buffer, a character that was cut at its end is left
 * out.
 */
void utf8_make_printable(char *text, size_t room);

/* White space as Unicode's White_Space property says. */
bool utf8_is_space(uint32_t code_point);

#endif
