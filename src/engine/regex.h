/* regex.h - which texts a JSON string may hold: patterns (ECMA 262), lengths and names that are taken, all at once, as
 * one deterministic automaton over code points. */
#ifndef ENGINE_REGEX_H
#define ENGINE_REGEX_H

#include "engine/code_points.h"

/* Requirements on a text; zeros, and UINT32_MAX for max_length, require nothing. */
typedef struct text_rules {
    const char *const *patterns; /* [n_patterns], unanchored, NUL-terminated, UTF-8 */
    size_t n_patterns;
    const char *const *refused; /* [n_refused]: patterns that must not match, written in the same way */
    size_t n_refused;
    uint32_t min_length, max_length; /* in code points */
    const char *const *taken;        /* [n_taken]: texts that it must not be, UTF-8 */
    size_t n_taken;
} text_rules;

typedef struct text_arc {
    uint32_t set; /* index into the automaton's sets */
    uint32_t target;
} text_arc;

typedef struct text_state {
    uint32_t first_arc, n_arcs;
    bool accepts;
} text_state;

/* State 0 is the start. The sets of a state's arcs are disjoint. */
typedef struct text_automaton {
    code_points *sets; /* [n_sets], normalized */
    size_t n_sets, sets_capacity;
    text_state *states;
    size_t n_states, states_capacity;
    text_arc *arcs;
    size_t n_arcs, arcs_capacity;
} text_automaton;

/* A pattern that is wrong or not supported is an error that says why. */
trol_status text_automaton_new(const text_rules *rules, text_automaton **result, trol_error *error);
bool text_automaton_accepts(const text_automaton *a, const char *text);
void text_automaton_free(text_automaton *a);

#endif
