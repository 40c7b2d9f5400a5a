/* json_body.h - a request's body into cJSON, after a check of what parsing it would cost. */
#ifndef SERVER_JSON_BODY_H
#define SERVER_JSON_BODY_H

#include <cjson/cJSON.h>

#include "server/api_error.h"

enum { JSON_BODY_MOST_VALUES = 200000 };

/* The body's one object; free with cJSON_Delete. NULL, with the error, for what is not UTF-8, not JSON, not an object,
 * has a NUL in a string (a C string would end there in silence), a key twice in one object, or more than
 * JSON_BODY_MOST_VALUES values (each takes far more memory than its text). The body must end in a NUL byte. */
cJSON *json_body_parse(const char *body, size_t n_bytes, api_error *error);

/* Typed reading of a field; false with the error where it has another type or value. Numbers must be finite, integers
 * without a fraction. */
bool json_read_bool(const cJSON *value, const char *param, bool *result, api_error *error);
bool json_read_number(const cJSON *value, const char *param, double smallest, double largest, double *result,
                      api_error *error);
bool json_read_integer(const cJSON *value, const char *param, int64_t smallest, int64_t largest, int64_t *result,
                       api_error *error);
bool json_read_string(const cJSON *value, const char *param, const char **result, api_error *error);
/* The index of the string among the choices (NULL-terminated). */
bool json_read_choice(const cJSON *value, const char *param, const char *const *choices, int *result, api_error *error);

/* "a string", "an array", ... for error sentences. */
const char *json_type_name(const cJSON *value);
bool json_fail_type(const cJSON *value, const char *param, const char *expected, api_error *error);

#endif
