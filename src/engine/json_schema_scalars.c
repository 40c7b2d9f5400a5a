/* json_schema_scalars.c - strings (pattern, format, lengths) and numbers (bounds, multiples). */
#include "engine/json_schema_compiler.h"

#include <math.h>
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
        uint32_t max_length = UINT32_MAX;
        if (format)
            TRY(schema_format_rules(c, format, has_pattern, &pattern, &max_length));
        if (pattern)
            patterns[rules->n_patterns++] = pattern;
        if (max_length < rules->max_length)
            rules->max_length = max_length;
    }
    return TROL_OK;
}

/* The error of a pattern, with the place of the first one in the set. */
trol_status schema_at_pattern(const schema_compiler *c, const schema_set *set, trol_status status) {
    for (size_t i = 0; i < set->n && status != TROL_OK; i++)
        if (schema_member(set->parts[i].schema, "pattern"))
            return schema_at_place(c, schema_member(set->parts[i].schema, "pattern"), status);
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

/* Of draft 4 and OpenAPI 3.0: whether the bound beside it is exclusive. */
static bool exclusive_by_flag(const cJSON *schema, const char *flag) {
    return cJSON_IsTrue(schema_member(schema, flag));
}

/* A bound as inclusive. A number past 2^53 may have been rounded when it was read: its neighbour inwards is safe. */
static trol_status merge_bound(const schema_compiler *c, const cJSON *schema, const char *key, bool upper,
                               bool exclusive, number_range *range) {
    const cJSON *value = schema_member(schema, key);
    if (!value || (cJSON_IsBool(value) && strncmp(key, "exclusive", 9) == 0))
        return TROL_OK; /* true and false, in draft 4: see exclusive_by_flag */
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

/* A decimal as digits and places after the point: 0.25 as 25 and 2. */
static bool exact_decimal(const cJSON *value, int64_t *digits, int *places) {
    double power = 1;
    for (*places = 0; *places <= JSON_MAX_PLACES; (*places)++, power *= 10) {
        const double scaled = round(value->valuedouble * power);
        if (scaled > 9007199254740991.0)
            return false;
        if (scaled / power == value->valuedouble) {
            *digits = (int64_t)scaled;
            return scaled > 0;
        }
    }
    return false;
}

/* The least common multiple of what the range requires already and of a schema's multipleOf. */
static trol_status merge_multiple(const schema_compiler *c, const cJSON *schema, number_range *range) {
    const cJSON *value = schema_member(schema, "multipleOf");
    int64_t multiple = 1, own = range->multiple_of;
    int places = 0;
    if (!value)
        return TROL_OK;
    if (!cJSON_IsNumber(value) || !(value->valuedouble > 0))
        return schema_malformed(c, value, "a number above 0 is expected");
    if (!exact_decimal(value, &multiple, &places))
        return schema_unsupported(c, value, "only a number of up to 15 digits and 12 places is supported");
    for (; places < range->multiple_places && multiple <= JSON_MAX_MULTIPLE; places++)
        multiple *= 10;
    for (; range->multiple_places < places && own <= JSON_MAX_MULTIPLE; range->multiple_places++)
        own *= range->multiple_any ? 1 : 10;
    int64_t a = own, b = multiple;
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    if (multiple / a > JSON_MAX_MULTIPLE / own)
        return schema_unsupported(c, value, "a multiple of more than 4096 is not supported");
    range->multiple_of = own * (multiple / a);
    range->multiple_any = false;
    return TROL_OK;
}

trol_status schema_add_number(schema_compiler *c, const schema_set *set, bool integer, uint32_t from, uint32_t to) {
    number_range range = {-(double)INFINITY, (double)INFINITY, integer, 1, 0, true};
    for (size_t i = 0; i < set->n; i++)
        TRY(merge_multiple(c, set->parts[i].schema, &range));
    range.integer = range.integer || (!range.multiple_any && range.multiple_places == 0);
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *schema = set->parts[i].schema, *format = schema_member(schema, "format");
        TRY(merge_bound(c, schema, "minimum", false, exclusive_by_flag(schema, "exclusiveMinimum"), &range));
        TRY(merge_bound(c, schema, "exclusiveMinimum", false, true, &range));
        TRY(merge_bound(c, schema, "maximum", true, exclusive_by_flag(schema, "exclusiveMaximum"), &range));
        TRY(merge_bound(c, schema, "exclusiveMaximum", true, true, &range));
        if (format)
            TRY(schema_number_format(c, format, &range));
    }
    return json_add_number(&c->json, from, to, &range, c->error);
}
