/* session.c - a conversation's life: prompts in one piece or several, reuse of what an earlier prompt computed, answer
 * tokens, truncation, forks. What may be reused when, and why:
 *
 *  - mode prompt: an answer token was computed in one pass, as a prompt token it needs two; so only the earlier
 * prompt's tokens, and only while their pass-2 keys and values are held (keep_pass2);
 *  - modes all and off: prompt and answer tokens are computed alike, so all that is held;
 *  - never across a rope border: keys of another length's angles are of no use to the new prompt. */
#include "engine/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/params.h"
#include "model/rope.h"

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
    if (p->cache_type != TROL_CACHE_F16 && p->cache_type != TROL_CACHE_F32)
        return fail(error, TROL_ERROR_ARGUMENT, "cache_type is %d, expected a trol_cache_type", (int)p->cache_type);
    if (!(p->traversal_skip >= 0 && p->traversal_skip <= 1))
        return fail(error, TROL_ERROR_ARGUMENT, "traversal_skip is %g, expected 0 to 1", (double)p->traversal_skip);
    return TROL_OK;
}

trol_status trol_session_new(trol_model *model, const trol_session_params *params, trol_session **result,
                             trol_error *error) {
    if (!result)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_new: the out-pointer is NULL");
    *result = NULL;
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
    const kv_shape shape = {c->n_layers, c->n_kv_heads, c->head_dim,
                            p.cache_type == TROL_CACHE_F32 ? ELEMENT_F32 : ELEMENT_F16};
    kv_plane_init(&s->pass1, shape);
    kv_plane_init(&s->pass2, shape);
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

void trol_session_free(trol_session *s) {
    if (!s)
        return;
    kv_plane_free(&s->pass1);
    kv_plane_free(&s->pass2);
    release_features(s->features, s->n_features);
    memory_free(s->logits);
    memory_free(s->n_skipped);
    free(s->tokens);
    trol_model_free(s->model);
    free(s);
}

trol_status session_check(const trol_session *s, const char *call, trol_error *error) {
    if (!s)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: the session is NULL", call);
    return TROL_OK;
}

/* A cancel that came between two calls stops the later one. */
static trol_status take_cancel(trol_session *s, trol_error *error) {
    int expected = 1;
    if (atomic_compare_exchange_strong(&s->cancel, &expected, 0))
        return fail(error, TROL_ERROR_CANCELLED, "the session was cancelled");
    return TROL_OK;
}

trol_status session_reserve_tokens(trol_session *s, size_t count, trol_error *error) {
    if (count > (size_t)s->params.context_size)
        return fail(error, TROL_ERROR_CONTEXT, "%zu tokens do not fit the context, which has room for %d", count,
                    s->params.context_size);
    return memory_grow((void **)&s->tokens, &s->tokens_capacity, count, sizeof *s->tokens, "a session's tokens", error);
}

void session_drop(trol_session *s, size_t n_tokens) {
    s->has_pending = false;
    if (n_tokens < s->n_tokens)
        s->has_logits = false;
    if (s->n_tokens > n_tokens)
        s->n_tokens = n_tokens;
    if (s->n_prompt > n_tokens)
        s->n_prompt = n_tokens;
    if (s->n_pass2 > n_tokens)
        s->n_pass2 = n_tokens;
    kv_plane_truncate(&s->pass1, (int64_t)s->n_tokens);
    kv_plane_truncate(&s->pass2, (int64_t)s->n_pass2);
}

/* What is fed from here on is no picture's row, also where a longer prompt was truncated. */
static void limit_picture_scope(trol_session *s) {
    if (s->n_picture_scope > s->n_tokens)
        s->n_picture_scope = s->n_tokens;
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* Tokens held, from the first on, that a prompt of `total` tokens could share if they are equal. */
static size_t count_reusable(const trol_session *s, size_t total) {
    const decoder_config *c = &s->model->config.decoder;
    if (s->observer || s->logits_callback || s->rope_mixed ||
        rope_variant(&c->rope, c->head_dim, (int64_t)total) != s->rope_variant)
        return 0;
    size_t n = s->n_tokens;
    if (s->params.traversal == TROL_TRAVERSAL_PROMPT && n > s->n_prompt)
        n = s->n_prompt;
    if (s->params.traversal != TROL_TRAVERSAL_OFF && n > s->n_pass2)
        n = s->n_pass2;
    return n < total ? n : total - 1; /* the last token's logits are wanted */
}

/* Image tokens at the beginning whose rows the new pictures share with the old. */
static size_t count_equal_rows(const trol_session *s, trol_features *const *features, size_t n) {
    size_t rows = 0;
    for (size_t i = 0; i < n && i < s->n_features; i++) {
        if (features[i]->hash != s->features[i]->hash || features[i]->n_tokens != s->features[i]->n_tokens)
            break;
        rows += (size_t)features[i]->n_tokens;
    }
    return rows;
}

/* Tokens held, from the first on, whose pictures stay: up to the first image token that is not among the equal rows, or
 * that was fed as an answer's token and so stands for no picture. */
static size_t count_valid(const trol_session *s, size_t equal_rows) {
    size_t n_image = 0;
    for (size_t i = 0; i < s->n_tokens; i++)
        if (s->tokens[i] == s->model->image_token && (i >= s->n_picture_scope || n_image++ >= equal_rows))
            return i;
    return s->n_tokens;
}

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

static size_t count_rows(trol_features *const *features, size_t n) {
    size_t rows = 0;
    for (size_t i = 0; i < n; i++)
        rows += (size_t)features[i]->n_tokens;
    return rows;
}

trol_status trol_session_prompt_begin(trol_session *s, size_t n_tokens_total, trol_features *const *features,
                                      size_t n_features, trol_error *error) {
    TRY(session_check(s, "trol_session_prompt_begin", error));
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
    const size_t equal_rows = count_equal_rows(s, features, n_features);
    TRY(set_features(s, features, n_features, error));
    session_drop(s, count_valid(s, equal_rows)); /* the rest belongs to pictures that are gone now */
    s->n_reusable = count_reusable(s, n_tokens_total);
    s->n_reusable_image_rows = equal_rows;
    s->n_image_tokens = 0;
    s->prompt_total = s->n_picture_scope = n_tokens_total;
    s->prompt_cursor = 0;
    s->in_prompt = true;
    s->has_logits = false;
    if (s->n_reusable == 0)
        session_drop(s, 0);
    return TROL_OK;
}

/* Image tokens among the new ones must have rows to take. */
static trol_status check_tokens(const trol_session *s, const int32_t *tokens, size_t n, trol_error *error) {
    size_t n_image = s->n_image_tokens;
    for (size_t i = 0; i < n; i++) {
        TRY(model_check_token(s->model, tokens[i], error));
        n_image += tokens[i] == s->model->image_token;
    }
    const size_t rows = count_rows(s->features, s->n_features);
    if (n_image > rows)
        return fail(error, TROL_ERROR_ARGUMENT,
                    "the prompt has at least %zu image tokens, but its %zu pictures have %zu rows", n_image,
                    s->n_features, rows);
    return TROL_OK;
}

/* Steps over tokens that the session holds already; returns how many of the n. */
static size_t reuse_tokens(trol_session *s, const int32_t *tokens, size_t n) {
    size_t i = 0;
    for (; i < n && s->prompt_cursor < s->n_reusable; i++) {
        const bool image = tokens[i] == s->model->image_token;
        if (s->tokens[s->prompt_cursor] != tokens[i] || (image && s->n_image_tokens >= s->n_reusable_image_rows))
            break;
        s->n_image_tokens += image;
        s->prompt_cursor++;
    }
    s->stats.reused_tokens += (int64_t)i;
    return i;
}

static trol_status append_tokens(trol_session *s, const int32_t *tokens, size_t n, trol_error *error) {
    if (n > s->prompt_total - s->prompt_cursor)
        return fail(error, TROL_ERROR_ARGUMENT, "the prompt was begun with %zu tokens, %zu came", s->prompt_total,
                    s->prompt_cursor + n);
    TRY(check_tokens(s, tokens, n, error));
    TRY(take_cancel(s, error));
    const size_t reused = reuse_tokens(s, tokens, n);
    if (reused == n)
        return TROL_OK;
    tokens += reused;
    n -= reused;
    s->n_reusable = 0;
    session_drop(s, s->prompt_cursor);
    TRY(session_reserve_tokens(s, s->prompt_cursor + n, error));
    memcpy(s->tokens + s->prompt_cursor, tokens, n * sizeof *tokens);
    const session_rows rows = {.session = s,
                               .first = s->prompt_cursor,
                               .n_rows = n,
                               .prompt = true,
                               .last_logits = s->prompt_cursor + n == s->prompt_total};
    TRY(session_forward(&rows, 1, error));
    for (size_t i = 0; i < n; i++)
        s->n_image_tokens += tokens[i] == s->model->image_token;
    s->prompt_cursor += n;
    /* A prompt of one token went through one pass in mode prompt: a longer one cannot share it. */
    s->n_prompt = s->prompt_total > 1 || s->params.traversal != TROL_TRAVERSAL_PROMPT ? s->prompt_cursor : 0;
    return TROL_OK;
}

/* What is held stays for a later prompt to share, but it is no text that an answer could follow. */
static void fail_prompt(trol_session *s) {
    s->in_prompt = false;
    s->has_logits = false;
    s->prompt_total = 0;
    limit_picture_scope(s);
}

trol_status trol_session_prompt_append(trol_session *s, const int32_t *tokens, size_t n_tokens, trol_error *error) {
    TRY(session_check(s, "trol_session_prompt_append", error));
    if (!s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_prompt_append: no prompt was begun");
    if (n_tokens > 0 && !tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_prompt_append: the tokens are NULL");
    const double start = clock_seconds();
    trol_status status = append_tokens(s, tokens, n_tokens, error);
    s->stats.prompt_seconds += clock_seconds() - start;
    if (status != TROL_OK)
        fail_prompt(s);
    return status;
}

trol_status trol_session_prompt_end(trol_session *s, trol_error *error) {
    TRY(session_check(s, "trol_session_prompt_end", error));
    if (!s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_prompt_end: no prompt was begun, or it failed");
    s->in_prompt = false;
    const size_t rows = count_rows(s->features, s->n_features);
    trol_status status = TROL_OK;
    if (s->prompt_cursor != s->prompt_total)
        status = fail(error, TROL_ERROR_STATE, "the prompt was begun with %zu tokens, only %zu came", s->prompt_total,
                      s->prompt_cursor);
    else if (s->n_image_tokens != rows)
        status = fail(error, TROL_ERROR_ARGUMENT, "the prompt has %zu image tokens, but its %zu pictures have %zu rows",
                      s->n_image_tokens, s->n_features, rows);
    if (s->params.traversal == TROL_TRAVERSAL_PROMPT && !s->params.keep_pass2) {
        kv_plane_truncate(&s->pass2, 0);
        s->n_pass2 = 0;
    }
    if (status == TROL_OK && s->params.progress)
        if (s->params.progress(s->params.progress_user, TROL_STAGE_PREFILL, (int64_t)s->prompt_total,
                               (int64_t)s->prompt_total) != 0)
            status = fail(error, TROL_ERROR_CANCELLED, "the progress callback asked to stop");
    if (status != TROL_OK)
        fail_prompt(s);
    return status;
}

trol_status trol_session_prefill(trol_session *s, const int32_t *tokens, size_t n_tokens,
                                 trol_features *const *features, size_t n_features, trol_error *error) {
    TRY(session_check(s, "trol_session_prefill", error));
    if (n_tokens > 0 && !tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_prefill: the tokens are NULL");
    size_t n_image = 0, rows = 0;
    for (size_t i = 0; i < n_tokens; i++)
        n_image += tokens[i] == s->model->image_token;
    for (size_t i = 0; features && i < n_features; i++)
        rows += features[i] ? (size_t)features[i]->n_tokens : 0;
    if (n_image != rows) /* before anything is computed */
        return fail(error, TROL_ERROR_ARGUMENT,
                    "the prompt has %zu image tokens (id %d), but its %zu pictures have %zu rows", n_image,
                    s->model->image_token, n_features, rows);
    TRY(trol_session_prompt_begin(s, n_tokens, features, n_features, error));
    TRY(trol_session_prompt_append(s, tokens, n_tokens, error));
    return trol_session_prompt_end(s, error);
}

/* ---- answers --------------------------------------------------------------------------------- */

static trol_status check_decode(const trol_session *s, int32_t token, trol_error *error) {
    TRY(session_check(s, "trol_session_decode", error));
    if (s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_decode: the prompt has not ended");
    if (s->n_tokens == 0)
        return fail(error, TROL_ERROR_STATE, "trol_session_decode: the session holds no prompt");
    if (s->prompt_total == 0)
        return fail(error, TROL_ERROR_STATE, "trol_session_decode: the last prompt failed, expected a new one first");
    return model_check_token(s->model, token, error);
}

/* Mode all equals recomputing the whole text: when one more token turns the rope of all of them, that is what it takes.
 */
static bool needs_recompute(const trol_session *s) {
    const decoder_config *c = &s->model->config.decoder;
    return s->params.traversal == TROL_TRAVERSAL_ALL &&
           rope_variant(&c->rope, c->head_dim, (int64_t)s->n_tokens + 1) != s->rope_variant;
}

static trol_status recompute(trol_session *s, int32_t token, trol_error *error) {
    const size_t n = s->n_tokens + 1, scope = s->n_picture_scope, old_total = s->prompt_total;
    const trol_session_stats stats = s->stats;
    const trol_logits_callback callback = s->logits_callback;
    const trol_observer observer = s->observer;
    TRY(session_reserve_tokens(s, n, error));
    s->tokens[n - 1] = token;
    s->prompt_total = n;
    s->logits_callback = NULL;
    s->observer = NULL;
    const session_rows rows = {.session = s, .first = 0, .n_rows = n, .prompt = true, .last_logits = true};
    trol_status status = session_forward(&rows, 1, error);
    s->logits_callback = callback;
    s->observer = observer;
    s->n_picture_scope = scope;
    s->stats = stats;
    if (status == TROL_OK) {
        s->stats.decoded_tokens++;
        s->n_prompt = n;
    } else {
        s->prompt_total = old_total;
        session_drop(s, 0); /* the keys of two ropes are mixed by now */
    }
    return status;
}

static trol_status decode_batch(trol_session *const *sessions, const int32_t *tokens, size_t n, trol_error *error) {
    session_rows *items = calloc(n, sizeof *items);
    size_t n_items = 0;
    if (!items)
        return fail_memory(error, n * sizeof *items, "a batch");
    trol_status status = TROL_OK;
    for (size_t i = 0; i < n && status == TROL_OK; i++) {
        trol_session *s = sessions[i];
        limit_picture_scope(s);
        status = session_reserve_tokens(s, s->n_tokens + 1, error);
        if (status == TROL_OK && needs_recompute(s)) {
            status = recompute(s, tokens[i], error);
        } else if (status == TROL_OK) {
            s->tokens[s->n_tokens] = tokens[i];
            items[n_items++] = (session_rows){.session = s, .first = s->n_tokens, .n_rows = 1, .last_logits = true};
        }
    }
    if (status == TROL_OK && n_items > 0)
        status = session_forward(items, n_items, error);
    free(items);
    return status;
}

trol_status trol_decode_batch(trol_session *const *sessions, const int32_t *tokens, size_t n, trol_error *error) {
    if (n == 0)
        return TROL_OK;
    if (!sessions || !tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_decode_batch: the sessions or the tokens are NULL");
    for (size_t i = 0; i < n; i++) {
        TRY(check_decode(sessions[i], tokens[i], error));
        TRY(take_cancel(sessions[i], error));
        if (sessions[i]->model != sessions[0]->model)
            return fail(error, TROL_ERROR_ARGUMENT, "trol_decode_batch: session %zu is of another model than the first",
                        i);
        for (size_t k = 0; k < i; k++)
            if (sessions[k] == sessions[i])
                return fail(error, TROL_ERROR_ARGUMENT, "trol_decode_batch: sessions %zu and %zu are the same", k, i);
    }
    const double start = clock_seconds();
    trol_status status = decode_batch(sessions, tokens, n, error);
    for (size_t i = 0; i < n; i++)
        sessions[i]->stats.decode_seconds += clock_seconds() - start;
    return status;
}

trol_status trol_session_decode(trol_session *s, int32_t token, trol_error *error) {
    return trol_decode_batch(&s, &token, 1, error);
}

static trol_status step_one(trol_step_item *item) {
    if (item->n_tokens > 0 && !item->tokens)
        return fail(item->error, TROL_ERROR_ARGUMENT, "trol_step: the tokens are NULL");
    TRY(session_check(item->session, "trol_step", item->error));
    if (item->session->in_prompt)
        return trol_session_prompt_append(item->session, item->tokens, item->n_tokens, item->error);
    for (size_t i = 0; i < item->n_tokens; i++)
        TRY(trol_session_decode(item->session, item->tokens[i], item->error));
    return TROL_OK;
}

trol_status trol_step(trol_step_item *items, size_t n, trol_error *error) {
    if (n > 0 && !items)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_step: the items are NULL");
    for (size_t i = 0; i < n; i++)
        items[i].status = step_one(&items[i]);
    return TROL_OK;
}

size_t trol_session_reusable(const trol_session *s, const int32_t *tokens, size_t n_tokens,
                             trol_features *const *features, size_t n_features) {
    if (!s || !tokens || (n_features > 0 && !features))
        return 0;
    const size_t limit = count_reusable(s, n_tokens), rows = count_equal_rows(s, features, n_features);
    const size_t valid = count_valid(s, rows);
    size_t n = 0;
    while (n < limit && n < valid && tokens[n] == s->tokens[n])
        n++;
    return n;
}

trol_status session_decode_many(trol_session *s, const int32_t *tokens, size_t n, float *all_logits,
                                trol_error *error) {
    for (size_t i = 0; i < n; i++)
        TRY(check_decode(s, tokens[i], error));
    TRY(take_cancel(s, error));
    const double start = clock_seconds();
    limit_picture_scope(s);
    TRY(session_reserve_tokens(s, s->n_tokens + n, error));
    memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    const session_rows rows = {
        .session = s, .first = s->n_tokens, .n_rows = n, .last_logits = true, .all_logits = all_logits};
    trol_status status = session_forward(&rows, 1, error);
    s->stats.decode_seconds += clock_seconds() - start;
    return status;
}

/* ---- the rest -------------------------------------------------------------------------------- */

const float *trol_session_logits(const trol_session *s) { return s && s->has_logits ? s->logits : NULL; }
size_t trol_session_n_tokens(const trol_session *s) { return s ? s->n_tokens : 0; }
const int32_t *trol_session_tokens(const trol_session *s) { return s ? s->tokens : NULL; }

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
    if (n_tokens > s->n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT,
                    "trol_session_truncate: the session holds %zu tokens, asked to keep %zu", s->n_tokens, n_tokens);
    session_drop(s, n_tokens);
    return TROL_OK;
}

static trol_status copy_into(const trol_session *s, trol_session *fork, trol_error *error) {
    fork->observer = s->observer;
    fork->observer_user = s->observer_user;
    fork->logits_callback = s->logits_callback;
    fork->logits_user = s->logits_user;
    TRY(session_reserve_tokens(fork, s->n_tokens, error));
    if (s->n_tokens > 0)
        memcpy(fork->tokens, s->tokens, s->n_tokens * sizeof *s->tokens);
    TRY(set_features(fork, s->features, s->n_features, error));
    TRY(kv_plane_share(&s->pass1, &fork->pass1, error));
    TRY(kv_plane_share(&s->pass2, &fork->pass2, error));
    fork->n_tokens = s->n_tokens;
    fork->n_prompt = s->n_prompt;
    fork->n_pass2 = s->n_pass2;
    fork->rope_variant = s->rope_variant;
    fork->rope_mixed = s->rope_mixed;
    fork->n_picture_scope = s->n_picture_scope;
    fork->prompt_total = s->prompt_total;
    fork->has_logits = s->has_logits;
    fork->has_pending = s->has_pending;
    fork->pending_token = s->pending_token;
    memcpy(fork->logits, s->logits, (size_t)s->model->config.decoder.vocab_size * sizeof *s->logits);
    return TROL_OK;
}

trol_status trol_session_fork(const trol_session *s, trol_session **fork, trol_error *error) {
    if (!fork)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_fork: the out-pointer is NULL");
    *fork = NULL;
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

int64_t trol_session_skipped_in_layer(const trol_session *s, int32_t layer) {
    return s && layer >= 0 && layer < s->model->config.decoder.n_layers ? s->n_skipped[layer] : 0;
}

void trol_session_get_stats(const trol_session *s, trol_session_stats *stats) {
    if (!s || !stats)
        return;
    trol_session_stats full = s->stats;
    for (int32_t i = 0; i < s->model->config.decoder.n_layers; i++)
        full.skipped_tokens += s->n_skipped[i];
    full.cache_bytes = kv_plane_bytes(&s->pass1) + kv_plane_bytes(&s->pass2);
    trol_error ignored;
    (void)!params_copy_out(stats, &full, sizeof full, "trol_session_stats", &ignored);
}
