/* grammar.h - a context-free grammar over bytes, as a network of states: what GBNF files and JSON Schemas are compiled
 * to, and what matcher.c runs.
 *
 * Each rule is an automaton of its own, from its start state to its end state. An edge consumes nothing, consumes a
 * byte of a set, or goes through another rule. A grammar is built first, then finished once and immutable from there
 * on. */
#ifndef ENGINE_GRAMMAR_H
#define ENGINE_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Bytes of a set. */
typedef struct byte_set {
    uint64_t bits[4];
} byte_set;

static inline void byte_set_add(byte_set *set, unsigned first, unsigned last) {
    for (unsigned byte = first; byte <= last; byte++)
        set->bits[byte / 64] |= (uint64_t)1 << byte % 64;
}

static inline bool byte_set_has(const byte_set *set, unsigned byte) { return set->bits[byte / 64] >> byte % 64 & 1; }

typedef enum edge_kind { EDGE_EMPTY, EDGE_BYTES, EDGE_CALL } edge_kind;

typedef struct grammar_edge {
    uint32_t kind;   /* edge_kind */
    uint32_t value;  /* EDGE_BYTES: index of the set; EDGE_CALL: the rule */
    uint32_t target; /* the state that it leads to */
} grammar_edge;

typedef struct grammar_rule {
    uint32_t start, end; /* states */
    uint32_t order;      /* finished: a rule comes before those that it may call before any byte */
} grammar_rule;

typedef struct grammar_pending_edge {
    grammar_edge edge;
    uint32_t from;
} grammar_pending_edge;

enum {
    GRAMMAR_ACCEPT = 0,   /* the state after the root rule: its end state leads here, and nothing leads on */
    GRAMMAR_FAR = 1 << 30 /* distances from here on: no path */
};

typedef struct grammar {
    grammar_rule *rules; /* [n_rules] */
    size_t n_rules, rules_capacity;
    byte_set *sets; /* [n_sets], each once */
    size_t n_sets, sets_capacity;
    uint32_t *set_slots; /* [n_set_slots]: a hash table of indices + 1; 0: free */
    size_t n_set_slots;
    grammar_pending_edge *pending; /* [n_pending], in the order of creation; freed when finished */
    size_t n_pending, pending_capacity;
    size_t n_states;
    uint32_t max_depth; /* rules within rules; past it only the shortest way out is left */
    uint32_t root;      /* rule */
    /* finished: */
    uint32_t *first_edge;    /* [n_states + 1]: the edges of state s are edges[first_edge[s] .. first_edge[s+1]-1] */
    grammar_edge *edges;     /* those that may lead to an end; bytes first */
    uint32_t *distance;      /* [n_states]: the fewest bytes from a state to its rule's end; GRAMMAR_FAR: no path */
    uint32_t *length;        /* [n_rules]: the fewest bytes of a rule */
    uint8_t class_of[256];   /* bytes that no set tells apart are of one class */
    uint8_t class_byte[256]; /* [n_classes]: the smallest byte of each; classes are in order of it */
    uint32_t n_classes;
} grammar;

trol_status grammar_new(uint32_t max_depth, grammar **result, trol_error *error);
void grammar_free(grammar *g);

/* All of these fail where a grammar becomes too large. */
trol_status grammar_add_rule(grammar *g, uint32_t *rule, trol_error *error);
trol_status grammar_add_state(grammar *g, uint32_t *state, trol_error *error);
trol_status grammar_add_empty(grammar *g, uint32_t from, uint32_t to, trol_error *error);
trol_status grammar_add_set(grammar *g, uint32_t from, uint32_t to, const byte_set *set, trol_error *error);
trol_status grammar_add_range(grammar *g, uint32_t from, uint32_t to, unsigned first, unsigned last, trol_error *error);
trol_status grammar_add_call(grammar *g, uint32_t from, uint32_t to, uint32_t rule, trol_error *error);
/* text[0 .. n_bytes-1], byte by byte. */
trol_status grammar_add_bytes(grammar *g, uint32_t from, uint32_t to, const char *text, size_t n_bytes,
                              trol_error *error);
/* NUL-terminated. */
trol_status grammar_add_text(grammar *g, uint32_t from, uint32_t to, const char *text, trol_error *error);

/* What keeps a grammar from being finished. */
typedef enum grammar_flaw {
    GRAMMAR_SOUND,
    GRAMMAR_LEFT_RECURSIVE, /* *rule may begin with itself */
    GRAMMAR_EMPTY,          /* nothing matches the root rule */
    GRAMMAR_TOO_LONG        /* all that matches has more than a million bytes */
} grammar_flaw;

/* Makes the network ready for matcher.c. With a flaw other than GRAMMAR_SOUND it is not, and the caller reports it. */
trol_status grammar_finish(grammar *g, uint32_t root, grammar_flaw *flaw, uint32_t *rule, trol_error *error);

#endif
