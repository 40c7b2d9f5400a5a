#include "common/base64.h"

#include <stdlib.h>

char *base64_encode(const void *bytes, size_t n_bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    if (n_bytes > SIZE_MAX / 2)
        return NULL;
    char *text = malloc((n_bytes + 2) / 3 * 4 + 1), *to = text;
    if (!text)
        return NULL;
    for (size_t i = 0; i < n_bytes; i += 3) {
        const size_t n = n_bytes - i < 3 ? n_bytes - i : 3;
        const uint32_t bits =
            (uint32_t)from[i] << 16 | (n > 1 ? (uint32_t)from[i + 1] << 8 : 0) | (n > 2 ? from[i + 2] : 0);
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = n > 1 ? digits[bits >> 6 & 63] : '=';
        *to++ = n > 2 ? digits[bits & 63] : '=';
    }
    *to = '\0';
    return text;
}

/* 0 .. 63, or -1. */
static int digit_value(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+' || c == '-' ? 62
           : c == '/' || c == '_' ? 63
                                  : -1;
}

bool base64_decode(const char *text, size_t n_text, uint8_t *out, size_t *n_out) {
    uint32_t bits = 0;
    int n_bits = 0;
    size_t n_digits = 0, n_padding = 0;
    *n_out = 0;
    for (size_t i = 0; i < n_text; i++) {
        const char c = text[i];
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
            continue;
        if (c == '=') {
            n_padding++;
            continue;
        }
        const int value = digit_value(c);
        if (value < 0 || n_padding > 0)
            return false;
        n_digits++;
        bits = bits << 6 | (uint32_t)value;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[(*n_out)++] = (uint8_t)(bits >> n_bits);
        }
    }
    const size_t rest = n_digits % 4;
    return rest != 1 && n_padding <= 2 && (n_padding == 0 || (rest + n_padding) % 4 == 0);
}
