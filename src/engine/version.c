/* version.c - what the interface states about itself. */
#include "trol.h"

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
