/* decoder.c - one decoder layer for both families, and the traversal.
 *
 *     y1 = L(x)                          pass 1, keys and values K1, V1
 *     y2 = L(y1)                         pass 2, same weights, keys and values K2, V2 made from y1
 *     s = 0.5 * tanh(w . y1 + b) + 0.5 the TroL-Mixer: one scalar per token
 *     x  = (1 - s) * y1 + s * y2         goes to the next layer
 *
 * A prompt is processed layer by layer, so that pass 2 needs scratch for the K2, V2 of one layer only. Within a layer
 * rows are processed in tiles, which are causal: a tile's keys are stored before it attends, and later tiles' keys are
 * not needed. Rows that are finished once their keys and values are stored (in the last layer those whose logits are
 * not wanted; with traversal_skip those with a small gate) stop there; the others are "selected".
 *
 * A row's kernels depend only on its phase and its place: answer rows use the small kernels, prompt rows the large ones
 * however few they are, except that what follows the last keys and values, which only the logits need, uses the small
 * kernels. */
#include "model/decoder.h"

#include <math.h>
#include <string.h>

#include "kernels/ops.h"

enum { TILE_ROWS = 1536, STORE_ROWS = 32 };

/* One batch going through the layers. */
typedef struct forward {
    const run *r;
    const decoder *d;
    decoder_batch *batch;
    attention_source *sources; /* [n_segments] of the current layer and pass */
    int64_t n_traversed;       /* rows 0 .. n_traversed - 1 are */
    bool stop_early;           /* no observer: only rows whose logits are wanted finish the last layer */
} forward;

/* One tile's rows with everything that a layer computes from them; `rows` may shrink to the selected ones. */
typedef struct tile {
    int64_t n_rows;
    int64_t *rows;         /* [n_rows]: which rows of the batch these are, ascending */
    int32_t *positions;    /* [n_rows] */
    bool *decoded;         /* [n_rows]: rows that use the kernels for answers */
    float *x;              /* [n_rows, hidden_size] */
    float *normed;         /* [n_rows, hidden_size] */
    float *qkv;            /* [n_rows, qkv_width] */
    float *attended;       /* [n_rows, n_heads * head_dim] */
    float *ffn;            /* [n_rows, intermediate_size] */
    row_range *image_rows; /* [n_image_rows] ranges of the tile */
    int64_t n_image_rows;
} tile;

static int64_t qkv_width(const decoder_config *c) { return ((int64_t)c->n_heads + 2 * c->n_kv_heads) * c->head_dim; }

static trol_status tile_alloc(const run *r, const decoder_config *c, int64_t n, tile *t) {
    size_t rows = (size_t)n, heads = (size_t)c->n_heads * (size_t)c->head_dim;
    TRY(run_alloc(r, rows, sizeof *t->rows, (void **)&t->rows));
    TRY(run_alloc(r, rows, sizeof *t->positions, (void **)&t->positions));
    TRY(run_alloc(r, rows, sizeof *t->decoded, (void **)&t->decoded));
    TRY(run_alloc(r, rows, sizeof *t->image_rows, (void **)&t->image_rows));
    TRY(run_alloc(r, rows * (size_t)c->hidden_size, sizeof(float), (void **)&t->normed));
    TRY(run_alloc(r, rows * (size_t)qkv_width(c), sizeof(float), (void **)&t->qkv));
    TRY(run_alloc(r, rows * heads, sizeof(float), (void **)&t->attended));
    return run_alloc(r, rows * (size_t)c->intermediate_size, sizeof(float), (void **)&t->ffn);
}

/* Ranges of image rows among the tile's rows. */
static void find_image_rows(const decoder_batch *batch, tile *t) {
    t->n_image_rows = 0;
    for (int64_t i = 0; batch->is_image && i < t->n_rows; i++) {
        if (!batch->is_image[t->rows[i]])
            continue;
        row_range *last = t->n_image_rows ? &t->image_rows[t->n_image_rows - 1] : NULL;
        if (last && last->first + last->count == i)
            last->count++;
        else
            t->image_rows[t->n_image_rows++] = (row_range){i, 1};
    }
}

/* Image rows of rows first .. first + n - 1, counted from there, in the workspace. */
static trol_status image_rows_of(const forward *f, const tile *t, int64_t first, int64_t n, activations *a) {
    row_range *ranges;
    TRY(run_alloc(f->r, (size_t)t->n_image_rows, sizeof *ranges, (void **)&ranges));
    a->lora_rows = ranges;
    for (int64_t i = 0; i < t->n_image_rows; i++) {
        int64_t begin = t->image_rows[i].first - first, end = begin + t->image_rows[i].count;
        begin = begin < 0 ? 0 : begin;
        end = end > n ? n : end;
        if (begin < end)
            ranges[a->n_lora_rows++] = (row_range){begin, end - begin};
    }
    return TROL_OK;
}

/* Alternating runs of rows that are not decoded and rows that are; usually there is only one. */
static trol_status apply_linear(const forward *f, const tile *t, const float *input, int64_t n_columns, product p) {
    for (int64_t first = 0, last = 0; first < t->n_rows; first = last) {
        while (last < t->n_rows && !t->decoded[last])
            last++;
        int64_t n_prompt_rows = last - first;
        while (last < t->n_rows && t->decoded[last])
            last++;
        activations a = activations_of(input + first * n_columns, last - first, n_columns, n_columns);
        a.n_prompt_rows = n_prompt_rows;
        TRY(image_rows_of(f, t, first, last - first, &a));
        TRY(linear_apply(f->r, f->d->arithmetic, &a, &p, 1));
        p.out += (last - first) * p.out_stride;
    }
    return TROL_OK;
}

static trol_status tile_linear(const forward *f, const tile *t, const float *input, int64_t n_columns,
                               const product *p) {
    size_t mark = workspace_mark(f->r->space);
    trol_status status = apply_linear(f, t, input, n_columns, *p);
    workspace_release(f->r->space, mark);
    return status;
}

/* ---- keys and values ------------------------------------------------------------------------- */

typedef struct store_task {
    const forward *f;
    const tile *t;
    int64_t layer;
    int pass;
} store_task;

static const decoder_segment *segment_of(const decoder_batch *batch, int64_t row) {
    const decoder_segment *s = batch->segments;
    while (row >= s->first_row + s->n_rows)
        s++;
    return s;
}

static void store_rows(void *context, int64_t chunk, int thread) {
    (void)thread;
    const store_task *task = context;
    const forward *f = task->f;
    const decoder_config *c = f->d->config;
    const decoder_weights *w = f->d->weights;
    for (int64_t i = chunk * STORE_ROWS; i < task->t->n_rows && i < (chunk + 1) * STORE_ROWS; i++) {
        const decoder_segment *s = segment_of(f->batch, task->t->rows[i]);
        const kv_plane *plane = task->pass == 1 ? s->pass1 : s->pass2;
        const float *row = task->t->qkv + i * qkv_width(c);
        const kv_codec *codec = &f->r->kernels->kv[plane->shape.type];
        const int64_t layer = plane->shape.n_layers == 1 ? 0 : task->layer, stride = kv_head_stride(&plane->shape);
        for (int value = 0; value < 2; value++) {
            const int32_t *offsets = value ? w->v_offsets : w->k_offsets;
            unsigned char *token = kv_plane_token(plane, layer, value, task->t->positions[i]);
            for (int32_t g = 0; g < c->n_kv_heads; g++, token += stride)
                if (!codec->store(row + offsets[g], token, c->head_dim))
                    atomic_store_explicit(s->overflow, 1, memory_order_relaxed);
        }
    }
}

/* ---- one layer, one tile --------------------------------------------------------------------- */

/* Queries, keys and values of the tile, rotated; keys and values go to the cache. */
static trol_status project_qkv(const forward *f, int64_t layer, int pass, tile *t) {
    const decoder_config *c = f->d->config;
    const decoder_layer_weights *w = &f->d->weights->layers[layer];
    const int64_t half = c->head_dim / 2;
    TRY(ops_rms_norm(f->r, t->x, c->hidden_size, t->normed, c->hidden_size, t->n_rows, c->hidden_size,
                     w->attention_norm, c->rms_norm_eps));
    const product p = {.linear = &w->qkv, .epilogue = EPILOGUE_STORE, .out = t->qkv, .out_stride = qkv_width(c)};
    TRY(tile_linear(f, t, t->normed, c->hidden_size, &p));
    TRY(ops_rope(f->r, t->qkv, qkv_width(c), t->n_rows, f->d->weights->qk_offsets, c->n_heads + c->n_kv_heads,
                 c->head_dim, f->batch->cos + t->rows[0] * half, f->batch->sin + t->rows[0] * half));
    store_task task = {f, t, layer, pass};
    return run_chunks(f->r, (t->n_rows + STORE_ROWS - 1) / STORE_ROWS, store_rows, &task);
}

/* attended = softmax(q K^T / sqrt(head_dim)) V, each session's rows with its own keys. */
static trol_status attend(const forward *f, int64_t layer, const tile *t) {
    const decoder_config *c = f->d->config;
    const int64_t heads = (int64_t)c->n_heads * c->head_dim;
    attention_job *jobs;
    int64_t n_jobs = 0;
    TRY(run_alloc(f->r, (size_t)t->n_rows, sizeof *jobs, (void **)&jobs));
    for (int64_t i = 0; i < t->n_rows;) {
        const decoder_segment *s = segment_of(f->batch, t->rows[i]);
        int64_t last = i + 1;
        while (last < t->n_rows && t->rows[last] < s->first_row + s->n_rows && t->decoded[last] == t->decoded[i])
            last++;
        jobs[n_jobs++] = (attention_job){.q = t->qkv + i * qkv_width(c),
                                         .q_stride = qkv_width(c),
                                         .out = t->attended + i * heads,
                                         .out_stride = heads,
                                         .n_rows = last - i,
                                         .answer = t->decoded[i],
                                         .source = f->sources[s - f->batch->segments],
                                         .positions = t->positions + i};
        i = last;
    }
    const attention_shape shape = {.n_heads = c->n_heads,
                                   .n_kv_heads = c->n_kv_heads,
                                   .head_dim = c->head_dim,
                                   .q_offsets = f->d->weights->q_offsets,
                                   .scale = 1.0f / sqrtf((float)c->head_dim),
                                   .window = c->sliding_window,
                                   .bf16 = !linear_is_exact(f->d->arithmetic, &f->d->weights->layers[layer].qkv)};
    return attention_apply(f->r, &shape, jobs, n_jobs);
}

/* x += wo(attention), then x += w2(silu(w1(rms(x))) * w3(rms(x))). */
static trol_status finish_layer(const forward *f, int64_t layer, const tile *t) {
    const decoder_config *c = f->d->config;
    const decoder_layer_weights *w = &f->d->weights->layers[layer];
    const int64_t hidden = c->hidden_size;
    TRY(attend(f, layer, t));
    const product out = {.linear = &w->attention_out, .epilogue = EPILOGUE_ADD, .out = t->x, .out_stride = hidden};
    TRY(tile_linear(f, t, t->attended, (int64_t)c->n_heads * c->head_dim, &out));
    TRY(ops_rms_norm(f->r, t->x, hidden, t->normed, hidden, t->n_rows, hidden, w->ffn_norm, c->rms_norm_eps));
    const product gate_up = {.linear = &w->gate,
                             .second = &w->up,
                             .epilogue = EPILOGUE_SILU_MUL,
                             .out = t->ffn,
                             .out_stride = c->intermediate_size};
    TRY(tile_linear(f, t, t->normed, hidden, &gate_up));
    const product down = {.linear = &w->down, .epilogue = EPILOGUE_ADD, .out = t->x, .out_stride = hidden};
    return tile_linear(f, t, t->ffn, c->intermediate_size, &down);
}

/* Shrinks the tile to its selected rows, whose x is gathered into a separate buffer. */
static trol_status select_rows(const forward *f, const bool *selected, tile *t) {
    const decoder_config *c = f->d->config;
    const size_t width = (size_t)qkv_width(c), hidden = (size_t)c->hidden_size;
    float *gathered;
    TRY(run_alloc(f->r, (size_t)t->n_rows * hidden, sizeof *gathered, (void **)&gathered));
    int64_t n = 0;
    for (int64_t i = 0; i < t->n_rows; i++) {
        if (!selected[t->rows[i]])
            continue;
        memcpy(gathered + (size_t)n * hidden, t->x + (size_t)i * hidden, hidden * sizeof(float));
        if (n < i)
            memcpy(t->qkv + (size_t)n * width, t->qkv + (size_t)i * width, width * sizeof(float));
        t->decoded[n] = t->decoded[i];
        t->rows[n] = t->rows[i];
        t->positions[n++] = t->positions[i];
    }
    t->n_rows = n;
    t->x = gathered;
    find_image_rows(f->batch, t);
    return TROL_OK;
}

/* What remains of the last layer only affects the logits. */
static void decode_last_rows(const forward *f, int64_t layer, int pass, tile *t) {
    for (int64_t i = 0; layer + 1 == f->d->config->n_layers && i < t->n_rows; i++)
        if (f->batch->wants_logits[t->rows[i]] && (pass == 2 || t->rows[i] >= f->n_traversed))
            t->decoded[i] = true;
}

/* L for rows first .. first + n_rows - 1 of x [batch rows, hidden_size], in place. */
static trol_status layer_tile(const forward *f, int64_t layer, int pass, float *x, int64_t first, int64_t n_rows,
                              const bool *selected) {
    const int64_t hidden = f->d->config->hidden_size;
    tile t = {.n_rows = n_rows, .x = x + first * hidden};
    TRY(tile_alloc(f->r, f->d->config, n_rows, &t));
    for (int64_t i = 0; i < n_rows; i++) {
        t.rows[i] = first + i;
        t.positions[i] = f->batch->positions[first + i];
        t.decoded[i] = segment_of(f->batch, first + i)->answer;
    }
    find_image_rows(f->batch, &t);
    TRY(project_qkv(f, layer, pass, &t));
    decode_last_rows(f, layer, pass, &t);
    if (selected)
        TRY(select_rows(f, selected, &t));
    if (t.n_rows > 0)
        TRY(finish_layer(f, layer, &t));
    for (int64_t i = 0; selected && i < t.n_rows; i++)
        memcpy(x + t.rows[i] * hidden, t.x + i * hidden, (size_t)hidden * sizeof *x);
    if (f->batch->progress)
        atomic_fetch_add(f->batch->progress, n_rows);
    return TROL_OK;
}

/* ---- one layer, all rows --------------------------------------------------------------------- */

/* L_layer for rows 0 .. n_rows - 1 of x, in place, with the keys and values of one pass. selected [batch rows], NULL:
 * all. */
static trol_status layer_pass(forward *f, int64_t layer, int pass, float *x, int64_t n_rows, const bool *selected) {
    const run *r = f->r;
    size_t mark = workspace_mark(r->space);
    for (int64_t i = 0; i < f->batch->n_segments && f->batch->segments[i].first_row < n_rows; i++) {
        const decoder_segment *s = &f->batch->segments[i];
        const kv_plane *plane = pass == 1 ? s->pass1 : s->pass2;
        TRY(kv_plane_source(plane, plane->shape.n_layers == 1 ? 0 : layer, r, &f->sources[i]));
    }
    const int64_t n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    trol_status status = TROL_OK;
    for (int64_t i = 0; i < n_tiles && status == TROL_OK; i++) {
        size_t tile_mark = workspace_mark(r->space);
        int64_t first = i * n_rows / n_tiles, last = (i + 1) * n_rows / n_tiles;
        status = layer_tile(f, layer, pass, x, first, last - first, selected);
        workspace_release(r->space, tile_mark);
    }
    workspace_release(r->space, mark);
    return status;
}

static trol_status observe(const forward *f, const char *stage, int64_t layer, const float *values, int64_t n_rows,
                           int64_t n_columns) {
    for (int64_t i = 0; i < f->batch->n_segments; i++) {
        const decoder_segment *s = &f->batch->segments[i];
        if (!s->observer || s->first_row >= n_rows)
            continue;
        if (s->observer(s->observer_user, stage, (int32_t)layer, f->batch->positions[s->first_row], s->n_rows,
                        n_columns, values + s->first_row * n_columns) != 0)
            return fail(f->r->error, TROL_ERROR_CANCELLED, "the observer asked to stop");
    }
    return TROL_OK;
}

static void keep_gates(const forward *f, int64_t layer, const float *s) {
    for (int64_t i = 0; i < f->batch->n_segments && f->batch->segments[i].pass2; i++) {
        const decoder_segment *segment = &f->batch->segments[i];
        if (segment->gates)
            memcpy(segment->gates + layer * segment->gates_stride, s + segment->first_row,
                   (size_t)segment->n_rows * sizeof *s);
    }
}

/* Which rows go through all of pass 2: those whose gate s is not below their session's traversal_skip and, in the last
 * layer, whose logits are wanted. NULL in *selected: all. */
static void select_for_pass2(const forward *f, int64_t layer, const float *s, bool *list, const bool **selected) {
    const bool last_layer = layer + 1 == f->d->config->n_layers;
    const decoder_batch *batch = f->batch;
    bool all = true;
    for (int64_t i = 0; i < batch->n_segments && batch->segments[i].pass2; i++) {
        const decoder_segment *segment = &batch->segments[i];
        for (int64_t row = segment->first_row; row < segment->first_row + segment->n_rows; row++) {
            bool skipped = s[row] < segment->traversal_skip;
            segment->n_skipped[layer] += skipped;
            list[row] = !skipped && (!last_layer || !f->stop_early || batch->wants_logits[row]);
            all = all && list[row];
        }
    }
    *selected = all ? NULL : list;
}

/* Which rows go through all of pass 1: in the last layer those that are traversed or whose logits are wanted. */
static void select_for_pass1(const forward *f, bool last_layer, bool *list, const bool **selected) {
    *selected = NULL;
    if (!last_layer || !f->stop_early || f->n_traversed == f->batch->n_rows)
        return;
    for (int64_t row = 0; row < f->batch->n_rows; row++) {
        list[row] = row < f->n_traversed || f->batch->wants_logits[row];
        if (!list[row])
            *selected = list;
    }
}

/* The traversal of one layer: x [n_rows, hidden_size] in place. y: [n_traversed, hidden_size], s: [n_traversed] and
 * list: [n_rows] are scratch. */
static trol_status traverse_layer(forward *f, int64_t layer, float *x, float *y, float *s, bool *list) {
    const decoder_layer_weights *w = &f->d->weights->layers[layer];
    const int64_t hidden = f->d->config->hidden_size, n = f->n_traversed;
    const bool last_layer = layer + 1 == f->d->config->n_layers, *selected;

    select_for_pass1(f, last_layer, list, &selected);
    TRY(layer_pass(f, layer, 1, x, f->batch->n_rows, selected)); /* x is y1 from here on */
    TRY(observe(f, "pass1", layer, x, f->batch->n_rows, hidden));
    if (n > 0) {
        TRY(ops_gate(f->r, x, n, hidden, w->mixer_weight, w->mixer_bias, s));
        keep_gates(f, layer, s);
        TRY(observe(f, "gate", layer, s, n, 1));
        memcpy(y, x, (size_t)(n * hidden) * sizeof *y);
        select_for_pass2(f, layer, s, list, &selected);
        TRY(layer_pass(f, layer, 2, y, n, selected)); /* y is y2, or y1 where the second pass was skipped */
        TRY(observe(f, "pass2", layer, y, n, hidden));
        TRY(ops_mix(f->r, x, y, s, x, n, hidden));
    }
    return observe(f, "layer", layer, x, f->batch->n_rows, hidden);
}

static trol_status forward_layers(forward *f) {
    const run *r = f->r;
    decoder_batch *batch = f->batch;
    const int64_t hidden = f->d->config->hidden_size;
    float *y, *s;
    bool *list;
    TRY(run_alloc(r, (size_t)(f->n_traversed * hidden), sizeof *y, (void **)&y));
    TRY(run_alloc(r, (size_t)f->n_traversed, sizeof *s, (void **)&s));
    TRY(run_alloc(r, (size_t)batch->n_rows, sizeof *list, (void **)&list));
    TRY(run_alloc(r, (size_t)batch->n_segments, sizeof *f->sources, (void **)&f->sources));
    TRY(observe(f, "embeddings", -1, batch->x, batch->n_rows, hidden));
    for (int64_t layer = 0; layer < f->d->config->n_layers; layer++)
        TRY(traverse_layer(f, layer, batch->x, y, s, list));
    return TROL_OK;
}

trol_status decoder_forward(const run *r, const decoder *d, decoder_batch *batch) {
    forward f = {.r = r, .d = d, .batch = batch, .stop_early = true};
    for (int64_t i = 0; i < batch->n_segments; i++) {
        const decoder_segment *s = &batch->segments[i];
        if (s->pass2)
            f.n_traversed = s->first_row + s->n_rows;
        if (s->observer)
            f.stop_early = false;
    }
    size_t mark = workspace_mark(r->space);
    trol_status status = forward_layers(&f);
    workspace_release(r->space, mark);
    return status;
}

trol_status decoder_logits(const run *r, const decoder *d, float *x, int64_t n_rows, float *logits) {
    const decoder_config *c = d->config;
    TRY(ops_rms_norm(r, x, c->hidden_size, x, c->hidden_size, n_rows, c->hidden_size, d->weights->norm,
                     c->rms_norm_eps));
    size_t mark = workspace_mark(r->space);
    activations a = activations_of(x, n_rows, c->hidden_size, c->hidden_size);
    a.n_prompt_rows = 0;
    const product p = {
        .linear = &d->weights->output, .epilogue = EPILOGUE_STORE, .out = logits, .out_stride = c->vocab_size};
    trol_status status = linear_apply(r, d->arithmetic, &a, &p, 1);
    workspace_release(r->space, mark);
    return status;
}
