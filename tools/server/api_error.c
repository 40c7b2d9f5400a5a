#include "server/api_error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"

bool api_fail(api_error *error, int status, const char *param, const char *code, const char *format, ...) {
    va_list arguments;
    *error = (api_error){.status = status, .code = code};
    if (param)
        snprintf(error->param, sizeof error->param, "%s", param);
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    utf8_make_printable(error->message, sizeof error->message);
    utf8_make_printable(error->param, sizeof error->param);
    return false;
}

bool api_fail_memory(api_error *error) {
    api_fail(error, 503, NULL, "out_of_memory", "there is no memory left for this request");
    error->retry_after = 5;
    return false;
}

bool api_fail_model(api_error *error, const char *name, const char *own) {
    return api_fail(error, 404, "model", "model_not_found", "there is no model \"%.100s\" here, only \"%s\"", name,
                    own);
}

bool api_fail_library(api_error *error, const char *param, const trol_error *cause) {
    switch (cause->status) {
    case TROL_ERROR_CONTEXT:
        return api_fail(error, 400, param, "context_length_exceeded", "%s", cause->message);
    case TROL_ERROR_ARGUMENT:
        return api_fail(error, 400, param, "invalid_value", "%s", cause->message);
    case TROL_ERROR_FORMAT:
    case TROL_ERROR_UNSUPPORTED:
        return api_fail(error, 422, param, "unprocessable", "%s", cause->message);
    case TROL_ERROR_MEMORY:
        return api_fail_memory(error);
    default:
        return api_fail(error, 500, param, "internal_error", "%s", cause->message);
    }
}

static const char *error_type(int status) {
    return status == 401   ? "authentication_error"
           : status == 403 ? "permission_error"
           : status == 429 ? "rate_limit_error"
           : status >= 500 ? "server_error"
                           : "invalid_request_error";
}

void api_error_json(const api_error *error, buffer *out) {
    buffer_text(out, "{\"error\":{\"message\":");
    buffer_string(out, error->message);
    buffer_format(out, ",\"type\":\"%s\",\"param\":", error_type(error->status));
    if (error->param[0])
        buffer_string(out, error->param);
    else
        buffer_text(out, "null");
    buffer_text(out, ",\"code\":");
    if (error->code)
        buffer_string(out, error->code);
    else
        buffer_text(out, "null");
    buffer_text(out, "}}");
}
