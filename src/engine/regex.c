/* regex.c - the nondeterministic automaton of patterns (regex_parser.c), with lengths and taken names, to a
 * deterministic one by the construction of subsets. */
#include "engine/regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "engine/regex_threads.h"

enum {
    MAX_STATES = 1 << 17,
    MAX_ARCS = 1 << 19,
    MAX_SET_MEMBERS = 1 << 24 /* threads of all subsets */
};

/* ---- classes of characters ------------------------------------------------------------------- */

/* Characters that no set distinguishes. */
typedef struct classes {
    code_points *sets; /* [n] */
    size_t n, capacity;
    uint8_t *in; /* [n, n_sets]: whether the class is in the pattern's set */
    size_t in_capacity;
} classes;

static int compare_numbers(const void *left, const void *right) {
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static trol_status find_boundaries(const regex_patterns *p, uint32_t **boundaries, size_t *n, trol_error *error) {
    size_t count = 3;
    for (size_t i = 0; i < p->n_sets; i++)
        count += 2 * p->sets[i].n;
    TRY(memory_alloc(count, sizeof **boundaries, "a pattern", (void **)boundaries, error));
    (*boundaries)[0] = 0;
    (*boundaries)[1] = 0xd800;
    (*boundaries)[2] = 0xe000;
    *n = 3;
    for (size_t i = 0; i < p->n_sets; i++)
        for (size_t j = 0; j < p->sets[i].n; j++) {
            (*boundaries)[(*n)++] = p->sets[i].ranges[j].first;
            (*boundaries)[(*n)++] = p->sets[i].ranges[j].last + 1;
        }
    qsort(*boundaries, *n, sizeof **boundaries, compare_numbers);
    return TROL_OK;
}

static trol_status add_to_class(const regex_patterns *p, classes *c, uint32_t first, uint32_t last, trol_error *error) {
    const size_t width = p->n_sets;
    TRY(memory_grow((void **)&c->in, &c->in_capacity, (c->n + 1) * width + 1, 1, "a pattern", error));
    uint8_t *in = c->in + c->n * width;
    for (size_t i = 0; i < width; i++)
        in[i] = code_points_has(&p->sets[i], first);
    size_t class = 0;
    while (class < c->n && width > 0 && memcmp(c->in + class * width, in, width) != 0)
        class ++;
    if (class == c->n) {
        TRY(memory_grow((void **)&c->sets, &c->capacity, c->n + 1, sizeof *c->sets, "a pattern", error));
        c->sets[c->n++] = (code_points){0};
    }
    return code_points_add(&c->sets[class], first, last, error);
}

static trol_status find_classes(const regex_patterns *p, classes *c, trol_error *error) {
    uint32_t *boundaries = NULL;
    size_t n;
    trol_status status;
    TRY_GOTO(find_boundaries(p, &boundaries, &n, error), done);
    for (size_t i = 0; i < n; i++) {
        const uint32_t first = boundaries[i], end = i + 1 < n ? boundaries[i + 1] : CODE_POINT_LAST + 1;
        if (first < end && first != 0xd800 && first <= CODE_POINT_LAST)
            TRY_GOTO(add_to_class(p, c, first, end - 1, error), done);
    }
    for (size_t i = 0; i < c->n; i++)
        TRY_GOTO(code_points_normalize(&c->sets[i], error), done);
done:
    memory_free(boundaries);
    return status;
}

/* ---- subsets --------------------------------------------------------------------------------- */

/* What a state stands for: threads through the patterns, how long the text is, and where in the taken names it is. */
typedef struct subset {
    uint32_t first, n; /* in members[], sorted */
    uint32_t length;   /* up to where it makes a difference */
    uint32_t name;     /* node of the tree of taken names; NO_NODE: in none */
} subset;

typedef struct name_node {
    uint32_t character, parent;
    bool taken;
} name_node;

typedef struct construction {
    const text_rules *rules;
    regex_patterns p;
    regex_threads threads;
    classes classes;
    name_node *names; /* the tree of taken names; node 0 is the root */
    size_t n_names, names_capacity;
    subset *subsets; /* [automaton->n_states] */
    size_t subsets_capacity;
    uint32_t *members;
    size_t n_members, members_capacity;
    uint32_t *slots; /* hash table of states + 1 */
    size_t n_slots;
    text_automaton *a;
    trol_error *error;
} construction;

static size_t n_patterns(const construction *c) { return c->rules->n_patterns + c->rules->n_refused; }

/* The nodes of pattern i are those from its first up to the next one's. */
static size_t pattern_of(const construction *c, uint32_t thread) {
    const uint32_t node = regex_thread_node(&c->threads, thread);
    size_t pattern = 0;
    while (pattern + 1 < n_patterns(c) && node >= c->p.starts[pattern + 1])
        pattern++;
    return pattern;
}

/* The thread in work that has matched a pattern; NO_NODE if none. */
static uint32_t find_matched(const construction *c, size_t pattern) {
    const regex_threads *t = &c->threads;
    for (size_t i = 0; i < t->n_work; i++)
        if (regex_thread_matched(t, t->work[i]) && pattern_of(c, t->work[i]) == pattern)
            return t->work[i];
    return NO_NODE;
}

static trol_status check_accepts(construction *c, const subset *s, bool at_begin, bool *accepts) {
    regex_threads *t = &c->threads;
    *accepts = s->length >= c->rules->min_length && (s->name == NO_NODE || !c->names[s->name].taken);
    regex_threads_begin(t);
    for (uint32_t i = 0; i < s->n; i++)
        TRY(regex_threads_visit(t, c->members[s->first + i]));
    TRY(regex_threads_close(t, at_begin, true));
    for (size_t pattern = 0; pattern < n_patterns(c); pattern++)
        *accepts = *accepts && (find_matched(c, pattern) != NO_NODE) == (pattern < c->rules->n_patterns);
    return TROL_OK;
}

static size_t hash_subset(const construction *c, const subset *s) {
    uint64_t hash = (uint64_t)s->length << 32 | s->name;
    for (uint32_t i = 0; i < s->n; i++)
        hash = hash_word(hash, c->members[s->first + i]);
    return (size_t)hash;
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
        size_t place = hash_subset(c, &c->subsets[i]) & (n - 1);
        while (c->slots[place])
            place = (place + 1) & (n - 1);
        c->slots[place] = (uint32_t)i + 1;
    }
    return TROL_OK;
}

/* Keeps of the threads gathered those that rest; of a pattern that has matched, that one alone. *dead if a pattern can
 * match no more, or if one has matched that must not. */
static trol_status settle_members(construction *c, subset *s, bool *dead) {
    const regex_threads *t = &c->threads;
    size_t kept = 0;
    *dead = false;
    for (size_t pattern = 0; pattern < n_patterns(c); pattern++) {
        const bool refused = pattern >= c->rules->n_patterns;
        const size_t before = kept;
        const uint32_t matched = find_matched(c, pattern);
        for (size_t i = 0; i < t->n_work; i++) {
            if (pattern_of(c, t->work[i]) != pattern || !regex_thread_rests(t, t->work[i]) ||
                (matched != NO_NODE && t->work[i] != matched))
                continue;
            if (c->n_members + kept >= MAX_SET_MEMBERS)
                return fail(c->error, TROL_ERROR_UNSUPPORTED, "the pattern \"%.200s\" is too complex", c->p.text);
            TRY(memory_grow((void **)&c->members, &c->members_capacity, c->n_members + kept + 1, sizeof *c->members,
                            "a pattern", c->error));
            c->members[c->n_members + kept++] = t->work[i];
        }
        *dead = *dead || (refused ? matched != NO_NODE : kept == before);
    }
    s->first = (uint32_t)c->n_members;
    s->n = (uint32_t)kept;
    if (kept > 1)
        qsort(c->members + s->first, kept, sizeof *c->members, compare_numbers);
    return TROL_OK;
}

/* The state of the subset whose members are at the end of members[]. */
static trol_status find_state(construction *c, const subset *s, bool at_begin, uint32_t *state) {
    TRY(grow_slots(c));
    size_t place = hash_subset(c, s) & (c->n_slots - 1);
    for (; c->slots[place]; place = (place + 1) & (c->n_slots - 1)) {
        const subset *known = &c->subsets[c->slots[place] - 1];
        if (!at_begin && c->slots[place] > 1 && known->n == s->n && known->length == s->length &&
            known->name == s->name &&
            (s->n == 0 || memcmp(c->members + known->first, c->members + s->first, s->n * sizeof *c->members) == 0)) {
            *state = c->slots[place] - 1;
            return TROL_OK;
        }
    }
    text_automaton *a = c->a;
    if (a->n_states == MAX_STATES)
        return fail(c->error, TROL_ERROR_UNSUPPORTED,
                    "a string's lengths and patterns together take more than %d states", MAX_STATES);
    TRY(memory_grow((void **)&c->subsets, &c->subsets_capacity, a->n_states + 1, sizeof *c->subsets, "a pattern",
                    c->error));
    TRY(memory_grow((void **)&a->states, &a->states_capacity, a->n_states + 1, sizeof *a->states, "a pattern",
                    c->error));
    c->n_members += s->n;
    c->subsets[a->n_states] = *s;
    text_state made = {0};
    TRY(check_accepts(c, s, at_begin, &made.accepts));
    *state = (uint32_t)a->n_states;
    c->slots[place] = *state + 1;
    a->states[a->n_states++] = made;
    return TROL_OK;
}

static uint32_t find_name(const construction *c, uint32_t parent, const code_points *class) {
    for (size_t i = 1; i < c->n_names && parent != NO_NODE; i++)
        if (c->names[i].parent == parent && code_points_has(class, c->names[i].character))
            return (uint32_t)i;
    return NO_NODE;
}

static trol_status add_arc(construction *c, uint32_t from, size_t class, uint32_t target) {
    text_automaton *a = c->a;
    text_state *s = &a->states[from];
    for (uint32_t i = 0; i < s->n_arcs; i++)
        if (a->arcs[s->first_arc + i].target == target)
            return code_points_add_all(&a->arcs[s->first_arc + i].set, &c->classes.sets[class], c->error);
    if (a->n_arcs == MAX_ARCS)
        return fail(c->error, TROL_ERROR_UNSUPPORTED, "a string's lengths and patterns together take more than %d arcs",
                    MAX_ARCS);
    TRY(memory_grow((void **)&a->arcs, &a->arcs_capacity, a->n_arcs + 1, sizeof *a->arcs, "a pattern", c->error));
    if (s->n_arcs++ == 0)
        s->first_arc = (uint32_t)a->n_arcs;
    a->arcs[a->n_arcs++] = (text_arc){{0}, target};
    return code_points_add_all(&a->arcs[a->n_arcs - 1].set, &c->classes.sets[class], c->error);
}

static trol_status expand(construction *c, uint32_t state) {
    const text_rules *rules = c->rules;
    const bool bounded = rules->max_length != UINT32_MAX;
    const subset from = c->subsets[state];
    if (bounded && from.length == rules->max_length)
        return TROL_OK;
    for (size_t class = 0; class < c->classes.n; class ++) {
        subset next = {.length = bounded || from.length < rules->min_length ? from.length + 1 : from.length};
        uint32_t target;
        bool dead;
        next.name = find_name(c, from.name, &c->classes.sets[class]);
        regex_threads_begin(&c->threads);
        for (uint32_t i = 0; i < from.n; i++)
            TRY(regex_threads_step(&c->threads, c->members[from.first + i], c->classes.in + class * c->p.n_sets));
        TRY(regex_threads_close(&c->threads, false, false));
        TRY(settle_members(c, &next, &dead));
        if (dead)
            continue;
        TRY(find_state(c, &next, false, &target));
        TRY(add_arc(c, state, class, target));
    }
    for (uint32_t i = 0; i < c->a->states[state].n_arcs; i++)
        TRY(code_points_normalize(&c->a->arcs[c->a->states[state].first_arc + i].set, c->error));
    return TROL_OK;
}

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
            TRY(regex_add_set(&c->p, &single, &set));
        }
        at = next;
    }
    c->names[at].taken = true;
    return TROL_OK;
}

/* All patterns' nodes, and the threads that begin them. */
static trol_status add_patterns(construction *c) {
    const text_rules *rules = c->rules;
    uint32_t *begins;
    trol_status status = TROL_OK;
    TRY(memory_alloc(n_patterns(c) + 1, sizeof *c->p.starts, "a pattern", (void **)&c->p.starts, c->error));
    TRY(memory_alloc(n_patterns(c) + 1, sizeof *begins, "a pattern", (void **)&begins, c->error));
    for (size_t i = 0; i < n_patterns(c) && status == TROL_OK; i++) {
        c->p.starts[i] = (uint32_t)c->p.n_nodes;
        status = regex_add_pattern(
            &c->p, i < rules->n_patterns ? rules->patterns[i] : rules->refused[i - rules->n_patterns], &begins[i]);
    }
    regex_threads_begin(&c->threads);
    for (size_t i = 0; i < n_patterns(c) && status == TROL_OK; i++)
        status = regex_threads_enter(&c->threads, begins[i]);
    memory_free(begins);
    return status;
}

static trol_status construct(construction *c) {
    const text_rules *rules = c->rules;
    subset start = {.name = rules->n_taken ? 0 : NO_NODE};
    uint32_t state;
    bool dead;
    c->p.text = "";
    c->threads.p = &c->p;
    TRY(add_patterns(c));
    TRY(memory_grow((void **)&c->names, &c->names_capacity, 1, sizeof *c->names, "a pattern", c->error));
    c->names[c->n_names++] = (name_node){0};
    for (size_t i = 0; i < rules->n_taken; i++)
        TRY(add_name(c, rules->taken[i]));
    TRY(find_classes(&c->p, &c->classes, c->error));
    TRY(regex_threads_close(&c->threads, true, false));
    TRY(settle_members(c, &start, &dead));
    if (dead)
        start.n = 0;
    TRY(find_state(c, &start, true, &state));
    c->a->states[state].accepts = c->a->states[state].accepts && !dead;
    for (size_t i = 0; i < c->a->n_states && !dead; i++)
        TRY(expand(c, (uint32_t)i));
    return TROL_OK;
}

trol_status text_automaton_new(const text_rules *rules, text_automaton **result, trol_error *error) {
    construction c = {.rules = rules, .error = error, .p = {.error = error}, .threads = {.error = error}};
    *result = NULL;
    c.a = calloc(1, sizeof *c.a);
    trol_status status = c.a ? construct(&c) : fail_memory(error, sizeof *c.a, "a pattern");
    if (status == TROL_OK) {
        *result = c.a;
        c.a = NULL;
    }
    text_automaton_free(c.a);
    for (size_t i = 0; i < c.p.n_sets; i++)
        code_points_free(&c.p.sets[i]);
    for (size_t i = 0; i < c.classes.n; i++)
        code_points_free(&c.classes.sets[i]);
    regex_threads_free(&c.threads);
    memory_free(c.p.sets);
    memory_free(c.p.nodes);
    memory_free(c.p.starts);
    memory_free(c.classes.sets);
    memory_free(c.classes.in);
    memory_free(c.names);
    memory_free(c.subsets);
    memory_free(c.members);
    memory_free(c.slots);
    return status;
}

bool text_automaton_accepts(const text_automaton *a, const char *text) {
    uint32_t state = 0, character;
    const size_t n_bytes = strlen(text);
    for (size_t i = 0, n; i < n_bytes; i += n) {
        const text_state *s = &a->states[state];
        n = utf8_decode(text + i, n_bytes - i, &character);
        uint32_t arc = 0;
        while (n > 0 && arc < s->n_arcs && !code_points_has(&a->arcs[s->first_arc + arc].set, character))
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
    for (size_t i = 0; i < a->n_arcs; i++)
        code_points_free(&a->arcs[i].set);
    memory_free(a->arcs);
    memory_free(a->states);
    free(a);
}
