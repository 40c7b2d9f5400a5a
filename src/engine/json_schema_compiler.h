/* json_schema_compiler.h - what the files json_schema*.c share: sets of schemas while a grammar is built. */
#ifndef ENGINE_JSON_SCHEMA_COMPILER_H
#define ENGINE_JSON_SCHEMA_COMPILER_H

#include "engine/json_parts.h"
#include "format/json.h"

enum {
    SCHEMA_MAX_PARTS = 256, /* schemas that hold at one place */
    SCHEMA_MAX_NESTED = 64  /* arrays and objects in an answer */
};

/* ---- sets of schemas: json_schema_sets.c ----------------------------------------------------- */

enum used { USED_ANY_OF = 1, USED_ONE_OF = 2, USED_ENUM = 4 };

typedef struct schema_part {
    const cJSON *schema; /* an object */
    unsigned used;       /* which of its keywords are done: `used` bits */
} schema_part;

typedef struct schema_set {
    schema_part *parts;
    size_t n, capacity;
    bool never; /* nothing satisfies it */
    uint32_t rule;
} schema_set;

/* Schemas with OpenAPI's nullable, each with {"anyOf": [itself, {"type": "null"}]}. */
typedef struct nullable_schema {
    const cJSON *schema, *inner;
    cJSON *either;
} nullable_schema;

typedef struct nullable_schemas {
    nullable_schema *items;
    size_t n, capacity;
} nullable_schemas;

typedef struct schema_compiler {
    const cJSON *root;
    nullable_schemas *nullable;
    json_parts json;
    schema_set *sets; /* [n_sets]: rule made, those from `n_done` on not filled */
    size_t n_sets, sets_capacity, n_done;
    int enum_depth;
    trol_status (*fill_rule)(struct schema_compiler *c, const schema_set *set); /* of json_schema.c */
    trol_error *error;
} schema_compiler;

void schema_set_free(schema_set *set);
trol_status schema_set_copy(schema_compiler *c, const schema_set *from, schema_set *to);
/* Adds a schema, and what its $ref and allOf bring in. */
trol_status schema_set_add(schema_compiler *c, schema_set *set, const cJSON *schema);
/* The rule of a set, which is taken over, also on failure. */
trol_status schema_rule_for(schema_compiler *c, schema_set *set, uint32_t *rule);
/* Fills the rules of all sets that are not filled. */
trol_status schema_fill_sets(schema_compiler *c);

/* Errors at a place of the schema, which its JSON pointer names. */
trol_status schema_malformed(const schema_compiler *c, const cJSON *at, const char *what);
trol_status schema_unsupported(const schema_compiler *c, const cJSON *at, const char *what);
/* An error as it is, with the place before it. */
trol_status schema_at_place(const schema_compiler *c, const cJSON *at, trol_status status);
/* Appends the pointer of `wanted` below `at` to text; false if it is not there. */
bool schema_find_pointer(const cJSON *at, const cJSON *wanted, char *text, size_t room);

/* ---- keywords and types: json_schema_sets.c -------------------------------------------------- */

#define IS_AMONG(word, list) schema_is_among(word, list, sizeof list / sizeof *list)

bool schema_is_among(const char *word, const char *const *list, size_t n);
/* Whether a keyword has no effect. */
bool schema_is_annotation(const char *keyword);
const cJSON *schema_member(const cJSON *schema, const char *key);
bool schema_requires(const schema_set *set, const char *name);
/* A count: the strictest of all parts is kept. */
trol_status schema_merge_count(const schema_compiler *c, const schema_set *set, const char *key, bool largest,
                               uint32_t *count);

enum json_type {
    IS_NULL = 1,
    IS_BOOLEAN = 2,
    IS_OBJECT = 4,
    IS_ARRAY = 8,
    IS_STRING = 16,
    IS_INTEGER = 32,
    IS_FRACTION = 64,
    IS_ANYTHING = 127
};

/* As `json_type` bits. */
unsigned schema_type_of(const cJSON *value);
trol_status schema_merge_types(const schema_compiler *c, const schema_set *set, unsigned *types);

/* ---- enum and const: json_schema_values.c ---------------------------------------------------- */

/* Whether a value is among those that `schema` names; true if it names none. */
bool schema_names_value(const cJSON *schema, const cJSON *value);
/* The first part that names values: its enum, or its const as a list of one. */
const cJSON *schema_named_values(const schema_set *set, bool *constant);
trol_status schema_add_named_values(schema_compiler *c, const schema_set *set, const grammar_rule *rule,
                                    const cJSON *values, bool constant);

/* The values that satisfy a set, each once, where they are few: made of what it names, true, false and
 * null. *values is an array that the caller deletes; NULL if they are not few. */
trol_status schema_list_values(schema_compiler *c, const schema_set *set, int most, cJSON **values);
/* Writes a value as JSON, with any white space. */
trol_status schema_add_value(schema_compiler *c, uint32_t from, uint32_t to, const cJSON *value);

/* Whether a set requires more than a type and values. */
bool schema_asks_more(const schema_set *set);
/* Whether a value satisfies a set's keywords other than enum and const, by a grammar of their own. */
trol_status schema_satisfies(schema_compiler *c, const schema_set *set, const cJSON *value, bool *does);

/* ---- a set's rule, from state `from` to state `to` ------------------------------------------- */

/* Makes a rule for each branch of part i's list. */
trol_status schema_add_branches(schema_compiler *c, const schema_set *set, size_t i, const cJSON *list, unsigned used,
                                const grammar_rule *rule);
trol_status schema_add_string(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to);
trol_status schema_add_number(schema_compiler *c, const schema_set *set, bool integer, uint32_t from, uint32_t to);
trol_status schema_add_object(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to);
trol_status schema_add_array(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to);

/* What the parts of a set require of a string. patterns: room for 2 * SCHEMA_MAX_PARTS. */
trol_status schema_merge_text_rules(const schema_compiler *c, const schema_set *set, const char **patterns,
                                    text_rules *rules);
/* The pattern and the length of a string's format; NULL and UINT32_MAX where it requires nothing. With `has_pattern`
 * the schema has a pattern of its own, which takes precedence over a format that is not JSON Schema's own. */
trol_status schema_format_rules(const schema_compiler *c, const cJSON *format, bool has_pattern, const char **pattern,
                                uint32_t *max_length);
/* Narrows a range to what a number's format allows. */
trol_status schema_number_format(const schema_compiler *c, const cJSON *format, number_range *range);
/* The error of a pattern, with the place of the first one in the set. */
trol_status schema_at_pattern(const schema_compiler *c, const schema_set *set, trol_status status);

#endif
