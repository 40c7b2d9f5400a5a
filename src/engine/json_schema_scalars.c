/* json_schema_scalars.c - strings (pattern, format, lengths) and numbers (bounds, multiples). */
#include "engine/json_schema_compiler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- strings --------------------------------------------------------------------------------- */

/* What the parts of a set require of a string. patterns: room for 2 * SCHEMA_MAX_PARTS. */
trol_status schema_merge_text_rules(const schema_compiler *c, const schema_set *set, const char **patterns,
                                    text_rules *rules) {
    *rules = (text_rules){.patterns = patterns, .max_length = UINT32_MAX};
    TRY(schema_merge_count(c, set, "minLength", false, &rules->min_length));
    TRY(schema_merge_count(c, set, "maxLength", true, &rules->max_length));
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *pattern = schema_member(set->parts[i].schema, "pattern");
        if (pattern && !cJSON_IsString(pattern))
            return schema_malformed(c, pattern, "a string is expected");
        if (pattern)
            patterns[rules->n_patterns++] = pattern->valuestring;
    }
    const bool has_pattern = rules->n_patterns > 0;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *format = schema_member(set->parts[i].schema, "format");
        const char *pattern = NULL;
        if (format)
            TRY(schema_format_pattern(c, format, has_pattern, &pattern));
        if (pattern)
            patterns[rules->n_patterns++] = pattern;
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

/* A bound as inclusive. A number past 2^53 may have been rounded when it was read: its neighbour inwards is safe. */
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
        if (schema_member(set->parts[i].schema, "format"))
            TRY(schema_number_format(c, schema_member(set->parts[i].schema, "format"), &range));
    }
    return json_add_number(&c->json, from, to, &range, c->error);
}
