#include "server/answer_form.h"

#include <string.h>

bool answer_form_new(trol_model *model, const chat_request *request, trol_constraint **constraint, api_error *error) {
    const char *text = request->format_text;
    trol_error cause = {0};
    trol_status status = TROL_OK;
    *constraint = NULL;
    if (request->format == CHAT_FORMAT_JSON)
        status = trol_constraint_new_json(model, constraint, &cause);
    else if (request->format == CHAT_FORMAT_SCHEMA)
        status = trol_constraint_new_json_schema(model, text, strlen(text), constraint, &cause);
    else if (request->format == CHAT_FORMAT_GRAMMAR)
        status = trol_constraint_new_gbnf(model, text, strlen(text), constraint, &cause);
    return status == TROL_OK || api_fail_library(error, request->format_param, &cause);
}

bool answer_form_fits(trol_constraint *constraint, const chat_request *request, api_error *error) {
    trol_error cause = {0};
    int64_t least = 0;
    if (constraint && trol_constraint_min_tokens(constraint, &least, &cause) != TROL_OK)
        return api_fail_library(error, request->format_param, &cause);
    if (request->max_tokens && least > request->max_tokens)
        return api_fail(error, 400, "max_tokens", "invalid_value",
                        "max_tokens is %d, but no answer in the form that %s asks for has fewer than %lld tokens",
                        request->max_tokens, request->format_param, (long long)least);
    return true;
}
