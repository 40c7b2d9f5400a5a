/* log.h - one line of text to the callback that the caller gave; nowhere without one. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "trol.h"

typedef struct logger {
    trol_log_callback callback; /* may be NULL */
    void *user;
} logger;

/* log may be NULL. */
void log_message(const logger *log, trol_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
