#include "common/json_text.h"

#include "base/utf8.h"

void json_text_write(FILE *stream, const char *bytes, size_t n_bytes) {
    fputc('"', stream);
    for (size_t i = 0; i < n_bytes;) {
        const size_t valid = utf8_valid_prefix(bytes + i, n_bytes - i);
        for (const char *c = bytes + i; c < bytes + i + valid; c++) {
            if (*c == '"' || *c == '\\')
                fprintf(stream, "\\%c", *c);
            else if ((unsigned char)*c < 0x20 || *c == 0x7f)
                fprintf(stream, "\\u%04x", (unsigned)*c);
            else
                fputc(*c, stream);
        }
        i += valid;
        if (i < n_bytes) {
            fputs("\xef\xbf\xbd", stream);
            i++;
        }
    }
    fputc('"', stream);
}
