#include "server/json_body.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* ---- parsing --------------------------------------------------------------------------------- */

/* Counts values roughly (each but the first of a list has a comma or an opening bracket before it), and looks for
 * "\u0000" in strings. */
static bool check_cost(const char *body, size_t n_bytes, api_error *error) {
    size_t n_values = 1;
    bool in_string = false;
    for (size_t i = 0; i < n_bytes; i++) {
        const char c = body[i];
        if (in_string && c == '\\') {
            if (n_bytes - i > 5 && memcmp(body + i + 1, "u0000", 5) == 0)
                return api_fail(error, 400, NULL, "invalid_json", "a string in the JSON has a NUL character (\\u0000)");
            i++;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == ',' || c == '[' || c == '{')) {
            n_values++;
        }
    }
    if (n_values > JSON_BODY_MOST_VALUES)
        return api_fail(error, 413, NULL, "too_many_values", "the JSON has more than %d values", JSON_BODY_MOST_VALUES);
    return true;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The first name that an object has twice, or NULL. */
static const char *repeated_name(const cJSON *object, char **names) {
    size_t n = 0;
    for (const cJSON *child = object->child; child; child = child->next)
        names[n++] = child->string;
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return names[i];
    return NULL;
}

/* cJSON would take the first of two equal names and ignore the other. */
static bool check_names(const cJSON *value, char **names, api_error *error) {
    if (cJSON_IsObject(value)) {
        const char *name = repeated_name(value, names);
        if (name)
            return api_fail(error, 400, name, "invalid_json", "an object in the JSON has the field %.100s twice", name);
    }
    for (const cJSON *child = value->child; child; child = child->next)
        if (child->child && !check_names(child, names, error))
            return false;
    return true;
}

cJSON *json_body_parse(const char *body, size_t n_bytes, api_error *error) {
    if (n_bytes == 0) {
        api_fail(error, 400, NULL, "invalid_json", "it is empty, expected a JSON object");
        return NULL;
    }
    const size_t valid = utf8_valid_prefix(body, n_bytes);
    if (valid != n_bytes) {
        api_fail(error, 400, NULL, "invalid_json", "the JSON is not valid UTF-8 from byte %zu on", valid);
        return NULL;
    }
    if (memchr(body, '\0', n_bytes)) {
        api_fail(error, 400, NULL, "invalid_json", "the JSON has a NUL byte");
        return NULL;
    }
    if (!check_cost(body, n_bytes, error))
        return NULL;
    const char *end = body;
    cJSON *root = cJSON_ParseWithLengthOpts(body, n_bytes + 1, &end, 1);
    if (!root) {
        api_fail(error, 400, NULL, "invalid_json", "this is not JSON: it breaks off or goes wrong at byte %zu",
                 (size_t)(end - body));
        return NULL;
    }
    if (!cJSON_IsObject(root)) {
        api_fail(error, 400, NULL, "invalid_json", "the JSON is %s, expected an object", json_type_name(root));
        cJSON_Delete(root);
        return NULL;
    }
    char **names = malloc(JSON_BODY_MOST_VALUES * sizeof *names);
    const bool fine = names ? check_names(root, names, error) : api_fail_memory(error);
    free(names);
    if (fine)
        return root;
    cJSON_Delete(root);
    return NULL;
}

/* ---- typed fields ---------------------------------------------------------------------------- */

const char *json_type_name(const cJSON *value) {
    return cJSON_IsBool(value)     ? "a boolean"
           : cJSON_IsNumber(value) ? "a number"
           : cJSON_IsString(value) ? "a string"
           : cJSON_IsArray(value)  ? "an array"
           : cJSON_IsObject(value) ? "an object"
                                   : "null";
}

bool json_fail_type(const cJSON *value, const char *param, const char *expected, api_error *error) {
    return api_fail(error, 400, param, "invalid_type", "%s is %s, expected %s", param, json_type_name(value), expected);
}

bool json_read_bool(const cJSON *value, const char *param, bool *result, api_error *error) {
    if (!cJSON_IsBool(value))
        return json_fail_type(value, param, "a boolean", error);
    *result = cJSON_IsTrue(value);
    return true;
}

bool json_read_number(const cJSON *value, const char *param, double smallest, double largest, double *result,
                      api_error *error) {
    if (!cJSON_IsNumber(value))
        return json_fail_type(value, param, "a number", error);
    if (!(value->valuedouble >= smallest && value->valuedouble <= largest))
        return api_fail(error, 400, param, "invalid_value", "%s is %g, expected %g to %g", param, value->valuedouble,
                        smallest, largest);
    *result = value->valuedouble;
    return true;
}

bool json_read_integer(const cJSON *value, const char *param, int64_t smallest, int64_t largest, int64_t *result,
                       api_error *error) {
    if (!cJSON_IsNumber(value))
        return json_fail_type(value, param, "an integer", error);
    const double number = value->valuedouble;
    if (!(number >= (double)smallest && number <= (double)largest) || number != floor(number))
        return api_fail(error, 400, param, "invalid_value",
                        "%s is %.17g, expected an integer from %" PRId64 " to %" PRId64, param, number, smallest,
                        largest);
    *result = (int64_t)number;
    return true;
}

bool json_read_string(const cJSON *value, const char *param, const char **result, api_error *error) {
    if (!cJSON_IsString(value))
        return json_fail_type(value, param, "a string", error);
    *result = value->valuestring;
    return true;
}

bool json_read_choice(const cJSON *value, const char *param, const char *const *choices, int *result,
                      api_error *error) {
    const char *text = NULL;
    if (!json_read_string(value, param, &text, error))
        return false;
    char list[256] = "";
    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *result = i;
            return true;
        }
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : choices[i + 1] ? ", " : " or ", choices[i]);
    }
    return api_fail(error, 400, param, "invalid_value", "%s is \"%.100s\", expected %s", param, text, list);
}
