#include "server/data_url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
#include "common/base64.h"

static bool decode_percent(const char *text, uint8_t *out, size_t *n_out) {
    *n_out = 0;
    for (; *text; text++) {
        if (*text != '%') {
            out[(*n_out)++] = (uint8_t)*text;
            continue;
        }
        const int high = hex_value(text[1]), low = high < 0 ? -1 : hex_value(text[2]);
        if (low < 0)
            return false;
        out[(*n_out)++] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return true;
}

/* The header's last parameter. */
static bool is_base64(const char *header, size_t n_bytes) {
    static const char name[] = ";base64";
    const size_t length = sizeof name - 1;
    return n_bytes >= length && strncasecmp(header + n_bytes - length, name, length) == 0;
}

bool data_url_read(const char *url, const char *param, uint8_t **bytes, size_t *n_bytes, api_error *error) {
    *bytes = NULL;
    if (strncasecmp(url, "data:", 5) != 0)
        return api_fail(error, 400, param, "invalid_image_url",
                        "%s begins with \"%.20s\", expected a data: URL with the picture in it: nothing is "
                        "fetched from other places, and no URL is read as a file",
                        param, url);
    const char *comma = strchr(url, ',');
    if (!comma)
        return api_fail(error, 400, param, "invalid_image_url", "%s is a data: URL without a comma", param);
    const char *text = comma + 1;
    uint8_t *out = malloc(strlen(text) + 1);
    if (!out)
        return api_fail_memory(error);
    const bool base64 = is_base64(url + 5, (size_t)(comma - url - 5));
    if (!(base64 ? base64_decode(text, strlen(text), out, n_bytes) : decode_percent(text, out, n_bytes))) {
        free(out);
        return api_fail(error, 400, param, "invalid_image_url", "%s is not valid %s after the comma", param,
                        base64 ? "base64" : "percent encoding");
    }
    if (*n_bytes == 0) {
        free(out);
        return api_fail(error, 400, param, "invalid_image_url", "%s holds no bytes after the comma", param);
    }
    *bytes = out;
    return true;
}
