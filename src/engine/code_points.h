/* code_points.h - sets of Unicode code points, and what they become in a grammar over bytes: UTF-8, plain or inside a
 * JSON string, where escapes stand for characters as well. */
#ifndef ENGINE_CODE_POINTS_H
#define ENGINE_CODE_POINTS_H

#include "engine/grammar.h"

typedef struct code_range {
    uint32_t first, last; /* inclusive */
} code_range;

/* Sorted ranges that neither overlap nor touch once code_points_normalize was called; zeros are an empty set. */
typedef struct code_points {
    code_range *ranges;
    size_t n, capacity;
} code_points;

enum { CODE_POINT_LAST = 0x10ffff };

trol_status code_points_add(code_points *set, uint32_t first, uint32_t last, trol_error *error);
trol_status code_points_add_all(code_points *set, const code_points *added, trol_error *error);
/* Sorts and joins ranges, and removes surrogates, which are not characters. */
trol_status code_points_normalize(code_points *set, trol_error *error);
/* All characters that are not in the normalized set. */
trol_status code_points_invert(code_points *set, trol_error *error);
/* *common (empty before) becomes what is in both normalized sets. */
trol_status code_points_intersect(const code_points *a, const code_points *b, code_points *common, trol_error *error);
bool code_points_has(const code_points *set, uint32_t code_point);
void code_points_free(code_points *set);

/* Rules made for sets so far, so that each is made once; zeros are none. Free with code_point_rules_free. */
typedef struct code_point_rules {
    struct code_point_rule *rules;
    size_t n, capacity;
} code_point_rules;

void code_point_rules_free(code_point_rules *rules);

/* One character of a normalized set, in UTF-8. */
trol_status grammar_add_characters(grammar *g, code_point_rules *rules, uint32_t from, uint32_t to,
                                   const code_points *set, trol_error *error);
/* One character of a normalized set inside a JSON string: as itself where JSON allows that, with a backslash, or as
 * \uXXXX where writers of JSON do so: what is not ASCII, control characters, and " \ / < > & '. */
trol_status grammar_add_json_characters(grammar *g, code_point_rules *rules, uint32_t from, uint32_t to,
                                        const code_points *set, trol_error *error);

#endif
