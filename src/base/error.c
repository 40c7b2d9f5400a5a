#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

const char *trol_status_text(trol_status status) {
    switch (status) {
    case TROL_OK:
        return "ok";
    case TROL_ERROR_ARGUMENT:
        return "invalid argument";
    case TROL_ERROR_MEMORY:
        return "out of memory";
    case TROL_ERROR_IO:
        return "input or output failed";
    case TROL_ERROR_FORMAT:
        return "broken file";
    case TROL_ERROR_UNSUPPORTED:
        return "not supported";
    case TROL_ERROR_CONTEXT:
        return "context full";
    case TROL_ERROR_CANCELLED:
        return "cancelled";
    case TROL_ERROR_STATE:
        return "call out of order";
    }
    return "unknown status";
}

const char *trol_version(void) { return "0.1.0"; }

/* Names come from files: what would garble a terminal or is no UTF-8 becomes '?'; a character cut at the end goes. */
static void make_printable(char *text) {
    size_t length = strlen(text), out = 0;
    for (size_t in = 0; in < length;) {
        uint32_t code_point;
        size_t bytes = utf8_decode(text + in, length - in, &code_point);
        if (bytes == 0) {
            if (length + 5 > sizeof ((trol_error *)0)->message && length - in < 4)
                break;
            text[out++] = '?';
            in++;
            continue;
        }
        if (code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
            text[out++] = '?';
        } else {
            memmove(text + out, text + in, bytes);
            out += bytes;
        }
        in += bytes;
    }
    text[out] = '\0';
}

void fail_sentence(trol_error *error, trol_status status, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        error->status = status;
        make_printable(error->message);
    }
}

trol_status fail_memory(trol_error *error, size_t bytes, const char *what) {
    return fail(error, TROL_ERROR_MEMORY, "out of memory: %zu bytes for %s could not be allocated", bytes, what);
}

trol_status fail_prefix(trol_error *error, trol_status status, const char *prefix) {
    if (error) {
        char message[sizeof error->message];
        memcpy(message, error->message, sizeof message);
        return fail(error, status, "%s: %s", prefix, message);
    }
    return status;
}
