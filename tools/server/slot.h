/* slot.h - a place for one conversation in the engine: its session, and the answer being generated. */
#ifndef SERVER_SLOT_H
#define SERVER_SLOT_H

#include "server/job.h"
#include "server/search.h"

typedef enum slot_state {
    SLOT_IDLE,     /* what its session holds may be reused */
    SLOT_PROMPT,   /* pieces of the prompt are being processed */
    SLOT_RESERVED, /* another choice of a job whose prompt is being processed in its first slot */
    SLOT_ANSWER,   /* `token` is to be fed next */
    SLOT_SEARCH    /* beams are searched on another thread */
} slot_state;

typedef struct slot {
    trol_session *session; /* NULL: none yet */
    trol_traversal traversal;
    float traversal_skip;
    bool gates; /* the session keeps them */
    slot_state state;
    job *job; /* no reference of its own: the engine's list of jobs holds one */
    int32_t choice;
    uint64_t used; /* when it was last in use, on the engine's counter */
    size_t n_prompt_done;
    size_t n_reusable; /* of the prompt's first tokens */
    trol_sampler *sampler;
    trol_stream *stream;
    search *search;              /* SLOT_SEARCH */
    trol_constraint *constraint; /* NULL: none */
    uint64_t *allowed;           /* [(vocab_size + 63) / 64], with a constraint */
    int32_t token;               /* chosen, not fed yet */
    int32_t n_tokens;
    int32_t max_tokens;
} slot;

/* What an answer needs besides the session. */
trol_status slot_open_answer(slot *s, const trol_model *model, int32_t vocab_size, trol_error *error);
/* Chooses the next token from the session's logits and emits its events. *finished: the answer is over. */
trol_status slot_take_token(slot *s, const trol_model_info *info, int32_t context_size, bool *finished,
                            trol_error *error);
/* The search is over: its best answer as the choice's events. */
trol_status slot_take_search(slot *s, trol_error *error);
/* Back to idle, once a search that runs has been stopped; without `keep` the session goes, too. */
void slot_close(slot *s, bool keep);

#endif
