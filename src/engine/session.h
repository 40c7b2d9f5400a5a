/* session.h - trol_session: a timeline, the prompt being added to it, and the logits after the last token. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "engine/step.h"

struct trol_session {
    trol_model *model;
    trol_session_params params;
    trol_observer observer; /* may be NULL */
    void *observer_user;
    trol_logits_callback logits_callback; /* of every prompt token; may be NULL */
    void *logits_user;
    atomic_int cancel;

    timeline timeline;

    bool is_busy; /* a callback of one of its calls may be running, from which it cannot be changed */

    bool in_prompt;           /* between begin and end; the following is valid then */
    size_t prompt_total;      /* tokens of the whole prompt */
    size_t prompt_cursor;     /* tokens that came so far, */
    size_t n_image_tokens;    /* image tokens among them */
    trol_features **features; /* [n_features]: the prompt's images, in order */
    size_t n_features;

    float *logits;        /* [vocab_size] after the last token */
    uint32_t has_logits;  /* these and the next are 0 or 1 */
    uint32_t is_failed;   /* the last prompt was not completed: there is nothing to answer */
    uint32_t has_pending; /* the answer was cut: its last token was shown but not fed yet */
    int32_t pending_token;
    trol_session_stats stats; /* all but the sums made by trol_session_get_stats */
    int64_t *n_skipped;       /* [n_layers]: tokens whose second pass was skipped */
};

/* Feeds n answer tokens as one batch without committing them; all_logits [n, vocab_size] after each. session_accept
 * commits them one by one; session_settle forgets the rest. Not for traversal mode all.
 */
trol_status session_propose(trol_session *session, const int32_t *tokens, size_t n, float *all_logits,
                            trol_error *error);
/* The next of them becomes part of the answer; `logits` are those after it. */
void session_accept(trol_session *session, const float *logits);
void session_settle(trol_session *session);

/* Drops tokens from n_tokens on. */
void session_truncate(trol_session *session, size_t n_tokens);

/* A prompt failed: there is nothing to answer, but what is held stays for a later prompt to share. */
void session_fail_prompt(trol_session *session);

/* A call begins: the session is there, and this is not a callback of another call. */
trol_status session_check(const trol_session *session, const char *call, trol_error *error);

/* A session's own fields that a fork and a saved session have. */
typedef struct session_number {
    size_t offset, n_bytes;
} session_number;

extern const session_number session_numbers[];
extern const size_t session_n_numbers;

#endif
