/* json_parts.h - pieces of JSON as pieces of a grammar: strings, numbers, white space. */
#ifndef ENGINE_JSON_PARTS_H
#define ENGINE_JSON_PARTS_H

#include "engine/regex.h"

/* What JSON of one grammar shares. Zeros at first; free with json_parts_free. */
typedef struct json_parts {
    grammar *g;
    code_point_rules characters;
    uint32_t space, string, number; /* rules + 1; 0: not made yet */
} json_parts;

void json_parts_free(json_parts *parts);

/* White space between tokens: nothing, a space, or a line break with up to 64 spaces or 16 tabs. */
trol_status json_add_space(json_parts *parts, uint32_t from, uint32_t to, trol_error *error);
/* A text as a JSON string, with its quotes; characters that writers escape may be escaped. */
trol_status json_add_literal(json_parts *parts, uint32_t from, uint32_t to, const char *text, trol_error *error);
/* Any string. */
trol_status json_add_any_string(json_parts *parts, uint32_t from, uint32_t to, trol_error *error);
/* A string that the automaton accepts. */
trol_status json_add_string(json_parts *parts, uint32_t from, uint32_t to, const text_automaton *a, trol_error *error);

/* Bounds of a number, inclusive: -INFINITY and INFINITY are none. */
typedef struct number_range {
    double smallest, largest;
    bool integer;
    int64_t multiple_of; /* in units of 10 ^ -multiple_places */
    int multiple_places;
    bool multiple_any; /* multiples of nothing are asked for */
} number_range;

enum { JSON_MAX_MULTIPLE = 4096, JSON_MAX_PLACES = 12 };

/* A number in the range. Written with at most 18 digits before the point and 20 after it, or as many as
 * multiple_places; one without bounds, or with none but 0 below, may have an exponent. */
trol_status json_add_number(json_parts *parts, uint32_t from, uint32_t to, const number_range *range,
                            trol_error *error);

#endif
