/* step.h - tokens of several timelines through the model as one batch, with a status for each. It knows no sessions:
 * what a session wants to see on the way comes as a few pointers. */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/timeline.h"

/* One timeline's part: the n_tokens that were appended to it and are not committed yet. */
typedef struct step_item {
    timeline *timeline;
    size_t n_tokens; /* at least 1 */
    bool prompt;     /* else each token is an answer token */
    size_t length;   /* prompt: tokens of the whole prompt */
    bool keep_pass2; /* of a whole prompt in one piece pass 2 is kept in mode prompt, too */
    bool deferred;   /* the tokens are computed, but the caller commits them */
    float traversal_skip;
    int64_t *n_skipped; /* [n_layers]: += tokens that skipped their second pass */
    float *logits;      /* [vocab_size] after the last token; NULL: not wanted */
    float *all_logits;  /* [n_tokens, vocab_size] after each token; NULL: not wanted */

    /* Of prompts; each may be NULL. */
    trol_observer observer;
    void *observer_user;
    trol_logits_callback logits_callback;
    void *logits_user;
    trol_progress_callback progress;
    void *progress_user;

    atomic_int *cancel;      /* set by others: the item stops; cleared where it did */
    trol_error *error;       /* may be NULL */
    trol_status status;      /* set by step_run */
    int64_t workspace_bytes; /* set by step_run: most scratch memory that the step had in use */
} step_item;

/* Runs the items, all of one model, each with a timeline of its own. An item that fails keeps the tokens that it held
 * and loses those that were appended; the others go on. together: all or none, the first failure counts for all. */
void step_run(step_item *const *items, size_t n, bool together);

#endif
