/* json_schema_branches.c - anyOf and oneOf: a rule for each branch; those of oneOf must exclude each other, by their
 * types or by a constant in them. */
#include "engine/json_schema_compiler.h"

enum { MAX_COMPARE_DEPTH = 8 }; /* how far oneOf's branches are compared */

/* ---- oneOf ----------------------------------------------------------------------------------- */

/* The values that a set names, as types; IS_ANYTHING if it names none. */
static unsigned named_types(const cJSON *values, bool constant) {
    unsigned types = 0;
    for (const cJSON *value = constant ? values
                              : values ? values->child
                                       : NULL;
         value; value = constant ? NULL : value->next)
        types |= schema_type_of(value);
    return values ? types : IS_ANYTHING;
}

static const cJSON *find_property(const schema_set *set, const char *name) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *found = schema_member(schema_member(set->parts[i].schema, "properties"), name);
        if (found)
            return found;
    }
    return NULL;
}

static trol_status are_exclusive(schema_compiler *c, const schema_set *a, const schema_set *b, unsigned types,
                                 int depth, bool *exclusive);

/* All branches of a's first anyOf or oneOf exclude b. */
static trol_status branches_exclude(schema_compiler *c, const schema_set *a, const schema_set *b, unsigned types,
                                    int depth, bool *exclusive) {
    for (size_t i = 0; i < a->n; i++) {
        const cJSON *any_of = schema_member(a->parts[i].schema, "anyOf"),
                    *one_of = schema_member(a->parts[i].schema, "oneOf");
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
            trol_status status = schema_set_copy(c, a, &set);
            set.parts[i].used |= list == any_of ? USED_ANY_OF : USED_ONE_OF;
            if (status == TROL_OK)
                status = schema_set_add(c, &set, branch);
            if (status == TROL_OK)
                status = are_exclusive(c, &set, b, types, depth + 1, &one);
            schema_set_free(&set);
            TRY(status);
            *exclusive = *exclusive && one;
        }
        return TROL_OK;
    }
    return TROL_OK;
}

/* A property that one of both requires and whose values exclude each other. */
static trol_status properties_exclude(schema_compiler *c, const schema_set *a, const schema_set *b, int depth,
                                      bool *exclusive) {
    for (size_t i = 0; i < a->n && !*exclusive; i++) {
        const cJSON *properties = schema_member(a->parts[i].schema, "properties"), *property;
        cJSON_ArrayForEach(property, properties) {
            const cJSON *other = find_property(b, property->string);
            schema_set left = {0}, right = {0};
            if (!other || *exclusive || !(schema_requires(a, property->string) || schema_requires(b, property->string)))
                continue;
            trol_status status = schema_set_add(c, &left, property);
            if (status == TROL_OK)
                status = schema_set_add(c, &right, other);
            if (status == TROL_OK)
                status = are_exclusive(c, &left, &right, IS_ANYTHING, depth + 1, exclusive);
            schema_set_free(&left);
            schema_set_free(&right);
            TRY(status);
        }
    }
    return TROL_OK;
}

static trol_status are_exclusive(schema_compiler *c, const schema_set *a, const schema_set *b, unsigned types,
                                 int depth, bool *exclusive) {
    bool a_constant = false, b_constant = false;
    unsigned a_types, b_types;
    const cJSON *a_values = schema_named_values(a, &a_constant), *b_values = schema_named_values(b, &b_constant);
    TRY(schema_merge_types(c, a, &a_types));
    TRY(schema_merge_types(c, b, &b_types));
    types &= a_types & b_types & named_types(a_values, a_constant) & named_types(b_values, b_constant);
    *exclusive = types == 0 || a->never || b->never;
    if (*exclusive || depth == MAX_COMPARE_DEPTH)
        return TROL_OK;
    if (a_values && b_values) {
        *exclusive = true;
        for (const cJSON *v = a_constant ? a_values : a_values->child; v; v = a_constant ? NULL : v->next) {
            bool in_a = true, in_b = true;
            for (size_t i = 0; i < a->n; i++)
                in_a = in_a && schema_names_value(a->parts[i].schema, v);
            for (size_t i = 0; i < b->n; i++)
                in_b = in_b && schema_names_value(b->parts[i].schema, v);
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

static trol_status check_one_of(schema_compiler *c, const schema_set *around, const cJSON *list) {
    unsigned types;
    TRY(schema_merge_types(c, around, &types));
    for (const cJSON *first = list->child; first; first = first->next)
        for (const cJSON *second = first->next; second; second = second->next) {
            schema_set a = {0}, b = {0};
            bool exclusive = false;
            trol_status status = schema_set_add(c, &a, first);
            if (status == TROL_OK)
                status = schema_set_add(c, &b, second);
            if (status == TROL_OK)
                status = are_exclusive(c, &a, &b, types, 0, &exclusive);
            schema_set_free(&a);
            schema_set_free(&b);
            TRY(status);
            if (!exclusive)
                return schema_unsupported(c, second,
                                          "this branch of oneOf does not differ from an earlier one by its type or by "
                                          "a constant in it");
        }
    return TROL_OK;
}

/* ---- anyOf and oneOf ------------------------------------------------------------------------- */

/* Makes a rule for each branch of part i's list. */
trol_status schema_add_branches(schema_compiler *c, const schema_set *set, size_t i, const cJSON *list, unsigned used,
                                const grammar_rule *rule) {
    const cJSON *branch;
    if (!cJSON_IsArray(list) || !list->child)
        return schema_malformed(c, list, "an array of schemas is expected");
    if (used == USED_ONE_OF)
        TRY(check_one_of(c, set, list));
    cJSON_ArrayForEach(branch, list) {
        schema_set narrowed;
        uint32_t called;
        trol_status status = schema_set_copy(c, set, &narrowed);
        if (status == TROL_OK) {
            narrowed.parts[i].used |= used;
            status = schema_set_add(c, &narrowed, branch);
        }
        if (status != TROL_OK) {
            schema_set_free(&narrowed);
            return status;
        }
        TRY(schema_rule_for(c, &narrowed, &called));
        TRY(grammar_add_call(c->json.g, rule->start, rule->end, called, c->error));
    }
    return TROL_OK;
}
