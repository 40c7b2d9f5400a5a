/* json_schema_array.c - arrays: the first items, each by its own schema, and the rest. */
#include "engine/json_schema_compiler.h"

enum { MAX_ITEMS = 1 << 16, MAX_UNIQUE = 12 };

/* The schemas of the first items (*rest: of those after them), by the standard of 2020 or those before it. */
static const cJSON *first_items(const cJSON *schema, const cJSON **rest) {
    const cJSON *prefix = schema_member(schema, "prefixItems"), *items = schema_member(schema, "items");
    const bool old = !prefix && cJSON_IsArray(items);
    *rest = old ? schema_member(schema, "additionalItems") : items;
    return old ? items : prefix;
}

static trol_status item_rule(schema_compiler *c, const schema_set *set, int index, bool *never, uint32_t *rule) {
    schema_set item = {0};
    trol_status status = TROL_OK;
    for (size_t i = 0; i < set->n && status == TROL_OK; i++) {
        const cJSON *rest, *first = first_items(set->parts[i].schema, &rest);
        if (first && !cJSON_IsArray(first))
            status = schema_malformed(c, first, "an array is expected");
        const cJSON *own = index < cJSON_GetArraySize(first) ? cJSON_GetArrayItem(first, index) : rest;
        if (own && status == TROL_OK)
            status = schema_set_add(c, &item, own);
    }
    *never = item.never;
    if (status != TROL_OK || item.never) {
        schema_set_free(&item);
        return status;
    }
    return schema_rule_for(c, &item, rule);
}

/* From the state after `index` items to the one after one more. */
static trol_status add_item(schema_compiler *c, uint32_t from, uint32_t to, uint32_t index, uint32_t rule) {
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

/* The keyword where it requires something; NULL if it does not. */
static trol_status find_unique(const schema_compiler *c, const schema_set *set, uint32_t most, const cJSON **unique) {
    *unique = NULL;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *own = schema_member(set->parts[i].schema, "uniqueItems");
        if (own && !cJSON_IsBool(own))
            return schema_malformed(c, own, "true or false is expected");
        if (cJSON_IsTrue(own) && most > 1)
            *unique = own;
    }
    return TROL_OK;
}

/* Which of n values an array has already is its state, so they must be few. */
static trol_status add_unique_items(schema_compiler *c, const cJSON *values, uint32_t least, uint32_t most,
                                    uint32_t start, uint32_t last) {
    grammar *g = c->json.g;
    const uint32_t n = (uint32_t)cJSON_GetArraySize(values);
    uint32_t rules[MAX_UNIQUE], state;
    for (uint32_t i = 0; i < n; i++) {
        TRY(grammar_add_rule(g, &rules[i], c->error));
        TRY(schema_add_value(c, g->rules[rules[i]].start, g->rules[rules[i]].end, cJSON_GetArrayItem(values, (int)i)));
    }
    const uint32_t base = (uint32_t)g->n_states; /* of two states for each set of values: after an item, before one */
    for (uint32_t i = 0; i < 2u << n; i++)
        TRY(grammar_add_state(g, &state, c->error));
    TRY(grammar_add_empty(g, start, base, c->error));
    for (uint32_t used = 0; used < 1u << n; used++) {
        const uint32_t after = base + 2 * used, before = after + 1;
        const uint32_t count = (uint32_t)__builtin_popcount(used);
        uint32_t comma = after;
        if (count >= least && count <= most)
            TRY(json_add_space(&c->json, after, last, c->error));
        if (count >= most || count == n)
            continue;
        if (used) {
            TRY(grammar_add_state(g, &comma, c->error));
            TRY(grammar_add_text(g, after, comma, ",", c->error));
        }
        TRY(json_add_space(&c->json, comma, before, c->error));
        for (uint32_t i = 0; i < n; i++)
            if (!(used >> i & 1))
                TRY(grammar_add_call(g, before, base + 2 * (used | 1u << i), rules[i], c->error));
    }
    return TROL_OK;
}

static trol_status add_unique(schema_compiler *c, const schema_set *set, const cJSON *unique, uint32_t least,
                              uint32_t most, uint32_t start, uint32_t last) {
    schema_set item = {0};
    cJSON *values = NULL;
    trol_status status = TROL_OK;
    for (size_t i = 0; i < set->n && status == TROL_OK; i++) {
        const cJSON *rest, *first = first_items(set->parts[i].schema, &rest);
        if (first)
            status = schema_unsupported(c, unique, "it is not supported beside schemas of the first items");
        else if (rest)
            status = schema_set_add(c, &item, rest);
    }
    if (status == TROL_OK)
        status = schema_list_values(c, &item, MAX_UNIQUE, &values);
    schema_set_free(&item);
    if (status == TROL_OK && !values)
        status = schema_unsupported(c, unique,
                                    "it is supported only for items of at most 12 values, which enum, const or their "
                                    "type name, and where maxItems is at most 1");
    if (status == TROL_OK)
        status = add_unique_items(c, values, least, most, start, last);
    cJSON_Delete(values);
    return status;
}

trol_status schema_add_array(schema_compiler *c, const schema_set *set, uint32_t from, uint32_t to) {
    grammar *g = c->json.g;
    uint32_t least = 0, most = UINT32_MAX, n_first = 1, at, last, rule = 0;
    const cJSON *unique;
    bool never = false;
    TRY(schema_merge_count(c, set, "minItems", false, &least));
    TRY(schema_merge_count(c, set, "maxItems", true, &most));
    TRY(find_unique(c, set, most, &unique));
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
    if (unique)
        return add_unique(c, set, unique, least, most, at, last);
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
