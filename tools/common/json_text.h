/* json_text.h - bytes as a JSON string. */
#ifndef TOOLS_JSON_TEXT_H
#define TOOLS_JSON_TEXT_H

#include <stddef.h>
#include <stdio.h>

/* In quotes, with escapes; each byte that is not UTF-8 becomes U+FFFD. */
void json_text_write(FILE *stream, const char *bytes, size_t n_bytes);

#endif
