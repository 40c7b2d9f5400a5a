/* session.c - a conversation's life: prompts in one piece or several, reuse of what an earlier prompt computed, answer
 * tokens, steps of several sessions, truncation, forks. What may be reused is decided in timeline.c. */
#include "engine/session.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/params.h"
#include "model/rope.h"

#define NUMBER(field)                                                                                                  \
    { offsetof(trol_session, field), sizeof(((trol_session *)0)->field) }
const session_number session_numbers[] = {NUMBER(has_logits), NUMBER(is_failed), NUMBER(has_pending),
                                          NUMBER(pending_token)};
const size_t session_n_numbers = sizeof session_numbers / sizeof *session_numbers;

void trol_session_params_init(trol_session_params *params) {
    if (params)
        *params = (trol_session_params){.size = sizeof *params};
}

static trol_status check_params(const trol_model *model, trol_session_params *p, trol_error *error) {
    enum { SMALLEST_DEFAULT = 4096 };
    const int64_t max_positions = model->config.decoder.max_positions;
    if (p->context_size < 0)
        return fail(error, TROL_ERROR_ARGUMENT, "context_size is %d, expected 0 (default) or more", p->context_size);
    if (p->context_size == 0) /* memory grows with what is held, so a long context costs nothing by itself */
        p->context_size = max_positions > INT32_MAX          ? INT32_MAX
                          : max_positions > SMALLEST_DEFAULT ? (int32_t)max_positions
                                                             : SMALLEST_DEFAULT;
    if (p->traversal < TROL_TRAVERSAL_PROMPT || p->traversal > TROL_TRAVERSAL_OFF)
        return fail(error, TROL_ERROR_ARGUMENT, "traversal is %d, expected a trol_traversal", (int)p->traversal);
    if (p->traversal != TROL_TRAVERSAL_OFF && !model->weights->decoder.has_gate)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "the model has no gate (trol_gating.pt), so that only the plain backbone can be computed: expected "
                    "traversal to be TROL_TRAVERSAL_OFF");
    if (p->cache_type < TROL_CACHE_F16 || p->cache_type > TROL_CACHE_Q8)
        return fail(error, TROL_ERROR_ARGUMENT, "cache_type is %d, expected a trol_cache_type", (int)p->cache_type);
    if (!(p->traversal_skip >= 0 && p->traversal_skip <= 1))
        return fail(error, TROL_ERROR_ARGUMENT, "traversal_skip is %g, expected 0 to 1", (double)p->traversal_skip);
    return TROL_OK;
}

trol_status trol_session_new(trol_model *model, const trol_session_params *params, trol_session **result,
                             trol_error *error) {
    TRY_OUT(result, "trol_session_new", error);
    if (!model)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_new: the model is NULL");
    trol_session_params p;
    trol_session_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_session_params", error));
    TRY(check_params(model, &p, error));
    trol_session *s = calloc(1, sizeof *s);
    if (!s)
        return fail_memory(error, sizeof *s, "a session");
    const decoder_config *c = &model->config.decoder;
    s->model = model_retain(model);
    s->params = p;
    timeline_init(&s->timeline, model, p.traversal, p.cache_type, p.keep_gates != 0);
    trol_status status =
        memory_alloc((size_t)c->vocab_size, sizeof(float), "a session's logits", (void **)&s->logits, error);
    if (status == TROL_OK)
        status = memory_alloc_zero((size_t)c->n_layers, sizeof *s->n_skipped, "a session's counts",
                                   (void **)&s->n_skipped, error);
    if (status != TROL_OK) {
        trol_session_free(s);
        return status;
    }
    *result = s;
    return TROL_OK;
}

static void release_features(trol_features **features, size_t n) {
    for (size_t i = 0; i < n; i++)
        trol_features_free(features[i]);
    free(features);
}

static void end_prompt(trol_session *s) {
    release_features(s->features, s->n_features);
    s->features = NULL;
    s->n_features = 0;
    s->in_prompt = false;
}

void trol_session_free(trol_session *s) {
    if (!s)
        return;
    end_prompt(s);
    timeline_free(&s->timeline);
    memory_free(s->logits);
    memory_free(s->n_skipped);
    trol_model_free(s->model);
    free(s);
}

trol_status session_check(const trol_session *s, const char *call, trol_error *error) {
    if (!s)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: the session is NULL", call);
    if (s->is_busy)
        return fail(error, TROL_ERROR_STATE,
                    "%s: the session is in the middle of another call, whose callbacks may only read or cancel it",
                    call);
    return TROL_OK;
}

static trol_status check_context(const trol_session *s, size_t count, trol_error *error) {
    if (count > (size_t)s->params.context_size)
        return fail(error, TROL_ERROR_CONTEXT, "%zu tokens do not fit the context, which has room for %d", count,
                    s->params.context_size);
    return TROL_OK;
}

void session_truncate(trol_session *s, size_t n_tokens) {
    s->has_pending = 0;
    if (n_tokens < s->timeline.n_tokens)
        s->has_logits = 0;
    timeline_truncate(&s->timeline, n_tokens);
}

/* ---- a part of a step ------------------------------------------------------------------------ */

/* One session's part of a step. */
typedef struct part {
    trol_session *session;
    const int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
    trol_error *error; /* may be NULL */
    trol_status status;
    bool prompt;
    float *all_logits;   /* [n_tokens, vocab_size] of answer tokens; NULL: not wanted */
    bool deferred;       /* answer tokens are computed, but session_accept commits them */
    size_t n_reused;     /* prompt: of the tokens */
    bool is_computed;    /* there is something to compute */
    size_t n_recomputed; /* mode all past a rope threshold: of the tokens, after all that the session holds, */
    timeline fresh;      /* into here */
    step_item item;      /* of what is computed */
} part;

/* A cancel that came between two calls stops the later one. */
static trol_status take_cancel(trol_session *s, trol_error *error) {
    int expected = 1;
    if (atomic_compare_exchange_strong(&s->cancel, &expected, 0))
        return fail(error, TROL_ERROR_CANCELLED, "the session was cancelled");
    return TROL_OK;
}

static size_t count_image_embeds(const trol_session *s) {
    size_t n_embeds = 0;
    for (size_t i = 0; i < s->n_features; i++)
        n_embeds += (size_t)s->features[i]->embeds->n_tokens;
    return n_embeds;
}

/* There must be an embedding for each image token. */
static trol_status check_prompt_tokens(const part *p, trol_error *error) {
    const trol_session *s = p->session;
    size_t n_image = s->n_image_tokens;
    if (p->n_tokens > s->prompt_total - s->prompt_cursor)
        return fail(error, TROL_ERROR_ARGUMENT, "the prompt was begun with %zu tokens, %zu came", s->prompt_total,
                    s->prompt_cursor + p->n_tokens);
    for (size_t i = 0; i < p->n_tokens; i++) {
        TRY(model_check_token(s->model, p->tokens[i], error));
        n_image += p->tokens[i] == s->model->image_token;
    }
    if (n_image > count_image_embeds(s))
        return fail(error, TROL_ERROR_ARGUMENT,
                    "the prompt has at least %zu image tokens, but its %zu pictures have %zu embeddings", n_image,
                    s->n_features, count_image_embeds(s));
    return TROL_OK;
}

static size_t count_image_tokens(const trol_session *s, const int32_t *tokens, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += tokens[i] == s->model->image_token;
    return count;
}

/* Tokens already held are skipped, the rest are appended to the timeline. */
static trol_status prepare_prompt(part *p) {
    trol_session *s = p->session;
    TRY(check_prompt_tokens(p, p->error));
    TRY(take_cancel(s, p->error));
    timeline_piece piece = {p->tokens, p->n_tokens, s->features, s->n_features, s->n_image_tokens};
    if (!s->observer && !s->logits_callback) /* they observe every token */
        p->n_reused = timeline_common_prefix(&s->timeline, &piece, s->prompt_cursor, s->prompt_total);
    if (p->n_reused == p->n_tokens)
        return TROL_OK;
    session_truncate(s, s->prompt_cursor + p->n_reused);
    piece.n_image_tokens += count_image_tokens(s, p->tokens, p->n_reused);
    piece.ids += p->n_reused;
    piece.n -= p->n_reused;
    p->is_computed = true;
    return timeline_append(&s->timeline, &piece, p->error);
}

static trol_status check_answer(const part *p, trol_error *error) {
    const trol_session *s = p->session;
    if (s->timeline.n_tokens == 0)
        return fail(error, TROL_ERROR_STATE, "trol_session_decode: the session holds no prompt");
    if (s->is_failed)
        return fail(error, TROL_ERROR_STATE, "trol_session_decode: the last prompt failed, expected a new one first");
    for (size_t i = 0; i < p->n_tokens; i++)
        TRY(model_check_token(s->model, p->tokens[i], error));
    return TROL_OK;
}

/* Mode all equals recomputing the whole text at each token: where a token changes the rope of all before it, that is
 * what happens. Of n more tokens, how many the last such recomputation covers; 0: there is none. */
static size_t count_recomputed(const trol_session *s, size_t n) {
    const decoder_config *c = &s->model->config.decoder;
    double variant = s->timeline.rope_variant;
    size_t count = 0;
    for (size_t i = 1; i <= n && s->params.traversal == TROL_TRAVERSAL_ALL; i++) {
        const double next = rope_variant(&c->rope, c->head_dim, (int64_t)(s->timeline.n_tokens + i));
        if (next != variant)
            count = i;
        variant = next;
    }
    return count;
}

static trol_status prepare_answer(part *p) {
    trol_session *s = p->session;
    TRY(check_answer(p, p->error));
    TRY(take_cancel(s, p->error));
    TRY(check_context(s, s->timeline.n_tokens + p->n_tokens, p->error));
    model_note_length(s->model, s->timeline.n_tokens + p->n_tokens);
    if (p->n_tokens == 0)
        return TROL_OK;
    const timeline_piece piece = {.ids = p->tokens, .n = p->n_tokens};
    p->is_computed = true;
    TRY(timeline_append(&s->timeline, &piece, p->error));
    p->n_recomputed = count_recomputed(s, p->n_tokens);
    return p->n_recomputed ? timeline_restart(&s->timeline, p->n_recomputed, &p->fresh, p->error) : TROL_OK;
}

/* The tokens of a step after a recomputation: an answer to it, in the next batch. */
static trol_status prepare_rest(part *p) {
    const timeline_piece piece = {.ids = p->tokens + p->n_recomputed, .n = p->n_tokens - p->n_recomputed};
    TRY(timeline_append(&p->fresh, &piece, p->error));
    p->item.n_tokens = piece.n;
    p->item.prompt = false;
    p->item.logits = p->session->logits;
    return TROL_OK;
}

static void fill_item(part *p) {
    trol_session *s = p->session;
    const size_t n_held = s->timeline.n_tokens, n_recomputed = p->n_recomputed ? n_held + p->n_recomputed : 0;
    step_item *item = &p->item;
    *item = (step_item){.timeline = n_recomputed ? &p->fresh : &s->timeline,
                        .n_tokens = n_recomputed ? n_recomputed : p->n_tokens - p->n_reused,
                        .prompt = p->prompt || n_recomputed,
                        .length = n_recomputed ? n_recomputed : s->prompt_total,
                        .keep_pass2 = s->params.keep_pass2 != 0,
                        .deferred = p->deferred,
                        .traversal_skip = s->params.traversal_skip,
                        .n_skipped = s->n_skipped,
                        .all_logits = p->all_logits,
                        .cancel = &s->cancel,
                        .error = p->error};
    if (p->prompt ? s->prompt_cursor + p->n_tokens == s->prompt_total
                  : !p->deferred && (!n_recomputed || p->n_recomputed == p->n_tokens))
        item->logits = s->logits;
    if (p->prompt) {
        item->observer = s->observer;
        item->observer_user = s->observer_user;
        item->logits_callback = s->logits_callback;
        item->logits_user = s->logits_user;
        item->progress = s->params.progress;
        item->progress_user = s->params.progress_user;
    }
}

/* What is held is kept for a later prompt to share, but no answer can follow it. */
void session_fail_prompt(trol_session *s) {
    end_prompt(s);
    s->has_logits = 0;
    s->is_failed = 1;
}

static void finish_prompt(part *p) {
    trol_session *s = p->session;
    const size_t n_image = count_image_tokens(s, p->tokens, p->n_tokens);
    s->stats.reused_tokens += (int64_t)p->n_reused;
    s->stats.prompt_tokens += (int64_t)(p->n_tokens - p->n_reused);
    s->stats.image_tokens += (int64_t)count_image_tokens(s, p->tokens + p->n_reused, p->n_tokens - p->n_reused);
    s->n_image_tokens += n_image;
    s->prompt_cursor += p->n_tokens;
    s->has_logits = s->prompt_cursor == s->prompt_total;
}

static void finish_answer(part *p) {
    trol_session *s = p->session;
    if (p->n_recomputed) {
        p->fresh.n_prompt = s->timeline.n_prompt; /* the answer stays an answer */
        timeline_free(&s->timeline);
        s->timeline = p->fresh;
        p->fresh = (timeline){0};
    }
    if (p->deferred || p->n_tokens == 0)
        return;
    s->stats.decoded_tokens += (int64_t)p->n_tokens;
    s->has_logits = 1;
    s->has_pending = 0;
}

/* After the step: the part is done, or its session is unchanged. */
static void finish_part(part *p, double seconds) {
    trol_session *s = p->session;
    if (p->item.timeline && p->status == TROL_OK)
        p->status = p->item.status;
    if (p->item.workspace_bytes > s->stats.workspace_bytes)
        s->stats.workspace_bytes = p->item.workspace_bytes;
    *(p->prompt ? &s->stats.prompt_seconds : &s->stats.decode_seconds) += seconds;
    if (p->status == TROL_OK) {
        (p->prompt ? finish_prompt : finish_answer)(p);
        return;
    }
    timeline_truncate(&s->timeline, s->timeline.n_tokens);
    timeline_free(&p->fresh);
    if (p->prompt)
        session_fail_prompt(s);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* The sessions must differ and be of one model. */
static trol_status check_part(const part *parts, size_t index) {
    const part *p = &parts[index];
    TRY(session_check(p->session, "trol_step", p->error));
    if (p->n_tokens > 0 && !p->tokens)
        return fail(p->error, TROL_ERROR_ARGUMENT, "the tokens of session %zu are NULL", index);
    for (size_t k = 0; k < index; k++) {
        if (!parts[k].session)
            continue;
        if (parts[k].session == p->session)
            return fail(p->error, TROL_ERROR_ARGUMENT, "sessions %zu and %zu of a step are the same", k, index);
        if (parts[k].session->model != p->session->model)
            return fail(p->error, TROL_ERROR_ARGUMENT, "session %zu of a step is of another model than session %zu",
                        index, k);
    }
    return TROL_OK;
}

/* The second batch of parts that need one; their first was committed to the fresh timeline only. */
static void run_rests(part *parts, step_item **items, size_t n) {
    size_t n_items = 0;
    for (size_t i = 0; i < n; i++) {
        part *p = &parts[i];
        if (!p->item.timeline || p->item.status != TROL_OK || !p->n_recomputed || p->n_recomputed == p->n_tokens)
            continue;
        p->status = prepare_rest(p);
        if (p->status == TROL_OK)
            items[n_items++] = &p->item;
    }
    if (n_items > 0)
        step_run(items, n_items, false);
}

static void mark_busy(const part *parts, size_t n, bool busy) {
    for (size_t i = 0; i < n; i++)
        if (parts[i].session)
            parts[i].session->is_busy = busy;
}

/* Runs the parts as one batch. together: all or none. */
static void run_parts(part *parts, step_item **items, size_t n, bool together) {
    const double start = clock_seconds();
    trol_status failure = TROL_OK;
    size_t n_items = 0;
    for (size_t i = 0; i < n && failure == TROL_OK; i++) {
        part *p = &parts[i];
        p->status = check_part(parts, i);
        if (p->status != TROL_OK) {
            p->session = NULL; /* not part of this */
        } else {
            p->prompt = p->session->in_prompt;
            p->status = p->prompt ? prepare_prompt(p) : prepare_answer(p);
        }
        if (together)
            failure = p->status;
    }
    for (size_t i = 0; i < n && failure == TROL_OK; i++)
        if (parts[i].status == TROL_OK && parts[i].is_computed) {
            fill_item(&parts[i]);
            items[n_items++] = &parts[i].item;
        }
    mark_busy(parts, n, true);
    if (n_items > 0)
        step_run(items, n_items, together);
    run_rests(parts, items, n);
    mark_busy(parts, n, false);
    for (size_t i = 0; i < n; i++) {
        if (failure != TROL_OK && parts[i].status == TROL_OK)
            parts[i].status = failure;
        if (parts[i].session)
            finish_part(&parts[i], clock_seconds() - start);
    }
}

static trol_status alloc_parts(size_t n, part **parts, step_item ***items, trol_error *error) {
    *parts = calloc(n, sizeof **parts);
    *items = calloc(n, sizeof **items);
    if (*parts && *items)
        return TROL_OK;
    free(*parts);
    free(*items);
    return fail_memory(error, n * (sizeof **parts + sizeof **items), "a step");
}

trol_status trol_step(trol_step_item *items, size_t n, trol_error *error) {
    part *parts;
    step_item **computed;
    if (n == 0)
        return TROL_OK;
    if (!items)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_step: the items are NULL");
    trol_status status = alloc_parts(n, &parts, &computed, error);
    for (size_t i = 0; i < n && status != TROL_OK; i++)
        items[i].status = status;
    TRY(status);
    for (size_t i = 0; i < n; i++)
        parts[i] = (part){.session = items[i].session,
                          .tokens = items[i].tokens,
                          .n_tokens = items[i].n_tokens,
                          .error = items[i].error};
    run_parts(parts, computed, n, false);
    for (size_t i = 0; i < n; i++)
        items[i].status = parts[i].status;
    free(parts);
    free(computed);
    return TROL_OK;
}

/* ---- prompts --------------------------------------------------------------------------------- */

static trol_status set_features(trol_session *s, trol_features *const *features, size_t n, trol_error *error) {
    trol_features **list = NULL;
    if (n > 0) {
        list = calloc(n, sizeof *list);
        if (!list)
            return fail_memory(error, n * sizeof *list, "a prompt's pictures");
    }
    for (size_t i = 0; i < n; i++)
        list[i] = features_retain(features[i]);
    release_features(s->features, s->n_features);
    s->features = list;
    s->n_features = n;
    return TROL_OK;
}

static trol_status check_prompt(const trol_session *s, size_t n_tokens_total, trol_features *const *features,
                                size_t n_features, trol_error *error) {
    if (n_tokens_total == 0)
        return fail(error, TROL_ERROR_ARGUMENT, "the prompt has no tokens, expected at least one");
    if (n_features > 0 && !features)
        return fail(error, TROL_ERROR_ARGUMENT, "the prompt's pictures are NULL, expected %zu", n_features);
    for (size_t i = 0; i < n_features; i++)
        if (!features[i] || features[i]->model != s->model)
            return fail(error, TROL_ERROR_ARGUMENT, "picture %zu of the prompt is NULL or was encoded by another model",
                        i + 1);
    if (n_tokens_total > (size_t)s->params.context_size)
        return fail(error, TROL_ERROR_CONTEXT,
                    "the prompt has %zu tokens and does not fit the context, which has room for %d", n_tokens_total,
                    s->params.context_size);
    return TROL_OK;
}

trol_status trol_session_prompt_begin(trol_session *s, size_t n_tokens_total, trol_features *const *features,
                                      size_t n_features, trol_error *error) {
    TRY(session_check(s, "trol_session_prompt_begin", error));
    trol_status status = check_prompt(s, n_tokens_total, features, n_features, error);
    if (status == TROL_OK)
        status = set_features(s, features, n_features, error);
    if (status != TROL_OK) {
        session_fail_prompt(s);
        return status;
    }
    model_note_length(s->model, n_tokens_total);
    s->prompt_total = n_tokens_total;
    s->prompt_cursor = s->n_image_tokens = 0;
    s->in_prompt = true;
    s->has_logits = 0;
    return TROL_OK;
}

trol_status trol_session_prompt_append(trol_session *s, const int32_t *tokens, size_t n_tokens, trol_error *error) {
    TRY(session_check(s, "trol_session_prompt_append", error));
    if (!s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_prompt_append: no prompt was begun");
    part p = {.session = s, .tokens = tokens, .n_tokens = n_tokens, .error = error};
    step_item *item;
    run_parts(&p, &item, 1, false);
    return p.status;
}

trol_status trol_session_prompt_end(trol_session *s, trol_error *error) {
    TRY(session_check(s, "trol_session_prompt_end", error));
    if (!s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_prompt_end: no prompt was begun, or it failed");
    const size_t n_embeds = count_image_embeds(s), n_features = s->n_features;
    trol_status status = TROL_OK;
    end_prompt(s);
    if (s->prompt_cursor != s->prompt_total)
        status = fail(error, TROL_ERROR_STATE, "the prompt was begun with %zu tokens, only %zu came", s->prompt_total,
                      s->prompt_cursor);
    else if (s->n_image_tokens != n_embeds)
        status = fail(error, TROL_ERROR_ARGUMENT,
                      "the prompt has %zu image tokens, but its %zu pictures have %zu embeddings", s->n_image_tokens,
                      n_features, n_embeds);
    if (s->params.traversal == TROL_TRAVERSAL_PROMPT && !s->params.keep_pass2)
        timeline_drop_pass2(&s->timeline);
    s->is_busy = true;
    if (status == TROL_OK && s->params.progress)
        if (s->params.progress(s->params.progress_user, TROL_STAGE_PREFILL, (int64_t)s->prompt_total,
                               (int64_t)s->prompt_total) != 0)
            status = fail(error, TROL_ERROR_CANCELLED, "the progress callback asked to stop");
    s->is_busy = false;
    if (status != TROL_OK)
        session_fail_prompt(s);
    else
        s->is_failed = 0;
    return status;
}

trol_status trol_session_prefill(trol_session *s, const int32_t *tokens, size_t n_tokens,
                                 trol_features *const *features, size_t n_features, trol_error *error) {
    TRY(session_check(s, "trol_session_prefill", error));
    if (n_tokens > 0 && !tokens) {
        session_fail_prompt(s);
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_prefill: the tokens are NULL");
    }
    const size_t n_image = count_image_tokens(s, tokens, n_tokens);
    size_t n_embeds = 0;
    for (size_t i = 0; features && i < n_features; i++)
        n_embeds += features[i] ? (size_t)features[i]->embeds->n_tokens : 0;
    if (n_image != n_embeds) { /* before anything is computed */
        session_fail_prompt(s);
        return fail(error, TROL_ERROR_ARGUMENT,
                    "the prompt has %zu image tokens (id %d), but its %zu pictures have %zu embeddings", n_image,
                    s->model->image_token, n_features, n_embeds);
    }
    TRY(trol_session_prompt_begin(s, n_tokens, features, n_features, error));
    TRY(trol_session_prompt_append(s, tokens, n_tokens, error));
    return trol_session_prompt_end(s, error);
}

size_t trol_session_reusable(const trol_session *s, const int32_t *tokens, size_t n_tokens,
                             trol_features *const *features, size_t n_features) {
    if (!s || !tokens || (n_features > 0 && !features) || s->observer || s->logits_callback)
        return 0;
    for (size_t i = 0; i < n_features; i++)
        if (!features[i])
            return 0;
    const timeline_piece piece = {tokens, n_tokens, features, n_features, 0};
    return timeline_common_prefix(&s->timeline, &piece, 0, n_tokens);
}

/* ---- answers --------------------------------------------------------------------------------- */

static trol_status decode_together(trol_session *const *sessions, const int32_t *tokens, size_t n, part *parts,
                                   step_item **items, trol_error *error) {
    for (size_t i = 0; i < n; i++) {
        TRY(session_check(sessions[i], "trol_session_decode", error));
        if (sessions[i]->in_prompt)
            return fail(error, TROL_ERROR_STATE, "trol_session_decode: the prompt has not ended");
        parts[i] = (part){.session = sessions[i], .tokens = &tokens[i], .n_tokens = 1, .error = error};
    }
    run_parts(parts, items, n, true);
    for (size_t i = 0; i < n; i++)
        if (parts[i].status != TROL_OK)
            return parts[i].status;
    return TROL_OK;
}

trol_status trol_decode_batch(trol_session *const *sessions, const int32_t *tokens, size_t n, trol_error *error) {
    part *parts;
    step_item **items;
    if (n == 0)
        return TROL_OK;
    if (!sessions || !tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_decode_batch: the sessions or the tokens are NULL");
    TRY(alloc_parts(n, &parts, &items, error));
    trol_status status = decode_together(sessions, tokens, n, parts, items, error);
    free(parts);
    free(items);
    return status;
}

trol_status trol_session_decode(trol_session *s, int32_t token, trol_error *error) {
    return trol_decode_batch(&s, &token, 1, error);
}

trol_status session_propose(trol_session *s, const int32_t *tokens, size_t n, float *all_logits, trol_error *error) {
    part p = {
        .session = s, .tokens = tokens, .n_tokens = n, .error = error, .all_logits = all_logits, .deferred = true};
    step_item *item;
    run_parts(&p, &item, 1, true);
    return p.status;
}

void session_accept(trol_session *s, const float *logits) {
    timeline_commit(&s->timeline, 1, false, 0, false);
    memcpy(s->logits, logits, (size_t)s->model->config.decoder.vocab_size * sizeof *logits);
    s->has_logits = 1;
    s->has_pending = 0;
    s->stats.decoded_tokens++;
}

void session_settle(trol_session *s) { timeline_truncate(&s->timeline, s->timeline.n_tokens); }

/* ---- the rest -------------------------------------------------------------------------------- */

const float *trol_session_logits(const trol_session *s) { return s && s->has_logits ? s->logits : NULL; }
size_t trol_session_n_tokens(const trol_session *s) { return s ? s->timeline.n_tokens : 0; }
const int32_t *trol_session_tokens(const trol_session *s) { return s ? s->timeline.ids : NULL; }

void trol_session_cancel(trol_session *s) {
    if (s)
        atomic_store(&s->cancel, 1);
}

void trol_session_set_logits_callback(trol_session *s, trol_logits_callback callback, void *user) {
    if (!s)
        return;
    s->logits_callback = callback;
    s->logits_user = user;
}

void trol_session_set_observer(trol_session *s, trol_observer observer, void *user) {
    if (!s)
        return;
    s->observer = observer;
    s->observer_user = user;
}

trol_status trol_session_truncate(trol_session *s, size_t n_tokens, trol_error *error) {
    TRY(session_check(s, "trol_session_truncate", error));
    if (s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_truncate: the prompt has not ended");
    if (n_tokens > s->timeline.n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT,
                    "trol_session_truncate: the session holds %zu tokens, asked to keep %zu", s->timeline.n_tokens,
                    n_tokens);
    session_truncate(s, n_tokens);
    return TROL_OK;
}

static trol_status copy_into(const trol_session *s, trol_session *fork, trol_error *error) {
    fork->observer = s->observer;
    fork->observer_user = s->observer_user;
    fork->logits_callback = s->logits_callback;
    fork->logits_user = s->logits_user;
    for (size_t i = 0; i < session_n_numbers; i++)
        memcpy((char *)fork + session_numbers[i].offset, (const char *)s + session_numbers[i].offset,
               session_numbers[i].n_bytes);
    TRY(timeline_copy(&s->timeline, &fork->timeline, error));
    memcpy(fork->logits, s->logits, (size_t)s->model->config.decoder.vocab_size * sizeof *s->logits);
    return TROL_OK;
}

trol_status trol_session_fork(const trol_session *s, trol_session **fork, trol_error *error) {
    TRY_OUT(fork, "trol_session_fork", error);
    TRY(session_check(s, "trol_session_fork", error));
    if (s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_fork: the prompt has not ended");
    trol_session *copy;
    TRY(trol_session_new(s->model, &s->params, &copy, error));
    trol_status status = copy_into(s, copy, error);
    if (status != TROL_OK) {
        trol_session_free(copy);
        return status;
    }
    *fork = copy;
    return TROL_OK;
}

const float *trol_session_gates(const trol_session *s, int32_t layer) {
    if (!s || !s->timeline.gates || layer < 0 || layer >= s->model->config.decoder.n_layers)
        return NULL;
    return s->timeline.gates + (size_t)layer * s->timeline.gates_capacity;
}

int64_t trol_session_skipped_in_layer(const trol_session *s, int32_t layer) {
    return s && layer >= 0 && layer < s->model->config.decoder.n_layers ? s->n_skipped[layer] : 0;
}

void trol_session_get_stats(const trol_session *s, trol_session_stats *stats) {
    if (!s || !stats)
        return;
    trol_session_stats full = s->stats;
    for (int32_t i = 0; i < s->model->config.decoder.n_layers; i++)
        full.skipped_tokens += s->n_skipped[i];
    full.cache_bytes = kv_plane_bytes(&s->timeline.pass1) + kv_plane_bytes(&s->timeline.pass2);
    trol_error ignored;
    (void)!params_copy_out(stats, &full, sizeof full, "trol_session_stats", &ignored);
}
