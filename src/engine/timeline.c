#include "engine/timeline.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "model/rope.h"

/* The numbers that a copy and a file of a timeline have. */
typedef struct number {
    size_t offset, n_bytes;
} number;

#define NUMBER(field)                                                                                                  \
    { offsetof(timeline, field), sizeof(((timeline *)0)->field) }
static const number numbers[] = {NUMBER(n_tokens), NUMBER(n_prompt), NUMBER(n_pass2), NUMBER(rope_variant),
                                 NUMBER(rope_mixed)};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

void timeline_init(timeline *t, const trol_model *model, trol_traversal traversal, trol_cache_type cache_type,
                   bool keep_gates) {
    const kv_shape shape = model_kv_shape(model, cache_type);
    *t = (timeline){.model = model, .traversal = traversal, .keep_gates = keep_gates};
    kv_plane_init(&t->pass1, shape);
    kv_plane_init(&t->pass2, shape);
}

static void drop_images(timeline *t, size_t n_tokens) {
    while (t->n_images > 0 && t->images[t->n_images - 1].first >= n_tokens)
        trol_features_free(t->images[--t->n_images].features);
}

void timeline_free(timeline *t) {
    drop_images(t, 0);
    free(t->images);
    kv_plane_free(&t->pass1);
    kv_plane_free(&t->pass2);
    memory_free(t->ids);
    memory_free(t->places);
    memory_free(t->gates);
    *t = (timeline){0};
}

/* ---- identities ------------------------------------------------------------------------------ */

static double variant_of(const timeline *t, size_t length) {
    const decoder_config *c = &t->model->config.decoder;
    return rope_variant(&c->rope, c->head_dim, (int64_t)length);
}

/* A walk along a piece: the image and the row that its next image token takes. */
typedef struct walk {
    const timeline_piece *piece;
    size_t image, row;
} walk;

static walk walk_begin(const timeline_piece *piece) {
    walk w = {piece, 0, piece->n_image_tokens};
    while (w.image < piece->n_images && w.row >= (size_t)piece->images[w.image]->embeds->n_tokens)
        w.row -= (size_t)piece->images[w.image++]->embeds->n_tokens;
    return w;
}

/* The image of the next image token, and its row; NULL: none is left. */
static trol_features *walk_next(walk *w, size_t *row) {
    if (w->image >= w->piece->n_images)
        return NULL;
    trol_features *features = w->piece->images[w->image];
    *row = w->row++;
    if (w->row == (size_t)features->embeds->n_tokens) {
        w->row = 0;
        w->image++;
    }
    return features;
}

/* Whether the token held at `position` is row `row` of these features; NULL: was fed as its id. */
static bool is_fed_as(const timeline *t, size_t position, const trol_features *features, size_t row) {
    const token_place place = t->places[position];
    if (!features || place.image < 0)
        return !features && place.image < 0;
    const trol_features *held = t->images[place.image].features;
    return (size_t)place.row == row && memcmp(held->identity, features->identity, sizeof held->identity) == 0;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t timeline_common_prefix(const timeline *t, const timeline_piece *piece, size_t first, size_t total) {
    if (total == 0 || t->rope_mixed || variant_of(t, total) != t->rope_variant)
        return 0;
    size_t limit = smaller(t->n_tokens, total - 1);
    if (t->traversal == TROL_TRAVERSAL_PROMPT)
        limit = smaller(limit, t->n_prompt);
    if (t->traversal != TROL_TRAVERSAL_OFF)
        limit = smaller(limit, t->n_pass2);
    walk w = walk_begin(piece);
    size_t n = 0;
    for (; n < piece->n && first + n < limit && piece->ids[n] == t->ids[first + n]; n++) {
        size_t row = 0;
        const bool image = piece->ids[n] == t->model->image_token;
        const trol_features *features = image ? walk_next(&w, &row) : NULL;
        if (!is_fed_as(t, first + n, features, row))
            break;
    }
    return n;
}

/* ---- tokens in and out ----------------------------------------------------------------------- */

/* Room for the gates of more tokens; existing gates move to the new rows. */
static trol_status reserve_gates(timeline *t, size_t n_tokens, trol_error *error) {
    if (!t->keep_gates || n_tokens <= t->gates_capacity)
        return TROL_OK;
    const size_t n_layers = (size_t)t->model->config.decoder.n_layers, capacity = 2 * n_tokens;
    float *gates;
    TRY(memory_alloc(n_layers * capacity, sizeof *gates, "a session's gates", (void **)&gates, error));
    for (size_t layer = 0; layer < n_layers && t->gates; layer++)
        memcpy(gates + layer * capacity, t->gates + layer * t->gates_capacity, t->gates_capacity * sizeof *gates);
    memory_free(t->gates);
    t->gates = gates;
    t->gates_capacity = capacity;
    return TROL_OK;
}

/* Room for this many tokens in the lists. */
static trol_status reserve(timeline *t, size_t n_tokens, trol_error *error) {
    static const char what[] = "a session's tokens";
    TRY(memory_grow((void **)&t->ids, &t->ids_capacity, n_tokens, sizeof *t->ids, what, error));
    TRY(memory_grow((void **)&t->places, &t->places_capacity, n_tokens, sizeof *t->places, what, error));
    return reserve_gates(t, n_tokens, error);
}

static void clear_gates(timeline *t, size_t first, size_t n) {
    for (int64_t layer = 0; t->gates && layer < t->model->config.decoder.n_layers; layer++)
        for (size_t i = first; i < first + n; i++)
            t->gates[(size_t)layer * t->gates_capacity + i] = NAN;
}

/* The index of an image among the timeline's, to which it is added if new; `first` is its first token. */
static trol_status find_image(timeline *t, trol_features *features, size_t first, int32_t *index, trol_error *error) {
    for (size_t i = t->n_images; i-- > 0;)
        if (t->images[i].features == features) {
            *index = (int32_t)i;
            return TROL_OK;
        }
    TRY(memory_grow((void **)&t->images, &t->images_capacity, t->n_images + 1, sizeof *t->images,
                    "a session's pictures", error));
    *index = (int32_t)t->n_images;
    t->images[t->n_images++] = (timeline_image){features_retain(features), first};
    return TROL_OK;
}

trol_status timeline_append(timeline *t, const timeline_piece *piece, trol_error *error) {
    const size_t first = t->n_tokens;
    TRY(reserve(t, first + piece->n, error));
    walk w = walk_begin(piece);
    for (size_t i = 0; i < piece->n; i++) {
        token_place place = {-1, 0};
        size_t row = 0;
        trol_features *features = piece->ids[i] == t->model->image_token ? walk_next(&w, &row) : NULL;
        if (features) {
            TRY(find_image(t, features, first + i, &place.image, error));
            place.row = (int32_t)row;
        }
        t->ids[first + i] = piece->ids[i];
        t->places[first + i] = place;
    }
    clear_gates(t, first, piece->n);
    return TROL_OK;
}

/* ids, places and images, of the first n_tokens. */
static trol_status copy_tokens(const timeline *from, timeline *to, size_t n_tokens, trol_error *error) {
    TRY(reserve(to, n_tokens, error));
    if (n_tokens > 0) {
        memcpy(to->ids, from->ids, n_tokens * sizeof *to->ids);
        memcpy(to->places, from->places, n_tokens * sizeof *to->places);
    }
    for (size_t i = 0; i < from->n_images; i++) {
        int32_t index;
        TRY(find_image(to, from->images[i].features, from->images[i].first, &index, error));
    }
    return TROL_OK;
}

bool timeline_needs_restart(const timeline *t, size_t n) {
    return t->traversal == TROL_TRAVERSAL_ALL && variant_of(t, t->n_tokens + n) != t->rope_variant;
}

trol_status timeline_restart(const timeline *t, size_t n, timeline *fresh, trol_error *error) {
    *fresh = (timeline){.model = t->model, .traversal = t->traversal, .keep_gates = t->keep_gates};
    kv_plane_init(&fresh->pass1, t->pass1.shape);
    kv_plane_init(&fresh->pass2, t->pass2.shape);
    TRY(copy_tokens(t, fresh, t->n_tokens + n, error));
    clear_gates(fresh, 0, t->n_tokens + n);
    return TROL_OK;
}

void timeline_commit(timeline *t, size_t n, bool prompt, size_t length, bool traversed) {
    t->n_tokens += n;
    if (traversed)
        t->n_pass2 = t->n_tokens;
    if (prompt) {
        t->n_prompt = t->n_tokens;
        t->rope_variant = variant_of(t, length);
        t->rope_mixed = 0;
    } else if (variant_of(t, t->n_tokens) != t->rope_variant) {
        t->rope_mixed = 1;
    }
}

void timeline_truncate(timeline *t, size_t n_tokens) {
    t->n_tokens = smaller(t->n_tokens, n_tokens);
    t->n_prompt = smaller(t->n_prompt, t->n_tokens);
    t->n_pass2 = smaller(t->n_pass2, t->n_tokens);
    drop_images(t, t->n_tokens);
    kv_plane_truncate(&t->pass1, (int64_t)t->n_tokens);
    kv_plane_truncate(&t->pass2, (int64_t)t->n_pass2);
}

void timeline_drop_pass2(timeline *t) {
    t->n_pass2 = 0;
    kv_plane_truncate(&t->pass2, 0);
}

const float *timeline_image_row(const timeline *t, size_t token) {
    const token_place place = t->places[token];
    if (place.image < 0)
        return NULL;
    const trol_features *features = t->images[place.image].features;
    return features->embeds->data + (size_t)place.row * (size_t)t->model->config.decoder.hidden_size;
}

/* ---- copies and files ------------------------------------------------------------------------ */

trol_status timeline_copy(const timeline *from, timeline *to, trol_error *error) {
    TRY(copy_tokens(from, to, from->n_tokens, error));
    for (int64_t layer = 0; from->gates && to->gates && layer < from->model->config.decoder.n_layers; layer++)
        memcpy(to->gates + (size_t)layer * to->gates_capacity, from->gates + (size_t)layer * from->gates_capacity,
               from->n_tokens * sizeof *to->gates);
    TRY(kv_plane_share(&from->pass1, &to->pass1, error));
    TRY(kv_plane_share(&from->pass2, &to->pass2, error));
    for (size_t i = 0; i < N_NUMBERS; i++)
        memcpy((char *)to + numbers[i].offset, (const char *)from + numbers[i].offset, numbers[i].n_bytes);
    timeline_truncate(to, to->n_tokens); /* what `from` had appended only */
    return TROL_OK;
}

static trol_status cut_short(const exchange *e, const char *what) {
    return fail(e->error, TROL_ERROR_FORMAT, "%s: the file is cut short in its %s", e->path, what);
}

static trol_status exchange_numbers(timeline *t, exchange *e, size_t context) {
    for (size_t i = 0; i < N_NUMBERS; i++)
        TRY(e->bytes(e, (char *)t + numbers[i].offset, numbers[i].n_bytes));
    if (!e->reading)
        return TROL_OK;
    if (t->n_tokens > context || t->n_prompt > t->n_tokens || t->n_pass2 > t->n_tokens || t->rope_mixed > 1 ||
        !isfinite(t->rope_variant)) {
        t->n_tokens = t->n_prompt = t->n_pass2 = 0;
        return fail(e->error, TROL_ERROR_FORMAT, "%s: the counts of its tokens contradict each other", e->path);
    }
    if (t->n_tokens > e->left / (sizeof *t->ids + sizeof *t->places))
        return cut_short(e, "tokens");
    return reserve(t, t->n_tokens, e->error);
}

/* One image; when reading, it is appended. */
static trol_status exchange_image(timeline *t, exchange *e, trol_features *features) {
    const uint64_t row_bytes = (uint64_t)t->model->config.decoder.hidden_size * sizeof(float);
    int32_t n_tokens = features ? features->embeds->n_tokens : 0, n_tiles = features ? features->embeds->n_tiles : 0;
    unsigned char identity[IDENTITY_BYTES];
    float *data = features ? features->embeds->data : NULL;
    if (features)
        memcpy(identity, features->identity, sizeof identity);
    TRY(e->bytes(e, &n_tokens, sizeof n_tokens));
    TRY(e->bytes(e, &n_tiles, sizeof n_tiles));
    TRY(e->bytes(e, identity, sizeof identity));
    if (features)
        return e->bytes(e, data, (size_t)n_tokens * (size_t)row_bytes);
    if (n_tokens < 1 || n_tiles < 1 || (uint64_t)n_tokens > e->left / row_bytes)
        return fail(e->error, TROL_ERROR_FORMAT, "%s: picture %zu has %d rows, more than the file holds", e->path,
                    t->n_images + 1, n_tokens);
    TRY(memory_alloc((size_t)n_tokens, (size_t)row_bytes, "a picture's features", (void **)&data, e->error));
    trol_status status = e->bytes(e, data, (size_t)n_tokens * (size_t)row_bytes);
    if (status != TROL_OK) {
        memory_free(data);
        return status;
    }
    /* The model is retained by each of its features, as it is by the session. */
    TRY(features_new((trol_model *)t->model, data, n_tokens, n_tiles, identity, &features, e->error));
    t->images[t->n_images++] = (timeline_image){features, 0};
    return TROL_OK;
}

static trol_status exchange_images(timeline *t, exchange *e) {
    uint64_t n_images = t->n_images;
    TRY(e->bytes(e, &n_images, sizeof n_images));
    if (e->reading && n_images > t->n_tokens)
        return fail(e->error, TROL_ERROR_FORMAT, "%s: more pictures than tokens", e->path);
    if (e->reading)
        TRY(memory_grow((void **)&t->images, &t->images_capacity, (size_t)n_images, sizeof *t->images,
                        "a session's pictures", e->error));
    for (size_t i = 0; i < n_images; i++)
        TRY(exchange_image(t, e, e->reading ? NULL : t->images[i].features));
    return TROL_OK;
}

/* Tokens must be the model's, an image's tokens its rows, and images come in the order of their first tokens. */
static trol_status check_tokens(timeline *t, const exchange *e) {
    size_t n_seen = 0;
    for (size_t i = 0; i < t->n_tokens; i++) {
        const token_place place = t->places[i];
        TRY(model_check_token(t->model, t->ids[i], e->error));
        if (place.image == -1)
            continue;
        if (place.image < 0 || (size_t)place.image >= t->n_images || (size_t)place.image > n_seen ||
            t->ids[i] != t->model->image_token || place.row < 0 ||
            place.row >= t->images[place.image].features->embeds->n_tokens)
            return fail(e->error, TROL_ERROR_FORMAT, "%s: token %zu is not a row of a picture in it", e->path, i);
        if ((size_t)place.image == n_seen)
            t->images[n_seen++].first = i;
    }
    if (n_seen < t->n_images)
        return fail(e->error, TROL_ERROR_FORMAT, "%s: picture %zu has no tokens", e->path, n_seen + 1);
    return TROL_OK;
}

static trol_status exchange_plane(kv_plane *plane, exchange *e, size_t n_tokens) {
    const size_t n_blocks = (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS, block = kv_block_bytes(&plane->shape);
    if (e->reading) {
        if (n_blocks > e->left / block)
            return cut_short(e, "keys and values");
        TRY(kv_plane_reserve(plane, 0, (int64_t)n_tokens, e->error));
    }
    for (size_t i = 0; i < n_blocks; i++)
        TRY(e->bytes(e, kv_plane_block(plane, i), block));
    return TROL_OK;
}

static trol_status exchange_gates(timeline *t, exchange *e) {
    for (int64_t layer = 0; t->keep_gates && t->n_tokens > 0 && layer < t->model->config.decoder.n_layers; layer++)
        TRY(e->bytes(e, t->gates + (size_t)layer * t->gates_capacity, t->n_tokens * sizeof *t->gates));
    return TROL_OK;
}

trol_status timeline_exchange(timeline *t, exchange *e, size_t context) {
    TRY(exchange_numbers(t, e, context));
    TRY(e->bytes(e, t->ids, t->n_tokens * sizeof *t->ids));
    TRY(e->bytes(e, t->places, t->n_tokens * sizeof *t->places));
    TRY(exchange_images(t, e));
    if (e->reading)
        TRY(check_tokens(t, e));
    TRY(exchange_plane(&t->pass1, e, t->n_tokens));
    TRY(exchange_plane(&t->pass2, e, t->n_pass2));
    return exchange_gates(t, e);
}
