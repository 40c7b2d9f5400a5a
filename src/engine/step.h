/* step.h - tokens of several timelines through the model as one batch, with a status for each. It does not know
 * sessions: what a session observes on the way is given as a few pointers. */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/timeline.h"

/* One timeline's part: the n_tokens appended to it and not committed yet. */
typedef struct step_item {
    timeline *timeline;
    size_t n_tokens; /* at least 1 */
    bool prompt;     /* else each token is an answer token */
    size_t length;   /* prompt: tokens of the whole prompt */
    bool keep_pass2; /* pass 2 of a whole prompt in one piece is kept in mode prompt as well */
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

    atomic_int *cancel;      /* set by others to stop the item; cleared once it has */
    trol_error *error;       /* may be NULL */
    trol_status status;      /* set by step_run */
    int64_t workspace_bytes; /* set by step_run: the largest scratch memory of the step */
} step_item;

/* Runs the items, all of one model, each with its own timeline. An item that fails keeps the tokens it held and loses
 * those that were appended; the others go on. together: all or none, the first failure applies to all. */
void step_run(step_item *const *items, size_t n, bool together);

#endif
