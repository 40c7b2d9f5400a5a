#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

void log_message(const logger *log, trol_log_level level, const char *format, ...) {
    if (!log || !log->callback)
        return;
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    utf8_make_printable(message, sizeof message); /* names in it come from files */
    log->callback(log->user, level, message);
}
