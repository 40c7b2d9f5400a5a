/* json.h - cJSON with errors: whole files read and parsed, members fetched with a type and a range. */
#ifndef FORMAT_JSON_H
#define FORMAT_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

/* Parses text[0 .. n_bytes-1]: all of it must be one valid JSON value, UTF-8 without NUL characters, nested at most 64
 * deep, of at most 4 million values, no key twice in an object. Messages name `name`. Free *json with cJSON_Delete. */
trol_status json_parse(const char *text, size_t n_bytes, const char *name, cJSON **json, trol_error *error);
/* file_read and json_parse. */
trol_status json_read_file(const char *path, size_t max_bytes, cJSON **json, trol_error *error);

/* Whether value is a whole number of magnitude at most 2^53 - 1, so that no other number is read as the same. */
bool json_exact_integer(const cJSON *value, int64_t *integer);

/* Members of an object. If the member is absent or null, the default is used (json_*_or) or it is an error. A value of
 * another type, one that is not whole, or one outside smallest .. largest is an error that names `file`, the key, what
 * was found and what was expected. A key may be given with those of the objects around it, "llm_config.hidden_size":
 * errors give all of it, and the part after the last '.' is looked up in `object`. */
trol_status json_integer(const cJSON *object, const char *file, const char *key, int64_t smallest, int64_t largest,
                         int64_t *value, trol_error *error);
trol_status json_integer_or(const cJSON *object, const char *file, const char *key, int64_t otherwise, int64_t smallest,
                            int64_t largest, int64_t *value, trol_error *error);
trol_status json_number(const cJSON *object, const char *file, const char *key, double smallest, double largest,
                        double *value, trol_error *error);
trol_status json_number_or(const cJSON *object, const char *file, const char *key, double otherwise, double smallest,
                           double largest, double *value, trol_error *error);
trol_status json_bool_or(const cJSON *object, const char *file, const char *key, bool otherwise, bool *value,
                         trol_error *error);
/* *value points into the JSON. */
trol_status json_string(const cJSON *object, const char *file, const char *key, const char **value, trol_error *error);
trol_status json_string_or(const cJSON *object, const char *file, const char *key, const char *otherwise,
                           const char **value, trol_error *error);
/* NULL if absent or null; an error if it is not an object. */
trol_status json_object_or_null(const cJSON *object, const char *file, const char *key, const cJSON **value,
                                trol_error *error);

#endif
