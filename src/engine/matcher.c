/* matcher.c - states as sets of (place, stack node), closed under what consumes no byte; see matcher.h.
 *
 * A step takes each place's edges for the byte and closes the result: empty edges are followed, calls make a node with
 * the way back, ends of rules go back along the ways of their node. All calls of one rule in one closure share a node,
 * whose ways are complete only when the closure is; so nodes are provisional until then and get their lasting numbers
 * in the order of rules that grammar_finish found, callers first. A call that is the last thing in its rule hands on
 * the caller's ways (no stack grows in right recursion). */
#include "engine/matcher.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum {
    MAX_ITEMS = 1 << 16,        /* places of one state: only unusual grammars have thousands */
    MAX_BYTES_IN_USE = 1 << 28, /* of states and nodes between two calls of matcher_compact */
    NODE_ROOT = 0               /* returns to GRAMMAR_ACCEPT */
};
#define PROVISIONAL 0x80000000u /* marks a node of the closure in progress */
#define RETURN      UINT32_MAX  /* as a place: the end of the rule; as a way's place: all the ways of its node */

/* A place with its stack; as a way back: where to continue, and the stack there. */
typedef struct item {
    uint32_t place, node;
} item;

typedef struct stack_node {
    uint32_t first_way, n_ways; /* in ways[], sorted, none twice */
    uint32_t distance;          /* the fewest bytes from the rule's end to the text's */
    uint32_t depth;
} stack_node;

typedef struct matcher_state {
    uint32_t first_item, n_items; /* in items[], sorted: the places with edges that consume a byte */
    uint32_t note;
    uint32_t common; /* matcher_common_step's answer, plus 1; 0: not asked yet */
    bool accepts;
} matcher_state;

typedef struct index_table {
    uint32_t *slots; /* [n_slots], a power of two: number + 1; 0: free */
    size_t n_slots, n_used;
} index_table;

/* A node of the closure in progress: the call of one rule. */
typedef struct provisional_node {
    uint32_t rule;
    uint32_t first_way; /* in pending_ways, a list; UINT32_MAX: its end */
    uint32_t depth;
    uint32_t node; /* its lasting number, once it has one */
    bool ended;    /* its rule's end was reached: ways that come later are followed at once */
} provisional_node;

typedef struct pending_way {
    item way;
    uint32_t next;
} pending_way;

#define ARRAY(type, name)                                                                                              \
    type *name;                                                                                                        \
    size_t n_##name, name##_capacity

struct matcher {
    grammar *g;
    ARRAY(matcher_state, states);
    ARRAY(uint32_t, rows);      /* [n_states]: index in steps[] of a row [n_classes], plus 1; 0: none yet */
    ARRAY(uint32_t, distances); /* [n_states] */
    ARRAY(item, items);
    ARRAY(stack_node, nodes);
    ARRAY(item, ways);
    ARRAY(uint32_t, steps);
    index_table state_table, node_table;
    /* the closure in progress: */
    ARRAY(item, todo);
    ARRAY(item, found);
    ARRAY(provisional_node, provisional);
    ARRAY(pending_way, pending_ways);
    ARRAY(item, scratch);
    ARRAY(uint32_t, order);
    bool found_accept;
    uint32_t *node_of_rule; /* [n_rules]: its provisional node + 1 */
    item *seen;             /* [n_seen_slots]: places gone through, by hash; used if seen_stamp is the current one */
    uint32_t *seen_stamps, stamp;
    size_t n_seen_slots, n_seen;
};

#define GROW(m, array, count, error)                                                                                   \
    TRY(memory_grow((void **)&(m)->array, &(m)->array##_capacity, count, sizeof *(m)->array, "a grammar's states",     \
                    error))

/* ---- tables ---------------------------------------------------------------------------------- */

static size_t hash_items(const item *items, size_t n, size_t seed) {
    uint64_t hash = seed;
    for (size_t i = 0; i < n; i++)
        hash = hash_word(hash, (uint64_t)items[i].place << 32 | items[i].node);
    return (size_t)hash;
}

static bool equal_items(const item *a, const item *b, size_t n) { return n == 0 || memcmp(a, b, n * sizeof *a) == 0; }

static size_t hash_state(const matcher *m, const matcher_state *s) {
    return hash_items(m->items + s->first_item, s->n_items, s->accepts);
}

static size_t hash_node(const matcher *m, const stack_node *n) {
    return hash_items(m->ways + n->first_way, n->n_ways, 7);
}

static void table_put(index_table *table, size_t hash, uint32_t number) {
    size_t place = hash & (table->n_slots - 1);
    while (table->slots[place])
        place = (place + 1) & (table->n_slots - 1);
    table->slots[place] = number + 1;
    table->n_used++;
}

/* Makes room for one more; `of_states` says what the numbers are. */
static trol_status table_grow(matcher *m, index_table *table, bool of_states, trol_error *error) {
    if (2 * (table->n_used + 1) <= table->n_slots)
        return TROL_OK;
    index_table larger = {.n_slots = table->n_slots ? 2 * table->n_slots : 256};
    TRY(memory_alloc_zero(larger.n_slots, sizeof *larger.slots, "a grammar's states", (void **)&larger.slots, error));
    for (size_t i = 0; i < table->n_slots; i++) {
        const uint32_t number = table->slots[i] - 1;
        if (table->slots[i])
            table_put(&larger, of_states ? hash_state(m, &m->states[number]) : hash_node(m, &m->nodes[number]), number);
    }
    memory_free(table->slots);
    *table = larger;
    return TROL_OK;
}

size_t matcher_bytes(const matcher *m) {
    return m->n_states * (sizeof *m->states + sizeof *m->rows + sizeof *m->distances) + m->n_items * sizeof *m->items +
           m->n_nodes * sizeof *m->nodes + m->n_ways * sizeof *m->ways + m->n_steps * sizeof *m->steps;
}

static int compare_items(const void *left, const void *right) {
    const item *a = left, *b = right;
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return a->node < b->node ? -1 : a->node > b->node;
}

/* Sorts and drops what comes twice; returns how many are left. */
static size_t sort_items(item *items, size_t n) {
    if (n > 1)
        qsort(items, n, sizeof *items, compare_items);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || compare_items(&items[i], &items[kept - 1]) != 0)
            items[kept++] = items[i];
    return kept;
}

/* The node with the n sorted ways at `ways` (not in m->ways). */
static trol_status find_node(matcher *m, const item *ways, size_t n, uint32_t *number, trol_error *error) {
    TRY(table_grow(m, &m->node_table, false, error));
    const size_t mask = m->node_table.n_slots - 1, hash = hash_items(ways, n, 7);
    for (size_t place = hash & mask; m->node_table.slots[place]; place = (place + 1) & mask) {
        const stack_node *known = &m->nodes[m->node_table.slots[place] - 1];
        if (known->n_ways == n && equal_items(m->ways + known->first_way, ways, n)) {
            *number = m->node_table.slots[place] - 1;
            return TROL_OK;
        }
    }
    GROW(m, nodes, m->n_nodes + 1, error);
    GROW(m, ways, m->n_ways + n, error);
    stack_node made = {(uint32_t)m->n_ways, (uint32_t)n, GRAMMAR_FAR, 0};
    for (size_t i = 0; i < n; i++) {
        const stack_node *caller = ways[i].place == GRAMMAR_ACCEPT ? NULL : &m->nodes[ways[i].node];
        const uint32_t distance = caller ? m->g->distance[ways[i].place] + caller->distance : 0;
        made.distance = distance < made.distance ? distance : made.distance;
        if (caller && caller->depth + 1 > made.depth)
            made.depth = caller->depth + 1;
        m->ways[m->n_ways++] = ways[i];
    }
    *number = (uint32_t)m->n_nodes;
    table_put(&m->node_table, hash, *number);
    m->nodes[m->n_nodes++] = made;
    return TROL_OK;
}

static trol_status find_state(matcher *m, const item *items, size_t n, bool accepts, uint32_t *number,
                              trol_error *error) {
    if (n == 0 && !accepts) {
        *number = MATCHER_DEAD;
        return TROL_OK;
    }
    TRY(table_grow(m, &m->state_table, true, error));
    const size_t mask = m->state_table.n_slots - 1, hash = hash_items(items, n, accepts);
    for (size_t place = hash & mask; m->state_table.slots[place]; place = (place + 1) & mask) {
        const matcher_state *known = &m->states[m->state_table.slots[place] - 1];
        if (known->n_items == n && known->accepts == accepts && equal_items(m->items + known->first_item, items, n)) {
            *number = m->state_table.slots[place] - 1;
            return TROL_OK;
        }
    }
    if (matcher_bytes(m) > MAX_BYTES_IN_USE)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the grammar takes more than %d MB of states for one token: it is too "
                    "ambiguous",
                    MAX_BYTES_IN_USE >> 20);
    GROW(m, states, m->n_states + 1, error);
    GROW(m, rows, m->n_states + 1, error);
    GROW(m, distances, m->n_states + 1, error);
    GROW(m, items, m->n_items + n, error);
    uint32_t nearest = accepts ? 0 : GRAMMAR_FAR;
    for (size_t i = 0; i < n; i++) {
        const uint32_t distance = m->g->distance[items[i].place] + m->nodes[items[i].node].distance;
        nearest = distance < nearest ? distance : nearest;
        m->items[m->n_items++] = items[i];
    }
    *number = (uint32_t)m->n_states;
    table_put(&m->state_table, hash, *number);
    m->rows[m->n_states] = 0;
    m->distances[m->n_states] = nearest;
    m->states[m->n_states++] = (matcher_state){(uint32_t)(m->n_items - n), (uint32_t)n, 0, 0, accepts};
    return TROL_OK;
}

/* ---- closure --------------------------------------------------------------------------------- */

static trol_status grow_seen(matcher *m, trol_error *error) {
    const size_t n = m->n_seen_slots ? 2 * m->n_seen_slots : 1024;
    item *seen, *old = m->seen;
    uint32_t *stamps, *old_stamps = m->seen_stamps;
    TRY(memory_alloc(n, sizeof *seen, "a grammar's states", (void **)&seen, error));
    trol_status status = memory_alloc_zero(n, sizeof *stamps, "a grammar's states", (void **)&stamps, error);
    if (status != TROL_OK) {
        memory_free(seen);
        return status;
    }
    for (size_t i = 0; i < m->n_seen_slots; i++) {
        if (old_stamps[i] != m->stamp)
            continue;
        size_t place = hash_items(&old[i], 1, 0) & (n - 1);
        while (stamps[place] == m->stamp)
            place = (place + 1) & (n - 1);
        seen[place] = old[i];
        stamps[place] = m->stamp;
    }
    memory_free(old);
    memory_free(old_stamps);
    m->seen = seen;
    m->seen_stamps = stamps;
    m->n_seen_slots = n;
    return TROL_OK;
}

static trol_status too_ambiguous(trol_error *error) {
    return fail(error, TROL_ERROR_UNSUPPORTED,
                "the grammar is too ambiguous: one text leads to more than %d places in it", MAX_ITEMS);
}

/* Puts a place on the list, unless it was there in this closure. */
static trol_status visit(matcher *m, uint32_t place, uint32_t node, trol_error *error) {
    const item visited = {place, node};
    if (2 * (m->n_seen + 1) > m->n_seen_slots)
        TRY(grow_seen(m, error));
    size_t slot = hash_items(&visited, 1, 0) & (m->n_seen_slots - 1);
    for (; m->seen_stamps[slot] == m->stamp; slot = (slot + 1) & (m->n_seen_slots - 1))
        if (m->seen[slot].place == place && m->seen[slot].node == node)
            return TROL_OK;
    if (m->n_seen == MAX_ITEMS)
        return too_ambiguous(error);
    m->seen[slot] = visited;
    m->seen_stamps[slot] = m->stamp;
    m->n_seen++;
    GROW(m, todo, m->n_todo + 1, error);
    m->todo[m->n_todo++] = visited;
    return TROL_OK;
}

static uint32_t depth_of(const matcher *m, uint32_t node) {
    return node & PROVISIONAL ? m->provisional[node & ~PROVISIONAL].depth : m->nodes[node].depth;
}

static trol_status follow_way(matcher *m, item way, trol_error *error) { return visit(m, way.place, way.node, error); }

static trol_status end_rule(matcher *m, uint32_t node, trol_error *error) {
    if (node & PROVISIONAL) {
        m->provisional[node & ~PROVISIONAL].ended = true;
        for (uint32_t i = m->provisional[node & ~PROVISIONAL].first_way; i != UINT32_MAX; i = m->pending_ways[i].next)
            TRY(follow_way(m, m->pending_ways[i].way, error));
        return TROL_OK;
    }
    for (uint32_t i = 0; i < m->nodes[node].n_ways; i++)
        TRY(follow_way(m, m->ways[m->nodes[node].first_way + i], error));
    return TROL_OK;
}

static bool is_last(const matcher *m, uint32_t state) {
    const grammar *g = m->g;
    return g->first_edge[state] == g->first_edge[state + 1] && g->distance[state] == 0 && state != GRAMMAR_ACCEPT;
}

/* Enters a rule, which returns to `place` with `node`. */
static trol_status call_rule(matcher *m, uint32_t rule, uint32_t place, uint32_t node, trol_error *error) {
    if (m->node_of_rule[rule] == 0) {
        GROW(m, provisional, m->n_provisional + 1, error);
        const uint32_t depth = depth_of(m, node) + !is_last(m, place);
        m->provisional[m->n_provisional++] = (provisional_node){rule, UINT32_MAX, depth, 0, false};
        m->node_of_rule[rule] = (uint32_t)m->n_provisional;
        TRY(visit(m, m->g->rules[rule].start, (uint32_t)(m->n_provisional - 1) | PROVISIONAL, error));
    }
    provisional_node *called = &m->provisional[m->node_of_rule[rule] - 1];
    const item way = {is_last(m, place) ? RETURN : place, node};
    GROW(m, pending_ways, m->n_pending_ways + 1, error);
    m->pending_ways[m->n_pending_ways] = (pending_way){way, called->first_way};
    called->first_way = (uint32_t)m->n_pending_ways++;
    return called->ended ? follow_way(m, way, error) : TROL_OK;
}

/* Where the stack is too deep, only edges of the shortest way out count. */
static bool edge_counts(const matcher *m, uint32_t place, const grammar_edge *edge, bool shortest) {
    if (!shortest)
        return true;
    const grammar *g = m->g;
    const uint32_t through = edge->kind == EDGE_CALL ? g->length[edge->value] : edge->kind == EDGE_BYTES;
    return through + g->distance[edge->target] == g->distance[place];
}

static trol_status go_through(matcher *m, item at, trol_error *error) {
    const grammar *g = m->g;
    if (at.place == RETURN)
        return end_rule(m, at.node, error);
    if (at.place == GRAMMAR_ACCEPT) {
        m->found_accept = true;
        return TROL_OK;
    }
    const bool shortest = depth_of(m, at.node) >= g->max_depth;
    bool consumes = false;
    if (is_last(m, at.place))
        return end_rule(m, at.node, error);
    for (uint32_t i = g->first_edge[at.place]; i < g->first_edge[at.place + 1]; i++) {
        const grammar_edge *edge = &g->edges[i];
        if (!edge_counts(m, at.place, edge, shortest))
            continue;
        if (edge->kind == EDGE_BYTES)
            consumes = true;
        else if (edge->kind == EDGE_EMPTY)
            TRY(visit(m, edge->target, at.node, error));
        else
            TRY(call_rule(m, edge->value, edge->target, at.node, error));
    }
    if (consumes) {
        GROW(m, found, m->n_found + 1, error);
        m->found[m->n_found++] = at;
    }
    return TROL_OK;
}

static void begin_closure(matcher *m) {
    for (size_t i = 0; i < m->n_provisional; i++)
        m->node_of_rule[m->provisional[i].rule] = 0;
    m->n_todo = m->n_found = m->n_provisional = m->n_pending_ways = m->n_seen = 0;
    m->found_accept = false;
    if (++m->stamp == 0) {
        memset(m->seen_stamps, 0, m->n_seen_slots * sizeof *m->seen_stamps);
        m->stamp = 1;
    }
}

static uint32_t lasting(const matcher *m, uint32_t node) {
    return node & PROVISIONAL ? m->provisional[node & ~PROVISIONAL].node : node;
}

/* The lasting number of a provisional node, those of its callers being known. */
static trol_status settle_node(matcher *m, provisional_node *node, trol_error *error) {
    m->n_scratch = 0;
    for (uint32_t i = node->first_way; i != UINT32_MAX; i = m->pending_ways[i].next) {
        const uint32_t caller = lasting(m, m->pending_ways[i].way.node);
        if (m->pending_ways[i].way.place != RETURN) {
            GROW(m, scratch, m->n_scratch + 1, error);
            m->scratch[m->n_scratch++] = (item){m->pending_ways[i].way.place, caller};
            continue;
        }
        const stack_node *handing = &m->nodes[caller];
        if (m->n_scratch + handing->n_ways > MAX_ITEMS)
            return too_ambiguous(error);
        GROW(m, scratch, m->n_scratch + handing->n_ways, error);
        memcpy(m->scratch + m->n_scratch, m->ways + handing->first_way, handing->n_ways * sizeof *m->ways);
        m->n_scratch += handing->n_ways;
    }
    m->n_scratch = sort_items(m->scratch, m->n_scratch);
    return find_node(m, m->scratch, m->n_scratch, &node->node, error);
}

/* Closes what is on the list, and finds the state. */
static trol_status close_state(matcher *m, uint32_t *state, trol_error *error) {
    const grammar *g = m->g;
    while (m->n_todo > 0)
        TRY(go_through(m, m->todo[--m->n_todo], error));
    GROW(m, order, m->n_provisional, error);
    for (size_t i = 0; i < m->n_provisional; i++) { /* by insertion: there are few */
        size_t at = i;
        for (; at > 0 && g->rules[m->provisional[m->order[at - 1]].rule].order > g->rules[m->provisional[i].rule].order;
             at--)
            m->order[at] = m->order[at - 1];
        m->order[at] = (uint32_t)i;
    }
    for (size_t i = 0; i < m->n_provisional; i++)
        TRY(settle_node(m, &m->provisional[m->order[i]], error));
    for (size_t i = 0; i < m->n_found; i++)
        m->found[i].node = lasting(m, m->found[i].node);
    m->n_found = sort_items(m->found, m->n_found);
    return find_state(m, m->found, m->n_found, m->found_accept, state, error);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static trol_status compute_step(matcher *m, uint32_t state, uint32_t class, uint32_t *next, trol_error *error) {
    const grammar *g = m->g;
    const unsigned byte = g->class_byte[class];
    begin_closure(m);
    for (uint32_t i = 0; i < m->states[state].n_items; i++) {
        const item at = m->items[m->states[state].first_item + i];
        const bool shortest = m->nodes[at.node].depth >= g->max_depth;
        for (uint32_t e = g->first_edge[at.place]; e < g->first_edge[at.place + 1]; e++) {
            const grammar_edge *edge = &g->edges[e];
            if (edge->kind != EDGE_BYTES)
                break;
            if (byte_set_has(&g->sets[edge->value], byte) && edge_counts(m, at.place, edge, shortest))
                TRY(visit(m, edge->target, at.node, error));
        }
    }
    return close_state(m, next, error);
}

trol_status matcher_step(matcher *m, uint32_t state, uint8_t byte, uint32_t *next, trol_error *error) {
    const uint32_t class = m->g->class_of[byte], n_classes = m->g->n_classes;
    if (state == MATCHER_DEAD) {
        *next = MATCHER_DEAD;
        return TROL_OK;
    }
    if (m->rows[state] == 0) {
        GROW(m, steps, m->n_steps + n_classes, error);
        m->rows[state] = (uint32_t)m->n_steps + 1;
        memset(m->steps + m->n_steps, 0xff, n_classes * sizeof *m->steps);
        m->n_steps += n_classes;
    }
    const size_t place = m->rows[state] - 1 + class;
    if (m->steps[place] == MATCHER_UNKNOWN) {
        uint32_t found;
        TRY(compute_step(m, state, class, &found, error));
        m->steps[place] = found;
    }
    *next = m->steps[place];
    return TROL_OK;
}

trol_status matcher_common_step(matcher *m, uint32_t state, bool (*in_set)(uint8_t byte), uint32_t *next,
                                trol_error *error) {
    if (m->states[state].common == 0) {
        uint32_t common = MATCHER_UNKNOWN, target;
        bool asked[256] = {false};
        for (unsigned byte = 0; byte < 256 && common != MATCHER_DEAD; byte++) {
            if (!in_set((uint8_t)byte) || asked[m->g->class_of[byte]])
                continue;
            asked[m->g->class_of[byte]] = true;
            TRY(matcher_step(m, state, (uint8_t)byte, &target, error));
            common = common == MATCHER_UNKNOWN || common == target ? target : MATCHER_DEAD;
        }
        m->states[state].common = common + 1;
    }
    *next = m->states[state].common - 1;
    return TROL_OK;
}

matcher_view matcher_look(const matcher *m) { return (matcher_view){m->steps, m->rows, m->distances, m->g->class_of}; }

bool matcher_accepts(const matcher *m, uint32_t state) { return m->states[state].accepts; }

bool matcher_must_end(const matcher *m, uint32_t state) { return m->states[state].n_items == 0; }

uint32_t matcher_distance(const matcher *m, uint32_t state) { return m->distances[state]; }

uint32_t matcher_note(const matcher *m, uint32_t state) { return m->states[state].note; }

void matcher_set_note(matcher *m, uint32_t state, uint32_t note) { m->states[state].note = note; }

static unsigned smallest_byte(const byte_set *set) {
    unsigned byte = 0;
    while (!byte_set_has(set, byte))
        byte++;
    return byte;
}

trol_status matcher_next_byte(matcher *m, uint32_t state, uint8_t *byte, uint32_t *next, trol_error *error) {
    const grammar *g = m->g;
    const matcher_state *s = &m->states[state];
    unsigned best = 256;
    for (uint32_t i = 0; i < s->n_items; i++) {
        const item at = m->items[s->first_item + i];
        if (g->distance[at.place] + m->nodes[at.node].distance != m->distances[state])
            continue;
        for (uint32_t e = g->first_edge[at.place]; e < g->first_edge[at.place + 1]; e++) {
            const grammar_edge *edge = &g->edges[e];
            if (edge->kind != EDGE_BYTES)
                break;
            if (edge_counts(m, at.place, edge, true) && smallest_byte(&g->sets[edge->value]) < best)
                best = smallest_byte(&g->sets[edge->value]);
        }
    }
    if (best == 256)
        return fail(error, TROL_ERROR_STATE, "a grammar's shortest text has ended already");
    *byte = (uint8_t)best;
    return matcher_step(m, state, *byte, next, error);
}

/* ---- making and forgetting ------------------------------------------------------------------- */

/* The states MATCHER_DEAD and MATCHER_START. */
static trol_status make_first_states(matcher *m, trol_error *error) {
    const item accept = {GRAMMAR_ACCEPT, NODE_ROOT};
    uint32_t node, start;
    TRY(memory_alloc_zero(m->g->n_rules, sizeof *m->node_of_rule, "a grammar's states", (void **)&m->node_of_rule,
                          error));
    GROW(m, states, 1, error);
    GROW(m, rows, 1, error);
    GROW(m, distances, 1, error);
    GROW(m, items, 1, error);
    m->rows[MATCHER_DEAD] = 0;
    m->distances[MATCHER_DEAD] = GRAMMAR_FAR;
    m->states[m->n_states++] = (matcher_state){0};
    TRY(find_node(m, &accept, 1, &node, error));
    begin_closure(m);
    TRY(visit(m, m->g->rules[m->g->root].start, NODE_ROOT, error));
    return close_state(m, &start, error);
}

trol_status matcher_new(grammar *g, matcher **result, trol_error *error) {
    *result = calloc(1, sizeof **result);
    if (!*result) {
        grammar_free(g);
        return fail_memory(error, sizeof **result, "a grammar's states");
    }
    (*result)->g = g;
    const trol_status status = make_first_states(*result, error);
    if (status != TROL_OK) {
        matcher_free(*result);
        *result = NULL;
    }
    return status;
}

void matcher_free(matcher *m) {
    if (!m)
        return;
    grammar_free(m->g);
    memory_free(m->states);
    memory_free(m->rows);
    memory_free(m->distances);
    memory_free(m->items);
    memory_free(m->nodes);
    memory_free(m->ways);
    memory_free(m->steps);
    memory_free(m->state_table.slots);
    memory_free(m->node_table.slots);
    memory_free(m->todo);
    memory_free(m->found);
    memory_free(m->provisional);
    memory_free(m->pending_ways);
    memory_free(m->scratch);
    memory_free(m->order);
    memory_free(m->node_of_rule);
    memory_free(m->seen);
    memory_free(m->seen_stamps);
    free(m);
}

/* Gives the kept nodes their new numbers, in new_number[]; what they return to comes before them, and order stays. */
static void compact_nodes(matcher *m, uint32_t *new_number) {
    for (size_t i = m->n_nodes; i-- > 1;)
        if (new_number[i])
            for (uint32_t w = 0; w < m->nodes[i].n_ways; w++)
                new_number[m->ways[m->nodes[i].first_way + w].node] = 1;
    new_number[NODE_ROOT] = 1;
    memset(m->node_table.slots, 0, m->node_table.n_slots * sizeof *m->node_table.slots);
    m->node_table.n_used = 0;
    size_t n_nodes = 0, n_ways = 0;
    for (size_t i = 0; i < m->n_nodes; i++) {
        if (!new_number[i])
            continue;
        stack_node kept = m->nodes[i];
        for (uint32_t w = 0; w < kept.n_ways; w++) {
            const item way = m->ways[kept.first_way + w];
            m->ways[n_ways + w] = (item){way.place, new_number[way.node]};
        }
        kept.first_way = (uint32_t)n_ways;
        n_ways += kept.n_ways;
        new_number[i] = (uint32_t)n_nodes;
        m->nodes[n_nodes++] = kept;
    }
    m->n_nodes = n_nodes;
    m->n_ways = n_ways;
    for (size_t i = 0; i < n_nodes; i++)
        table_put(&m->node_table, hash_node(m, &m->nodes[i]), (uint32_t)i);
}

trol_status matcher_compact(matcher *m, uint32_t *states, size_t n, trol_error *error) {
    uint32_t *new_node = NULL, *new_state = NULL;
    trol_status status = TROL_OK;
    TRY_GOTO(memory_alloc_zero(m->n_nodes, sizeof *new_node, "a grammar's states", (void **)&new_node, error), done);
    TRY_GOTO(memory_alloc_zero(m->n_states, sizeof *new_state, "a grammar's states", (void **)&new_state, error), done);
    new_state[MATCHER_START] = 1;
    for (size_t i = 0; i < n; i++)
        new_state[states[i]] = 1;
    for (size_t s = 1; s < m->n_states; s++)
        for (uint32_t i = 0; new_state[s] && i < m->states[s].n_items; i++)
            new_node[m->items[m->states[s].first_item + i].node] = 1;
    compact_nodes(m, new_node);
    memset(m->state_table.slots, 0, m->state_table.n_slots * sizeof *m->state_table.slots);
    m->state_table.n_used = 0;
    size_t n_states = 1, n_items = 0;
    for (size_t s = 1; s < m->n_states; s++) {
        if (!new_state[s])
            continue;
        matcher_state kept = m->states[s];
        for (uint32_t i = 0; i < kept.n_items; i++) {
            const item at = m->items[kept.first_item + i];
            m->items[n_items + i] = (item){at.place, new_node[at.node]};
        }
        kept.first_item = (uint32_t)n_items;
        kept.common = 0;
        n_items += kept.n_items;
        new_state[s] = (uint32_t)n_states;
        m->rows[n_states] = 0;
        m->distances[n_states] = m->distances[s];
        m->states[n_states] = kept;
        table_put(&m->state_table, hash_state(m, &kept), (uint32_t)n_states++);
    }
    m->n_states = n_states;
    m->n_items = n_items;
    m->n_steps = 0;
    new_state[MATCHER_DEAD] = MATCHER_DEAD;
    for (size_t i = 0; i < n; i++)
        states[i] = new_state[states[i]];
done:
    memory_free(new_node);
    memory_free(new_state);
    return status;
}
