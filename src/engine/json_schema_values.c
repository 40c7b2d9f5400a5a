/* json_schema_values.c - enum and const: the values themselves, those that the rest of the set accepts. */
#include "engine/json_schema_compiler.h"

#include <stdlib.h>

#include "base/memory.h"
#include "engine/matcher.h"

enum { MAX_ENUM_DEPTH = 4 }; /* of enums beside other assertions, inside one another */

/* Whether a value is among those that `schema` names; true if it names none. */
bool schema_names_value(const cJSON *schema, const cJSON *value) {
    const cJSON *constant = schema_member(schema, "const"), *list = schema_member(schema, "enum"), *item;
    if (constant && !cJSON_Compare(constant, value, true))
        return false;
    cJSON_ArrayForEach(item, list) {
        if (cJSON_Compare(item, value, true))
            return true;
    }
    return !list;
}

/* The first part that names values: its enum, or its const as a list of one. */
const cJSON *schema_named_values(const schema_set *set, bool *constant) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *one = schema_member(set->parts[i].schema, "const"),
                    *list = schema_member(set->parts[i].schema, "enum");
        if ((!one && !list) || set->parts[i].used & USED_ENUM)
            continue;
        *constant = one != NULL;
        return one ? one : list;
    }
    return NULL;
}

trol_status schema_add_value(schema_compiler *c, uint32_t from, uint32_t to, const cJSON *value) {
    grammar *g = c->json.g;
    if (cJSON_IsString(value))
        return json_add_literal(&c->json, from, to, value->valuestring, c->error);
    if (!cJSON_IsArray(value) && !cJSON_IsObject(value)) {
        int64_t integer;
        if (cJSON_IsNumber(value) && !json_exact_integer(value, &integer) && schema_type_of(value) == IS_INTEGER)
            return schema_unsupported(c, value, "whole numbers past 2^53 are not supported here");
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
        TRY(schema_add_value(c, at, next, item));
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

/* Whether a value satisfies a set's keywords other than enum and const, by a grammar of their own. */
trol_status schema_satisfies(schema_compiler *c, const schema_set *set, const cJSON *value, bool *does) {
    schema_compiler inner = {.root = c->root,
                             .nullable = c->nullable,
                             .enum_depth = c->enum_depth + 1,
                             .fill_rule = c->fill_rule,
                             .error = c->error};
    schema_set rest = {0};
    matcher *m = NULL;
    char *text = NULL;
    uint32_t rule, state = MATCHER_START;
    grammar_flaw flaw;
    trol_status status;
    *does = false;
    if (c->enum_depth == MAX_ENUM_DEPTH)
        return schema_unsupported(c, value, "enum and const with other assertions are nested too deep");
    TRY_GOTO(grammar_new(SCHEMA_MAX_NESTED, &inner.json.g, c->error), done);
    TRY_GOTO(schema_set_copy(c, set, &rest), done);
    for (size_t i = 0; i < rest.n; i++)
        rest.parts[i].used |= USED_ENUM;
    TRY_GOTO(schema_rule_for(&inner, &rest, &rule), done);
    TRY_GOTO(schema_fill_sets(&inner), done);
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
        schema_set_free(&inner.sets[i]);
    memory_free(inner.sets);
    json_parts_free(&inner.json);
    return status;
}

/* Whether more than a type and values is required. */
bool schema_asks_more(const schema_set *set) {
    static const char *const harmless[] = {"type", "enum", "const", "$ref", "allOf", "anyOf", "oneOf"};
    for (size_t i = 0; i < set->n; i++)
        for (const cJSON *k = set->parts[i].schema->child; k; k = k->next)
            if (!schema_is_annotation(k->string) && !IS_AMONG(k->string, harmless))
                return true;
    return false;
}

/* Whether a value that a set names satisfies all of it. types: the set's. */
static trol_status named_value_fits(schema_compiler *c, const schema_set *set, unsigned types, const cJSON *value,
                                    bool *fits) {
    *fits = (schema_type_of(value) & types) != 0;
    for (size_t i = 0; i < set->n && *fits; i++)
        *fits = schema_names_value(set->parts[i].schema, value);
    return *fits && schema_asks_more(set) ? schema_satisfies(c, set, value, fits) : TROL_OK;
}

trol_status schema_add_named_values(schema_compiler *c, const schema_set *set, const grammar_rule *rule,
                                    const cJSON *values, bool constant) {
    unsigned types;
    TRY(schema_merge_types(c, set, &types));
    if (!constant && !cJSON_IsArray(values))
        return schema_malformed(c, values, "an array is expected");
    for (const cJSON *value = constant ? values : values->child; value; value = constant ? NULL : value->next) {
        bool fits;
        TRY(named_value_fits(c, set, types, value, &fits));
        if (fits)
            TRY(schema_add_value(c, rule->start, rule->end, value));
    }
    return TROL_OK;
}

/* ---- lists of all values --------------------------------------------------------------------- */

/* Adds a value, which is taken over, unless the list has it. */
static trol_status list_value(schema_compiler *c, cJSON *values, cJSON *value) {
    const cJSON *item;
    cJSON_ArrayForEach(item, values) {
        if (value && cJSON_Compare(item, value, true)) {
            cJSON_Delete(value);
            return TROL_OK;
        }
    }
    if (value && cJSON_AddItemToArray(values, value))
        return TROL_OK;
    cJSON_Delete(value);
    return fail_memory(c->error, 0, "a schema");
}

static trol_status list_values(schema_compiler *c, const schema_set *set, int most, cJSON *values, bool *few);

static trol_status list_branches(schema_compiler *c, const schema_set *set, size_t part, unsigned used, int most,
                                 cJSON *values, bool *few) {
    const cJSON *list = schema_member(set->parts[part].schema, used == USED_ANY_OF ? "anyOf" : "oneOf"), *branch;
    cJSON_ArrayForEach(branch, list) {
        schema_set narrowed;
        trol_status status = schema_set_copy(c, set, &narrowed);
        if (status == TROL_OK) {
            narrowed.parts[part].used |= used;
            status = schema_set_add(c, &narrowed, branch);
        }
        if (status == TROL_OK && *few)
            status = list_values(c, &narrowed, most, values, few);
        schema_set_free(&narrowed);
        TRY(status);
    }
    return TROL_OK;
}

/* For a set that has no branches left and names no values. */
static trol_status list_by_type(schema_compiler *c, const schema_set *set, cJSON *values, bool *few) {
    unsigned types;
    TRY(schema_merge_types(c, set, &types));
    *few = (types & ~(unsigned)(IS_NULL | IS_BOOLEAN)) == 0;
    if (*few && types & IS_NULL)
        TRY(list_value(c, values, cJSON_CreateNull()));
    if (*few && types & IS_BOOLEAN) {
        TRY(list_value(c, values, cJSON_CreateTrue()));
        TRY(list_value(c, values, cJSON_CreateFalse()));
    }
    return TROL_OK;
}

static trol_status list_values(schema_compiler *c, const schema_set *set, int most, cJSON *values, bool *few) {
    bool constant = false;
    unsigned types;
    if (set->never)
        return TROL_OK;
    for (size_t i = 0; i < set->n; i++)
        for (unsigned used = USED_ANY_OF; used <= USED_ONE_OF; used *= 2)
            if (schema_member(set->parts[i].schema, used == USED_ANY_OF ? "anyOf" : "oneOf") &&
                !(set->parts[i].used & used))
                return list_branches(c, set, i, used, most, values, few);
    const cJSON *named = schema_named_values(set, &constant);
    if (!named)
        return list_by_type(c, set, values, few);
    TRY(schema_merge_types(c, set, &types));
    for (const cJSON *value = constant ? named : named->child; value && *few; value = constant ? NULL : value->next) {
        bool fits;
        TRY(named_value_fits(c, set, types, value, &fits));
        if (fits)
            TRY(list_value(c, values, cJSON_Duplicate(value, true)));
        *few = cJSON_GetArraySize(values) <= most;
    }
    return TROL_OK;
}

trol_status schema_list_values(schema_compiler *c, const schema_set *set, int most, cJSON **values) {
    bool few = true;
    *values = cJSON_CreateArray();
    trol_status status = *values ? list_values(c, set, most, *values, &few) : fail_memory(c->error, 0, "a schema");
    if (status == TROL_OK && few && cJSON_GetArraySize(*values) <= most)
        return TROL_OK;
    cJSON_Delete(*values);
    *values = NULL;
    return status;
}
