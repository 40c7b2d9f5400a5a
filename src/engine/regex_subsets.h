/* regex_subsets.h - several patterns at once as one deterministic automaton (the subset construction), built on
 * demand. */
#ifndef ENGINE_REGEX_SUBSETS_H
#define ENGINE_REGEX_SUBSETS_H

#include "engine/regex_threads.h"

/* Threads that a text may have led to. */
typedef struct regex_subset {
    uint32_t first, n; /* in members[], sorted */
    bool accepts;      /* the text may end here */
} regex_subset;

enum { REGEX_START = 0 }; /* the subset before any character; no step leads back to it */
#define REGEX_DEAD UINT32_MAX

/* Zeros at first but for p.error, threads.error and error; free with regex_subsets_free. */
typedef struct regex_subsets {
    regex_patterns p;
    size_t n_patterns, n_required; /* the first must match, the others must not */
    regex_threads threads;
    code_points *classes; /* [n_classes]: characters that no set of the patterns distinguishes */
    size_t n_classes, classes_capacity;
    uint8_t *in; /* [n_classes, n_sets]: whether the class is in the pattern's set */
    size_t in_capacity;
    regex_subset *subsets;
    size_t n, capacity;
    uint32_t *members;
    size_t n_members, members_capacity;
    uint32_t *steps; /* [n, n_classes]: subset, or REGEX_DEAD; NOT_ASKED */
    size_t steps_capacity;
    uint32_t *slots; /* hash table of subsets + 1 */
    size_t n_slots;
    trol_error *error;
} regex_subsets;

/* Sets that the classes must distinguish can be added to p beforehand. */
trol_status regex_subsets_start(regex_subsets *s, const char *const *required, size_t n_required,
                                const char *const *refused, size_t n_refused);
/* The subset that a character of a class leads to. */
trol_status regex_subsets_step(regex_subsets *s, uint32_t subset, size_t class, uint32_t *next);
void regex_subsets_free(regex_subsets *s);

#endif
