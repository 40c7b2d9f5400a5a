/* hex.h - hexadecimal digits. */
#ifndef BASE_HEX_H
#define BASE_HEX_H

/* 0 to 15; -1 for any other character. */
static inline int hex_value(int c) {
    const int lower = c | 0x20;
    return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

#endif
