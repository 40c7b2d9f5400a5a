/* generate.c - the answer: choose, stop, show, feed, again; with prompt lookup several tokens are fed and checked at
 * once.
 *
 * Prompt lookup (Saxena 2023) guesses that text repeats: what followed the same last tokens earlier is proposed as what
 * comes next. The proposals go through the layers together with the chosen token as one small batch, whose rows are
 * computed as single ones would be; those that the sampler would have chosen anyway are kept, so the answer is the
 * same. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/params.h"
#include "engine/session.h"

enum { MAX_PROPOSED = 8, MAX_LOOKUP = 64 };

void trol_generate_params_init(trol_generate_params *params) {
    if (params)
        *params = (trol_generate_params){.size = sizeof *params};
}

/* ---- text out -------------------------------------------------------------------------------- */

/* An answer on its way to the callback: characters whose bytes have not all come wait, and so does white space, which
 * is shown only if something follows it. */
typedef struct answer_text {
    const tokenizer *tokenizer;  /* NULL: token ids are shown */
    trol_text_callback callback; /* may be NULL */
    void *user;
    char *bytes; /* [n_bytes]: not shown yet */
    size_t n_bytes, capacity;
    bool started; /* something was shown */
    bool any_token;
} answer_text;

/* Shows what is ready, or with `last` all but the white space at the end. */
static trol_status show(answer_text *text, bool last, trol_error *error) {
    char *repaired = malloc(UTF8_REPAIRED_BYTES(text->n_bytes) + 1);
    if (!repaired)
        return fail_memory(error, UTF8_REPAIRED_BYTES(text->n_bytes), "the answer");
    size_t n_used, begin = 0, end = 0;
    const size_t n = utf8_repair(text->bytes, text->n_bytes, last, repaired, &n_used);
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t c = 0;
        length = utf8_decode(repaired + i, n - i, &c);
        if (!utf8_is_space(c))
            end = i + length;
        else if (!text->started && end == 0)
            begin = i + length;
    }
    trol_status status = TROL_OK;
    if (end > begin) {
        /* The white space behind `end` waits: it is whole characters, so as many bytes of the original's used part. */
        const size_t waiting = n - end;
        repaired[end] = '\0';
        if (text->callback && text->callback(text->user, repaired + begin) != 0)
            status = fail(error, TROL_ERROR_CANCELLED, "the text callback asked to stop");
        text->started = true;
        memmove(text->bytes, text->bytes + n_used - waiting, text->n_bytes - n_used + waiting);
        text->n_bytes -= n_used - waiting;
    }
    free(repaired);
    return status;
}

static trol_status show_id(answer_text *text, int32_t token, trol_error *error) {
    char number[16];
    snprintf(number, sizeof number, text->any_token ? " %d" : "%d", token);
    text->any_token = true;
    if (text->callback && text->callback(text->user, number) != 0)
        return fail(error, TROL_ERROR_CANCELLED, "the text callback asked to stop");
    return TROL_OK;
}

static trol_status show_token(answer_text *text, int32_t token, trol_error *error) {
    if (!text->tokenizer)
        return show_id(text, token, error);
    if (!tokenizer_spelling(text->tokenizer, token)) /* a row of the vocabulary that no token has: it says nothing */
        return TROL_OK;
    TRY(tokenizer_append_bytes(text->tokenizer, token, !text->any_token, &text->bytes, &text->n_bytes, &text->capacity,
                               error));
    text->any_token = true;
    return show(text, false, error);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* One call of trol_generate. */
typedef struct generation {
    trol_session *session;
    const trol_generate_params *params;
    answer_text text;
    int32_t max_tokens, n_tokens;
    bool token_waits; /* the last token of the answer was said but not fed yet */
    float *logits;    /* [MAX_PROPOSED + 1, vocab_size] of the batch fed last, for prompt lookup; NULL without */
} generation;

static bool is_end(const trol_model *model, int32_t token) {
    for (size_t i = 0; i < model->n_end_tokens; i++)
        if (model->end_tokens[i] == token)
            return true;
    return false;
}

/* What followed the last `lookup` tokens (the held ones and `token`) at their latest earlier place: up to `room`
 * tokens. */
static size_t propose(const trol_session *s, int32_t token, int32_t lookup, size_t room, int32_t *proposed) {
    const size_t n = s->n_tokens, length = (size_t)lookup;
    if (n + 1 < length + 1)
        return 0;
    for (size_t end = n; end-- >= length;) { /* the n-gram's last token lies at `end` */
        if (s->tokens[end] != token ||
            memcmp(s->tokens + end + 1 - length, s->tokens + n + 1 - length, (length - 1) * sizeof token) != 0)
            continue;
        size_t count = 0;
        while (count < room && end + 1 + count < n && s->tokens[end + 1 + count] != s->model->image_token) {
            proposed[count] = s->tokens[end + 1 + count];
            count++;
        }
        return count;
    }
    return 0;
}

/* Takes a chosen token into the answer: the logits it was chosen from, its text. *stop is set if the answer ends. */
static trol_status take_token(generation *g, int32_t token, const float *logits, trol_stop *stop, trol_error *error) {
    const trol_model *model = g->session->model;
    if (!isfinite(
            logits[token])) /* nothing was chosen: weights that are no numbers must not pass for an empty answer */
        return fail(
            error, TROL_ERROR_FORMAT,
            "the model's logits are not finite (%g for token %d): its weights are damaged, or too large for their type",
            (double)logits[token], token);
    if (g->params->logits && g->params->logits(g->params->logits_user, (int64_t)g->session->n_tokens, logits,
                                               (int32_t)model->config.decoder.vocab_size) != 0)
        return fail(error, TROL_ERROR_CANCELLED, "the logits callback asked to stop");
    if (!g->params->ignore_eos && is_end(model, token)) {
        *stop = TROL_STOP_END;
        return TROL_OK;
    }
    g->n_tokens++;
    g->token_waits = true;
    TRY(show_token(&g->text, token, error));
    if (g->n_tokens == g->max_tokens)
        *stop = TROL_STOP_LENGTH;
    else if (g->session->n_tokens + 1 > (size_t)g->session->params.context_size)
        *stop = TROL_STOP_CONTEXT;
    return TROL_OK;
}

/* Feeds `token` with proposals, keeps those that the sampler chooses, and leaves in *token the first that it chose and
 * that is not fed yet. */
static trol_status feed_with_lookup(generation *g, int32_t *token, trol_stop *stop, trol_error *error) {
    trol_session *s = g->session;
    const int64_t vocab = s->model->config.decoder.vocab_size;
    int32_t batch[MAX_PROPOSED + 1];
    size_t room = (size_t)s->params.context_size - s->n_tokens - 1;
    if (room > (size_t)(g->max_tokens - g->n_tokens - 1))
        room = (size_t)(g->max_tokens - g->n_tokens - 1);
    batch[0] = *token;
    const size_t n = propose(s, *token, g->params->lookup, room < MAX_PROPOSED ? room : MAX_PROPOSED, batch + 1);
    const size_t before = s->n_tokens;
    TRY(session_decode_many(s, batch, n + 1, g->logits, error));
    s->stats.proposed_tokens += (int64_t)n;
    s->stats.decoded_tokens -= (int64_t)n;
    for (size_t i = 0; i <= n; i++) {
        const float *logits = g->logits + (int64_t)i * vocab;
        g->token_waits = false;
        *token = trol_sampler_choose(g->params->sampler, logits, (int32_t)vocab);
        const bool hit = i < n && *token == batch[i + 1];
        if (!hit) { /* the rest of the proposals is wrong: as if never fed */
            session_drop(s, before + i + 1);
            memcpy(s->logits, logits, (size_t)vocab * sizeof *logits);
            s->has_logits = true;
        }
        const size_t held = s->n_tokens;
        s->n_tokens = before + i + 1; /* the place that callbacks are told */
        trol_status status = take_token(g, *token, logits, stop, error);
        s->n_tokens = held;
        if (hit && (status != TROL_OK || *stop)) {
            session_drop(s, before + i + 1);
            memcpy(s->logits, logits, (size_t)vocab * sizeof *logits);
            s->has_logits = true;
        }
        TRY(status);
        if (!hit || *stop)
            break;
        s->stats.accepted_tokens++;
        s->stats.decoded_tokens++;
    }
    return TROL_OK;
}

static trol_status feed(generation *g, int32_t *token, trol_stop *stop, trol_error *error) {
    trol_session *s = g->session;
    const int32_t vocab = (int32_t)s->model->config.decoder.vocab_size;
    if (g->logits)
        return feed_with_lookup(g, token, stop, error);
    TRY(trol_session_decode(s, *token, error));
    g->token_waits = false;
    *token = trol_sampler_choose(g->params->sampler, s->logits, vocab);
    return take_token(g, *token, s->logits, stop, error);
}

/* An answer that was cut goes on: its text is gone through again without showing it, to know what waits. */
static trol_status resume(generation *g, trol_stop *stop, trol_error *error) {
    const trol_session *s = g->session;
    const trol_text_callback callback = g->text.callback;
    trol_status status = TROL_OK;
    g->text.callback = NULL;
    for (size_t i = s->n_picture_scope; i < s->n_tokens && status == TROL_OK; i++)
        status = show_token(&g->text, s->tokens[i], error);
    if (status == TROL_OK)
        status = show_token(&g->text, s->pending_token, error);
    g->text.callback = callback;
    if (s->n_tokens + 1 > (size_t)s->params.context_size)
        *stop = TROL_STOP_CONTEXT;
    return status;
}

static trol_status begin(generation *g, int32_t *token, trol_stop *stop, trol_error *error) {
    const trol_session *s = g->session;
    const int64_t vocab = s->model->config.decoder.vocab_size;
    if (g->params->lookup > 0 && s->params.traversal != TROL_TRAVERSAL_ALL)
        TRY(memory_alloc((size_t)((MAX_PROPOSED + 1) * vocab), sizeof *g->logits, "prompt lookup", (void **)&g->logits,
                         error));
    if (g->token_waits)
        return resume(g, stop, error);
    *token = trol_sampler_choose(g->params->sampler, s->logits, (int32_t)vocab);
    return take_token(g, *token, s->logits, stop, error);
}

static trol_status generate(generation *g, trol_stop *stop, trol_error *error) {
    int32_t token = g->session->pending_token;
    g->token_waits = g->session->has_pending;
    trol_status status = begin(g, &token, stop, error);
    while (status == TROL_OK && !*stop)
        status = feed(g, &token, stop, error);
    g->session->has_pending = g->token_waits;
    g->session->pending_token = token;
    /* Half a character at the end is shown only when nothing can follow that completes it. */
    if (status == TROL_OK && *stop == TROL_STOP_END && g->text.tokenizer)
        status = show(&g->text, true, error);
    return status;
}

static trol_status check_params(const trol_generate_params *p, trol_error *error) {
    if (p->max_tokens < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "max_tokens is %d, expected 0 (default) or more", p->max_tokens);
    if (p->lookup < 0 || p->lookup > MAX_LOOKUP)
        return fail(error, TROL_ERROR_ARGUMENT, "lookup is %d, expected 0 (off) to %d", p->lookup, MAX_LOOKUP);
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
                    .text = {.tokenizer = session->model->tokenizer, .callback = callback, .user = user},
                    .max_tokens = p.max_tokens ? p.max_tokens : DEFAULT_MAX_TOKENS};
    trol_status status = generate(&g, &reason, error);
    memory_free(g.logits);
    free(g.text.bytes);
    if (stop)
        *stop = reason;
    return status;
}
