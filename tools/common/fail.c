#include "common/fail.h"

#include <stdarg.h>
#include <stdio.h>

trol_status tool_fail(trol_error *error, trol_status status, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}
