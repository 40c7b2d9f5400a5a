#include "common/fail.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

trol_status tool_fail(trol_error *error, trol_status status, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        utf8_make_printable(error->message, sizeof error->message); /* names in it come from files and arguments */
    }
    return status;
}

void tool_say(const char *tool, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    utf8_make_printable(text, sizeof text);
    fprintf(stderr, "%s: %s\n", tool, text);
}
