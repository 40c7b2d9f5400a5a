/* step.c - from timelines' tokens to batches of the decoder: embeddings and image embeddings to rows, positions to
 * angles, keys and values to each timeline's planes, and the logits of the wanted rows.
 *
 * Items of the same traversal mode form a batch. Nothing visible to the caller changes until everything is computed;
 * then each item is committed or undone. */
#include "engine/step.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/ops.h"
#include "model/rope.h"

/* What is computed for an item until it is committed. */
typedef struct item_state {
    step_item *item;
    struct step_call *call;
    kv_plane scratch;   /* pass 2 of one layer, for a prompt whose pass 2 is not kept */
    float *logits;      /* [vocab_size]: to become item->logits */
    int64_t *n_skipped; /* [n_layers] */
    atomic_int overflow;
} item_state;

/* A call of step_run, and its current batch. */
typedef struct step_call {
    const trol_model *model;
    run r;
    trol_error error;   /* of the batch */
    item_state *states; /* [n], sorted */
    size_t n;
    bool together;
    item_state *group; /* [n_group]: of the batch */
    size_t n_group;
    decoder_batch batch;
    atomic_int cancel;
    atomic_llong done;
    int64_t total;
    double next_call;
} step_call;

static size_t first_token(const step_item *item) { return item->timeline->n_tokens; }

/* Whether the tokens go through every layer twice. A prompt of a single token does not in mode prompt: the authors'
 * code decides by the number of tokens in the call. */
static bool is_traversed(const step_item *item) {
    if (item->timeline->traversal == TROL_TRAVERSAL_PROMPT)
        return item->prompt && item->length > 1;
    return item->timeline->traversal == TROL_TRAVERSAL_ALL;
}

/* Pass 2 of a whole prompt in one piece is needed one layer at a time, unless a later turn may want it. */
static bool pass2_is_scratch(const step_item *item) {
    return item->timeline->traversal == TROL_TRAVERSAL_PROMPT && !item->keep_pass2 && first_token(item) == 0 &&
           item->n_tokens == item->length;
}

/* ---- stopping -------------------------------------------------------------------------------- */

/* Fails an item; its batch stops once no item needs it. */
static void stop_item(item_state *state, trol_status status, const char *sentence) {
    step_call *call = state->call;
    state->item->status = fail(state->item->error, status, "%s", sentence);
    bool wanted = false;
    for (size_t i = 0; i < call->n_group; i++)
        wanted = wanted || call->group[i].item->status == TROL_OK;
    if (!wanted || call->together)
        atomic_store(&call->cancel, 1);
}

/* An f16 cache holds at most 65,504: larger values would become infinite and spoil the answer. */
static void check_overflow(step_call *call) {
    for (size_t i = 0; i < call->n_group; i++)
        if (call->group[i].item->status == TROL_OK && atomic_load(&call->group[i].overflow))
            stop_item(&call->group[i], TROL_ERROR_UNSUPPORTED,
                      "a key or value is larger than 65504, the largest number of an f16 cache: cache_type q8 or f32 "
                      "(--cache-type q8, --cache-type f32) holds it");
}

/* Progress of one prompt, in proportion to that of the batch. */
static bool report_progress(const step_call *call, const step_item *item) {
    const double share = (double)atomic_load(&call->done) / (double)call->total;
    const int64_t done = (int64_t)first_token(item) + (int64_t)(share * (double)item->n_tokens);
    return item->progress(item->progress_user, TROL_STAGE_PREFILL, done, (int64_t)item->length) == 0;
}

/* Sessions' cancel flags and keys that overflowed; the progress callbacks at most 20 times a second. */
static void poll_call(void *user) {
    const double interval = 0.05;
    step_call *call = user;
    bool report = false;
    check_overflow(call);
    for (size_t i = 0; i < call->n_group; i++) {
        item_state *state = &call->group[i];
        if (state->item->status != TROL_OK)
            continue;
        if (atomic_load_explicit(state->item->cancel, memory_order_relaxed)) {
            atomic_store(state->item->cancel, 0);
            stop_item(state, TROL_ERROR_CANCELLED, "the session was cancelled");
        }
        report = report || (state->item->prompt && state->item->progress);
    }
    const double now = report ? clock_seconds() : 0;
    if (!report || now < call->next_call)
        return;
    call->next_call = now + interval;
    for (size_t i = 0; i < call->n_group; i++) {
        const step_item *item = call->group[i].item;
        if (item->status == TROL_OK && item->prompt && item->progress && !report_progress(call, item))
            stop_item(&call->group[i], TROL_ERROR_CANCELLED,
                      "the progress callback asked to stop, the prompt was "
                      "cancelled");
    }
}

/* An item's observer, as the decoder calls it. */
static int observe_item(void *user, const char *stage, int32_t layer, int64_t first, int64_t n_rows, int64_t n_columns,
                        const float *values) {
    item_state *state = user;
    const step_item *item = state->item;
    if (item->status == TROL_OK &&
        item->observer(item->observer_user, stage, layer, first, n_rows, n_columns, values) != 0)
        stop_item(state, TROL_ERROR_CANCELLED, "the observer asked to stop");
    return atomic_load(&state->call->cancel);
}

/* ---- the batch ------------------------------------------------------------------------------- */

/* x: each token's embedding, or its image's row. */
static void embed_rows(step_call *call, const step_item *item, int64_t first_row, bool *is_image) {
    const matrix *table = &call->model->weights->decoder.embeddings;
    const int64_t hidden = table->columns;
    const size_t row_bytes = (size_t)hidden * element_bytes(table->type);
    for (size_t i = 0; i < item->n_tokens; i++) {
        const size_t token = first_token(item) + i;
        const float *image_row = timeline_image_row(item->timeline, token);
        float *row = call->batch.x + (first_row + (int64_t)i) * hidden;
        is_image[first_row + (int64_t)i] = image_row != NULL;
        if (image_row)
            memcpy(row, image_row, (size_t)hidden * sizeof *row);
        else
            ops_to_float(&call->r, table->type,
                         (const char *)table->data + (size_t)item->timeline->ids[token] * row_bytes, row, hidden);
    }
}

/* Angles of an item's rows: rope depends on the length of the whole prompt, or of the text up to an answer token. */
static void rope_rows(const step_call *call, const step_item *item, int64_t first_row, int32_t *positions, float *cos,
                      float *sin) {
    const decoder_config *c = &call->model->config.decoder;
    const int64_t half = c->head_dim / 2, n = (int64_t)item->n_tokens;
    for (int64_t i = 0; i < n; i++)
        positions[first_row + i] = (int32_t)(first_token(item) + (size_t)i);
    if (item->prompt) {
        rope_angles(&c->rope, c->head_dim, (int64_t)item->length, positions + first_row, n, cos + first_row * half,
                    sin + first_row * half);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = first_row + i;
        rope_angles(&c->rope, c->head_dim, (int64_t)positions[row] + 1, positions + row, 1, cos + row * half,
                    sin + row * half);
    }
}

static trol_status reserve_planes(item_state *state, decoder_segment *segment, trol_error *error) {
    const step_item *item = state->item;
    timeline *t = item->timeline;
    const int64_t first = (int64_t)first_token(item), last = first + (int64_t)item->n_tokens;
    TRY(kv_plane_reserve(&t->pass1, first, last, error));
    segment->pass1 = &t->pass1;
    segment->pass2 = NULL;
    if (!is_traversed(item))
        return TROL_OK;
    kv_plane *plane = pass2_is_scratch(item) ? &state->scratch : &t->pass2;
    TRY(kv_plane_reserve(plane, first, last, error));
    segment->pass2 = plane;
    return TROL_OK;
}

static trol_status fill_segment(step_call *call, item_state *state, int64_t first_row, decoder_segment *segment) {
    const step_item *item = state->item;
    const timeline *t = item->timeline;
    *segment = (decoder_segment){.first_row = first_row,
                                 .n_rows = (int64_t)item->n_tokens,
                                 .answer = !item->prompt,
                                 .traversal_skip = item->traversal_skip,
                                 .n_skipped = state->n_skipped,
                                 .gates = t->gates ? t->gates + first_token(item) : NULL,
                                 .gates_stride = (int64_t)t->gates_capacity,
                                 .overflow = &state->overflow,
                                 .observer = item->prompt && item->observer ? observe_item : NULL,
                                 .observer_user = state};
    return reserve_planes(state, segment, &call->error);
}

static trol_status alloc_batch(step_call *call, size_t n_rows, decoder_segment **segments, int32_t **positions,
                               float **cos, float **sin, bool **is_image, bool **wants_logits) {
    const decoder_config *c = &call->model->config.decoder;
    const run *r = &call->r;
    const size_t half = (size_t)c->head_dim / 2;
    TRY(run_alloc(r, call->n_group, sizeof **segments, (void **)segments));
    TRY(run_alloc(r, n_rows * (size_t)c->hidden_size, sizeof(float), (void **)&call->batch.x));
    TRY(run_alloc(r, n_rows, sizeof **positions, (void **)positions));
    TRY(run_alloc(r, n_rows * half, sizeof **cos, (void **)cos));
    TRY(run_alloc(r, n_rows * half, sizeof **sin, (void **)sin));
    TRY(run_alloc(r, n_rows, sizeof **is_image, (void **)is_image));
    TRY(run_alloc(r, n_rows, sizeof **wants_logits, (void **)wants_logits));
    memset(*wants_logits, 0, n_rows * sizeof **wants_logits);
    return TROL_OK;
}

static trol_status build_batch(step_call *call) {
    decoder_segment *segments;
    int32_t *positions;
    float *cos, *sin;
    bool *is_image, *wants_logits;
    size_t n_rows = 0;
    int64_t row = 0;
    for (size_t i = 0; i < call->n_group; i++)
        n_rows += call->group[i].item->n_tokens;
    call->batch = (decoder_batch){0};
    call->total = 0;
    TRY(alloc_batch(call, n_rows, &segments, &positions, &cos, &sin, &is_image, &wants_logits));
    for (size_t i = 0; i < call->n_group; i++) {
        const step_item *item = call->group[i].item;
        TRY(fill_segment(call, &call->group[i], row, &segments[i]));
        embed_rows(call, item, row, is_image);
        rope_rows(call, item, row, positions, cos, sin);
        const bool all = item->all_logits || (item->prompt && item->logits_callback);
        for (size_t k = 0; k < item->n_tokens; k++)
            wants_logits[row + (int64_t)k] = all || (item->logits && k + 1 == item->n_tokens);
        call->total += (is_traversed(item) ? 2 : 1) * call->model->config.decoder.n_layers * (int64_t)item->n_tokens;
        row += (int64_t)item->n_tokens;
    }
    call->batch.n_rows = row;
    call->batch.positions = positions;
    call->batch.cos = cos;
    call->batch.sin = sin;
    call->batch.is_image = is_image;
    call->batch.wants_logits = wants_logits;
    call->batch.segments = segments;
    call->batch.n_segments = (int64_t)call->n_group;
    call->batch.progress = &call->done;
    return TROL_OK;
}

/* ---- logits ---------------------------------------------------------------------------------- */

enum { LOGITS_ROWS = 16 }; /* rows at a time: a row of logits may be 400 kB */

/* Logits of one row, token k of its item, to where they are wanted. */
static void deliver_logits(item_state *state, size_t k, const float *row, int64_t vocab) {
    const step_item *item = state->item;
    if (item->status != TROL_OK)
        return;
    if (item->all_logits)
        memcpy(item->all_logits + k * (size_t)vocab, row, (size_t)vocab * sizeof *row);
    if (item->logits && k + 1 == item->n_tokens)
        memcpy(state->logits, row, (size_t)vocab * sizeof *row);
    if (item->prompt && item->logits_callback &&
        item->logits_callback(item->logits_user, (int64_t)(first_token(item) + k), row, (int32_t)vocab) != 0)
        stop_item(state, TROL_ERROR_CANCELLED, "the logits callback asked to stop");
}

/* Final norm and output head of n rows of the batch. */
static trol_status compute_rows(step_call *call, const int64_t *rows, int64_t n, float *x, float *logits) {
    const decoder_config *c = &call->model->config.decoder;
    const int64_t hidden = c->hidden_size;
    for (int64_t i = 0; i < n; i++)
        memcpy(x + i * hidden, call->batch.x + rows[i] * hidden, (size_t)hidden * sizeof *x);
    TRY(decoder_logits(&call->r, &call->model->decoder, x, n, logits));
    const decoder_segment *segments = call->batch.segments;
    size_t index = 0;
    for (int64_t i = 0; i < n; i++) {
        while (rows[i] >= segments[index].first_row + segments[index].n_rows)
            index++;
        deliver_logits(&call->group[index], (size_t)(rows[i] - segments[index].first_row), logits + i * c->vocab_size,
                       c->vocab_size);
    }
    return TROL_OK;
}

static trol_status compute_logits(step_call *call) {
    const decoder_config *c = &call->model->config.decoder;
    int64_t rows[LOGITS_ROWS], n = 0;
    float *x, *logits;
    TRY(run_alloc(&call->r, (size_t)(LOGITS_ROWS * c->hidden_size), sizeof *x, (void **)&x));
    TRY(run_alloc(&call->r, (size_t)(LOGITS_ROWS * c->vocab_size), sizeof *logits, (void **)&logits));
    for (int64_t row = 0; row <= call->batch.n_rows; row++) {
        if (n > 0 && (n == LOGITS_ROWS || row == call->batch.n_rows)) {
            TRY(compute_rows(call, rows, n, x, logits));
            n = 0;
        }
        if (row < call->batch.n_rows && call->batch.wants_logits[row])
            rows[n++] = row;
    }
    return TROL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static trol_status run_batch(step_call *call) {
    TRY(build_batch(call));
    trol_status status = decoder_forward(&call->r, &call->model->decoder, &call->batch);
    check_overflow(call);
    return status == TROL_OK ? compute_logits(call) : status;
}

/* One batch: the items of one traversal mode, those that are traversed first, and prompts before answers. */
static void run_group(step_call *call) {
    const size_t mark = workspace_mark(call->r.space);
    atomic_store(&call->cancel, 0);
    atomic_store(&call->done, 0);
    trol_status status = run_batch(call);
    for (size_t i = 0; i < call->n_group && status != TROL_OK; i++)
        if (call->group[i].item->status == TROL_OK && !(status == TROL_ERROR_CANCELLED && call->together))
            call->group[i].item->status = fail(call->group[i].item->error, status, "%s", call->error.message);
    workspace_release(call->r.space, mark);
}

static trol_status failure_of(const step_call *call) {
    for (size_t i = 0; i < call->n; i++)
        if (call->states[i].item->status != TROL_OK)
            return call->states[i].item->status;
    return TROL_OK;
}

static void commit(item_state *state) {
    const step_item *item = state->item;
    const decoder_config *c = &item->timeline->model->config.decoder;
    if (item->logits)
        memcpy(item->logits, state->logits, (size_t)c->vocab_size * sizeof *item->logits);
    for (int64_t i = 0; i < c->n_layers; i++)
        item->n_skipped[i] += state->n_skipped[i];
    const bool kept = is_traversed(item) && !pass2_is_scratch(item);
    if (!item->deferred)
        timeline_commit(item->timeline, item->n_tokens, item->prompt, item->length, kept);
}

/* Each item is committed or undone. */
static void finish(step_call *call) {
    const trol_status failure = call->together ? failure_of(call) : TROL_OK;
    for (size_t i = 0; i < call->n; i++) {
        step_item *item = call->states[i].item;
        if (item->status == TROL_OK && failure != TROL_OK)
            item->status = failure;
        if (item->status == TROL_OK)
            commit(&call->states[i]);
        else
            timeline_truncate(item->timeline, item->timeline->n_tokens);
        item->workspace_bytes = (int64_t)workspace_peak(call->r.space);
        kv_plane_free(&call->states[i].scratch);
    }
}

/* By traversal mode, then traversed items first, then prompts first. */
static int place_of(const step_item *item) {
    return (int)item->timeline->traversal * 4 + (is_traversed(item) ? 0 : 2) + (item->prompt ? 0 : 1);
}

static trol_status prepare(step_call *call, step_item *const *items, size_t n) {
    const decoder_config *c = &call->model->config.decoder;
    float *logits;
    int64_t *n_skipped;
    TRY(run_alloc(&call->r, n, sizeof *call->states, (void **)&call->states));
    TRY(run_alloc(&call->r, n * (size_t)c->vocab_size, sizeof *logits, (void **)&logits));
    TRY(run_alloc(&call->r, n * (size_t)c->n_layers, sizeof *n_skipped, (void **)&n_skipped));
    memset(n_skipped, 0, n * (size_t)c->n_layers * sizeof *n_skipped);
    for (int place = 0; call->n < n; place++)
        for (size_t i = 0; i < n; i++) {
            if (place_of(items[i]) != place)
                continue;
            item_state *state = &call->states[call->n];
            *state = (item_state){.item = items[i],
                                  .call = call,
                                  .logits = logits + call->n * (size_t)c->vocab_size,
                                  .n_skipped = n_skipped + call->n * (size_t)c->n_layers};
            kv_shape shape = items[i]->timeline->pass1.shape;
            shape.n_layers = 1;
            kv_plane_init(&state->scratch, shape);
            call->n++;
        }
    return TROL_OK;
}

static void run_groups(step_call *call) {
    for (size_t first = 0, last; first < call->n; first = last) {
        const trol_traversal mode = call->states[first].item->timeline->traversal;
        for (last = first + 1; last < call->n && call->states[last].item->timeline->traversal == mode;)
            last++;
        call->group = call->states + first;
        call->n_group = last - first;
        if (!call->together || failure_of(call) == TROL_OK)
            run_group(call);
    }
}

static void fail_all(step_item *const *items, size_t n, trol_status status, const trol_error *error) {
    for (size_t i = 0; i < n; i++) {
        items[i]->status = fail(items[i]->error, status, "%s", error->message);
        timeline_truncate(items[i]->timeline, items[i]->timeline->n_tokens);
    }
}

void step_run(step_item *const *items, size_t n, bool together) {
    trol_model *model = (trol_model *)items[0]->timeline->model; /* whose workspaces are taken and returned */
    step_call call = {.model = model, .together = together};
    workspace *space;
    for (size_t i = 0; i < n; i++)
        items[i]->status = TROL_OK;
    trol_status status = model_take_workspace(model, &space, &call.error);
    if (status != TROL_OK) {
        fail_all(items, n, status, &call.error);
        return;
    }
    workspace_reset_peak(space);
    call.r = (run){.threads = model->threads,
                   .space = space,
                   .kernels = model->kernels,
                   .cancel = &call.cancel,
                   .error = &call.error,
                   .poll = poll_call,
                   .poll_user = &call};
    status = prepare(&call, items, n);
    if (status != TROL_OK) {
        fail_all(items, n, status, &call.error);
    } else {
        run_groups(&call);
        finish(&call);
    }
    model_return_workspace(model, space);
}
