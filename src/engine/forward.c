/* forward.c - from sessions' tokens to one batch of the decoder: embeddings and pictures into rows, positions into
 * angles, keys and values into each session's planes, and the wanted rows' logits out. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/session.h"
#include "kernels/ops.h"
#include "model/rope.h"

/* A batch while it is put together and run. */
typedef struct forward_call {
    trol_model *model;
    run r;
    const session_rows *items; /* [n]; those to traverse first */
    size_t n;
    decoder_batch batch;
    kv_plane *scratch; /* [n]: pass 2 of one layer, for prompts whose pass 2 is not kept */
    atomic_int cancel;
    atomic_llong done;
    int64_t total;
    double next_call;
} forward_call;

/* The session's own cancel flag, and the progress callback at most 20 times a second. */
static void poll_call(void *user) {
    const double interval = 0.05;
    forward_call *call = user;
    for (size_t i = 0; i < call->n; i++)
        if (atomic_load_explicit(&call->items[i].session->cancel, memory_order_relaxed))
            atomic_store(&call->cancel, 1);
    const session_rows *item = &call->items[0];
    if (!item->prompt || !item->session->params.progress)
        return;
    double now = clock_seconds();
    if (now < call->next_call)
        return;
    call->next_call = now + interval;
    const int64_t tokens = (int64_t)item->n_rows, first = (int64_t)item->first;
    const int64_t done = first + (int64_t)((double)atomic_load(&call->done) / (double)call->total * (double)tokens);
    if (item->session->params.progress(item->session->params.progress_user, TROL_STAGE_PREFILL, done,
                                       (int64_t)item->session->prompt_total) != 0)
        atomic_store(&call->cancel, 1);
}

/* Whether the rows go through every layer twice. A prompt of one token in all does not in mode prompt: the authors'
 * code goes by the number of tokens in its call. */
static bool is_traversed(const session_rows *item) {
    const trol_session *s = item->session;
    if (s->params.traversal == TROL_TRAVERSAL_PROMPT)
        return item->prompt && s->prompt_total > 1;
    return s->params.traversal == TROL_TRAVERSAL_ALL;
}

/* Pass 2 of a whole prompt in one piece is needed one layer at a time, unless a later turn may want it. */
static bool pass2_is_scratch(const session_rows *item) {
    const trol_session *s = item->session;
    return s->params.traversal == TROL_TRAVERSAL_PROMPT && !s->params.keep_pass2 && item->first == 0 &&
           item->n_rows == s->prompt_total;
}

/* Row `row` of the batch is image token number k of its session's pictures. */
static const float *picture_row(const trol_session *s, size_t k, int64_t hidden) {
    size_t i = 0;
    while (k >= (size_t)s->features[i]->n_tokens)
        k -= (size_t)s->features[i++]->n_tokens;
    return s->features[i]->data + k * (size_t)hidden;
}

/* x: each token's embedding, or its picture's row. */
static void embed_rows(forward_call *call, const session_rows *item, int64_t first_row, bool *is_image) {
    const trol_session *s = item->session;
    const matrix *table = &call->model->weights->decoder.embeddings;
    const int64_t hidden = table->columns;
    size_t n_image = 0;
    for (size_t i = 0; item->prompt && i < item->first; i++)
        n_image += i < s->n_picture_scope && s->tokens[i] == call->model->image_token;
    for (size_t i = 0; i < item->n_rows; i++) {
        const size_t position = item->first + i;
        const int32_t token = s->tokens[position];
        float *row = call->batch.x + (first_row + (int64_t)i) * hidden;
        bool image = item->prompt && position < s->n_picture_scope && token == call->model->image_token;
        is_image[first_row + (int64_t)i] = image;
        if (image) {
            memcpy(row, picture_row(s, n_image++, hidden), (size_t)hidden * sizeof *row);
        } else {
            const char *data = table->data;
            ops_to_float(&call->r, table->type, data + (size_t)token * (size_t)hidden * element_bytes(table->type), row,
                         hidden);
        }
    }
}

/* Angles of an item's rows: the length that rope goes by is the whole prompt's, or what an answer token makes of it. */
static void rope_rows(const forward_call *call, const session_rows *item, int64_t first_row, int32_t *positions,
                      float *cos, float *sin) {
    const decoder_config *c = &call->model->config.decoder;
    const int64_t half = c->head_dim / 2, n = (int64_t)item->n_rows;
    for (int64_t i = 0; i < n; i++)
        positions[first_row + i] = (int32_t)(item->first + (size_t)i);
    if (item->prompt) {
        rope_angles(&c->rope, c->head_dim, (int64_t)item->session->prompt_total, positions + first_row, n,
                    cos + first_row * half, sin + first_row * half);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = first_row + i;
        rope_angles(&c->rope, c->head_dim, (int64_t)positions[row] + 1, positions + row, 1, cos + row * half,
                    sin + row * half);
    }
}

static trol_status reserve_planes(forward_call *call, size_t index, decoder_segment *segment) {
    const session_rows *item = &call->items[index];
    trol_session *s = item->session;
    const int64_t first = (int64_t)item->first, last = first + (int64_t)item->n_rows;
    TRY(kv_plane_reserve(&s->pass1, first, last, call->r.error));
    segment->pass1 = &s->pass1;
    segment->pass2 = NULL;
    if (!is_traversed(item))
        return TROL_OK;
    kv_plane *plane = &s->pass2;
    if (pass2_is_scratch(item)) {
        plane = &call->scratch[index];
        kv_shape shape = s->pass1.shape;
        shape.n_layers = 1;
        kv_plane_init(plane, shape);
    }
    TRY(kv_plane_reserve(plane, first, last, call->r.error));
    segment->pass2 = plane;
    return TROL_OK;
}

static trol_status build_batch(forward_call *call) {
    const decoder_config *c = &call->model->config.decoder;
    decoder_batch *batch = &call->batch;
    size_t n_rows = 0, half = (size_t)c->head_dim / 2;
    for (size_t i = 0; i < call->n; i++)
        n_rows += call->items[i].n_rows;
    decoder_segment *segments;
    int32_t *positions;
    float *cos, *sin;
    bool *is_image, *wants_logits;
    TRY(run_alloc(&call->r, call->n, sizeof *segments, (void **)&segments));
    TRY(run_alloc(&call->r, n_rows * (size_t)c->hidden_size, sizeof *batch->x, (void **)&batch->x));
    TRY(run_alloc(&call->r, n_rows, sizeof *positions, (void **)&positions));
    TRY(run_alloc(&call->r, n_rows * half, sizeof *cos, (void **)&cos));
    TRY(run_alloc(&call->r, n_rows * half, sizeof *sin, (void **)&sin));
    TRY(run_alloc(&call->r, n_rows, sizeof *is_image, (void **)&is_image));
    TRY(run_alloc(&call->r, n_rows, sizeof *wants_logits, (void **)&wants_logits));
    memset(wants_logits, 0, n_rows * sizeof *wants_logits);

    int64_t row = 0;
    for (size_t i = 0; i < call->n; i++) {
        const session_rows *item = &call->items[i];
        trol_session *s = item->session;
        segments[i] = (decoder_segment){.first_row = row,
                                        .n_rows = (int64_t)item->n_rows,
                                        .answer = !item->prompt,
                                        .traversal_skip = s->params.traversal_skip,
                                        .n_skipped = s->n_skipped,
                                        .observer = item->prompt ? s->observer : NULL,
                                        .observer_user = s->observer_user};
        TRY(reserve_planes(call, i, &segments[i]));
        embed_rows(call, item, row, is_image);
        rope_rows(call, item, row, positions, cos, sin);
        const bool all = item->all_logits || (item->prompt && s->logits_callback);
        for (size_t k = 0; k < item->n_rows; k++)
            wants_logits[row + (int64_t)k] = all || (item->last_logits && k + 1 == item->n_rows);
        call->total += (is_traversed(item) ? 2 : 1) * c->n_layers * (int64_t)item->n_rows;
        row += (int64_t)item->n_rows;
    }
    batch->n_rows = row;
    batch->positions = positions;
    batch->cos = cos;
    batch->sin = sin;
    batch->is_image = is_image;
    batch->wants_logits = wants_logits;
    batch->segments = segments;
    batch->n_segments = (int64_t)call->n;
    batch->progress = &call->done;
    return TROL_OK;
}

/* ---- logits ---------------------------------------------------------------------------------- */

enum { LOGITS_ROWS = 16 }; /* rows at a time: a row of logits may be 400 kB */

/* Logits of wanted rows to where their session wants them: the callback, all_logits, session->logits. */
static trol_status deliver_logits(forward_call *call, const int64_t *rows, int64_t n, const float *logits) {
    const int64_t vocab = call->model->config.decoder.vocab_size;
    for (int64_t i = 0; i < n; i++) {
        size_t index = 0;
        while (rows[i] >= call->batch.segments[index].first_row + call->batch.segments[index].n_rows)
            index++;
        const session_rows *item = &call->items[index];
        trol_session *s = item->session;
        const size_t k = (size_t)(rows[i] - call->batch.segments[index].first_row);
        const float *row = logits + i * vocab;
        if (item->all_logits)
            memcpy(item->all_logits + k * (size_t)vocab, row, (size_t)vocab * sizeof *row);
        if (item->prompt && s->logits_callback &&
            s->logits_callback(s->logits_user, (int64_t)(item->first + k), row, (int32_t)vocab) != 0)
            return fail(call->r.error, TROL_ERROR_CANCELLED, "the logits callback asked to stop");
        if (item->last_logits && k + 1 == item->n_rows)
            memcpy(s->logits, row, (size_t)vocab * sizeof *row);
    }
    return TROL_OK;
}

static trol_status compute_logits(forward_call *call) {
    const decoder_config *c = &call->model->config.decoder;
    const int64_t hidden = c->hidden_size;
    int64_t rows[LOGITS_ROWS], n = 0;
    float *x, *logits;
    TRY(run_alloc(&call->r, (size_t)(LOGITS_ROWS * hidden), sizeof *x, (void **)&x));
    TRY(run_alloc(&call->r, (size_t)(LOGITS_ROWS * c->vocab_size), sizeof *logits, (void **)&logits));
    for (int64_t row = 0; row <= call->batch.n_rows; row++) {
        if (n > 0 && (n == LOGITS_ROWS || row == call->batch.n_rows)) {
            TRY(decoder_logits(&call->r, &call->model->decoder, x, n, logits));
            TRY(deliver_logits(call, rows, n, logits));
            n = 0;
        }
        if (row < call->batch.n_rows && call->batch.wants_logits[row]) {
            memcpy(x + n * hidden, call->batch.x + row * hidden, (size_t)hidden * sizeof *x);
            rows[n++] = row;
        }
    }
    return TROL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static trol_status run_batch(forward_call *call) {
    TRY(build_batch(call));
    TRY(decoder_forward(&call->r, &call->model->decoder, &call->batch));
    return compute_logits(call);
}

/* On success the rows belong to their sessions. */
static void count_rows(const session_rows *item) {
    trol_session *s = item->session;
    const decoder_config *c = &s->model->config.decoder;
    s->n_tokens = item->first + item->n_rows;
    s->has_pending = false;
    if (is_traversed(item) && !pass2_is_scratch(item))
        s->n_pass2 = s->n_tokens;
    if (item->last_logits)
        s->has_logits = true;
    if (item->prompt) {
        s->rope_variant = rope_variant(&c->rope, c->head_dim, (int64_t)s->prompt_total);
        s->rope_mixed = false;
        s->stats.prompt_tokens += (int64_t)item->n_rows;
        for (size_t i = item->first; i < s->n_tokens; i++)
            s->stats.image_tokens += s->tokens[i] == s->model->image_token;
    } else {
        s->stats.decoded_tokens += (int64_t)item->n_rows;
        if (rope_variant(&c->rope, c->head_dim, (int64_t)s->n_tokens) != s->rope_variant)
            s->rope_mixed = true;
    }
}

/* Traversed items first, as the decoder wants them; the order is otherwise kept. */
static void sort_items(session_rows *sorted, const session_rows *items, size_t n) {
    size_t count = 0;
    for (int traversed = 1; traversed >= 0; traversed--)
        for (size_t i = 0; i < n; i++)
            if (is_traversed(&items[i]) == (traversed == 1))
                sorted[count++] = items[i];
}

trol_status session_forward(const session_rows *items, size_t n, trol_error *error) {
    forward_call state = {.model = items[0].session->model, .n = n};
    workspace *space;
    session_rows *sorted;
    TRY(model_take_workspace(state.model, &space, error));
    state.r = (run){.threads = state.model->threads,
                    .space = space,
                    .kernels = state.model->kernels,
                    .cancel = &state.cancel,
                    .error = error,
                    .poll = poll_call,
                    .poll_user = &state};
    trol_status status;
    TRY_GOTO(run_alloc(&state.r, n, sizeof *sorted, (void **)&sorted), done);
    sort_items(sorted, items, n);
    state.items = sorted;
    TRY_GOTO(run_alloc(&state.r, n, sizeof *state.scratch, (void **)&state.scratch), done);
    memset(state.scratch, 0, n * sizeof *state.scratch);
    status = run_batch(&state);
    for (size_t i = 0; i < n; i++) {
        trol_session *s = sorted[i].session;
        if (status == TROL_OK)
            count_rows(&sorted[i]);
        else
            session_drop(s, s->n_tokens); /* the blocks reserved for the rows */
        if (status == TROL_ERROR_CANCELLED)
            atomic_store(&s->cancel, 0);
        if ((int64_t)workspace_peak(space) > s->stats.workspace_bytes)
            s->stats.workspace_bytes = (int64_t)workspace_peak(space);
        kv_plane_free(&state.scratch[i]);
    }
done:
    model_return_workspace(state.model, space);
    return status;
}
