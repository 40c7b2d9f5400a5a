/* json_schema_object.c - objects: the declared properties in their order, then any others. */
#include "engine/json_schema_compiler.h"

#include <string.h>

#include "base/memory.h"

enum { MAX_PATTERNS = 6, MAX_COUNTED = 1 << 16 };

/* A pattern of patternProperties. */
typedef struct name_pattern {
    const cJSON *schema; /* the first one that has it */
    text_automaton *automaton;
} name_pattern;

/* An object's rule while it is built. Of the members written so far only their number matters, up to the count from
 * which on it makes no difference. */
typedef struct object_plan {
    const char **names; /* [n]: declared and required ones, in order */
    size_t n, capacity;
    name_pattern patterns[MAX_PATTERNS];
    uint32_t n_patterns;
    uint32_t smallest, largest; /* numbers of members; largest UINT32_MAX: any */
    uint32_t *at, *next;        /* [n_counts] states: after as many members; those after the property in progress */
    uint32_t n_counts;
    uint32_t all_patterns; /* a bit for each */
} object_plan;

static void plan_free(object_plan *plan) {
    for (uint32_t i = 0; i < plan->n_patterns; i++)
        text_automaton_free(plan->patterns[i].automaton);
    memory_free(plan->names);
    memory_free(plan->at);
    memory_free(plan->next);
}

/* ---- names and patterns ---------------------------------------------------------------------- */

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

static uint32_t find_pattern(const object_plan *plan, const char *pattern) {
    uint32_t i = 0;
    while (i < plan->n_patterns && strcmp(plan->patterns[i].schema->string, pattern) != 0)
        i++;
    return i;
}

static trol_status collect_patterns(schema_compiler *c, const schema_set *set, object_plan *plan) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *patterns = schema_member(set->parts[i].schema, "patternProperties"), *item;
        if (patterns && !cJSON_IsObject(patterns))
            return schema_malformed(c, patterns, "an object is expected");
        cJSON_ArrayForEach(item, patterns) {
            const char *text = item->string;
            const text_rules rules = {.patterns = &text, .n_patterns = 1, .max_length = UINT32_MAX};
            if (find_pattern(plan, text) < plan->n_patterns)
                continue;
            if (plan->n_patterns == MAX_PATTERNS)
                return schema_unsupported(c, item, "more than 6 patterns of names at one place are not supported");
            name_pattern *made = &plan->patterns[plan->n_patterns];
            TRY(schema_at_place(c, item, text_automaton_new(&rules, &made->automaton, c->error)));
            made->schema = item;
            plan->all_patterns |= 1u << plan->n_patterns++;
        }
    }
    return TROL_OK;
}

/* The patterns that a name matches. */
static uint32_t patterns_of(const object_plan *plan, const char *name) {
    uint32_t matching = 0;
    for (uint32_t i = 0; i < plan->n_patterns; i++)
        if (text_automaton_accepts(plan->patterns[i].automaton, name))
            matching |= 1u << i;
    return matching;
}

/* What a property must be: each part's own schema for it and those of the patterns that it matches, or the part's
 * additionalProperties. name NULL: one that is not declared. */
static trol_status property_set(schema_compiler *c, const schema_set *set, const object_plan *plan, const char *name,
                                uint32_t matching, schema_set *property) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *schema = set->parts[i].schema, *item;
        const cJSON *own = name ? schema_member(schema_member(schema, "properties"), name) : NULL,
                    *patterns = schema_member(schema, "patternProperties");
        bool covered = own != NULL;
        if (own)
            TRY(schema_set_add(c, property, own));
        cJSON_ArrayForEach(item, patterns) {
            if (matching >> find_pattern(plan, item->string) & 1) {
                covered = true;
                TRY(schema_set_add(c, property, item));
            }
        }
        const cJSON *others = schema_member(schema, "additionalProperties");
        if (!covered && others)
            TRY(schema_set_add(c, property, others));
    }
    return TROL_OK;
}

/* ---- propertyNames --------------------------------------------------------------------------- */

static bool accepts_nothing(const text_automaton *a) {
    for (size_t i = 0; i < a->n_states; i++)
        if (a->states[i].accepts)
            return false;
    return true;
}

/* The names that match those patterns and no others and that propertyNames allows, except the plan's own; *a is NULL if
 * every string is such a name or, with *none, if no string is. */
static trol_status names_automaton(schema_compiler *c, const schema_set *set, const object_plan *plan,
                                   uint32_t matching, bool *none, text_automaton **a) {
    schema_set names = {0};
    const char *patterns[2 * SCHEMA_MAX_PARTS + MAX_PATTERNS], *refused[MAX_PATTERNS];
    text_rules rules;
    unsigned types;
    bool constant;
    trol_status status = TROL_OK;
    *a = NULL;
    for (size_t i = 0; i < set->n; i++)
        if (schema_member(set->parts[i].schema, "propertyNames"))
            TRY_GOTO(schema_set_add(c, &names, schema_member(set->parts[i].schema, "propertyNames")), done);
    for (size_t i = 0; i < names.n; i++)
        if (schema_member(names.parts[i].schema, "anyOf") || schema_member(names.parts[i].schema, "oneOf"))
            TRY_GOTO(schema_unsupported(c, names.parts[i].schema, "anyOf and oneOf in propertyNames are not supported"),
                     done);
    TRY_GOTO(schema_merge_types(c, &names, &types), done);
    TRY_GOTO(schema_merge_text_rules(c, &names, patterns, &rules), done);
    for (uint32_t i = 0; i < plan->n_patterns; i++) {
        const char *pattern = plan->patterns[i].schema->string;
        if (matching >> i & 1)
            patterns[rules.n_patterns++] = pattern;
        else
            refused[rules.n_refused++] = pattern;
    }
    rules.refused = refused;
    rules.taken = plan->names;
    rules.n_taken = plan->n;
    *none = names.never || !(types & IS_STRING) || schema_named_values(&names, &constant) ||
            rules.min_length > rules.max_length;
    if (!*none &&
        (rules.n_patterns || rules.n_refused || rules.n_taken || rules.min_length || rules.max_length != UINT32_MAX))
        status = schema_at_pattern(c, &names, text_automaton_new(&rules, a, c->error));
    if (*a && accepts_nothing(*a)) {
        *none = true;
        text_automaton_free(*a);
        *a = NULL;
    }
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

/* Names that propertyNames lists are treated as declared. */
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

/* ---- members --------------------------------------------------------------------------------- */

/* Whether the number of members matters, and not only whether there are any. */
static bool is_counted(const object_plan *plan) { return plan->n_counts > 2; }

/* The count after one more member. */
static uint32_t one_more(const object_plan *plan, uint32_t count) {
    return count + 1 < plan->n_counts ? count + 1 : count;
}

/* From the opening brace, or after a comma, to the state where a name is written. */
static trol_status add_separator(schema_compiler *c, const object_plan *plan, uint32_t count, uint32_t key) {
    uint32_t comma = plan->at[0];
    if (count > 0) {
        TRY(grammar_add_state(c->json.g, &comma, c->error));
        TRY(grammar_add_text(c->json.g, plan->at[count], comma, ",", c->error));
    }
    return json_add_space(&c->json, comma, key, c->error);
}

/* A member from state `key` to state `end`; with counts, a rule of its own, which is called from each of them. */
typedef struct member_place {
    uint32_t key, end, rule;
} member_place;

static trol_status begin_member(schema_compiler *c, const object_plan *plan, uint32_t end, member_place *m) {
    grammar *g = c->json.g;
    m->end = end;
    if (!is_counted(plan))
        return grammar_add_state(g, &m->key, c->error);
    TRY(grammar_add_rule(g, &m->rule, c->error));
    m->key = g->rules[m->rule].start;
    m->end = g->rules[m->rule].end;
    return TROL_OK;
}

/* After the name: a colon and the value, whose set is taken over. Then the ways to the name, and on from the value to
 * states[count after it]. */
static trol_status end_member(schema_compiler *c, const object_plan *plan, const member_place *m, uint32_t after_key,
                              schema_set *value, const uint32_t *states) {
    grammar *g = c->json.g;
    uint32_t colon, before_value, rule;
    TRY(schema_rule_for(c, value, &rule));
    TRY(grammar_add_state(g, &colon, c->error));
    TRY(grammar_add_state(g, &before_value, c->error));
    TRY(grammar_add_text(g, after_key, colon, ":", c->error));
    TRY(json_add_space(&c->json, colon, before_value, c->error));
    TRY(grammar_add_call(g, before_value, m->end, rule, c->error));
    for (uint32_t count = 0; count < plan->n_counts && count < plan->largest; count++) {
        uint32_t key = m->key;
        if (is_counted(plan)) {
            TRY(grammar_add_state(g, &key, c->error));
            TRY(grammar_add_call(g, key, states[one_more(plan, count)], m->rule, c->error));
        }
        TRY(add_separator(c, plan, count, key));
    }
    return TROL_OK;
}

static trol_status add_property(schema_compiler *c, const schema_set *set, object_plan *plan, const char *name) {
    grammar *g = c->json.g;
    const bool required = schema_requires(set, name);
    uint32_t after_key;
    member_place m;
    schema_set value = {0};
    bool allowed;
    TRY(name_allowed(c, set, name, &allowed));
    for (uint32_t count = 0; count < plan->n_counts; count++)
        TRY(grammar_add_state(g, &plan->next[count], c->error));
    trol_status status = property_set(c, set, plan, name, patterns_of(plan, name), &value);
    if (status == TROL_OK && !value.never && allowed && plan->largest > 0) {
        TRY_GOTO(grammar_add_state(g, &after_key, c->error), failed);
        TRY_GOTO(begin_member(c, plan, plan->next[1], &m), failed);
        TRY_GOTO(json_add_literal(&c->json, m.key, after_key, name, c->error), failed);
        TRY(end_member(c, plan, &m, after_key, &value, plan->next));
    } else {
        schema_set_free(&value);
        TRY(status);
    }
    for (uint32_t count = 0; count < plan->n_counts && !required; count++)
        TRY(grammar_add_empty(g, plan->at[count], plan->next[count], c->error));
    uint32_t *states = plan->at;
    plan->at = plan->next;
    plan->next = states;
    return TROL_OK;
failed:
    schema_set_free(&value);
    return status;
}

/* Members whose names are not declared and match those patterns. */
static trol_status add_other_properties(schema_compiler *c, const schema_set *set, const object_plan *plan,
                                        uint32_t matching) {
    schema_set value = {0};
    text_automaton *names = NULL;
    uint32_t after_key;
    member_place m;
    bool none = false;
    trol_status status = property_set(c, set, plan, NULL, matching, &value);
    if (status == TROL_OK && !value.never)
        status = names_automaton(c, set, plan, matching, &none, &names);
    if (status != TROL_OK || value.never || none || plan->largest == 0) {
        schema_set_free(&value);
        text_automaton_free(names);
        return status;
    }
    TRY_GOTO(grammar_add_state(c->json.g, &after_key, c->error), done);
    TRY_GOTO(begin_member(c, plan, plan->at[1], &m), done);
    if (names)
        TRY_GOTO(json_add_string(&c->json, m.key, after_key, names, c->error), done);
    else
        TRY_GOTO(json_add_any_string(&c->json, m.key, after_key, c->error), done);
    status = end_member(c, plan, &m, after_key, &value, plan->at);
    text_automaton_free(names);
    return status;
done:
    schema_set_free(&value);
    text_automaton_free(names);
    return status;
}

/* ---- number of members ----------------------------------------------------------------------- */

/* Whether a name that is not declared can be written. The grammar could then repeat it, though it would count once. */
static trol_status is_open(schema_compiler *c, const schema_set *set, const object_plan *plan, bool *open) {
    *open = false;
    for (uint32_t matching = 0; matching <= plan->all_patterns && !*open; matching++) {
        schema_set other = {0};
        text_automaton *names = NULL;
        bool none = false;
        trol_status status = property_set(c, set, plan, NULL, matching, &other);
        if (status == TROL_OK && !other.never)
            status = names_automaton(c, set, plan, matching, &none, &names);
        *open = !other.never && !none;
        text_automaton_free(names);
        schema_set_free(&other);
        TRY(status);
    }
    return TROL_OK;
}

static trol_status plan_counts(schema_compiler *c, const schema_set *set, object_plan *plan) {
    uint32_t n_required = 0;
    bool open = false;
    plan->largest = UINT32_MAX;
    TRY(schema_merge_count(c, set, "minProperties", false, &plan->smallest));
    TRY(schema_merge_count(c, set, "maxProperties", true, &plan->largest));
    for (size_t i = 0; i < plan->n; i++)
        n_required += schema_requires(set, plan->names[i]);
    if (plan->smallest > 1 && plan->smallest <= n_required)
        plan->smallest = 1;
    if (plan->smallest > 1)
        TRY(is_open(c, set, plan, &open));
    for (size_t i = 0; i < set->n && open; i++)
        if (schema_member(set->parts[i].schema, "minProperties"))
            return schema_unsupported(c, schema_member(set->parts[i].schema, "minProperties"),
                                      "more than 1, and more than are required, is supported only where all names are "
                                      "declared");
    if (!open && plan->largest != UINT32_MAX && plan->largest >= plan->n && plan->smallest <= 1)
        TRY(is_open(c, set, plan, &open));
    if (!open && plan->largest >= plan->n) /* always satisfied */
        plan->largest = UINT32_MAX;
    const uint32_t most = plan->largest == UINT32_MAX ? plan->smallest : plan->largest;
    plan->n_counts = most > 1 ? most + 1 : 2;
    if (((uint64_t)plan->n + 1) * plan->n_counts > MAX_COUNTED)
        return fail(c->error, TROL_ERROR_UNSUPPORTED,
                    "an object of %zu declared properties with counts up to %u is not supported", plan->n, most);
    TRY(memory_alloc(plan->n_counts, sizeof *plan->at, "a schema", (void **)&plan->at, c->error));
    return memory_alloc(plan->n_counts, sizeof *plan->next, "a schema", (void **)&plan->next, c->error);
}

trol_status schema_add_object(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
    grammar *g = c->json.g;
    object_plan plan = {0};
    uint32_t last;
    trol_status status;
    TRY_GOTO(collect_names(c, set, &plan), done);
    TRY_GOTO(collect_patterns(c, set, &plan), done);
    TRY_GOTO(collect_listed_names(c, set, &plan), done);
    TRY_GOTO(plan_counts(c, set, &plan), done);
    for (uint32_t count = 0; count < plan.n_counts; count++)
        TRY_GOTO(grammar_add_state(g, &plan.at[count], c->error), done);
    TRY_GOTO(grammar_add_state(g, &last, c->error), done);
    TRY_GOTO(grammar_add_text(g, from, plan.at[0], "{", c->error), done);
    for (size_t i = 0; i < plan.n; i++)
        TRY_GOTO(add_property(c, set, &plan, plan.names[i]), done);
    for (uint32_t matching = 0; matching <= plan.all_patterns; matching++)
        TRY_GOTO(add_other_properties(c, set, &plan, matching), done);
    for (uint32_t count = plan.smallest; count < plan.n_counts; count++)
        TRY_GOTO(json_add_space(&c->json, plan.at[count], last, c->error), done);
    status = grammar_add_text(g, last, to, "}", c->error);
done:
    plan_free(&plan);
    return status;
}
