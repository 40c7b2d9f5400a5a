/* generate.c - the generation loop: choose a token, stop or show it, feed it; with prompt lookup several tokens are fed
 * and checked at once.
 *
 * Prompt lookup (Saxena 2023) guesses that text repeats: what followed the same last tokens earlier is proposed as what
 * comes next. The proposals go through the layers together with the chosen token as one small batch, whose rows are
 * computed as single ones would be; those that the sampler chooses are kept, so the answer is the same. */
#include <math.h>
#include <string.h>

#include "engine/params.h"
#include "engine/sampler.h"
#include "engine/session.h"

enum { MAX_PROPOSED = 8, MAX_LOOKUP = 64 };

void trol_generate_params_init(trol_generate_params *params) {
    if (params)
        *params = (trol_generate_params){.size = sizeof *params};
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* One call of trol_generate. */
typedef struct generation {
    trol_session *session;
    const trol_generate_params *params;
    trol_stream *stream;
    trol_text_callback callback; /* may be NULL */
    void *user;
    int32_t max_tokens, n_tokens;
    bool asked_to_stop;      /* by a callback */
    bool has_pending;        /* the last token of the answer was shown but not fed yet */
    float *logits;           /* [MAX_PROPOSED + 1, vocab_size] of the batch fed last, for prompt lookup; NULL without */
    trol_token_logprob *top; /* [n_top_logprobs] */
    uint64_t *allowed;       /* [(vocab_size + 63) / 64]: by the constraint; NULL without one */
} generation;

static bool is_end(const trol_model *model, int32_t token) {
    for (size_t i = 0; i < model->n_end_tokens; i++)
        if (model->end_tokens[i] == token)
            return true;
    return false;
}

static trol_status asked_to_stop(generation *g, const char *what, trol_error *error) {
    g->asked_to_stop = true;
    return fail(error, TROL_ERROR_CANCELLED, "the %s callback asked to stop", what);
}

static trol_status show(generation *g, const char *text, trol_error *error) {
    return *text && g->callback && g->callback(g->user, text) != 0 ? asked_to_stop(g, "text", error) : TROL_OK;
}

/* What followed the last `lookup` tokens (the held ones and `token`) at their latest earlier place: up to `room`
 * tokens. */
static size_t propose(const trol_session *s, int32_t token, int32_t lookup, size_t room, int32_t *proposed) {
    const size_t n = s->timeline.n_tokens, length = (size_t)lookup;
    if (n + 1 < length + 1)
        return 0;
    for (size_t end = n; end-- >= length;) { /* the n-gram's last token is at `end` */
        if (s->timeline.ids[end] != token || memcmp(s->timeline.ids + end + 1 - length,
                                                    s->timeline.ids + n + 1 - length, (length - 1) * sizeof token) != 0)
            continue;
        size_t count = 0;
        while (count < room && end + 1 + count < n && s->timeline.ids[end + 1 + count] != s->model->image_token) {
            proposed[count] = s->timeline.ids[end + 1 + count];
            count++;
        }
        return count;
    }
    return 0;
}

/* What the constraint allows next, so that the answer can be ended in the tokens that are left to it. */
static trol_status fill_allowed(const generation *g, trol_error *error) {
    const trol_session *s = g->session;
    const int64_t room = (int64_t)s->params.context_size - (int64_t)s->timeline.n_tokens + 1;
    const int64_t left = g->max_tokens - g->n_tokens < room ? g->max_tokens - g->n_tokens : room;
    if (!g->allowed)
        return TROL_OK;
    TRY(trol_constraint_fill(g->params->constraint, left, g->allowed, error));
    for (size_t i = 0; i < s->model->n_end_tokens && g->params->ignore_eos; i++)
        if (s->model->end_tokens[i] < s->model->config.decoder.vocab_size)
            g->allowed[s->model->end_tokens[i] / 64] &= ~((uint64_t)1 << s->model->end_tokens[i] % 64);
    return TROL_OK;
}

/* The token chosen from these logits. If none can be chosen, logits that are not finite are reported as such. */
static trol_status choose(const generation *g, const float *logits, int32_t *token, trol_error *error) {
    const int32_t vocab = (int32_t)g->session->model->config.decoder.vocab_size;
    TRY(fill_allowed(g, error));
    TRY(sampler_choose(g->params->sampler, logits, vocab, g->allowed, token, error));
    if (*token >= 0 && isfinite(logits[*token]))
        return TROL_OK;
    int32_t i = *token < 0 ? 0 : *token;
    while (*token < 0 && i < vocab - 1 && !isfinite(logits[i]))
        i++;
    if (!isfinite(logits[i]))
        return model_logits_not_finite(g->session->model, error);
    return fail(error, TROL_ERROR_STATE, "no token can be chosen: the logit bias%s rules out all of them",
                g->allowed ? " or the constraint" : "");
}

/* Reports a chosen token to the callbacks. */
static trol_status report_token(generation *g, int32_t token, const float *logits, trol_error *error) {
    const trol_generate_params *p = g->params;
    const int32_t vocab = (int32_t)g->session->model->config.decoder.vocab_size;
    const int64_t position = (int64_t)g->session->timeline.n_tokens;
    if (p->logits && p->logits(p->logits_user, position, logits, vocab) != 0)
        return asked_to_stop(g, "logits", error);
    if (!p->token)
        return TROL_OK;
    const float logprob = trol_logprobs(logits, vocab, token, g->top, p->n_top_logprobs);
    const trol_token_info info = {position, token, logprob, p->n_top_logprobs, g->top};
    return p->token(p->token_user, &info) != 0 ? asked_to_stop(g, "token", error) : TROL_OK;
}

/* Whether the answer is complete, for answers in which no end token can be chosen. */
static bool must_end(const generation *g) {
    return g->params->constraint && (g->params->ignore_eos || g->session->model->n_end_tokens == 0) &&
           trol_constraint_complete(g->params->constraint);
}

/* Takes a chosen token into the answer: the logits it was chosen from, its text. *stop is set if the answer ends. */
static trol_status take_token(generation *g, int32_t token, const float *logits, trol_stop *stop, trol_error *error) {
    const trol_model *model = g->session->model;
    const char *text;
    int32_t stopped;
    TRY(trol_sampler_accept(g->params->sampler, token, error));
    TRY(report_token(g, token, logits, error));
    if (g->params->constraint)
        TRY(trol_constraint_accept(g->params->constraint, token, error));
    if (!g->params->ignore_eos && is_end(model, token)) {
        *stop = TROL_STOP_END;
        return TROL_OK;
    }
    g->n_tokens++;
    g->has_pending = true;
    TRY(trol_stream_put(g->stream, token, &text, &stopped, error));
    TRY(show(g, text, error));
    if (stopped)
        *stop = TROL_STOP_STRING;
    else if (must_end(g))
        *stop = TROL_STOP_END;
    else if (g->n_tokens == g->max_tokens)
        *stop = TROL_STOP_LENGTH;
    else if (g->session->timeline.n_tokens + 1 > (size_t)g->session->params.context_size)
        *stop = TROL_STOP_CONTEXT;
    return TROL_OK;
}

/* Chooses a token and takes it. One that is not taken because a callback stops is chosen again by the next call. */
static trol_status choose_and_take(generation *g, const float *logits, int32_t *token, trol_stop *stop,
                                   trol_error *error) {
    const uint64_t state = trol_sampler_state(g->params->sampler);
    g->has_pending = false;
    g->session->is_busy = true; /* for the callbacks and a constraint's hooks */
    trol_status status = choose(g, logits, token, error);
    if (status == TROL_OK)
        status = take_token(g, *token, logits, stop, error);
    g->session->is_busy = false;
    if (status != TROL_OK && !g->has_pending)
        trol_sampler_set_state(g->params->sampler, state);
    return status;
}

/* Feeds `token` with proposals, keeps those that the sampler chooses, and leaves in *token the first that it chose and
 * that is not fed yet. */
static trol_status feed_with_lookup(generation *g, int32_t *token, trol_stop *stop, trol_error *error) {
    trol_session *s = g->session;
    const int64_t vocab = s->model->config.decoder.vocab_size;
    int32_t batch[MAX_PROPOSED + 1];
    size_t room = (size_t)s->params.context_size - s->timeline.n_tokens - 1;
    if (room > (size_t)(g->max_tokens - g->n_tokens - 1))
        room = (size_t)(g->max_tokens - g->n_tokens - 1);
    batch[0] = *token;
    const size_t n = propose(s, *token, g->params->lookup, room < MAX_PROPOSED ? room : MAX_PROPOSED, batch + 1);
    TRY(session_propose(s, batch, n + 1, g->logits, error));
    s->stats.proposed_tokens += (int64_t)n;
    trol_status status;
    for (size_t i = 0;; i++) {
        const float *logits = g->logits + (int64_t)i * vocab;
        session_accept(s, logits);
        *token = -1;
        status = choose_and_take(g, logits, token, stop, error);
        if (status != TROL_OK || *stop || i == n || *token != batch[i + 1])
            break;
        s->stats.accepted_tokens++;
    }
    session_settle(s); /* the rest of the proposals is wrong, or not wanted: as if never fed */
    return status;
}

static trol_status feed(generation *g, int32_t *token, trol_stop *stop, trol_error *error) {
    trol_session *s = g->session;
    if (g->logits)
        return feed_with_lookup(g, token, stop, error);
    TRY(trol_session_decode(s, *token, error));
    return choose_and_take(g, s->logits, token, stop, error);
}

/* Continues an answer that was cut: its tokens go through the stream again without being shown, to restore what it
 * holds back. */
static trol_status resume(generation *g, trol_stop *stop, trol_error *error) {
    const trol_session *s = g->session;
    const char *shown;
    int32_t stopped;
    for (size_t i = s->timeline.n_prompt; i < s->timeline.n_tokens; i++)
        TRY(trol_stream_put(g->stream, s->timeline.ids[i], &shown, NULL, error));
    TRY(trol_stream_put(g->stream, s->pending_token, &shown, &stopped, error));
    if (stopped)
        *stop = TROL_STOP_STRING;
    else if (s->timeline.n_tokens + 1 > (size_t)s->params.context_size)
        *stop = TROL_STOP_CONTEXT;
    return TROL_OK;
}

/* The sampler's penalties consider the tokens that the session holds, image tokens excepted, and the pending one. */
static trol_status begin_sampler(const generation *g, trol_error *error) {
    const trol_session *s = g->session;
    trol_sampler *sampler = g->params->sampler;
    TRY(trol_sampler_begin(sampler, NULL, 0, error));
    for (size_t i = 0; i < s->timeline.n_tokens; i++) {
        const bool prompt = i < s->timeline.n_prompt;
        if (prompt && s->timeline.ids[i] != s->model->image_token)
            TRY(sampler_accept_prompt(sampler, s->timeline.ids[i], error));
        else if (!prompt)
            TRY(trol_sampler_accept(sampler, s->timeline.ids[i], error));
    }
    return g->has_pending ? trol_sampler_accept(sampler, s->pending_token, error) : TROL_OK;
}

static trol_status begin(generation *g, int32_t *token, trol_stop *stop, trol_error *error) {
    const trol_session *s = g->session;
    const int64_t vocab = s->model->config.decoder.vocab_size;
    if (g->params->lookup > 0 && s->params.traversal != TROL_TRAVERSAL_ALL)
        TRY(memory_alloc((size_t)((MAX_PROPOSED + 1) * vocab), sizeof *g->logits, "prompt lookup", (void **)&g->logits,
                         error));
    if (g->params->n_top_logprobs > 0)
        TRY(memory_alloc((size_t)g->params->n_top_logprobs, sizeof *g->top, "log-probabilities", (void **)&g->top,
                         error));
    if (g->params->constraint)
        TRY(memory_alloc((size_t)(vocab + 63) / 64, sizeof *g->allowed, "a constraint", (void **)&g->allowed, error));
    TRY(begin_sampler(g, error));
    if (g->has_pending)
        return resume(g, stop, error);
    return choose_and_take(g, s->logits, token, stop, error);
}

/* What is held back, when nothing can follow that completes it. */
static trol_status show_rest(generation *g, trol_error *error) {
    const char *text;
    TRY(trol_stream_end(g->stream, &text, error));
    g->session->is_busy = true;
    trol_status status = show(g, text, error);
    g->session->is_busy = false;
    return status;
}

static trol_status generate(generation *g, trol_stop *stop, trol_error *error) {
    int32_t token = g->session->pending_token;
    g->has_pending = g->session->has_pending;
    trol_status status = begin(g, &token, stop, error);
    while (status == TROL_OK && !*stop)
        status = feed(g, &token, stop, error);
    g->session->has_pending = g->has_pending;
    g->session->pending_token = token;
    const bool cancelled = status == TROL_ERROR_CANCELLED && !g->asked_to_stop;
    if (status == TROL_OK ? *stop == TROL_STOP_END || g->params->show_all : cancelled && g->params->show_all) {
        const trol_status shown = show_rest(g, status == TROL_OK ? error : NULL);
        status = status == TROL_OK ? shown : status;
    }
    return status;
}

static trol_status check_params(const trol_generate_params *p, trol_error *error) {
    if (p->max_tokens < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "max_tokens is %d, expected 0 (default) or more", p->max_tokens);
    if (p->lookup < 0 || p->lookup > MAX_LOOKUP)
        return fail(error, TROL_ERROR_ARGUMENT, "lookup is %d, expected 0 (off) to %d", p->lookup, MAX_LOOKUP);
    if (p->n_top_logprobs < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "n_top_logprobs is %d, expected 0 or more", p->n_top_logprobs);
    return TROL_OK;
}

trol_status trol_generate(trol_session *session, const trol_generate_params *params, trol_text_callback callback,
                          void *user, trol_stop *stop, trol_error *error) {
    enum { DEFAULT_MAX_TOKENS = 256 };
    trol_generate_params p;
    trol_stop reason = 0;
    trol_generate_params_init(&p);
    TRY(session_check(session, "trol_generate", error));
    TRY(params_copy(&p, sizeof p, params, "trol_generate_params", error));
    TRY(check_params(&p, error));
    if (!session->has_logits || session->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_generate: the session holds no prompt to answer");
    generation g = {.session = session,
                    .params = &p,
                    .callback = callback,
                    .user = user,
                    .max_tokens = p.max_tokens ? p.max_tokens : DEFAULT_MAX_TOKENS};
    trol_stream_params stream;
    trol_stream_params_init(&stream);
    stream.stops = p.stops;
    stream.n_stops = p.n_stops;
    stream.keep_space = p.constraint != NULL;
    TRY(trol_stream_new(session->model, &stream, &g.stream, error));
    trol_status status = generate(&g, &reason, error);
    memory_free(g.logits);
    memory_free(g.top);
    memory_free(g.allowed);
    trol_stream_free(g.stream);
    if (stop)
        *stop = reason;
    return status;
}
