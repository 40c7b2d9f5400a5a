#include "base/utf8.h"

#include <string.h>

size_t utf8_decode(const char *text, size_t n_bytes, uint32_t *code_point) {
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (n_bytes == 0)
        return 0;
    uint8_t lead = (uint8_t)text[0];
    if (lead < 0x80) {
        *code_point = lead;
        return 1;
    }
    size_t length = lead >= 0xf0 && lead < 0xf8   ? 4
                    : lead >= 0xe0 && lead < 0xf0 ? 3
                    : lead >= 0xc0 && lead < 0xe0 ? 2
                                                  : 0;
    if (length == 0 || length > n_bytes)
        return 0;
    uint32_t value = lead & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        uint8_t byte = (uint8_t)text[i];
        if ((byte & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (byte & 0x3f);
    }
    if (value < smallest[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *code_point = value;
    return length;
}

size_t utf8_encode(uint32_t code_point, char *out) {
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    out[0] = (char)((0xf00u >> length & 0xf0u) | code_point);
    return length;
}

size_t utf8_valid_prefix(const char *text, size_t n_bytes) {
    size_t offset = 0;
    uint32_t code_point;
    while (offset < n_bytes) {
        size_t bytes = utf8_decode(text + offset, n_bytes - offset, &code_point);
        if (bytes == 0)
            break;
        offset += bytes;
    }
    return offset;
}

size_t utf8_unfinished_bytes(const char *text, size_t n_bytes) {
    /* What could follow is tried with the smallest and the largest byte: after some leads only one is allowed. */
    static const char *const fillers[2] = {"\x80\x80\x80", "\xbf\xbf\xbf"};
    for (size_t back = 1; back <= 3 && back <= n_bytes; back++) {
        const char *end = text + n_bytes - back;
        if (((uint8_t)*end & 0xc0) == 0x80)
            continue;
        for (int i = 0; i < 2; i++) {
            char whole[4];
            uint32_t code_point;
            memcpy(whole, end, back);
            memcpy(whole + back, fillers[i], 4 - back);
            if (utf8_decode(whole, 4, &code_point) > back)
                return back;
        }
        return 0;
    }
    return 0;
}

size_t utf8_repair(const char *text, size_t n_bytes, bool last, char *out, size_t *n_used) {
    size_t end = last ? n_bytes : n_bytes - utf8_unfinished_bytes(text, n_bytes), written = 0;
    for (size_t at = 0; at < end;) {
        uint32_t code_point;
        size_t taken = utf8_decode(text + at, end - at, &code_point);
        if (taken == 0) {
            code_point = 0xfffd;
            taken = 1;
        }
        written += utf8_encode(code_point, out + written);
        at += taken;
    }
    *n_used = end;
    return written;
}

bool utf8_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

void utf8_make_printable(char *text, size_t room) {
    size_t length = strlen(text), out = 0;
    if (length + 1 >= room) /* cut: the character that the cut went through goes */
        length -= utf8_unfinished_bytes(text, length);
    for (size_t in = 0; in < length;) {
        uint32_t code_point;
        size_t bytes = utf8_decode(text + in, length - in, &code_point);
        if (bytes == 0 || code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
            text[out++] = '?';
            in += bytes ? bytes : 1;
            continue;
        }
        memmove(text + out, text + in, bytes);
        out += bytes;
        in += bytes;
    }
    text[out] = '\0';
}
