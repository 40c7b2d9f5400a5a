/* json_schema.c - a JSON Schema to rules of a grammar.
 *
 * What a value must satisfy at a place is a set of schemas, all of them at once: the one that is written there, and
 * what $ref and allOf bring in. Each set is a rule, made once. anyOf and oneOf make a rule for each branch; what is
 * left is merged by type. Sets wait in a queue, so that no schema makes this recurse deeper than it is nested. */
#include "engine/json_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/json_parts.h"
#include "engine/matcher.h"
#include "format/json.h"

enum {
    MAX_TEXT_BYTES = 1 << 20,
    MAX_SETS = 20000,      /* rules */
    MAX_PARTS = 256,       /* schemas that hold at one place */
    MAX_NESTED = 64,       /* arrays and objects in an answer */
    MAX_ENUM_DEPTH = 4,    /* enum beside other assertions, inside of such */
    MAX_COMPARE_DEPTH = 8, /* how far oneOf's branches are compared */
    MAX_ITEMS = 1 << 16
};

/* ---- sets of schemas ------------------------------------------------------------------------- */

enum used { USED_ANY_OF = 1, USED_ONE_OF = 2, USED_ENUM = 4 };

typedef struct schema_part {
    const cJSON *schema; /* an object */
    unsigned used;       /* what of it is taken care of: `used` bits */
} schema_part;

typedef struct schema_set {
    schema_part *parts;
    size_t n, capacity;
    bool never; /* nothing satisfies it */
    uint32_t rule;
} schema_set;

typedef struct compiler {
    const cJSON *root;
    json_parts json;
    schema_set *sets; /* [n_sets]: rule made, those from `n_done` on not filled */
    size_t n_sets, sets_capacity, n_done;
    int enum_depth;
    trol_error *error;
} compiler;

static void set_free(schema_set *set) {
    memory_free(set->parts);
    memset(set, 0, sizeof *set);
}

static trol_status copy_set(compiler *c, const schema_set *from, schema_set *to) {
    *to = (schema_set){.never = from->never};
    TRY(memory_grow((void **)&to->parts, &to->capacity, from->n + 1, sizeof *to->parts, "a schema", c->error));
    if (from->n)
        memcpy(to->parts, from->parts, from->n * sizeof *to->parts);
    to->n = from->n;
    return TROL_OK;
}

/* ---- errors by JSON pointer ------------------------------------------------------------------ */

/* Appends the pointer of `wanted` below `at` to text; false if it is not there. */
static bool find_pointer(const cJSON *at, const cJSON *wanted, char *text, size_t room) {
    if (at == wanted)
        return true;
    const size_t used = strlen(text);
    int index = 0;
    for (const cJSON *child = at->child; child; child = child->next, index++) {
        size_t n = used;
        if (n + 2 < room)
            text[n++] = '/';
        if (cJSON_IsArray(at))
            n += (size_t)snprintf(text + n, room - n, "%d", index);
        for (const char *k = cJSON_IsArray(at) ? "" : child->string; *k && n + 3 < room; k++) {
            if (*k == '~' || *k == '/')
                text[n++] = '~';
            text[n++] = *k == '~' ? '0' : *k == '/' ? '1' : *k;
        }
        if (n < room)
            text[n] = '\0';
        if (find_pointer(child, wanted, text, room))
            return true;
        text[used] = '\0';
    }
    return false;
}

/* An error at a place of the schema, which its JSON pointer names. */
static trol_status wrong(const compiler *c, trol_status status, const cJSON *at, const char *what) {
    char pointer[500] = "";
    (void)find_pointer(c->root, at, pointer, sizeof pointer);
    return fail(c->error, status, "the schema at #%s: %s", pointer, what);
}

static trol_status malformed(const compiler *c, const cJSON *at, const char *what) {
    return wrong(c, TROL_ERROR_FORMAT, at, what);
}

static trol_status unsupported(const compiler *c, const cJSON *at, const char *what) {
    return wrong(c, TROL_ERROR_UNSUPPORTED, at, what);
}

/* ---- keywords -------------------------------------------------------------------------------- */

static const char *const annotations[] = {
    "title",    "description",   "default",          "examples",        "$schema", "$id",
    "$comment", "deprecated",    "readOnly",         "writeOnly",       "$defs",   "definitions",
    "$anchor",  "discriminator", "contentMediaType", "contentEncoding", "example", "markdownDescription"};

static const char *const assertions[] = {"type",
                                         "enum",
                                         "const",
                                         "anyOf",
                                         "oneOf",
                                         "allOf",
                                         "$ref",
                                         "properties",
                                         "required",
                                         "items",
                                         "prefixItems",
                                         "minItems",
                                         "maxItems",
                                         "pattern",
                                         "minLength",
                                         "maxLength",
                                         "format",
                                         "minimum",
                                         "maximum",
                                         "multipleOf",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "minProperties",
                                         "additionalProperties",
                                         "propertyNames",
                                         "additionalItems",
                                         "uniqueItems",
                                         "maxProperties"};

static bool is_among(const char *word, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(word, list[i]) == 0)
            return true;
    return false;
}

#define IS_AMONG(word, list) is_among(word, list, sizeof list / sizeof *list)

static trol_status check_keywords(const compiler *c, const cJSON *schema) {
    for (const cJSON *k = schema->child; k; k = k->next)
        if (!IS_AMONG(k->string, annotations) && !IS_AMONG(k->string, assertions) && strncmp(k->string, "x-", 2) != 0)
            return unsupported(c, k, "this keyword is not supported");
    return TROL_OK;
}

static const cJSON *member(const cJSON *schema, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(schema, key);
}

/* ---- $ref ------------------------------------------------------------------------------------ */

static int hex_value(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* The next name of a pointer in a URI: %XX, ~0 and ~1 undone. */
static const char *next_name(const char *at, char *name, size_t room) {
    size_t n = 0;
    while (*at && *at != '/') {
        char character = *at++;
        if (character == '%' && hex_value(at[0]) >= 0 && hex_value(at[1]) >= 0) {
            character = (char)(16 * hex_value(at[0]) + hex_value(at[1]));
            at += 2;
        } else if (character == '~' && (*at == '0' || *at == '1')) {
            character = *at++ == '0' ? '~' : '/';
        }
        if (n + 1 < room)
            name[n++] = character;
    }
    name[n] = '\0';
    return at;
}

static trol_status resolve(const compiler *c, const cJSON *reference, const cJSON **target) {
    if (!cJSON_IsString(reference))
        return malformed(c, reference, "a string is expected");
    const char *at = reference->valuestring;
    if (*at != '#' || (at[1] != '\0' && at[1] != '/'))
        return unsupported(c, reference, "only references into this schema are supported: # or #/...");
    const cJSON *found = c->root;
    for (at++; *at == '/' && found;) {
        char name[512];
        at = next_name(at + 1, name, sizeof name);
        if (cJSON_IsArray(found))
            found = cJSON_GetArrayItem(found, name[0] >= '0' && name[0] <= '9' ? atoi(name) : -1);
        else
            found = cJSON_GetObjectItemCaseSensitive(found, name);
    }
    if (!found)
        return malformed(c, reference, "there is no such place in the schema");
    *target = found;
    return TROL_OK;
}

/* ---- making sets ----------------------------------------------------------------------------- */

/* Adds a schema, and what its $ref and allOf bring in. */
static trol_status add_schema(compiler *c, schema_set *set, const cJSON *schema) {
    const size_t first = set->n;
    const cJSON *waiting[MAX_PARTS];
    size_t n_waiting = 1;
    waiting[0] = schema;
    while (n_waiting > 0) {
        const cJSON *next = waiting[--n_waiting];
        bool known = false;
        if (cJSON_IsFalse(next))
            set->never = true;
        if (cJSON_IsBool(next))
            continue;
        if (!cJSON_IsObject(next))
            return malformed(c, next, "a schema is expected: an object, true or false");
        for (size_t i = 0; i < set->n && !known; i++) {
            known = set->parts[i].schema == next;
            if (known && i < first && set->parts[i].used & (USED_ANY_OF | USED_ONE_OF))
                return unsupported(c, next, "it refers to itself without end");
        }
        if (known)
            continue;
        TRY(check_keywords(c, next));
        if (set->n == MAX_PARTS)
            return unsupported(c, next, "too many schemas hold at one place");
        TRY(memory_grow((void **)&set->parts, &set->capacity, set->n + 1, sizeof *set->parts, "a schema", c->error));
        set->parts[set->n++] = (schema_part){next, 0};
        const cJSON *all_of = member(next, "allOf"), *reference = member(next, "$ref");
        if (all_of && !cJSON_IsArray(all_of))
            return malformed(c, all_of, "an array is expected");
        if (cJSON_GetArraySize(all_of) + n_waiting + 1 > MAX_PARTS)
            return unsupported(c, next, "too many schemas hold at one place");
        for (int i = cJSON_GetArraySize(all_of); i-- > 0;)
            waiting[n_waiting++] = cJSON_GetArrayItem(all_of, i);
        if (reference)
            TRY(resolve(c, reference, &waiting[n_waiting++]));
    }
    return TROL_OK;
}

static bool equal_sets(const schema_set *a, const schema_set *b) {
    if (a->n != b->n || a->never != b->never)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (a->parts[i].schema != b->parts[i].schema || a->parts[i].used != b->parts[i].used)
            return false;
    return true;
}

/* The rule of a set, which is taken over, also on failure. */
static trol_status rule_for(compiler *c, schema_set *set, uint32_t *rule) {
    trol_status status = TROL_OK;
    for (size_t i = 0; i < c->n_sets; i++)
        if (equal_sets(&c->sets[i], set)) {
            *rule = c->sets[i].rule;
            goto done;
        }
    if (c->n_sets == MAX_SETS) {
        status =
            fail(c->error, TROL_ERROR_UNSUPPORTED, "the schema is too large: it takes more than %d rules", MAX_SETS);
        goto done;
    }
    TRY_GOTO(memory_grow((void **)&c->sets, &c->sets_capacity, c->n_sets + 1, sizeof *c->sets, "a schema", c->error),
             done);
    TRY_GOTO(grammar_add_rule(c->json.g, &set->rule, c->error), done);
    *rule = set->rule;
    c->sets[c->n_sets++] = *set;
    return TROL_OK;
done:
    set_free(set);
    return status;
}

/* ---- numbers in keywords --------------------------------------------------------------------- */

/* A count: the strictest of all parts is kept. */
static trol_status merge_count(const compiler *c, const schema_set *set, const char *key, bool largest,
                               uint32_t *count) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *value = member(set->parts[i].schema, key);
        int64_t number;
        if (!value)
            continue;
        if (!json_exact_integer(value, &number) || number < 0)
            return malformed(c, value, "a whole number of at least 0 is expected");
        const uint32_t limited = number > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)number;
        if (largest ? limited < *count : limited > *count)
            *count = limited;
    }
    return TROL_OK;
}

/* A bound as inclusive. The text of a number past 2^53 may have been another one than what was read: the neighbour
 * inwards is safe. */
static trol_status merge_bound(const compiler *c, const cJSON *schema, const char *key, bool upper, bool exclusive,
                               number_range *range) {
    const cJSON *value = member(schema, key);
    if (!value)
        return TROL_OK;
    if (!cJSON_IsNumber(value))
        return malformed(c, value, "a number is expected");
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

static trol_status merge_multiple(const compiler *c, const cJSON *schema, number_range *range) {
    const cJSON *value = member(schema, "multipleOf");
    int64_t multiple;
    if (!value)
        return TROL_OK;
    if (!cJSON_IsNumber(value) || !(value->valuedouble > 0))
        return malformed(c, value, "a number above 0 is expected");
    if (!json_exact_integer(value, &multiple))
        return unsupported(c, value, "only a whole number is supported");
    range->integer = true;
    int64_t a = range->multiple_of, b = multiple;
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    if (multiple / a > JSON_MAX_MULTIPLE / range->multiple_of)
        return unsupported(c, value, "a multiple of more than 4096 is not supported");
    range->multiple_of *= multiple / a;
    return TROL_OK;
}

/* ---- types ----------------------------------------------------------------------------------- */

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

static unsigned type_named(const char *name) {
    static const struct {
        const char *name;
        unsigned types;
    } names[] = {{"null", IS_NULL},
                 {"boolean", IS_BOOLEAN},
                 {"object", IS_OBJECT},
                 {"array", IS_ARRAY},
                 {"string", IS_STRING},
                 {"integer", IS_INTEGER},
                 {"number", IS_INTEGER | IS_FRACTION}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].types;
    return 0;
}

static unsigned type_of(const cJSON *value) {
    if (cJSON_IsNumber(value))
        return value->valuedouble == floor(value->valuedouble) ? IS_INTEGER : IS_FRACTION;
    return cJSON_IsNull(value)     ? IS_NULL
           : cJSON_IsBool(value)   ? IS_BOOLEAN
           : cJSON_IsString(value) ? IS_STRING
           : cJSON_IsArray(value)  ? IS_ARRAY
                                   : IS_OBJECT;
}

static trol_status merge_types(const compiler *c, const schema_set *set, unsigned *types) {
    *types = IS_ANYTHING;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *type = member(set->parts[i].schema, "type"), *item;
        unsigned named = 0;
        if (!type)
            continue;
        if (cJSON_IsString(type))
            named = type_named(type->valuestring);
        const cJSON *list = cJSON_IsArray(type) ? type : NULL;
        cJSON_ArrayForEach(item, list) {
            const unsigned one = cJSON_IsString(item) ? type_named(item->valuestring) : 0;
            if (!one)
                return malformed(c, item, "this is not a type");
            named |= one;
        }
        if (!named)
            return malformed(c, type, "this is not a type");
        *types &= named;
    }
    return TROL_OK;
}

/* ---- enum and const -------------------------------------------------------------------------- */

/* Whether a value is among those that `schema` names; true if it names none. */
static bool is_named(const cJSON *schema, const cJSON *value) {
    const cJSON *constant = member(schema, "const"), *list = member(schema, "enum"), *item;
    if (constant && !cJSON_Compare(constant, value, true))
        return false;
    cJSON_ArrayForEach(item, list) {
        if (cJSON_Compare(item, value, true))
            return true;
    }
    return !list;
}

/* The first part that names values: its enum, or its const as a list of one. */
static const cJSON *named_values(const schema_set *set, bool *constant) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *one = member(set->parts[i].schema, "const"), *list = member(set->parts[i].schema, "enum");
        if ((!one && !list) || set->parts[i].used & USED_ENUM)
            continue;
        *constant = one != NULL;
        return one ? one : list;
    }
    return NULL;
}

/* Writes a value as JSON, with any white space. */
static trol_status add_value(compiler *c, uint32_t from, uint32_t to, const cJSON *value) {
    grammar *g = c->json.g;
    if (cJSON_IsString(value))
        return json_add_literal(&c->json, from, to, value->valuestring, c->error);
    if (!cJSON_IsArray(value) && !cJSON_IsObject(value)) {
        int64_t integer;
        if (cJSON_IsNumber(value) && !json_exact_integer(value, &integer) && type_of(value) == IS_INTEGER)
            return unsupported(c, value, "whole numbers past 2^53 are not supported here");
        char *text = cJSON_PrintUnformatted(value);
        trol_status status =
            text ? grammar_add_text(g, from, to, text, c->error) : fail_memory(c->error, 0, "a schema");
        cJSON_free(text);
        return status;
    }
    const bool object = cJSON_IsObject(value);
    uint32_t at, next;
    TRY(grammar_add_state(g, &at, c->error));
    TRY(grammar_add_text(g, from, at, object ? "{" : "[", c->error));
    for (const cJSON *item = value->child; item; item = item->next) {
        TRY(grammar_add_state(g, &next, c->error));
        TRY(json_add_space(&c->json, at, next, c->error));
        at = next;
        if (object) {
            TRY(grammar_add_state(g, &next, c->error));
            TRY(json_add_literal(&c->json, at, next, item->string, c->error));
            TRY(grammar_add_state(g, &at, c->error));
            TRY(grammar_add_text(g, next, at, ":", c->error));
            TRY(grammar_add_state(g, &next, c->error));
            TRY(json_add_space(&c->json, at, next, c->error));
            at = next;
        }
        TRY(grammar_add_state(g, &next, c->error));
        TRY(add_value(c, at, next, item));
        at = next;
        if (item->next) {
            TRY(grammar_add_state(g, &next, c->error));
            TRY(grammar_add_text(g, at, next, ",", c->error));
            at = next;
        }
    }
    TRY(grammar_add_state(g, &next, c->error));
    TRY(json_add_space(&c->json, at, next, c->error));
    return grammar_add_text(g, next, to, object ? "}" : "]", c->error);
}

static trol_status fill_sets(compiler *c);

/* Whether a value satisfies a set but for enum and const: by a grammar of its own. */
static trol_status satisfies(compiler *c, const schema_set *set, const cJSON *value, bool *does) {
    compiler inner = {.root = c->root, .enum_depth = c->enum_depth + 1, .error = c->error};
    schema_set rest = {0};
    matcher *m = NULL;
    char *text = NULL;
    uint32_t rule, state = MATCHER_START;
    grammar_flaw flaw;
    trol_status status;
    *does = false;
    if (c->enum_depth == MAX_ENUM_DEPTH)
        return unsupported(c, value, "enum and const with other assertions are nested too deep");
    TRY_GOTO(grammar_new(MAX_NESTED, &inner.json.g, c->error), done);
    TRY_GOTO(copy_set(c, set, &rest), done);
    for (size_t i = 0; i < rest.n; i++)
        rest.parts[i].used |= USED_ENUM;
    TRY_GOTO(rule_for(&inner, &rest, &rule), done);
    TRY_GOTO(fill_sets(&inner), done);
    TRY_GOTO(grammar_finish(inner.json.g, rule, &flaw, &rule, c->error), done);
    if (flaw != GRAMMAR_SOUND)
        goto done;
    status = matcher_new(inner.json.g, &m, c->error);
    inner.json.g = NULL;
    TRY_GOTO(status, done);
    text = cJSON_PrintUnformatted(value);
    if (!text)
        TRY_GOTO(fail_memory(c->error, 0, "a schema"), done);
    for (const char *at = text; *at && state != MATCHER_DEAD; at++)
        TRY_GOTO(matcher_step(m, state, (uint8_t)*at, &state, c->error), done);
    *does = state != MATCHER_DEAD && matcher_accepts(m, state);
done:
    cJSON_free(text);
    matcher_free(m);
    grammar_free(inner.json.g);
    for (size_t i = 0; i < inner.n_sets; i++)
        set_free(&inner.sets[i]);
    memory_free(inner.sets);
    json_parts_free(&inner.json);
    return status;
}

/* Whether more than a type and values is asked. */
static bool asks_more(const schema_set *set) {
    static const char *const harmless[] = {"type", "enum", "const", "$ref", "allOf", "anyOf", "oneOf"};
    for (size_t i = 0; i < set->n; i++)
        for (const cJSON *k = set->parts[i].schema->child; k; k = k->next)
            if (!IS_AMONG(k->string, annotations) && !IS_AMONG(k->string, harmless))
                return true;
    return false;
}

static trol_status add_named_values(compiler *c, const schema_set *set, const grammar_rule *rule, const cJSON *values,
                                    bool constant) {
    unsigned types;
    TRY(merge_types(c, set, &types));
    if (!constant && !cJSON_IsArray(values))
        return malformed(c, values, "an array is expected");
    for (const cJSON *value = constant ? values : values->child; value; value = constant ? NULL : value->next) {
        bool fits = (type_of(value) & types) != 0;
        for (size_t i = 0; i < set->n && fits; i++)
            fits = is_named(set->parts[i].schema, value);
        if (fits && asks_more(set))
            TRY(satisfies(c, set, value, &fits));
        if (fits)
            TRY(add_value(c, rule->start, rule->end, value));
    }
    return TROL_OK;
}

/* ---- oneOf ----------------------------------------------------------------------------------- */

/* The values that a set names, as types; IS_ANYTHING if it names none. */
static unsigned named_types(const cJSON *values, bool constant) {
    unsigned types = 0;
    for (const cJSON *value = constant ? values
                              : values ? values->child
                                       : NULL;
         value; value = constant ? NULL : value->next)
        types |= type_of(value);
    return values ? types : IS_ANYTHING;
}

static const cJSON *find_property(const schema_set *set, const char *name) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *found = member(member(set->parts[i].schema, "properties"), name);
        if (found)
            return found;
    }
    return NULL;
}

static bool is_required(const schema_set *set, const char *name) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *item;
        const cJSON *required = member(set->parts[i].schema, "required");
        cJSON_ArrayForEach(item, required) {
            if (cJSON_IsString(item) && strcmp(item->valuestring, name) == 0)
                return true;
        }
    }
    return false;
}

static trol_status are_exclusive(compiler *c, const schema_set *a, const schema_set *b, unsigned types, int depth,
                                 bool *exclusive);

/* All branches of a's first anyOf or oneOf exclude b. */
static trol_status branches_exclude(compiler *c, const schema_set *a, const schema_set *b, unsigned types, int depth,
                                    bool *exclusive) {
    for (size_t i = 0; i < a->n; i++) {
        const cJSON *any_of = member(a->parts[i].schema, "anyOf"), *one_of = member(a->parts[i].schema, "oneOf");
        const cJSON *list = any_of && !(a->parts[i].used & USED_ANY_OF)   ? any_of
                            : one_of && !(a->parts[i].used & USED_ONE_OF) ? one_of
                                                                          : NULL,
                    *branch;
        if (!list)
            continue;
        *exclusive = true;
        cJSON_ArrayForEach(branch, list) {
            schema_set set;
            bool one = false;
            trol_status status = copy_set(c, a, &set);
            set.parts[i].used |= list == any_of ? USED_ANY_OF : USED_ONE_OF;
            if (status == TROL_OK)
                status = add_schema(c, &set, branch);
            if (status == TROL_OK)
                status = are_exclusive(c, &set, b, types, depth + 1, &one);
            set_free(&set);
            TRY(status);
            *exclusive = *exclusive && one;
        }
        return TROL_OK;
    }
    return TROL_OK;
}

/* A property that one of both requires and whose values exclude each other. */
static trol_status properties_exclude(compiler *c, const schema_set *a, const schema_set *b, int depth,
                                      bool *exclusive) {
    for (size_t i = 0; i < a->n && !*exclusive; i++) {
        const cJSON *properties = member(a->parts[i].schema, "properties"), *property;
        cJSON_ArrayForEach(property, properties) {
            const cJSON *other = find_property(b, property->string);
            schema_set left = {0}, right = {0};
            if (!other || *exclusive || !(is_required(a, property->string) || is_required(b, property->string)))
                continue;
            trol_status status = add_schema(c, &left, property);
            if (status == TROL_OK)
                status = add_schema(c, &right, other);
            if (status == TROL_OK)
                status = are_exclusive(c, &left, &right, IS_ANYTHING, depth + 1, exclusive);
            set_free(&left);
            set_free(&right);
            TRY(status);
        }
    }
    return TROL_OK;
}

static trol_status are_exclusive(compiler *c, const schema_set *a, const schema_set *b, unsigned types, int depth,
                                 bool *exclusive) {
    bool a_constant = false, b_constant = false;
    unsigned a_types, b_types;
    const cJSON *a_values = named_values(a, &a_constant), *b_values = named_values(b, &b_constant);
    TRY(merge_types(c, a, &a_types));
    TRY(merge_types(c, b, &b_types));
    types &= a_types & b_types & named_types(a_values, a_constant) & named_types(b_values, b_constant);
    *exclusive = types == 0 || a->never || b->never;
    if (*exclusive || depth == MAX_COMPARE_DEPTH)
        return TROL_OK;
    if (a_values && b_values) {
        *exclusive = true;
        for (const cJSON *v = a_constant ? a_values : a_values->child; v; v = a_constant ? NULL : v->next) {
            bool in_a = true, in_b = true;
            for (size_t i = 0; i < a->n; i++)
                in_a = in_a && is_named(a->parts[i].schema, v);
            for (size_t i = 0; i < b->n; i++)
                in_b = in_b && is_named(b->parts[i].schema, v);
            *exclusive = *exclusive && !(in_a && in_b);
        }
        if (*exclusive)
            return TROL_OK;
    }
    TRY(branches_exclude(c, a, b, types, depth, exclusive));
    if (!*exclusive)
        TRY(branches_exclude(c, b, a, types, depth, exclusive));
    if (!*exclusive && types == IS_OBJECT)
        TRY(properties_exclude(c, a, b, depth, exclusive));
    return TROL_OK;
}

static trol_status check_one_of(compiler *c, const schema_set *around, const cJSON *list) {
    unsigned types;
    TRY(merge_types(c, around, &types));
    for (const cJSON *first = list->child; first; first = first->next)
        for (const cJSON *second = first->next; second; second = second->next) {
            schema_set a = {0}, b = {0};
            bool exclusive = false;
            trol_status status = add_schema(c, &a, first);
            if (status == TROL_OK)
                status = add_schema(c, &b, second);
            if (status == TROL_OK)
                status = are_exclusive(c, &a, &b, types, 0, &exclusive);
            set_free(&a);
            set_free(&b);
            TRY(status);
            if (!exclusive)
                return unsupported(c, second,
                                   "this branch of oneOf does not differ from an earlier one by its type or by "
                                   "a constant in it");
        }
    return TROL_OK;
}

/* ---- anyOf and oneOf ------------------------------------------------------------------------- */

/* Makes a rule for each branch of part i's list. */
static trol_status add_branches(compiler *c, const schema_set *set, size_t i, const cJSON *list, unsigned used,
                                const grammar_rule *rule) {
    const cJSON *branch;
    if (!cJSON_IsArray(list) || !list->child)
        return malformed(c, list, "an array of schemas is expected");
    if (used == USED_ONE_OF)
        TRY(check_one_of(c, set, list));
    cJSON_ArrayForEach(branch, list) {
        schema_set narrowed;
        uint32_t called;
        trol_status status = copy_set(c, set, &narrowed);
        if (status == TROL_OK) {
            narrowed.parts[i].used |= used;
            status = add_schema(c, &narrowed, branch);
        }
        if (status != TROL_OK) {
            set_free(&narrowed);
            return status;
        }
        TRY(rule_for(c, &narrowed, &called));
        TRY(grammar_add_call(c->json.g, rule->start, rule->end, called, c->error));
    }
    return TROL_OK;
}

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

/* What the parts of a set ask of a string. patterns: room for 2 * MAX_PARTS. */
static trol_status merge_text_rules(const compiler *c, const schema_set *set, const char **patterns,
                                    text_rules *rules) {
    *rules = (text_rules){.patterns = patterns, .max_length = UINT32_MAX};
    TRY(merge_count(c, set, "minLength", false, &rules->min_length));
    TRY(merge_count(c, set, "maxLength", true, &rules->max_length));
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *pattern = member(set->parts[i].schema, "pattern"),
                    *format = member(set->parts[i].schema, "format");
        if (pattern && !cJSON_IsString(pattern))
            return malformed(c, pattern, "a string is expected");
        if (format && !cJSON_IsString(format))
            return malformed(c, format, "a string is expected");
        if (pattern)
            patterns[rules->n_patterns++] = pattern->valuestring;
        if (format && !format_pattern(format->valuestring))
            return unsupported(c, format, "this format is not supported, only date, time, date-time and uuid are");
        if (format)
            patterns[rules->n_patterns++] = format_pattern(format->valuestring);
    }
    return TROL_OK;
}

/* The error of a pattern, with the place of the first one in the set. */
static trol_status at_pattern(const compiler *c, const schema_set *set, trol_status status) {
    for (size_t i = 0; i < set->n && status != TROL_OK && status != TROL_ERROR_MEMORY; i++) {
        const cJSON *pattern = member(set->parts[i].schema, "pattern");
        char pointer[400] = "";
        if (!pattern || !c->error)
            continue;
        char prefix[450];
        (void)find_pointer(c->root, pattern, pointer, sizeof pointer);
        snprintf(prefix, sizeof prefix, "the schema at #%s", pointer);
        return fail_prefix(c->error, status, prefix);
    }
    return status;
}

static trol_status add_string(compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
    const char *patterns[2 * MAX_PARTS];
    text_rules rules;
    text_automaton *a;
    TRY(merge_text_rules(c, set, patterns, &rules));
    if (rules.n_patterns == 0 && rules.min_length == 0 && rules.max_length == UINT32_MAX)
        return json_add_any_string(&c->json, from, to, c->error);
    if (rules.min_length > rules.max_length)
        return TROL_OK;
    TRY(at_pattern(c, set, text_automaton_new(&rules, &a, c->error)));
    trol_status status = json_add_string(&c->json, from, to, a, c->error);
    text_automaton_free(a);
    return status;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static trol_status add_number(compiler *c, const schema_set *set, bool integer, uint32_t from, uint32_t to) {
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

/* ---- objects --------------------------------------------------------------------------------- */

/* An object's rule in the making. */
typedef struct object_plan {
    const char **names; /* [n]: declared and required ones, in order */
    size_t n, capacity;
    uint32_t empty, some; /* states: nothing was written yet, something was */
    bool may_be_empty;
} object_plan;

static trol_status add_name(compiler *c, object_plan *plan, const char *name) {
    if (is_among(name, plan->names, plan->n))
        return TROL_OK;
    TRY(memory_grow((void **)&plan->names, &plan->capacity, plan->n + 1, sizeof *plan->names, "a schema", c->error));
    plan->names[plan->n++] = name;
    return TROL_OK;
}

static trol_status collect_names(compiler *c, const schema_set *set, object_plan *plan) {
    const cJSON *item;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *properties = member(set->parts[i].schema, "properties");
        if (properties && !cJSON_IsObject(properties))
            return malformed(c, properties, "an object is expected");
        cJSON_ArrayForEach(item, properties) { TRY(add_name(c, plan, item->string)); }
    }
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *required = member(set->parts[i].schema, "required");
        if (required && !cJSON_IsArray(required))
            return malformed(c, required, "an array is expected");
        cJSON_ArrayForEach(item, required) {
            if (!cJSON_IsString(item))
                return malformed(c, item, "a string is expected");
            TRY(add_name(c, plan, item->valuestring));
        }
    }
    return TROL_OK;
}

/* What a property must be: each part's own schema for it, or its additionalProperties. name NULL: any other one. */
static trol_status property_set(compiler *c, const schema_set *set, const char *name, schema_set *property) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *schema = set->parts[i].schema;
        const cJSON *own = name ? member(member(schema, "properties"), name) : NULL;
        if (!own)
            own = member(schema, "additionalProperties");
        if (own)
            TRY(add_schema(c, property, own));
    }
    return TROL_OK;
}

/* The names that propertyNames allows but for those of the plan; *a is NULL if any string does. */
static trol_status names_automaton(compiler *c, const schema_set *set, const object_plan *plan, bool *none,
                                   text_automaton **a) {
    schema_set names = {0};
    const char *patterns[2 * MAX_PARTS];
    text_rules rules;
    unsigned types;
    trol_status status = TROL_OK;
    *a = NULL;
    for (size_t i = 0; i < set->n; i++)
        if (member(set->parts[i].schema, "propertyNames"))
            TRY_GOTO(add_schema(c, &names, member(set->parts[i].schema, "propertyNames")), done);
    bool constant;
    for (size_t i = 0; i < names.n; i++)
        if (member(names.parts[i].schema, "anyOf") || member(names.parts[i].schema, "oneOf"))
            TRY_GOTO(unsupported(c, names.parts[i].schema, "anyOf and oneOf in propertyNames are not supported"), done);
    TRY_GOTO(merge_types(c, &names, &types), done);
    TRY_GOTO(merge_text_rules(c, &names, patterns, &rules), done);
    rules.taken = plan->names;
    rules.n_taken = plan->n;
    *none = names.never || !(types & IS_STRING) || named_values(&names, &constant) != NULL;
    if (!*none && (rules.n_patterns || rules.min_length || rules.max_length != UINT32_MAX || rules.n_taken))
        status = at_pattern(c, &names, text_automaton_new(&rules, a, c->error));
done:
    set_free(&names);
    return status;
}

/* Whether propertyNames allows a name; with its enum or const, the names that it lists. */
static trol_status name_allowed(compiler *c, const schema_set *set, const char *name, bool *allowed) {
    *allowed = true;
    for (size_t i = 0; i < set->n && *allowed; i++) {
        const cJSON *schema = member(set->parts[i].schema, "propertyNames");
        schema_set names = {0};
        bool constant;
        if (!schema)
            continue;
        cJSON *value = cJSON_CreateString(name);
        trol_status status = value ? add_schema(c, &names, schema) : fail_memory(c->error, 0, "a schema");
        for (size_t part = 0; part < names.n && status == TROL_OK; part++)
            *allowed = *allowed && is_named(names.parts[part].schema, value);
        if (status == TROL_OK && (asks_more(&names) || !named_values(&names, &constant) || names.never) && *allowed)
            status = satisfies(c, &names, value, allowed);
        cJSON_Delete(value);
        set_free(&names);
        TRY(status);
    }
    return TROL_OK;
}

/* Names that propertyNames lists are as good as declared. */
static trol_status collect_listed_names(compiler *c, const schema_set *set, object_plan *plan) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *schema = member(set->parts[i].schema, "propertyNames"), *item;
        schema_set names = {0};
        bool constant = false;
        trol_status status = schema ? add_schema(c, &names, schema) : TROL_OK;
        const cJSON *values = named_values(&names, &constant);
        if (values && constant && cJSON_IsString(values) && status == TROL_OK)
            status = add_name(c, plan, values->valuestring);
        values = constant ? NULL : values;
        cJSON_ArrayForEach(item, values) {
            if (cJSON_IsString(item) && status == TROL_OK)
                status = add_name(c, plan, item->valuestring);
        }
        set_free(&names);
        TRY(status);
    }
    return TROL_OK;
}

/* From `key`, where a name may be written: the name by `add`, a colon, the value. */
static trol_status add_member(compiler *c, uint32_t after_key, uint32_t to, schema_set *value) {
    grammar *g = c->json.g;
    uint32_t colon, before_value, rule;
    TRY(rule_for(c, value, &rule));
    TRY(grammar_add_state(g, &colon, c->error));
    TRY(grammar_add_state(g, &before_value, c->error));
    TRY(grammar_add_text(g, after_key, colon, ":", c->error));
    TRY(json_add_space(&c->json, colon, before_value, c->error));
    return grammar_add_call(g, before_value, to, rule, c->error);
}

/* To where a name may be written: after the brace, or after a comma. */
static trol_status add_separator(compiler *c, const object_plan *plan, uint32_t key) {
    uint32_t comma;
    TRY(json_add_space(&c->json, plan->empty, key, c->error));
    TRY(grammar_add_state(c->json.g, &comma, c->error));
    TRY(grammar_add_text(c->json.g, plan->some, comma, ",", c->error));
    return json_add_space(&c->json, comma, key, c->error);
}

static trol_status add_property(compiler *c, const schema_set *set, object_plan *plan, const char *name) {
    grammar *g = c->json.g;
    const bool required = is_required(set, name);
    uint32_t key, after_key, empty, some;
    schema_set value = {0};
    bool allowed;
    TRY(name_allowed(c, set, name, &allowed));
    TRY(grammar_add_state(g, &key, c->error));
    TRY(grammar_add_state(g, &after_key, c->error));
    TRY(grammar_add_state(g, &empty, c->error));
    TRY(grammar_add_state(g, &some, c->error));
    trol_status status = property_set(c, set, name, &value);
    if (status != TROL_OK || value.never || !allowed) {
        set_free(&value);
        TRY(status);
    } else {
        TRY(add_separator(c, plan, key));
        TRY(json_add_literal(&c->json, key, after_key, name, c->error));
        TRY(add_member(c, after_key, some, &value));
    }
    if (!required) {
        TRY(grammar_add_empty(g, plan->empty, empty, c->error));
        TRY(grammar_add_empty(g, plan->some, some, c->error));
    }
    plan->empty = empty;
    plan->some = some;
    return TROL_OK;
}

static trol_status add_other_properties(compiler *c, const schema_set *set, const object_plan *plan) {
    schema_set value = {0};
    text_automaton *names = NULL;
    uint32_t key, after_key;
    bool none = false;
    trol_status status = property_set(c, set, NULL, &value);
    if (status == TROL_OK && !value.never)
        status = names_automaton(c, set, plan, &none, &names);
    if (status != TROL_OK || value.never || none) {
        set_free(&value);
        return status;
    }
    TRY_GOTO(grammar_add_state(c->json.g, &key, c->error), done);
    TRY_GOTO(grammar_add_state(c->json.g, &after_key, c->error), done);
    TRY_GOTO(add_separator(c, plan, key), done);
    if (names)
        TRY_GOTO(json_add_string(&c->json, key, after_key, names, c->error), done);
    else
        TRY_GOTO(json_add_any_string(&c->json, key, after_key, c->error), done);
    status = add_member(c, after_key, plan->some, &value);
    text_automaton_free(names);
    return status;
done:
    set_free(&value);
    text_automaton_free(names);
    return status;
}

/* The numbers of properties are not counted: what is always so is allowed. */
static trol_status check_property_counts(const compiler *c, const schema_set *set, object_plan *plan) {
    uint32_t smallest = 0, n_required = 0;
    TRY(merge_count(c, set, "minProperties", false, &smallest));
    for (size_t i = 0; i < plan->n; i++)
        n_required += is_required(set, plan->names[i]);
    plan->may_be_empty = smallest == 0;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *least = member(set->parts[i].schema, "minProperties"),
                    *most = member(set->parts[i].schema, "maxProperties");
        schema_set other = {0};
        if (least && smallest > 1 && smallest > n_required)
            return unsupported(c, least, "more than 1, and more than are required, is not supported");
        if (!most)
            continue;
        int64_t number;
        if (!json_exact_integer(most, &number) || number < 0)
            return malformed(c, most, "a whole number of at least 0 is expected");
        trol_status status = property_set((compiler *)c, set, NULL, &other);
        const bool closed = other.never;
        set_free(&other);
        TRY(status);
        if (!closed || number < (int64_t)plan->n)
            return unsupported(c, most, "it is supported only where additionalProperties is false and it asks nothing");
    }
    return TROL_OK;
}

static trol_status add_object(compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
    grammar *g = c->json.g;
    object_plan plan = {0};
    uint32_t last;
    trol_status status;
    TRY_GOTO(collect_names(c, set, &plan), done);
    TRY_GOTO(collect_listed_names(c, set, &plan), done);
    TRY_GOTO(check_property_counts(c, set, &plan), done);
    TRY_GOTO(grammar_add_state(g, &plan.empty, c->error), done);
    TRY_GOTO(grammar_add_state(g, &plan.some, c->error), done);
    TRY_GOTO(grammar_add_state(g, &last, c->error), done);
    TRY_GOTO(grammar_add_text(g, from, plan.empty, "{", c->error), done);
    for (size_t i = 0; i < plan.n; i++)
        TRY_GOTO(add_property(c, set, &plan, plan.names[i]), done);
    TRY_GOTO(add_other_properties(c, set, &plan), done);
    if (plan.may_be_empty)
        TRY_GOTO(json_add_space(&c->json, plan.empty, last, c->error), done);
    TRY_GOTO(json_add_space(&c->json, plan.some, last, c->error), done);
    status = grammar_add_text(g, last, to, "}", c->error);
done:
    memory_free(plan.names);
    return status;
}

/* ---- arrays ---------------------------------------------------------------------------------- */

/* The schemas of the first items (*rest: of those after them), by the standard of 2020 or those before it. */
static const cJSON *first_items(const cJSON *schema, const cJSON **rest) {
    const cJSON *prefix = member(schema, "prefixItems"), *items = member(schema, "items");
    const bool old = !prefix && cJSON_IsArray(items);
    *rest = old ? member(schema, "additionalItems") : items;
    return old ? items : prefix;
}

static trol_status item_rule(compiler *c, const schema_set *set, int index, bool *never, uint32_t *rule) {
    schema_set item = {0};
    trol_status status = TROL_OK;
    for (size_t i = 0; i < set->n && status == TROL_OK; i++) {
        const cJSON *rest, *first = first_items(set->parts[i].schema, &rest);
        if (first && !cJSON_IsArray(first))
            status = malformed(c, first, "an array is expected");
        const cJSON *own = index < cJSON_GetArraySize(first) ? cJSON_GetArrayItem(first, index) : rest;
        if (own && status == TROL_OK)
            status = add_schema(c, &item, own);
    }
    *never = item.never;
    if (status != TROL_OK || item.never) {
        set_free(&item);
        return status;
    }
    return rule_for(c, &item, rule);
}

/* From the state after `index` items to the one after one more. */
static trol_status add_item(compiler *c, uint32_t from, uint32_t to, uint32_t index, uint32_t rule) {
    grammar *g = c->json.g;
    uint32_t comma = from, before;
    TRY(grammar_add_state(g, &before, c->error));
    if (index > 0) {
        TRY(grammar_add_state(g, &comma, c->error));
        TRY(grammar_add_text(g, from, comma, ",", c->error));
    }
    TRY(json_add_space(&c->json, comma, before, c->error));
    return grammar_add_call(g, before, to, rule, c->error);
}

static trol_status check_unique(const compiler *c, const schema_set *set, uint32_t most) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *unique = member(set->parts[i].schema, "uniqueItems");
        if (unique && !cJSON_IsBool(unique))
            return malformed(c, unique, "true or false is expected");
        if (cJSON_IsTrue(unique) && most > 1)
            return unsupported(c, unique, "it is supported only where maxItems is at most 1");
    }
    return TROL_OK;
}

static trol_status add_array(compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
    grammar *g = c->json.g;
    uint32_t least = 0, most = UINT32_MAX, n_first = 1, at, last, rule = 0;
    bool never = false;
    TRY(merge_count(c, set, "minItems", false, &least));
    TRY(merge_count(c, set, "maxItems", true, &most));
    TRY(check_unique(c, set, most));
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *rest;
        const int n = cJSON_GetArraySize(first_items(set->parts[i].schema, &rest));
        n_first = (uint32_t)n > n_first ? (uint32_t)n : n_first;
    }
    n_first = least > n_first ? least : n_first;
    if (n_first > MAX_ITEMS || (most != UINT32_MAX && most > MAX_ITEMS))
        return fail(c->error, TROL_ERROR_UNSUPPORTED, "an array of more than %d items is not supported", MAX_ITEMS);
    TRY(grammar_add_state(g, &at, c->error));
    TRY(grammar_add_state(g, &last, c->error));
    TRY(grammar_add_text(g, from, at, "[", c->error));
    TRY(grammar_add_text(g, last, to, "]", c->error));
    for (uint32_t i = 0;; i++) {
        if (i >= least)
            TRY(json_add_space(&c->json, at, last, c->error));
        if (i == most || never)
            return TROL_OK;
        TRY(item_rule(c, set, (int)i, &never, &rule));
        if (never)
            return TROL_OK;
        if (i == n_first && most == UINT32_MAX)
            return add_item(c, at, at, i, rule);
        uint32_t next;
        TRY(grammar_add_state(g, &next, c->error));
        TRY(add_item(c, at, next, i, rule));
        at = next;
    }
}

/* ---- rules ----------------------------------------------------------------------------------- */

static trol_status add_types(compiler *c, const schema_set *set, const grammar_rule *rule) {
    grammar *g = c->json.g;
    unsigned types;
    TRY(merge_types(c, set, &types));
    if (types & IS_NULL)
        TRY(grammar_add_text(g, rule->start, rule->end, "null", c->error));
    if (types & IS_BOOLEAN) {
        TRY(grammar_add_text(g, rule->start, rule->end, "true", c->error));
        TRY(grammar_add_text(g, rule->start, rule->end, "false", c->error));
    }
    if (types & IS_INTEGER)
        TRY(add_number(c, set, !(types & IS_FRACTION), rule->start, rule->end));
    if (types & IS_STRING)
        TRY(add_string(c, set, rule->start, rule->end));
    if (types & IS_ARRAY)
        TRY(add_array(c, set, rule->start, rule->end));
    return types & IS_OBJECT ? add_object(c, set, rule->start, rule->end) : TROL_OK;
}

static trol_status fill_rule(compiler *c, const schema_set *set) {
    const grammar_rule rule = c->json.g->rules[set->rule];
    bool constant;
    if (set->never)
        return TROL_OK;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *any_of = member(set->parts[i].schema, "anyOf"), *one_of = member(set->parts[i].schema, "oneOf");
        if (any_of && !(set->parts[i].used & USED_ANY_OF))
            return add_branches(c, set, i, any_of, USED_ANY_OF, &rule);
        if (one_of && !(set->parts[i].used & USED_ONE_OF))
            return add_branches(c, set, i, one_of, USED_ONE_OF, &rule);
    }
    const cJSON *values = named_values(set, &constant);
    return values ? add_named_values(c, set, &rule, values, constant) : add_types(c, set, &rule);
}

static trol_status fill_sets(compiler *c) {
    for (; c->n_done < c->n_sets; c->n_done++) {
        schema_set set;
        TRY(copy_set(c, &c->sets[c->n_done], &set)); /* the array of sets may move */
        set.rule = c->sets[c->n_done].rule;
        trol_status status = fill_rule(c, &set);
        set_free(&set);
        TRY(status);
    }
    return TROL_OK;
}

static trol_status finish(compiler *c, uint32_t root) {
    grammar_flaw flaw;
    uint32_t rule;
    TRY(grammar_finish(c->json.g, root, &flaw, &rule, c->error));
    switch (flaw) {
    case GRAMMAR_SOUND:
        return TROL_OK;
    case GRAMMAR_EMPTY:
        return fail(c->error, TROL_ERROR_FORMAT,
                    "nothing satisfies the schema: what it asks contradicts itself, or never ends");
    case GRAMMAR_TOO_LONG:
        return fail(c->error, TROL_ERROR_UNSUPPORTED, "all that satisfies the schema is longer than a million bytes");
    case GRAMMAR_LEFT_RECURSIVE:
        break;
    }
    for (size_t i = 0; i < c->n_sets; i++)
        if (c->sets[i].rule == rule && c->sets[i].n > 0)
            return unsupported(c, c->sets[i].parts[0].schema, "it refers to itself without end");
    return fail(c->error, TROL_ERROR_UNSUPPORTED, "the schema refers to itself without end");
}

trol_status json_schema_compile(const char *text, size_t n_bytes, grammar **result, trol_error *error) {
    compiler c = {.error = error};
    schema_set set = {0};
    cJSON *json = NULL;
    uint32_t root;
    trol_status status;
    *result = NULL;
    if (n_bytes > MAX_TEXT_BYTES)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the schema has %zu bytes, expected at most %d", n_bytes,
                    MAX_TEXT_BYTES);
    TRY_GOTO(json_parse(text, n_bytes, "the schema", &json, error), done);
    c.root = json;
    TRY_GOTO(grammar_new(MAX_NESTED, &c.json.g, error), done);
    TRY_GOTO(add_schema(&c, &set, json), done);
    TRY_GOTO(rule_for(&c, &set, &root), done);
    TRY_GOTO(fill_sets(&c), done);
    TRY_GOTO(finish(&c, root), done);
    *result = c.json.g;
    c.json.g = NULL;
done:
    if (status != TROL_OK && c.n_sets == 0)
        set_free(&set);
    for (size_t i = 0; i < c.n_sets; i++)
        set_free(&c.sets[i]);
    memory_free(c.sets);
    json_parts_free(&c.json);
    grammar_free(c.json.g);
    cJSON_Delete(json);
    return status;
}
