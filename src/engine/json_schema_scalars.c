/* json_schema_scalars.c - strings (pattern, format, lengths) and numbers (bounds, multiples). */
#include "engine/json_schema_compiler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- strings --------------------------------------------------------------------------------- */

#define YEAR "(?:\\d{3}[1-9]|\\d{2}[1-9]0|\\d[1-9]00|[1-9]000)"
#define LEAP "(?:\\d{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DAY                                                                                                            \
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))"
#define DATE   "(?:" YEAR "-" DAY "|" LEAP "-02-29)"
#define TIME   "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define HEX(n) "[0-9a-fA-F]{" #n "}"

static const char *format_pattern(const char *name) {
    static const char *const formats[][2] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"uuid", "^" HEX(8) "-" HEX(4) "-" HEX(4) "-" HEX(4) "-" HEX(12) "$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i][0], name) == 0)
            return formats[i][1];
    return NULL;
}

/* What the parts of a set ask of a string. patterns: room for 2 * SCHEMA_MAX_PARTS. */
trol_status schema_merge_text_rules(const schema_compiler *c, const schema_set *set, const char **patterns,
                                    text_rules *rules) {
    *rules = (text_rules){.patterns = patterns, .max_length = UINT32_MAX};
    TRY(schema_merge_count(c, set, "minLength", false, &rules->min_length));
    TRY(schema_merge_count(c, set, "maxLength", true, &rules->max_length));
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *pattern = schema_member(set->parts[i].schema, "pattern"),
                    *format = schema_member(set->parts[i].schema, "format");
        if (pattern && !cJSON_IsString(pattern))
            return schema_malformed(c, pattern, "a string is expected");
        if (format && !cJSON_IsString(format))
            return schema_malformed(c, format, "a string is expected");
        if (pattern)
            patterns[rules->n_patterns++] = pattern->valuestring;
        if (format && !format_pattern(format->valuestring))
            return schema_unsupported(c, format,
                                      "this format is not supported, only date, time, date-time and uuid are");
        if (format)
            patterns[rules->n_patterns++] = format_pattern(format->valuestring);
    }
    return TROL_OK;
}

/* The error of a pattern, with the place of the first one in the set. */
trol_status schema_at_pattern(const schema_compiler *c, const schema_set *set, trol_status status) {
    for (size_t i = 0; i < set->n && status != TROL_OK && status != TROL_ERROR_MEMORY; i++) {
        const cJSON *pattern = schema_member(set->parts[i].schema, "pattern");
        char pointer[400] = "";
        if (!pattern || !c->error)
            continue;
        char prefix[450];
        (void)schema_find_pointer(c->root, pattern, pointer, sizeof pointer);
        snprintf(prefix, sizeof prefix, "the schema at #%s", pointer);
        return fail_prefix(c->error, status, prefix);
    }
    return status;
}

trol_status schema_add_string(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
    const char *patterns[2 * SCHEMA_MAX_PARTS];
    text_rules rules;
    text_automaton *a;
    TRY(schema_merge_text_rules(c, set, patterns, &rules));
    if (rules.n_patterns == 0 && rules.min_length == 0 && rules.max_length == UINT32_MAX)
        return json_add_any_string(&c->json, from, to, c->error);
    if (rules.min_length > rules.max_length)
        return TROL_OK;
    TRY(schema_at_pattern(c, set, text_automaton_new(&rules, &a, c->error)));
    trol_status status = json_add_string(&c->json, from, to, a, c->error);
    text_automaton_free(a);
    return status;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* A bound as inclusive. The text of a number past 2^53 may have been another one than what was read: the neighbour
 * inwards is safe. */
static trol_status merge_bound(const schema_compiler *c, const cJSON *schema, const char *key, bool upper,
                               bool exclusive, number_range *range) {
    const cJSON *value = schema_member(schema, key);
    if (!value)
        return TROL_OK;
    if (!cJSON_IsNumber(value))
        return schema_malformed(c, value, "a number is expected");
    double bound = value->valuedouble;
    const double inwards = upper ? -(double)INFINITY : (double)INFINITY;
    const bool inexact = fabs(bound) > 9007199254740991.0;
    if (exclusive && range->integer && !inexact)
        bound = upper ? ceil(bound) - 1 : floor(bound) + 1;
    else if (exclusive || inexact)
        bound = nextafter(bound, inwards);
    if (upper ? bound < range->largest : bound > range->smallest)
        *(upper ? &range->largest : &range->smallest) = bound;
    return TROL_OK;
}

static trol_status merge_multiple(const schema_compiler *c, const cJSON *schema, number_range *range) {
    const cJSON *value = schema_member(schema, "multipleOf");
    int64_t multiple;
    if (!value)
        return TROL_OK;
    if (!cJSON_IsNumber(value) || !(value->valuedouble > 0))
        return schema_malformed(c, value, "a number above 0 is expected");
    if (!json_exact_integer(value, &multiple))
        return schema_unsupported(c, value, "only a whole number is supported");
    range->integer = true;
    int64_t a = range->multiple_of, b = multiple;
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    if (multiple / a > JSON_MAX_MULTIPLE / range->multiple_of)
        return schema_unsupported(c, value, "a multiple of more than 4096 is not supported");
    range->multiple_of *= multiple / a;
    return TROL_OK;
}

trol_status schema_add_number(schema_compiler *c, const schema_set *set, bool integer, uint32_t from, uint32_t to) {
    number_range range = {-(double)INFINITY, (double)INFINITY, integer, 1};
    for (size_t i = 0; i < set->n; i++)
        TRY(merge_multiple(c, set->parts[i].schema, &range));
    for (size_t i = 0; i < set->n; i++) {
        TRY(merge_bound(c, set->parts[i].schema, "minimum", false, false, &range));
        TRY(merge_bound(c, set->parts[i].schema, "exclusiveMinimum", false, true, &range));
        TRY(merge_bound(c, set->parts[i].schema, "maximum", true, false, &range));
        TRY(merge_bound(c, set->parts[i].schema, "exclusiveMaximum", true, true, &range));
    }
    return json_add_number(&c->json, from, to, &range, c->error);
}
