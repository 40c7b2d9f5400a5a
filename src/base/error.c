#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

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
