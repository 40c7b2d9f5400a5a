/* json_schema_object.c - objects: the declared properties in their order, then any others. */
#include "engine/json_schema_compiler.h"

#include "base/memory.h"

/* An object's rule in the making. */
typedef struct object_plan {
    const char **names; /* [n]: declared and required ones, in order */
    size_t n, capacity;
    uint32_t empty, some; /* states: nothing was written yet, something was */
    bool may_be_empty;
} object_plan;

static trol_status add_name(schema_compiler *c, object_plan *plan, const char *name) {
    if (schema_is_among(name, plan->names, plan->n))
        return TROL_OK;
    TRY(memory_grow((void **)&plan->names, &plan->capacity, plan->n + 1, sizeof *plan->names, "a schema", c->error));
    plan->names[plan->n++] = name;
    return TROL_OK;
}

static trol_status collect_names(schema_compiler *c, const schema_set *set, object_plan *plan) {
    const cJSON *item;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *properties = schema_member(set->parts[i].schema, "properties");
        if (properties && !cJSON_IsObject(properties))
            return schema_malformed(c, properties, "an object is expected");
        cJSON_ArrayForEach(item, properties) { TRY(add_name(c, plan, item->string)); }
    }
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *required = schema_member(set->parts[i].schema, "required");
        if (required && !cJSON_IsArray(required))
            return schema_malformed(c, required, "an array is expected");
        cJSON_ArrayForEach(item, required) {
            if (!cJSON_IsString(item))
                return schema_malformed(c, item, "a string is expected");
            TRY(add_name(c, plan, item->valuestring));
        }
    }
    return TROL_OK;
}

/* What a property must be: each part's own schema for it, or its additionalProperties. name NULL: any other one. */
static trol_status property_set(schema_compiler *c, const schema_set *set, const char *name, schema_set *property) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *schema = set->parts[i].schema;
        const cJSON *own = name ? schema_member(schema_member(schema, "properties"), name) : NULL;
        if (!own)
            own = schema_member(schema, "additionalProperties");
        if (own)
            TRY(schema_set_add(c, property, own));
    }
    return TROL_OK;
}

/* The names that propertyNames allows but for those of the plan; *a is NULL if any string does. */
static trol_status names_automaton(schema_compiler *c, const schema_set *set, const object_plan *plan, bool *none,
                                   text_automaton **a) {
    schema_set names = {0};
    const char *patterns[2 * SCHEMA_MAX_PARTS];
    text_rules rules;
    unsigned types;
    trol_status status = TROL_OK;
    *a = NULL;
    for (size_t i = 0; i < set->n; i++)
        if (schema_member(set->parts[i].schema, "propertyNames"))
            TRY_GOTO(schema_set_add(c, &names, schema_member(set->parts[i].schema, "propertyNames")), done);
    bool constant;
    for (size_t i = 0; i < names.n; i++)
        if (schema_member(names.parts[i].schema, "anyOf") || schema_member(names.parts[i].schema, "oneOf"))
            TRY_GOTO(schema_unsupported(c, names.parts[i].schema, "anyOf and oneOf in propertyNames are not supported"),
                     done);
    TRY_GOTO(schema_merge_types(c, &names, &types), done);
    TRY_GOTO(schema_merge_text_rules(c, &names, patterns, &rules), done);
    rules.taken = plan->names;
    rules.n_taken = plan->n;
    *none = names.never || !(types & IS_STRING) || schema_named_values(&names, &constant) != NULL;
    if (!*none && (rules.n_patterns || rules.min_length || rules.max_length != UINT32_MAX || rules.n_taken))
        status = schema_at_pattern(c, &names, text_automaton_new(&rules, a, c->error));
done:
    schema_set_free(&names);
    return status;
}

/* Whether propertyNames allows a name; with its enum or const, the names that it lists. */
static trol_status name_allowed(schema_compiler *c, const schema_set *set, const char *name, bool *allowed) {
    *allowed = true;
    for (size_t i = 0; i < set->n && *allowed; i++) {
        const cJSON *schema = schema_member(set->parts[i].schema, "propertyNames");
        schema_set names = {0};
        bool constant;
        if (!schema)
            continue;
        cJSON *value = cJSON_CreateString(name);
        trol_status status = value ? schema_set_add(c, &names, schema) : fail_memory(c->error, 0, "a schema");
        for (size_t part = 0; part < names.n && status == TROL_OK; part++)
            *allowed = *allowed && schema_names_value(names.parts[part].schema, value);
        if (status == TROL_OK && (schema_asks_more(&names) || !schema_named_values(&names, &constant) || names.never) &&
            *allowed)
            status = schema_satisfies(c, &names, value, allowed);
        cJSON_Delete(value);
        schema_set_free(&names);
        TRY(status);
    }
    return TROL_OK;
}

/* Names that propertyNames lists are as good as declared. */
static trol_status collect_listed_names(schema_compiler *c, const schema_set *set, object_plan *plan) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *schema = schema_member(set->parts[i].schema, "propertyNames"), *item;
        schema_set names = {0};
        bool constant = false;
        trol_status status = schema ? schema_set_add(c, &names, schema) : TROL_OK;
        const cJSON *values = schema_named_values(&names, &constant);
        if (values && constant && cJSON_IsString(values) && status == TROL_OK)
            status = add_name(c, plan, values->valuestring);
        values = constant ? NULL : values;
        cJSON_ArrayForEach(item, values) {
            if (cJSON_IsString(item) && status == TROL_OK)
                status = add_name(c, plan, item->valuestring);
        }
        schema_set_free(&names);
        TRY(status);
    }
    return TROL_OK;
}

/* From `key`, where a name may be written: the name by `add`, a colon, the value. */
static trol_status add_member(schema_compiler *c, uint32_t after_key, uint32_t to, schema_set *value) {
    grammar *g = c->json.g;
    uint32_t colon, before_value, rule;
    TRY(schema_rule_for(c, value, &rule));
    TRY(grammar_add_state(g, &colon, c->error));
    TRY(grammar_add_state(g, &before_value, c->error));
    TRY(grammar_add_text(g, after_key, colon, ":", c->error));
    TRY(json_add_space(&c->json, colon, before_value, c->error));
    return grammar_add_call(g, before_value, to, rule, c->error);
}

/* To where a name may be written: after the brace, or after a comma. */
static trol_status add_separator(schema_compiler *c, const object_plan *plan, uint32_t key) {
    uint32_t comma;
    TRY(json_add_space(&c->json, plan->empty, key, c->error));
    TRY(grammar_add_state(c->json.g, &comma, c->error));
    TRY(grammar_add_text(c->json.g, plan->some, comma, ",", c->error));
    return json_add_space(&c->json, comma, key, c->error);
}

static trol_status add_property(schema_compiler *c, const schema_set *set, object_plan *plan, const char *name) {
    grammar *g = c->json.g;
    const bool required = schema_requires(set, name);
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
        schema_set_free(&value);
        TRY(status);
    } else {
        status = add_separator(c, plan, key);
        if (status == TROL_OK)
            status = json_add_literal(&c->json, key, after_key, name, c->error);
        if (status != TROL_OK) {
            schema_set_free(&value);
            return status;
        }
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

static trol_status add_other_properties(schema_compiler *c, const schema_set *set, const object_plan *plan) {
    schema_set value = {0};
    text_automaton *names = NULL;
    uint32_t key, after_key;
    bool none = false;
    trol_status status = property_set(c, set, NULL, &value);
    if (status == TROL_OK && !value.never)
        status = names_automaton(c, set, plan, &none, &names);
    if (status != TROL_OK || value.never || none) {
        schema_set_free(&value);
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
    schema_set_free(&value);
    text_automaton_free(names);
    return status;
}

/* The numbers of properties are not counted: what is always so is allowed. */
static trol_status check_property_counts(const schema_compiler *c, const schema_set *set, object_plan *plan) {
    uint32_t smallest = 0, n_required = 0;
    TRY(schema_merge_count(c, set, "minProperties", false, &smallest));
    for (size_t i = 0; i < plan->n; i++)
        n_required += schema_requires(set, plan->names[i]);
    plan->may_be_empty = smallest == 0;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *least = schema_member(set->parts[i].schema, "minProperties"),
                    *most = schema_member(set->parts[i].schema, "maxProperties");
        schema_set other = {0};
        if (least && smallest > 1 && smallest > n_required)
            return schema_unsupported(c, least, "more than 1, and more than are required, is not supported");
        if (!most)
            continue;
        int64_t number;
        if (!json_exact_integer(most, &number) || number < 0)
            return schema_malformed(c, most, "a whole number of at least 0 is expected");
        trol_status status = property_set((schema_compiler *)c, set, NULL, &other);
        const bool closed = other.never;
        schema_set_free(&other);
        TRY(status);
        if (!closed || number < (int64_t)plan->n)
            return schema_unsupported(c, most,
                                      "it is supported only where additionalProperties is false and it asks nothing");
    }
    return TROL_OK;
}

trol_status schema_add_object(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
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
