/* json_schema_sets.c - sets of schemas: what holds at one place, $ref and allOf followed, each set one rule; keywords,
 * types and errors that name a place. */
#include "engine/json_schema_compiler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/memory.h"

enum { MAX_SETS = 20000 }; /* rules */

/* ---- sets of schemas ------------------------------------------------------------------------- */

void schema_set_free(schema_set *set) {
    memory_free(set->parts);
    memset(set, 0, sizeof *set);
}

trol_status schema_set_copy(schema_compiler *c, const schema_set *from, schema_set *to) {
    *to = (schema_set){.never = from->never};
    TRY(memory_grow((void **)&to->parts, &to->capacity, from->n + 1, sizeof *to->parts, "a schema", c->error));
    if (from->n)
        memcpy(to->parts, from->parts, from->n * sizeof *to->parts);
    to->n = from->n;
    return TROL_OK;
}

/* ---- errors by JSON pointer ------------------------------------------------------------------ */

/* Appends the pointer of `wanted` below `at` to text; false if it is not there. */
bool schema_find_pointer(const cJSON *at, const cJSON *wanted, char *text, size_t room) {
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
        if (schema_find_pointer(child, wanted, text, room))
            return true;
        text[used] = '\0';
    }
    return false;
}

/* An error at a place of the schema, which its JSON pointer names. */
static trol_status wrong(const schema_compiler *c, trol_status status, const cJSON *at, const char *what) {
    char pointer[500] = "";
    (void)schema_find_pointer(c->root, at, pointer, sizeof pointer);
    return fail(c->error, status, "the schema at #%s: %s", pointer, what);
}

trol_status schema_malformed(const schema_compiler *c, const cJSON *at, const char *what) {
    return wrong(c, TROL_ERROR_FORMAT, at, what);
}

trol_status schema_unsupported(const schema_compiler *c, const cJSON *at, const char *what) {
    return wrong(c, TROL_ERROR_UNSUPPORTED, at, what);
}

trol_status schema_at_place(const schema_compiler *c, const cJSON *at, trol_status status) {
    char pointer[400] = "", prefix[450];
    if (status == TROL_OK || status == TROL_ERROR_MEMORY || !c->error)
        return status;
    (void)schema_find_pointer(c->root, at, pointer, sizeof pointer);
    snprintf(prefix, sizeof prefix, "the schema at #%s", pointer);
    return fail_prefix(c->error, status, prefix);
}

/* ---- keywords -------------------------------------------------------------------------------- */

static const char *const annotations[] = {"title",
                                          "description",
                                          "default",
                                          "examples",
                                          "$schema",
                                          "$id",
                                          "$comment",
                                          "deprecated",
                                          "readOnly",
                                          "writeOnly",
                                          "$defs",
                                          "definitions",
                                          "$anchor",
                                          "discriminator",
                                          "contentMediaType",
                                          "contentEncoding",
                                          "example",
                                          "markdownDescription",
                                          "contentSchema",
                                          "$vocabulary",
                                          "externalDocs",
                                          "xml",
                                          "id"};

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
                                         "patternProperties",
                                         "propertyNames",
                                         "not",
                                         "nullable",
                                         "additionalItems",
                                         "uniqueItems",
                                         "maxProperties"};

bool schema_is_among(const char *word, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(word, list[i]) == 0)
            return true;
    return false;
}

bool schema_is_annotation(const char *keyword) { return IS_AMONG(keyword, annotations); }

static trol_status check_keywords(const schema_compiler *c, const cJSON *schema) {
    for (const cJSON *k = schema->child; k; k = k->next)
        if (!schema_is_annotation(k->string) && !IS_AMONG(k->string, assertions) && strncmp(k->string, "x-", 2) != 0)
            return schema_unsupported(c, k, "this keyword is not supported");
    return TROL_OK;
}

const cJSON *schema_member(const cJSON *schema, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(schema, key);
}

bool schema_requires(const schema_set *set, const char *name) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *item;
        const cJSON *required = schema_member(set->parts[i].schema, "required");
        cJSON_ArrayForEach(item, required) {
            if (cJSON_IsString(item) && strcmp(item->valuestring, name) == 0)
                return true;
        }
    }
    return false;
}

/* ---- $ref ------------------------------------------------------------------------------------ */

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

static trol_status resolve(const schema_compiler *c, const cJSON *reference, const cJSON **target) {
    if (!cJSON_IsString(reference))
        return schema_malformed(c, reference, "a string is expected");
    const char *at = reference->valuestring;
    if (*at != '#' || (at[1] != '\0' && at[1] != '/'))
        return schema_unsupported(c, reference, "only references into this schema are supported: # or #/...");
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
        return schema_malformed(c, reference, "there is no such place in the schema");
    *target = found;
    return TROL_OK;
}

/* ---- making sets ----------------------------------------------------------------------------- */

/* OpenAPI's nullable: the schema, or null. Made once for each schema that has it; the schema inside is a copy that
 * shares its members. */
static trol_status resolve_nullable(schema_compiler *c, const cJSON **schema) {
    nullable_schemas *all = c->nullable;
    for (size_t i = 0; i < all->n; i++) {
        if (all->items[i].inner == *schema)
            return TROL_OK;
        if (all->items[i].schema == *schema) {
            *schema = all->items[i].either;
            return TROL_OK;
        }
    }
    TRY(memory_grow((void **)&all->items, &all->capacity, all->n + 1, sizeof *all->items, "a schema", c->error));
    cJSON *either = cJSON_CreateObject(), *branches = cJSON_AddArrayToObject(either, "anyOf"), *null = NULL;
    cJSON *inner = cJSON_CreateObjectReference((*schema)->child);
    if (cJSON_AddItemToArray(branches, inner)) {
        null = cJSON_CreateObject();
        cJSON_AddItemToArray(branches, null);
    } else {
        cJSON_Delete(inner);
    }
    if (!null || !cJSON_AddStringToObject(null, "type", "null")) {
        cJSON_Delete(either);
        return fail_memory(c->error, 0, "a schema");
    }
    all->items[all->n++] = (nullable_schema){*schema, inner, either};
    *schema = either;
    return TROL_OK;
}

/* What `not` requires, except where it names only types, which schema_merge_types handles. */
static trol_status apply_not(const schema_compiler *c, schema_set *set, const cJSON *schema) {
    const cJSON *refused = schema_member(schema, "not");
    bool any = true, types_alone = true;
    if (!refused || cJSON_IsFalse(refused))
        return TROL_OK;
    if (!cJSON_IsTrue(refused) && !cJSON_IsObject(refused))
        return schema_malformed(c, refused, "a schema is expected: an object, true or false");
    for (const cJSON *k = refused->child; k; k = k->next) {
        any = any && schema_is_annotation(k->string);
        types_alone = types_alone && (schema_is_annotation(k->string) || strcmp(k->string, "type") == 0);
    }
    set->never = set->never || any;
    return types_alone ? TROL_OK : schema_unsupported(c, refused, "only {} and a type are supported in not");
}

/* Adds a schema, and what its $ref and allOf bring in. */
trol_status schema_set_add(schema_compiler *c, schema_set *set, const cJSON *schema) {
    const size_t first = set->n;
    const cJSON *waiting[SCHEMA_MAX_PARTS];
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
            return schema_malformed(c, next, "a schema is expected: an object, true or false");
        if (cJSON_IsTrue(schema_member(next, "nullable")))
            TRY(resolve_nullable(c, &next));
        for (size_t i = 0; i < set->n && !known; i++) {
            known = set->parts[i].schema == next;
            if (known && i < first && set->parts[i].used & (USED_ANY_OF | USED_ONE_OF))
                return schema_unsupported(c, next, "it refers to itself without end");
        }
        if (known)
            continue;
        TRY(check_keywords(c, next));
        TRY(apply_not(c, set, next));
        if (set->n == SCHEMA_MAX_PARTS)
            return schema_unsupported(c, next, "too many schemas hold at one place");
        TRY(memory_grow((void **)&set->parts, &set->capacity, set->n + 1, sizeof *set->parts, "a schema", c->error));
        set->parts[set->n++] = (schema_part){next, 0};
        const cJSON *all_of = schema_member(next, "allOf"), *reference = schema_member(next, "$ref");
        if (all_of && !cJSON_IsArray(all_of))
            return schema_malformed(c, all_of, "an array is expected");
        if (cJSON_GetArraySize(all_of) + n_waiting + 1 > SCHEMA_MAX_PARTS)
            return schema_unsupported(c, next, "too many schemas hold at one place");
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
trol_status schema_rule_for(schema_compiler *c, schema_set *set, uint32_t *rule) {
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
    schema_set_free(set);
    return status;
}

trol_status schema_fill_sets(schema_compiler *c) {
    for (; c->n_done < c->n_sets; c->n_done++) {
        schema_set set;
        TRY(schema_set_copy(c, &c->sets[c->n_done], &set)); /* the array of sets may move */
        set.rule = c->sets[c->n_done].rule;
        trol_status status = c->fill_rule(c, &set);
        schema_set_free(&set);
        TRY(status);
    }
    return TROL_OK;
}

/* ---- counts in keywords ---------------------------------------------------------------------- */

/* A count: the strictest of all parts is kept. */
trol_status schema_merge_count(const schema_compiler *c, const schema_set *set, const char *key, bool largest,
                               uint32_t *count) {
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *value = schema_member(set->parts[i].schema, key);
        int64_t number;
        if (!value)
            continue;
        if (!json_exact_integer(value, &number) || number < 0)
            return schema_malformed(c, value, "a whole number of at least 0 is expected");
        const uint32_t limited = number > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)number;
        if (largest ? limited < *count : limited > *count)
            *count = limited;
    }
    return TROL_OK;
}

/* ---- types ----------------------------------------------------------------------------------- */

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

unsigned schema_type_of(const cJSON *value) {
    if (cJSON_IsNumber(value))
        return value->valuedouble == floor(value->valuedouble) ? IS_INTEGER : IS_FRACTION;
    return cJSON_IsNull(value)     ? IS_NULL
           : cJSON_IsBool(value)   ? IS_BOOLEAN
           : cJSON_IsString(value) ? IS_STRING
           : cJSON_IsArray(value)  ? IS_ARRAY
                                   : IS_OBJECT;
}

/* Of "type", a name or a list of them. */
static trol_status read_types(const schema_compiler *c, const cJSON *type, unsigned *types) {
    const cJSON *item;
    *types = 0;
    if (cJSON_IsString(type))
        *types = type_named(type->valuestring);
    const cJSON *list = cJSON_IsArray(type) ? type : NULL;
    cJSON_ArrayForEach(item, list) {
        const unsigned one = cJSON_IsString(item) ? type_named(item->valuestring) : 0;
        if (!one)
            return schema_malformed(c, item, "this is not a type");
        *types |= one;
    }
    return *types ? TROL_OK : schema_malformed(c, type, "this is not a type");
}

trol_status schema_merge_types(const schema_compiler *c, const schema_set *set, unsigned *types) {
    const cJSON *refused = NULL;
    *types = IS_ANYTHING;
    for (size_t i = 0; i < set->n; i++) {
        const cJSON *type = schema_member(set->parts[i].schema, "type"),
                    *not_type = schema_member(schema_member(set->parts[i].schema, "not"), "type");
        unsigned named;
        if (type) {
            TRY(read_types(c, type, &named));
            *types &= named;
        }
        if (not_type) {
            TRY(read_types(c, not_type, &named));
            *types &= ~named;
            refused = not_type;
        }
    }
    if (refused && *types & IS_FRACTION && !(*types & IS_INTEGER))
        return schema_unsupported(c, refused, "numbers but whole ones are not supported");
    return TROL_OK;
}
