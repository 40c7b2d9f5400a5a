#include "common/text.h"

#include <stdbool.h>
#include <string.h>

/* Bytes that a character of this first byte has; 0 if there is none. */
static size_t expected_bytes(unsigned char first) {
    return first < 0x80                    ? 1
           : first >= 0xc2 && first < 0xe0 ? 2
           : first >= 0xe0 && first < 0xf0 ? 3
           : first >= 0xf0 && first < 0xf5 ? 4
                                           : 0;
}

/* Bytes of the valid character at the beginning of n_bytes bytes; 0 if there is none. */
static size_t character_bytes(const char *text, size_t n_bytes) {
    const unsigned char *c = (const unsigned char *)text;
    const size_t n = n_bytes > 0 ? expected_bytes(c[0]) : 0;
    if (n > n_bytes)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    const bool overlong = n > 1 && ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90));
    const bool outside =
        n > 1 && ((c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf4 && c[1] >= 0x90)); /* surrogates; past U+10FFFF */
    return overlong || outside ? 0 : n;
}

static bool is_control(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    return c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0);
}

size_t text_valid_prefix(const char *text, size_t n_bytes) {
    size_t at = 0;
    for (size_t n = 1; at < n_bytes && n > 0; at += n)
        n = character_bytes(text + at, n_bytes - at);
    return at;
}

void text_make_printable(char *text, size_t room) {
    const size_t length = strlen(text);
    for (size_t i = 0, n; i < length; i += n ? n : 1) {
        n = character_bytes(text + i, length - i);
        if (n > 0 && !is_control(text + i))
            continue;
        if (n == 0 && length + 1 == room && expected_bytes((unsigned char)text[i]) > length - i) {
            text[i] = '\0';
            return;
        }
        memset(text + i, '?', n ? n : 1);
    }
}
