#include "server/slot.h"

#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

static trol_status open_constraint(slot *s, int32_t vocab_size, trol_error *error) {
    int64_t least;
    trol_status status = trol_constraint_clone(s->job->constraint, &s->constraint, error);
    if (status == TROL_OK)
        status = trol_constraint_min_tokens(s->constraint, &least, error);
    if (status == TROL_OK && least > s->max_tokens)
        return fail(error, TROL_ERROR_CONTEXT,
                    "no answer in the requested form has fewer than %lld tokens, but there is room for only %d",
                    (long long)least, s->max_tokens);
    s->allowed = status == TROL_OK ? calloc(((size_t)vocab_size + 63) / 64, sizeof *s->allowed) : NULL;
    if (status == TROL_OK && !s->allowed)
        return fail(error, TROL_ERROR_MEMORY, "there is no memory for a constraint");
    return status;
}

trol_status slot_open_answer(slot *s, const trol_model *model, int32_t vocab_size, trol_error *error) {
    const chat_request *request = &s->job->request;
    trol_sampler_params sampler = request->sampler;
    trol_stream_params stream;
    trol_stream_params_init(&stream);
    stream.stops = (const char *const *)request->stops;
    stream.n_stops = request->n_stops;
    stream.keep_space = s->job->constraint != NULL;
    sampler.seed += (uint64_t)s->choice; /* choices of one request differ, each as reproducible as the first */
    trol_status status = trol_sampler_new(&sampler, &s->sampler, error);
    if (status == TROL_OK)
        status = trol_sampler_begin(s->sampler, s->job->tokens, s->job->n_tokens, error);
    if (status == TROL_OK)
        status = trol_stream_new(model, &stream, &s->stream, error);
    if (status == TROL_OK && s->job->constraint)
        status = open_constraint(s, vocab_size, error);
    s->n_tokens = 0;
    return status;
}

void slot_close(slot *s, bool keep) {
    if (s->search) {
        trol_beam_list *list;
        trol_error ignored;
        trol_session_cancel(s->session);
        (void)!search_end(s->search, &list, &ignored);
        trol_beam_list_free(list);
        s->search = NULL;
    }
    trol_sampler_free(s->sampler);
    trol_stream_free(s->stream);
    trol_constraint_free(s->constraint);
    free(s->allowed);
    s->constraint = NULL;
    s->allowed = NULL;
    s->sampler = NULL;
    s->stream = NULL;
    s->job = NULL;
    s->state = SLOT_IDLE;
    if (!keep) {
        trol_session_free(s->session);
        s->session = NULL;
    }
}

static event *new_event(event_kind kind, int32_t choice, const char *text) {
    event *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->kind = kind;
    e->choice = choice;
    if (text[0] && !(e->text = strdup(text))) {
        free(e);
        return NULL;
    }
    return e;
}

static trol_status put_event(slot *s, event_kind kind, const char *text, const char *reason, const float *logits,
                             const trol_model_info *info, trol_error *error) {
    const chat_request *request = &s->job->request;
    event *e = new_event(kind, s->choice, text);
    if (e && logits && request->logprobs) {
        e->n_top = request->top_logprobs;
        e->logprobs = calloc((size_t)e->n_top + 1, sizeof *e->logprobs);
        if (!e->logprobs) {
            event_free(e);
            e = NULL;
        } else {
            e->logprobs[0].token = s->token;
            e->logprobs[0].logprob =
                trol_logprobs(logits, info->vocab_size, s->token, e->n_top ? e->logprobs + 1 : NULL, e->n_top);
        }
    }
    if (!e)
        return fail(error, TROL_ERROR_MEMORY, "there is no memory for a token of the answer");
    e->reason = reason;
    job_put(s->job, e);
    return TROL_OK;
}

/* The rest of the text, and why it ends. */
static trol_status finish(slot *s, const char *reason, bool *finished, trol_error *error) {
    const char *text;
    trol_status status = trol_stream_end(s->stream, &text, error);
    if (status == TROL_OK)
        status = put_event(s, EVENT_FINISH, text, reason, NULL, NULL, error);
    *finished = true;
    return status;
}

trol_status slot_take_search(slot *s, trol_error *error) {
    trol_beam_list *list;
    trol_status status = search_end(s->search, &list, error);
    s->search = NULL;
    const trol_beam *best = status == TROL_OK ? trol_beam_list_get(list, 0) : NULL;
    if (status == TROL_OK && !best)
        status = fail(error, TROL_ERROR_STATE, "the search found no answer");
    if (status == TROL_OK) {
        const bool cut = best->stop == TROL_STOP_LENGTH || best->stop == TROL_STOP_CONTEXT;
        s->job->usage.completion_tokens += (int64_t)best->n_tokens;
        status = put_event(s, EVENT_FINISH, best->text, cut ? "length" : "stop", NULL, NULL, error);
    }
    trol_beam_list_free(list);
    return status;
}

static bool is_end(const trol_model_info *info, int32_t token) {
    for (int32_t i = 0; i < info->n_end_tokens; i++)
        if (info->end_tokens[i] == token)
            return true;
    return false;
}

trol_status slot_take_token(slot *s, const trol_model_info *info, int32_t context_size, bool *finished,
                            trol_error *error) {
    const float *logits = trol_session_logits(s->session);
    const char *text;
    int32_t stopped = 0;
    *finished = false;
    if (s->constraint && trol_constraint_fill(s->constraint, s->max_tokens - s->n_tokens, s->allowed, error) != TROL_OK)
        return error->status;
    s->token = trol_sampler_choose_allowed(s->sampler, logits, info->vocab_size, s->allowed);
    if (s->token < 0)
        return fail(error, TROL_ERROR_FORMAT,
                    "there is no token to choose: the model's logits are not numbers, or "
                    "logit_bias rules out all tokens");
    if (is_end(info, s->token))
        return finish(s, "stop", finished, error);
    s->n_tokens++;
    trol_status status = s->constraint ? trol_constraint_accept(s->constraint, s->token, error) : TROL_OK;
    if (status == TROL_OK)
        status = trol_sampler_accept(s->sampler, s->token, error);
    if (status == TROL_OK)
        status = trol_stream_put(s->stream, s->token, &text, &stopped, error);
    if (status == TROL_OK)
        status = put_event(s, EVENT_TOKEN, text, NULL, logits, info, error);
    if (status != TROL_OK)
        return status;
    s->job->usage.completion_tokens++;
    if (stopped)
        return finish(s, "stop", finished, error);
    if (s->constraint && trol_constraint_complete(s->constraint))
        return finish(s, "stop", finished, error);
    if (s->n_tokens == s->max_tokens || trol_session_n_tokens(s->session) + 1 > (size_t)context_size)
        return finish(s, "length", finished, error);
    return TROL_OK;
}
