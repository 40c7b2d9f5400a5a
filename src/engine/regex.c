/* regex.c - patterns (regex_subsets.c) with lengths and taken names as one deterministic automaton. */
#include "engine/regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "engine/regex_subsets.h"

enum { MAX_STATES = 1 << 17, MAX_ARCS = 1 << 19 };

/* What a state stands for: where the patterns are, how long the text is, and where in the taken names it is. */
typedef struct text_place {
    uint32_t subset;
    uint32_t length; /* up to where it makes a difference */
    uint32_t name;   /* node of the tree of taken names; NO_NODE: in none */
} text_place;

typedef struct name_node {
    uint32_t character, parent;
    bool taken;
} name_node;

typedef struct construction {
    const text_rules *rules;
    regex_subsets subsets;
    name_node *names; /* the tree of taken names; node 0 is the root */
    size_t n_names, names_capacity;
    text_place *places; /* [automaton->n_states] */
    size_t places_capacity;
    uint32_t *slots; /* hash table of states + 1 */
    size_t n_slots;
    uint64_t *masks; /* [n_sets of the automaton, n_words]: the classes of each set */
    size_t masks_capacity, n_words;
    uint32_t *set_slots; /* hash table of sets + 1 */
    size_t n_set_slots;
    uint64_t *own; /* [n_arcs of the state in progress, n_words]: the classes of each arc */
    size_t own_capacity;
    text_automaton *a;
    trol_error *error;
} construction;

/* ---- states ---------------------------------------------------------------------------------- */

static size_t hash_place(const text_place *p) {
    return (size_t)hash_word(hash_word(hash_word(0, p->subset), p->length), p->name);
}

static trol_status grow_slots(construction *c) {
    const size_t n = c->n_slots ? 2 * c->n_slots : 256;
    if (2 * (c->a->n_states + 1) <= c->n_slots)
        return TROL_OK;
    memory_free(c->slots);
    c->slots = NULL;
    TRY(memory_alloc_zero(n, sizeof *c->slots, "a pattern", (void **)&c->slots, c->error));
    c->n_slots = n;
    for (size_t i = 0; i < c->a->n_states; i++) {
        size_t slot = hash_place(&c->places[i]) & (n - 1);
        while (c->slots[slot])
            slot = (slot + 1) & (n - 1);
        c->slots[slot] = (uint32_t)i + 1;
    }
    return TROL_OK;
}

static trol_status find_state(construction *c, const text_place *p, uint32_t *state) {
    TRY(grow_slots(c));
    size_t slot = hash_place(p) & (c->n_slots - 1);
    for (; c->slots[slot]; slot = (slot + 1) & (c->n_slots - 1)) {
        const text_place *known = &c->places[c->slots[slot] - 1];
        if (known->subset == p->subset && known->length == p->length && known->name == p->name) {
            *state = c->slots[slot] - 1;
            return TROL_OK;
        }
    }
    text_automaton *a = c->a;
    if (a->n_states == MAX_STATES)
        return fail(c->error, TROL_ERROR_UNSUPPORTED,
                    "a string's lengths and patterns together take more than %d states", MAX_STATES);
    TRY(memory_grow((void **)&c->places, &c->places_capacity, a->n_states + 1, sizeof *c->places, "a pattern",
                    c->error));
    TRY(memory_grow((void **)&a->states, &a->states_capacity, a->n_states + 1, sizeof *a->states, "a pattern",
                    c->error));
    c->places[a->n_states] = *p;
    *state = (uint32_t)a->n_states;
    c->slots[slot] = *state + 1;
    a->states[a->n_states++] =
        (text_state){.accepts = c->subsets.subsets[p->subset].accepts && p->length >= c->rules->min_length &&
                                (p->name == NO_NODE || !c->names[p->name].taken)};
    return TROL_OK;
}

/* ---- arcs ------------------------------------------------------------------------------------ */

static size_t hash_mask(const construction *c, const uint64_t *mask) {
    uint64_t hash = 0;
    for (size_t i = 0; i < c->n_words; i++)
        hash = hash_word(hash, mask[i]);
    return (size_t)hash;
}

static trol_status grow_set_slots(construction *c) {
    const size_t n = c->n_set_slots ? 2 * c->n_set_slots : 256;
    if (2 * (c->a->n_sets + 1) <= c->n_set_slots)
        return TROL_OK;
    memory_free(c->set_slots);
    c->set_slots = NULL;
    TRY(memory_alloc_zero(n, sizeof *c->set_slots, "a pattern", (void **)&c->set_slots, c->error));
    c->n_set_slots = n;
    for (size_t i = 0; i < c->a->n_sets; i++) {
        size_t slot = hash_mask(c, c->masks + i * c->n_words) & (n - 1);
        while (c->set_slots[slot])
            slot = (slot + 1) & (n - 1);
        c->set_slots[slot] = (uint32_t)i + 1;
    }
    return TROL_OK;
}

/* The set of the characters of some classes, each set once. */
static trol_status find_set(construction *c, const uint64_t *mask, uint32_t *set) {
    text_automaton *a = c->a;
    TRY(grow_set_slots(c));
    size_t slot = hash_mask(c, mask) & (c->n_set_slots - 1);
    for (; c->set_slots[slot]; slot = (slot + 1) & (c->n_set_slots - 1)) {
        *set = c->set_slots[slot] - 1;
        if (memcmp(c->masks + *set * c->n_words, mask, c->n_words * sizeof *mask) == 0)
            return TROL_OK;
    }
    TRY(memory_grow((void **)&a->sets, &a->sets_capacity, a->n_sets + 1, sizeof *a->sets, "a pattern", c->error));
    TRY(memory_grow((void **)&c->masks, &c->masks_capacity, (a->n_sets + 1) * c->n_words, sizeof *mask, "a pattern",
                    c->error));
    memcpy(c->masks + a->n_sets * c->n_words, mask, c->n_words * sizeof *mask);
    *set = (uint32_t)a->n_sets++;
    a->sets[*set] = (code_points){0};
    c->set_slots[slot] = *set + 1;
    for (size_t class = 0; class < c->subsets.n_classes; class ++)
        if (mask[class / 64] >> class % 64 & 1)
            TRY(code_points_add_all(&a->sets[*set], &c->subsets.classes[class], c->error));
    return code_points_normalize(&a->sets[*set], c->error);
}

static trol_status add_arc(construction *c, uint32_t from, size_t class, uint32_t target) {
    text_automaton *a = c->a;
    text_state *s = &a->states[from];
    uint32_t i = 0;
    while (i < s->n_arcs && a->arcs[s->first_arc + i].target != target)
        i++;
    if (i == s->n_arcs) {
        if (a->n_arcs == MAX_ARCS)
            return fail(c->error, TROL_ERROR_UNSUPPORTED,
                        "a string's lengths and patterns together take more than %d arcs", MAX_ARCS);
        TRY(memory_grow((void **)&a->arcs, &a->arcs_capacity, a->n_arcs + 1, sizeof *a->arcs, "a pattern", c->error));
        TRY(memory_grow((void **)&c->own, &c->own_capacity, (i + 1) * c->n_words, sizeof *c->own, "a pattern",
                        c->error));
        memset(c->own + i * c->n_words, 0, c->n_words * sizeof *c->own);
        if (s->n_arcs++ == 0)
            s->first_arc = (uint32_t)a->n_arcs;
        a->arcs[a->n_arcs++] = (text_arc){0, target};
    }
    c->own[i * c->n_words + class / 64] |= (uint64_t)1 << class % 64;
    return TROL_OK;
}

static uint32_t find_name(const construction *c, uint32_t parent, const code_points *class) {
    for (size_t i = 1; i < c->n_names && parent != NO_NODE; i++)
        if (c->names[i].parent == parent && code_points_has(class, c->names[i].character))
            return (uint32_t)i;
    return NO_NODE;
}

static trol_status expand(construction *c, uint32_t state) {
    const text_rules *rules = c->rules;
    const bool bounded = rules->max_length != UINT32_MAX;
    const text_place from = c->places[state];
    if (bounded && from.length == rules->max_length)
        return TROL_OK;
    for (size_t class = 0; class < c->subsets.n_classes; class ++) {
        text_place next = {.length = bounded || from.length < rules->min_length ? from.length + 1 : from.length};
        uint32_t target;
        TRY(regex_subsets_step(&c->subsets, from.subset, class, &next.subset));
        if (next.subset == REGEX_DEAD)
            continue;
        next.name = find_name(c, from.name, &c->subsets.classes[class]);
        TRY(find_state(c, &next, &target));
        TRY(add_arc(c, state, class, target));
    }
    const text_state *s = &c->a->states[state];
    for (uint32_t i = 0; i < s->n_arcs; i++)
        TRY(find_set(c, c->own + i * c->n_words, &c->a->arcs[s->first_arc + i].set));
    return TROL_OK;
}

/* ---- building -------------------------------------------------------------------------------- */

/* The tree of taken names; their characters become classes of their own. */
static trol_status add_name(construction *c, const char *text) {
    uint32_t at = 0, character;
    const size_t n_bytes = strlen(text);
    for (size_t i = 0, n; i < n_bytes; i += n) {
        n = utf8_decode(text + i, n_bytes - i, &character);
        if (n == 0)
            return fail(c->error, TROL_ERROR_FORMAT, "a name is not valid UTF-8");
        uint32_t next = 1;
        while (next < c->n_names && !(c->names[next].parent == at && c->names[next].character == character))
            next++;
        if (next >= c->n_names) {
            code_points single = {0};
            uint32_t set;
            TRY(memory_grow((void **)&c->names, &c->names_capacity, c->n_names + 1, sizeof *c->names, "a pattern",
                            c->error));
            next = (uint32_t)c->n_names;
            c->names[c->n_names++] = (name_node){character, at, false};
            TRY(code_points_add(&single, character, character, c->error));
            TRY(regex_add_set(&c->subsets.p, &single, &set));
        }
        at = next;
    }
    c->names[at].taken = true;
    return TROL_OK;
}

static trol_status construct(construction *c) {
    const text_rules *rules = c->rules;
    const text_place start = {REGEX_START, 0, rules->n_taken ? 0 : NO_NODE};
    uint32_t state;
    c->subsets.p.text = "";
    TRY(memory_grow((void **)&c->names, &c->names_capacity, 1, sizeof *c->names, "a pattern", c->error));
    c->names[c->n_names++] = (name_node){0};
    for (size_t i = 0; i < rules->n_taken; i++)
        TRY(add_name(c, rules->taken[i]));
    TRY(regex_subsets_start(&c->subsets, rules->patterns, rules->n_patterns, rules->refused, rules->n_refused));
    c->n_words = (c->subsets.n_classes + 63) / 64;
    TRY(find_state(c, &start, &state));
    for (size_t i = 0; i < c->a->n_states; i++)
        TRY(expand(c, (uint32_t)i));
    return TROL_OK;
}

trol_status text_automaton_new(const text_rules *rules, text_automaton **result, trol_error *error) {
    construction c = {.rules = rules, .error = error};
    c.subsets.error = c.subsets.p.error = c.subsets.threads.error = error;
    *result = NULL;
    c.a = calloc(1, sizeof *c.a);
    trol_status status = c.a ? construct(&c) : fail_memory(error, sizeof *c.a, "a pattern");
    if (status == TROL_OK) {
        *result = c.a;
        c.a = NULL;
    }
    text_automaton_free(c.a);
    regex_subsets_free(&c.subsets);
    memory_free(c.names);
    memory_free(c.places);
    memory_free(c.slots);
    memory_free(c.masks);
    memory_free(c.set_slots);
    memory_free(c.own);
    return status;
}

bool text_automaton_accepts(const text_automaton *a, const char *text) {
    uint32_t state = 0, character;
    const size_t n_bytes = strlen(text);
    for (size_t i = 0, n; i < n_bytes; i += n) {
        const text_state *s = &a->states[state];
        n = utf8_decode(text + i, n_bytes - i, &character);
        uint32_t arc = 0;
        while (n > 0 && arc < s->n_arcs && !code_points_has(&a->sets[a->arcs[s->first_arc + arc].set], character))
            arc++;
        if (n == 0 || arc == s->n_arcs)
            return false;
        state = a->arcs[s->first_arc + arc].target;
    }
    return a->states[state].accepts;
}

void text_automaton_free(text_automaton *a) {
    if (!a)
        return;
    for (size_t i = 0; i < a->n_sets; i++)
        code_points_free(&a->sets[i]);
    memory_free(a->sets);
    memory_free(a->arcs);
    memory_free(a->states);
    free(a);
}
