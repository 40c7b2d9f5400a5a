#include "common/terminal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"

static bool changes_direction(uint32_t c) {
    return c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static bool write_shown(const char *text) {
    const size_t n_bytes = strlen(text);
    for (size_t at = 0; at < n_bytes;) {
        uint32_t c;
        const size_t n = utf8_decode(text + at, n_bytes - at, &c);
        int written;
        if (n == 0) /* not a character: the terminal should not see it */
            written = fputs("?", stdout);
        else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            written = printf("^%c", (char)(c ^ 0x40));
        else if ((c >= 0x80 && c < 0xa0) || changes_direction(c))
            written = printf("<U+%04" PRIX32 ">", c);
        else
            written = fwrite(text + at, 1, n, stdout) == n ? 0 : -1;
        if (written < 0)
            return false;
        at += n ? n : 1;
    }
    return true;
}

bool terminal_write(const char *text) {
    const bool written = isatty(STDOUT_FILENO) ? write_shown(text) : fputs(text, stdout) >= 0;
    return written && fflush(stdout) == 0;
}
