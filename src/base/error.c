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

void fail_sentence(trol_error *error, trol_status status, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        error->status = status;
        utf8_make_printable(error->message, sizeof error->message); /* names in it come from files */
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
