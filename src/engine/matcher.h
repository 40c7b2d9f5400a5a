/* matcher.h - runs a grammar over bytes as a deterministic automaton that is built as it is needed.
 *
 * What a text so far has led to is a set of places in the grammar, each with the stack of rules to return to. The
 * stacks are shared: a node stands for all the ways of returning from one call ("graph-structured stack", Tomita 1985),
 * and equal nodes are one node, so that equal sets are one state, with a number, and the steps from state to state are
 * remembered. Time and memory for a text are polynomial, whatever the grammar. */
#ifndef ENGINE_MATCHER_H
#define ENGINE_MATCHER_H

#include "engine/grammar.h"

typedef struct matcher matcher; /* one thread at a time */

enum { MATCHER_DEAD = 0, MATCHER_START = 1 /* the state before any byte */ };

/* Takes the grammar over (also on failure), which must be finished without a flaw. */
trol_status matcher_new(grammar *g, matcher **result, trol_error *error);
void matcher_free(matcher *m);

/* The state that a byte leads to; MATCHER_DEAD if none. */
trol_status matcher_step(matcher *m, uint32_t state, uint8_t byte, uint32_t *next, trol_error *error);
/* Whether the text may end here. */
bool matcher_accepts(const matcher *m, uint32_t state);
/* Whether it must end here. */
bool matcher_must_end(const matcher *m, uint32_t state);
/* The fewest bytes that end the text. */
uint32_t matcher_distance(const matcher *m, uint32_t state);
/* The first byte of the shortest text from here to the end; of several as short, that of the first in byte order. Bytes
 * found one after the other spell one such text. Not for a distance of 0. */
trol_status matcher_next_byte(matcher *m, uint32_t state, uint8_t *byte, uint32_t *next, trol_error *error);

/* Numbers that the user of a matcher keeps with each state: 0 at first. */
uint32_t matcher_note(const matcher *m, uint32_t state);
void matcher_set_note(matcher *m, uint32_t state, uint32_t note);

/* Bytes of memory held. */
size_t matcher_bytes(const matcher *m);
/* Forgets all states but the start and states[0 .. n-1], whose numbers change to those left in their places. */
trol_status matcher_compact(matcher *m, uint32_t *states, size_t n, trol_error *error);

/* For walks over many bytes: what is known of all states. The step from a state by a byte is
 * steps[rows[state] - 1 + class_of[byte]], or MATCHER_UNKNOWN, where matcher_step must be asked, as where the row is 0:
 * not made yet. Valid until the next matcher_step. */
#define MATCHER_UNKNOWN UINT32_MAX
typedef struct matcher_view {
    const uint32_t *steps, *rows, *distances;
    const uint8_t *class_of; /* [256] */
} matcher_view;

/* The one state that all bytes of a set lead to; MATCHER_DEAD if they differ. The answer is kept: a matcher is asked
 * about one set only. */
trol_status matcher_common_step(matcher *m, uint32_t state, bool (*in_set)(uint8_t byte), uint32_t *next,
                                trol_error *error);

matcher_view matcher_look(const matcher *m);

#endif
