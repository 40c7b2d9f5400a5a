/* grammar.c - building a network of rules, and what matcher.c needs to know of it: which edges lead to an end, the
 * fewest bytes to it, in which order rules call each other, which bytes are equivalent. */
#include "engine/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum {
    MAX_STATES = 1 << 20,
    MAX_EDGES = 1 << 22,
    MAX_RULES = 1 << 18,
    MAX_LENGTH = 1 << 20 /* bytes of the shortest text */
};

/* ---- building -------------------------------------------------------------------------------- */

trol_status grammar_new(uint32_t max_depth, grammar **result, trol_error *error) {
    uint32_t accept;
    *result = calloc(1, sizeof **result);
    if (!*result)
        return fail_memory(error, sizeof **result, "a grammar");
    (*result)->max_depth = max_depth;
    return grammar_add_state(*result, &accept, error); /* GRAMMAR_ACCEPT */
}

void grammar_free(grammar *g) {
    if (!g)
        return;
    memory_free(g->rules);
    memory_free(g->sets);
    memory_free(g->set_slots);
    memory_free(g->pending);
    memory_free(g->first_edge);
    memory_free(g->edges);
    memory_free(g->distance);
    memory_free(g->length);
    free(g);
}

trol_status grammar_add_state(grammar *g, uint32_t *state, trol_error *error) {
    if (g->n_states == MAX_STATES)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the grammar is too large: it takes more than %d states",
                    MAX_STATES);
    *state = (uint32_t)g->n_states++;
    return TROL_OK;
}

trol_status grammar_add_rule(grammar *g, uint32_t *rule, trol_error *error) {
    grammar_rule added = {0};
    if (g->n_rules == MAX_RULES)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the grammar is too large: it takes more than %d rules", MAX_RULES);
    TRY(grammar_add_state(g, &added.start, error));
    TRY(grammar_add_state(g, &added.end, error));
    TRY(memory_grow((void **)&g->rules, &g->rules_capacity, g->n_rules + 1, sizeof *g->rules, "a grammar", error));
    *rule = (uint32_t)g->n_rules;
    g->rules[g->n_rules++] = added;
    return TROL_OK;
}

static trol_status add_edge(grammar *g, uint32_t from, grammar_edge edge, trol_error *error) {
    if (g->n_pending == MAX_EDGES)
        return fail(error, TROL_ERROR_UNSUPPORTED, "the grammar is too large: it takes more than %d edges", MAX_EDGES);
    TRY(memory_grow((void **)&g->pending, &g->pending_capacity, g->n_pending + 1, sizeof *g->pending, "a grammar",
                    error));
    g->pending[g->n_pending++] = (grammar_pending_edge){edge, from};
    return TROL_OK;
}

trol_status grammar_add_empty(grammar *g, uint32_t from, uint32_t to, trol_error *error) {
    return add_edge(g, from, (grammar_edge){EDGE_EMPTY, 0, to}, error);
}

trol_status grammar_add_call(grammar *g, uint32_t from, uint32_t to, uint32_t rule, trol_error *error) {
    return add_edge(g, from, (grammar_edge){EDGE_CALL, rule, to}, error);
}

static size_t set_hash(const byte_set *set) {
    uint64_t hash = 0;
    for (int i = 0; i < 4; i++)
        hash = hash_word(hash, set->bits[i]);
    return (size_t)hash;
}

/* The slot of a set: its own, or the free one that it would get. */
static size_t set_slot(const grammar *g, const byte_set *set) {
    size_t place = set_hash(set) & (g->n_set_slots - 1);
    while (g->set_slots[place] && memcmp(&g->sets[g->set_slots[place] - 1], set, sizeof *set) != 0)
        place = (place + 1) & (g->n_set_slots - 1);
    return place;
}

static trol_status grow_set_slots(grammar *g, trol_error *error) {
    const size_t n = g->n_set_slots ? 2 * g->n_set_slots : 64;
    uint32_t *slots;
    TRY(memory_alloc_zero(n, sizeof *slots, "a grammar", (void **)&slots, error));
    memory_free(g->set_slots);
    g->set_slots = slots;
    g->n_set_slots = n;
    for (size_t i = 0; i < g->n_sets; i++)
        g->set_slots[set_slot(g, &g->sets[i])] = (uint32_t)i + 1;
    return TROL_OK;
}

trol_status grammar_add_set(grammar *g, uint32_t from, uint32_t to, const byte_set *set, trol_error *error) {
    if (!(set->bits[0] | set->bits[1] | set->bits[2] | set->bits[3]))
        return TROL_OK;
    if (2 * (g->n_sets + 1) > g->n_set_slots)
        TRY(grow_set_slots(g, error));
    const size_t slot = set_slot(g, set);
    if (!g->set_slots[slot]) {
        TRY(memory_grow((void **)&g->sets, &g->sets_capacity, g->n_sets + 1, sizeof *g->sets, "a grammar", error));
        g->sets[g->n_sets++] = *set;
        g->set_slots[slot] = (uint32_t)g->n_sets;
    }
    return add_edge(g, from, (grammar_edge){EDGE_BYTES, g->set_slots[slot] - 1, to}, error);
}

trol_status grammar_add_range(grammar *g, uint32_t from, uint32_t to, unsigned first, unsigned last,
                              trol_error *error) {
    byte_set set = {{0}};
    byte_set_add(&set, first, last);
    return grammar_add_set(g, from, to, &set, error);
}

trol_status grammar_add_bytes(grammar *g, uint32_t from, uint32_t to, const char *text, size_t n_bytes,
                              trol_error *error) {
    if (n_bytes == 0)
        return grammar_add_empty(g, from, to, error);
    for (size_t i = 0; i < n_bytes; i++) {
        uint32_t next = to;
        if (i + 1 < n_bytes)
            TRY(grammar_add_state(g, &next, error));
        TRY(grammar_add_range(g, from, next, (uint8_t)text[i], (uint8_t)text[i], error));
        from = next;
    }
    return TROL_OK;
}

trol_status grammar_add_text(grammar *g, uint32_t from, uint32_t to, const char *text, trol_error *error) {
    return grammar_add_bytes(g, from, to, text, strlen(text), error);
}

/* ---- distances ------------------------------------------------------------------------------- */

/* Dijkstra's algorithm as Knuth (1977) has it for grammars: states are settled from the ends backwards, the nearest
 * first; an edge through a rule counts once both its target and the rule's start are settled. */
typedef struct distances {
    const grammar *g;
    uint32_t *incoming, *first_incoming; /* indices of pending edges, by target */
    uint32_t *calls, *first_call;        /* indices of pending edges, by called rule */
    uint32_t *rule_of_start;             /* [n_states]: rule + 1 that starts here */
    uint32_t *distance;                  /* [n_states] */
    bool *settled;                       /* [n_states] */
    struct heap_entry {
        uint32_t distance, state;
    } * heap;
    size_t n_heap, heap_capacity;
} distances;

static trol_status heap_push(distances *d, uint32_t state, uint32_t distance, trol_error *error) {
    if (d->settled[state] || distance >= d->distance[state])
        return TROL_OK;
    d->distance[state] = distance;
    TRY(memory_grow((void **)&d->heap, &d->heap_capacity, d->n_heap + 1, sizeof *d->heap, "a grammar", error));
    size_t i = d->n_heap++;
    for (; i > 0 && d->heap[(i - 1) / 2].distance > distance; i = (i - 1) / 2)
        d->heap[i] = d->heap[(i - 1) / 2];
    d->heap[i] = (struct heap_entry){distance, state};
    return TROL_OK;
}

static struct heap_entry heap_pop(distances *d) {
    const struct heap_entry top = d->heap[0], last = d->heap[--d->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < d->n_heap; i = child) {
        if (child + 1 < d->n_heap && d->heap[child + 1].distance < d->heap[child].distance)
            child++;
        if (d->heap[child].distance >= last.distance)
            break;
        d->heap[i] = d->heap[child];
    }
    d->heap[i] = last;
    return top;
}

/* The edge counts for its source if all that it leads through is settled. */
static trol_status relax(distances *d, const grammar_pending_edge *e, trol_error *error) {
    uint32_t through = e->edge.kind == EDGE_BYTES;
    if (!d->settled[e->edge.target])
        return TROL_OK;
    if (e->edge.kind == EDGE_CALL) {
        const uint32_t start = d->g->rules[e->edge.value].start;
        if (!d->settled[start])
            return TROL_OK;
        through = d->distance[start];
    }
    const uint32_t sum = through + d->distance[e->edge.target];
    return heap_push(d, e->from, sum < GRAMMAR_FAR ? sum : GRAMMAR_FAR - 1, error);
}

static trol_status settle(distances *d, uint32_t state, trol_error *error) {
    const grammar *g = d->g;
    d->settled[state] = true;
    for (uint32_t i = d->first_incoming[state]; i < d->first_incoming[state + 1]; i++)
        TRY(relax(d, &g->pending[d->incoming[i]], error));
    if (d->rule_of_start[state]) {
        const uint32_t rule = d->rule_of_start[state] - 1;
        for (uint32_t i = d->first_call[rule]; i < d->first_call[rule + 1]; i++)
            TRY(relax(d, &g->pending[d->calls[i]], error));
    }
    return TROL_OK;
}

/* Sorts the edges that `key` does not give SIZE_MAX for by it: first[k] .. first[k+1]-1 of order[]. */
static void sort_edges(const grammar *g, size_t (*key)(const grammar_pending_edge *), size_t n_keys, uint32_t *first,
                       uint32_t *order) {
    memset(first, 0, (n_keys + 1) * sizeof *first);
    for (size_t i = 0; i < g->n_pending; i++)
        if (key(&g->pending[i]) != SIZE_MAX)
            first[key(&g->pending[i])]++;
    uint32_t sum = 0;
    for (size_t k = 0; k <= n_keys; k++) {
        const uint32_t count = first[k];
        first[k] = sum;
        sum += k < n_keys ? count : 0;
    }
    for (size_t i = 0; i < g->n_pending; i++)
        if (key(&g->pending[i]) != SIZE_MAX)
            order[first[key(&g->pending[i])]++] = (uint32_t)i;
    for (size_t k = n_keys; k > 0; k--)
        first[k] = first[k - 1];
    first[0] = 0;
}

static size_t key_target(const grammar_pending_edge *e) { return e->edge.target; }
static size_t key_called(const grammar_pending_edge *e) { return e->edge.kind == EDGE_CALL ? e->edge.value : SIZE_MAX; }

static trol_status compute_distances(grammar *g, trol_error *error) {
    distances d = {.g = g};
    trol_status status = TROL_OK;
    TRY_GOTO(memory_alloc(g->n_pending, sizeof(uint32_t), "a grammar", (void **)&d.incoming, error), done);
    TRY_GOTO(memory_alloc(g->n_states + 1, sizeof(uint32_t), "a grammar", (void **)&d.first_incoming, error), done);
    TRY_GOTO(memory_alloc(g->n_pending, sizeof(uint32_t), "a grammar", (void **)&d.calls, error), done);
    TRY_GOTO(memory_alloc(g->n_rules + 1, sizeof(uint32_t), "a grammar", (void **)&d.first_call, error), done);
    TRY_GOTO(memory_alloc_zero(g->n_states, sizeof(uint32_t), "a grammar", (void **)&d.rule_of_start, error), done);
    TRY_GOTO(memory_alloc(g->n_states, sizeof(uint32_t), "a grammar", (void **)&g->distance, error), done);
    TRY_GOTO(memory_alloc(g->n_rules, sizeof(uint32_t), "a grammar", (void **)&g->length, error), done);
    TRY_GOTO(memory_alloc_zero(g->n_states, sizeof(bool), "a grammar", (void **)&d.settled, error), done);
    d.distance = g->distance;
    sort_edges(g, key_target, g->n_states, d.first_incoming, d.incoming);
    sort_edges(g, key_called, g->n_rules, d.first_call, d.calls);
    for (size_t i = 0; i < g->n_states; i++)
        g->distance[i] = GRAMMAR_FAR;
    for (size_t i = 0; i < g->n_rules; i++)
        d.rule_of_start[g->rules[i].start] = (uint32_t)i + 1;
    TRY_GOTO(heap_push(&d, GRAMMAR_ACCEPT, 0, error), done);
    for (size_t i = 0; i < g->n_rules; i++)
        TRY_GOTO(heap_push(&d, g->rules[i].end, 0, error), done);
    while (d.n_heap > 0) {
        const uint32_t state = heap_pop(&d).state;
        if (!d.settled[state])
            TRY_GOTO(settle(&d, state, error), done);
    }
    for (size_t i = 0; i < g->n_rules; i++)
        g->length[i] = g->distance[g->rules[i].start];
done:
    memory_free(d.incoming);
    memory_free(d.first_incoming);
    memory_free(d.calls);
    memory_free(d.first_call);
    memory_free(d.rule_of_start);
    memory_free(d.settled);
    memory_free(d.heap);
    return status;
}

/* ---- edges by state -------------------------------------------------------------------------- */

static bool leads_to_an_end(const grammar *g, const grammar_edge *edge) {
    return g->distance[edge->target] < GRAMMAR_FAR && (edge->kind != EDGE_CALL || g->length[edge->value] < GRAMMAR_FAR);
}

/* Keeps the edges that may lead to an end, those with bytes first. */
static trol_status arrange_edges(grammar *g, trol_error *error) {
    TRY(memory_alloc_zero(g->n_states + 2, sizeof *g->first_edge, "a grammar", (void **)&g->first_edge, error));
    TRY(memory_alloc(g->n_pending, sizeof *g->edges, "a grammar", (void **)&g->edges, error));
    uint32_t *next = g->first_edge + 1; /* next[s] becomes the end of state s, which is first_edge[s + 1] */
    for (size_t i = 0; i < g->n_pending; i++)
        if (leads_to_an_end(g, &g->pending[i].edge))
            next[g->pending[i].from + 1]++;
    for (size_t s = 0; s < g->n_states; s++)
        next[s + 1] += next[s];
    for (int bytes = 1; bytes >= 0; bytes--)
        for (size_t i = 0; i < g->n_pending; i++)
            if (leads_to_an_end(g, &g->pending[i].edge) && (g->pending[i].edge.kind == EDGE_BYTES) == bytes)
                g->edges[next[g->pending[i].from]++] = g->pending[i].edge;
    memory_free(g->pending);
    g->pending = NULL;
    g->n_pending = g->pending_capacity = 0;
    return TROL_OK;
}

/* ---- left recursion -------------------------------------------------------------------------- */

/* Which rules each rule may call before any byte, depth first: a rule that is reached again on the path to it is
 * left-recursive; the order in which rules are done, backwards, is one in which callers come first. */
typedef struct left_calls {
    grammar *g;
    uint32_t *seen;  /* [n_states]: rule + 1 whose walk has been here */
    uint8_t *phase;  /* [n_rules]: 0 new, 1 on the path, 2 done */
    uint32_t *rules; /* the path: [n_rules] */
    uint32_t *begin; /* where in `calls` the calls of each rule on the path begin: [n_rules + 1] */
    size_t n_way;
    uint32_t *calls, *walk;
    size_t n_calls, calls_capacity, n_walk, walk_capacity;
    uint32_t next_order;
} left_calls;

static trol_status push(uint32_t **array, size_t *n, size_t *capacity, uint32_t value, trol_error *error) {
    TRY(memory_grow((void **)array, capacity, *n + 1, sizeof **array, "a grammar", error));
    (*array)[(*n)++] = value;
    return TROL_OK;
}

static trol_status walk_state(left_calls *l, uint32_t rule, uint32_t state, trol_error *error) {
    if (l->seen[state] == rule + 1)
        return TROL_OK;
    l->seen[state] = rule + 1;
    return push(&l->walk, &l->n_walk, &l->walk_capacity, state, error);
}

static trol_status enter_rule(left_calls *l, uint32_t rule, trol_error *error) {
    const grammar *g = l->g;
    l->phase[rule] = 1;
    l->rules[l->n_way] = rule;
    l->begin[l->n_way++] = (uint32_t)l->n_calls;
    TRY(walk_state(l, rule, g->rules[rule].start, error));
    while (l->n_walk > 0) {
        const uint32_t state = l->walk[--l->n_walk];
        for (uint32_t i = g->first_edge[state]; i < g->first_edge[state + 1]; i++) {
            const grammar_edge *edge = &g->edges[i];
            if (edge->kind == EDGE_CALL)
                TRY(push(&l->calls, &l->n_calls, &l->calls_capacity, edge->value, error));
            if (edge->kind == EDGE_EMPTY || (edge->kind == EDGE_CALL && g->length[edge->value] == 0))
                TRY(walk_state(l, rule, edge->target, error));
        }
    }
    return TROL_OK;
}

static trol_status visit_from(left_calls *l, uint32_t first, bool *found, uint32_t *rule, trol_error *error) {
    TRY(enter_rule(l, first, error));
    while (l->n_way > 0) {
        const uint32_t top = l->rules[l->n_way - 1];
        if (l->n_calls == l->begin[l->n_way - 1]) {
            l->phase[top] = 2;
            l->g->rules[top].order = --l->next_order;
            l->n_way--;
            continue;
        }
        const uint32_t called = l->calls[--l->n_calls];
        if (l->phase[called] == 1) {
            *found = true;
            *rule = called;
            return TROL_OK;
        }
        if (l->phase[called] == 0)
            TRY(enter_rule(l, called, error));
    }
    return TROL_OK;
}

static trol_status find_left_recursion(grammar *g, bool *found, uint32_t *rule, trol_error *error) {
    left_calls l = {.g = g, .next_order = (uint32_t)g->n_rules};
    trol_status status = TROL_OK;
    TRY_GOTO(memory_alloc_zero(g->n_states, sizeof(uint32_t), "a grammar", (void **)&l.seen, error), done);
    TRY_GOTO(memory_alloc_zero(g->n_rules, 1, "a grammar", (void **)&l.phase, error), done);
    TRY_GOTO(memory_alloc(g->n_rules, sizeof(uint32_t), "a grammar", (void **)&l.rules, error), done);
    TRY_GOTO(memory_alloc(g->n_rules, sizeof(uint32_t), "a grammar", (void **)&l.begin, error), done);
    *found = false;
    for (uint32_t i = 0; i < g->n_rules && !*found; i++)
        if (l.phase[i] == 0)
            TRY_GOTO(visit_from(&l, i, found, rule, error), done);
done:
    memory_free(l.seen);
    memory_free(l.phase);
    memory_free(l.rules);
    memory_free(l.begin);
    memory_free(l.calls);
    memory_free(l.walk);
    return status;
}

/* ---- classes of bytes ------------------------------------------------------------------------ */

/* Each set in turn splits the classes that are only partly in it. */
static void classify_bytes(grammar *g) {
    uint16_t class_of[256] = {0};
    size_t n = 1;
    for (size_t s = 0; s < g->n_sets && n < 256; s++) {
        uint16_t inside[256], count_in[256] = {0}, count[256] = {0};
        for (int b = 0; b < 256; b++) {
            count[class_of[b]]++;
            count_in[class_of[b]] += byte_set_has(&g->sets[s], (unsigned)b);
        }
        const size_t n_before = n;
        for (size_t c = 0; c < n_before; c++)
            inside[c] = count_in[c] && count_in[c] < count[c] ? (uint16_t)n++ : (uint16_t)c;
        for (int b = 0; b < 256; b++)
            if (byte_set_has(&g->sets[s], (unsigned)b))
                class_of[b] = inside[class_of[b]];
    }
    int16_t renamed[256];
    memset(renamed, -1, sizeof renamed);
    g->n_classes = 0;
    for (int b = 0; b < 256; b++) { /* in order of the smallest byte */
        if (renamed[class_of[b]] < 0) {
            renamed[class_of[b]] = (int16_t)g->n_classes;
            g->class_byte[g->n_classes++] = (uint8_t)b;
        }
        g->class_of[b] = (uint8_t)renamed[class_of[b]];
    }
}

trol_status grammar_finish(grammar *g, uint32_t root, grammar_flaw *flaw, uint32_t *rule, trol_error *error) {
    bool found = false;
    *flaw = GRAMMAR_SOUND;
    *rule = root;
    g->root = root;
    TRY(compute_distances(g, error));
    TRY(arrange_edges(g, error));
    if (g->length[root] >= GRAMMAR_FAR)
        *flaw = GRAMMAR_EMPTY;
    else if (g->length[root] > MAX_LENGTH)
        *flaw = GRAMMAR_TOO_LONG;
    TRY(find_left_recursion(g, &found, rule, error));
    if (found)
        *flaw = GRAMMAR_LEFT_RECURSIVE;
    classify_bytes(g);
    return TROL_OK;
}
