/* json_schema.c - a JSON Schema to rules of a grammar.
 *
 * What a value must satisfy at a place is a set of schemas, all of them at once: the one that is written there, and
 * what $ref and allOf bring in. Each set is a rule, made once. anyOf and oneOf make a rule for each branch; what is
 * left is merged by type. Sets wait in a queue, so that no schema makes this recurse deeper than it is nested. */
#include "engine/json_schema.h"

#include "base/memory.h"
#include "engine/json_schema_compiler.h"

enum { MAX_TEXT_BYTES = 1 << 20 };

/* ---- rules ----------------------------------------------------------------------------------- */

static trol_status add_types(schema_compiler *c, const schema_set *set, const grammar_rule *rule) {
    grammar *g = c->json.g;
    unsigned types;
    TRY(schema_merge_types(c, set, &types));
    if (types & IS_NULL)
        TRY(grammar_add_text(g, rule->start, rule->end, "null", c->error));
    if (types & IS_BOOLEAN) {
        TRY(grammar_add_text(g, rule->start, rule->end, "true", c->error));
        TRY(grammar_add_text(g, rule->start, rule->end, "false", c->error));
    }
    if (types & IS_INTEGER)
        TRY(schema_add_number(c, set, !(types & IS_FRACTION), rule->start, rule->end));
    if (types & IS_STRING)
        TRY(schema_add_string(c, set, rule->start, rule->end));
    if (types & IS_ARRAY)
        TRY(schema_add_array(c, set, rule->start, rule->end));
    return types & IS_OBJECT ? schema_add_object(c, set, rule->start, rule->end) : TROL_OK;
}

static trol_status fill_rule(schema_compiler *c, const schema_set *set) {
    const grammar_rule rule = c->json.g->rules[set->rule];
    bool constant;
    if (set->never)
        return TROL_OK;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *any_of = schema_member(set->parts[i].schema, "anyOf"),
                    *one_of = schema_member(set->parts[i].schema, "oneOf");
        if (any_of && !(set->parts[i].used & USED_ANY_OF))
            return schema_add_branches(c, set, i, any_of, USED_ANY_OF, &rule);
        if (one_of && !(set->parts[i].used & USED_ONE_OF))
            return schema_add_branches(c, set, i, one_of, USED_ONE_OF, &rule);
    }
    const cJSON *values = schema_named_values(set, &constant);
    return values ? schema_add_named_values(c, set, &rule, values, constant) : add_types(c, set, &rule);
}

static trol_status finish(schema_compiler *c, uint32_t root) {
    grammar_flaw flaw;
    uint32_t rule;
    TRY(grammar_finish(c->json.g, root, &flaw, &rule, c->error));
    switch (flaw) {
    case GRAMMAR_SOUND:
        return TROL_OK;
    case GRAMMAR_EMPTY:
        return fail(c->error, TROL_ERROR_FORMAT,
                    "nothing satisfies the schema: what it requires contradicts itself, or never ends");
    case GRAMMAR_TOO_LONG:
        return fail(c->error, TROL_ERROR_UNSUPPORTED, "all that satisfies the schema is longer than a million bytes");
    case GRAMMAR_LEFT_RECURSIVE:
        break;
    }
    for (size_t i = 0; i < c->n_sets; i++)
        if (c->sets[i].rule == rule && c->sets[i].n > 0)
            return schema_unsupported(c, c->sets[i].parts[0].schema, "it refers to itself without end");
    return fail(c->error, TROL_ERROR_UNSUPPORTED, "the schema refers to itself without end");
}

trol_status json_schema_compile(const char *text, size_t n_bytes, grammar **result, trol_error *error) {
    nullable_schemas nullable = {0};
    schema_compiler c = {.nullable = &nullable, .fill_rule = fill_rule, .error = error};
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
    TRY_GOTO(grammar_new(SCHEMA_MAX_NESTED, &c.json.g, error), done);
    TRY_GOTO(schema_set_add(&c, &set, json), done);
    TRY_GOTO(schema_rule_for(&c, &set, &root), done);
    TRY_GOTO(schema_fill_sets(&c), done);
    TRY_GOTO(finish(&c, root), done);
    *result = c.json.g;
    c.json.g = NULL;
done:
    if (status != TROL_OK && c.n_sets == 0)
        schema_set_free(&set);
    for (size_t i = 0; i < c.n_sets; i++)
        schema_set_free(&c.sets[i]);
    memory_free(c.sets);
    json_parts_free(&c.json);
    grammar_free(c.json.g);
    for (size_t i = 0; i < nullable.n; i++)
        cJSON_Delete(nullable.items[i].either);
    memory_free(nullable.items);
    cJSON_Delete(json);
    return status;
}
