/* session.h - what trol_session is: one conversation's tokens, keys and values, and the logits after the last token. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "engine/model.h"
#include "model/kv_cache.h"

struct trol_session {
    trol_model *model;
    trol_session_params params;
    trol_observer observer; /* may be NULL */
    void *observer_user;
    trol_logits_callback logits_callback; /* of every prompt token; may be NULL */
    void *logits_user;
    atomic_int cancel;

    int32_t *tokens; /* [n_tokens]: those whose keys and values are held */
    size_t n_tokens, tokens_capacity;
    size_t n_prompt;       /* the first of them were processed as prompt; the others as answer */
    kv_plane pass1, pass2; /* pass 2 of the first n_pass2 tokens */
    size_t n_pass2;
    double rope_variant; /* of all keys held (model/rope.h) */
    bool rope_mixed;     /* the answer grew past a border: its keys are of another variant than the prompt's */

    trol_features **features; /* [n_features]: the pictures of the prompt, in order */
    size_t n_features;
    size_t n_picture_scope; /* image tokens among the first so many tokens are pictures' rows */

    bool in_prompt;               /* between begin and end */
    size_t prompt_total;          /* tokens of the whole prompt, the last one begun; 0: there is none, or it failed */
    size_t prompt_cursor;         /* tokens appended so far */
    size_t n_reusable;            /* tokens held that the prompt may share; 0 once one differed */
    size_t n_reusable_image_rows; /* image tokens whose pictures are those of before */
    size_t n_image_tokens;        /* image tokens appended so far */

    float *logits; /* [vocab_size] after the last token */
    bool has_logits;
    bool has_pending; /* the answer was cut: its last token was said but not fed yet */
    int32_t pending_token;
    trol_session_stats stats; /* all but what trol_session_get_stats adds up */
    int64_t *n_skipped;       /* [n_layers]: tokens whose second pass was skipped */
};

/* Tokens of one session to go through the model together: s->tokens[first .. first + n_rows - 1], already in the list
 * but not counted in n_tokens. */
typedef struct session_rows {
    trol_session *session;
    size_t first, n_rows;
    bool prompt;       /* else each token is an answer token */
    bool last_logits;  /* compute the logits after the last row, into session->logits */
    float *all_logits; /* [n_rows, vocab_size]: those after every row; NULL: not wanted */
} session_rows;

/* Runs the rows of n different sessions of one model as one batch. On success they are counted in n_tokens. */
trol_status session_forward(const session_rows *items, size_t n, trol_error *error);

/* Makes room in the list for tokens up to `count`; a context that is too small is an error. */
trol_status session_reserve_tokens(trol_session *session, size_t count, trol_error *error);

/* Feeds n answer tokens as one batch, which gives what n single decodes give; all_logits as above, may be NULL.
 * Not for traversal mode all past a rope border. */
trol_status session_decode_many(trol_session *session, const int32_t *tokens, size_t n, float *all_logits,
                                trol_error *error);

/* Drops tokens from n_tokens on. */
void session_drop(trol_session *session, size_t n_tokens);

/* A call begins: takes note of a cancel that came before it. */
trol_status session_check(const trol_session *session, const char *call, trol_error *error);

#endif
