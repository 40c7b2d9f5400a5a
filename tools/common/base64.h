/* base64.h - bytes as text (RFC 4648). */
#ifndef TOOLS_BASE64_H
#define TOOLS_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The text of n_bytes bytes, NUL-terminated, from malloc; NULL: out of memory. */
char *base64_encode(const void *bytes, size_t n_bytes);

/* Reads a text of n_text characters into out, which has room for n_text bytes. White space is skipped, the URL-safe
 * alphabet is also accepted, and padding may be left out. false: it is not base64. */
bool base64_decode(const char *text, size_t n_text, uint8_t *out, size_t *n_out);

#endif
