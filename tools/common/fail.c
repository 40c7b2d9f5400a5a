#include "common/fail.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

void tool_say(const char *tool, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    utf8_make_printable(text, sizeof text);
    fprintf(stderr, "%s: %s\n", tool, text);
}
